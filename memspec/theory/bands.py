"""Bands: what checks require of a memory that declares a family, made of the family's predictions.

:func:`band` is the one entry. What an experiment's metric is a prediction of stands in :data:`PREDICTIONS`; how far a
trial or a mean may be off it, here too. A band has two sides, of which one is left out only where it says nothing: it
lies at the end of the metric's range (a share of 1, an error of 0), or beyond. The exception is the least error of all
linear maps, which is a floor for a delta memory that does not tell its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from memspec.experiments.base import Setting
from memspec.experiments.retention import age_bins, age_of
from memspec.experiments.robustness import Distractors, distractor_count
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory.cache import Cache
from memspec.theory.delta import Delta
from memspec.theory.family import Family
from memspec.theory.hebbian import Hebbian
from memspec.theory.least_squares import LeastSquares
from memspec.theory.numerics import Floats, noisy_cosine, partial_cosine
from memspec.theory.softmax import Softmax
from memspec.theory.superposition import Superposition

SHOWABLE = 0.9
"""The largest lower bound of a band. A perfect memory meets it after 80 trials; .95 takes 165, .97 more than 256."""

TOLERANCE = 0.1
"""Half-width of a band on a gain or a cosine: a twentieth of the metric's range, what the default trials can show."""

INSIDE = 0.97
"""Share of a sound memory's trials that lie within an error band, at the least."""

ENDS = (0.0005, 0.9995)
"""Quantiles that an error band reaches; what is left to :data:`INSIDE` is how far the spread is from exact."""

FAMILIES: dict[str, type[Family]] = {
    "generic": Family,
    "hebbian": Hebbian,
    "delta": Delta,
    "least_squares": LeastSquares,
    "cache": Cache,
    "softmax": Softmax,
    "superposition": Superposition,
}
"""The class of every family that a spec can name."""


Predict = Callable[[Family, Setting, "float | None"], "Bound | None"]


def family_of(plug: Plug, key_dim: int, value_dim: int, capacity: int) -> Family:
    """The predictions for a memory of the nearest widths that this plug can be built with."""
    return FAMILIES[plug.spec.family](plug.spec, plug.shape(key_dim, value_dim, capacity))


def band(plug: Plug, experiment: str, setting: Setting, metric: str, at: float | None = None) -> Bound | None:
    """What theory requires of this memory in this setting, or None where it says nothing.

    Args:
        experiment: its name.
        at: the point of a curve.
    """
    predict = PREDICTIONS.get((experiment, metric))
    if predict is None:
        return None
    fields = vars(setting)
    key_dim, value_dim = fields["key_dim"], fields["value_dim"]
    if experiment == "dimensions.token" and at is not None:
        key_dim = value_dim = int(at)
    family = family_of(plug, key_dim, value_dim, fields["capacity"])
    return predict(family, setting, at) if family.applies() else None


# ---- how far off ----------------------------------------------------------------------------------------------


def tolerance(p: float, count: int) -> float:
    """How far a share predicted as p may be off: ``max(.03, 3 sqrt(p (1-p) / count))``, count = items of one trial."""
    return max(0.03, 3 * math.sqrt(max(p * (1 - p), 0.0) / count))


def around(p: float, count: int, source: str, off: float | None = None) -> Bound | None:
    """The two-sided band around a predicted share, no tighter at the ends than trials can show (:data:`SHOWABLE`).

    Args:
        count: items of one trial.
        off: the half-width, where it is not :func:`tolerance`.

    Returns:
        None if the band would hold every share.
    """
    off = tolerance(p, count) if off is None else off
    at_least, at_most = min(p - off, SHOWABLE), max(p + off, 1 - SHOWABLE)
    if at_least <= 0 and at_most >= 1:
        return None
    return Bound(
        at_least=at_least if at_least > 0 else None,
        at_most=at_most if at_most < 1 else None,
        source=f"theory: {source} = {p:.3f}",
    )


