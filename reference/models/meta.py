"""MetaNetwork: a layer whose weights are corrected by those that a memory holds, made of the gradients of what was shown."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named


class MetaNetwork(SequenceModel):
    """``y = (W + W*) e`` with ``W* = read(W_q e)``; then ``write(W_k e, Z(dL/dW))`` for ``L = |W e - W_t x|^2 / 2``.

    ``e = tanh(W_e x)``. What a step shows is a pair: W_t x is the target that an input carries, and ``Z(g) = -eta g``, entry by
    entry, makes the fast weights of its gradient ``(W e - W_t x) e^T``. A step reads before it writes, so that it is
    answered by what was shown earlier.

    Args:
        input_size, hidden_size, output_size: widths of inputs, of e, and of outputs.
        memory_size, memory_dim: capacity, and width of keys; values are ``hidden_size output_size`` wide.
        memory: any Functional memory.
        rate: what every eta starts from.

    Source: Munkhdalai and Yu 2017, "Meta Networks", sections 3.1 and 3.2, with one layer and Z linear.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        hidden_size: Count,
        output_size: Count,
        memory_size: Count = 16,
        memory_dim: Count = 20,
        memory: Named = "SoftmaxMemory",
        rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        self.embed = nn.Linear(input_size, hidden_size)
        self.slow = nn.Linear(hidden_size, output_size, bias=False)
        self.target = nn.Linear(input_size, output_size, bias=False)
        self.rate = nn.Parameter(torch.full((output_size, hidden_size), rate))
        self.keys = nn.Linear(hidden_size, memory_dim, bias=False)
        self.queries = nn.Linear(hidden_size, memory_dim, bias=False)
        self.held = HeldMemory(memory, memory_dim, hidden_size * output_size, memory_size)

    def initial_state(self, batch: int) -> Any:
        return self.held.start(batch)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        embedded = torch.tanh(self.embed(x))
        slow = self.slow(embedded)
        fast = self.held.read(state, self.queries(embedded)[:, None, None]).view(len(x), *self.rate.shape)
        gradient = (slow - self.target(x)).unsqueeze(-1) * embedded.unsqueeze(-2)
        made = (-self.rate * gradient).flatten(1)[:, None, None]
        state = self.held.write(state, self.keys(embedded)[:, None, None], made, None, None)
        return slow + (fast @ embedded.unsqueeze(-1)).squeeze(-1), state
