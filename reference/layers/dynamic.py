"""DynamicMemoryLayer: a memory layer whose store allocates, grows, evicts, and frees what nobody has used for long."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, Positive, PositiveCosine, PositiveShare, Real, Share, checked
from memspec.reference.layers.held import HeldMemory
from memspec.reference.layers.interface import Interface, by_head, silent
from memspec.reference.memories.dynamic import DynamicMemory, DynamicState, resized


class DynamicMemoryLayer(SequenceModel):
    """``y_t = x_t + W_o read(M_t, q_t)`` over a :class:`~memspec.reference.memories.dynamic.DynamicMemory`.

    Each token merges with the slot whose key it matches, or takes a free slot, or that of the lowest usage; how far it
    counts is a gate on its value, since a slot is taken whole or not at all. The store doubles as tokens come, whatever
    they are, so that no sequence of a batch sets the size of another's; every ``collect`` tokens slots whose usage has
    sunk below the threshold are freed. W_o starts at zero, and the layer as the identity, bit for bit.

    Args:
        input_size: width of the tokens, and of the outputs.
        memory_dim: width of keys and values.
        memory_size: slots that the store may grow to.
        initial_size: slots to begin with.
        num_heads: independent stores.
        collect: tokens from one collection of unused slots to the next.
        retention, threshold, match, blend, beta: of the store.

    Source: DynamicMemoryLayer in mwasifanwar/neural_memory_architectures, which fails at its first growth and neither
    allocates nor collects; the rules are those of DynamicMemory.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        memory_dim: Count = 32,
        memory_size: Count = 128,
        initial_size: Count = 4,
        num_heads: Count = 1,
        collect: Count = 16,
        retention: Annotated[float, Real(above=0, below=1)] = 0.95,
        threshold: Share = 0.1,
        match: PositiveCosine = 0.95,
        blend: PositiveShare = 0.5,
        beta: Positive = 16.0,
    ) -> None:
        super().__init__()
        self.input_size = self.output_size = input_size
        self.collect = collect

        def store(key_dim: int, value_dim: int, capacity: int) -> DynamicMemory:
            return DynamicMemory(
                key_dim, value_dim, capacity, initial_size, retention, threshold, match, blend, "softmax", beta
            )

        self.norm = nn.LayerNorm(input_size)
        self.interface = Interface(input_size, num_heads, memory_dim, gates=False)
        self.gate = nn.Linear(input_size, num_heads)
        self.held = HeldMemory(store, memory_dim, memory_dim, memory_size, num_heads)
        self.output = silent(num_heads * memory_dim, input_size)

    def initial_state(self, batch: int) -> DynamicState:
        state: DynamicState = self.held.start(batch)
        return state

    def step(self, x: Tensor, state: DynamicState) -> tuple[Tensor, DynamicState]:
        store = self.held.memory
        assert isinstance(store, DynamicMemory)
        token = self.norm(x)
        queries, keys, values, _, _ = by_head(self.interface(token.unsqueeze(0)))
        values = values * self.gate(token).sigmoid()[..., None, None]
        after = int(state.clock.max()) + 1
        size = store.initial_slots
        while size < min(after, store.most):
            size = min(2 * size, store.most)
        state = store.write(resized(state, max(size, state.keys.shape[-2])), keys, values)
        answers = store.read(state, queries)
        if after % self.collect == 0:
            state = store.collected(state)
        return x + self.output(answers.flatten(1)), state
