"""What stands around a model in a task: how inputs become as wide as it takes, and its outputs what is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel


class Fitted(SequenceModel):
    """``outward(model(inward(x)))``.

    Args:
        model: what has initial_state, step and run; a module's weights are weights of this.
        inward: from inputs of the task ``[..., Dx]``, or tokens ``[...]``, to those of the model.
        outward: from outputs of the model to those of the task.
    """

    def __init__(self, model: Any, inward: nn.Module, outward: nn.Module) -> None:
        super().__init__()
        self.model, self.inward, self.outward = model, inward, outward

    def initial_state(self, batch: int) -> Any:
        return self.model.initial_state(batch)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.model.step(self.inward(x), state)
        return self.outward(y), state

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
        ys, state = self.model.run(self.inward(xs), state)
        return self.outward(ys), state


class PlacedReadout(SequenceModel):
    """Everything from the last output: ``y_t = W_2 relu(W_1 (h_T + p_t))``, with a learnt vector p_t for every place.

    What is not in the last output is lost. A run takes a whole sequence; there is nothing that one step could put out.

    Args:
        model: gives outputs ``width`` wide.
        places: T, steps at most.
        outputs: width of what is put out for each place.

    Source: the decoder of the compression task in MAD (Poli et al. 2024, section 3).
    """

    def __init__(self, model: SequenceModel, width: int, places: int, outputs: int) -> None:
        super().__init__()
        self.model = model
        self.places = nn.Parameter(torch.randn(places, width) * width**-0.5)
        self.decoder = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, outputs))

    def initial_state(self, batch: int) -> Any:
        return self.model.initial_state(batch)

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
        ys, state = self.model.run(xs, state)
        return self.decoder(ys[-1] + self.places[: len(xs), None]), state


class LSTMBaseline(SequenceModel):
    """An LSTM and a linear map of its hidden state: what a memory is compared with.

    Args:
        input_size, output_size: widths.
        parameters: how many it is to have; its hidden state is as wide as comes nearest.
    """

    def __init__(self, input_size: int, output_size: int, parameters: int) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        self.hidden_size = min(range(1, 2049), key=lambda size: abs(self._count(size) - parameters))
        self.cell = nn.LSTM(input_size, self.hidden_size)
        self.output = nn.Linear(self.hidden_size, output_size)

    def _count(self, size: int) -> int:
        """Parameters at this width."""
        return 4 * size * (self.input_size + size + 2) + (size + 1) * self.output_size

    def initial_state(self, batch: int) -> Any:
        return tuple(self.output.weight.new_zeros(1, batch, self.hidden_size) for _ in range(2))

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
        ys, state = self.cell(xs, state)
        return self.output(ys), state
