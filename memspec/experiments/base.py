"""The common shape of all experiments.

``measure(plug, setting, trials, seed) -> {metric: [T] tensor, or Curve}`` does the work, vectorised over trials.
``Experiment.run`` turns that into one tidy DataFrame, ``Runner`` keeps what was measured and adds trials on demand.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspec.errors import MemspecError, NotAsked, OutOfTime
from memspec.judging.verdicts import FIRST_TRIALS
from memspec.metrics import Metric, Showing
from memspec.plugs.plug import Plug
from memspec.plugs.stochastic import draws_in_query, draws_in_update
from memspec.world.disturbance import Disturbance, note, taken

if TYPE_CHECKING:
    from pandas import DataFrame


DIMENSIONS = {
    "key_dim": ("key_dim",),
    "value_dim": ("value_dim",),
    "capacity": ("capacity",),
    "dim": ("key_dim", "value_dim"),
    "hidden_size": ("hidden_size",),
    "memory_dim": ("memory_dim", "key_dim", "value_dim"),
    "memory_size": ("memory_size", "capacity"),
}
"""Fields of settings that say which dimensions of a memory they name."""


def one_of(default: str, choices: Iterable[str]) -> Any:
    """A field of a setting that is one of ``choices``."""
    return dataclasses.field(default=default, metadata={CHOICES: tuple(choices)})


def some_of(default: Sequence[str], choices: Iterable[str]) -> Any:
    """A field of a setting that is a tuple of some of ``choices``."""
    return dataclasses.field(default=tuple(default), metadata={CHOICES: tuple(choices)})


CHOICES = "choices"
"""Of the metadata of a field: the values that it, or each of its entries, may have."""


@dataclass(frozen=True)
class Setting:
    """Base of the frozen settings; the defaults of a subclass are its source's numbers.

    Raises:
        ValueError: for a number of pairs, a width or a capacity below 1, and for a value that is none of a field's choices.
    """

    def __post_init__(self) -> None:
        check_choices(type(self), vars(self))
        for name in ("n", *DIMENSIONS):
            number = getattr(self, name, 1)
            if number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions of a memory that a setting names."""
        return named(field.name for field in dataclasses.fields(self))

    @property
    def label(self) -> str:
        """A short stable name: the fields that differ from the defaults, such as ``n64-key_dim32``."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                text = f"{value:g}" if isinstance(value, float) else str(value)
                parts.append(f"{field.name}{text}")
        return "-".join(parts) or "default"


def types_of(kind: type[Setting]) -> Mapping[str, Any]:
    """The fields of a setting and their types."""
    return _declared(cast(Any, kind))[0]


def choices_of(kind: type[Setting]) -> Mapping[str, tuple[Any, ...]]:
    """The fields of a setting that have choices (:func:`one_of`, :func:`some_of`, or a ``Literal`` type), and these."""
    return _declared(cast(Any, kind))[1]


@functools.cache
def _declared(kind: Any) -> tuple[Mapping[str, Any], Mapping[str, tuple[Any, ...]]]:
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # a type that is imported for type checkers alone
        hints = {}
    types = {field.name: hints.get(field.name, field.type) for field in dataclasses.fields(kind)}
    choices = {}
    for field in dataclasses.fields(kind):
        literal = typing.get_origin(types[field.name]) is typing.Literal
        known = typing.get_args(types[field.name]) if literal else field.metadata.get(CHOICES)
        if known:
            choices[field.name] = tuple(known)
    return types, choices


def check_choices(kind: type[Setting], values: Mapping[str, Any]) -> None:
    """Refuse values that are none of their field's choices.

    Raises:
        ValueError: naming the field, the value, and what there is.
    """
    for name, known in choices_of(kind).items():
        value = values.get(name, known[0])
        for one in value if isinstance(value, (tuple, list)) else [value]:
            if one not in known:
                raise ValueError(f"{name} is {one!r}; it must be one of {', '.join(map(str, known))}")


def named(fields: Iterable[str]) -> frozenset[str]:
    """The dimensions of a memory that these fields of a setting name."""
    return frozenset(name for field in fields for name in DIMENSIONS.get(field, ()))


@dataclass(frozen=True)
class Curve:
    """A metric along an axis: ``values [T, K]`` at ``at [K]`` (steps, lags, ages, loads)."""

    values: Tensor
    at: Sequence[float]


AT_ONCE = 2 << 30
"""Bytes of slow weights that trials may hold side by side."""

Measured = Mapping[str, "Tensor | Curve"]


@dataclass(frozen=True)
class Experiment:
    """A named, repeatable measurement.

    Attributes:
        name: stable, such as ``capacity`` or ``forgetting.two_tasks``.
        measure: ``measure(plug, setting, trials, seed)`` -> ``{metric: Tensor [T] | Curve}``.
        metrics: what each returned name means.
        done: what is done to the memory, in one sentence with ``{field}`` places for the setting's fields.
        setting: the class of its settings.
        showing: its axis, panels, key figures, and whether it measures costs.
        first: trials that are run at once to begin with; fewer where each takes minutes.
        of_sequences: whether sequence models are measured too, which have no update and no query.
    """

    name: str
    measure: Callable[[Plug, Any, Sequence[int], int], Measured]
    metrics: Mapping[str, Metric]
    done: str
    setting: type[Setting]
    showing: Showing = dataclasses.field(default_factory=Showing)
    first: int = FIRST_TRIALS
    of_sequences: bool = False

    def describe(self, setting: Setting) -> str:
        """What is done under this setting, as a sentence for failure messages."""
        return self.done.format(**dataclasses.asdict(setting))

    def run(self, plug: Plug, setting: Setting, trials: Sequence[int], seed: int = 0) -> DataFrame:
        """Measure these trials; tidy: experiment, the setting's fields, trial, metric, at (NaN for scalars), value."""
        return tidy(self, setting, trials, self.arrays(plug, setting, trials, seed))

    def arrays(self, plug: Plug, setting: Setting, trials: Sequence[int], seed: int = 0) -> Arrays:
        """Measure these trials; float64 arrays, checked against the declared metrics.

        Raises:
            NotAsked: if the plug is a sequence model, and pairs are stored.
        """
        if plug.is_sequence_model and not self.of_sequences:
            raise NotAsked(f"{plug.name}: a sequence model has no update and no query")
        return arrays(self, self.measure(plug, setting, trials, seed), len(trials))


