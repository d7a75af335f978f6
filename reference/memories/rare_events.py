"""The memory of "Learning to remember rare events": a right answer sharpens its slot, a wrong one fills the oldest."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, NotNegative, Positive, checked
from memspec.reference.memories.slots import NearestMemory
from memspec.reference.ops import draws
from memspec.reference.ops.rows import gather_rows, picked, spread, unit_rows
from memspec.reference.ops.search import equal_rows, nearest, unit_distances
from memspec.reference.ops.softmax import masked_softmax

BLOCK = 512
"""Rows of one update whose values are compared at once: bounds the memory a large update needs."""


class RareEventsState(NamedTuple):
    """``keys [..., M, Dk]`` unit rows, ``values [..., M, Dv]``, ``ages [..., M]``, ``writes [..., M]``, ``rows [...]``, ``seed [...]``.

    ``ages``: rows since the slot was last written (int64, as all counts); ``rows`` ever written; ``seed`` of the noise.
    """

    keys: Tensor
    values: Tensor
    ages: Tensor
    writes: Tensor
    rows: Tensor
    seed: Tensor


class RareEventsMemory(NearestMemory):
    """Unit keys with values and ages; one-shot, life-long.

    For a row (q, v), q scaled to length 1, in order: if the nearest key n has the value v, it becomes
    ``normalise(q + K[n])``; otherwise the pair takes the slot of the greatest ``age + U(-age_noise, age_noise)``, free
    slots first. The slot's age is 0 then, and all others are one older. Values are labels (one-hot, or any vectors):
    they are the same where all entries are equal, and so a merged slot keeps its value. Among keys equally near, to
    rounding, the youngest is the nearest, so that a rewritten key answers with its new value. The noise comes from a seed in the state, drawn once, so that the same rows always leave the same memory.

    Without noise, and where no answer was right, the oldest goes: FIFO.

    Args:
        capacity: slots M.
        choose_k: neighbours of ``read="softmax"``, and of its temperature.
        alpha: margin of the loss.
        age_noise: bound of the noise on ages.
        read: ``nearest``: the value of the nearest key; ``softmax``: the mean of the values of the ``choose_k`` nearest,
            weighted by ``softmax(t cos)``, ``t = max(1, ln(choose_k / 5) / alpha)`` (39.4 for the defaults).

    Raises:
        ValueError: for an option outside its range.

    Source: Kaiser et al. 2017, "Learning to remember rare events", section 2; the noise and the temperature are
    those of its published code. There a free slot is one of age; here it is older than all others, so that the first M
    pairs are all held.
    """

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 8192,
        choose_k: Count = 256,
        alpha: Positive = 0.1,
        age_noise: NotNegative = 8.0,
        read: Literal["nearest", "softmax"] = "nearest",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, read)
        self.choose_k, self.alpha, self.age_noise = choose_k, alpha, age_noise
        self.softmax_temperature = max(1.0, math.log(0.2 * choose_k) / alpha)
        if read == "nearest":
            self.spec = dataclasses.replace(self.spec, overwrite="replace")
        else:
            both = frozenset({"query", "values"})
            self.spec = dataclasses.replace(self.spec, family="generic", differentiable=both)
        if age_noise == 0:
            self.spec = dataclasses.replace(self.spec, eviction="fifo")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> RareEventsState:
        counts = self.counts(*batch_shape, self.slots)
        seeds = draws.new_seeds(batch_shape, self.like["device"])
        return RareEventsState(
            *self.empty_rows(batch_shape, self.slots), counts, counts, self.counts(*batch_shape), seeds
        )

    def write(self, state: RareEventsState, keys: Tensor, values: Tensor) -> RareEventsState:
        for k, v in zip(keys.split(BLOCK, -2), values.split(BLOCK, -2)):
            state = self._written(state, k.detach(), v)
        return state

    def _written(self, state: RareEventsState, keys: Tensor, values: Tensor) -> RareEventsState:
        rows = unit_rows(keys).to(torch.promote_types(keys.dtype, torch.float32))  # cdist has no half or bfloat16
        same = equal_rows(state.values, values)  # [..., N, M + N]
        same[..., : self.slots] &= (state.writes > 0)[..., None, :]
        fill = _Fill(state, keys.shape[-2], self.age_noise)
        if not bool(same.any()):  # no answer can be right, so where the keys lie does not matter
            for i in range(keys.shape[-2]):
                fill.put(i, fill.oldest(i))
            stored = picked(state.keys.detach(), rows.to(state.keys.dtype), fill.held)
        else:
            stored = self._merged(state, rows, same, fill).to(state.keys.dtype)
        held_values = picked(state.values, values, fill.held)
        return RareEventsState(stored, held_values, fill.ages, fill.writes, state.rows + keys.shape[-2], state.seed)

    def _merged(self, state: RareEventsState, rows: Tensor, same: Tensor, fill: _Fill) -> Tensor:
        """The keys after all rows: each merged with its nearest key where that has the same value."""
        stored = state.keys.detach().to(rows.dtype, copy=True)  # a copy of this call's own, changed in place
        for i in range(rows.shape[-2]):
            q = rows[..., i : i + 1, :]
            near, _ = _nearest(unit_distances(q, stored), fill.ages, fill.writes > 0)
            right = same[..., i, :].gather(-1, fill.held.gather(-1, near))
            slot = torch.where(right, near, fill.oldest(i))
            where = slot[..., None].expand(*slot.shape, self.key_dim)
            key = stored.gather(-2, where)
            merged = unit_rows(q + key)
            merged = torch.where((merged != 0).any(-1, keepdim=True), merged, key)  # opposite keys: the older stays
            stored.scatter_(-2, where, torch.where(right[..., None], merged, q))
            fill.put(i, slot, right)
        return stored

    def choose_slot(self, state: RareEventsState, keys: Tensor) -> Tensor:
        return self._found(state, keys)[0]

    def read(self, state: RareEventsState, keys: Tensor) -> Tensor:
        if not self.soft:
            return super().read(state, keys)
        index, weights = self._neighbours(state, keys)
        return (weights[..., None] * gather_rows(state.values, index)).sum(-2)

    def shares(self, state: RareEventsState, keys: Tensor) -> Tensor:
        return spread(*self._neighbours(state, keys), self.slots)

    def certainty(self, state: RareEventsState, keys: Tensor) -> Tensor:
        _, distance = self._found(state, keys)
        return torch.where(torch.isfinite(distance), 1 - distance.square() / 2, 0.0).clamp(0, 1)

    def _found(self, state: RareEventsState, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest slot ``[..., Q]`` and its distance, inf while the memory is empty."""
        dtype = torch.promote_types(keys.dtype, torch.float32)  # cdist has no half or bfloat16
        apart = unit_distances(unit_rows(keys.detach()).to(dtype), state.keys.detach().to(dtype))
        return _nearest(apart, state.ages, state.writes > 0)

    def _neighbours(self, state: RareEventsState, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The neighbours ``[..., Q, k]`` and their weights."""
        q = unit_rows(keys)
        index, distance = nearest(q, state.keys, self.choose_k, state.writes > 0)
        cosines = (gather_rows(state.keys, index) @ q[..., None])[..., 0]
        return index, masked_softmax(self.softmax_temperature * cosines, torch.isfinite(distance))

    def auxiliary_loss(self, keys: Tensor, values: Tensor) -> Tensor:
        """Margin loss ``[max_neg - max_pos + alpha]_+``: a key of the right value shall be nearer than any other.

        ``max_pos`` is the cosine with the nearest key of the same value, ``max_neg`` with the nearest of another; the
        mean over rows that have both, 0 where there is none. Differentiable in ``keys``. (The paper looks for both among
        the ``choose_k`` nearest and takes any key of the right value where there is none; the nearest of all is one.)

        Args:
            keys: ``[..., N, Dk]`` features.
            values: ``[..., N, Dv]``.
        """
        keys, values = self._checked(keys, "keys", self.key_dim), self._checked(values, "values", self.value_dim)
        used = (self.state.writes > 0)[..., None, :]
        same = equal_rows(self.state.values, values)[..., : self.slots]
        cosines = unit_rows(keys) @ unit_rows(self.state.keys).mT
        best = [torch.where(part & used, cosines, -torch.inf).amax(-1) for part in (same, ~same)]
        both = torch.isfinite(best[0]) & torch.isfinite(best[1])
        positive, negative = (torch.where(both, part, 0.0) for part in best)
        hinge = torch.where(both, (negative - positive + self.alpha).clamp_min(0), 0.0)
        return hinge.sum() / both.sum().clamp_min(1)


class _Fill:
    """Which slot each row of an update takes: counts of this call's own, changed in place.

    Attributes:
        held: ``[..., M]`` which row's value each slot holds (j < M: what slot j held; M + i: new row i).
        ages, writes: as in the state.
    """

    def __init__(self, state: RareEventsState, rows: int, noise: float) -> None:
        self.ages, self.writes = state.ages.clone(), state.writes.clone()
        self.slots = self.ages.shape[-1]
        self.number = torch.arange(self.slots, device=self.ages.device)
        self.held = self.number.expand(self.ages.shape).clone()
        self.state, self.noise = state, noise
        # Only a memory without a free slot asks for ages; this many rows later at the earliest, one may be so.
        self.first_full = int((self.writes == 0).sum(-1).min())

    def oldest(self, i: int) -> Tensor:
        """``[..., 1]``: the slot that row i takes if it is new: the first free one, else the oldest, by noisy ages."""
        free = self.writes == 0
        if i < self.first_full:
            return free.byte().argmax(-1, keepdim=True)
        ages = self.ages.double()
        if self.noise > 0:
            index = (self.state.rows + i)[..., None] * self.slots + self.number
            ages = ages + self.noise * (2 * draws.uniforms(self.state.seed, index) - 1)
        return torch.where(free, torch.inf, ages).argmax(-1, keepdim=True)

    def put(self, i: int, slot: Tensor, right: Tensor | None = None) -> None:
        """Row i went to ``slot [..., 1]``, and its value too, unless the answer was ``right`` and the same is there."""
        row = self.slots + i
        value = torch.full_like(slot, row) if right is None else torch.where(right, self.held.gather(-1, slot), row)
        self.held.scatter_(-1, slot, value)
        self.ages += 1
        self.ages.scatter_(-1, slot, 0)
        self.writes.scatter_add_(-1, slot, torch.ones_like(slot))


def _nearest(apart: Tensor, ages: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The slot ``[..., Q]`` of the least of the distances ``apart [..., Q, M]``, the youngest among equals, and that distance.

    A key merged with itself is off by rounding, so distances of unit rows within some eps of each other are equal.
    """
    apart = torch.where(used[..., None, :], apart, torch.inf)
    least = apart.amin(-1, keepdim=True)
    tied = apart <= least + 16 * torch.finfo(apart.dtype).eps
    oldest = torch.iinfo(ages.dtype).max
    return torch.where(tied, ages[..., None, :], oldest).argmin(-1), least[..., 0]
