"""A store of pairs that is read by attention: the softmax over its keys, weighting its values."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from memspec.options import Count, Positive, checked
from memspec.reference.memories.slots import RingMemory
from memspec.reference.ops import ring
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.softmax import softmax_weights


class SoftmaxMemory(RingMemory):
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

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        beta: Positive = 16.0,
        key_norm: Literal["unit", "none"] = "unit",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        self.key_norm = key_norm

    def weights(self, state: ring.RingState, keys: Tensor) -> Tensor:
        stored = state.keys
        if self.key_norm == "unit":
            keys, stored = unit_rows(keys), unit_rows(stored)
        return softmax_weights(keys, stored, self.beta, ring.in_use(state))
