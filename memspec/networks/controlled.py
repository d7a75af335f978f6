"""A controller with read and write heads over any Functional memory: what a memory of three functions is trained behind."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memspec.networks.controller import Controller, Kind
from memspec.networks.held import OPEN, HeldMemory
from memspec.networks.sequence import SequenceModel


class ControlledState(NamedTuple):
    """``controller``'s own state, ``memory``'s own state, ``reads [B, R * Dv]`` of the step before."""

    controller: tuple[Tensor, ...]
    memory: Any
    reads: Tensor


class ControlledMemory(SequenceModel):
    """``h_t = controller([x_t; r_{t-1}])`` writes to the memory, then reads ``r_t``; ``y_t = W_h h_t + W_r r_t``.

    Each write head gives a key, a value, and how far the pair is written; each read head a query. The heads write one
    after another, after the memory has decayed by one gate of the step.

    Args:
        input_size, output_size: widths of inputs and outputs.
        hidden_size: of the controller.
        held: the memory, one head of it.
        key_dim, value_dim: its widths.
        controller: ``lstm`` or ``feedforward``.
        read_heads, write_heads: R and H.
        gates: False for memories whose state grows: everything is written in full, and kept.

    Source: the order of a step is that of Graves et al. 2014, "Neural Turing Machines".
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        held: HeldMemory,
        key_dim: int,
        value_dim: int,
        controller: Kind = "lstm",
        read_heads: int = 1,
        write_heads: int = 1,
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.hidden_size = input_size, output_size, hidden_size
        self.read_heads, self.write_heads, self.key_dim, self.value_dim = read_heads, write_heads, key_dim, value_dim
        self.controller = Controller(input_size + read_heads * value_dim, hidden_size, controller)
        self.queries = nn.Linear(hidden_size, read_heads * key_dim, bias=False)
        self.keys = nn.Linear(hidden_size, write_heads * key_dim, bias=False)
        self.values = nn.Linear(hidden_size, write_heads * value_dim, bias=False)
        self.gates = nn.Linear(hidden_size, write_heads + 1) if gates else None
        if self.gates is not None:
            nn.init.constant_(self.gates.bias[-1:], OPEN)
        self.held = held
        self.output = nn.Linear(hidden_size + read_heads * value_dim, output_size)

    def initial_state(self, batch: int) -> ControlledState:
        like = self.output.weight
        reads = like.new_zeros(batch, self.read_heads * self.value_dim)
        return ControlledState(self.controller.start(like, batch), self.held.start(batch), reads)

    def step(self, x: Tensor, state: ControlledState) -> tuple[Tensor, ControlledState]:
        hidden, controller = self.controller(torch.cat((x, state.reads), -1), state.controller)
        memory = self._written(state.memory, hidden)
        queries = self.queries(hidden).unflatten(-1, (1, self.read_heads, -1))
        reads = self.held.read(memory, queries).flatten(1)
        return self.output(torch.cat((hidden, reads), -1)), ControlledState(controller, memory, reads)

    def _written(self, memory: Any, hidden: Tensor) -> Any:
        """The memory's state after every write head has written its pair."""
        keys, values = (rows(hidden).unflatten(-1, (1, self.write_heads, -1)) for rows in (self.keys, self.values))
        gates = None if self.gates is None else self.gates(hidden)
        for head in range(self.write_heads):
            rows = slice(head, head + 1)
            step = None if gates is None else gates[:, rows].sigmoid()
            # one decay a step, before the first head writes
            left = None if gates is None or head else nn.functional.logsigmoid(gates[:, -1:])
            memory = self.held.write(memory, keys[..., rows, :], values[..., rows, :], step, left)
        return memory
