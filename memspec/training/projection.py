"""Projections of any gradient: GEM against every remembered task, A-GEM against their mean; and of the gradients of a module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

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
