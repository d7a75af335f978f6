"""Finding rows in a store: the nearest ones, exactly and in bounded memory, and those that are equal.

Everything works for any leading batch dimensions; nothing here carries a gradient. ``Q`` queries, ``S`` stored rows,
``D`` width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from memspec.reference.ops import draws
from memspec.reference.ops.rows import gather_rows, rows_at, unit_rows

SCORES = 2**22
"""Scores held at once in a search: 16 MB in float32."""

QUERIES = 512
"""Queries searched for at once."""

MARGIN = 4
"""Candidates beyond those asked for; rounding, and keys stored several times, change the order of near ties."""

Candidates = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""``(queries [..., Q, D], count) -> (scores [..., Q, count], indices)``: the rows of highest ``-|q - k|^2 + c_q``, best
first, to the rounding of float32 or better."""


def nearest(
    queries: Tensor,
    keys: Tensor,
    k: int,
    used: Tensor | None = None,
    candidates: Candidates | None = None,
    squares: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices and Euclidean distances ``[..., Q, min(k, S)]`` of the nearest rows; equal distances: the highest index.

    Candidates come from a matrix product, block by block, and are ranked by the distances themselves, computed from
    differences, which are exactly 0 for an equal row and exact to rounding for near ones. Where rounding could have
    kept a near row from the candidates (more near ties than the margin has room for), every distance is computed so.

    Args:
        queries: ``[..., Q, D]``.
        keys: ``[..., S, D]``.
        k: rows wanted.
        used: ``[..., S]`` bool; the others are at distance inf. None: all are used.
        candidates: another search that proposes rows, such as an index.
        squares: ``[..., S]`` float64 squared lengths of the keys, if they are kept; then one pass over the store is enough.
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)
    queries, keys = queries.detach().to(dtype), keys.detach().to(dtype)
    k = min(k, keys.shape[-2])
    if k == 0 or queries.numel() == 0:
        empty = queries.new_zeros(*queries.shape[:-1], k)
        return empty.long(), empty
    if candidates is None:
        if squares is None:
            size = keys.abs().amax((-2, -1), keepdim=True)
        else:
            size = squares.amax(-1, keepdim=True).sqrt().to(dtype)[..., None]
        if bool(((size < 1e-12) & (size > 0) | (size > 1e12)).any()):  # squares would vanish or overflow
            size = torch.where((size < 1e-12) & (size > 0) | (size > 1e12), size, torch.ones_like(size))
            index, distance = nearest(queries / size, keys / size, k, used)
            return index, distance * size
    squares = keys.square().sum(-1) if squares is None else squares.to(dtype)
    found = [_nearest(q, keys, squares, k, used, candidates) for q in queries.split(QUERIES, -2)]
    return torch.cat([i for i, _ in found], -2), torch.cat([d for _, d in found], -2)


def _nearest(
    queries: Tensor, keys: Tensor, squares: Tensor, k: int, used: Tensor | None, candidates: Candidates | None
) -> tuple[Tensor, Tensor]:
    count = min(k + MARGIN, keys.shape[-2])
    if candidates is None:
        scores, index = _by_product(queries, keys, squares, count, used)
    else:
        scores, index = candidates(queries, count)
    if count < keys.shape[-2] and not bool(_certain(scores, queries, squares, k).all()):
        index = _by_difference(queries, keys, count, used)
    # Highest index first, so that a stable sort by distance leaves it first among equals.
    index = index.sort(-1, descending=True).values
    distance = distances(queries, keys, index).to(keys.dtype)
    if used is not None:
        distance = torch.where(_pick(used, index), distance, torch.inf)
    distance, order = distance.sort(dim=-1, stable=True)
    return index.gather(-1, order)[..., :k], distance[..., :k]


def distances(queries: Tensor, keys: Tensor, index: Tensor) -> Tensor:
    """``[..., Q, n]`` Euclidean distances of ``queries`` to rows ``index [..., Q, n]`` of ``keys``, from differences.

    In float64, so that the squares of tiny and huge differences of float32 rows neither vanish nor overflow; where
    those of float64 rows vanish, rows that differ are still apart.
    """
    differences = gather_rows(keys, index) - queries.double()[..., None, :]
    apart = torch.linalg.vector_norm(differences, dim=-1)
    if keys.dtype == torch.float64:
        apart = torch.maximum(apart, differences.abs().amax(-1))
    return apart


