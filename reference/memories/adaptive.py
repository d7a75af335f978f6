"""AdaptiveMemory: a store whose rows are rescaled for each query before they are attended to."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from memspec.protocol import MemorySpec
from memspec.reference.memories.rows import RowMemory, as_rows
from memspec.reference.ops.rows import place, unit_rows
from memspec.reference.ops.softmax import softmax_weights


class AdaptiveState(NamedTuple):
    """``memory [..., S, W]`` (keys of length 1), ``written [..., 1]`` rows ever written (int64)."""

    memory: Tensor
    written: Tensor


class AdaptiveMemory(RowMemory):
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
        fidelity="driven",
    )

    def __init__(self, key_dim: int, value_dim: int, capacity: int = 128, beta: float = 50.0, hidden: int = 32) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        if hidden < 1:
            raise ValueError(f"hidden is {hidden}; it must be at least 1")
        last = nn.Linear(hidden, self.width + value_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.film = nn.Sequential(nn.Linear(key_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last)
        self.project = nn.Linear(key_dim, key_dim, bias=False)
        nn.init.eye_(self.project.weight)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> AdaptiveState:
        return AdaptiveState(
            torch.zeros(*batch_shape, self.slots, self.width, **self.like),
            torch.zeros(*batch_shape, 1, dtype=torch.int64, device=self.like["device"]),
        )

    def occupied(self, state: AdaptiveState) -> Tensor:
        return (torch.arange(self.slots, device=state.written.device) < state.written).to(state.memory.dtype)

    def write(self, state: AdaptiveState, keys: Tensor, values: Tensor) -> AdaptiveState:
        steps = torch.arange(keys.shape[-2], device=keys.device)
        slots = ((state.written + steps) % self.slots)[..., -self.slots :]
        rows = as_rows(unit_rows(keys), values)[..., -self.slots :, :]
        return AdaptiveState(place(state.memory, rows, slots), state.written + keys.shape[-2])

    def modulation(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Factor ``2 sigmoid(s) [..., Q, W]`` and bias ``b [..., Q, Dv]`` for unit queries ``keys [..., Q, Dk]``."""
        s, b = self.film(keys).split([self.width, self.value_dim], -1)
        return 2 * s.sigmoid(), b

    def weights(self, state: AdaptiveState, keys: Tensor) -> Tensor:
        keys = unit_rows(keys)
        return self._attend(state, keys, self.modulation(keys)[0])

    def _attend(self, state: AdaptiveState, keys: Tensor, factor: Tensor) -> Tensor:
        # A query against a rescaled key is the rescaled query against the key, so no rescaled copy of M is made.
        queries = self.project(keys) * factor[..., : self.key_dim]
        return softmax_weights(queries, state.memory[..., : self.key_dim], self.beta, self.occupied(state) > 0)

    def read(self, state: AdaptiveState, keys: Tensor) -> Tensor:
        keys = unit_rows(keys)
        factor, bias = self.modulation(keys)
        weights = self._attend(state, keys, factor)
        plain = weights @ state.memory[..., self.key_dim :]
        return plain * factor[..., self.key_dim :] + weights.sum(-1, keepdim=True) * bias
