"""RowMemory: what memories have in common that keep rows ``[key; value]`` and find them again by the key alone."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memspec.reference.memories.slots import SlotMemory
from memspec.reference.memories.specs import ADDRESSED
from memspec.reference.ops.addressing import content_weights, cosine
from memspec.reference.ops.assign import assign
from memspec.reference.ops.rows import place


class RowMemory(SlotMemory):
    """Rows ``[k; v]`` of width ``W = key_dim + value_dim``, read by ``softmax(beta cos(q, k))`` over the slots.

    Only the key part of a row is compared (a key mask): compared with the whole row, the cosine of a stored key
    would sink as its value grows.

    A subclass has a state with a field ``memory [..., S, W]``, writes it by its own policy, and says in
    :meth:`occupied` which slots hold something.

    Args:
        capacity: slots S.
        beta: key strength of the read; at 50 a competitor at cosine .5 weighs 1e-11 of an exact match.

    Raises:
        ValueError: for a beta that is not positive.
    """

    spec = ADDRESSED

    def __init__(self, key_dim: int, value_dim: int, capacity: int, beta: float) -> None:
        super().__init__(key_dim, value_dim, capacity)
        self.beta = beta
        self.spec = dataclasses.replace(self.spec, beta=beta)

    @property
    def width(self) -> int:
        """Row width W."""
        return self.key_dim + self.value_dim

    # ---- what a subclass says ---------------------------------------------------------------------------------

    def occupied(self, state: Any) -> Tensor:
        """``[..., S]`` in [0, 1]: how much of each slot has been written."""
        raise NotImplementedError

    # ---- what follows -----------------------------------------------------------------------------------------

    def usage(self, state: Any) -> Tensor:
        """``[..., S]``: by default :meth:`occupied`."""
        return self.occupied(state)

    def stored_keys(self, state: Any) -> Tensor:
        keys: Tensor = state.memory[..., : self.key_dim]
        return keys

    def stored_values(self, state: Any) -> Tensor:
        values: Tensor = state.memory[..., self.key_dim :]
        return values

    def weights(self, state: Any, keys: Tensor) -> Tensor:
        return content_weights(keys, self.stored_keys(state), self.strengths(keys))

    def strengths(self, keys: Tensor) -> Tensor:
        """``[..., Q]``: beta for each of ``keys [..., Q, D]``."""
        return keys.new_full(keys.shape[:-1], self.beta)

    def certainty(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q]``: cosine with the nearest written key, at least 0; 0 where nothing is stored."""
        near = cosine(keys, self.stored_keys(state))
        return (near * self.occupied(state).unsqueeze(-2)).amax(-1).clamp(0, 1)


class MatchedState(NamedTuple):
    """``memory [..., S, W]``, ``written [..., S]`` step of the last driven write (int64; negative = never), ``time
    [..., 1]`` rows driven in so far (int64)."""

    memory: Tensor
    written: Tensor
    time: Tensor


class MatchingRowMemory(RowMemory):
    """Rows that start as trained ones; driven, a row goes to the slot whose key matches, else to the one written longest ago.

    Content alone cannot point at a free slot, so the driver says where to write. A key written twice has its new value.

    Args:
        match: cosine from which the driver takes two keys for the same.

    Attributes:
        initial: Parameter ``[S, W]``, the memory a state starts with (Xavier normal).

    Raises:
        ValueError: for a beta that is not positive, or a match outside (0, 1].
    """

    spec = dataclasses.replace(ADDRESSED, overwrite="replace", eviction="lru")

    def __init__(self, key_dim: int, value_dim: int, capacity: int, beta: float, match: float) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        self.match = match
        self.initial = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.slots, self.width)))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> MatchedState:
        never = torch.arange(-self.slots, 0, device=self.initial.device)
        return MatchedState(
            self.initial.expand(*batch_shape, self.slots, self.width).clone(),
            never.expand(*batch_shape, self.slots).clone(),
            torch.zeros(*batch_shape, 1, dtype=torch.int64, device=self.initial.device),
        )

    def occupied(self, state: MatchedState) -> Tensor:
        return (state.written >= 0).to(state.memory.dtype)

    def write(self, state: MatchedState, keys: Tensor, values: Tensor) -> MatchedState:
        slots, written = assign(keys, self.stored_keys(state), state.written, state.time, self.match)
        return MatchedState(place(state.memory, as_rows(keys, values), slots), written, state.time + keys.shape[-2])


def as_rows(keys: Tensor, values: Tensor) -> Tensor:
    """``[..., N, Dk]`` and ``[..., N, Dv]`` side by side: ``[..., N, W]``."""
    return torch.cat((keys, values), -1)
