"""Sequence models of torch by adapter, and some that only look like one, for tests of how they are taken."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memspec import adapt
from memspec.fixtures.plain import PlainSequence

LSTM, GRU, LSTMCell, GRUCell = (adapt(kind, kind="sequence") for kind in (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell))


class ChunkedLayer(nn.Module):
    """Called as layers of linear attention are: ``(xs [B, T, D], state or None) -> (ys, state)``, of one ``d_model``."""

    def __init__(self, d_model: int, decay: float = 0.9) -> None:
        super().__init__()
        self.project, self.decay = nn.Linear(d_model, 3 * d_model), decay

    def forward(self, xs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        queries, keys, values = self.project(xs).chunk(3, -1)
        state = xs.new_zeros(len(xs), xs.shape[-1], xs.shape[-1]) if state is None else state
        outputs = []
        for q, k, v in zip(queries.unbind(1), keys.unbind(1), values.unbind(1)):
            state = self.decay * state + k.unsqueeze(-1) * v.unsqueeze(-2)
            outputs.append((q.unsqueeze(-2) @ state).squeeze(-2))
        return torch.stack(outputs, 1), state


def chunked(input_size: int) -> Any:
    layer = ChunkedLayer(input_size)
    layer.input_size = input_size  # type: ignore[assignment]
    return layer


Chunked = adapt(chunked, kind="sequence")


class Wordless:
    """Has the methods, and says nowhere how wide its inputs are."""

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 3)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, state

    def run(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return xs, state


class StateOnly(PlainSequence):
    """Its step gives no state back."""

    def step(self, x: Tensor, state: Tensor) -> Any:
        return super().step(x, state)[0]


class OnlyEqual(PlainSequence):
    """Works only where input and state are equally wide."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(x + 0 * state, state)


class Plain:
    """A sum of what came, and no module."""

    input_size = 3

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 3)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return state + x, state + x

    def run(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        ys = state + xs.cumsum(0)
        return ys, ys[-1]
