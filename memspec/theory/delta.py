"""The delta family: ``S <- S + beta k^T (v - k S)``, rows in order, from S = 0.

``beta`` is the spec's. A memory that does not tell it is held only to what is true of every step; one whose rows do not
act in order (``write`` other than ``sequential``) only to what is true of every linear map and of single pairs.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from memspec.theory.family import Family
from memspec.theory.least_squares import least_squares_floor
from memspec.theory.numerics import HERMITE, Floats, around_mean, chi_squared, decoded, length_factor, louder


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
    return float((1 - 2 * gain + square + noise * length_factor(value_dim)).mean())


def delta_cosine_by_age(n: int, key_dim: int, beta: float = 1.0) -> Floats:
    """``[n]`` mean cosine of answer and value after one pass of the delta rule over n pairs, by age 0..n-1."""
    gain, square, noise = delta_moments(n, key_dim, beta)
    return np.asarray(gain / np.sqrt(square + noise))


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


def delta_cue_recall(n: int, key_dim: int, value_dim: int, beta: float, t: Floats, chances: Floats) -> float:
    """Share recalled by cosine after one pass of the delta rule; :func:`delta_moments` with a part
    ``1 - t^2`` of the cue in a random direction, which picks up ``beta^2 (1 - (2 beta - beta^2)/d)^age / d`` of each pair.
    """
    gain, square, noise = delta_moments(n, key_dim, beta)
    shrink = 1 - (2 * beta - beta**2) / key_dim
    stray = beta**2 / key_dim * shrink ** np.arange(n)
    t2 = (t**2)[:, None]
    own_gain = t[:, None] * gain
    own_spread = np.sqrt(np.maximum(t2 * (square - gain**2) + (1 - t2) * stray, 0))
    rest = t2 * noise + (1 - t2) * (stray.sum() - stray)
    own = around_mean(own_gain, own_spread)
    total = own**2 + rest[..., None] + 1e-300
    found = decoded(own / np.sqrt(total), (rest[..., None] / (n - 1) / total)[..., None], n, value_dim)
    return float(((found * HERMITE[1]).sum(-1).mean(-1) * chances).sum())


@lru_cache(maxsize=64)
def delta_loudness(n: int, key_dim: int, value_dim: int, beta: float = 1.0) -> float:
    """:func:`~memspec.theory.numerics.louder` after one pass of the delta rule.

    Of the ``chi2(n)/d`` of a key never stored, later writes leave the share
    ``beta (1 - (1 - (2 beta - beta^2)/d)^n) / (2 - beta) d/n``.
    """
    d = key_dim
    left = beta / (2 - beta) * (1 - (1 - (2 * beta - beta**2) / d) ** n) * d / n
    _, square, rest = delta_moments(n, d, beta)
    return louder(square[:, None] + rest[:, None] * chi_squared(n - 1) / (n - 1), left * chi_squared(n) / d, value_dim)


class Delta(Family):
    """Predictions of the delta rule with step ``spec.beta``."""

    @property
    def step(self) -> float | None:
        """The step, where rows act in order."""
        return self.spec.beta if self.spec.write == "sequential" else None

    def recall(self, n: int) -> float | None:
        if self.step is None:
            return None
        return delta_recall(n, self.shape.key_dim, self.shape.value_dim, self.step)

    def error(self, n: int) -> float | None:
        return None if self.step is None else delta_relative_mse(n, self.shape.key_dim, self.length_dim, self.step)

    def error_spread(self, n: int) -> float:
        """Of the part of the error that other pairs make, and of its product with what a single write leaves."""
        error, left = self.error(n), abs(1 - (self.step or 1.0))
        if error is None or error <= left**2:
            return super().error_spread(n)
        rest = error - left**2
        both = 4 * left**2 * rest / (n * self.shape.value_dim)
        return math.sqrt((super().error_spread(n) * rest) ** 2 + both) / error

    def error_floor(self, n: int) -> float | None:
        return least_squares_floor(n, self.shape.key_dim) if n >= 1.25 * self.shape.key_dim else None

    def lone_error(self, showings: float) -> float | None:
        return None if self.spec.beta is None else float(delta_residual(showings, self.spec.beta)) ** 2

    def older_cosine(self, n: int) -> float | None:
        if self.step is None:
            return None
        return float(delta_cosine_by_age(2 * n, self.shape.key_dim, self.step)[n:].mean())

    def gain(self, ages: Floats) -> float | None:
        return None if self.step is None else float(delta_retention(ages, self.shape.key_dim, self.step).mean())

    def cue_recall(self, n: int, t: Floats, chances: Floats) -> float | None:
        if self.step is None:
            return None
        return delta_cue_recall(n, self.shape.key_dim, self.shape.value_dim, self.step, t, chances)

    def loudness(self, n: int) -> float | None:
        if self.step is None:
            return None
        return delta_loudness(n, self.shape.key_dim, self.shape.value_dim, self.step)
