"""SequenceModel: what networks over sequences have in common, the three methods of a Recurrent plug and ``forward``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SequenceModel(nn.Module):
    """A network over sequences: ``T`` steps, ``B`` sequences, ``Dx`` inputs and ``Dy`` outputs wide.

    A subclass writes :meth:`initial_state` and one of :meth:`step` and :meth:`run`, each of which is made of the other.
    State is a nest of tensors that no call changes.

    Attributes:
        input_size: Dx.
    """

    input_size: int

    def initial_state(self, batch: int) -> Any:
        """The state of ``batch`` sequences before their first step."""
        raise NotImplementedError

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """``x [B, Dx]`` -> outputs ``[B, Dy]`` and the next state."""
        ys, state = self.run(x.unsqueeze(0), state)
        return ys.squeeze(0), state

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """``xs [T, B, Dx]``, at least one step, -> outputs ``[T, B, Dy]`` and the state after them."""
        ys = []
        for x in xs.unbind(0):
            y, state = self.step(x, state)
            ys.append(y)
        return torch.stack(ys), state

    def forward(self, xs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As :meth:`run`; without a state from the first step on."""
        return self.run(xs, self.initial_state(xs.shape[1]) if state is None else state)
