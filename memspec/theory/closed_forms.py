"""Closed-form predictions per family, as small functions and as two-sided bands on what experiments measure.

The functions (:func:`hebbian_recall`, :func:`delta_retention`, ...) take plain numbers and are tested against
simulation. :func:`band` says which of them a memory's spec subscribes to, and under which assumptions:

* the experiment's streams: random unit keys (``key_domain`` real or unit), values of independent components
  (``value_domain`` real, unit or sign), ``association="hetero"``, every batch shown once (``presentations=1``);
* ``family="hebbian"``: the answer to q is ``sum_i (q . k_i) v_i``, up to one common factor for recall and cosine,
  exactly for errors; no decay, no normaliser;
* ``family="delta"``: ``S <- S + beta k^T (v - k S)``, rows in order, from S = 0. The step is the spec's
  ``beta``; a memory that does not tell it is held only to what is true of every step;
* ``family="least_squares"``: the minimum of the squared error over all pairs shown (a ridge small against 1 is
  within the band);
* ``family="softmax"``: the answer is the softmax-weighted mean of the stored values with scores ``beta q . k``,
  ``beta`` of the spec; nothing is required of one that does not tell it;
* ``family="cache"`` with an ``eviction``: what is held is answered exactly, what was evicted is not.

Correlations: an answer is ``sum_j c_j v_j``. Decoding it by cosine among the values compares sample correlations of
``value_dim`` components, whose Fisher transform is close to normal with variance ``1 / (value_dim - 2)`` around the
transform of ``c_j / |c|``. All recall formulas below are that statement with the coefficients of the family; it is
what the textbook signal-to-noise formula leaves out (the length of the value cancels), which is why that one is 0 to
.10 too low.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from memspec.experiments.base import Setting
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug

Floats = NDArray[np.float64]

SHOWABLE = 0.9
"""The largest lower bound of a band. A perfect memory meets it after 80 trials; .95 takes 165, .97 more than 256."""

_Z = np.linspace(-7.0, 7.0, 281)
_WEIGHTS = np.exp(-(_Z**2) / 2) * (_Z[1] - _Z[0]) / math.sqrt(2 * math.pi)


def log_normal_cdf(x: ArrayLike) -> Floats:
    """Natural log of the standard normal distribution function."""
    return torch.special.log_ndtr(torch.as_tensor(np.asarray(x, dtype=np.float64))).numpy()


def normal_cdf(x: ArrayLike) -> Floats:
    """The standard normal distribution function."""
    return np.exp(log_normal_cdf(x))


# ---- decoding -------------------------------------------------------------------------------------------------


def decoded(correlation: ArrayLike, spread: ArrayLike, n: int, value_dim: int) -> Floats:
    """Probability that the right one of ``n`` values has the largest cosine with the answer.

    Args:
        correlation: ``[...]``, of the answer with its value, ``c_i / |c|``.
        spread: ``[..., G]`` (or a number), variance of ``c_j / |c|`` over the other values, in G groups of one size.
        n: values to choose from.
        value_dim: components of a value; fewer than 4 give nothing useful.

    Returns:
        ``[...]``: ``integral phi(z) prod_j Phi((F(correlation) + s z) / sqrt(s^2 + spread_j)) dz`` over the n - 1
        others, with F Fisher's transform and ``s^2 = 1 / (value_dim - 2)``.
    """
    rho = np.minimum(np.asarray(correlation, dtype=np.float64), 1 - 1e-12)[..., None]
    s2 = 1.0 / max(value_dim - 2, 1)
    width = np.sqrt(s2 + np.atleast_1d(np.asarray(spread, dtype=np.float64)))
    target = np.arctanh(rho) + math.sqrt(s2) * _Z
    log_right = sum(log_normal_cdf(target / width[..., g, None]) for g in range(width.shape[-1])) / width.shape[-1]
    return np.asarray((np.exp((n - 1) * log_right) * _WEIGHTS).sum(-1))


# ---- linear memories ------------------------------------------------------------------------------------------


def hebbian_relative_mse(n: int, key_dim: int, value_dim: float = math.inf) -> float:
    """Mean ``|answer - v|^2 / |v|^2`` of ``sum k^T v`` over n random unit keys: ``(n-1)/d``.

    With a finite ``value_dim``, of N(0, 1) values, whose ``E[1/|v|^2]`` brings the factor ``dv / (dv - 2)``.
    """
    return (n - 1) / key_dim * _length_factor(value_dim)


def hebbian_cosine(n: int, key_dim: int) -> float:
    """Mean cosine of answer and value for a Hebbian matrix: ``1 / sqrt(1 + (n-1)/d)``."""
    return 1 / math.sqrt(1 + (n - 1) / key_dim)


def hebbian_recall(n: int, key_dim: int, value_dim: int) -> float:
    """Share of n values recalled by cosine from a Hebbian matrix (Kohonen 1972; Anderson 1972) with random unit keys."""
    rho = hebbian_cosine(n, key_dim)
    return float(decoded(rho, rho**2 / key_dim, n, value_dim))


def hebbian_recall_snr(n: int, key_dim: int, value_dim: int) -> float:
    """The textbook signal-to-noise form of :func:`hebbian_recall`, 0 to .10 too low; kept for comparison.

    ``integral phi(z) Phi((1 + s_t z)/s_c)^(n-1) dz`` with ``s_t^2 = (n-1)/(d dv)``,
    ``s_c^2 = 1/d + 1/dv + (n-2)/(d dv)``.
    """
    target = math.sqrt((n - 1) / (key_dim * value_dim))
    other = math.sqrt(1 / key_dim + 1 / value_dim + max(n - 2, 0) / (key_dim * value_dim))
    return float((np.exp((n - 1) * log_normal_cdf((1 + target * _Z) / other)) * _WEIGHTS).sum())


def least_squares_floor(n: int, key_dim: int) -> float:
    """The least relative squared error of any linear map on n random pairs with centred values: ``max(0, 1 - d/n)``."""
    return max(0.0, 1 - key_dim / n)


def least_squares_relative_mse(n: int, key_dim: int, value_dim: float = math.inf) -> float:
    """Mean relative error of the least-squares map: the floor, for N(0, 1) values of a finite dimension a little above."""
    held = min(1.0, key_dim / n)
    return (1 - held) ** 2 + held * (1 - held) * _length_factor(value_dim)


def least_squares_recall(n: int, key_dim: int, value_dim: int) -> float:
    """Share of n values recalled by cosine from the least-squares map; 1 up to n = d.

    Its answers are ``P V`` with a projection P of rank d, so the squared correlation of an answer with its value is
    ``P_ii``, d/n on average, with the Beta(d/2, (n-d)/2) spread of a leverage.
    """
    if n <= key_dim:
        return 1.0
    held = key_dim / n
    deviation = math.sqrt(held * (1 - held) / (n / 2 + 1))
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    leverage = np.clip(held + deviation * nodes, 1e-6, 1 - 1e-6)
    chances = decoded(np.sqrt(leverage), ((1 - leverage) / (n - 1))[:, None], n, value_dim)
    return float((chances * weights).sum() / weights.sum())


def max_recallable_linear(key_dim: int) -> int:
    """Largest N with ``N ln N <= d^2 / 2``: more pairs can not all be recalled by any d x d matrix.

    Giorlandino, Goldt and Maillard 2026 (arXiv 2605.10795); natural logarithm, exact only for large d.
    """
    n = 1
    while (n + 1) * math.log(n + 1) <= key_dim**2 / 2:
        n += 1
    return n


def delta_retention(age: ArrayLike, key_dim: int, beta: float = 1.0) -> Floats:
    """Mean share of a value left in the answer after ``age`` later writes of the delta rule: ``beta (1 - beta/d)^age``.

    Exact in the mean for independent random unit keys: each write multiplies the expected gain by ``1 - beta/d``.
    """
    return beta * (1 - beta / key_dim) ** np.asarray(age, dtype=np.float64)


def delta_half_life(key_dim: int, beta: float = 1.0) -> float:
    """Writes after which :func:`delta_retention` has halved: ``ln 2 / -ln(1 - beta/d)``, about ``d ln 2 / beta``."""
    return math.log(2) / -math.log1p(-beta / key_dim)


def delta_residual(steps: ArrayLike, beta: float, squared_norm: float = 1.0) -> Floats:
    """Relative error ``|answer - v| / |v|`` of one pair after so many delta steps on it alone: ``|1 - beta |k|^2|^steps``."""
    return np.abs(1 - beta * squared_norm) ** np.asarray(steps, dtype=np.float64)


@lru_cache(maxsize=256)
def delta_moments(n: int, key_dim: int, beta: float = 1.0) -> tuple[Floats, Floats, Floats]:
    """What one pass of the delta rule over n pairs leaves in the answers, by age 0..n-1 (0 = newest).

    Returns:
        ``(gain, gain squared, noise)``, each ``[n]``: the mean coefficient of the value itself in its answer, the
        mean of its square, and the mean sum of the squared coefficients of all other values.

    The answer to k_i has coefficients ``beta u_t . k_t``, where u runs back from k_i by
    ``u <- (I - beta k_t k_t^T) u``. For random unit k, ``E|u|^2`` shrinks by ``1 - (2 beta - beta^2)/d`` a write, and
    ``E(u . k_i)^2`` follows the linear recursion below.
    """
    d = key_dim
    shrink = 1 - (2 * beta - beta**2) / d
    along, length = np.empty(n), np.empty(n)
    p = q = 1.0
    for age in range(n):
        along[age], length[age] = p, q
        p, q = p * (1 - 2 * beta / d) + beta**2 * (q + 2 * p) / (d * (d + 2)), q * shrink
    ages = np.arange(n)
    later = beta / (2 - beta) * (1 - shrink**ages)
    before = beta / (2 - beta) * (length - (2 * beta - beta**2) * along) * (1 - shrink ** (n - 1 - ages))
    return delta_retention(ages, d, beta), beta**2 * along, np.asarray(later + before)


def delta_relative_mse(n: int, key_dim: int, value_dim: float = math.inf, beta: float = 1.0) -> float:
    """Mean relative squared error over n pairs after one pass of the delta rule."""
    gain, square, noise = delta_moments(n, key_dim, beta)
    return float((1 - 2 * gain + square + noise * _length_factor(value_dim)).mean())


def delta_cosine(n: int, key_dim: int, beta: float = 1.0) -> float:
    """Mean cosine of answer and value over n pairs after one pass of the delta rule."""
    gain, square, noise = delta_moments(n, key_dim, beta)
    return float((gain / np.sqrt(square + noise)).mean())


def delta_recall_by_age(n: int, key_dim: int, value_dim: int, beta: float = 1.0) -> Floats:
    """``[n]`` probability that a value is recalled by cosine after one pass over n pairs, by age 0..n-1 (0 = newest).

    Takes the coefficients of one answer as independent, which is up to .04 too high (.06 where value_dim is several
    times key_dim).
    """
    if n == 1:
        return np.ones(1)
    ages = np.unique(np.linspace(0, n - 1, min(n, 33)).astype(int))  # the curve is smooth: the rest is interpolated
    gain, square, noise = (part[ages] for part in delta_moments(n, key_dim, beta))
    gain_spread = np.sqrt(np.maximum(square - gain**2, 0))
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    gains = np.maximum(gain[:, None] + gain_spread[:, None] * nodes, 0.0)
    rho = gains / np.sqrt(gains**2 + noise[:, None] + 1e-300)
    # Newer values have larger coefficients in every answer, so the rivals are not alike; those of similar age are.
    shares = (1 - (2 * beta - beta**2) / key_dim) ** np.arange(n)
    rivals = np.array([part.mean() for part in np.array_split(shares, min(n, 16))]) / shares.mean()
    spread = (noise / (n - 1) / (square + noise))[:, None, None] * rivals
    chances = decoded(rho, spread, n, value_dim)
    return np.interp(np.arange(n), ages, (chances * weights).sum(-1) / weights.sum())


@lru_cache(maxsize=256)
def delta_recall(n: int, key_dim: int, value_dim: int, beta: float = 1.0) -> float:
    """Share of n values recalled by cosine after one pass of the delta rule."""
    return float(delta_recall_by_age(n, key_dim, value_dim, beta).mean())


# ---- stores ---------------------------------------------------------------------------------------------------


def softmax_weight(n: int, key_dim: int, beta: float) -> float:
    """Mean weight of a softmax read on the pair asked for, among n random unit keys: ``1/(1+(n-1)exp(-b+b^2/2d))``; b << d."""
    return 1 / (1 + (n - 1) * math.exp(-beta + beta**2 / (2 * key_dim)))


def softmax_exact_error(n: int, beta: float, gap: float) -> float:
    """Largest weight a softmax read can leave on other pairs when scores differ by at least ``gap``: ``(n-1) exp(-beta gap)``.

    Ramsauer et al. 2020, "Hopfield Networks is All You Need", theorem 5, in its empirical form.
    """
    return min(1.0, (n - 1) * math.exp(-beta * gap))


@lru_cache(maxsize=256)
def softmax_recall(n: int, key_dim: int, value_dim: int, beta: float) -> float:
    """Share of n values recalled by cosine from a softmax read with scores ``beta q . k`` over random unit keys."""
    cosines, chances = sphere_coordinate(key_dim)
    others = np.exp(beta * (cosines - 1))  # coefficients relative to that of the pair asked for
    norm = math.sqrt(1 + (n - 1) * float((others**2 * chances).sum()))
    s = 1 / math.sqrt(max(value_dim - 2, 1))
    target = math.atanh(min(1 / norm, 1 - 1e-12)) + s * _Z
    rivals = np.arctanh(np.minimum(others / norm, 1 - 1e-12))
    beaten = (normal_cdf((target[:, None] - rivals) / s) * chances).sum(-1)
    return float((np.minimum(beaten, 1.0) ** (n - 1) * _WEIGHTS).sum())


def softmax_cosine(n: int, key_dim: int, beta: float) -> float:
    """Mean cosine of answer and value for a softmax read, ``1 / sqrt(1 + (n-1) E exp(2 beta (c - 1)))``."""
    cosines, chances = sphere_coordinate(key_dim)
    return 1 / math.sqrt(1 + (n - 1) * float((np.exp(2 * beta * (cosines - 1)) * chances).sum()))


def knn_noisy_recall(n: int, key_dim: int, sigma: float) -> float:
    """Probability that the nearest of n random unit keys to ``(k + sigma u)/|k + sigma u|``, u a random unit vector, is k.

    Exact: the query's cosine with k is ``(1 + sigma c)/sqrt(1 + sigma^2 + 2 sigma c)``, c and the cosines with other
    keys being coordinates of a random point on the sphere.
    """
    cosines, chances = sphere_coordinate(key_dim)
    below = np.cumsum(chances) - chances / 2
    length = np.sqrt(np.maximum(1 + sigma**2 + 2 * sigma * cosines, 1e-30))
    hit = np.interp((1 + sigma * cosines) / length, cosines, below)
    return float((hit ** (n - 1) * chances).sum())


def cache_survival(eviction: str, n: int, capacity: int) -> Floats | None:
    """``[n]`` probability that a pair is still held after n distinct writes, by age 0..n-1 (0 = newest).

    ``fifo`` and ``lru`` (without reads): the newest C. ``random``: a pair that meets e evictions survives with
    ``(1 - 1/C)^e``. ``reservoir`` (Vitter 1985): C/n at every age. None for other policies.
    """
    ages = np.arange(n)
    if n <= capacity and eviction in ("fifo", "lru", "random", "reservoir"):
        return np.ones(n)
    if eviction in ("fifo", "lru"):
        return (ages < capacity).astype(float)
    if eviction == "random":
        return (1 - 1 / capacity) ** np.minimum(ages, n - capacity).astype(float)
    if eviction == "reservoir":
        return np.full(n, capacity / n)
    return None


# ---- superposition, SDM, Hopfield -----------------------------------------------------------------------------


def superposition_recall(n: int, dim: int) -> float:
    """Share of n values recalled by cosine from a sum of n bound pairs in ``dim`` dimensions (MAP, HRR: Plate 1995).

    Unbinding leaves the value plus n - 1 vectors of the same length: correlation ``1/sqrt(n)``.
    """
    return float(decoded(1 / math.sqrt(n), 0.0, n, dim))


def sdm_bit_accuracy(writes: int, locations: int, activation: float) -> float:
    """Share of bits a sparse distributed memory reads back rightly at the written address (Kanerva 1988).

    ``Phi(p L / sqrt((T-1)(p^2 L + p^4 L^2)))`` for T writes, L hard locations, each activated with probability p.
    """
    if writes < 2:
        return 1.0
    p, size = activation, locations
    return float(normal_cdf(p * size / math.sqrt((writes - 1) * (p**2 * size + p**4 * size**2))))


def hopfield_bit_accuracy(patterns: int, dim: int) -> float:
    """Share of right bits after one step from a stored +-1 pattern: ``1 - erfc(sqrt(D / 2p)) / 2`` (Hopfield 1982)."""
    return 1 - 0.5 * math.erfc(math.sqrt(dim / (2 * patterns)))


def hopfield_capacity(dim: int, error_free: bool = False) -> float:
    """Patterns a Hopfield net of ``dim`` units holds: ``.138 D`` with a few wrong bits, ``D / (4 ln D)`` all error-free."""
    return dim / (4 * math.log(dim)) if error_free else 0.138 * dim


def n_at(
    recall: float, predicted: Callable[[int, int, int], float], key_dim: int, value_dim: int, largest: int = 1 << 14
) -> int:
    """Largest N up to which ``predicted(N, key_dim, value_dim) >= recall``; by bisection, the prediction falls with N."""
    low, high = 1, 2
    while high < largest and predicted(high, key_dim, value_dim) >= recall:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if predicted(middle, key_dim, value_dim) >= recall else (low, middle)
    return low


# ---- helpers --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def sphere_coordinate(dim: int, points: int = 2001) -> tuple[Floats, Floats]:
    """``(cosines, chances)``: the distribution of one coordinate of a random point on the unit sphere in R^dim."""
    angles = (np.arange(points) + 0.5) * math.pi / points
    log_density = (dim - 2) * np.log(np.sin(angles))
    chances = np.exp(log_density - log_density.max())
    return np.cos(angles)[::-1], (chances / chances.sum())[::-1]


def _length_factor(value_dim: float) -> float:
    """``E|v|^2 E[1/|v|^2]`` of N(0, 1) values; 1 for values of one length (``value_dim`` infinite)."""
    return 1.0 if math.isinf(value_dim) else value_dim / max(value_dim - 2, 1)


# ---- bands ----------------------------------------------------------------------------------------------------


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


SMALLEST = 16
"""Least key_dim and value_dim for which bands are given; the formulas are for many dimensions."""


def around_error(error: float, n: int, value_dim: int, source: str) -> Bound:
    """The band that most trials' mean relative error over n pairs must lie in.

    Its half-width is three standard deviations of one trial's mean: n(n-1)/2 squared cosines of keys, and n values
    of ``value_dim`` components; at least 3% (1e-2 where no error is predicted).
    """
    off = max(0.03, 3 * math.sqrt(4 / max(n * (n - 1), 1) + 2 / (n * value_dim)))
    named = f"theory: {source} = {error:.4g}"
    if error < 1e-9:
        return Bound(at_most=1e-2, source=named)
    return Bound(at_least=error * max(1 - off, 0), at_most=error * (1 + off), source=named)


def band(plug: Plug, experiment: str, setting: Setting, metric: str, at: float | None = None) -> Bound | None:
    """What theory requires of this family in this setting, or None where it says nothing.

    Args:
        experiment: its name; capacity, dimensions and adaptation are known here.
        at: the point of a curve.
    """
    spec, fields = plug.spec, vars(setting)
    from memspec.theory.load import PREDICTIONS  # imports this module

    predict = PREDICTIONS.get(experiment)
    if predict is None or spec.association != "hetero" or spec.presentations != 1 or spec.fidelity == "trained":
        return None
    if spec.key_domain not in ("real", "unit") or spec.value_domain == "onehot":
        return None
    key_dim, value_dim = fields["key_dim"], fields["value_dim"]
    if experiment == "dimensions.token" and at is not None:
        key_dim = value_dim = int(at)
    shape = plug.shape(key_dim, value_dim, fields["capacity"])
    if min(shape.key_dim, shape.value_dim) < SMALLEST:
        return None
    return predict(plug, setting, shape, metric, at)
