"""The Hebbian family: the answer to q is ``sum_i (q . k_i) v_i``, no decay and no normaliser.

Up to one common factor for recall and cosine, exactly for errors. Kohonen 1972; Anderson 1972.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from memspec.theory.family import Family
from memspec.theory.numerics import (
    NORMAL,
    NORMAL_WEIGHTS,
    Floats,
    chi_squared,
    decoded,
    length_factor,
    log_normal_cdf,
    louder,
)


def hebbian_relative_mse(n: int, key_dim: int, value_dim: float = math.inf) -> float:
    """Mean ``|answer - v|^2 / |v|^2`` of ``sum k^T v`` over n random unit keys: ``(n-1)/d``.

    With a finite ``value_dim``, of N(0, 1) values, whose ``E[1/|v|^2]`` brings the factor ``dv / (dv - 2)``.
    """
    return (n - 1) / key_dim * length_factor(value_dim)


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
    return float((np.exp((n - 1) * log_normal_cdf((1 + target * NORMAL) / other)) * NORMAL_WEIGHTS).sum())


def max_recallable_linear(key_dim: int) -> int:
    """Largest N with ``N ln N <= d^2 / 2``: more pairs can not all be recalled by any d x d matrix.

    Giorlandino, Goldt and Maillard 2026 (arXiv 2605.10795); natural logarithm, exact only for large d.
    """
    n = 1
    while (n + 1) * math.log(n + 1) <= key_dim**2 / 2:
        n += 1
    return n


def hebbian_cue_recall(n: int, key_dim: int, value_dim: int, t: Floats, chances: Floats) -> float:
    """Share recalled by cosine from a Hebbian matrix: coefficient t on the value itself, 1/d variance on the others."""
    total = t**2 + (n - 1) / key_dim
    found = decoded(t / np.sqrt(total), (1 / key_dim / total)[:, None], n, value_dim)
    return float((found * chances).sum())


def correlated_hebbian_recall(n: int, key_dim: int, value_dim: int, rho: float) -> float:
    """Share recalled by cosine from a Hebbian matrix whose keys are ``sqrt(rho) c + sqrt(1 - rho) u_i``, normalised.

    Every other value comes back with a coefficient of mean rho and variance ``(1-rho)^2 (1 + 2 rho (1-rho)) / d``.
    """
    variance = (1 - rho) ** 2 * (1 + 2 * rho * (1 - rho)) / key_dim
    total = math.sqrt(1 + (n - 1) * (rho**2 + variance))
    lead = math.atanh(min(1 / total, 1 - 1e-12)) - math.atanh(rho / total)
    return float(decoded(math.tanh(lead), variance / total**2, n, value_dim))


def distracted_hebbian_recall(signal: int, shows: int, distractors: int, key_dim: int, value_dim: int) -> float:
    """Share of ``signal`` pairs, each shown ``shows`` times, recalled among all values from a Hebbian matrix."""
    rivals = signal - 1 + distractors
    noise = (shows**2 * (signal - 1) + distractors) / key_dim
    total = shows**2 + noise
    return float(decoded(shows / math.sqrt(total), noise / rivals / total, rivals + 1, value_dim))


@lru_cache(maxsize=64)
def hebbian_loudness(n: int, key_dim: int, value_dim: int) -> float:
    """:func:`~memspec.theory.numerics.louder` for a Hebbian matrix: E is ``chi2(n)/d`` for a key never stored."""
    return louder(1 + chi_squared(n - 1) / key_dim, chi_squared(n) / key_dim, value_dim)


class Hebbian(Family):
    """Predictions of ``M = sum_i k_i^T v_i``."""

    def recall(self, n: int) -> float | None:
        return hebbian_recall(n, self.shape.key_dim, self.shape.value_dim)

    def error(self, n: int) -> float | None:
        return hebbian_relative_mse(n, self.shape.key_dim, self.length_dim)

    def lone_error(self, showings: float) -> float | None:
        return (showings - 1) ** 2

    def older_cosine(self, n: int) -> float | None:
        """The load alone counts: a later pair adds crosstalk and takes nothing away."""
        return hebbian_cosine(2 * n, self.shape.key_dim)

    def gain(self, ages: Floats) -> float | None:
        return 1.0

    def cue_recall(self, n: int, t: Floats, chances: Floats) -> float | None:
        return hebbian_cue_recall(n, self.shape.key_dim, self.shape.value_dim, t, chances)

    def correlated_recall(self, n: int, rho: float) -> float | None:
        return correlated_hebbian_recall(n, self.shape.key_dim, self.shape.value_dim, rho)

    def distracted_recall(self, signal: int, shows: int, distractors: int) -> float | None:
        if self.spec.overwrite != "add":
            return None
        return distracted_hebbian_recall(signal, shows, distractors, self.shape.key_dim, self.shape.value_dim)

    def loudness(self, n: int) -> float | None:
        return hebbian_loudness(n, self.shape.key_dim, self.shape.value_dim)
