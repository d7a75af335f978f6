"""Titans: an MLP trained at test time with momentum (surprise) and weight decay (forgetting)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from memspec.functional import FunctionalMemory
from memspec.options import Count, NotNegative, Positive, Real, Share, checked
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops import inner
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.scan import log_share


class TitansState(NamedTuple):
    """Weights now, weights when the current chunk began, momentum (all ``[..., P]``), rows already in the chunk ``[...]``."""

    now: Tensor
    start: Tensor
    momentum: Tensor
    place: Tensor


class TitansMemory(FunctionalMemory):
    """``S <- eta S - theta grad |M(k) - v|^2``, ``M <- (1 - alpha) M + S``; read ``M(q)``, keys of length 1.

    Gradients are taken at the weights the current chunk began with, so that both recurrences are linear and a chunk is
    a few matrix products (their closed weights). The chunk size changes the function, not only the speed; the place in
    the chunk is part of the state, so splitting a batch over several updates changes nothing. In a network the three
    gates depend on the token; driven here they are constants.

    Args:
        depth: layers of the memory; 1 is linear (theta = 1/2, eta = alpha = 0, chunk 1 is then the delta rule).
        expansion: width of hidden layers, in key_dims.
        theta: step of one row. Default: ``(1 - eta) / (2 chunk |h|^2)`` with h the input of the output layer, so that a
            whole chunk of equal keys, its momentum rung out, moves the answer by one error: the largest step that does
            not overshoot.
        eta: momentum kept from row to row (past surprise), in [0, 1).
        alpha: weights forgotten at each row, in [0, 1].
        chunk: rows whose gradients are taken at the same weights.
        max_grad_norm: each row's gradient is scaled down to this norm; without it a deep memory diverges on huge
            values. None: no limit.

    Slow weights (Parameters): the initial memory, with a zero output layer (an all-zero MLP would have no gradient).

    Raises:
        ValueError: for an option outside its range.

    Source: Behrouz, Zhong, Mirrokni 2025, "Titans: Learning to Memorize at Test Time", eqs. 8-15 and section 3.2.
    """

    spec = dataclasses.replace(SMOOTH, presentations=8)

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        depth: Count = 2,
        expansion: Count = 2,
        theta: NotNegative | None = None,
        eta: Annotated[float, Real(least=0, below=1, why="momentum must fade")] = 0.5,
        alpha: Share = 0.0,
        chunk: Count = 16,
        max_grad_norm: Positive | None = 1e3,
    ) -> None:
        super().__init__(key_dim, value_dim)
        if theta is None:
            last = inner.hidden_square(expansion * key_dim) if depth > 1 else 1.0
            theta = (1 - eta) / (2 * chunk * last)
        self.depth, self.theta, self.eta, self.alpha = depth, theta, eta, alpha
        self.chunk, self.max_grad_norm = chunk, max_grad_norm
        widths = [key_dim, *[expansion * key_dim] * (depth - 1), value_dim]
        self.initial = nn.ParameterList(inner.initial_layers(widths, bias=False))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> TitansState:
        flat = inner.joined_layers(self.initial, batch_shape)
        count = torch.zeros(batch_shape, dtype=torch.long, device=flat.device)
        return TitansState(flat, flat.clone(), torch.zeros_like(flat), count)

    def write(self, state: TitansState, keys: Tensor, values: Tensor) -> TitansState:
        keys = unit_rows(keys)
        counts = state.place.unique()
        if counts.numel() != 1:  # batched memories at different places of their chunks: row by row
            for k, v in zip(keys.split(1, -2), values.split(1, -2)):
                state = self._advance(state, k, v)
            return state
        left = self.chunk - int(counts)
        while keys.shape[-2]:
            state = self._advance(state, keys[..., :left, :], values[..., :left, :])
            keys, values, left = keys[..., left:, :], values[..., left:, :], self.chunk
        return state

    def _advance(self, state: TitansState, keys: Tensor, values: Tensor) -> TitansState:
        """Rows of one chunk."""
        n = keys.shape[-2]
        full = keys.new_ones(n)
        now, momentum = inner.descend_with_momentum(
            state.now,
            state.start,
            state.momentum,
            self.initial,
            keys,
            values,
            self.theta,
            log_keep=full * log_share(1 - self.alpha),
            log_eta=full * log_share(self.eta),
            max_grad_norm=self.max_grad_norm,
        )
        count = (state.place + n) % self.chunk
        return TitansState(now, begun(count, now, state.start), momentum, count)

    def read(self, state: TitansState, keys: Tensor) -> Tensor:
        return inner.forward(inner.split_layers(state.now, self.initial), unit_rows(keys))[0]


def begun(count: Tensor, now: Tensor, start: Tensor) -> Tensor:
    """Weights that the current chunk began with: those of now where a chunk has just ended."""
    fresh = count == 0
    if bool(fresh.all()):
        return now
    return start if not bool(fresh.any()) else torch.where(fresh[..., None], now, start)
