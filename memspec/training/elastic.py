"""Elastic weight consolidation for any module: what mattered to old tasks is held by springs as stiff as its Fisher information.

The penalty is ``strength / 2 * sum_t sum_i F_ti (theta_i - theta*_ti)^2``, with the one half of the paper. (Sources
that leave it out mean by lambda half of what is meant here.)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from memspec.options import Count, NotNegative, Share, checked, refused

Likelihood = Literal["categorical", "bernoulli", "gaussian"]
Merge = Literal["sum", "online"]


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
