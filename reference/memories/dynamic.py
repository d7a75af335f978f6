"""A store that manages its own room: slots are allocated, grown, evicted, collected as garbage, and compacted."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, Positive, PositiveCosine, PositiveShare, Real, Share, checked
from memspec.reference.memories.slots import NearestMemory
from memspec.reference.memories.specs import CACHE
from memspec.reference.ops.rows import rows_at
from memspec.reference.ops.search import any_within, distance_at, unit_distances

BLOCK = 512
"""Rows of one update whose similarities are held at once: bounds the memory a large update needs."""

SELDOM = 0.9
"""Cosine that random keys do not reach (in 16 dimensions 4 pairs in 10^7 do), so that each keeps a slot of its own.

A memory that matches below it groups keys, which the predictions for stores do not cover.
"""


class DynamicState(NamedTuple):
    """``keys [..., S, Dk]``, ``values [..., S, Dv]``, ``writes [..., S]``, ``last [..., S]``, ``clock [...]``; S grows.

    ``writes`` counts the rows a slot holds (0 = free), ``last`` is the clock when it was last written or touched, and
    ``clock`` the rows written so far, all int64. Usage is ``retention^(clock - last)``: kept as integers it neither
    drifts nor underflows, so that the least used slot is known after any number of writes.
    """

    keys: Tensor
    values: Tensor
    writes: Tensor
    last: Tensor
    clock: Tensor


class DynamicMemory(NearestMemory):
    """A slot store with usage: merge what is known, allocate what is new, grow, evict the least used, collect garbage.

    For each row, in order: all usages decay, ``u <- retention u``. If the nearest key has a cosine of at least
    ``match``, its value becomes ``(1 - blend) V_i + blend v``; otherwise the row takes the lowest free slot, for which
    the store doubles if need be, up to ``capacity``; if there is none, the slot of the lowest usage (the lowest index
    among equals). The slot written has usage 1.

    :meth:`gc` frees every slot whose usage is below ``threshold``; at the defaults one that has been left alone for
    45 rows. What survives answers as before; with ``compact`` the survivors move together, in order, and room is given
    back. Indices of slots never change otherwise.

    Args:
        capacity: slots it may grow to.
        initial_slots: slots to begin with; ``capacity`` or more allocates all at once (``constant_state``).
        retention: usage kept at each row, between 0 and 1.
        threshold: usage below which :meth:`gc` frees a slot, 0 to 1.
        match: cosine from which a row is known, above 0; 1 means equal directions only, and every distinct pair is
            then recalled (``exact``).
        blend: share of the new value where a row is known, above 0; 1 replaces the value.
        read: ``nearest`` answers with the value of the nearest key, ``softmax`` with the mean of all, weighted by
            ``softmax(beta cos)``.
        beta: inverse temperature of ``softmax``.

    Raises:
        ValueError: for an option outside its range.

    Source: the name is that of DynamicMemoryLayer in mwasifanwar/neural_memory_architectures, which neither allocates
    nor collects; the rules are this project's. Merging by cosine follows Kaiser et al. 2017, "Learning to Remember
    Rare Events", section 3.
    """

    spec = dataclasses.replace(CACHE, overwrite="blend", eviction="lru", constant_state=False)

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 1024,
        initial_slots: Count = 16,
        retention: Annotated[float, Real(above=0, below=1, why="usage says nothing else")] = 0.95,
        threshold: Share = 0.1,
        match: PositiveCosine = 0.95,
        blend: PositiveShare = 0.5,
        read: Literal["nearest", "softmax"] = "nearest",
        beta: Positive = 16.0,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, read)
        self.most = capacity
        self.initial_slots, self.retention, self.threshold = min(initial_slots, capacity), retention, threshold
        self.match, self.blend, self.beta = match, blend, beta
        self.spec = dataclasses.replace(
            self.spec,
            family=("cache" if read == "nearest" else "softmax") if match >= SELDOM else "generic",
            overwrite="replace" if blend == 1 else "blend",
            constant_state=initial_slots >= capacity,
            exact=match == 1 and read == "nearest",
        )
        if read == "softmax":
            self.spec = dataclasses.replace(self.spec, beta=beta, differentiable=frozenset({"query", "keys", "values"}))

    # ---- the three functions ----------------------------------------------------------------------------------

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> DynamicState:
        slots = self.initial_slots
        writes, last = self.counts(*batch_shape, slots), self.counts(*batch_shape, slots)
        return DynamicState(*self.empty_rows(batch_shape, slots), writes, last, self.counts(*batch_shape))

    def write(self, state: DynamicState, keys: Tensor, values: Tensor) -> DynamicState:
        for k, v in zip(keys.split(BLOCK, -2), values.split(BLOCK, -2)):
            state = self._written(state, k, v)
        return state

    def _written(self, state: DynamicState, keys: Tensor, values: Tensor) -> DynamicState:
        """The state after one block: where each row goes is found with integers, what is stored moves once."""
        n, before = keys.shape[-2], state.keys.shape[-2]
        most_used = int((state.writes > 0).sum(-1).max())
        state = resized(state, max(before, min(self.most, most_used + n)))  # a free slot for each row, if there may be
        known = self._known(state, keys)
        if known is None:
            slots = self._in_turn(state, n)
            merged = torch.zeros_like(slots, dtype=torch.bool)
        else:
            slots, merged = self._assigned(state, known)
        state = self._stored(state, keys, values, slots, merged)
        return resized(state, max(before, self._size(state.writes)))

    def _known(self, state: DynamicState, keys: Tensor) -> Tensor | None:
        """``[..., N, S + N]``: distance of each row from what slots and earlier rows hold, infinite beyond ``match``.

        None if no row can be known.
        """
        n, size, stored = keys.shape[-2], state.keys.shape[-2], torch.cat((state.keys, keys), -2)
        held = torch.cat((state.writes > 0, torch.ones_like(keys[..., 0], dtype=torch.bool)), -1)[..., None, :]
        earlier = torch.arange(size + n, device=keys.device) < size + torch.arange(n, device=keys.device)[:, None]
        may = held & earlier
        if not any_within(keys, stored, self.match, may):
            return None
        apart = unit_distances(keys, stored)
        return torch.where(may & (apart <= distance_at(self.match, keys.dtype)), apart, torch.inf)

    def _in_turn(self, state: DynamicState, n: int) -> Tensor:
        """Slots ``[..., N]`` of rows none of which is known: the free ones by index, then the least recently used.

        Rows become the most recently used in the order they come, so after the last slot it begins anew.
        """
        order = torch.where(state.writes > 0, state.last, -1).argsort(dim=-1, stable=True)
        return order[..., torch.arange(n, device=order.device) % order.shape[-1]]

    def _assigned(self, state: DynamicState, known: Tensor) -> tuple[Tensor, Tensor]:
        """Slots ``[..., N]`` of rows some of which are known, and which are merged ``[..., N]``, row by row."""
        size = state.keys.shape[-2]
        index = torch.arange(size, device=known.device)
        held = index.expand(state.writes.shape)  # whose key each slot has: j < S of slot j, S + i of row i
        last = torch.where(state.writes > 0, state.last, -1)
        slots, merged = [], []
        for i in range(known.shape[-2]):
            apart, nearest = known[..., i, :].gather(-1, held).min(-1, keepdim=True)
            found = apart < torch.inf
            slot = torch.where(found, nearest, last.argmin(-1, keepdim=True))
            here = index == slot
            held = torch.where(here & ~found, size + i, held)
            last = torch.where(here, state.clock[..., None] + i + 1, last)
            slots.append(slot)
            merged.append(found)
        return torch.cat(slots, -1), torch.cat(merged, -1)

    def _stored(self, state: DynamicState, keys: Tensor, values: Tensor, slots: Tensor, merged: Tensor) -> DynamicState:
        """What every slot holds once row i went to ``slots[..., i]``, a fresh entry or ``merged`` with what is there.

        A row that m merged ones follow in its slot is left with a share of ``(1 - blend)^m``, one that a fresh one
        follows with nothing; so all values are one sum.
        """
        n, size = keys.shape[-2], state.keys.shape[-2]
        place, index = torch.arange(n, device=keys.device), torch.arange(size, device=keys.device)
        one, left = values.new_tensor(1.0), values.new_tensor(1 - self.blend)

        later = (slots[..., :, None] == slots[..., None, :]) & (place > place[:, None])  # [..., i, j]: j after i
        lost = (later & ~merged[..., None, :]).any(-1)
        share = torch.where(merged, self.blend * one, one) * left ** (later & merged[..., None, :]).sum(-1)
        share = torch.where(lost, 0.0, share)[..., None]
        keyed = (~merged & ~lost)[..., None]

        here = slots[..., None, :] == index[:, None]  # [..., S, N]
        fresh = (here & ~merged[..., None, :]).any(-1)
        kept = torch.where(fresh, 0.0, left ** here.sum(-1))[..., None]
        written = torch.where(here, state.clock[..., None, None] + place + 1, 0).amax(-1)
        return DynamicState(
            _added(torch.where(fresh[..., None], 0.0, state.keys), slots, torch.where(keyed, keys, 0.0)),
            _added(kept * state.values, slots, share * values),
            torch.where(fresh, 0, state.writes) + (here & ~lost[..., None, :]).sum(-1),
            torch.maximum(state.last, written),
            state.clock + n,
        )

    # ---- management -------------------------------------------------------------------------------------------

    def in_use(self, state: DynamicState) -> Tensor:
        return state.writes > 0

    def usage(self, state: DynamicState) -> Tensor:
        """``[..., S]`` ``retention^age`` of the slots in use, 0 of free ones; in at least float32."""
        age = (state.clock[..., None] - state.last).to(torch.promote_types(self.like["dtype"], torch.float32))
        return torch.where(state.writes > 0, self.retention**age, 0.0)

    def collected(self, state: DynamicState, compact: bool = False) -> DynamicState:
        """The state without the slots whose usage is below ``threshold``; see :meth:`gc`."""
        state = without(state, self.usage(state) < self.threshold)
        return self._compacted(state) if compact else state

    def gc(self, compact: bool = False) -> int:
        """Free every slot whose usage is below ``threshold``.

        Args:
            compact: also move what is left together, in order, and halve the store while it fits.

        Returns:
            How many slots were freed (in all memories of a batch).
        """
        before = int((self.state.writes > 0).sum())
        self.state = self.collected(self.state, compact)
        return before - int((self.state.writes > 0).sum())

    def _compacted(self, state: DynamicState) -> DynamicState:
        order = (state.writes == 0).to(torch.int8).argsort(dim=-1, stable=True)
        state = DynamicState(
            rows_at(state.keys, order),
            rows_at(state.values, order),
            state.writes.gather(-1, order),
            state.last.gather(-1, order),
            state.clock,
        )
        return resized(state, self._size(state.writes))

    def _size(self, writes: Tensor) -> int:
        """Slots of a store that has been doubled until it holds the highest index in use."""
        taken = (writes > 0).flatten(0, -2).any(0) if writes.ndim > 1 else writes > 0
        needed = int(taken.nonzero().max()) + 1 if bool(taken.any()) else 0
        size = self.initial_slots
        while size < needed:
            size = min(2 * size, self.most)
        return size

    def touch(self, keys: Tensor) -> None:
        """Give the slots that know these keys (cosine of at least ``match``) a usage of 1."""
        known = self._knowing(keys)
        self.state = self.state._replace(last=torch.where(known, self.state.clock[..., None], self.state.last))

    def forget(self, keys: Tensor) -> None:
        """Free the slots that know these keys (cosine of at least ``match``)."""
        self.state = without(self.state, self._knowing(keys))

    def _knowing(self, keys: Tensor) -> Tensor:
        """``[..., S]``: whether a slot is the nearest to one of ``keys``, and near enough."""
        keys, used = self._checked(keys, "keys", self.key_dim), self.state.writes > 0
        apart = torch.where(used[..., None, :], unit_distances(keys, self.state.keys), torch.inf)
        least, index = apart.min(-1)
        slots = torch.arange(used.shape[-1], device=keys.device)
        known = (least <= distance_at(self.match, keys.dtype))[..., None]
        return (known & (index[..., None] == slots)).any(-2)

    # ---- what it says of itself -------------------------------------------------------------------------------

    def check_state(self, tensors: dict[str, Tensor]) -> str | None:
        size = tensors["writes"].shape[-1]
        widths = {"keys": self.key_dim, "values": self.value_dim}
        fits = all(tensors[name].shape[-2:] == (size, width) for name, width in widths.items())
        if size > self.most or not fits or tensors["last"].shape != tensors["writes"].shape:
            return f"the saved store is not [S, {self.key_dim}] and [S, {self.value_dim}] with S at most {self.most}"
        return None


def without(state: DynamicState, gone: Tensor) -> DynamicState:
    """The state with the slots ``gone [..., S]`` free and zeroed."""
    return DynamicState(
        torch.where(gone[..., None], 0.0, state.keys),
        torch.where(gone[..., None], 0.0, state.values),
        torch.where(gone, 0, state.writes),
        torch.where(gone, 0, state.last),
        state.clock,
    )


def resized(state: DynamicState, size: int) -> DynamicState:
    """The state with ``size`` slots: free ones added at the end, or cut from it."""
    here = state.keys.shape[-2]
    if size == here:
        return state

    def fit(tensor: Tensor, axis: int) -> Tensor:
        if size < here:
            return tensor.narrow(axis, 0, size).clone()  # not a view, or the room would not be given back
        extra = list(tensor.shape)
        extra[axis] = size - here
        return torch.cat((tensor, tensor.new_zeros(extra)), axis)

    return DynamicState(
        fit(state.keys, -2), fit(state.values, -2), fit(state.writes, -1), fit(state.last, -1), state.clock
    )


def _added(store: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """``store [..., S, D]`` with ``rows [..., N, D]`` added at ``slots [..., N]``; exact where one row is not zero."""
    return store.scatter_add(-2, slots[..., None].expand(rows.shape), rows)
