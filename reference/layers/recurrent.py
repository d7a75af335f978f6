"""RecurrentMemoryLayer: a recurrent cell that writes to a memory and is told what it reads."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named
from memspec.reference.layers.interface import Interface, by_head, silent


class RecurrentMemoryState(NamedTuple):
    """``hidden [B, H]`` of the cell, ``answer [B, heads * memory_dim]`` read last, ``memory`` the memory's own state."""

    hidden: Tensor
    answer: Tensor
    memory: Any


class RecurrentMemoryLayer(SequenceModel):
    """``h_t = GRU(x_t + W_i r_{t-1}, h_{t-1})``; h_t writes to the memory and reads ``r_t`` from it; ``y_t = h_t + W_o r_t``.

    W_i and W_o start at zero, and the layer as the GRU cell alone, bit for bit.

    Args:
        input_size, hidden_size: widths of inputs and outputs.
        memory, memory_dim, memory_size, num_heads, gates: as of :class:`~memspec.reference.layers.memory.MemoryLayer`.

    Source: RecurrentMemoryLayer in mwasifanwar/neural_memory_architectures; the cell is that of Cho et al. 2014.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        hidden_size: Count,
        memory: Named = "DeltaMemory",
        memory_dim: Count = 32,
        memory_size: Count = 128,
        num_heads: Count = 1,
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.cell = nn.GRUCell(input_size, hidden_size)
        self.interface = Interface(hidden_size, num_heads, memory_dim, gates)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size, num_heads)
        self.told = silent(num_heads * memory_dim, input_size)
        self.output = silent(num_heads * memory_dim, hidden_size)

    def initial_state(self, batch: int) -> RecurrentMemoryState:
        weight = self.output.weight
        return RecurrentMemoryState(
            weight.new_zeros(batch, self.hidden_size), weight.new_zeros(batch, weight.shape[1]), self.held.start(batch)
        )

    def step(self, x: Tensor, state: RecurrentMemoryState) -> tuple[Tensor, RecurrentMemoryState]:
        hidden = self.cell(x + self.told(state.answer), state.hidden)
        answers, memory = self.held.scan(state.memory, *by_head(self.interface(hidden.unsqueeze(0))))
        answer = torch.flatten(answers, 1)
        return hidden + self.output(answer), RecurrentMemoryState(hidden, answer, memory)
