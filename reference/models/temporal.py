"""TemporalMemoryModel: several memories of the same things, which forget at different rates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memspec.networks.controlled import ControlledState
from memspec.networks.controller import Controller, Kind
from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked, refused
from memspec.reference.layers.held import HeldMemory, Named


class TemporalMemoryModel(SequenceModel):
    """As a MemoryAugmentedNetwork with a memory for each time scale: of what is written, ``exp(-n / scale)`` is left n steps later.

    All are written the same pair and asked the same query; what they answer goes side by side to the controller and to
    the output.

    Args:
        input_size, hidden_size, output_size: widths.
        memory_size, memory_dim: capacity, and width of keys and values, of each memory.
        memory: any Functional memory whose state does not grow.
        scales: in steps, each above 0.
        controller: ``lstm`` or ``feedforward``.

    Raises:
        ValueError: for no scale, or one that is not above 0.

    Source: TemporalMemoryModel in mwasifanwar/neural_memory_architectures; leaky memories of several time constants as in
    Mozer 1992, "Induction of Multiscale Temporal Structure".
    """

    rates: Tensor

    @checked
    def __init__(
        self,
        input_size: Count,
        hidden_size: Count,
        output_size: Count,
        memory_size: Count = 128,
        memory_dim: Count = 20,
        memory: Named = "DeltaMemory",
        scales: tuple[float, ...] = (4.0, 16.0, 64.0),
        controller: Kind = "lstm",
    ) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise refused(self, "scales", scales, "one or more numbers above 0")
        self.input_size, self.output_size = input_size, output_size
        self.scales, self.memory_dim = len(scales), memory_dim
        self.register_buffer("rates", -1 / torch.tensor(scales))
        self.controller = Controller(input_size + self.scales * memory_dim, hidden_size, controller)
        self.rows = nn.Linear(hidden_size, 3 * memory_dim, bias=False)
        self.gate = nn.Linear(hidden_size, 1)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size, self.scales)
        self.output = nn.Linear(hidden_size + self.scales * memory_dim, output_size)

    def initial_state(self, batch: int) -> ControlledState:
        like = self.output.weight
        reads = like.new_zeros(batch, self.scales * self.memory_dim)
        return ControlledState(self.controller.start(like, batch), self.held.start(batch), reads)

    def step(self, x: Tensor, state: ControlledState) -> tuple[Tensor, ControlledState]:
        hidden, controller = self.controller(torch.cat((x, state.reads), -1), state.controller)
        rows = self.rows(hidden).unflatten(-1, (3, 1, 1, -1)).expand(-1, -1, self.scales, -1, -1)
        query, key, value = rows.unbind(1)
        share = self.gate(hidden).sigmoid().expand(-1, self.scales)
        memory: Any = self.held.write(state.memory, key, value, share, self.rates.expand(len(x), -1))
        reads = self.held.read(memory, query).flatten(1)
        return self.output(torch.cat((hidden, reads), -1)), ControlledState(controller, memory, reads)
