"""A memory whose slots an outer optimiser may train, and which writes by itself where something is new to it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn

from memspec.options import Cosine, Count, Positive, PositiveShare, checked
from memspec.reference.memories.cached import BLOCK, contrastive_loss
from memspec.reference.memories.slots import NearestMemory, PairsState
from memspec.reference.memories.specs import STORE
from memspec.reference.ops.rows import picked, unit_rows


class TrainableMemory(NearestMemory):
    """Slots of class scores that are written when something is new, and trained by an outer loss in between.

    Slot i is ``(K_i, V_i)``, a Parameter (small noise at first) plus what writing has added to it (the state), so gradients of an
    answer or of :meth:`auxiliary_loss` reach the slots, and an optimiser over ``parameters()`` trains them. Rows, in
    order: while a slot is free, the next one becomes ``(1 - update_rate) slot + update_rate row``. Afterwards, with s
    the cosines to all slots: if ``max s < similarity_threshold`` the slot whose largest class score is lowest, the
    least confident one, is replaced by ``update_rate row``; otherwise the row is ignored. Among equals the lowest slot
    answers, and goes.

    Args:
        capacity: slots M.
        temperature: of the contrastive loss and of ``read="softmax"``.
        similarity_threshold: cosine from which a row counts as known.
        update_rate: share of the row in a slot just written; with 1 slots hold the pairs themselves.
        read: ``nearest``: the value of the slot with the highest cosine (the source's); ``softmax``: the mean of all
            values in use, weighted by ``softmax(s / temperature)``, differentiable in everything.

    Slow weights (Parameter): ``keys [M, Dk]``, ``values [M, Dv]``, N(0, 0.01^2).

    Raises:
        ValueError: for an option outside its range.

    Source: TrainableMemory in wajihullahbaig/memory-assisted-classifier (memory_assisted_classifier.py), repaired: slots
    in use are marked, so that all are filled before any is replaced; every positive of a class counts in the loss; a
    replaced slot keeps nothing of the pair before.
    """

    spec = dataclasses.replace(STORE, eviction="similarity")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 1000,
        temperature: Positive = 0.1,
        similarity_threshold: Cosine = 0.8,
        update_rate: PositiveShare = 0.25,
        read: Literal["nearest", "softmax"] = "nearest",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, read)
        self.temperature, self.similarity_threshold = temperature, similarity_threshold
        self.update_rate, self.beta = update_rate, 1 / temperature
        if read == "softmax":
            self.spec = dataclasses.replace(self.spec, differentiable=frozenset({"query", "keys", "values"}))
        elif update_rate == 1:
            self.spec = dataclasses.replace(self.spec, family="cache")
        self.keys = nn.Parameter(0.01 * torch.randn(capacity, key_dim))
        self.values = nn.Parameter(0.01 * torch.randn(capacity, value_dim))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> PairsState:
        return PairsState(*self.empty_rows(batch_shape, self.slots), self.counts(*batch_shape, self.slots))

    def stored_keys(self, state: PairsState) -> Tensor:
        """``[..., M, Dk]``: the keys of all slots, free ones too."""
        return self.keys + state.keys

    def stored_values(self, state: PairsState) -> Tensor:
        return (self.values + state.values) * (state.writes > 0)[..., None]

    def write(self, state: PairsState, keys: Tensor, values: Tensor) -> PairsState:
        for k, v in zip(keys.split(BLOCK, -2), values.split(BLOCK, -2)):
            state = self._written(state, k, v)
        return state

    def _written(self, state: PairsState, keys: Tensor, values: Tensor) -> PairsState:
        m, n = self.slots, keys.shape[-2]
        number = torch.arange(m, device=keys.device)
        used = (state.writes > 0).sum(-1, keepdim=True)  # slots fill from the first one on
        # First the rows that find a free slot: slot s takes row s - used.
        filled = (number >= used) & (number < used + n)
        row = torch.where(filled, m + number - used, number)
        slot_keys = self._blended(self.stored_keys(state), keys, row, filled)
        slot_values = self._blended(self.values + state.values, values, row, filled)
        writes = state.writes + filled
        # Then the others. What they put into a slot is known beforehand, so the loop moves integers only.
        new_keys, new_values = self.update_rate * keys, self.update_rate * values
        held, writes = self._replaced(slot_keys, slot_values, keys, new_values, writes, m - used)
        slot_keys, slot_values = picked(slot_keys, new_keys, held), picked(slot_values, new_values, held)
        return PairsState(slot_keys - self.keys, slot_values - self.values, writes)

    def _blended(self, slots: Tensor, rows: Tensor, row: Tensor, filled: Tensor) -> Tensor:
        return torch.where(filled[..., None], torch.lerp(slots, picked(slots, rows, row), self.update_rate), slots)

    def _replaced(
        self, slot_keys: Tensor, slot_values: Tensor, keys: Tensor, new_values: Tensor, writes: Tensor, free: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Which row each slot holds in the end ``[..., M]`` (j < M: what it holds; M + i: row i), and ``writes``.

        Args:
            free: ``[..., 1]``: so many rows, the first ones, have found a free slot.
        """
        m, n = self.slots, keys.shape[-2]
        held = torch.arange(m, device=keys.device).expand(writes.shape)
        start = min(n, int(free.min()))
        if start == n:
            return held, writes
        dtype = torch.promote_types(keys.dtype, torch.float32)  # a threshold wants more than three digits
        rows, slots = unit_rows(keys.detach().to(dtype)), unit_rows(slot_keys.detach().to(dtype))
        similar = torch.cat((rows @ slots.mT, rows @ rows.mT), -1)
        confidence = torch.cat((slot_values, new_values), -2).detach().amax(-1)
        for i in range(start, n):
            novel = similar[..., i, :].gather(-1, held).amax(-1, keepdim=True) < self.similarity_threshold
            weakest = confidence.gather(-1, held).argmin(-1, keepdim=True)
            chosen = (torch.arange(m, device=keys.device) == weakest) & novel & (i >= free)
            held = torch.where(chosen, m + i, held)
            writes = writes + chosen
        return held, writes

    def auxiliary_loss(self, keys: Tensor, values: Tensor) -> Tensor:
        """Contrastive loss of features against the slots, that trains ``keys`` and the slots' keys and values.

        With s the cosines to the slots in use, and ``p_i`` the share of the row's class in slot i's positive class
        scores: the mean, over rows whose class has a share anywhere, of
        ``logsumexp(s / T) - log sum_i p_i exp(s_i / T)``, which for one-hot slots is the multi-positive InfoNCE of
        :class:`CachedMemory`, and in general minus the logarithm of the softmax read of the row's own class.

        Args:
            keys: ``[..., N, Dk]`` features.
            values: ``[..., N, Dv]``; the class of a row is the index of its largest entry.
        """
        keys, values = self._checked(keys, "keys", self.key_dim), self._checked(values, "values", self.value_dim)
        scores = self.stored_values(self.state).relu()
        total = scores.sum(-1, keepdim=True)
        shares = scores / torch.where(total > 0, total, 1.0)
        own = values.argmax(-1)[..., None].expand(*values.shape[:-1], self.slots)
        share = shares.mT.gather(-2, own)
        cosines = unit_rows(keys) @ unit_rows(self.stored_keys(self.state)).mT
        return contrastive_loss(cosines, share, self.state.writes > 0, self.temperature)

    def clear_moments(self, optimiser: torch.optim.Optimizer, before: PairsState) -> None:
        """Zero an outer optimiser's moments in the rows of slots written since ``before``: they are of other pairs.

        Without it, Adam or momentum goes on moving a replaced slot where the old pair was to go.

        Args:
            optimiser: over this memory's parameters, among others.
            before: ``memory.state`` as it was before the update.
        """
        rows = (self.state.writes != before.writes).reshape(-1, self.slots).any(0)
        for parameter in (self.keys, self.values):
            for moment in optimiser.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moment[rows] = 0