@dataclass(frozen=True)
class Scoring:
    """How an axis becomes one number: 0 = a memory that returns zeros (or chance), 1 = an exact dictionary.

    The raw value is the mean over trials of the metric, averaged over all settings measured (and points of a curve,
    unless ``at`` names one); the score is ``(raw - floor) / (ceiling - floor)``, never clipped.

    Attributes:
        axis: what the score is called.
        experiment, metric: what it is computed from.
        floor, ceiling: raw values of the two anchors.
        labels: settings to use; None = all that were measured.
        at: a point of the curve; None = all.
        description: one line, shown beside the score.
    """

    axis: str
    experiment: str
    metric: str
    floor: float
    ceiling: float
    description: str
    labels: tuple[str, ...] | None = None
    at: tuple[float, ...] | None = None


Arrays = dict[str, tuple[NDArray[np.float64], tuple[float, ...] | None]]


def arrays(experiment: Experiment, measured: Measured, trials: int) -> Arrays:
    """The measured tensors as float64 arrays, checked against the experiment's declared metrics."""
    out: Arrays = {}
    for name, result in measured.items():
        if name not in experiment.metrics:
            raise MemspecError(f"{experiment.name} measured {name!r}, which its metrics do not describe")
        at = tuple(float(x) for x in result.at) if isinstance(result, Curve) else None
        tensor = result.values if isinstance(result, Curve) else result
        expected = (trials,) if at is None else (trials, len(at))
        if tuple(tensor.shape) != expected:
            raise MemspecError(f"{experiment.name}.{name} has shape {tuple(tensor.shape)}, expected {expected}")
        out[name] = (tensor.detach().to(torch.float64).numpy(), at)
    return out


def tidy(experiment: Experiment, setting: Setting, trials: Sequence[int], measured: Arrays) -> DataFrame:
    """One row a trial, metric and point."""
    import pandas as pd

    columns: dict[str, list[Any]] = {"trial": [], "metric": [], "at": [], "value": []}
    for name, (values, at) in measured.items():
        points = (float("nan"),) if at is None else at
        columns["trial"].extend(np.repeat(np.asarray(trials), len(points)).tolist())
        columns["metric"].extend([name] * values.size)
        columns["at"].extend(list(points) * len(trials))
        columns["value"].extend(values.reshape(-1).tolist())
    fixed = {"experiment": experiment.name, "setting": setting.label, **dataclasses.asdict(setting)}
    return pd.DataFrame({**{k: [v] * len(columns["trial"]) for k, v in fixed.items()}, **columns})


NOISY_TRIALS = 64
"""At the least, of a memory whose calls draw random numbers: what comparisons of noise take."""


