"""Temporal links (DNC, Methods): in which order slots were written, and reading along that order.

``S`` slots, ``H`` write heads (each with links of its own), ``R`` read heads. ``links[i, j]`` is how far slot i was written
right after slot j.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def linked(links: Tensor, precedence: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Links and precedence after a write.

    ``L_ij <- (1 - w_i - w_j) L_ij + w_i p_j, L_ii = 0`` with the old p, then ``p <- (1 - sum w) p + w``.

    Args:
        links: ``[..., H, S, S]``.
        precedence: ``[..., H, S]`` p, how far each slot was the last one written.
        weights: ``[..., H, S]`` write weights w.
    """
    into, out = weights.unsqueeze(-1), weights.unsqueeze(-2)
    fresh = (((1 - into) - out) * links).addcmul(into, precedence.unsqueeze(-2))
    fresh.diagonal(dim1=-2, dim2=-1).zero_()  # of a tensor made here, which no gradient formula looks at
    return fresh, (1 - weights.sum(-1, keepdim=True)) * precedence + weights


def read_modes(links: Tensor, read_weights: Tensor, content: Tensor, modes: Tensor) -> Tensor:
    """``[..., R, S]``: ``sum_h b_h L_h^T r + c content + sum_h f_h L_h r``, the read weights of a step.

    Args:
        links: ``[..., H, S, S]`` after the write of this step.
        read_weights: ``[..., R, S]`` r of the step before.
        content: ``[..., R, S]`` weights by content.
        modes: ``[..., R, 2H + 1]``: backward along each head's links b, content c, forward along each head's links f; sum 1.
    """
    before = read_weights.unsqueeze(-3)  # [..., 1, R, S] beside links [..., H, S, S]
    ways = ((before @ links).unbind(-3), (content,), (before @ links.mT).unbind(-3))
    return _sum_of_products(modes.unsqueeze(-1).unbind(-2), (way for kind in ways for way in kind))


def _sum_of_products(ones: Iterable[Tensor], others: Iterable[Tensor]) -> Tensor:
    """``sum_i a_i b_i``."""
    pairs = iter(zip(ones, others, strict=True))
    first, other = next(pairs)
    total = first * other
    for one, other in pairs:
        total = total.addcmul(one, other)
    return total
