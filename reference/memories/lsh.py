"""Nearest neighbours through locality-sensitive hashing: only keys that share a bucket with the query are looked at."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, Positive, Whole, checked
from memspec.reference.memories.neighbours import Metric, NeighbourStore, Read, Softening
from memspec.reference.ops.search import distances

GATHERED = 2**24
"""Numbers of candidate keys held at once: 64 MB in float32."""


class LSHState(NamedTuple):
    """``keys [..., n, Dk]``, ``values [..., n, Dv]`` oldest first, ``planes [..., L, b, Dk]`` and the sorted tables.

    ``codes [..., L, n]`` are the buckets of the pairs ``order [..., L, n]``, ascending (both int64).
    """

    keys: Tensor
    values: Tensor
    planes: Tensor
    codes: Tensor
    order: Tensor


class LSHMemory(NeighbourStore):
    """Keeps every pair in L hash tables; answers with the nearest of the keys that share a bucket with the query.

    A table's bucket is the signs of the key's products with b random directions (SimHash). A key at angle theta shares
    some bucket with the query with probability ``1 - (1 - (1 - theta/pi)^b)^L``; a stored key always finds itself. A
    query whose buckets are empty is answered with zeros and confidence 0. ``bits=0`` is exact search.

    Args:
        tables: L.
        bits: b; a table has ``2^b`` buckets.
        neighbours: k. With 1, the newest pair under a key answers, exactly; with more, pairs blend.
        read: how the k values are weighted: ``mean``; ``softmax``, by ``exp(-beta d^2)``; or ``inverse``, by
            ``1 / (eps + d^2)``.
        metric: how the keys of a bucket are compared: ``l2``, or ``cosine``.
        beta, eps: see ``read``.

    Raises:
        ValueError: for an option outside its range.

    Source: Charikar 2002, "Similarity estimation techniques from rounding algorithms", section 3; as a memory of a
    network, Kaiser et al. 2017, "Learning to remember rare events", and Rae et al. 2016.
    """

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        tables: Count = 8,
        bits: Annotated[int, Whole(0, 62)] = 8,
        neighbours: Count = 1,
        read: Read = "mean",
        metric: Metric = "l2",
        beta: Positive = 10.0,
        eps: Softening = 1e-3,
    ) -> None:
        super().__init__(key_dim, value_dim, neighbours, read, metric, beta, eps)
        self.tables, self.bits = tables, bits

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> LSHState:
        planes = torch.randn(*batch_shape, self.tables, self.bits, self.key_dim)
        empty = self.counts(*batch_shape, self.tables, 0)
        return LSHState(*self.empty_rows(batch_shape, 0), planes.to(**self.like), empty, empty)

    def write(self, state: LSHState, keys: Tensor, values: Tensor) -> LSHState:
        keys = self._scaled(keys)
        n, new = state.keys.shape[-2], self._buckets(state.planes, keys)
        codes, place = torch.cat((state.codes, new), -1).sort(dim=-1, stable=True)
        numbers = torch.arange(n, n + keys.shape[-2], device=keys.device).expand(new.shape)
        order = torch.cat((state.order, numbers), -1).gather(-1, place)
        return LSHState(
            torch.cat((state.keys, keys), -2), torch.cat((state.values, values), -2), state.planes, codes, order
        )

    def _buckets(self, planes: Tensor, rows: Tensor) -> Tensor:
        """``[..., L, N]`` int64 codes of rows ``[..., N, Dk]``.

        In float64, where a sum of float32 products is so exact that a key has the same signs in every company.
        """
        rows, planes = rows.detach().double(), planes.double()
        signs = (planes.flatten(-3, -2) @ rows.mT >= 0).unflatten(-2, (self.tables, self.bits))
        powers = 2 ** torch.arange(self.bits, device=rows.device)
        return (signs * powers[:, None]).sum(-2)

    def find(self, state: LSHState, queries: Tensor) -> tuple[Tensor, Tensor]:
        n, shape = state.keys.shape[-2], queries.shape[:-1]
        k = min(self.neighbours, n)
        if k == 0 or queries.numel() == 0:
            return queries.new_zeros(*shape, k).long(), queries.new_zeros(*shape, k)
        codes = self._buckets(state.planes, queries)
        first, end = (torch.searchsorted(state.codes, codes, right=right) for right in (False, True))
        longest = int((end - first).max())
        if longest == 0:
            return queries.new_zeros(*shape, k).long(), queries.new_full((*shape, k), torch.inf)
        per_query = self.tables * longest * self.key_dim * max(queries[..., 0, 0].numel(), 1)
        rows = max(1, GATHERED // per_query)
        parts = zip(queries.split(rows, -2), first.split(rows, -1), end.split(rows, -1))
        found = [self._ranked(state, q, f, e, k) for q, f, e in parts]
        return torch.cat([i for i, _ in found], -2), torch.cat([d for _, d in found], -2)

    def _ranked(self, state: LSHState, queries: Tensor, first: Tensor, end: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The nearest k of the pairs in the ranges ``first [..., L, Q]`` to ``end`` of the tables."""
        longest = max(int((end - first).max()), 1)
        place = first[..., None] + torch.arange(longest, device=first.device)
        there = place < end[..., None]
        order = state.order[..., None, :].expand(*first.shape, -1)
        index = order.gather(-1, place.clamp(max=state.order.shape[-1] - 1))
        # Newest first and each once; a stable sort by distance then leaves the newest first among equals.
        index = torch.where(there, index, -1).transpose(-3, -2).flatten(-2).sort(-1, descending=True).values
        again = index[..., 1:] == index[..., :-1]
        index = torch.cat((index[..., :1], torch.where(again, -1, index[..., 1:])), -1).sort(-1, descending=True).values
        index = index[..., : int((index >= 0).sum(-1).max())]
        dtype = torch.promote_types(queries.dtype, torch.float32)
        apart = distances(queries.detach().to(dtype), state.keys.detach().to(dtype), index.clamp(min=0))
        apart, best = torch.where(index < 0, torch.inf, apart).sort(dim=-1, stable=True)
        index = index.clamp(min=0).gather(-1, best)
        short = max(k - index.shape[-1], 0)
        pad = torch.nn.functional.pad
        index, apart = pad(index, (0, short)), pad(apart, (0, short), value=torch.inf)
        return index[..., :k], apart[..., :k]
