"""Adaptation: how fast a new pair, or several, is learned when it is shown again and again.

The error after n updates is ``e_n = |answer - value|^2 / |value|^2``; curves show ``e_n / e_0``. A level that is never
reached counts as ``steps + 1``. Additive memories overshoot when one pair is repeated (their answer grows with every
showing), so what is asked of every memory is the direction of the answer, and the error only of those that claim to
replace or blend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments import curves, decode
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting
from memspec.experiments.drawing import drawn
from memspec.metrics import Axis, Metric, Showing
from memspec.plugs.plug import Plug
from memspec.plugs.population import Population, populate

INF = float("inf")
EXACT = 1e-6
"""Relative squared error at which a pair counts as known."""


@dataclass(frozen=True)
class Single(Setting):
    """One new pair, one update a step (Thrun and Pratt's learning curve; 20 steps as in the EpisodicMemory experiments)."""

    steps: int = 20
    pairs: int = 1
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128


@dataclass(frozen=True)
class Several(Single):
    """Several new pairs at once, the whole batch shown at every step."""

    pairs: int = 8


@dataclass(frozen=True)
class Relearning(Single):
    """Pairs learned, the same keys shown with other values, then the first values again; ``steps`` updates each.

    All updates together are fewer rows than the capacity, so that no eviction takes part.
    """

    steps: int = 10
    pairs: int = 4


RESOLUTION = 1e-3
"""Of errors as a share of the first one: what float32 and a solver's ridge leave is far below this, and means nothing."""

METRICS = {
    "error": Metric("squared error after n updates over that before the first", high=INF, better="down", label="squared error, share of its start", resolution=RESOLUTION),
    "cosine": Metric("cosine of answer and value after n updates, mean over pairs", low=-1.0, label="cosine"),
    "recall": Metric("share of the pairs decoded rightly among the values shown, by cosine, after n updates", label="share recalled"),
    "closer": Metric("share of trials whose answers end nearer in direction to their values than they began (or exact)"),
    "steps_to_10": Metric("updates until the error stays at or below 10% of its start; steps + 1 = never", high=INF, better="down", unit="updates"),
    "half_life": Metric("updates until the error has halved, log-interpolated; steps + 1 = never", high=INF, better="down", unit="updates"),
    "aulc": Metric("area under the learning curve: mean of min(1, e_n / e_0) over the updates", better="down"),
    "rate": Metric("fall of the log error an update, down to 1e-6", low=-INF, high=INF),
    "elbow": Metric("update at which the log error bends most (Kneedle); steps + 1 = it does not fall", high=INF, better="none", unit="updates"),
    "overshoot": Metric("largest error after the first update over that before it; above 1 = it got worse", high=INF, better="down", resolution=RESOLUTION),
    "final": Metric("error after the last update over that before the first", high=INF, better="down", resolution=RESOLUTION),
}  # fmt: skip


def measure(plug: Plug, setting: Single, trials: Sequence[int], seed: int) -> Measured:
    """Show the pairs ``steps`` times; after each showing ask for them.

    Raises:
        CannotMeasure: if the fresh memory already answers the values.
        NotAsked: if it does so because it is autoassociative and echoes the cue.
    """
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    keys, values = drawn(plug, setting.pairs, shape, trials, seed, "adaptation", setting.label)
    memories = populate(plug, shape, trials, seed)
    errors, cosines, recalls = _shown(memories, keys, values, setting.steps)
    if bool((errors[:, 0] < EXACT).any()):
        if plug.spec.association == "auto":
            raise NotAsked(f"{plug.name} recalls the key itself, and a fresh one may well answer its cue")
        raise CannotMeasure(f"{plug.name} answers the value before it was shown, so its learning cannot be seen")
    at = range(setting.steps + 1)
    curve = curves.relative(errors)
    closer = (cosines[:, -1] > cosines[:, 0] + EXACT) | (errors[:, -1] < EXACT)
    return {
        "error": Curve(curve, at),
        "cosine": Curve(cosines, at),
        "recall": Curve(recalls, at),
        "closer": closer.double(),
        "steps_to_10": curves.steps_to(errors, 0.1),
        "half_life": curves.half_life(errors),
        "aulc": curves.area(errors),
        "rate": curves.rate(errors),
        "elbow": curves.elbow(errors),
        "overshoot": curves.overshoot(errors),
        "final": curve[:, -1],
    }


RELEARNING_METRICS = {
    "savings": Metric("1 - steps to relearn / steps to learn, to 10% of the first error; never counts as steps + 1", low=-INF),
    "steps_to_learn": METRICS["steps_to_10"],
    "steps_to_relearn": Metric(
        "updates after the interference until the error stays at or below 10% of the very first; steps + 1 = never",
        high=INF,
        better="down", unit="updates"),
    "kept": Metric("share of the pairs whose answer is nearer the first value than the interfering one, before relearning", better="none"),
    "recovered": Metric("share of trials in which relearning turned the answers towards the first values, or left them all nearer those than the interfering ones"),
}  # fmt: skip


def measure_relearning(plug: Plug, setting: Relearning, trials: Sequence[int], seed: int) -> Measured:
    """Learn A, learn B under the same keys, learn A again.

    Raises:
        NotAsked: for autoassociative memories, whose keys admit one value only.
    """
    if plug.spec.association == "auto":
        raise NotAsked(f"{plug.name} is autoassociative: a key cannot be shown with another value")
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    keys, first = drawn(plug, setting.pairs, shape, trials, seed, "relearning", setting.label)
    other = first.roll(1, 1)  # every key with another key's value: a derangement in any value domain
    memories = populate(plug, shape, trials, seed)
    learning, _, _ = _shown(memories, keys, first, setting.steps)
    for _ in range(setting.steps):
        memories.update(keys, other)
    lost = memories.query(keys)
    relearning, _, _ = _shown(memories, keys, first, setting.steps)
    answers = memories.query(keys)

    def lean(answer: Tensor) -> Tensor:
        return decode.cosine(answer, first) - decode.cosine(answer, other)

    learned = curves.steps_to(learning, 0.1)
    # Relearning is timed against the first error, not the one left by the interference.
    relearned = curves.steps_to(torch.cat((learning[:, :1], relearning), 1), 0.1) - 1
    relearned = relearned.clamp_min(0)
    turned = lean(answers).mean(-1) > lean(lost).mean(-1)
    return {
        "savings": curves.savings(learned, relearned),
        "steps_to_learn": learned,
        "steps_to_relearn": relearned,
        "kept": (lean(lost) > 0).double().mean(-1),
        "recovered": (turned | (lean(answers) > 0).all(-1)).double(),
    }


def _shown(memories: Population, keys: Tensor, values: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Errors, cosines and recalls ``[T, steps + 1]``, means over the pairs, before the first update and after each."""
    targets = torch.arange(keys.shape[1])
    columns = []
    for step in range(steps + 1):
        if step:
            memories.update(keys, values)
        answers = memories.query(keys)
        columns.append(
            (
                decode.relative_error(answers, values).double().mean(-1),
                decode.cosine(answers, values).double().mean(-1),
                decode.recalled(answers, values, targets).double().mean(-1),
            )
        )
    errors, cosines, recalls = (torch.stack(column, -1) for column in zip(*columns))
    return errors, cosines, recalls


SHOWINGS = Showing(Axis("showings"))
SINGLE = Experiment("adaptation.single", measure, METRICS, "showed one new pair {steps} times", Single, SHOWINGS)
SEVERAL = Experiment(
    "adaptation.several", measure, METRICS, "showed {pairs} new pairs together {steps} times", Several, SHOWINGS
)
RELEARNING = Experiment(
    "adaptation.relearning",
    measure_relearning,
    RELEARNING_METRICS,
    "showed {pairs} pairs {steps} times, the same keys with other values {steps} times, the first again {steps} times",
    Relearning,
)

SCORES = (
    Scoring(
        "adaptation",
        SINGLE.name,
        "aulc",
        floor=1.0,
        ceiling=0.0,
        description="1 - area under the learning curve of one new pair over 20 updates. A memory that answers zeros "
        "stays at e_n / e_0 = 1 (0); a dictionary is at 0 after the first update (1)",
    ),
)
