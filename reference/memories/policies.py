"""Stores of fixed size that differ only in what they drop when they are full: FIFO, LRU, random, reservoir.

What each drops is a pure function of its state, so that one update of N rows and N updates of one agree, batches of
memories work, and a run can be repeated. Rows whose keys are all new go in at once; only a rewritten key, which may be
evicted by a row before it, makes the rows of an update be followed one by one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, checked
from memspec.reference.memories.slots import NearestMemory
from memspec.reference.memories.specs import CACHE
from memspec.reference.ops import draws
from memspec.reference.ops.rows import picked
from memspec.reference.ops.search import equal_rows, nearest

BLOCK = 512
"""Rows of one update that are compared with the store at once: bounds the memory a large update needs."""


class StoreState(NamedTuple):
    """``keys [..., S, Dk]``, ``values [..., S, Dv]``, ``writes [..., S]`` writes of each slot, ``offered [...]`` new pairs.

    A row counts as offered where its key was not in the store, whether or not it was kept (both counts int64).
    """

    keys: Tensor
    values: Tensor
    writes: Tensor
    offered: Tensor


class SeededState(NamedTuple):
    """:class:`StoreState` and ``seed [...]`` (int64), the stream of random numbers."""

    keys: Tensor
    values: Tensor
    writes: Tensor
    offered: Tensor
    seed: Tensor


class StampedState(NamedTuple):
    """:class:`StoreState`, ``stamps [..., S]`` when each slot was last used (0 = never), ``clock [...]`` uses (int64)."""

    keys: Tensor
    values: Tensor
    writes: Tensor
    offered: Tensor
    stamps: Tensor
    clock: Tensor


DICTIONARY = dataclasses.replace(CACHE, overwrite="replace", exact=True)


class EvictingMemory(NearestMemory):
    """Base of the stores: a dictionary of at most ``capacity`` pairs; an unknown key answers as the nearest (Euclidean).

    A key that is in the store gets its new value in its own slot. A new key takes a free slot, the lowest first, and
    one that its policy empties when there is none.

    A policy says where new keys go (:meth:`slots_for`), and keeps what it needs to know (:meth:`note`).

    Args:
        capacity: slots S.
    """

    @checked
    def __init__(self, key_dim: int, value_dim: int, capacity: Count = 128) -> None:
        super().__init__(key_dim, value_dim, capacity)

    # ---- the policy -------------------------------------------------------------------------------------------

    def slots_for(self, state: Any, count: int) -> Tensor:
        """``[..., count]``: where the next ``count`` new keys go, in order, S for one that is not kept."""
        raise NotImplementedError

    def note(self, state: Any, last: Tensor, count: int) -> Any:
        """The state after ``count`` rows, of which ``last [..., S]`` was the last to go to each slot (-1: none)."""
        return state

    # ---- the store --------------------------------------------------------------------------------------------

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> Any:
        return StoreState(*self._empty(batch_shape))

    def _empty(self, batch_shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        counts = self.counts(*batch_shape, self.slots), self.counts(*batch_shape)
        return *self.empty_rows(batch_shape, self.slots), *counts

    def write(self, state: Any, keys: Tensor, values: Tensor) -> Any:
        for k, v in zip(keys.split(BLOCK, -2), values.split(BLOCK, -2)):
            after, held = self._placed(state, k)
            state = after._replace(keys=picked(state.keys, k, held), values=picked(state.values, v, held))
        return state

    def _placed(self, state: Any, keys: Tensor) -> tuple[Any, Tensor]:
        """The counts afterwards, and which row each slot holds ``[..., S]`` (j < S: what slot j held; S + i: row i)."""
        n = keys.shape[-2]
        held = torch.arange(self.slots, device=keys.device).expand(state.writes.shape)
        equal = equal_rows(state.keys, keys)
        equal[..., : self.slots] &= (state.writes > 0)[..., None, :]
        new = ~equal.any(-1)
        if bool(new.all()):
            return self._entered(state, held, self.slots_for(state, n), new, 0)
        for i in range(n):
            own = equal[..., i, :].gather(-1, held)
            known = own.any(-1, keepdim=True)
            slot = torch.where(known, own.byte().argmax(-1, keepdim=True), self.slots_for(state, 1))
            state, held = self._entered(state, held, slot, ~known, i)
        return state, held

    def _entered(self, state: Any, held: Tensor, slot: Tensor, new: Tensor, first: int) -> tuple[Any, Tensor]:
        """Counts and occupants after rows ``first``, ``first + 1``, ... have gone to ``slot [..., count]``."""
        count = slot.shape[-1]
        rows = torch.arange(count, device=slot.device).expand(slot.shape)
        # The last of several rows for a slot stays: by their numbers, as the order of a scatter is not defined.
        last = torch.full_like(held[..., :1], -1).expand(*held.shape[:-1], self.slots + 1)
        last = last.scatter_reduce(-1, slot, rows, "amax")[..., : self.slots]
        times = torch.zeros_like(last[..., :1]).expand(*last.shape[:-1], self.slots + 1)
        times = times.scatter_add(-1, slot, torch.ones_like(slot))[..., : self.slots]
        held = torch.where(last >= 0, self.slots + first + last, held)
        state = state._replace(writes=state.writes + times, offered=state.offered + new.sum(-1))
        return self.note(state, last, count), held

    def choose_slot(self, state: Any, keys: Tensor) -> Tensor:
        return nearest(keys, state.keys, 1, state.writes > 0)[0][..., 0]

    def certainty(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q]``: ``1 / (1 + distance to the nearest stored key)``; 0 while the memory is empty."""
        _, distance = nearest(keys, state.keys, 1, state.writes > 0)
        return 1 / (1 + distance[..., 0])


