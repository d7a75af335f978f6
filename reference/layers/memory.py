"""MemoryLayer: tokens write to a memory as they pass, and read from it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named
from memspec.reference.layers.interface import Interface, by_head, silent


class MemoryLayer(SequenceModel):
    """``y_t = x_t + W_o read(M_t, q_t)``, ``M_t = write(M_{t-1}, k_t, v_t)``: q, k, v and gates are linear in ``LN x_t``.

    W_o starts at zero, and the layer as the identity, bit for bit. A token reads what it has just written itself; what
    comes later it never sees.

    Args:
        input_size: width of the tokens, and of the outputs.
        memory: any Functional memory: a name in :mod:`memspec.reference`, or what builds one.
        memory_dim: width of keys and values of each head.
        memory_size: capacity of each head's memory, where it has such a number.
        num_heads: independent memories.
        gates: each token has a step and a decay of its own; False for memories whose state grows.

    Source: MemoryLayer in mwasifanwar/neural_memory_architectures, whose write adds one vector to every slot, replaced by
    the memory's own; gates for each token as in Yang, Kautz, Hatamizadeh 2024, "Gated Delta Networks".
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        memory: Named = "DeltaMemory",
        memory_dim: Count = 32,
        memory_size: Count = 128,
        num_heads: Count = 1,
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.input_size = self.output_size = input_size
        self.norm = nn.LayerNorm(input_size)
        self.interface = Interface(input_size, num_heads, memory_dim, gates)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size, num_heads)
        self.output = silent(num_heads * memory_dim, input_size)

    def initial_state(self, batch: int) -> Any:
        return self.held.start(batch)

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
        answers, state = self.held.scan(state, *by_head(self.interface(self.norm(xs))))
        return xs + self.output(answers.permute(2, 0, 1, 3).flatten(-2)), state
