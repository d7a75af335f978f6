"""Retention: what is left of a pair after so many other writes.

Pairs are written one after the other, and all are asked for at the end, so every pair is tested at the same load and
only its age differs: the number of writes since. The half-life comes from the better of two curves, exponential and
power law, fitted to the gain of the answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspec import randomness
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Setting
from memspec.experiments.drawing import needs_pairs
from memspec.fixtures.data import pairs
from memspec.metrics import Axis, KeyFigure, Metric, Showing
from memspec.plugs.plug import Plug
from memspec.plugs.population import populate

# ---- the curve of forgetting ----------------------------------------------------------------------------------

Floats = NDArray[np.float64]
_RATES = np.concatenate(([0.0], np.geomspace(1e-5, 20.0, 1200)))


@dataclass(frozen=True)
class Decay:
    """The better of two curves of forgetting, for each of T series.

    Attributes:
        start: ``[T]`` fitted value at age 0, g0; 0 where AIC prefers "nothing is retained" to both curves.
        half_life: ``[T]`` age at which the curve has fallen to g0 / 2; infinite where it does not fall, 0 where g0 is 0.
        exponential: ``[T]`` whether ``g0 exp(-a / tau)`` is at least as likely as ``g0 (1 + a)^-b`` by AIC.
        rate: ``[T]`` 1 / tau or b.
    """

    start: Floats
    half_life: Floats
    exponential: NDArray[np.bool_]
    rate: Floats


def fit_decay(ages: Floats, values: Floats) -> Decay:
    """Least-squares fit of an exponential and of a power law to ``values [T, A]`` at ``ages [A]``; the better by AIC.

    Both have two parameters, so AIC (``A ln(RSS / A) + 2 parameters``) prefers the smaller residual; the zero curve
    has none. For a given rate the best g0 is linear, so the rate
    alone is searched, on a grid with steps of 1.2%: nothing can fail to converge. Wixted and Ebbesen 1991 compare
    these two curves (among others) on human forgetting.

    Raises:
        ValueError: if a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("fit_decay: a value is NaN or infinite")
    found = [_best(np.exp(-np.outer(_RATES, ages)), values), _best((1 + ages) ** -_RATES[:, None], values)]
    exponential = found[0][2] <= found[1][2] * (1 + 1e-12)
    residual = np.where(exponential, found[0][2], found[1][2])
    nothing = (values**2).sum(-1) <= residual * np.exp(4 / len(ages))  # AIC of the zero curve is no larger
    start = np.where(nothing, 0.0, np.where(exponential, found[0][0], found[1][0]))
    rate = np.where(exponential, found[0][1], found[1][1])
    with np.errstate(divide="ignore", over="ignore"):
        half = np.where(exponential, np.log(2) / rate, np.expm1(np.log(2) / rate))
    return Decay(start, np.where(start > 0, half, 0.0), exponential, np.where(start > 0, rate, 0.0))


def _best(curves: Floats, values: Floats) -> tuple[Floats, Floats, Floats]:
    """For each series the best positive scale of the best of ``curves [G, A]``: scale, rate, residual sum of squares."""
    overlap, power = np.maximum(values @ curves.T, 0.0), (curves**2).sum(-1)
    best = (overlap**2 / power).argmax(-1)
    scale = overlap[np.arange(len(values)), best] / power[best]
    residual = ((values - scale[:, None] * curves[best]) ** 2).sum(-1)
    return scale, _RATES[best], residual


# ---- the experiment -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writes(Setting):
    """``writes`` random pairs, ``per_call`` rows an update, in order.

    Eight rows an update keep the number of calls small; the age of a pair is known to that many writes only where a
    memory does not act row by row (``spec.write="joint"``).
    """

    writes: int = 128
    per_call: int = 8
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128

    @property
    def label(self) -> str:
        held = f"-c{self.capacity}" if self.capacity != 128 else ""
        return f"w{self.writes}{held}" + (f"-d{self.key_dim}" if self.key_dim != 64 else "")


def age_bins(writes: int) -> list[range]:
    """Ages 0, 1, 2-3, 4-7, ... up to ``writes - 1``."""
    edges = [0] + [2**i for i in range(writes.bit_length()) if 2**i < writes] + [writes]
    return [range(a, b) for a, b in itertools.pairwise(edges)]


def age_of(bin_: range) -> float:
    """The mean age of a bin, which is where its point stands on the curve."""
    return (bin_[0] + bin_[-1]) / 2


LONGEST = 10
"""Half-lives above so many times the number of writes cannot be told apart, and are reported as that."""

METRICS = {
    "gain": Metric("part of the value in the answer, answer . v / |v|^2, against age; cut to [-0.5, 1.5]", -0.5, 1.5, label="part of the value in the answer"),
    "similarity": Metric("cosine of answer and value, against age", low=-1.0, label="cosine"),
    "recall": Metric("share decoded rightly by cosine among all values written, against age", label="share recalled"),
    "half_life": Metric("writes until the gain has halved, by the better fit; at most 10 times all writes", 0.0, float("inf"), unit="writes"),
    "exponential": Metric("whether an exponential fits the gain better than a power law (AIC)", better="none"),
}  # fmt: skip


def measure(plug: Plug, setting: Writes, trials: Sequence[int], seed: int) -> Measured:
    """Write the pairs, each call as often as the spec says, then ask for all; curves over bins of age."""
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    spec, n = plug.spec, setting.writes
    needs_pairs(plug, n, shape)

    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        drawn = pairs.pairs(spec.key_domain, spec.value_domain, n, shape.key_dim, shape.value_dim, g, spec.association)
        return *drawn, torch.randperm(n, generator=g)

    keys, values, order = randomness.stacked(draw, trials, seed, "forgetting.retention", setting.label)
    memories = populate(plug, shape, trials, seed)
    for k, v in zip(keys.split(setting.per_call, 1), values.split(setting.per_call, 1)):
        memories.store(k, v)
    answers, values = memories.query(keys).flip(1), values.flip(1)  # by age: the newest first
    candidates = torch.gather(values, 1, order[..., None].expand_as(values))  # no age comes first

    finite = torch.isfinite(answers).all(-1, keepdim=True)
    clean = torch.where(finite, answers, 0.0).double()
    gain = (clean * values).sum(-1) / values.double().square().sum(-1).clamp_min(1e-30)
    fit = fit_decay(np.arange(n, dtype=np.float64), gain.clamp(-1e6, 1e6).numpy())
    bins = age_bins(n)

    def against_age(of_each: Tensor) -> Curve:
        binned = torch.stack([of_each[:, list(ages)].mean(1) for ages in bins], 1)
        return Curve(binned, [age_of(ages) for ages in bins])

    by_gain = against_age(gain)
    return {
        "gain": Curve(by_gain.values.clamp(-0.5, 1.5), by_gain.at),
        "similarity": against_age(decode.cosine(answers, values).double()),
        "recall": against_age(decode.recalled(answers, candidates, order.argsort(-1)).double()),
        "half_life": torch.from_numpy(np.minimum(fit.half_life, LONGEST * n)),
        "exponential": torch.from_numpy(fit.exponential).double(),
    }


RETENTION = Experiment(
    "forgetting.retention",
    measure,
    METRICS,
    "wrote {writes} random pairs in order, {per_call} an update, then asked for all of them",
    Writes,
    Showing(
        Axis("writes since"),
        figures=(KeyFigure("half-life", "half_life", "writes until retention has halved", place=13),),
    ),
)
