"""Closed-form predictions for imperfect conditions: noisy and partial cues, correlated keys, distractors, foils.

The counterpart of :mod:`memspec.theory.closed_forms` for the robustness and selectivity axes, under the assumptions stated there
(random unit keys, values of independent components, ``association="hetero"``). A degraded unit cue is
``q = t k + sqrt(1 - t^2) w`` with w a random direction orthogonal to k; everything follows from the distribution of
``t``, the cosine of the cue with its key. What is added to the families' definitions:

* ``family="cache"``: the answer is the value of the nearest stored key, whatever the distance. (A dictionary that
  answers only exact keys is ``generic``.)
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memspec.experiments.base import Setting
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory import closed_forms as theory

Floats = NDArray[np.float64]

SMALLEST = 16
"""Least key_dim and value_dim for which bands are given; the formulas are for many dimensions."""

NODES = 15
"""Values of t that a prediction is averaged over."""


# ---- how far a cue is from its key ----------------------------------------------------------------------------


@lru_cache(maxsize=64)
def noisy_cosine(key_dim: int, sigma: float) -> tuple[Floats, Floats]:
    """``(t, chances)``: the cosine of ``(k + sigma u)/|k + sigma u|`` with k, u a random unit vector."""
    cosines, chances = theory.sphere_coordinate(key_dim)
    length = np.sqrt(np.maximum(1 + sigma**2 + 2 * sigma * cosines, 1e-30))
    return _thinned((1 + sigma * cosines) / length, chances)


@lru_cache(maxsize=64)
def partial_cosine(key_dim: int, kept: int) -> tuple[Floats, Floats]:
    """``(t, chances)``: the cosine of a random unit key with itself when all but ``kept`` entries are zero.

    ``t^2`` follows Beta(kept/2, (d - kept)/2).
    """
    if kept >= key_dim:
        return np.ones(1), np.ones(1)
    square = (np.arange(2000) + 0.5) / 2000
    log_density = (kept / 2 - 1) * np.log(square) + ((key_dim - kept) / 2 - 1) * np.log1p(-square)
    chances = np.exp(log_density - log_density.max())
    return _thinned(np.sqrt(square), chances / chances.sum())


def _thinned(values: Floats, chances: Floats) -> tuple[Floats, Floats]:
    """The same distribution on :data:`NODES` quantiles of equal chance."""
    order = np.argsort(values)
    cumulative = np.cumsum(chances[order]) - chances[order] / 2
    return np.interp((np.arange(NODES) + 0.5) / NODES, cumulative, values[order]), np.full(NODES, 1 / NODES)


_HERMITE = np.polynomial.hermite_e.hermegauss(5) / np.array([[1.0], [math.sqrt(2 * math.pi)]])


def _around(mean: Floats, deviation: Floats) -> Floats:
    """Values ``[..., 5]`` of a normal coefficient to average over with weights ``_HERMITE[1]``, negative ones as 0."""
    return np.maximum(mean[..., None] + deviation[..., None] * _HERMITE[0], 0.0)


# ---- recall from such a cue -----------------------------------------------------------------------------------


def nearest_recall(n: int, key_dim: int, t: Floats, chances: Floats) -> float:
    """Probability that none of n - 1 other random unit keys is nearer to the cue than its own, at cosine t."""
    cosines, density = theory.sphere_coordinate(key_dim)
    below = np.cumsum(density) - density / 2
    return float((np.interp(t, cosines, below) ** (n - 1) * chances).sum())


def hebbian_cue_recall(n: int, key_dim: int, value_dim: int, t: Floats, chances: Floats) -> float:
    """Share recalled by cosine from a Hebbian matrix: coefficient t on the value itself, 1/d variance on the others."""
    total = t**2 + (n - 1) / key_dim
    found = theory.decoded(t / np.sqrt(total), (1 / key_dim / total)[:, None], n, value_dim)
    return float((found * chances).sum())


def least_squares_cue_recall(n: int, key_dim: int, value_dim: int, t: Floats, chances: Floats) -> float | None:
    """Share recalled by cosine from the least-squares map with n well below d; None otherwise.

    Coefficients are those of the cue in the dual basis of the keys, whose vectors have mean squared length
    ``d / (d - n - 1)`` (inverse Wishart) and are orthogonal to all keys but their own, along which they have length 1.
    """
    if n > 0.75 * key_dim:
        return None
    stray = (1 - t**2) / ((key_dim - 1) * (key_dim - n - 1))
    own = _around(t, np.sqrt(stray * (n + 1)))
    rest = (stray * key_dim)[:, None]
    total = own**2 + (n - 1) * rest + 1e-300
    found = theory.decoded(own / np.sqrt(total), (rest / total)[..., None], n, value_dim)
    return float(((found * _HERMITE[1]).sum(-1) * chances).sum())


def delta_cue_recall(n: int, key_dim: int, value_dim: int, beta: float, t: Floats, chances: Floats) -> float:
    """Share recalled by cosine after one pass of the delta rule; :func:`memspec.theory.closed_forms.delta_moments` with a part
    ``1 - t^2`` of the cue in a random direction, which picks up ``beta^2 (1 - (2 beta - beta^2)/d)^age / d`` of each pair.
    """
    gain, square, noise = theory.delta_moments(n, key_dim, beta)
    shrink = 1 - (2 * beta - beta**2) / key_dim
    stray = beta**2 / key_dim * shrink ** np.arange(n)
    t2 = (t**2)[:, None]
    own_gain = t[:, None] * gain
    own_spread = np.sqrt(np.maximum(t2 * (square - gain**2) + (1 - t2) * stray, 0))
    rest = t2 * noise + (1 - t2) * (stray.sum() - stray)
    own = _around(own_gain, own_spread)
    total = own**2 + rest[..., None] + 1e-300
    found = theory.decoded(own / np.sqrt(total), (rest[..., None] / (n - 1) / total)[..., None], n, value_dim)
    return float(((found * _HERMITE[1]).sum(-1).mean(-1) * chances).sum())


def correlated_hebbian_recall(n: int, key_dim: int, value_dim: int, rho: float) -> float:
    """Share recalled by cosine from a Hebbian matrix whose keys are ``sqrt(rho) c + sqrt(1 - rho) u_i``, normalised.

    Every other value comes back with a coefficient of mean rho and variance ``(1-rho)^2 (1 + 2 rho (1-rho)) / d``.
    """
    variance = (1 - rho) ** 2 * (1 + 2 * rho * (1 - rho)) / key_dim
    total = math.sqrt(1 + (n - 1) * (rho**2 + variance))
    lead = math.atanh(min(1 / total, 1 - 1e-12)) - math.atanh(rho / total)
    return float(theory.decoded(math.tanh(lead), variance / total**2, n, value_dim))


def distracted_hebbian_recall(signal: int, shows: int, distractors: int, key_dim: int, value_dim: int) -> float:
    """Share of ``signal`` pairs, each shown ``shows`` times, recalled among all values from a Hebbian matrix."""
    rivals = signal - 1 + distractors
    noise = (shows**2 * (signal - 1) + distractors) / key_dim
    total = shows**2 + noise
    return float(theory.decoded(shows / math.sqrt(total), noise / rivals / total, rivals + 1, value_dim))


@lru_cache(maxsize=64)
def loudness_auroc(n: int, key_dim: int, value_dim: int, family: str, beta: float = 1.0) -> float | None:
    """Chance that a linear memory answers a stored key with a longer vector than a key never stored.

    With N(0, 1) values an answer's squared length is ``E chi2(dv)``, E the sum of its squared coefficients, so the
    chance is that of an F(dv, dv) variable below ``E_stored / E_foil``. For a key never stored E is ``chi2(n)/d``
    (Hebb), the same times the share ``beta (1 - (1 - (2 beta - beta^2)/d)^n) / (2 - beta) d/n`` that later writes
    leave (delta), or ``d Beta(n/2, (d-n)/2) / chi2(d-n+1)`` (least squares: the part of the key in the span of the
    stored ones, over a Wishart quotient). Answers to both share the values' lengths, which this leaves out: at the
    n = d/4 it is used at it is less than .01 (d = 64) or .035 (d = 16) too low.
    """
    from scipy import special

    d = key_dim
    chances = (np.arange(31) + 0.5) / 31

    def chi2(freedom: int) -> Floats:
        return np.asarray(2 * special.gammaincinv(freedom / 2, chances))

    foil, stored = chi2(n) / d, np.ones(1)
    if family == "hebbian":
        stored = 1 + chi2(n - 1) / d
    elif family == "delta":
        _, square, rest = theory.delta_moments(n, d, beta)
        foil *= beta / (2 - beta) * (1 - (1 - (2 * beta - beta**2) / d) ** n) * d / n
        stored = square[:, None] + rest[:, None] * chi2(n - 1) / (n - 1)
    elif family == "least_squares" and n < d / 2:
        foil = d * special.betaincinv(n / 2, (d - n) / 2, chances)[:, None] / chi2(d - n + 1)
    else:
        return None
    ratio = stored.reshape(-1, 1) / foil.reshape(1, -1)
    return float(special.fdtr(value_dim, value_dim, ratio).mean())


# ---- bands ----------------------------------------------------------------------------------------------------


def band(plug: Plug, experiment: str, setting: Setting, metric: str, at: float | None = None) -> Bound | None:
    """What theory requires of this family about imperfect cues and foils, or None where it says nothing."""
    predict = _PREDICTIONS.get((experiment, metric))
    spec, fields = plug.spec, vars(setting)
    if predict is None or spec.association != "hetero" or spec.presentations != 1:
        return None
    if spec.key_domain not in ("real", "unit") or spec.value_domain == "onehot" or spec.fidelity == "trained":
        return None
    shape = plug.shape(fields["key_dim"], fields["value_dim"], fields["capacity"])
    if min(shape.key_dim, shape.value_dim) < SMALLEST:
        return None
    found = predict(plug, setting, shape.key_dim, shape.value_dim, at)
    if found is None:
        return None
    value, count, source = found
    return theory.around(value, count, source)


Prediction = tuple[float, int, str]


def _from_cue(
    plug: Plug, n: int, key_dim: int, value_dim: int, t: Floats, chances: Floats, cue: str
) -> Prediction | None:
    family, beta = plug.spec.family, plug.spec.beta
    value: float | None = None
    if family == "cache" and _holds(plug, n):
        value = nearest_recall(n, key_dim, t, chances)
    elif family == "hebbian":
        value = hebbian_cue_recall(n, key_dim, value_dim, t, chances)
    elif family == "delta" and beta is not None:
        value = delta_cue_recall(n, key_dim, value_dim, beta, t, chances)
    elif family == "least_squares":
        value = least_squares_cue_recall(n, key_dim, value_dim, t, chances)
    return None if value is None else (value, n, f"recall of {n} pairs by the {family} family from {cue}")


def _holds(plug: Plug, n: int) -> bool:
    """A cache is held to what fits: the capacity it declares, or is given as a literal; another is large enough."""
    return n <= plug.shape(capacity=n).capacity


def _noise(plug: Plug, setting: Setting, key_dim: int, value_dim: int, at: float | None) -> Prediction | None:
    assert at is not None
    t, chances = noisy_cosine(key_dim, at)
    return _from_cue(plug, vars(setting)["n"], key_dim, value_dim, t, chances, f"cues with noise {at:g}")


def _association(plug: Plug, setting: Setting, key_dim: int, value_dim: int, at: float | None) -> Prediction | None:
    if vars(setting)["kind"] == "auto" and plug.spec.family != "cache":
        return None  # the other families' formulas take keys and values to be independent
    return _noise(plug, setting, key_dim, value_dim, vars(setting)["sigma"])


def _partial(plug: Plug, setting: Setting, key_dim: int, value_dim: int, at: float | None) -> Prediction | None:
    assert at is not None
    t, chances = partial_cosine(key_dim, key_dim - round(at * key_dim))
    return _from_cue(plug, vars(setting)["n"], key_dim, value_dim, t, chances, f"cues with {at:.0%} erased")


def _correlated(plug: Plug, setting: Setting, key_dim: int, value_dim: int, at: float | None) -> Prediction | None:
    assert at is not None
    n, family = vars(setting)["n"], plug.spec.family
    source = f"recall of {n} pairs by the {family} family, keys correlated {at:g}"
    if family == "hebbian":
        return correlated_hebbian_recall(n, key_dim, value_dim, at), n, source
    if (family == "cache" and _holds(plug, n)) or (family == "least_squares" and n <= 0.75 * key_dim):
        return 1.0, n, source
    return None


def _distractors(plug: Plug, setting: Setting, key_dim: int, value_dim: int, at: float | None) -> Prediction | None:
    assert at is not None
    from memspec.experiments.robustness import Distractors, distractor_count

    assert isinstance(setting, Distractors)
    n, family, many = setting.n, plug.spec.family, distractor_count(setting, at)
    source = f"recall of {n} pairs by the {family} family among {many} distractors"
    if family == "hebbian" and plug.spec.overwrite == "add":
        return distracted_hebbian_recall(n, setting.shows, many, key_dim, value_dim), n, source
    if family == "cache" and _holds(plug, n * setting.shows + many):
        return 1.0, n, source
    return None


def _loudness(plug: Plug, setting: Setting, key_dim: int, value_dim: int, at: float | None) -> Prediction | None:
    n, family, beta = min(vars(setting)["n"], key_dim // 4), plug.spec.family, plug.spec.beta
    if family == "delta" and beta is None:
        return None
    value = loudness_auroc(n, key_dim, value_dim, family, beta or 1.0)
    return None if value is None else (value, n * n, f"AUROC of answer norm, {n} stored, {family} family")


_PREDICTIONS = {
    ("selectivity.foils", "norm_auroc"): _loudness,
    ("robustness.noise", "recall"): _noise,
    ("robustness.cue", "recall"): _partial,
    ("robustness.correlated", "recall"): _correlated,
    ("robustness.distractors", "signal_recall"): _distractors,
    ("robustness.association", "noisy_recall"): _association,
}
