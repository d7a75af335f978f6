"""Elastic weight consolidation: what mattered to old tasks is held by springs as stiff as its Fisher information.

The penalty is ``strength / 2 * sum_t sum_i F_ti (theta_i - theta*_ti)^2``, with the one half of the paper. (Sources
that leave it out mean by lambda half of what is meant here.) Here are the diagonal of the Fisher matrix of any
nn.Module, the penalty as a module for a training loop, and a memory whose wrapped memory learns under the penalty.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from memspec.functional import FunctionalMemory
from memspec.options import Count, NotNegative, Positive, Share, checked, refused
from memspec.reference.ops.ring import RingState, append, empty_ring, in_use
from memspec.reference.wrappers.weights import GradientWrapper, Inner, Weights, answered, plain, recording

Likelihood = Literal["categorical", "bernoulli", "gaussian"]
Merge = Literal["sum", "online"]

NUMBERS = 2**20
"""Numbers of per-example gradients held at once; measured: larger pieces leave the cache and take twice as long."""


# ---- springs --------------------------------------------------------------------------------------------------


class Anchor(NamedTuple):
    """The penalties of all tasks as one: ``precision [..., P]``, ``centre [..., P]``, ``offset [...]``.

    A sum of quadratics is one quadratic: ``1/2 sum_i precision_i (theta_i - centre_i)^2 + offset``.
    """

    precision: Tensor
    centre: Tensor
    offset: Tensor


def no_anchor(weights: Tensor) -> Anchor:
    """The anchor before any task, for weights ``[..., P]``: no penalty anywhere."""
    return Anchor(torch.zeros_like(weights), torch.zeros_like(weights), torch.zeros_like(weights[..., 0]))


def anchored(anchor: Anchor, fisher: Tensor, weights: Tensor, merge: Merge = "sum", decay: float = 1.0) -> Anchor:
    """The anchor once a task has ended at ``weights [..., P]`` with ``fisher [..., P]``.

    Args:
        merge: ``sum``: one penalty a task, each around the weights its task ended with (Kirkpatrick et al. 2017; their
            sum is kept in constant space). ``online``: one penalty around the latest weights, with the sum of the
            Fisher matrices (Schwarz et al. 2018).
        decay: what is left of the penalty of earlier tasks, 0 to 1 (gamma of Schwarz et al.).
    """
    old = decay * anchor.precision
    precision = old + fisher
    if merge == "online":
        return Anchor(precision, weights, torch.zeros_like(anchor.offset))
    share = torch.where(precision > 0, fisher / torch.where(precision > 0, precision, 1.0), 0.0)
    apart = weights - anchor.centre
    offset = decay * anchor.offset + 0.5 * (old * share * apart.square()).sum(-1)
    return Anchor(precision, anchor.centre + share * apart, offset)


def penalty(anchor: Anchor, weights: Tensor, strength: float) -> Tensor:
    """``strength / 2 * sum_t sum_i F_ti (theta_i - theta*_ti)^2`` ``[...]`` at ``weights [..., P]``."""
    return strength * (0.5 * (anchor.precision * (weights - anchor.centre).square()).sum(-1) + anchor.offset)


def pulled(anchor: Anchor, weights: Tensor, rate: float) -> Tensor:
    """The weights after an implicit step on the penalty: ``(theta + rate F theta*) / (1 + rate F)``.

    That is ``argmin_x 1/2 |x - theta|^2 + rate/2 sum F (x - theta*)^2``. After an explicit step of size eta on a loss,
    with ``rate = eta strength``, it makes one step of proximal gradient descent on the loss plus the penalty, whose
    fixed points are the stationary points of that sum, and which no strength makes unstable (an explicit step on the
    penalty diverges once ``eta strength F > 2``).

    Args:
        rate: at least 0; infinite keeps what has any precision at the centre.
    """
    stiffness = torch.where(anchor.precision > 0, rate * anchor.precision, 0.0)
    share = torch.where(stiffness.isinf(), 1.0, stiffness / (1 + stiffness))
    return weights.lerp(anchor.centre, share)


# ---- any module -----------------------------------------------------------------------------------------------


@checked
def fisher_diagonal(
    model: nn.Module,
    inputs: Tensor,
    likelihood: Likelihood = "categorical",
    targets: Tensor | None = None,
    chunk: Count = 64,
) -> Tensor:
    """Diagonal of the Fisher matrix of a model's trainable parameters, flat in their order: ``[P]``.

    Without ``targets`` the true one, ``mean_x E_{y ~ p(y|x)} (d log p(y|x) / d theta)^2``, the expectation over the
    model's own answers in closed form, nothing sampled. With them the empirical one, ``mean_(x,y) (d log p(y|x))^2``,
    which is another matrix unless the model fits. Squares are those of single examples: the square of a batch's mean
    gradient is smaller by orders of magnitude. The model runs in eval mode, or batch normalisation would mix examples.

    Args:
        inputs: ``[n, ...]``.
        likelihood: of the outputs ``[n, C]``: ``categorical`` logits, ``bernoulli`` logits, or ``gaussian`` means of
            variance 1.
        targets: class indices ``[n]`` (categorical), or numbers of the outputs' shape.
        chunk: examples whose gradients are held at once.

    Raises:
        ValueError: for an unknown likelihood, or without inputs.

    Source: Kirkpatrick et al. 2017, eq. 3; Kunstner et al. 2019, "Limitations of the empirical Fisher approximation".
    """
    if not len(inputs):
        raise refused("fisher_diagonal", "inputs", inputs, "one row or more", "the Fisher matrix is a mean over them")
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    rest = frozen | {name: b.detach() for name, b in model.named_buffers()}
    modes = {part: part.training for part in model.modules()}
    model.eval()

    def outputs(parameters: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        out = functional_call(model, parameters | rest, (x[None],)).flatten()
        out = out.log_softmax(-1) if likelihood == "categorical" else out
        return out, out

    total = torch.zeros(sum(p.numel() for p in parameters.values()))
    try:
        for i, x in enumerate(inputs.split(chunk)):
            slopes, out = vmap(jacrev(outputs, has_aux=True), in_dims=(None, 0))(parameters, x)
            slope = torch.cat([part.flatten(2) for part in slopes.values()], -1)  # [n, C, P]
            total = total.to(slope) if i == 0 else total
            if targets is None:
                weight = {"categorical": out.exp(), "bernoulli": out.sigmoid() * (1 - out.sigmoid())}
                total = total + (weight.get(likelihood, torch.ones_like(out))[..., None] * slope.square()).sum((0, 1))
                continue
            y = targets[i * chunk : i * chunk + len(x)]
            if likelihood == "categorical":
                score = nn.functional.one_hot(y, out.shape[-1]).to(out)
            else:
                score = y.reshape(out.shape).to(out) - (out.sigmoid() if likelihood == "bernoulli" else out)
            total = total + (score[..., None] * slope).sum(1).square().sum(0)
    finally:
        for part, mode in modes.items():
            part.training = mode
    return total / len(inputs)


def flat_parameters(model: nn.Module) -> Tensor:
    """The trainable parameters of a model, one behind the other: ``[P]``, differentiable."""
    return torch.cat([p.flatten() for p in model.parameters() if p.requires_grad])


class ElasticPenalty(nn.Module):
    """The penalty on the parameters of a model, for a training loop; its buffers are saved with the loop's other state.

    After a task: ``elastic.consolidate(model, inputs)``. While training on the next: ``loss + elastic(model)``.

    Args:
        model: only its parameters' number is looked at.
        strength: lambda, with the one half in front.
        merge, decay: as in :func:`anchored`.

    Raises:
        ValueError: for an option outside its range.

    Source: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", eq. 3; ``online``:
    Schwarz et al. 2018, "Progress & Compress", section 3.2.
    """

    precision: Tensor
    centre: Tensor
    offset: Tensor

    @checked
    def __init__(self, model: nn.Module, strength: NotNegative = 1.0, merge: Merge = "sum", decay: Share = 1.0) -> None:
        super().__init__()
        self.strength, self.merge, self.decay = strength, merge, decay
        for name, tensor in no_anchor(flat_parameters(model).detach())._asdict().items():
            self.register_buffer(name, tensor)

    @property
    def anchor(self) -> Anchor:
        return Anchor(self.precision, self.centre, self.offset)

    def consolidate(
        self,
        model: nn.Module,
        inputs: Tensor,
        likelihood: Likelihood = "categorical",
        targets: Tensor | None = None,
    ) -> None:
        """End a task with this model and these examples of it; arguments as of :func:`fisher_diagonal`."""
        fisher = fisher_diagonal(model, inputs, likelihood, targets)
        weights = flat_parameters(model).detach()
        self.precision, self.centre, self.offset = anchored(self.anchor, fisher, weights, self.merge, self.decay)

    def forward(self, model: nn.Module) -> Tensor:
        """The penalty at the model's parameters, a scalar; 0 before any task has ended."""
        return penalty(self.anchor, flat_parameters(model), self.strength)


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
