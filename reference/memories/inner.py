"""Inner models that are trained as they are used: an MLP's forward pass and its gradient in closed form.

Closed, because autograd inside a write would fail under ``inference_mode`` and cost a graph; and because a sum of
per-row gradients with weights is then one matrix product a layer, without making the single gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

HIDDEN_DEVIATION = 0.5
GELU_SQUARE = 0.0835
"""E[gelu(z)^2] for z of deviation 1/2 (tested against quadrature)."""


def initial_layers(widths: Sequence[int], bias: bool, deviation: float | None = None) -> list[Tensor]:
    """One matrix ``[in (+ 1), out]`` a layer; the bias row, if there is one, is zero.

    Args:
        deviation: standard deviation of every layer. None: a zero output layer (a fresh memory answers zeros, and
            still has a gradient) over hidden layers whose pre-activations have deviation 1/2 for unit inputs.

    With hidden vectors this long, :func:`hidden_square`, the curvature of the loss stays near |h|^2: what the layers
    below add, of order (|v| / |h|)^2 / 4, would otherwise dominate it once values of length 8 are stored, and steps
    that were stable at first would diverge.
    """
    layers = []
    length = 1.0
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        if deviation is not None:
            weight = deviation * torch.randn(fan_in, fan_out)
        elif i == len(widths) - 2:
            weight = torch.zeros(fan_in, fan_out)
        else:
            weight = torch.randn(fan_in, fan_out) * HIDDEN_DEVIATION / length
            length = math.sqrt(hidden_square(fan_out))
        layers.append(torch.cat((weight, torch.zeros(1, fan_out))) if bias else weight)
    return layers


def hidden_square(width: int) -> float:
    """Mean squared length of a hidden layer of this width, as :func:`initial_layers` scales it for unit inputs."""
    return width * GELU_SQUARE


def split_layers(flat: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """Views ``[..., in, out]`` of weights that lie side by side in ``flat [..., P]``."""
    shapes = [p.shape for p in like]
    return [w.unflatten(-1, shape) for w, shape in zip(flat.split([s.numel() for s in shapes], -1), shapes)]


def forward(layers: Sequence[Tensor], x: Tensor, bias: bool = False) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Output ``[..., N, out]`` for rows ``x [..., N, in]``, GELU between layers; and each layer's (input, pre-activation)."""
    trace = []
    for i, layer in enumerate(layers):
        x = torch.cat((x, torch.ones_like(x[..., :1])), -1) if bias else x
        z = x @ layer
        trace.append((x, z))
        x = F.gelu(z) if i < len(layers) - 1 else z
    return x, trace


def backward(
    layers: Sequence[Tensor], trace: Sequence[tuple[Tensor, Tensor]], error: Tensor, bias: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """For each layer the (input, error) rows whose outer products are the rows' gradients.

    Args:
        error: ``[..., N, out]``, gradient of each row's loss by the model's output.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    for i in reversed(range(len(layers))):
        pairs.insert(0, (trace[i][0], error))
        if i:
            back = error @ layers[i].mT
            error = (back[..., :-1] if bias else back) * gelu_slope(trace[i - 1][1])
    return pairs


def gelu_slope(z: Tensor) -> Tensor:
    """Derivative of the exact GELU."""
    return 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
