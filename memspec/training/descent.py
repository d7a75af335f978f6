"""A few steps down the slope of one batch's loss: whether gradients reach what is written and asked, and lead downwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from memspec.errors import NotAsked
from memspec.experiments.learning import network
from memspec.fixtures.tasks.courses import Course
from memspec.networks.controlled import ControlledMemory
from memspec.plugs.plug import Plug
from memspec.randomness import seed_of, seeded
from memspec.training.trainer import answers_of
from memspec.world.boundary import cross

STEPS = 4
SHARES = (3e-2, 1e-2, 3e-3, 1e-3)
"""Lengths of a step, as shares of the length of all that is moved: a slope leads downwards, if the step is small enough."""
FLAT = 1e-6
"""Of the loss: a fall that float32 does not show."""


@dataclass(frozen=True)
class Descent:
    """A few steps down the slope of one batch's loss.

    Attributes:
        losses: before the first step and after each; fewer than ``STEPS + 1`` where no step along a slope lowered it.
        unreached: names of weights that should have a gradient and have none, or one that is not finite.
        flat: the slope is so small that no step along it would show.
    """

    losses: list[float]
    unreached: list[str]
    flat: bool = False


def upstream(model: nn.Module, plug: Plug) -> dict[str, Tensor]:
    """The weights to move: all of a sequence model; of a controller those that make what the spec claims gradients of.

    Raises:
        NotAsked: if it claims none.
    """
    around = controller_of(model)
    if plug.is_sequence_model or around is None:
        return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    made = {"query": around.queries, "keys": around.keys, "values": around.values}
    claimed = {name: linear.weight for name, linear in made.items() if name in plug.spec.differentiable}
    if not claimed:
        raise NotAsked(f"{plug.name} does not claim to be differentiable, so no controller can learn to use it")
    return claimed


def controller_of(model: nn.Module) -> ControlledMemory | None:
    """The controller that a memory was put behind."""
    return next((part for part in model.modules() if isinstance(part, ControlledMemory)), None)


@torch.no_grad()
def _asked_at_once(around: ControlledMemory) -> None:
    """Ask for the key that was just written, and write and ask the same whatever has been read.

    So there is something to be found, also in buckets; and where the nearest of several keys is looked for, values are
    moved without another key becoming the nearest, at which a loss jumps.
    """
    around.queries.weight.copy_(around.keys.weight)
    layer = around.controller.layer
    assert isinstance(layer, nn.Linear)
    layer.weight[:, around.input_size :] = 0


def descend(plug: Plug, course: Course, seed: int) -> Descent:
    """Move what is upstream of the memory down the slope of one batch's loss, and nothing else (:func:`upstream`).

    Raises:
        NotAsked: if no network can be made of the plug, or it claims no gradient.
    """
    model: Any = network(plug, course, seed, hidden_size=16, memory_dim=8, memory_size=16, controller="feedforward")
    batch = course.draw(torch.Generator().manual_seed(seed_of(seed, "batch")))
    moved = upstream(model.eval(), plug)
    around = controller_of(model)
    if around is not None and not plug.is_sequence_model:
        _asked_at_once(around)

    def loss() -> Tensor:
        with seeded(seed):
            return course.loss(answers_of(model, batch.inputs), batch)

    with torch.enable_grad():
        losses: list[float] = []
        for _ in range(STEPS):
            now = loss()
            losses = losses or [now.item()]
            slope = partial(torch.autograd.grad, now, list(moved.values()), allow_unused=True)
            found = dict(zip(moved, cross("backward", slope)))
            wrong = [name for name, g in found.items() if g is not None and not bool(g.isfinite().all())]
            if not plug.is_sequence_model:  # of which a few steps need not use every part
                wrong += [name for name, g in found.items() if g is None]
            slopes = {moved[name]: g for name, g in found.items() if g is not None}
            steep = float(sum(g.square().sum() for g in slopes.values())) ** 0.5
            if wrong or not steep:
                return Descent(losses, wrong or list(moved))
            length = float(sum(weight.detach().square().sum() for weight in slopes)) ** 0.5
            if SHARES[-1] * length * steep < FLAT * abs(losses[-1]):
                return Descent(losses, [], flat=True)
            if not _stepped(loss, slopes, length / steep, losses):
                break
    return Descent(losses, [])


@torch.no_grad()
def _stepped(loss: Callable[[], Tensor], slopes: dict[Tensor, Tensor], unit: float, losses: list[float]) -> bool:
    """Take the longest step that lowers the loss, and note it; False, and nothing is moved, if none does."""
    before = {weight: weight.clone() for weight in slopes}
    for share in SHARES:
        for weight, slope in slopes.items():
            weight.copy_(before[weight] - share * unit * slope)
        after = loss().item()
        if after < losses[-1]:
            losses.append(after)
            return True
    for weight, old in before.items():
        weight.copy_(old)
    return False
