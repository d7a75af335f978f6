"""Which slots are in use, and where the next write goes: usage that grows, fades and is freed; allocation.

``S`` slots, ``H`` write heads, ``R`` read heads. Gates lie in [0, 1], one a head. Ties go to the lowest slot.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def used_after_write(usage: Tensor, write_weights: Tensor) -> Tensor:
    """``u + w - u w`` with ``w = 1 - prod_h (1 - w_h)`` (DNC, Methods): what writing has used.

    Args:
        usage: ``[..., S]`` in [0, 1].
        write_weights: ``[..., H, S]``.
    """
    for written in write_weights.unbind(-2):
        usage = usage.addcmul(1 - usage, written)
    return usage


def retention(free: Tensor, read_weights: Tensor) -> Tensor:
    """``[..., S]``: ``psi = prod_r (1 - f_r r_r)`` (DNC, Methods), the share of each slot that the free gates leave.

    A vector over slots, not a decay: where no head reads nothing is freed.

    Args:
        free: ``[..., R]`` free gates.
        read_weights: ``[..., R, S]`` of the step before.
    """
    return (1 - free.unsqueeze(-1) * read_weights).prod(-2)


def allocation(usage: Tensor) -> Tensor:
    """``[..., S]`` weighting of free slots, least used first (DNC): ``a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i]``.

    Sums to ``1 - prod u`` exactly.
    """
    ordered, order = usage.sort(dim=-1, stable=True)
    before = torch.cat((torch.ones_like(ordered[..., :1]), ordered[..., :-1].cumprod(-1)), -1)
    return torch.zeros_like(usage).scatter(-1, order, (1 - ordered) * before)


def allocated_weights(usage: Tensor, content: Tensor, write: Tensor, allocate: Tensor) -> Tensor:
    """``[..., H, S]``: ``w_h = write_h (allocate_h a(u) + (1 - allocate_h) c_h)`` (DNC, Methods), head after head.

    A head allocates from what those before it have left: they count as having used what they allocated.

    Args:
        usage: ``[..., S]``.
        content: ``[..., H, S]`` weights by content.
        write, allocate: ``[..., H]`` gates.
    """
    weights = []
    heads = content.shape[-2]
    for head in range(heads):
        free, opened, share = allocation(usage), write[..., head, None], allocate[..., head, None]
        weights.append(opened * content[..., head, :].lerp(free, share))
        if head + 1 < heads:
            usage = usage + (1 - usage) * opened * share * free
    return torch.stack(weights, -2)


def least_used(usage: Tensor, heads: int) -> Tensor:
    """``[..., heads, S]``: one-hot, head h on the h-th least used slot. No gradient flows to the usage."""
    slots = usage.detach().argsort(dim=-1, stable=True)[..., :heads]
    return F.one_hot(slots, usage.shape[-1]).to(usage.dtype)


def faded_usage(usage: Tensor, decay: Tensor | float, accesses: Tensor) -> Tensor:
    """``gamma u + sum of accesses`` (Santoro et al. 2016, eq. 5): usage ``[..., S]`` after a step.

    Args:
        decay: gamma, or one ``[..., 1]`` for each memory.
        accesses: ``[..., H, S]``, read and write weights of the step.
    """
    return decay * usage + accesses.sum(-2)


def reuse_weights(read_weights: Tensor, free: Tensor, reuse: Tensor) -> Tensor:
    """``[..., H, S]``: ``g r + (1 - g) l`` (Santoro et al. 2016, eq. 6; Rae et al. 2016, eq. 5): where it read, or a free slot.

    Args:
        read_weights: ``[..., H, S]`` r of the step before.
        free: ``[..., H, S]`` l, one-hot on the slot that each head may take.
        reuse: ``[..., H]`` gates g.
    """
    reuse = reuse.unsqueeze(-1)
    return reuse * read_weights + (1 - reuse) * free