class Runner:
    """Keeps what was measured on one plug, and runs further trials when asked.

    Args:
        most: trials at the most, for a memory that there is not time enough for.

    Trials are always run in the same chunks (0..15, 16..31, 32..63, ...; or from another first number on), so the numbers do not depend on who asked.
    """

    def __init__(self, plug: Plug, seed: int = 0, most: int | None = None) -> None:
        self.plug, self.seed, self.most = plug, seed, most
        self._unaffordable: set[tuple[str, Setting]] = set()
        self.seconds = 0.0
        self._kept: dict[tuple[str, Setting], Arrays] = {}
        self._experiments: dict[str, Experiment] = {}
        self._sent: dict[tuple[str, Setting], int] = {}
        self._disturbed: dict[tuple[str, Setting], dict[str, Disturbance]] = {}

    def values(
        self, experiment: Experiment, setting: Setting, metric: str, trials: int, at: float | None = None
    ) -> NDArray[np.float64]:
        """``[trials]`` values of one metric (at one point of its axis, for a curve).

        Raises:
            KeyError: if the experiment did not measure the metric, or not at that point.
        """
        values, points = self._measured(experiment, setting, trials)[metric]
        if at is None:
            if points is not None:
                raise KeyError(f"{experiment.name}.{metric} is a curve; say at which of {points}")
            return values[:trials]
        if points is None or float(at) not in points:
            raise KeyError(f"{experiment.name}.{metric} was not measured at {at}; it was at {points}")
        return values[:trials, points.index(float(at))]

    def curve(
        self, experiment: Experiment, setting: Setting, metric: str, trials: int = FIRST_TRIALS
    ) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        """A curve's points ``[K]`` and values ``[trials, K]``."""
        values, points = self._measured(experiment, setting, trials)[metric]
        if points is None:
            raise KeyError(f"{experiment.name}.{metric} is a single number, not a curve")
        return points, values[:trials]

    def frames(self) -> list[DataFrame]:
        """Everything measured so far, one tidy DataFrame for each experiment and setting."""
        return [
            tidy(self._experiments[name], setting, range(len(next(iter(kept.values()))[0])), kept)
            for (name, setting), kept in self._kept.items()
        ]

    def unsent(self) -> list[dict[str, Any]]:
        """What was measured since the last call, as JSON-able blocks (see :mod:`memspec.scorecard.record`)."""
        blocks = []
        for (name, setting), kept in self._kept.items():
            have = len(next(iter(kept.values()))[0])
            start = self._sent.get((name, setting), 0)
            if start == have:
                continue
            self._sent[name, setting] = have
            blocks.append(
                {
                    "experiment": name,
                    "setting": setting.label,
                    "fields": dataclasses.asdict(setting),
                    "done": self._experiments[name].describe(setting),
                    "first_trial": start,
                    "showing": self._experiments[name].showing.to_json(),
                    "metrics": {
                        metric: {
                            **dataclasses.asdict(self._experiments[name].metrics[metric]),
                            "at": at,
                            "values": values[start:].tolist(),
                        }
                        for metric, (values, at) in kept.items()
                    },
                }
            )
        return blocks

    def _measured(self, experiment: Experiment, setting: Setting, trials: int) -> Arrays:
        key = (experiment.name, setting)
        self._experiments[experiment.name] = experiment
        kept = self._kept.get(key, {})
        have = len(next(iter(kept.values()))[0]) if kept else 0
        if key in self._unaffordable:
            raise OutOfTime(counted=True)
        first = experiment.first
        if first == FIRST_TRIALS and (draws_in_update(self.plug) or draws_in_query(self.plug)):
            trials = max(trials, NOISY_TRIALS)
        if self.most is not None:
            first, trials = min(first, self.most), min(trials, self.most)
        while have < trials:
            stop = first if have == 0 else 2 * have
            chunk = range(have, stop)
            start = time.perf_counter()
            held = taken()
            try:
                parts = [experiment.arrays(self.plug, setting, part, self.seed) for part in self._fitting(chunk)]
            except OutOfTime:
                self._unaffordable.add(key)  # for other checks of the same numbers too
                raise
            for one in taken():
                self._disturbed.setdefault(key, {}).setdefault(one.kind, one)
            note(held)
            self.seconds += time.perf_counter() - start
            for new in parts:
                kept = {
                    name: (np.concatenate([kept[name][0], values]) if kept else values, at)
                    for name, (values, at) in new.items()
                }
            self._kept[key] = kept
            have = stop
        note(self._disturbed.get(key, {}).values())  # every check that reads these numbers is told
        return kept

    def _fitting(self, chunk: range) -> list[range]:
        """The trials of a chunk in parts whose memories fit side by side: each trial may have weights of its own.

        The parts depend on the memory alone, so that the numbers do not depend on the machine.
        """
        most = max(1, AT_ONCE // max(1, 4 * self.plug.parameter_count))
        return [chunk[i : i + most] for i in range(0, len(chunk), most)]