class FIFOMemory(EvictingMemory):
    """A dictionary of ``capacity`` pairs that drops the key that came in first.

    A rewritten key keeps its place in the queue: what counts is when a key came in, not when it was last used. Of
    distinct keys the newest ``capacity`` are held.

    Args:
        capacity: slots.

    Source: the FIFO replacement rule, Belady 1966, "A study of replacement algorithms for a virtual-storage computer".
    """

    spec = dataclasses.replace(DICTIONARY, eviction="fifo")

    def slots_for(self, state: StoreState, count: int) -> Tensor:
        return _following(state, count) % self.slots


class LRUMemory(EvictingMemory):
    """A dictionary of ``capacity`` pairs that drops the key that has not been used for the longest time.

    Writing a key uses it, and so does :meth:`touch`; ``query`` does not, so that it stays pure.

    Args:
        capacity: slots.

    Source: the least-recently-used replacement rule, Belady 1966; Mattson et al. 1970, "Evaluation techniques for
    storage hierarchies".
    """

    spec = dataclasses.replace(DICTIONARY, eviction="lru")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> StampedState:
        counts = self.counts(*batch_shape, self.slots), self.counts(*batch_shape)
        return StampedState(*self._empty(batch_shape), *counts)

    def slots_for(self, state: StampedState, count: int) -> Tensor:
        # A slot just taken is the most recent, so the order goes round. Free slots (0) come first, the lowest first.
        order = state.stamps.argsort(dim=-1, stable=True)
        return order[..., torch.arange(count, device=order.device) % self.slots]

    def note(self, state: StampedState, last: Tensor, count: int) -> StampedState:
        stamps = torch.where(last >= 0, state.clock[..., None] + 1 + last, state.stamps)
        return state._replace(stamps=stamps, clock=state.clock + count)

    def touch(self, keys: Tensor) -> None:
        """Count the slots that answer ``keys [..., Q, Dk]`` as used, in order. Answers stay as they are."""
        keys = self._checked(keys, "keys", self.key_dim)
        if keys.shape[-2] == 0:
            return
        state: StampedState = self.state
        used = state.writes > 0
        index, _ = nearest(keys, state.keys, 1, used)
        rows = torch.arange(keys.shape[-2], device=keys.device).expand(index.shape[:-1])
        last = torch.full_like(state.stamps, -1).scatter_reduce(-1, index[..., 0], rows, "amax")
        self.state = self.note(state, torch.where(used, last, -1), keys.shape[-2])


class _Drawing(EvictingMemory):
    """A store whose policy draws: number t of the memory's own stream decides on the t-th new key."""

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> SeededState:
        return SeededState(*self._empty(batch_shape), draws.new_seeds(batch_shape, self.like["device"]))


class RandomEvictionMemory(_Drawing):
    """A dictionary of ``capacity`` pairs that drops any of them, each with the same chance.

    A pair is still held after ``a`` further keys came to the full store with probability ``(1 - 1/capacity)^a``. The
    chances come from a seed in the state, drawn once, so that the same writes always leave the same pairs.

    Args:
        capacity: slots.

    Source: the random replacement rule, Belady 1966, "A study of replacement algorithms for a virtual-storage computer".
    """

    spec = dataclasses.replace(DICTIONARY, eviction="random")

    def slots_for(self, state: SeededState, count: int) -> Tensor:
        number = _following(state, count)
        return torch.where(number < self.slots, number, draws.integers(state.seed, number, self.slots))


class ReservoirMemory(_Drawing):
    """A dictionary of ``capacity`` pairs that is at any time an even sample of all keys it was ever offered.

    After N distinct keys each of them is held with probability ``capacity / N``, whatever its age: the t-th is kept
    with probability ``capacity / t``, in the place of any other. A key that was not kept, or was dropped, counts as
    new when it comes again. The chances come from a seed in the state, drawn once.

    Args:
        capacity: slots.

    Source: algorithm R (Waterman), Vitter 1985, "Random sampling with a reservoir", section 2.
    """

    spec = dataclasses.replace(DICTIONARY, eviction="reservoir")

    def slots_for(self, state: SeededState, count: int) -> Tensor:
        number = _following(state, count)
        place = torch.where(number < self.slots, number, draws.integers(state.seed, number, number + 1))
        return place.clamp(max=self.slots)


def _following(state: Any, count: int) -> Tensor:
    """``[..., count]``: the numbers of the next new keys, from 0."""
    number: Tensor = state.offered[..., None] + torch.arange(count, device=state.offered.device)
    return number
