"""Reasoning over stored facts: questions that take several of them, asked of the memory hop after hop.

The reader is the harness: it names what is answered (the nearest of all entities), and asks with that name for the next
hop. So a chain breaks at its first wrong answer, and an exact memory answers chains of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure
from memspec.experiments.base import Curve, Experiment, Measured, Setting, one_of
from memspec.fixtures.tasks import by_hand, chains
from memspec.metrics import Axis, Metric, Showing
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import Population, populate


@dataclass(frozen=True)
class Chained(Setting):
    """Facts of one of :data:`~memspec.fixtures.tasks.chains.WORLDS`, in a memory with room for all of them."""

    world: str = one_of("rules", chains.WORLDS)
    key_dim: int = 64
    value_dim: int = 64


METRICS = {
    "accuracy": Metric("share of questions answered rightly (cosine, among all entities), by hops"),
    "two_choice": Metric("share of the other entities that the right one beats (ties half; chance 1/2), by hops"),
}


def built_for(plug: Plug, setting: Chained) -> Shape:
    """The shape a memory is built with: room for every fact."""
    return plug.shape(setting.key_dim, setting.value_dim, chains.WORLDS[setting.world].facts)


def measure(plug: Plug, setting: Chained, trials: Sequence[int], seed: int) -> Measured:
    """Write the facts in one update, then ask all questions, hop by hop."""
    plug.needs_free_values()
    world, shape, spec = chains.WORLDS[setting.world], built_for(plug, setting), plug.spec
    told = chains.Told(*randomness.stacked(world.draw, trials, seed, "reasoning", setting.world))
    names = by_hand.codes("value", world.entities, spec.value_domain, shape.value_dim)
    keys = by_hand.codes("key", world.entities * world.relations, spec.key_domain, shape.key_dim)
    for codes, what in ((names, "values"), (keys, "keys")):
        if len(codes.unique(dim=0)) < len(codes):
            raise CannotMeasure(f"{plug.name}: {len(codes)} symbols have no distinct {what} of width {codes.shape[-1]}")
    memories = populate(plug, shape, trials, seed)
    memories.store(keys[told.relations * world.entities + told.heads], names[told.tails])
    accuracies, choices = [], []
    for hops in range(1, world.hops + 1):
        scores = _followed(memories, keys, names, told, hops)
        own = scores.gather(-1, told.answers[:, hops - 1, :, None])
        beaten = ((scores < own).sum(-1) + ((scores == own).sum(-1) - 1) / 2) / (world.entities - 1)
        lost = scores.isnan().any(-1)
        right = (scores.nan_to_num().argmax(-1) == told.answers[:, hops - 1]) & ~lost
        accuracies.append(right.double().mean(-1))
        choices.append(torch.where(lost, 0.0, beaten).double().mean(-1))
    at = range(1, world.hops + 1)
    return {"accuracy": Curve(torch.stack(accuracies, 1), at), "two_choice": Curve(torch.stack(choices, 1), at)}


def _followed(memories: Population, keys: Tensor, names: Tensor, told: chains.Told, hops: int) -> Tensor:
    """``[T, Q, E]``: how near the answer to the last hop is to every entity; NaN from an answer on that is not finite."""
    at = told.starts[:, hops - 1]
    lost = torch.zeros_like(at, dtype=torch.bool)
    for hop in range(hops):
        relation = told.paths[:, hops - 1, :, hop]
        answers = memories.query(keys[relation * len(names) + at])
        lost |= ~answers.isfinite().all(-1)
        scores = torch.where(lost[..., None], 0.0, answers) @ names.mT
        at = scores.argmax(-1)
    return scores.masked_fill(lost[..., None], torch.nan)


CHAINED = Experiment(
    "reasoning",
    measure,
    METRICS,
    "stored the facts of a world ({world}) and asked questions of one and more hops, naming every answer and asking on with it",
    Chained,
    Showing(Axis("hops")),
)
