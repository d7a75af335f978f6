"""Numerics that the closed forms share: decoding by cosine, coordinates of random points, degraded cues.

An answer is ``sum_j c_j v_j``. Decoding it by cosine among the values compares sample correlations of ``value_dim``
components, whose Fisher transform is close to normal with variance ``1 / (value_dim - 2)`` around the transform of
``c_j / |c|``. All recall formulas are that statement with the coefficients of the family; it is what the textbook
signal-to-noise formula leaves out (the length of the value cancels), which is why that one is 0 to .10 too low.

A degraded unit cue is ``q = t k + sqrt(1 - t^2) w`` with w a random direction orthogonal to k; everything follows from
the distribution of ``t``, the cosine of the cue with its key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NODES = 15
"""Values of t that a prediction is averaged over."""

NORMAL = np.linspace(-7.0, 7.0, 281)
"""Points to average over a standard normal variable at."""
NORMAL_WEIGHTS = np.exp(-(NORMAL**2) / 2) * (NORMAL[1] - NORMAL[0]) / math.sqrt(2 * math.pi)
HERMITE = np.polynomial.hermite_e.hermegauss(5) / np.array([[1.0], [math.sqrt(2 * math.pi)]])
"""Five points and weights for the same, ``[2, 5]``."""


def log_normal_cdf(x: ArrayLike) -> Floats:
    """Natural log of the standard normal distribution function."""
    return torch.special.log_ndtr(torch.as_tensor(np.asarray(x, dtype=np.float64))).numpy()


def normal_cdf(x: ArrayLike) -> Floats:
    """The standard normal distribution function."""
    return np.exp(log_normal_cdf(x))


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
    target = np.arctanh(rho) + math.sqrt(s2) * NORMAL
    log_right = sum(log_normal_cdf(target / width[..., g, None]) for g in range(width.shape[-1])) / width.shape[-1]
    return np.asarray((np.exp((n - 1) * log_right) * NORMAL_WEIGHTS).sum(-1))


@lru_cache(maxsize=64)
def sphere_coordinate(dim: int, points: int = 2001) -> tuple[Floats, Floats]:
    """``(cosines, chances)``: the distribution of one coordinate of a random point on the unit sphere in R^dim."""
    angles = (np.arange(points) + 0.5) * math.pi / points
    log_density = (dim - 2) * np.log(np.sin(angles))
    chances = np.exp(log_density - log_density.max())
    return np.cos(angles)[::-1], (chances / chances.sum())[::-1]


@lru_cache(maxsize=64)
def noisy_cosine(key_dim: int, sigma: float) -> tuple[Floats, Floats]:
    """``(t, chances)``: the cosine of ``(k + sigma u)/|k + sigma u|`` with k, u a random unit vector."""
    cosines, chances = sphere_coordinate(key_dim)
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


def around_mean(mean: Floats, deviation: Floats) -> Floats:
    """Values ``[..., 5]`` of a normal coefficient to average over with weights ``HERMITE[1]``, negative ones as 0."""
    return np.maximum(mean[..., None] + deviation[..., None] * HERMITE[0], 0.0)


def length_factor(value_dim: float) -> float:
    """``E|v|^2 E[1/|v|^2]`` of N(0, 1) values; 1 for values of one length (``value_dim`` infinite)."""
    return 1.0 if math.isinf(value_dim) else value_dim / max(value_dim - 2, 1)


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


def chi_squared(freedom: int) -> Floats:
    """31 quantiles of equal chance of a chi-squared variable."""
    from scipy import special

    return np.asarray(2 * special.gammaincinv(freedom / 2, (np.arange(31) + 0.5) / 31))


def louder(stored: Floats, foil: Floats, value_dim: int) -> float:
    """Chance that a linear memory answers a stored key with a longer vector than a key never stored.

    With N(0, 1) values an answer's squared length is ``E chi2(dv)``, E the sum of its squared coefficients, so the
    chance is that of an F(dv, dv) variable below ``E_stored / E_foil``. Answers to both share the values' lengths,
    which this leaves out: at n = d/4 stored pairs it is less than .01 (d = 64) or .035 (d = 16) too low.

    Args:
        stored, foil: equally likely values of E for either kind of key.
    """
    from scipy import special

    ratio = stored.reshape(-1, 1) / foil.reshape(1, -1)
    return float(special.fdtr(value_dim, value_dim, ratio).mean())
