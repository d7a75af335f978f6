"""Elastic weight consolidation: what mattered to old tasks is held by springs as stiff as its Fisher information.

The penalty is ``strength / 2 * sum_t sum_i F_ti (theta_i - theta*_ti)^2``, with the one half of the paper. (Sources
that leave it out mean by lambda half of what is meant here.) Here is a memory whose wrapped memory learns under the penalty;
the penalty itself, and the Fisher matrix of any nn.Module, are in :mod:`memspec.training.elastic`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import Count, NotNegative, Positive, Share, checked, refused
from memspec.reference.ops.ring import RingState, append, empty_ring, in_use
from memspec.reference.wrappers.weights import GradientWrapper, Inner, Weights, answered, plain, recording
from memspec.training.elastic import Anchor, Merge, anchored, no_anchor, penalty, pulled

NUMBERS = 2**20
"""Numbers of per-example gradients held at once; measured: larger pieces leave the cache and take twice as long."""


# ---- any gradient memory --------------------------------------------------------------------------------------


def memory_fisher(
    memory: FunctionalMemory, weights: Weights, state: Any, seen: RingState, kind: Literal["true", "empirical"] = "true"
) -> Tensor:
    """Diagonal ``[..., P]`` of the Fisher matrix of a memory's weights, over the pairs in a ring.

    The value of a key is taken as normal around the answer, with variance 1. ``true``: ``mean_k sum_o (d f_o(k))^2``;
    ``empirical``: ``mean (d |f(k) - v|^2 / 2)^2`` with the values written. Memories that have seen nothing get zeros.
    """
    held = in_use(seen)
    at_once = max(1, NUMBERS // (weights.count * max(1, held[..., 0].numel())))
    total = torch.zeros_like(weights.of(state)).detach()
    with recording():
        parts = zip(*(t.split(at_once, -2) for t in (seen.keys, seen.values)), held.split(at_once, -1))
        for keys, values, used in parts:
            if not bool(used.any()):
                continue
            answers, own = answered(memory, weights, state, keys[..., None, :])
            answers = answers[..., 0, :]
            if kind == "true":
                scores = list(answers.unbind(-1))
            else:
                scores = [0.5 * (answers - plain(values)).square().sum(-1)]
            for i, score in enumerate(scores):
                (slope,) = torch.autograd.grad(score.sum(), own, retain_graph=i < len(scores) - 1)
                total = total + torch.where(used[..., None], slope.square(), 0.0).sum(-2)
    return total / held.sum(-1, keepdim=True).clamp_min(1)


class EWCState(NamedTuple):
    """The wrapped memory's state, the anchor of its weights, pairs seen since the last task ended, tasks ended ``[...]``."""

    inner: Any
    anchor: Anchor
    seen: RingState
    tasks: Tensor


class ElasticWeightConsolidation(GradientWrapper):
    """A gradient memory that learns new tasks under a penalty for leaving what old ones need.

    The wrapped memory learns as ever until :meth:`consolidate` ends a task. From then on each of its steps is followed
    by a step on ``strength / 2 * sum_t sum_i F_ti (theta_i - theta*_ti)^2`` (:func:`pulled`), so that what it settles
    in is a minimum of its loss plus the penalty; the one half is the paper's. F is the diagonal of the true Fisher
    matrix over the newest ``examples`` pairs of the task, with values normal around the answers.

    Steps are those the wrapped memory takes: rows one by one, or, where it takes one gradient for a call
    (``write="joint"``), calls.

    Args:
        memory: the wrapped memory: its name in ``memspec.reference``, or what builds one.
        strength: lambda; 1 weighs the mean loss of an old task as that of a new one.
        merge: ``sum``, one penalty a task, or ``online``, one around the latest weights; see :func:`anchored`.
        decay: share of earlier penalties left when a task ends.
        fisher: ``true``, or ``empirical`` (squared gradients of the loss at the values written).
        examples: pairs kept for it, the newest.
        step: size of the memory's own steps, which the penalty's are scaled by. Default: its ``step``, ``lr`` or
            ``theta``, else 1.

    Raises:
        ValueError: for an option outside its range, or a memory without weights.

    Source: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", eq. 3; ``online``:
    Schwarz et al. 2018, "Progress & Compress", section 3.2.
    """

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        memory: Inner = "TTTMemory",
        strength: NotNegative = 1.0,
        merge: Merge = "sum",
        decay: Share = 1.0,
        fisher: Literal["true", "empirical"] = "true",
        examples: Count = 64,
        step: Positive | None = None,
    ) -> None:
        super().__init__(key_dim, value_dim, memory)
        if step is None:
            own = (getattr(self.memory, name, None) for name in ("step", "lr", "theta"))
            step = next((float(s) for s in own if isinstance(s, (int, float))), 1.0)
        if not step > 0:
            raise refused(self, "step", step, "a number above 0", f"it is that of {type(self.memory).__name__}")
        self.strength, self.merge, self.decay, self.fisher = strength, merge, decay, fisher
        self.examples, self.step = examples, step

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> EWCState:
        inner = self.memory.init_state(batch_shape)
        anchor = no_anchor(self.weights.of(inner).detach())
        seen = empty_ring(batch_shape, self.examples, self.key_dim, self.value_dim, self.like)
        return EWCState(inner, anchor, seen, torch.zeros_like(seen.written))

    def write(self, state: EWCState, keys: Tensor, values: Tensor) -> EWCState:
        seen, inner = append(state.seen, keys.detach(), values.detach()), state.inner
        if not bool(state.tasks.any()):
            return state._replace(inner=self.memory.write(inner, keys, values), seen=seen)
        for k, v in self.rows(keys, values):
            inner = self.memory.write(inner, k, v)
            weights = pulled(state.anchor, self.weights.of(inner), self.step * self.strength)
            inner = self.weights.replace(inner, weights)
        return state._replace(inner=inner, seen=seen)

    def consolidated(self, state: EWCState) -> EWCState:
        """The state once a task has ended; the same where nothing has been written since the last one did."""
        fisher = memory_fisher(self.memory, self.weights, state.inner, state.seen, self.fisher)
        ended = state.seen.written > 0
        new = anchored(state.anchor, fisher, self.weights.of(state.inner), self.merge, self.decay)
        kept = (torch.where(_as(ended, n), n, o) for n, o in zip(new, state.anchor))
        seen = empty_ring(tuple(ended.shape), self.examples, self.key_dim, self.value_dim, self.like)
        return EWCState(state.inner, Anchor(*kept), seen, state.tasks + ended)

    def auxiliary_loss(self, keys: Tensor, values: Tensor) -> Tensor:
        """Mean over pairs of ``|r - v|^2 / 2``, plus the penalty (its mean over the memories of a batch)."""
        keys, values = self._checked(keys, "keys", self.key_dim), self._checked(values, "values", self.value_dim)
        loss = 0.5 * (self.read(self.state, keys) - values).square().sum(-1).mean()
        return loss + penalty(self.state.anchor, self.weights.of(self.state.inner), self.strength).mean()


def _as(mask: Tensor, tensor: Tensor) -> Tensor:
    """``mask [...]`` with as many dimensions as ``tensor [..., ?]``."""
    return mask if tensor.ndim == mask.ndim else mask[..., None]
