"""Levels of memory: a small exact store of what is recent, over ever larger ones that keep prototypes of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, Positive, PositiveCosine, checked, refused
from memspec.reference.memories.slots import NearestMemory
from memspec.reference.memories.specs import SOUND
from memspec.reference.ops.rows import rows_at, unit_rows
from memspec.reference.ops.search import any_within, distance_at, unit_distances
from memspec.reference.ops.softmax import masked_softmax

BLOCK = 512
"""Rows of one update that are placed together: bounds the memory a large update needs."""

ALONE = 0.9
"""Cosine that random keys hardly reach; see ``dynamic.SELDOM``."""


class HierarchicalState(NamedTuple):
    """``keys [..., S, Dk]``, ``values [..., S, Dv]``, ``counts [..., S]``, ``last [..., S]``, ``clock``, ``dropped [...]``.

    The levels lie side by side in S, the first one first. ``counts`` are the rows an entry stands for, ``last`` when it
    was last written, merged or touched (-1 = free), ``dropped`` the rows that were in entries that had to go (int64).
    """

    keys: Tensor
    values: Tensor
    counts: Tensor
    last: Tensor
    clock: Tensor
    dropped: Tensor


class HierarchicalMemory(NearestMemory):
    """A hierarchy of stores: rows enter the first level, move down as they age, and merge into prototypes there.

    Each row enters level 0, which keeps rows as they are. A level that is full passes its least recently used entry
    to the next. Level 1 and deeper ones merge an arriving entry into the nearest prototype, if the cosine is at least
    ``match`` (keys and values become means weighted by the counts, which add up), and else take it as a new one. The
    last level, when full, drops the prototype of the lowest count, the least recently used among equals. One level
    is attention over the newest pairs.

    Distinct rows are all kept, up to ``capacity``; n of them fill the levels from the first on. All counts together
    are the rows written less those dropped.

    :meth:`promote` is what a read that hits may cause: a prototype that stands for at least ``promote_count`` rows is
    copied to level 0. The copy stands for no row of its own, so that on its way back it does not move its prototype.

    Args:
        capacity: entries of all levels together.
        levels: how many, at most one for each entry.
        growth: size of a level against the one before (the last has what is left).
        sizes: sizes of the levels, in place of the three above.
        match: cosine from which entries merge, above 0.
        promote_count: rows a prototype must stand for to be promoted.
        read: ``softmax`` answers with the mean of all values, weighted by ``softmax(beta cos + bias of the level)``;
            ``cascade`` with the value of the nearest key of the first level that has one within ``match``, and where
            none has, of the nearest of all.
        beta: inverse temperature of ``softmax``.
        level_bias: added to the scores of each level; one number a level. Default: none.

    Raises:
        ValueError: for an option outside its range.

    Source: the name and the idea of levels are those of HierarchicalMemory in
    mwasifanwar/neural_memory_architectures; the rules are this project's.
    """

    spec = SOUND

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        levels: Count = 3,
        growth: Count = 4,
        sizes: Sequence[int] | None = None,
        match: PositiveCosine = 0.95,
        promote_count: Count = 2,
        read: Literal["softmax", "cascade"] = "softmax",
        beta: Positive = 16.0,
        level_bias: Sequence[float] | None = None,
    ) -> None:
        if sizes is not None and (not sizes or min(sizes) < 1):
            raise refused(self, "sizes", sizes, "one or more integers of at least 1")
        super().__init__(key_dim, value_dim, capacity if sizes is None else sum(sizes), read)
        self.sizes = level_sizes(capacity, levels, growth) if sizes is None else tuple(sizes)
        if level_bias is not None and len(level_bias) != len(self.sizes):
            raise refused(self, "level_bias", level_bias, f"one number for each of {self.sizes}")
        self.match, self.promote_count, self.beta = match, promote_count, beta
        self.level_bias = tuple(level_bias) if level_bias is not None else None
        ends = list(accumulate(self.sizes))
        self.levels = [slice(end - size, end) for end, size in zip(ends, self.sizes)]
        self.slots = ends[-1]
        alike = len(set(self.level_bias or (0.0,))) == 1  # one bias for all levels is none: that is attention
        family: Literal["softmax", "cache", "generic"] = "generic"
        if match >= ALONE and (alike or read == "cascade"):
            family = "softmax" if read == "softmax" else "cache"
        self.spec = dataclasses.replace(
            self.spec,
            family=family,
            beta=beta if family == "softmax" else None,
            overwrite="blend" if alike and read == "softmax" else "none",
            exact=match == 1 and read == "cascade",
            eviction="lru" if len(self.sizes) == 1 else "none",
            capacity=None if sizes is None else self.slots,
            differentiable={"softmax": frozenset({"query", "keys", "values"}), "cascade": frozenset({"values"})}[read],
        )

    # ---- the three functions ----------------------------------------------------------------------------------

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> HierarchicalState:
        writes, clock = self.counts(*batch_shape, self.slots), self.counts(*batch_shape)
        return HierarchicalState(*self.empty_rows(batch_shape, self.slots), writes, writes - 1, clock, clock.clone())

    def write(self, state: HierarchicalState, keys: Tensor, values: Tensor) -> HierarchicalState:
        for k, v in zip(keys.split(BLOCK, -2), values.split(BLOCK, -2)):
            entering = torch.ones_like(k[..., 0], dtype=torch.bool)
            state = self._entered(state, k, v, entering, count=1)
        return state

    def _entered(
        self, state: HierarchicalState, keys: Tensor, values: Tensor, entering: Tensor, count: int
    ) -> HierarchicalState:
        """The state once those of the rows that are ``entering [..., N]`` came to level 0, in order.

        What moves are indices: entry j < S is that of slot j before, entry S + i is row i. Keys and values are touched
        only where entries merge, which takes looking at keys, and is skipped where none are near enough.
        """
        n = keys.shape[-2]
        when = state.clock[..., None] + torch.arange(n, device=keys.device)
        entries = _Entries(
            torch.cat((state.keys, keys), -2),
            torch.cat((state.values, values), -2),
            torch.cat((state.counts, torch.full_like(when, count)), -1),
            torch.cat((state.last, when), -1),
        )
        merging = self._may_merge(entries)
        index = torch.arange(self.slots, device=keys.device).expand(state.last.shape)
        held = [index[..., level] for level in self.levels]  # the entry in each slot, level by level
        dropped = state.dropped
        for i in range(n):
            coming, moving = torch.full_like(index[..., :1], self.slots + i), entering[..., i : i + 1]
            for depth in range(len(self.sizes)):
                if merging and depth > 0:
                    entries, moving = self._merged(entries, held[depth], coming, moving)
                if not bool(moving.any()):
                    break
                held[depth], coming, moving = self._placed(entries, depth, held[depth], coming, moving)
            dropped = dropped + torch.where(moving, entries.counts.gather(-1, coming), 0)[..., 0]
        order = torch.cat(held, -1)
        return HierarchicalState(
            rows_at(entries.keys, order),
            rows_at(entries.values, order),
            entries.counts.gather(-1, order),
            entries.last.gather(-1, order),
            state.clock + n,
            dropped,
        )

    def _may_merge(self, entries: _Entries) -> bool:
        """Whether an entry that can still move (a new one, or one above the last level) is near enough to another."""
        if len(self.sizes) == 1:
            return False
        total, last = entries.keys.shape[-2], self.levels[-1]
        index = torch.arange(total, device=entries.keys.device)
        movable = torch.cat((index[: last.start], index[last.stop :]))
        used = entries.last >= 0
        pairs = used[..., movable, None] & used[..., None, :] & (movable[:, None] != index)
        return any_within(entries.keys[..., movable, :], entries.keys, self.match, pairs)

    def _merged(self, entries: _Entries, held: Tensor, coming: Tensor, moving: Tensor) -> tuple[_Entries, Tensor]:
        """The entries once ``coming [..., 1]`` merged with the nearest of a level, and whether it is still ``moving``."""
        keys = rows_at(entries.keys, held)
        key = rows_at(entries.keys, coming)
        apart = torch.where(entries.last.gather(-1, held) >= 0, unit_distances(key, keys)[..., 0, :], torch.inf)
        least, nearest = apart.min(-1, keepdim=True)
        hit = moving & (least <= distance_at(self.match, key.dtype))
        if not bool(hit.any()):
            return entries, moving
        into = held.gather(-1, nearest)
        count, more = entries.counts.gather(-1, into), entries.counts.gather(-1, coming)
        wide = torch.promote_types(key.dtype, torch.float32)  # counts above 256 do not fit in bfloat16
        share = torch.where(hit, more.to(wide) / (count + more).clamp_min(1), 0.0).to(key.dtype)[..., None]
        recent = torch.maximum(entries.last.gather(-1, into), entries.last.gather(-1, coming))
        merged = _Entries(
            _towards(entries.keys, into, coming, share),
            _towards(entries.values, into, coming, share),
            entries.counts.scatter(-1, into, torch.where(hit, count + more, count)),
            entries.last.scatter(-1, into, torch.where(hit, recent, entries.last.gather(-1, into))),
        )
        return merged, moving & ~hit

    def _placed(
        self, entries: _Entries, depth: int, held: Tensor, coming: Tensor, moving: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A level that took the entry ``coming [..., 1]``; the entry that went for it, and whether one did."""
        last = entries.last.gather(-1, held)
        rank = last
        if depth == len(self.sizes) - 1 > 0:
            rank = torch.where(last < 0, -1, (entries.counts.gather(-1, held) << 32) + last)
        slot = rank.argmin(-1, keepdim=True)  # a free slot first, the lowest index among equals
        going = held.gather(-1, slot)
        here = torch.arange(held.shape[-1], device=held.device) == slot
        return torch.where(here & moving, coming, held), going, moving & (last.gather(-1, slot) >= 0)

    def shares(self, state: HierarchicalState, keys: Tensor) -> Tensor:
        scores = self.beta * unit_rows(keys) @ unit_rows(state.keys).mT
        if self.level_bias is not None:
            scores = scores + torch.cat([scores.new_full((n,), b) for n, b in zip(self.sizes, self.level_bias)])
        return masked_softmax(scores, self.in_use(state)[..., None, :])

    def in_use(self, state: HierarchicalState) -> Tensor:
        return state.last >= 0

    def usage(self, state: HierarchicalState) -> Tensor:
        """``[..., S]``: rows that each entry stands for, at least 1 where there is one, 0 where there is none."""
        return torch.where(self.in_use(state), state.counts.clamp_min(1), 0)

    def choose_slot(self, state: HierarchicalState, keys: Tensor) -> Tensor:
        """``[..., Q]`` slot that answers in a cascade; of equal keys in one level the one used last."""
        apart = torch.where((state.last >= 0)[..., None, :], unit_distances(keys, state.keys), torch.inf)
        reach = distance_at(self.match, keys.dtype)
        answer = _nearest(apart, state.last)
        found = torch.zeros_like(answer, dtype=torch.bool)
        for level in self.levels:
            part = apart[..., level]
            within = ~found & (part.amin(-1) <= reach)
            answer = torch.where(within, level.start + _nearest(part, state.last[..., level]), answer)
            found = found | within
        return answer

    # ---- management -------------------------------------------------------------------------------------------

    def occupancy(self, state: HierarchicalState) -> Tensor:
        """``[..., L]`` entries in each level (int64)."""
        return torch.stack([(state.last[..., level] >= 0).sum(-1) for level in self.levels], -1)

    def touch(self, keys: Tensor) -> None:
        """Make the entries that know these keys the most recently used of their levels; no answer changes."""
        keys = self._checked(keys, "keys", self.key_dim)
        known, _ = self._known(self.state, keys)
        clock = self.state.clock
        self.state = self.state._replace(
            last=torch.where(known.any(-2), clock[..., None], self.state.last), clock=clock + 1
        )

    def promote(self, keys: Tensor) -> None:
        """Copy to level 0 the prototypes that know these keys and stand for at least ``promote_count`` rows.

        What level 0 knows is only touched. A copy enters as a row does, so that level 0 may have to pass one on.
        """
        self.state = self.promoted(self.state, self._checked(keys, "keys", self.key_dim))

    def promoted(self, state: HierarchicalState, keys: Tensor) -> HierarchicalState:
        """The state after :meth:`promote` of ``keys [..., Q, Dk]``, in order."""
        below = torch.arange(self.slots, device=keys.device) >= self.sizes[0]
        for key in keys.split(1, -2):
            known, index = self._known(state, key)
            known = known[..., 0, :]
            last = torch.where(known & ~below, state.clock[..., None], state.last)
            hit = (known & below & (state.counts >= self.promote_count)).any(-1, keepdim=True)
            copied = rows_at(state.keys, index)
            values = rows_at(state.values, index)
            state = self._entered(state._replace(last=last), copied, values, hit, count=0)
        return state

    def _known(self, state: HierarchicalState, keys: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., Q, S]``, for each key the entry that knows it, in the first level that has one; and ``[..., Q]`` it."""
        index = self.choose_slot(state, keys)
        apart = unit_distances(keys, state.keys)
        near = (apart <= distance_at(self.match, keys.dtype)) & (state.last >= 0)[..., None, :]
        return near & (torch.arange(self.slots, device=keys.device) == index[..., None]), index


class _Entries(NamedTuple):
    """Entries that were stored and rows that come: keys and values ``[..., S + N, D]``, counts and last ``[..., S + N]``."""

    keys: Tensor
    values: Tensor
    counts: Tensor
    last: Tensor


def level_sizes(capacity: int, levels: int = 3, growth: int = 4) -> tuple[int, ...]:
    """Sizes of at most ``levels`` levels, each ``growth`` times the one before, the last with what is left.

    >>> level_sizes(21), level_sizes(128), level_sizes(8), level_sizes(2)
    ((1, 4, 16), (6, 24, 98), (1, 3, 4), (1, 1))
    """
    levels = min(levels, capacity)
    size, left, sizes = max(1, capacity // sum(growth**i for i in range(levels))), capacity, []
    for later in range(levels - 1, 0, -1):
        size = max(1, min(size, left // (later + 1)))
        sizes.append(size)
        left, size = left - size, size * growth
    return (*sizes, left)


def _towards(rows: Tensor, into: Tensor, coming: Tensor, share: Tensor) -> Tensor:
    """``rows [..., E, D]`` whose row ``into [..., 1]`` went ``share [..., 1, 1]`` of the way to row ``coming``."""
    between = (1 - share) * rows_at(rows, into) + share * rows_at(rows, coming)
    return rows.scatter(-2, into[..., None].expand(between.shape), between)


def _nearest(apart: Tensor, last: Tensor) -> Tensor:
    """``[..., Q]`` of ``apart [..., Q, S]`` the index of the least; of equal ones that with the greatest ``last [..., S]``."""
    least = apart.amin(-1, keepdim=True)
    return torch.where(apart == least, last[..., None, :], -2).argmax(-1)
