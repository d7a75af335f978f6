"""Which slots are in use, and which come next: allocation, and the least used slot."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def allocation(usage: Tensor) -> Tensor:
    """``[..., S]`` weighting of free slots, least used first (DNC): ``a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i]``.

    Sums to ``1 - prod u`` exactly.
    """
    ordered, order = usage.sort(dim=-1, stable=True)
    before = torch.cat((torch.ones_like(ordered[..., :1]), ordered[..., :-1].cumprod(-1)), -1)
    return torch.zeros_like(usage).scatter(-1, order, (1 - ordered) * before)


def least_used(usage: Tensor, heads: int) -> Tensor:
    """``[..., heads, S]``: one-hot, head h on the h-th least used slot."""
    slots = usage.detach().argsort(dim=-1, stable=True)[..., :heads]
    return F.one_hot(slots, usage.shape[-1]).to(usage.dtype)


def used_after_write(usage: Tensor, write_weights: Tensor) -> Tensor:
    """``u + w - u w`` with ``w = 1 - prod_h (1 - w_h)``: ``usage [..., S]``, ``write_weights [..., H, S]``."""
    for written in write_weights.unbind(-2):
        usage = usage.addcmul(1 - usage, written)
    return usage
