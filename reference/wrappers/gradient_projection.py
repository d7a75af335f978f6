"""Gradient episodic memory: steps that would raise the loss on remembered tasks are turned until they do not.

Here is a memory whose wrapped memory takes projected steps; the projections are in :mod:`memspec.training.projection`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, NotNegative, checked
from memspec.reference.ops.ring import RingState, append, empty_ring
from memspec.reference.wrappers.weights import GradientWrapper, Inner, answered, plain, recording
from memspec.training.projection import Method, project_all, project_one

# ---- any gradient memory --------------------------------------------------------------------------------------


class GEMState(NamedTuple):
    """The wrapped memory's state, the pairs of the current task, and those of the newest tasks that have ended.

    ``keys [..., T, R, Dk]``, ``values [..., T, R, Dv]``, ``held [..., T]`` pairs there, ``tasks [...]`` ended (int64).
    """

    inner: Any
    current: RingState
    keys: Tensor
    values: Tensor
    held: Tensor
    tasks: Tensor


class GradientEpisodicMemory(GradientWrapper):
    """A gradient memory whose steps never, to first order, raise its loss on remembered pairs of old tasks.

    The wrapped memory learns as ever until :meth:`consolidate` ends a task. From then on each step it would take is
    replaced by the nearest one along which ``mean |f(k) - v|^2 / 2`` over the pairs kept of each old task does not grow
    (GEM), or of all of them together (A-GEM). For plain gradient descent the step is the gradient times the learning
    rate, so this is the projection of the gradient; with momentum or Adam it is the step itself that is projected.
    Steps are those the wrapped memory takes: rows one by one, or, where it takes one gradient for a call
    (``write="joint"``), calls. Kept pairs are data: no gradient flows to them.

    Args:
        memory: the wrapped memory: its name in ``memspec.reference``, or what builds one.
        method: ``gem``, or ``a-gem``.
        tasks: how many ended tasks are remembered, the newest.
        examples: pairs kept of each, the newest.
        margin, ridge: of the dual problem; see :func:`project_all`. The margin is in units of the step.

    Raises:
        ValueError: for an option outside its range, or a memory without weights.

    Source: Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning"; ``a-gem``: Chaudhry et al.
    2019, "Efficient Lifelong Learning with A-GEM" (all kept pairs in place of a random batch of them).
    """

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        memory: Inner = "TTTMemory",
        method: Method = "gem",
        tasks: Count = 4,
        examples: Count = 64,
        margin: NotNegative = 0.0,
        ridge: NotNegative = 0.0,
    ) -> None:
        super().__init__(key_dim, value_dim, memory)
        self.method, self.tasks, self.examples, self.margin, self.ridge = method, tasks, examples, margin, ridge

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> GEMState:
        current = empty_ring(batch_shape, self.examples, self.key_dim, self.value_dim, self.like)
        kept = (*batch_shape, self.tasks, self.examples)
        return GEMState(
            self.memory.init_state(batch_shape),
            current,
            torch.zeros(*kept, self.key_dim, **self.like),
            torch.zeros(*kept, self.value_dim, **self.like),
            torch.zeros(*batch_shape, self.tasks, dtype=torch.int64, device=self.like["device"]),
            torch.zeros_like(current.written),
        )

    def write(self, state: GEMState, keys: Tensor, values: Tensor) -> GEMState:
        current, inner = append(state.current, keys.detach(), values.detach()), state.inner
        if not bool(state.tasks.any()):
            return state._replace(inner=self.memory.write(inner, keys, values), current=current)
        for k, v in self.rows(keys, values):
            stepped = self.memory.write(inner, k, v)
            before, after = self.weights.of(inner), self.weights.of(stepped)
            step = before - after
            allowed = self.project(step, self.references(state._replace(inner=inner)))
            # Where nothing was in the way the step is the memory's own, bit for bit.
            turned = (allowed != step).any(-1, keepdim=True)
            inner = self.weights.replace(stepped, torch.where(turned, before - allowed, after))
        return state._replace(inner=inner, current=current)

    def project(self, gradient: Tensor, references: Tensor) -> Tensor:
        """``gradient [..., P]`` turned until no product with ``references [..., T, P]`` is negative."""
        if self.method == "a-gem":
            return project_one(gradient, references[..., 0, :], self.margin, self.ridge)
        return project_all(gradient, references, self.margin, self.ridge)

    def references(self, state: GEMState) -> Tensor:
        """Gradients of the loss on each remembered task (A-GEM: on all together), ``[..., T or 1, P]``, at the weights now."""
        keys, values = state.keys, state.values
        held = torch.arange(self.examples, device=keys.device) < state.held[..., None]
        if self.method == "a-gem":
            keys, values, held = (
                t.flatten(len(state.tasks.shape), -1 - d) for t, d in ((keys, 1), (values, 1), (held, 0))
            )
            keys, values, held = keys[..., None, :, :], values[..., None, :, :], held[..., None, :]
        share = held.to(keys.dtype)
        share = share / share.sum(-1, keepdim=True).clamp_min(1)
        through = torch.is_grad_enabled() and self.weights.of(state.inner).requires_grad
        with recording():
            answers, own = answered(self.memory, self.weights, state.inner, keys)
            loss = (0.5 * (answers - plain(values)).square().sum(-1) * plain(share)).sum()
            (slopes,) = torch.autograd.grad(loss, own, create_graph=through)
        return slopes

    def consolidated(self, state: GEMState) -> GEMState:
        """The state once a task has ended; the same where nothing has been written since the last one did."""
        ended = state.current.written > 0
        place = torch.arange(self.tasks, device=ended.device)
        here = ended[..., None] & (place == (state.tasks % self.tasks)[..., None])
        count = state.current.written.clamp_max(self.examples)
        return GEMState(
            state.inner,
            empty_ring(tuple(ended.shape), self.examples, self.key_dim, self.value_dim, self.like),
            torch.where(here[..., None, None], state.current.keys[..., None, :, :], state.keys),
            torch.where(here[..., None, None], state.current.values[..., None, :, :], state.values),
            torch.where(here, count[..., None], state.held),
            state.tasks + ended,
        )
