"""How slots are addressed: unit rows, softmax weights over the slots in use, the nearest slot.

Everything works for any leading batch dimensions, differentiably where it can be, and stays finite for zero, tiny,
huge and duplicate rows. ``Q`` queries, ``S`` slots, ``D`` width.
"""

from __future__ import annotations

import math

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


def softmax_weights(queries: Tensor, keys: Tensor, scale: float, used: Tensor | None = None) -> Tensor:
    """``softmax(scale * q k^T)`` over the slots in use: ``[..., Q, S]``, rows sum to 1, or to 0 where none is used.

    Args:
        queries: ``[..., Q, D]``.
        keys: ``[..., S, D]``.
        scale: inverse temperature.
        used: ``[..., S]`` bool; the others get a weight of exactly 0. None: all are in use.
    """
    # Products of huge rows may overflow; the largest finite number saturates softmax just as well, without NaN.
    scores = torch.nan_to_num(scale * queries @ keys.mT)
    if used is None:
        return scores.softmax(-1)
    used = used[..., None, :]
    scores = torch.where(used, scores, -torch.inf)
    scores = torch.where(used.any(-1, keepdim=True), scores, 0.0)  # softmax over nothing but -inf is NaN
    return scores.softmax(-1) * used


def nearest_slot(queries: Tensor, keys: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Index ``[..., Q]`` of the used slot with the highest cosine (the lowest index among equals), and that cosine.

    Where no slot is used the index is 0 and the cosine 0. No gradient flows. Found by the distance of unit rows,
    pair by pair: a matrix product may round equal rows differently, and then duplicates would be told apart by chance.

    Args:
        queries: ``[..., Q, D]``.
        keys: ``[..., S, D]``.
        used: ``[..., S]`` bool.
    """
    distances = torch.where(used[..., None, :], unit_distances(queries, keys), torch.inf)
    least, index = distances.min(-1)
    return index, torch.where(used.any(-1, keepdim=True), 1 - least.square() / 2, 0.0)


def unit_distances(queries: Tensor, keys: Tensor) -> Tensor:
    """``[..., Q, S]`` distances of the unit rows, sqrt(2 - 2 cos), pair by pair; a zero row has cosine 0 with everything.

    No gradient flows; in at least float32. Cosines themselves cannot tell directions apart that are closer than the
    square root of the precision.
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)  # cdist has no half or bfloat16
    queries, keys = unit_rows(queries.detach().to(dtype)), unit_rows(keys.detach().to(dtype))
    distances = torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")
    long = [torch.linalg.vector_norm(rows, dim=-1) > 0.5 for rows in (queries, keys)]
    pointed = long[0][..., :, None] & long[1][..., None, :]
    return torch.where(pointed, distances, 2**0.5)


def distance_at(cosine: float, dtype: torch.dtype) -> float:
    """Largest of :func:`unit_distances` between rows whose cosine is at least ``cosine``, up to rounding."""
    return math.sqrt(2 * (1 - cosine)) + 4 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps


def any_within(queries: Tensor, keys: Tensor, cosine: float, pairs: Tensor) -> bool:
    """False only if no query has a cosine of ``cosine`` or more with a key: a quick look, by one matrix product.

    Args:
        queries: ``[..., Q, D]``.
        keys: ``[..., S, D]``.
        pairs: ``[..., Q, S]`` bool, which count.
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)
    similar = unit_rows(queries.detach().to(dtype)) @ unit_rows(keys.detach().to(dtype)).mT
    return bool((pairs & (similar >= cosine - 1e-3)).any())
