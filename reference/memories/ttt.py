"""Test-time training: the memory is a model, a write is a gradient step on it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from memspec.functional import FunctionalMemory
from memspec.options import Count, Step, checked, refused
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops import inner
from memspec.reference.ops.rows import unit_rows


class TTTState(NamedTuple):
    """Weights now, weights when the current minibatch began, and the rows already in that minibatch.

    The layers lie flattened side by side in ``now`` and ``start`` ``[..., P]``; ``place [...]`` is in 0..minibatch-1.
    """

    now: Tensor
    start: Tensor
    place: Tensor


class TTTMemory(FunctionalMemory):
    """A linear model or an MLP trained by gradient descent on the pairs as they come (TTT-Linear, TTT-MLP).

    Rows are grouped into minibatches; within one, every gradient is taken at the weights the minibatch began with, so
    a whole minibatch is a few matrix products (the paper's dual form). The position in the minibatch is part of the
    state: splitting a batch over several updates changes nothing.

    ``bare``: f(k) = k W + b with loss |f(k) - v|^2 / 2. ``full``: f(x) = x + LN(x W + b), trained towards v (the
    paper's reconstruction target v - k inside the residual); needs key_dim = value_dim.

    The step of a row is ``lr / (minibatch |x|^2)`` with x the input of the output layer (a unit key, or the hidden
    vector), bias input included: the largest curvature of a linear model on b such rows is b |x|^2, so lr < 2 contracts
    whatever the keys are (b equal ones too).
    ``minibatch=1, lr=1, bias=False`` is the delta rule.

    Args:
        model: ``linear``, or ``mlp`` (one hidden layer of ``4 key_dim`` GELU units).
        lr: step of a whole minibatch of equal rows, in (0, 2).
        minibatch: rows whose gradients are taken at the same weights.
        mode: ``bare`` or ``full``.
        bias: learn biases too.
        hidden: width of the hidden layer; default ``4 key_dim``.

    Slow weights (Parameters): the initial weights (zero output layer in ``bare`` mode, N(0, .02) in ``full``), and the
    layer norm's scale and shift.

    Raises:
        ValueError: for an option outside its range.

    Source: Sun et al. 2024, "Learning to (Learn at Test Time): RNNs with Expressive Hidden States", sections 2.2-2.7.
    """

    spec = dataclasses.replace(SMOOTH, presentations=8, empty_read="none")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        model: Literal["linear", "mlp"] = "linear",
        lr: Step = 1.0,
        minibatch: Count = 16,
        mode: Literal["bare", "full"] = "bare",
        bias: bool = True,
        hidden: Count | None = None,
    ) -> None:
        super().__init__(key_dim, value_dim)
        if mode == "full" and key_dim != value_dim:
            raise refused(self, "value_dim", value_dim, f"key_dim = {key_dim} in mode 'full'", "it has a residual")
        self.model, self.lr, self.minibatch, self.mode, self.bias = model, lr, minibatch, mode, bias
        widths = [key_dim, value_dim] if model == "linear" else [key_dim, hidden or 4 * key_dim, value_dim]
        self.initial = nn.ParameterList(inner.initial_layers(widths, bias, 0.02 if mode == "full" else None))
        if mode == "bare":
            self.spec = dataclasses.replace(self.spec, empty_read="zeros")
        else:
            self.norm_scale = nn.Parameter(torch.ones(value_dim))
            self.norm_shift = nn.Parameter(torch.zeros(value_dim))

    # ---- state ------------------------------------------------------------------------------------------------

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> TTTState:
        flat = inner.joined_layers(self.initial, batch_shape)
        count = torch.zeros(batch_shape, dtype=torch.long, device=flat.device)
        return TTTState(flat, flat.clone(), count)

    @property
    def step(self) -> float:
        """Step of one row: ``lr`` over the largest curvature that a minibatch of equal unit keys has (at the start)."""
        last = 1.0 if self.model == "linear" else inner.hidden_square(self.initial[-1].shape[0] - self.bias)
        return self.lr / (self.minibatch * (last + self.bias))

    # ---- the three functions ----------------------------------------------------------------------------------

    def write(self, state: TTTState, keys: Tensor, values: Tensor) -> TTTState:
        keys = unit_rows(keys)
        counts = state.place.unique()
        if counts.numel() != 1:  # batched memories at different places of their minibatches: row by row
            for k, v in zip(keys.split(1, -2), values.split(1, -2)):
                state = self._row(state, k, v)
            return state
        now, start, count = state.now, state.start, int(counts)
        first = min(self.minibatch - count, keys.shape[-2])
        later = [self.minibatch] * ((keys.shape[-2] - first) // self.minibatch)
        sizes = [first, *later, keys.shape[-2] - first - sum(later)]
        for k, v in zip(keys.split(sizes, -2), values.split(sizes, -2)):
            if k.shape[-2] == 0:
                continue
            now = self._descended(now, start, k, v)
            count = (count + k.shape[-2]) % self.minibatch
            start = now if count == 0 else start
        return TTTState(now, start, torch.full_like(state.place, count))

    def _row(self, state: TTTState, key: Tensor, value: Tensor) -> TTTState:
        now = self._descended(state.now, state.start, key, value)
        count = (state.place + 1) % self.minibatch
        return TTTState(now, torch.where((count == 0)[..., None], now, state.start), count)

    def read(self, state: TTTState, keys: Tensor) -> Tensor:
        keys = unit_rows(keys)
        return inner.answer(inner.split_layers(state.now, self.initial), keys, self.bias, self.norm)

    def _descended(self, now: Tensor, start: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return inner.descend(now, start, self.initial, keys, values, self.step, self.bias, self.norm)

    @property
    def norm(self) -> inner.Norm | None:
        """The layer norm around the model, in ``full`` mode."""
        return None if self.mode == "bare" else inner.Norm(self.norm_scale, self.norm_shift)


def ttt_mlp(key_dim: int, value_dim: int, **options: Any) -> TTTMemory:
    """:class:`TTTMemory` with ``model="mlp"``."""
    return TTTMemory(key_dim, value_dim, model="mlp", **options)
