"""Memories of slots: what they tell of themselves, and three ways to keep and read pairs, written once.

:class:`SlotMemory` is the base of every store: a subclass says what its slots hold, which are in use and how a query
weights them, and all that is public follows. :class:`RingMemory` keeps the newest pairs, :class:`NearestMemory` answers
with what one slot holds.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.reference.memories.specs import ATTENDED, CACHE
from memspec.reference.ops import ring
from memspec.reference.ops.rows import one_hot_rows, rows_at, unit_rows
from memspec.reference.ops.search import nearest_cosine, nearest_slot
from memspec.reference.ops.softmax import softmax_weights


class SlotMemory(FunctionalMemory):
    """A memory of S slots whose answers are weights over them times what they hold.

    A subclass writes :meth:`init_state`, :meth:`write` and :meth:`weights`, and the other hooks where its state has no
    fields ``keys``, ``values`` and ``writes``. Where a public method would say nothing it is None, as ``__hash__`` may be,
    and the memory lacks that capability.

    Attributes:
        slots: how many there are; the capacity, where a subclass says nothing else.
    """

    slots: int

    def __init__(self, key_dim: int, value_dim: int, capacity: int | None = None) -> None:
        super().__init__(key_dim, value_dim, capacity)
        if capacity is not None:
            self.slots = capacity

    # ---- what a subclass says of a state ----------------------------------------------------------------------

    def weights(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q, S]``: weights of the slots for ``keys [..., Q, Dk]``; rows sum to 1, or to 0 where none is in use."""
        raise NotImplementedError

    def stored_keys(self, state: Any) -> Tensor:
        """``[..., S, D]``: what :meth:`queries` are compared with."""
        keys: Tensor = state.keys
        return keys

    def stored_values(self, state: Any) -> Tensor:
        """``[..., S, Dv]``: what each slot answers; zeros where nothing is stored."""
        values: Tensor = state.values
        return values

    def usage(self, state: Any) -> Tensor:
        """``[..., S]``: how far each slot is used, 0 where nothing is stored; by default how often it has been written."""
        writes: Tensor = state.writes
        return writes

    def in_use(self, state: Any) -> Tensor:
        """``[..., S]`` bool: which slots hold something."""
        return self.usage(state) > 0

    def queries(self, keys: Tensor) -> Tensor:
        """``[..., Q, D]``: the keys as they are compared with the stored ones."""
        return keys

    def certainty(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q]``: cosine with the nearest stored key, negative ones as 0; 0 where none is stored."""
        return nearest_cosine(self.queries(keys), self.stored_keys(state), self.in_use(state)).clamp(0, 1)

    # ---- what it may start with -------------------------------------------------------------------------------

    def empty_rows(self, batch_shape: tuple[int, ...], slots: int) -> tuple[Tensor, Tensor]:
        """Keys ``[..., slots, Dk]`` and values ``[..., slots, Dv]`` of slots that hold nothing."""
        return (
            torch.zeros(*batch_shape, slots, self.key_dim, **self.like),
            torch.zeros(*batch_shape, slots, self.value_dim, **self.like),
        )

    def counts(self, *shape: int) -> Tensor:
        """Zeros to count from (int64)."""
        return torch.zeros(shape, dtype=torch.int64, device=self.like["device"])

    # ---- what follows -----------------------------------------------------------------------------------------

    def read(self, state: Any, keys: Tensor) -> Tensor:
        return self.weights(state, keys) @ self.stored_values(state)

    def read_weights(self, keys: Tensor) -> Tensor:
        """``[..., Q, S]``: :meth:`weights` of the slots, as they are now."""
        return self.weights(self.state, self._checked(keys, "keys", self.key_dim))

    def slot_values(self) -> Tensor:
        """``[..., S, Dv]``: a copy of :meth:`stored_values`."""
        return self.stored_values(self.state).clone()

    def slot_usage(self) -> Tensor:
        """``[..., S]``: a copy of :meth:`usage`."""
        return self.usage(self.state).clone()

    def confidence(self, keys: Tensor) -> Tensor:
        """``[..., Q]`` in [0, 1], in the dtype of the keys: :meth:`certainty` of the memory as it is now."""
        checked = self._checked(keys, "keys", self.key_dim)
        return self.certainty(self.state, checked).to(checked.dtype)


class RingMemory(SlotMemory):
    """The newest ``capacity`` pairs, the oldest making room, read by attention.

    A subclass says what it stores of a pair (:meth:`entries`, of widths :attr:`widths`), and by which weights it reads.

    Attributes:
        beta: inverse temperature of the reading, which the spec tells as well.
    """

    spec = ATTENDED
    capacity: int

    def __init__(self, key_dim: int, value_dim: int, capacity: int | None, beta: float) -> None:
        super().__init__(key_dim, value_dim, capacity)
        self.beta = beta
        self.spec = dataclasses.replace(self.spec, beta=beta)

    @property
    def widths(self) -> tuple[int, int]:
        """Widths of what is stored of keys and of values."""
        return self.key_dim, self.value_dim

    def entries(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is stored of pairs, ``[..., N, D]`` and ``[..., N, E]``."""
        return keys, values

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> ring.RingState:
        return ring.empty_ring(batch_shape, self.capacity, *self.widths, self.like)

    def write(self, state: ring.RingState, keys: Tensor, values: Tensor) -> ring.RingState:
        return ring.append(state, *self.entries(keys, values))

    def usage(self, state: ring.RingState) -> Tensor:
        return ring.times_written(state)

    def in_use(self, state: ring.RingState) -> Tensor:
        return ring.in_use(state)


class PairsState(NamedTuple):
    """``keys [..., M, Dk]``, ``values [..., M, Dv]``, ``writes [..., M]``: how often each slot was written (int64)."""

    keys: Tensor
    values: Tensor
    writes: Tensor


class NearestMemory(SlotMemory):
    """Answers with what one slot holds, bit for bit; or, where it is ``soft``, with a mean over slots.

    Slots not in use hold zeros, so an empty memory answers zeros.

    Args:
        read: ``nearest``, or ``softmax``: it is soft.

    Attributes:
        soft: whether it reads by :meth:`shares`.
        beta: inverse temperature of the cosines then.
    """

    spec = CACHE
    beta: float

    def __init__(self, key_dim: int, value_dim: int, capacity: int, read: str = "nearest") -> None:
        super().__init__(key_dim, value_dim, capacity)
        self.soft = read == "softmax"

    def choose_slot(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q]``: the slot that answers, by default the one of the highest cosine; any where none is in use."""
        return nearest_slot(keys, self.stored_keys(state), self.in_use(state))[0]

    def shares(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q, S]``: weights of a soft read, by default ``softmax(beta cos)`` over the slots in use."""
        return softmax_weights(unit_rows(keys), unit_rows(self.stored_keys(state)), self.beta, self.in_use(state))

    def weights(self, state: Any, keys: Tensor) -> Tensor:
        if self.soft:
            return self.shares(state, keys)
        return one_hot_rows(self.choose_slot(state, keys), self.in_use(state), keys.dtype)

    def read(self, state: Any, keys: Tensor) -> Tensor:
        if self.soft:
            return super().read(state, keys)
        return rows_at(self.stored_values(state), self.choose_slot(state, keys))
