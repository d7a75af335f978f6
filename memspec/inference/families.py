"""Which families a memory's curves fit: bands of theory beside what was measured, and parameters from single pairs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspec.errors import CannotMeasure, MemspecError, NotAsked
from memspec.experiments.adaptation import SINGLE, Single
from memspec.experiments.base import Experiment, Runner, Setting
from memspec.experiments.capacity import LOAD, Load
from memspec.fixtures.data.pairs import unit
from memspec.judging.verdicts import FIRST_TRIALS, decide_metric
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate
from memspec.protocol import Family, MemorySpec
from memspec.theory.bands import band

CURVES: tuple[tuple[Experiment, Setting, str, float | None], ...] = (
    (SINGLE, Single(), "error", 1),
    (SINGLE, Single(), "error", 2),
    (SINGLE, Single(), "error", 20),
    (LOAD, Load(n=8), "relative_mse", None),
    (LOAD, Load(n=32), "relative_mse", None),
    (LOAD, Load(n=64), "recall_cosine", None),
    (LOAD, Load(n=64), "relative_mse", None),
    (LOAD, Load(n=128), "relative_mse", None),
    (LOAD, Load(n=256), "relative_mse", None),
)
"""What is measured anyway, and tells families apart: how one pair is learned, and how a load is borne."""
STEPPED = {
    "delta": "one pair is not answered with a part of its value, or with less than twice it",
    "softmax": "two orthogonal pairs are not answered with weights that sum to one",
}
"""Families with a parameter, and what shows that it has none."""
FLATTEST = 1.0
"""The least inverse temperature that is told: below it any mean of the values looks like a softmax."""
MIXED = 0.03
"""How far the weights of a softmax read may be off."""
LEAST = 2
"""Bands that a family must meet to be said to fit; fewer show too little."""
TRIALS = 128
ALPHA = 1e-3


def estimated(plug: Plug, spec: MemorySpec) -> dict[str, float]:
    """The parameter of each family that has one, from the answers to one stored pair and to two.

    A delta step answers one pair with ``beta v``. A softmax over two orthogonal unit keys puts the weights
    ``e^beta : 1`` on their values.
    """
    if spec.key_domain not in ("real", "unit") or spec.association != "hetero" or spec.value_domain == "onehot":
        return {}
    shape = plug.shape(64, 64, 128)
    if shape.key_dim < 2 or shape.value_dim < 2:
        return {}
    keys, values = torch.eye(shape.key_dim)[None, :2], torch.eye(shape.value_dim)[None, :2]
    out = {}
    try:
        one, two = populate(plug, shape, [0], 0), populate(plug, shape, [0], 0)
        one.update(keys[:, :1], values[:, :1])
        two.update(keys, values)
        step, read = one.query(keys[:, :1])[0, 0], two.query(keys[:, :1])[0, 0]
    except Exception:  # what it refuses is for the laws to say
        return {}
    if 1e-3 < step[0] < 2 and _lies_along(step, 1):
        out["delta"] = _round(step[0].item())
    if read[1] > 0 and read[0] > read[1] and _lies_along(read, 2) and abs(read.sum().item() - 1) < 1e-4:
        beta = (read[0] / read[1]).log().item()
        if beta >= FLATTEST and _reads_by_softmax(plug, shape, beta):
            out["softmax"] = _round(beta)
    return out


def _reads_by_softmax(plug: Plug, shape: Shape, beta: float) -> bool:
    """Whether eight random pairs are mixed by ``softmax(beta q . k)``, to a few parts in a hundred."""
    generator = torch.Generator().manual_seed(0)
    count = min(8, shape.capacity, shape.value_dim)
    stored = unit(torch.randn(count, shape.key_dim, generator=generator))
    asked = unit(stored + 0.7 * unit(torch.randn(count, shape.key_dim, generator=generator)))
    memories = populate(plug, shape, [0], 0)
    memories.update(stored[None], torch.eye(shape.value_dim)[None, :count])
    weights = memories.query(asked[None])[0, :, :count]
    return bool((weights - (beta * asked @ stored.mT).softmax(-1)).abs().max() < MIXED)


def _lies_along(answer: Tensor, count: int) -> bool:
    return bool(answer[count:].abs().max() < 1e-4) if len(answer) > count else True


def _round(number: float) -> float:
    """To four digits: what float32 shows of it."""
    return float(f"{number:.4g}")


def fitting(
    plug: Plug, spec: MemorySpec, parameters: dict[str, float], runner: Runner
) -> tuple[list[MemorySpec], dict[str, str]]:
    """The specs whose bands the curves meet, and the first band that excludes each other family.

    Args:
        parameters: ``beta`` by family.
        runner: measures, or has measured.
    """
    fits: list[tuple[int, MemorySpec]] = []
    excluded: dict[str, str] = {}
    for name in get_args(Family):
        if name in ("generic", "superposition"):  # a trace's size is not to be seen from outside
            continue
        if name == "delta" and spec.write != "sequential":  # of others little is predicted
            excluded[name] = "the rows of a call do not act in order"
            continue
        if name in STEPPED and name not in parameters:
            excluded[name] = STEPPED[name]
            continue
        tried = replace(spec, family=name, beta=parameters.get(name))
        met, why = _meets(plug.declaring(tried), runner)
        if why:
            excluded[name] = why
        elif met >= LEAST:
            fits.append((met, tried))
    fits.sort(key=lambda pair: (pair[1].beta is None, -pair[0]))  # a parameter that was seen says more
    return [tried for _, tried in fits], excluded


def _meets(plug: Plug, runner: Runner) -> tuple[int, str]:
    """How many bands the curves meet, and the first that they break."""
    met = 0
    for experiment, setting, metric, at in CURVES:
        bound = band(plug, experiment.name, setting, metric, at)
        if bound is None:
            continue
        try:
            verdict = decide_metric(
                partial(_values, runner, experiment, setting, metric, at),
                metric,
                experiment.metrics[metric],
                bound,
                alpha=ALPHA,
                max_trials=TRIALS,
                first=FIRST_TRIALS,
            )
        except (NotAsked, CannotMeasure, MemspecError, ValueError):
            continue
        if verdict.status == "fail":
            point = "" if at is None else f" after {at:g} showings"
            return met, f"{metric}{point} is {verdict.estimate:.3g}, not {bound} ({experiment.describe(setting)})"
        met += verdict.status == "pass"
    return met, ""


def _values(
    runner: Runner, experiment: Experiment, setting: Setting, metric: str, at: float | None, trials: int
) -> NDArray[np.float64]:
    return runner.values(experiment, setting, metric, trials, at)
