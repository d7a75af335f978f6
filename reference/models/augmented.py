"""MemoryAugmentedNetwork: a controller with read and write heads over any Functional memory."""

from __future__ import annotations

from memspec.networks.controlled import ControlledMemory
from memspec.networks.controller import Kind
from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named


class MemoryAugmentedNetwork(ControlledMemory):
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
        held = HeldMemory(memory, memory_dim, memory_dim, memory_size)
        super().__init__(
            input_size,
            output_size,
            hidden_size,
            held,
            memory_dim,
            memory_dim,
            controller,
            read_heads,
            write_heads,
            gates,
        )
