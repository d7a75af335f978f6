"""Closed-form predictions of what later writes leave, and the bands that the forgetting suite holds families to.

The counterpart of :mod:`memspec.theory.closed_forms` for the forgetting axis, under the assumptions stated there (random unit
keys, values of independent components, ``association="hetero"``, every batch shown once). What it says per family:

* ``hebbian``: a later pair adds crosstalk and takes nothing away, so the gain ``answer . v / |v|^2`` is 1 at every age
  and the cosine depends on the load alone;
* ``delta`` with a known ``beta``: the gain falls as ``beta (1 - beta/d)^age``;
* ``softmax`` with a known ``beta``: the cosine depends on the load alone;
* a memory with a declared ``eviction``: what it still holds is recalled, the rest is not.
"""

from __future__ import annotations

import numpy as np

from memspec.experiments.forgetting import TWO_TASKS, TwoTasks
from memspec.experiments.retention import RETENTION, Writes, age_bins, age_of
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory import closed_forms as theory
from memspec.theory.closed_forms import Floats
from memspec.theory.load import reads_what_it_holds

TOLERANCE = 0.1
"""Half-width of a band on a gain or a cosine: a twentieth of the metric's range, what the default trials can show."""

SMALLEST = 16
"""Least key_dim and value_dim for which bands are given; the formulas are for many dimensions."""


def delta_cosine_by_age(n: int, key_dim: int, beta: float = 1.0) -> Floats:
    """``[n]`` mean cosine of answer and value after one pass of the delta rule over n pairs, by age 0..n-1."""
    gain, square, noise = theory.delta_moments(n, key_dim, beta)
    return np.asarray(gain / np.sqrt(square + noise))


def first_task_cosine(plug: Plug, n: int, key_dim: int) -> float | None:
    """Mean cosine on Task A after Task B, n random pairs each; None where the family says nothing."""
    family, beta = plug.spec.family, plug.spec.beta
    if family == "hebbian":
        return theory.hebbian_cosine(2 * n, key_dim)
    if family == "delta" and beta is not None:
        return float(delta_cosine_by_age(2 * n, key_dim, beta)[n:].mean())
    if family == "softmax" and beta is not None:
        return theory.softmax_cosine(2 * n, key_dim, beta)
    return None


def retained(plug: Plug, ages: Floats, key_dim: int) -> float | None:
    """Mean gain on pairs of these ages; None where the family says nothing."""
    family, beta = plug.spec.family, plug.spec.beta
    if family == "hebbian":
        return 1.0
    if family == "delta" and beta is not None:
        return float(theory.delta_retention(ages, key_dim, beta).mean())
    return None


def band(plug: Plug, experiment: str, setting: TwoTasks | Writes, metric: str, at: float | None = None) -> Bound | None:
    """What theory requires of this family (at one age, for a curve), or None where it says nothing."""
    spec = plug.spec
    if spec.association != "hetero" or spec.presentations != 1 or spec.fidelity == "trained":
        return None
    if spec.key_domain not in ("real", "unit") or spec.value_domain == "onehot":
        return None
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    if min(shape.key_dim, shape.value_dim) < SMALLEST:
        return None
    family = f"the {spec.family} family"
    if isinstance(setting, TwoTasks):
        if (experiment, metric, setting.kind) != (TWO_TASKS.name, "a2_similarity", "random"):
            return None
        if spec.family == "softmax" and setting.stored > shape.capacity:
            return None  # what a store that overflows has left of A is a matter of its eviction
        cosine = first_task_cosine(plug, setting.n, shape.key_dim)
        return None if cosine is None else _around(cosine, f"cosine with A of {family} after {setting.stored} pairs")
    if experiment != RETENTION.name or at is None:
        return None
    ages = np.array(next(list(b) for b in age_bins(setting.writes) if age_of(b) == at), dtype=np.float64)
    when = f"{int(ages[0])} to {int(ages[-1])} writes later"
    if metric == "gain":
        gain = retained(plug, ages, shape.key_dim)
        return None if gain is None else _around(gain, f"gain of {family} {when}")
    held = theory.cache_survival(spec.eviction, setting.writes, shape.capacity)
    if metric != "recall" or held is None or not reads_what_it_holds(plug, shape):
        return None
    return theory.around(
        float(held[ages.astype(int)].mean()), len(ages), f"{spec.eviction} with room for {shape.capacity}, held {when}"
    )


def _around(value: float, source: str) -> Bound:
    return Bound(value - TOLERANCE, value + TOLERANCE, f"theory: {source} = {value:.3f}")
