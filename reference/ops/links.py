"""Temporal links: in which order slots were written."""

from __future__ import annotations

from torch import Tensor


def linked(links: Tensor, precedence: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Links ``[..., H, S, S]`` and precedence ``[..., H, S]`` after a write with ``weights [..., H, S]``."""
    into, out = weights.unsqueeze(-1), weights.unsqueeze(-2)
    fresh = (((1 - into) - out) * links).addcmul(into, precedence.unsqueeze(-2))
    fresh.diagonal(dim1=-2, dim2=-1).zero_()  # of a tensor made here, which no gradient formula looks at
    return fresh, (1 - weights.sum(-1, keepdim=True)) * precedence + weights
