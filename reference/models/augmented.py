"""MemoryAugmentedNetwork: a controller with read and write heads over any Functional memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named
from memspec.reference.layers.interface import OPEN
from memspec.reference.layers.sequence import SequenceModel
from memspec.reference.models.controller import Controller, Kind


class ControlledState(NamedTuple):
    """``controller``'s own state, ``memory``'s own state, ``reads [B, R * W]`` of the step before."""

    controller: tuple[Tensor, ...]
    memory: Any
    reads: Tensor


class MemoryAugmentedNetwork(SequenceModel):
    """``h_t = controller([x_t; r_{t-1}])`` writes to the memory, then reads ``r_t``; ``y_t = W_h h_t + W_r r_t``.

    Each write head gives a key, a value, and how far the pair is written; each read head a query. The heads write one
    after another, after the memory has decayed by one gate of the step.

    Args:
        input_size, output_size: widths of inputs and outputs.
        hidden_size: of the controller.
        memory_size, memory_dim: capacity, and width of keys and values.
        memory: any Functional memory: a name in :mod:`memspec.reference`, or what builds one.
        controller: ``lstm`` or ``feedforward``.
        read_heads, write_heads: R and H.
        gates: False for memories whose state grows: everything is written in full, and kept.

    Source: MemoryAugmentedNetwork in mwasifanwar/neural_memory_architectures; the order of a step is that of Graves et al.
    2014, "Neural Turing Machines".
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        output_size: Count,
        hidden_size: Count = 100,
        memory_size: Count = 128,
        memory_dim: Count = 20,
        memory: Named = "DeltaMemory",
        controller: Kind = "lstm",
        read_heads: Count = 1,
        write_heads: Count = 1,
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.hidden_size = input_size, output_size, hidden_size
        self.read_heads, self.write_heads, self.memory_dim = read_heads, write_heads, memory_dim
        self.controller = Controller(input_size + read_heads * memory_dim, hidden_size, controller)
        self.queries = nn.Linear(hidden_size, read_heads * memory_dim, bias=False)
        self.pairs = nn.Linear(hidden_size, 2 * write_heads * memory_dim, bias=False)
        self.gates = nn.Linear(hidden_size, write_heads + 1) if gates else None
        if self.gates is not None:
            nn.init.constant_(self.gates.bias[-1:], OPEN)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size)
        self.output = nn.Linear(hidden_size + read_heads * memory_dim, output_size)

    def initial_state(self, batch: int) -> ControlledState:
        like = self.output.weight
        reads = like.new_zeros(batch, self.read_heads * self.memory_dim)
        return ControlledState(self.controller.start(like, batch), self.held.start(batch), reads)

    def step(self, x: Tensor, state: ControlledState) -> tuple[Tensor, ControlledState]:
        hidden, controller = self.controller(torch.cat((x, state.reads), -1), state.controller)
        memory = self._written(state.memory, hidden)
        queries = self.queries(hidden).unflatten(-1, (1, self.read_heads, -1))
        reads = self.held.read(memory, queries).flatten(1)
        return self.output(torch.cat((hidden, reads), -1)), ControlledState(controller, memory, reads)

    def _written(self, memory: Any, hidden: Tensor) -> Any:
        """The memory's state after every write head has written its pair."""
        keys, values = self.pairs(hidden).unflatten(-1, (2, 1, self.write_heads, -1)).unbind(1)
        gates = None if self.gates is None else self.gates(hidden)
        for head in range(self.write_heads):
            rows = slice(head, head + 1)
            step = None if gates is None else gates[:, rows].sigmoid()
            # one decay a step, before the first head writes
            left = None if gates is None or head else nn.functional.logsigmoid(gates[:, -1:])
            memory = self.held.write(memory, keys[..., rows, :], values[..., rows, :], step, left)
        return memory
