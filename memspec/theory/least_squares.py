"""The least-squares family: the minimum of the squared error over all pairs shown.

A ridge small against 1 is within the bands.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from memspec.theory.family import Family
from memspec.theory.numerics import HERMITE, Floats, around_mean, chi_squared, decoded, length_factor, louder


def least_squares_floor(n: int, key_dim: int) -> float:
    """The least relative squared error of any linear map on n random pairs with centred values: ``max(0, 1 - d/n)``."""
    return max(0.0, 1 - key_dim / n)


def least_squares_relative_mse(n: int, key_dim: int, value_dim: float = math.inf) -> float:
    """Mean relative error of the least-squares map: the floor, for N(0, 1) values of a finite dimension a little above."""
    held = min(1.0, key_dim / n)
    return (1 - held) ** 2 + held * (1 - held) * length_factor(value_dim)


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


def least_squares_cue_recall(n: int, key_dim: int, value_dim: int, t: Floats, chances: Floats) -> float | None:
    """Share recalled by cosine from the least-squares map with n well below d; None otherwise.

    Coefficients are those of the cue in the dual basis of the keys, whose vectors have mean squared length
    ``d / (d - n - 1)`` (inverse Wishart) and are orthogonal to all keys but their own, along which they have length 1.
    """
    if n > 0.75 * key_dim:
        return None
    stray = (1 - t**2) / ((key_dim - 1) * (key_dim - n - 1))
    own = around_mean(t, np.sqrt(stray * (n + 1)))
    rest = (stray * key_dim)[:, None]
    total = own**2 + (n - 1) * rest + 1e-300
    found = decoded(own / np.sqrt(total), (rest / total)[..., None], n, value_dim)
    return float(((found * HERMITE[1]).sum(-1) * chances).sum())


@lru_cache(maxsize=64)
def least_squares_loudness(n: int, key_dim: int, value_dim: int) -> float | None:
    """:func:`~memspec.theory.numerics.louder` for the least-squares map with n below d/2; None otherwise.

    For a key never stored E is ``d Beta(n/2, (d-n)/2) / chi2(d-n+1)``: the part of the key in the span of the stored
    ones, over a Wishart quotient.
    """
    from scipy import special

    if n >= key_dim / 2:
        return None
    part = special.betaincinv(n / 2, (key_dim - n) / 2, (np.arange(31) + 0.5) / 31)
    return louder(np.ones(1), key_dim * part[:, None] / chi_squared(key_dim - n + 1), value_dim)


class LeastSquares(Family):
    """Predictions of the least-squares map. Near n = d they depend on the ridge: there it says nothing."""

    def _settled(self, n: int) -> bool:
        return not 0.8 * self.shape.key_dim < n < 1.25 * self.shape.key_dim

    def recall(self, n: int) -> float | None:
        return least_squares_recall(n, self.shape.key_dim, self.shape.value_dim) if self._settled(n) else None

    def error(self, n: int) -> float | None:
        return least_squares_relative_mse(n, self.shape.key_dim, self.length_dim) if self._settled(n) else None

    def error_spread(self, n: int) -> float:
        """Of the part of n dv normal numbers outside a subspace of d dv: a Beta variable."""
        held = min(self.shape.key_dim / n, 0.999)
        return math.sqrt(2 * held / ((1 - held) * n * self.shape.value_dim))

    def lone_error(self, showings: float) -> float | None:
        return 0.0

    def cue_recall(self, n: int, t: Floats, chances: Floats) -> float | None:
        return least_squares_cue_recall(n, self.shape.key_dim, self.shape.value_dim, t, chances)

    def correlated_recall(self, n: int, rho: float) -> float | None:
        return 1.0 if n <= 0.75 * self.shape.key_dim else None

    def loudness(self, n: int) -> float | None:
        return least_squares_loudness(n, self.shape.key_dim, self.shape.value_dim)