def _by_product(
    queries: Tensor, keys: Tensor, squares: Tensor, count: int, used: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Candidates by ``2 q.k - |k|^2``, a block of the store at a time."""
    best = None
    rows = queries[..., 0].numel()
    width = max(SCORES // rows, 2 * count)
    for start in range(0, keys.shape[-2], width):
        block = slice(start, start + width)
        parts = -squares[..., None, block], queries, keys[..., block, :].mT
        scores = torch.baddbmm(*map(one_batch, parts), alpha=2).view(*queries.shape[:-1], -1)
        if used is not None:
            scores = torch.where(used[..., None, block], scores, -torch.inf)
        top, index = scores.topk(min(count, scores.shape[-1]))
        index = index + start
        if best is not None:
            top, index = torch.cat((best[0], top), -1), torch.cat((best[1], index), -1)
            top, order = top.topk(count)
            index = index.gather(-1, order)
        best = top, index
    assert best is not None
    return best


def _certain(scores: Tensor, queries: Tensor, squares: Tensor, k: int) -> Tensor:
    """``[..., Q]``: whether no row outside the candidates can be among the k nearest, whatever the rounding.

    A product of D terms is off by less than ``D eps`` times the lengths (Higham 2002, section 3.1).
    """
    full = torch.get_float32_matmul_precision() == "highest" or scores.dtype == torch.float64
    eps = torch.finfo(scores.dtype).eps if full else 2.0**-7  # else products may be taken in bfloat16
    longest = queries.square().sum(-1).sqrt() + squares.amax(-1, keepdim=True).sqrt()
    off = (queries.shape[-1] + 4) * eps * longest.square()
    # Where the last candidate is an unused row, every used one is a candidate.
    return (scores[..., k - 1] - off > scores[..., -1] + off) | (scores[..., -1] == -torch.inf)


def _by_difference(queries: Tensor, keys: Tensor, count: int, used: Tensor | None) -> Tensor:
    """The ``count`` nearest rows, every distance computed from differences; among equals the highest index."""
    width = max(SCORES // queries[..., 0].numel(), 2 * count)
    nearest = index = None
    for start in range(0, keys.shape[-2], width):
        block = keys[..., start : start + width, :]
        apart = torch.cdist(queries, block, compute_mode="donot_use_mm_for_euclid_dist")
        if used is not None:
            apart = torch.where(used[..., None, start : start + width], apart, torch.inf)
        number = torch.arange(start, start + block.shape[-2], device=keys.device).expand(apart.shape)
        apart, number = apart.flip(-1), number.flip(-1)
        if nearest is not None and index is not None:
            apart, number = torch.cat((apart, nearest), -1), torch.cat((number, index), -1)
        nearest, order = apart.sort(dim=-1, stable=True)
        nearest, index = nearest[..., :count], number.gather(-1, order)[..., :count]
    assert index is not None
    return index


def _pick(marks: Tensor, index: Tensor) -> Tensor:
    """``marks [..., S]`` at ``index [..., Q, k]``."""
    return marks[..., None, :].expand(*index.shape[:-1], marks.shape[-1]).gather(-1, index)


def equal_rows(stored: Tensor, rows: Tensor) -> Tensor:
    """``[..., N, S + N]`` bool: which stored rows, and which earlier ones of ``rows [..., N, D]``, each row equals.

    Equal as numbers (0 and -0 are). Whole numbers made from the bits of a row are compared first, the rows
    themselves only where those are equal.
    """
    every = torch.cat((stored, rows), -2).detach()
    s = stored.shape[-2]
    prints = _fingerprints(every)
    equal = (prints[..., s:, None] == prints[..., None, :]).tril(s - 1)
    candidates, flat = one_batch(equal), one_batch(every)
    batch, row, column = candidates.nonzero(as_tuple=True)
    sure = torch.zeros_like(candidates)
    sure[batch, row, column] = (flat[batch, s + row] == flat[batch, column]).all(-1)
    return sure.view(equal.shape)


def one_batch(rows: Tensor) -> Tensor:
    """``[..., N, D]`` with one leading dimension, ``[B, N, D]``."""
    return rows.flatten(0, -3) if rows.ndim > 2 else rows[None]


def _fingerprints(rows: Tensor) -> Tensor:
    """``[..., N]`` int64, the same for equal rows; seldom the same for others."""
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[rows.element_size()]
    bits = (rows + 0.0).view(kind).long()  # -0 becomes 0
    width = torch.arange(rows.shape[-1], device=rows.device)
    return (bits * (draws.splitmix(torch.zeros((), dtype=torch.int64, device=rows.device), width) | 1)).sum(-1)


def nearest_slot(queries: Tensor, keys: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Index ``[..., Q]`` of the used slot with the highest cosine (the lowest index among equals), and that cosine.

    Where no slot is used the index is 0 and the cosine 0. No gradient flows. Found by the distance of unit rows,
    pair by pair: a matrix product may round equal rows differently, and then duplicates would be told apart by chance.

    Args:
        queries: ``[..., Q, D]``.
        keys: ``[..., S, D]``.
        used: ``[..., S]`` bool.
    """
    if keys.shape[-2] == 0:
        nowhere = queries.new_zeros(queries.shape[:-1])
        return nowhere.long(), nowhere
    distances = torch.where(used[..., None, :], unit_distances(queries, keys), torch.inf)
    least, index = distances.min(-1)
    return index, torch.where(used.any(-1, keepdim=True), 1 - least.square() / 2, 0.0)


def nearest_cosine(queries: Tensor, keys: Tensor, used: Tensor) -> Tensor:
    """``[..., Q]``: the highest cosine with a used slot, to rounding; 0 where none is used. No gradient flows.

    As that of :func:`nearest_slot`, in a third of the time: a matrix product proposes the slot, and only its distance is
    computed, so that a key that is stored has a cosine of 1 exactly. Slots that a product cannot tell apart have
    cosines that differ by rounding alone.

    Args:
        queries: ``[..., Q, D]``.
        keys: ``[..., S, D]``.
        used: ``[..., S]`` bool.
    """
    if keys.shape[-2] == 0:
        return queries.new_zeros(queries.shape[:-1])
    dtype = torch.promote_types(queries.dtype, torch.float32)

    def unit(rows: Tensor) -> Tensor:
        """What :func:`unit_rows` gives, without a thought for gradients."""
        rows = rows.detach().to(dtype)
        size = rows.abs().amax(-1, keepdim=True)
        rows = rows / torch.where(size > 1e-12, size, torch.inf)
        return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(1)

    queries, keys = unit(queries), unit(keys)
    products = (queries @ keys.mT).masked_fill_(~used[..., None, :], -torch.inf)
    product, index = products.max(-1)
    cosine = 1 - (queries - rows_at(keys, index)).square().sum(-1) / 2
    return torch.where((product == 0) | (product == -torch.inf), 0.0, cosine)  # a zero row's product is 0 exactly


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
