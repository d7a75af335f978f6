"""NeuralTuringMachine and DifferentiableNeuralComputer: controllers that give their memories every gate these have."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import torch
from torch import Tensor, nn

from memspec.networks.controlled import ControlledState
from memspec.networks.controller import Controller, Kind
from memspec.networks.sequence import SequenceModel
from memspec.options import Count, Whole, checked
from memspec.reference.memories.dnc import DNCMemory
from memspec.reference.memories.ntm import NTMMemory

Width = Annotated[int, Whole(2, why="a row is a key and a value")]


class Native(Protocol):
    """A memory that a controller drives by all of its gates; see :class:`~memspec.reference.memories.ntm.NTMMemory`."""

    read_heads: int

    @property
    def width(self) -> int: ...

    @property
    def interface_size(self) -> int: ...

    def init_state(self, batch_shape: tuple[int, ...]) -> Any: ...

    def interface(self, raw: Tensor) -> Any: ...

    def step(self, gates: Any, state: Any) -> tuple[Tensor, Any]: ...


class NativeNetwork(SequenceModel):
    """``h_t = controller([x_t; r_{t-1}])``; ``r_t`` is what the memory's own step reads with the gates linear in h_t;
    ``y_t = W_h h_t + W_r r_t``.

    Args:
        memory: what the controller drives; its slow weights are weights of the network.
    """

    def __init__(self, input_size: int, output_size: int, hidden_size: int, memory: Native, controller: Kind) -> None:
        super().__init__()
        self.input_size, self.output_size, self.hidden_size = input_size, output_size, hidden_size
        self.memory = memory
        self.read_size = memory.read_heads * memory.width
        self.controller = Controller(input_size + self.read_size, hidden_size, controller)
        self.interface = nn.Linear(hidden_size, memory.interface_size)
        self.output = nn.Linear(hidden_size + self.read_size, output_size)

    def initial_state(self, batch: int) -> ControlledState:
        like = self.output.weight
        reads = like.new_zeros(batch, self.read_size)
        return ControlledState(self.controller.start(like, batch), self.memory.init_state((batch,)), reads)

    def step(self, x: Tensor, state: ControlledState) -> tuple[Tensor, ControlledState]:
        hidden, controller = self.controller(torch.cat((x, state.reads), -1), state.controller)
        raw = self.interface(hidden).to(self.output.weight.dtype)
        with torch.autocast(x.device.type, enabled=False):  # where a head points is no matter for half precision
            read, memory = self.memory.step(self.memory.interface(raw), state.memory)
        reads = read.flatten(1)
        return self.output(torch.cat((hidden, reads), -1)), ControlledState(controller, memory, reads)


class NeuralTuringMachine(NativeNetwork):
    """A controller over :class:`~memspec.reference.memories.ntm.NTMMemory`: content, interpolation, shift and sharpening.

    Args:
        input_size, output_size: widths of inputs and outputs.
        hidden_size: of the controller.
        memory_size, memory_dim: slots, and width of a row, at least 2.
        read_heads, write_heads, reach: of the memory.
        controller: ``lstm`` or ``feedforward``.

    Source: Graves, Wayne, Danihelka 2014, "Neural Turing Machines"; rows start at 1e-6 (Collier and Beel 2018).
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        output_size: Count,
        hidden_size: Count = 100,
        memory_size: Count = 128,
        memory_dim: Width = 20,
        read_heads: Count = 1,
        write_heads: Count = 1,
        reach: Annotated[int, Whole(1, "memory_size")] = 1,
        controller: Kind = "lstm",
    ) -> None:
        memory = NTMMemory(
            memory_dim - 1, 1, memory_size, read_heads=read_heads, write_heads=write_heads, reach=reach
        )  # its heads see whole rows, however they are divided
        super().__init__(input_size, output_size, hidden_size, memory, controller)


class DifferentiableNeuralComputer(NativeNetwork):
    """A controller over :class:`~memspec.reference.memories.dnc.DNCMemory`: content, allocation, and links in order of writing.

    Args:
        input_size, output_size, hidden_size, memory_size, memory_dim, controller: as of :class:`NeuralTuringMachine`.
        read_heads, write_heads, linkage, mask, deallocate: of the memory.

    Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory", Methods; masks and
    deallocation: Csordas and Schmidhuber 2019.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        output_size: Count,
        hidden_size: Count = 100,
        memory_size: Count = 128,
        memory_dim: Width = 20,
        read_heads: Count = 1,
        write_heads: Count = 1,
        linkage: bool = True,
        mask: bool = False,
        deallocate: bool = False,
        controller: Kind = "lstm",
    ) -> None:
        memory = DNCMemory(
            memory_dim - 1,
            1,
            memory_size,
            read_heads=read_heads,
            write_heads=write_heads,
            linkage=linkage,
            mask=mask,
            deallocate=deallocate,
        )
        super().__init__(input_size, output_size, hidden_size, memory, controller)
