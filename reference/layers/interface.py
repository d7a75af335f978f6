"""What a network tells a memory of each token: keys, values, queries, how far it is written, how much is left."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from memspec.networks.held import OPEN


class Asked(NamedTuple):
    """``queries``, ``keys``, ``values [..., H, D]`` of every token; ``step [..., H]`` in (0, 1), ``log_decay [..., H]`` <= 0."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    step: Tensor | None
    log_decay: Tensor | None


class Interface(nn.Module):
    """Linear maps from tokens ``[..., D]`` to what H memories of width ``memory_dim`` are asked.

    Args:
        gates: whether tokens have a step and a decay of their own; else everything is written in full, and kept.
    """

    def __init__(self, width: int, heads: int, memory_dim: int, gates: bool = True) -> None:
        super().__init__()
        self.heads, self.memory_dim, self.gated = heads, memory_dim, gates
        # without biases: to a softmax over slots one of the keys would say nothing
        self.rows = nn.Linear(width, 3 * heads * memory_dim, bias=False)
        if gates:
            self.gates = nn.Linear(width, 2 * heads)
            nn.init.zeros_(self.gates.bias)
            nn.init.constant_(self.gates.bias[heads:], OPEN)

    def forward(self, tokens: Tensor) -> Asked:
        queries, keys, values = self.rows(tokens).unflatten(-1, (3, self.heads, self.memory_dim)).unbind(-3)
        if not self.gated:
            return Asked(queries, keys, values, None, None)
        step, left = self.gates(tokens).chunk(2, -1)
        return Asked(queries, keys, values, step.sigmoid(), F.logsigmoid(left))


def by_head(asked: Asked) -> Asked:
    """From tokens ``[T, B, H, ...]`` to what memories take, ``[B, H, T, ...]``."""
    rows = (part.permute(1, 2, 0, 3) for part in asked[:3])
    gates = (None if part is None else part.permute(1, 2, 0) for part in asked[3:])
    return Asked(*rows, *gates)


def silent(width: int, output: int) -> nn.Linear:
    """A linear map that starts at zero."""
    linear = nn.Linear(width, output)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
