"""What drives the heads of a memory: an LSTM cell, or a layer that remembers nothing itself."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["lstm", "feedforward"]


class Controller(nn.Module):
    """``(x [B, D], state) -> (h [B, hidden_size], state)``.

    Args:
        kind: ``lstm``, or ``feedforward``: ``tanh(W x + b)``, so that whatever is remembered is in the memory.
    """

    def __init__(self, width: int, hidden_size: int, kind: Kind) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.layer: nn.Module = nn.LSTMCell(width, hidden_size) if kind == "lstm" else nn.Linear(width, hidden_size)

    def start(self, like: Tensor, batch: int) -> tuple[Tensor, ...]:
        """The state of ``batch`` sequences; empty of a feed-forward controller."""
        if not isinstance(self.layer, nn.LSTMCell):
            return ()
        return tuple(like.new_zeros(batch, self.hidden_size) for _ in range(2))

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not isinstance(self.layer, nn.LSTMCell):
            return torch.tanh(self.layer(x)), ()
        hidden, cell = self.layer(x, state)
        return hidden, (hidden, cell)