def around_error(error: float, spread: float, source: str) -> Bound:
    """The band that at least :data:`INSIDE` of the trials of such a memory have their mean relative error in.

    The mean of squares is taken to be a gamma variable, whose ends (:data:`ENDS`) the band reaches; they are at least
    3% off (1e-2 where no error is predicted). Two pairs have one squared cosine, which is gamma of shape 1/2 exactly.

    Args:
        spread: the standard deviation of one trial's mean over the error, :meth:`Family.error_spread
            <memspec.theory.family.Family.error_spread>`.
    """
    named = f"theory: {source} = {error:.4g}"
    if error < 1e-9:
        return Bound(at_most=1e-2, source=named)
    low, high = gamma_ends(round(spread, 6))
    return Bound(error * min(low, 0.97), error * max(high, 1.03), named)


@lru_cache(maxsize=256)
def gamma_ends(spread: float) -> tuple[float, float]:
    """The quantiles :data:`ENDS` of a gamma variable of mean 1 and this standard deviation."""
    if spread == 0:
        return 1.0, 1.0
    from scipy import special

    low, high = (float(special.gammaincinv(spread**-2, end)) * spread**2 for end in ENDS)
    return low, high


def around_ratio(ratio: float, source: str) -> Bound:
    """The band around a ratio of errors that does not depend on the pairs drawn: 3%, and 1e-2 for what is left of 0."""
    low = ratio * 0.97 - 1e-2
    return Bound(low if low > 0 else None, ratio * 1.03 + 1e-2, f"theory: {source} = {ratio:.4g}")


def around_level(value: float, source: str) -> Bound:
    """The band around a gain or a cosine, whose ranges it does not reach the ends of."""
    return Bound(value - TOLERANCE, value + TOLERANCE, f"theory: {source} = {value:.3f}")


# ---- experiments ----------------------------------------------------------------------------------------------


def _named(family: Family) -> str:
    return f"the {family.spec.family} family"


def _recall(family: Family, setting: Setting, at: float | None) -> Bound | None:
    n = vars(setting)["n"]
    recall = family.recall(n)
    return None if recall is None else around(recall, n, f"recall of {n} pairs by {_named(family)}")


def _error(family: Family, setting: Setting, at: float | None) -> Bound | None:
    n = vars(setting)["n"]
    error, floor = family.error(n), family.error_floor(n)
    if error is not None:
        return around_error(error, family.error_spread(n), f"relative error of {n} pairs by {_named(family)}")
    if floor is None:
        return None
    return Bound(
        at_least=floor * 0.97, source=f"theory: no linear map has a relative error below 1 - d/N = {floor:.3f}"
    )


def _learning(family: Family, setting: Setting, at: float | None) -> Bound | None:
    """The learning curve ``e_n / e_0`` of pairs shown again and again to an empty memory."""
    if not at:
        return None
    pairs, source = vars(setting)["pairs"], f"e_n / e_0 after {at:g} updates by {_named(family)}"
    if pairs == 1:
        ratio = family.lone_error(at)
        return None if ratio is None else around_ratio(ratio, source)
    error = family.error(pairs) if at == 1 else None
    return None if error is None else around_error(error, family.error_spread(pairs), source)


