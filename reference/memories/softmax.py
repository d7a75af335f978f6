"""A store of pairs that is read by attention: the softmax over its keys, weighting its values."""

from __future__ import annotations

import dataclasses
from typing import Literal

from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.protocol import MemorySpec
from memspec.reference.ops import ring
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.search import nearest_slot
from memspec.reference.ops.softmax import softmax_weights


class SoftmaxMemory(FunctionalMemory):
    """``r = softmax(beta q K^T) V`` over a ring of the newest ``capacity`` pairs.

    With orthonormal keys the stored value itself has weight ``e^beta / (e^beta + N - 1)``, and with random unit keys
    about ``1 / (1 + (N-1) exp(-beta + beta^2 / 2 Dk))``; ``beta -> inf`` reads the nearest neighbour. Pairs under one
    key answer with their mean.

    Args:
        capacity: slots; when they are full the oldest pair makes room (FIFO).
        beta: inverse temperature; the default is near that of contrastive learning and of weighted kNN (1/0.07).
        key_norm: ``unit`` compares by cosine, ``none`` by dot product.

    Raises:
        ValueError: for an option outside its range.

    Source: one step of the modern Hopfield network, Ramsauer et al. 2020, "Hopfield Networks is All You Need",
    section 2, with values of their own; equally attention (Vaswani et al. 2017, eq. 1) over stored pairs.
    """

    spec = MemorySpec(
        family="softmax",
        write="sequential",
        overwrite="blend",
        eviction="fifo",
        empty_read="zeros",
        constant_state=True,
        deterministic=True,
        differentiable=frozenset({"query", "keys", "values"}),
        nonfinite="reject",
        inference_mode=True,
    )

    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: int = 128,
        beta: float = 16.0,
        key_norm: Literal["unit", "none"] = "unit",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity)
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta is {beta}; it must be above 0 and finite")
        if key_norm not in ("unit", "none"):
            raise ValueError(f"key_norm is {key_norm!r}; it is 'unit' or 'none'")
        self.slots, self.beta, self.key_norm = capacity, beta, key_norm
        self.spec = dataclasses.replace(self.spec, beta=beta)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> ring.RingState:
        return ring.empty_ring(batch_shape, self.slots, self.key_dim, self.value_dim, self.like)

    def write(self, state: ring.RingState, keys: Tensor, values: Tensor) -> ring.RingState:
        return ring.append(state, keys, values)

    def read(self, state: ring.RingState, keys: Tensor) -> Tensor:
        return self._weights(state, keys) @ state.values

    def read_weights(self, keys: Tensor) -> Tensor:
        """``[..., Q, S]``; rows sum to 1 (to 0 while the memory is empty), slots not in use have exactly 0."""
        return self._weights(self.state, self._checked(keys, "keys", self.key_dim))

    def slot_values(self) -> Tensor:
        """``[..., S, Dv]``; zeros where nothing is stored."""
        return self.state.values

    def slot_usage(self) -> Tensor:
        """``[..., S]``: how often each slot has been written."""
        return ring.times_written(self.state)

    def confidence(self, keys: Tensor) -> Tensor:
        """``[..., Q]``: cosine with the nearest stored key, negative ones as 0; 0 while the memory is empty."""
        keys = self._checked(keys, "keys", self.key_dim)
        _, cosine = nearest_slot(keys, self.state.keys, ring.in_use(self.state))
        return cosine.clamp(0, 1)

    def _weights(self, state: ring.RingState, keys: Tensor) -> Tensor:
        stored = state.keys
        if self.key_norm == "unit":
            keys, stored = unit_rows(keys), unit_rows(stored)
        return softmax_weights(keys, stored, self.beta, ring.in_use(state))
