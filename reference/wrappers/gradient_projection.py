"""Gradient episodic memory: steps that would raise the loss on remembered tasks are turned until they do not.

Here are the projections of any gradient (GEM against every task, A-GEM against their mean), a function that applies
them to the gradients of any nn.Module, and a memory whose wrapped memory takes projected steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from memspec.options import Count, NotNegative, checked
from memspec.reference.ops.ring import RingState, append, empty_ring
from memspec.reference.wrappers.weights import GradientWrapper, Inner, answered, plain, recording

Method = Literal["gem", "a-gem"]


# ---- projections ----------------------------------------------------------------------------------------------


def project_one(gradient: Tensor, reference: Tensor, margin: float = 0.0, ridge: float = 0.0) -> Tensor:
    """The nearest vector to ``gradient`` with no negative product with ``reference``, both ``[..., P]``.

    ``x = g + v m`` with ``v = max(margin, -g.m / (m.m + ridge))`` where ``g.m < 0``; elsewhere g itself, bit for bit.
    With margin and ridge 0, ``x.m = 0``.

    Source: Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", eq. 11.
    """
    along = (gradient * reference).sum(-1, keepdim=True)
    square = reference.square().sum(-1, keepdim=True) + ridge
    against = (along < 0) & (square > 0)
    multiplier = (-along / torch.where(against, square, 1.0)).clamp_min(margin)
    return torch.where(against, gradient + multiplier * reference, gradient)


def project_all(gradient: Tensor, references: Tensor, margin: float = 0.0, ridge: float = 0.0) -> Tensor:
    """The nearest vector to ``gradient [..., P]`` with no negative product with any of ``references [..., T, P]``.

    ``x = g + G^T v``, v minimising ``v (G G^T + ridge I) v / 2 + (G g) v`` over ``v >= margin``, where some product is
    negative; elsewhere g itself, bit for bit. (The published code has margin 0.5, or 0 from its command line, and
    ridge 1e-3; both are 0 here, which gives the projection itself.) The dual is a non-negative least-squares problem
    in T unknowns, solved by scipy's active-set method; differentiable with the active constraints as they are.

    Source: Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual Learning", eqs. 8-11.
    """
    along = (references @ gradient[..., None])[..., 0]
    against = (along < 0).any(-1)
    if not bool(against.any()):
        return gradient
    # v = margin + w with w >= 0 minimising |A w - b|^2, A = [G^T; sqrt(ridge) I] reduced to its triangle.
    count = references.shape[-2]
    rows = references.detach().double().mT
    wide = torch.cat((rows, ridge**0.5 * torch.eye(count, **_like(rows)).expand(*rows.shape[:-2], -1, -1)), -2)
    goal = torch.cat((gradient.detach().double(), wide.new_zeros(*wide.shape[:-2], count)), -1)
    goal = -(goal[..., None] + margin * wide.sum(-1, keepdim=True))
    q, triangle = torch.linalg.qr(wide)
    dual = _nonnegative(triangle, (q.mT @ goal)[..., 0], against)
    if torch.is_grad_enabled() and (gradient.requires_grad or references.requires_grad):
        dual = _on_active(references.double(), along.double(), dual > 0, margin, ridge)
    moved = gradient + (references.mT @ (margin + dual).to(gradient.dtype)[..., None])[..., 0]
    return torch.where(against[..., None], moved, gradient)


def _nonnegative(matrix: Tensor, goal: Tensor, wanted: Tensor) -> Tensor:
    """``argmin_{w >= 0} |A w - b|`` for ``A [..., T, T]``, ``b [..., T]`` where ``wanted [...]``; zeros elsewhere."""
    parts = ((matrix, 2), (goal, 1), (wanted, 0))
    flat = zip(*(t.reshape(-1, *t.shape[t.ndim - inner :]).cpu() for t, inner in parts))
    found = [nnls(a.numpy(), b.numpy())[0] if bool(w) else np.zeros(len(b)) for a, b, w in flat]
    return torch.from_numpy(np.stack(found)).to(goal).reshape(goal.shape)


def _on_active(references: Tensor, along: Tensor, active: Tensor, margin: float, ridge: float) -> Tensor:
    """The multipliers of the active constraints as a function of the gradients, by the linear system they solve."""
    count = references.shape[-2]
    eye = torch.eye(count, **_like(references))
    square = references @ references.mT + ridge * eye
    goal = torch.where(active, -(along + margin * square.sum(-1)), 0.0)
    both = active[..., :, None] & active[..., None, :]
    return torch.linalg.solve(torch.where(both, square, eye), goal)


def _like(tensor: Tensor) -> dict[str, Any]:
    return {"device": tensor.device, "dtype": tensor.dtype}


def project_gradients(
    parameters: Iterable[nn.Parameter],
    losses: Sequence[Tensor],
    method: Method = "gem",
    margin: float = 0.0,
    ridge: float = 0.0,
) -> None:
    """Project the ``.grad`` of parameters against the gradients of losses on remembered tasks; call before the step.

    Args:
        parameters: those that are trained; a ``.grad`` of None counts as zero and stays None where no task needs it.
        losses: a scalar for each remembered task, computed with these parameters.
        method: ``gem``: against every task; ``a-gem``: against the mean of the losses.
        margin, ridge: as in :func:`project_all`.
    """
    trained = [p for p in parameters if p.requires_grad]
    if not losses:
        return
    chosen = [torch.stack(list(losses)).mean()] if method == "a-gem" else list(losses)
    slopes = [torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True) for loss in chosen]
    references = torch.stack([_flat(slope, trained) for slope in slopes])
    gradient = _flat([p.grad for p in trained], trained)
    if method == "a-gem":
        projected = project_one(gradient, references[0], margin, ridge)
    else:
        projected = project_all(gradient, references, margin, ridge)
    for p, new in zip(trained, projected.split([p.numel() for p in trained])):
        if p.grad is not None or bool(new.any()):
            p.grad = new.reshape(p.shape).clone()


def _flat(gradients: Iterable[Tensor | None], parameters: Sequence[nn.Parameter]) -> Tensor:
    parts = (torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters))
    return torch.cat([part.detach().flatten() for part in parts])


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
