"""Rows of a store: brought to length 1, taken out by index, put in by index.

Shapes: any leading batch dimensions ``...``, ``S`` slots, ``N`` new rows, ``D`` or ``W`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def unit_rows(rows: Tensor, eps: float = 1e-12) -> Tensor:
    """Rows scaled to length 1; rows whose largest entry is at most ``eps`` become zero, with a zero gradient.

    The largest entry is divided out first, so that the squares of tiny and huge rows neither vanish nor overflow.
    """
    scale = rows.detach().abs().amax(-1, keepdim=True)
    safe = torch.where(scale > eps, scale, torch.ones_like(scale))
    scaled = torch.where(scale > eps, rows / safe, torch.zeros_like(rows))
    norm = torch.where(scale > eps, scaled, torch.ones_like(scaled)).square().sum(-1, keepdim=True).sqrt()
    return scaled / norm


def smallest(dtype: torch.dtype, eps: float) -> float:
    """``eps``, or the smallest number of full precision where the dtype has none so small: what may be divided by."""
    return max(eps, torch.finfo(dtype).tiny)


def near_unit(rows: Tensor, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Rows divided by their largest entry, and what their lengths are then, at least 1.

    So squares neither vanish nor overflow, a zero row has cosine 0 with everything, and gradients stay finite. Rows
    below ``eps`` fade to zero.
    """
    # A cosine does not depend on the scale, so no gradient is owed to it.
    rows = rows / rows.detach().abs().amax(-1, keepdim=True).clamp_min(smallest(rows.dtype, eps))
    return rows, torch.linalg.vector_norm(rows, dim=-1).clamp_min(1)


def rows_at(store: Tensor, index: Tensor) -> Tensor:
    """``store [..., S, D]`` at ``index [..., Q]`` -> ``[..., Q, D]``."""
    # As torch.take_along_dim, which does not see that an index is the same along a row, and takes several times as long.
    return store.gather(-2, index[..., None].expand(*index.shape, store.shape[-1]))


def gather_rows(store: Tensor, index: Tensor) -> Tensor:
    """``store [..., S, D]`` at ``index [..., Q, k]`` -> ``[..., Q, k, D]``."""
    return rows_at(store, index.flatten(-2)).unflatten(-2, index.shape[-2:])


def one_hot_rows(index: Tensor, used: Tensor, dtype: torch.dtype) -> Tensor:
    """``[..., Q, S]``: 1 at ``index [..., Q]``, else 0; all 0 where that slot is not ``used [..., S]``."""
    slots = torch.arange(used.shape[-1], device=index.device)
    return ((slots == index[..., None]) & used[..., None, :]).to(dtype)


def spread(index: Tensor, weights: Tensor, slots: int) -> Tensor:
    """``[..., Q, S]`` of ``weights [..., Q, k]`` at ``index [..., Q, k]``, summed where an index comes twice; else 0."""
    return weights.new_zeros(*weights.shape[:-1], slots).scatter_add(-1, index, weights)


def place(memory: Tensor, rows: Tensor, slots: Tensor) -> Tensor:
    """``memory [..., S, W]`` with ``rows [..., N, W]`` put into ``slots [..., N]``; of rows for one slot the last stays."""
    count, size = rows.shape[-2], memory.shape[-2]
    order = torch.arange(count, device=slots.device).expand(slots.shape)
    last = torch.full((*slots.shape[:-1], size), -1, device=slots.device).scatter_reduce(-1, slots, order, "amax")
    index = last.clamp_min(0).unsqueeze(-1).expand(*last.shape, rows.shape[-1])
    return torch.where(last.unsqueeze(-1) >= 0, rows.gather(-2, index), memory)


def picked(old: Tensor, new: Tensor, held: Tensor) -> Tensor:
    """Rows ``held [..., M]`` of ``old [..., M, D]`` followed by ``new [..., N, D]``."""
    return rows_at(torch.cat((old, new), -2), held)
