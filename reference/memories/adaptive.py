"""AdaptiveMemory: a store whose rows are rescaled for each query before they are attended to."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from memspec.options import Count, Positive, checked
from memspec.reference.memories.slots import RingMemory
from memspec.reference.memories.specs import ATTENDED
from memspec.reference.ops.ring import RingState
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.softmax import softmax_weights


class AdaptiveMemory(RingMemory):
    """``M' = M * 2 sigmoid(s(q)) + b(q)``, then attention ``softmax(beta P q M'_k^T) M'_v``; M itself stays as it is.

    s and b come from a three-layer network on the query, whose last layer starts at zero: with s = b = 0 the factor
    is 1, and this is plain attention over the newest ``capacity`` rows. A key bias would move all scores of a query
    alike, which attention does not see, so b has the width of a value. The query projection P starts as identity.

    Args:
        capacity: slots S; when they are full the oldest row makes room.
        beta: inverse temperature; scores are ``beta`` times the cosine while s = 0 and P is identity.
        hidden: width of the network's two hidden layers.

    Source: AdaptiveMemory in mwasifanwar/neural_memory_architectures, which writes the rescaled rows back and so
    drifts with every read; the modulation is FiLM, Perez et al. 2018.
    """

    spec = dataclasses.replace(ATTENDED, fidelity="driven")
    read_weights = slot_values = None  # type: ignore[assignment]  # a query sees rows of its own

    @checked
    def __init__(
        self, key_dim: int, value_dim: int, capacity: Count = 128, beta: Positive = 50.0, hidden: Count = 32
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        last = nn.Linear(hidden, key_dim + 2 * value_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.film = nn.Sequential(nn.Linear(key_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last)
        self.project = nn.Linear(key_dim, key_dim, bias=False)
        nn.init.eye_(self.project.weight)

    def entries(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return unit_rows(keys), values

    def usage(self, state: RingState) -> Tensor:
        """``[..., S]``: 1 where a slot is in use, else 0."""
        return self.in_use(state).to(state.keys.dtype)

    def modulation(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Factor ``2 sigmoid(s) [..., Q, W]`` and bias ``b [..., Q, Dv]`` for unit queries ``keys [..., Q, Dk]``."""
        s, b = self.film(keys).split([self.key_dim + self.value_dim, self.value_dim], -1)
        return 2 * s.sigmoid(), b

    def weights(self, state: RingState, keys: Tensor) -> Tensor:
        keys = unit_rows(keys)
        return self._attend(state, keys, self.modulation(keys)[0])

    def _attend(self, state: RingState, keys: Tensor, factor: Tensor) -> Tensor:
        # A query against a rescaled key is the rescaled query against the key, so no rescaled copy of M is made.
        queries = self.project(keys) * factor[..., : self.key_dim]
        return softmax_weights(queries, state.keys, self.beta, self.in_use(state))

    def read(self, state: RingState, keys: Tensor) -> Tensor:
        keys = unit_rows(keys)
        factor, bias = self.modulation(keys)
        weights = self._attend(state, keys, factor)
        plain = weights @ state.values
        return plain * factor[..., self.key_dim :] + weights.sum(-1, keepdim=True) * bias
