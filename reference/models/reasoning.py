"""ReasoningNetwork: what is read is asked again, hop after hop, along a chain of stored pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memspec.networks.held import OPEN
from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named


class ReasoningNetwork(SequenceModel):
    """Every token writes a pair, then asks: ``u_0 = W_q e``, ``u_{n+1} = read(u_n) + W_u u_n``; ``y = W [e; u_hops]``.

    ``e = tanh(W_e x)``. With W_u = 0 a query goes along a chain: A -> B and B -> C stored, two hops lead from A to C.

    Args:
        input_size, hidden_size, output_size: widths of tokens, of e, and of outputs.
        memory_size, memory_dim: capacity, and width of keys and values.
        memory: any Functional memory: a name in :mod:`memspec.reference`, or what builds one.
        hops: at least 1.
        gates: False for memories whose state grows.

    Source: ReasoningNetwork in mwasifanwar/neural_memory_architectures; hops as in Sukhbaatar et al. 2015, "End-To-End Memory
    Networks", with H of its section 2.2 as W_u.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        hidden_size: Count,
        output_size: Count,
        memory_size: Count = 128,
        memory_dim: Count = 20,
        memory: Named = "DeltaMemory",
        hops: Count = 3,
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.hops = input_size, output_size, hops
        self.embed = nn.Linear(input_size, hidden_size)
        self.rows = nn.Linear(hidden_size, 3 * memory_dim, bias=False)
        self.gates = nn.Linear(hidden_size, 2) if gates else None
        if self.gates is not None:
            nn.init.constant_(self.gates.bias[1:], OPEN)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size)
        self.again = nn.Linear(memory_dim, memory_dim, bias=False)
        self.output = nn.Linear(hidden_size + memory_dim, output_size)

    def initial_state(self, batch: int) -> Any:
        return self.held.start(batch)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        embedded = torch.tanh(self.embed(x))
        query, key, value = self.rows(embedded).unflatten(-1, (3, 1, 1, -1)).unbind(1)
        step = left = None
        if self.gates is not None:
            step, left = self.gates(embedded).chunk(2, -1)
            step, left = step.sigmoid(), nn.functional.logsigmoid(left)
        state = self.held.write(state, key, value, step, left)
        for _ in range(self.hops):
            query = self.held.read(state, query) + self.again(query)
        return self.output(torch.cat((embedded, query.flatten(1)), -1)), state
