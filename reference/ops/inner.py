"""Inner models that are trained as they are used: an MLP's forward pass and its gradient in closed form.

Closed, because autograd inside a write would fail under ``inference_mode`` and cost a graph; and because a sum of
per-row gradients with weights is then one matrix product a layer, without making the single gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from memspec.reference.ops.scan import momentum_weights

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


def joined_layers(layers: Iterable[Tensor], batch_shape: tuple[int, ...]) -> Tensor:
    """``[*batch_shape, P]``: a copy of the layers' weights for each memory of a batch, side by side."""
    return torch.cat([layer.flatten() for layer in layers]).expand(*batch_shape, -1).clone()


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


def weighted(pairs: Sequence[tuple[Tensor, Tensor]], weights: Tensor | None = None) -> Tensor:
    """``sum_j weights[j] grad_j``, flattened ``[..., P]``, of what :func:`backward` returns; weights ``[..., N]`` or 1."""
    rows = [(x if weights is None else x * weights[..., None], e) for x, e in pairs]
    return torch.cat([(x.mT @ e).flatten(-2) for x, e in rows], -1)


# ---- steps ----------------------------------------------------------------------------------------------------
# Weights lie flattened side by side, ``now`` and ``start`` ``[..., P]``; every row's gradient is taken at ``start``.


class Norm(NamedTuple):
    """A residual and a layer norm around a model, ``f(x) = x + scale LN(model(x)) + shift``; ``[Dv]`` or ``[..., 1, Dv]``."""

    scale: Tensor
    shift: Tensor


def answer(layers: Sequence[Tensor], rows: Tensor, bias: bool = False, norm: Norm | None = None) -> Tensor:
    """``f(rows)`` ``[..., N, Dv]``: the model, or with a ``norm`` its residual form."""
    out, _ = forward(layers, rows, bias)
    return out if norm is None else rows + standardised(out)[0] * norm.scale + norm.shift


def standardised(z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows brought to mean 0 and variance 1, and their deviations."""
    centred = z - z.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / deviation, deviation


def error_pairs(
    layers: Sequence[Tensor], keys: Tensor, values: Tensor, bias: bool = False, norm: Norm | None = None
) -> list[tuple[Tensor, Tensor]]:
    """What :func:`backward` returns for the loss ``|f(k) - v|^2 / 2`` of each row."""
    out, trace = forward(layers, keys, bias)
    if norm is None:
        return backward(layers, trace, out - values, bias)
    normed, deviation = standardised(out)
    g = (keys + normed * norm.scale + norm.shift - values) * norm.scale
    error = (g - g.mean(-1, keepdim=True) - normed * (g * normed).mean(-1, keepdim=True)) / deviation
    return backward(layers, trace, error, bias)


def descend(
    now: Tensor,
    start: Tensor,
    like: Iterable[Tensor],
    keys: Tensor,
    values: Tensor,
    step: Tensor | float,
    bias: bool = False,
    norm: Norm | None = None,
) -> Tensor:
    """Weights after a gradient step on ``|f(k) - v|^2 / 2`` for every row, each gradient at ``start`` (the dual form).

    Args:
        like: tensors of the layers' shapes.
        step: a number, or ``[..., N]``, one a row.

    Source: Sun et al. 2024, "Learning to (Learn at Test Time)", sections 2.2-2.7.
    """
    pairs = error_pairs(split_layers(start, like), keys, values, bias, norm)
    if isinstance(step, Tensor):
        return now - weighted(pairs, step)
    return now - step * weighted(pairs)


def descend_with_momentum(
    now: Tensor,
    start: Tensor,
    momentum: Tensor,
    like: Iterable[Tensor],
    keys: Tensor,
    values: Tensor,
    theta: Tensor | float,
    log_keep: Tensor,
    log_eta: Tensor,
    max_grad_norm: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``S <- eta S - theta grad |M(k) - v|^2``, ``M <- keep M + S`` for every row, each gradient at ``start``.

    Args:
        like: tensors of the layers' shapes.
        theta: a number, or ``[..., N]``, one a row.
        log_keep, log_eta: logarithms of what each row keeps of weights and momentum, ``[..., N]``.
        max_grad_norm: each row's gradient is scaled down to this norm; None: no limit.

    Returns:
        Weights and momentum ``[..., P]`` after the rows.

    Source: Behrouz, Zhong, Mirrokni 2025, "Titans: Learning to Memorize at Test Time", eqs. 8-15 and section 3.2.
    """
    act = momentum_weights(log_keep, log_eta)
    layers = split_layers(start, like)
    out, trace = forward(layers, keys)
    pairs = backward(layers, trace, 2 * (out - values))
    scale = _clipping(pairs, max_grad_norm)
    scale, theta = (scale * theta, 1.0) if isinstance(theta, Tensor) else (scale, theta)
    to_now = weighted(pairs, scale * act.gradient_to_weights)
    to_momentum = weighted(pairs, scale * act.gradient_to_momentum)
    kept, passed, left = (w[..., None] for w in act[:3])
    return kept * now + passed * momentum - theta * to_now, left * momentum - theta * to_momentum


def _clipping(pairs: list[tuple[Tensor, Tensor]], most: float | None) -> Tensor:
    """Factor ``[..., N]`` that brings each row's gradient to at most this norm."""
    if most is None:
        return torch.ones_like(pairs[0][0][..., 0])
    # The norm of an outer product is the product of the norms; hypot-like sums so that huge errors do not overflow.
    norms = torch.stack([_lengths(x) * _lengths(e) for x, e in pairs]).amax(0) * len(pairs) ** 0.5
    return most / norms.clamp_min(most)


def _lengths(rows: Tensor) -> Tensor:
    """``[..., N]`` of ``rows [..., N, D]``; that of a zero row is 0 with all its derivatives (of a norm, the second is NaN)."""
    if not rows.requires_grad:
        return rows.norm(dim=-1)
    zero = (rows == 0).all(-1, keepdim=True)
    return torch.where(zero[..., 0], 0.0, torch.where(zero, 1.0, rows).norm(dim=-1))


def adapted_answers(
    queries: Tensor,
    theta: Tensor,
    near: Tensor,
    values: Tensor,
    weights: Tensor,
    step: Tensor | float,
    steps: int,
    pull: Tensor | float,
) -> Tensor:
    """``q theta_x [..., Q, Dv]``, where a linear model theta is trained for each query on pairs of its own.

    ``steps`` of ``theta_x <- theta_x - step (sum_k w_k grad |h_k theta_x - v_k|^2 / 2 + pull (theta_x - theta))`` run in
    the span of the pairs, so that no copy of theta is made for a query.

    Args:
        queries: ``[..., Q, Dk]``.
        theta: ``[..., Dk, Dv]``.
        near, values: the k pairs of each query, ``[..., Q, k, Dk]`` and ``[..., Q, k, Dv]``.
        weights: of the pairs, ``[..., Q, k]``.
        step, pull: numbers, or ``[..., Q, 1, 1]``.

    Source: Sprechmann et al. 2018, "Memory-based Parameter Adaptation", eqs. 2-6.
    """
    base = near @ theta
    gram = near @ near.mT
    change = torch.zeros_like(values)  # theta_x = theta + near^T change
    for _ in range(steps):
        error = base + gram @ change - values
        change = change - step * (weights[..., None] * error + pull * change)
    return queries @ theta + ((near @ queries[..., None]) * change).sum(-2)
