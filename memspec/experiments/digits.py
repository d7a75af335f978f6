"""Digits: real data of the smallest kind. Handwritten digits are stored as features -> label, and unseen ones asked.

Keys here are correlated and clustered, as real features are; random keys are neither. Every number stands beside exact
nearest neighbour on the same keys, which a dictionary that forgets nothing reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting
from memspec.fixtures.data import digits, features
from memspec.metrics import Axis, Metric, Showing
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate

CHANCE = 1 / digits.CLASSES


@dataclass(frozen=True)
class Digits(Setting):
    """``stored`` digits, each count in a fresh memory of that capacity; ``held_out`` others are asked for."""

    stored: tuple[int, ...] = (50, 100, 200, 400)
    held_out: int = 200
    key_dim: int = 64


METRICS = {
    "accuracy": Metric(
        "share of unseen digits whose answer is nearest (cosine) to their label's code", label="accuracy"
    ),
    "stored_accuracy": Metric("share of the stored digits that answer their own label", label="accuracy"),
    "nearest_neighbour_accuracy": Metric(
        "accuracy of the label of the nearest stored key, on the same digits", better="none", label="accuracy"
    ),
    "relative_accuracy": Metric(
        "(accuracy - 1/10) / (nearest neighbour's accuracy - 1/10)", low=-float("inf"), high=float("inf")
    ),
}


def built_for(plug: Plug, setting: Digits, stored: int) -> Shape:
    """The shape a memory of ``stored`` digits is built with: values are 10 wide, 64 for codes of signs."""
    return plug.shape(setting.key_dim, 64 if plug.spec.value_domain == "sign" else digits.CLASSES, stored)


def measure(plug: Plug, setting: Digits, trials: Sequence[int], seed: int) -> Measured:
    """Store the first n digits of the trial's order, for every n; ask for the stored and for unseen ones."""
    plug.needs_free_values()
    spec, most = plug.spec, max(setting.stored)
    if spec.key_domain == "onehot":
        raise NotAsked(f"{plug.name} takes one-hot keys, and pixels are not")
    shape = built_for(plug, setting, most)
    pool, labels = digits.keys(spec.key_domain, shape.key_dim)
    if len(pool) < most + setting.held_out:
        raise CannotMeasure(f"only {len(pool)} digits have different {spec.key_domain} keys of width {shape.key_dim}")
    try:
        codes = features.label_codes(spec.value_domain, digits.CLASSES, shape.value_dim)
    except ValueError as error:
        raise CannotMeasure(f"{plug.name}: {error}") from error
    (order,) = randomness.stacked(
        lambda g: (torch.randperm(len(pool), generator=g)[: most + setting.held_out],), trials, seed, "digits"
    )
    keys, truth = pool[order], labels[order]
    unseen, wanted = keys[:, most:], truth[:, most:]
    # |a - b|^2 up to what does not depend on b
    closeness = unseen @ keys[:, :most].mT - keys[:, None, :most].square().sum(-1) / 2
    columns: dict[str, list[Tensor]] = {name: [] for name in METRICS}
    for n in setting.stored:
        memories = populate(plug, built_for(plug, setting, n), trials, seed)
        memories.store(keys[:, :n], codes[truth[:, :n]])
        answers = memories.query(torch.cat((keys[:, :n], unseen), 1))
        right = decode.nearest(answers, codes.expand(len(trials), -1, -1)) == torch.cat((truth[:, :n], wanted), 1)
        nearest = torch.gather(truth[:, :n], 1, closeness[:, :, :n].argmax(-1)) == wanted
        accuracy, neighbour = right[:, n:].double().mean(-1), nearest.double().mean(-1)
        columns["accuracy"].append(accuracy)
        columns["stored_accuracy"].append(right[:, :n].double().mean(-1))
        columns["nearest_neighbour_accuracy"].append(neighbour)
        # Very narrow keys may bring nearest neighbour itself to chance.
        columns["relative_accuracy"].append((accuracy - CHANCE) / (neighbour - CHANCE).clamp_min(0.01))
    return {name: Curve(torch.stack(values, 1), setting.stored) for name, values in columns.items()}


DIGITS = Experiment(
    "digits",
    measure,
    METRICS,
    "stored handwritten digits as features -> label ({stored} of them, a fresh memory for each), "
    "then asked for {held_out} unseen ones",
    Digits,
    Showing(Axis("digits stored")),
)

SCORES = (
    Scoring(
        axis="digits",
        experiment=DIGITS.name,
        metric="relative_accuracy",
        floor=0.0,
        ceiling=1.0,
        description="accuracy on unseen digits above chance, as a share of exact nearest neighbour's",
    ),
)
