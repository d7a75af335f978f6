"""Binding: keys and values laid over each other in one trace (holographic reduced representations, MAP).

A code is D complex numbers of modulus 1, held as real and imaginary part: ``codes [..., 2, N, D]``, ``trace [..., 2, D]``.
Binding is the elementwise product, unbinding that with the conjugate, and both are exact for one pair.
"""

from __future__ import annotations

import torch
from torch import Tensor


def phase_codes(phases: Tensor) -> Tensor:
    """``exp(i phases)`` for ``phases [..., N, D]``: ``[..., 2, N, D]``."""
    return torch.stack((phases.cos(), phases.sin()), -3)


def sign_codes(projected: Tensor) -> Tensor:
    """+-1 by the sign of ``projected [..., N, D]`` (0 counts as positive): ``[..., 2, N, D]``. No gradient flows."""
    real = signs(projected)
    return torch.stack((real, torch.zeros_like(real)), -3)


def bind(trace: Tensor, codes: Tensor, values: Tensor, step: Tensor | None = None) -> Tensor:
    """The trace with all pairs added: ``T + sum_n step_n codes_n * values_n``.

    Args:
        values: real ``[..., N, D]``, already as wide as the trace.
        step: ``[..., N]``, the strength of each pair; None is 1.

    Source: Plate 1995, "Holographic Reduced Representations", sections II and IX (frequency domain).
    """
    values = values if step is None else values * step[..., None]
    return trace + (codes * values[..., None, :, :]).sum(-2)


def unbind(trace: Tensor, codes: Tensor) -> Tensor:
    """``Re(conj(codes) T)``: what is bound to each code, with the crosstalk of the rest, ``[..., N, D]``."""
    return (codes * trace[..., :, None, :]).sum(-3)


def signs(rows: Tensor) -> Tensor:
    """+1 where an entry is at least 0, else -1."""
    return torch.where(rows >= 0, 1.0, -1.0).to(rows.dtype)
