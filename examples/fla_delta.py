"""The delta rules of flash-linear-attention under the suite, as its own reference operations in torch compute them.

    pip install fla-core==0.6.0 triton==3.9.0
    pytest suites --memory=examples/fla_delta.py:Delta
    pytest suites --memory=examples/fla_delta.py:GatedDelta

The kernels need a GPU; ``naive`` is what their authors test them against. Both read a query scaled by 1/sqrt(d), which
is taken back here. ``GatedDelta`` writes with the chunked form, ``Delta`` with the recurrent one, which takes a state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from fla.ops.delta_rule.naive import delta_rule_recurrence
from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule
from torch import Tensor
from torch.nn.functional import normalize

from memspec import FunctionalMemory, MemorySpec

DECAY = 0.99


class State(NamedTuple):
    """``[..., Dk, Dv]``: one head."""

    matrix: Tensor


class Delta(FunctionalMemory):
    """``fla.ops.delta_rule``: keys of length one and a step of one, so that the newest pair is always exact."""

    spec = MemorySpec(
        family="delta",
        beta=1.0,
        key_domain="unit",
        write="sequential",
        overwrite="replace",
        empty_read="zeros",
        constant_state=True,
        deterministic=True,
    )

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        return State(torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like))

    def write(self, state: State, keys: Tensor, values: Tensor) -> State:
        keys, values, matrix = (self._heads(t) for t in (normalize(keys, dim=-1), values, state.matrix))
        _, after = delta_rule_recurrence(keys, keys, values, torch.ones_like(keys[..., 0]), matrix)
        return State(after.reshape(state.matrix.shape).to(state.matrix))

    def read(self, state: State, keys: Tensor) -> Tensor:
        return normalize(keys, dim=-1) @ state.matrix

    @staticmethod
    def _heads(rows: Tensor) -> Tensor:
        """``[..., N, D] -> [B, 1, N, D]``: one head, whatever the leading dimensions."""
        return rows.reshape(-1, 1, *rows.shape[-2:])


class GatedDelta(Delta):
    """``fla.ops.gated_delta_rule``: before each pair, all that is held decays by one hundredth."""

    spec = MemorySpec(
        key_domain="unit", write="sequential", empty_read="zeros", constant_state=True, deterministic=True
    )

    def write(self, state: State, keys: Tensor, values: Tensor) -> State:
        keys, values, matrix = (self._heads(t) for t in (normalize(keys, dim=-1), values, state.matrix))
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)  # [B, N, 1, D]
        ones = torch.ones_like(keys[..., 0])
        gate = ones * torch.tensor(DECAY).log()
        _, after = naive_chunk_gated_delta_rule(
            keys, keys, values, gate, ones, chunk_size=16, initial_state=matrix, output_final_state=True
        )
        return State(after.reshape(state.matrix.shape).to(state.matrix))
