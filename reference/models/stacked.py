"""MemoryEnhancedRNN: recurrent layers, each with a memory of its own, one above the other."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import Named
from memspec.reference.layers.recurrent import RecurrentMemoryLayer


class MemoryEnhancedRNN(SequenceModel):
    """``num_layers`` of :class:`~memspec.reference.layers.recurrent.RecurrentMemoryLayer`, and a linear output.

    Until they are trained the memories are silent, and the network is a stack of GRU cells.

    Args:
        input_size, hidden_size, output_size: widths; every layer but the first takes ``hidden_size``.
        num_layers: at least 1.
        memory, memory_dim, memory_size, num_heads, gates: of every layer.

    Source: MemoryEnhancedRNN in mwasifanwar/neural_memory_architectures.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        hidden_size: Count,
        output_size: Count,
        num_layers: Count = 2,
        memory: Named = "DeltaMemory",
        memory_dim: Count = 32,
        memory_size: Count = 128,
        num_heads: Count = 1,
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(
            RecurrentMemoryLayer(width, hidden_size, memory, memory_dim, memory_size, num_heads, gates)
            for width in widths
        )
        self.output = nn.Linear(hidden_size, output_size)

    def initial_state(self, batch: int) -> tuple[Any, ...]:
        return tuple(layer.initial_state(batch) for layer in self.layers)  # type: ignore[operator]

    def run(self, xs: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        after = []
        for layer, own in zip(self.layers, state):
            xs, own = layer.run(xs, own)  # type: ignore[operator]
            after.append(own)
        return self.output(xs), tuple(after)