def _overfilled(part: str) -> Predict:
    """What is left of a part of the pairs, or of those of a certain age, once a store has been overfilled."""

    def predict(family: Family, setting: Setting, at: float | None) -> Bound | None:
        c = family.shape.capacity
        n = vars(setting)["factor"] * c
        held = family.held(n)
        if held is None or (part == "age" and at is None):
            return None
        first = int(at or 0)
        kept = {"all": held, "newest": held[:c], "older": held[c:], "age": held[first : first + max(1, c // 4)]}[part]
        # The survival is exact, so the band need not allow for anything but what a few trials leave open.
        source = f"share of pairs held under {family.spec.eviction} eviction, {n} written, {c} kept"
        return around(float(kept.mean()), n, source, off=0.1)

    return predict


def _older_cosine(family: Family, setting: Setting, at: float | None) -> Bound | None:
    """The mean cosine on Task A after Task B, n random pairs each."""
    if vars(setting)["kind"] != "random":
        return None
    n = vars(setting)["n"]
    cosine = family.older_cosine(n)
    return None if cosine is None else around_level(cosine, f"cosine with A of {_named(family)} after {2 * n} pairs")


def _gain(family: Family, setting: Setting, at: float | None) -> Bound | None:
    if at is None:
        return None
    ages, when = _ages(setting, at)
    gain = family.gain(ages)
    return None if gain is None else around_level(gain, f"gain of {_named(family)} {when}")


def _retained(family: Family, setting: Setting, at: float | None) -> Bound | None:
    """What is still held of pairs of one age."""
    held = family.held(vars(setting)["writes"])
    if at is None or held is None:
        return None
    ages, when = _ages(setting, at)
    source = f"{family.spec.eviction} with room for {family.shape.capacity}, held {when}"
    return around(float(held[ages.astype(int)].mean()), len(ages), source)


def _ages(setting: Setting, at: float) -> tuple[Floats, str]:
    """The ages of the bin whose point stands at ``at``, and their name."""
    bin_ = next(b for b in age_bins(vars(setting)["writes"]) if age_of(b) == at)
    return np.array(bin_, dtype=np.float64), f"{bin_[0]} to {bin_[-1]} writes later"


def _cued(family: Family, setting: Setting, t: Floats, chances: Floats, cue: str) -> Bound | None:
    n = vars(setting)["n"]
    recall = family.cue_recall(n, t, chances)
    return None if recall is None else around(recall, n, f"recall of {n} pairs by {_named(family)} from {cue}")


def _noise(family: Family, setting: Setting, at: float | None) -> Bound | None:
    if at is None:
        return None
    return _cued(family, setting, *noisy_cosine(family.shape.key_dim, at), f"cues with noise {at:g}")


def _partial(family: Family, setting: Setting, at: float | None) -> Bound | None:
    if at is None:
        return None
    d = family.shape.key_dim
    return _cued(family, setting, *partial_cosine(d, d - round(at * d)), f"cues with {at:.0%} erased")


def _association(family: Family, setting: Setting, at: float | None) -> Bound | None:
    fields = vars(setting)
    if fields["kind"] == "auto" and not family.recalls_keys:
        return None
    return _noise(family, setting, fields["sigma"])


def _correlated(family: Family, setting: Setting, at: float | None) -> Bound | None:
    n = vars(setting)["n"]
    recall = None if at is None else family.correlated_recall(n, at)
    if recall is None:
        return None
    return around(recall, n, f"recall of {n} pairs by {_named(family)}, keys correlated {at:g}")


def _distracted(family: Family, setting: Setting, at: float | None) -> Bound | None:
    if at is None or not isinstance(setting, Distractors):
        return None
    many = distractor_count(setting, at)
    recall = family.distracted_recall(setting.n, setting.shows, many)
    if recall is None:
        return None
    return around(recall, setting.n, f"recall of {setting.n} pairs by {_named(family)} among {many} distractors")


def _loudness(family: Family, setting: Setting, at: float | None) -> Bound | None:
    n = min(vars(setting)["n"], family.shape.key_dim // 4)
    chance = family.loudness(n)
    return None if chance is None else around(chance, n * n, f"AUROC of answer norm, {n} stored, {_named(family)}")


PREDICTIONS: dict[tuple[str, str], Predict] = {
    ("capacity.load", "recall_cosine"): _recall,
    ("capacity.load", "relative_mse"): _error,
    ("dimensions.token", "recall_cosine"): _recall,
    ("dimensions.token", "relative_mse"): _error,
    ("capacity.overfill", "recall"): _overfilled("age"),
    ("capacity.overfill", "recall_all"): _overfilled("all"),
    ("capacity.overfill", "recall_newest"): _overfilled("newest"),
    ("capacity.overfill", "recall_older"): _overfilled("older"),
    ("adaptation.single", "error"): _learning,
    ("adaptation.several", "error"): _learning,
    ("forgetting.two_tasks", "a2_similarity"): _older_cosine,
    ("forgetting.retention", "gain"): _gain,
    ("forgetting.retention", "recall"): _retained,
    ("selectivity.foils", "norm_auroc"): _loudness,
    ("robustness.noise", "recall"): _noise,
    ("robustness.cue", "recall"): _partial,
    ("robustness.correlated", "recall"): _correlated,
    ("robustness.distractors", "signal_recall"): _distracted,
    ("robustness.association", "noisy_recall"): _association,
}
"""What each experiment's metric is a prediction of."""
