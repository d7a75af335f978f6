"""Intervals that stay valid while trials are added, and paired differences.

The workhorse is the betting (hedged-capital) confidence sequence of Waudby-Smith and Ramdas (2023), "Estimating means
of bounded random variables by betting", section 4: for each candidate mean two gamblers bet that it is too low or too
high; a mean is excluded once their average capital passes 1/alpha. It adapts to the variance, assumes no
distribution beyond the range, and may be looked at after every trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRID = 1001


@dataclass(frozen=True)
class Interval:
    """A confidence interval ``[low, high]`` and the mean of the values it was made from."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def log_capital(values: NDArray[np.float64], means: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Log of the hedged capital ``max(K+, K-)/2`` against each candidate mean after each trial.

    Args:
        values: ``[T]`` in [0, 1], in the order of the trials.
        means: ``[G]`` candidate means in [0, 1].
        alpha: false-exclusion rate that the bets are tuned to.

    Returns:
        ``[T, G]``; a mean is excluded once its entry has reached ``log(1 / alpha)`` at any trial.
    """
    t = np.arange(1, len(values) + 1)
    running = (0.5 + np.cumsum(values)) / (t + 1)
    variance = (0.25 + np.cumsum((values - running) ** 2)) / (t + 1)
    previous = np.concatenate(([0.25], variance[:-1]))
    bet = np.sqrt(2 * math.log(2 / alpha) / (previous * t * np.log1p(t)))[:, None]
    m = means[None, :]
    with np.errstate(divide="ignore"):
        up = np.minimum(bet, 0.9 / m)
        down = np.minimum(bet, 0.9 / (1 - m))
    gap = values[:, None] - m
    up, down = np.where(m == 0, bet, up), np.where(m == 1, bet, down)
    plus = np.cumsum(np.log1p(up * gap), axis=0)
    minus = np.cumsum(np.log1p(-down * gap), axis=0)
    return np.maximum(plus, minus) - math.log(2)


def confidence_interval(values: ArrayLike, low: float = 0.0, high: float = 1.0, alpha: float = 1e-3) -> Interval:
    """Anytime-valid interval for the mean of values bounded in ``[low, high]``.

    Args:
        values: one number a trial, in the order of the trials.
        low, high: the known range.
        alpha: rate at which the true mean is ever excluded, over all numbers of trials together.

    Raises:
        ValueError: for a value outside the range, a NaN, or no value at all.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("no values: an interval needs at least one trial")
    slack = 1e-6 * (high - low)
    if not (np.isfinite(x).all() and x.min() >= low - slack and x.max() <= high + slack):
        raise ValueError(
            f"values from {x.min():g} to {x.max():g} (NaN counts) are outside the range [{low:g}, {high:g}]"
        )
    scaled = np.clip((x - low) / (high - low), 0, 1)
    grid = np.linspace(0, 1, GRID)
    excluded = (log_capital(scaled, grid, alpha) >= math.log(1 / alpha)).any(axis=0)
    kept = grid[~excluded]
    mean = float(x.mean())
    if kept.size == 0:  # narrower than the grid
        return Interval(mean, mean, mean)
    step = 1 / (GRID - 1)
    lo, hi = max(0.0, kept[0] - step * (kept[0] > 0)), min(1.0, kept[-1] + step * (kept[-1] < 1))
    return Interval(mean, low + lo * (high - low), low + hi * (high - low))


def excludes(values: ArrayLike, mean: float, low: float = 0.0, high: float = 1.0, alpha: float = 1e-3) -> bool:
    """Whether the sequence has excluded one candidate mean (exact, not on a grid)."""
    x = np.clip((np.asarray(values, dtype=np.float64) - low) / (high - low), 0, 1)
    m = np.array([min(max((mean - low) / (high - low), 0.0), 1.0)])
    return bool((log_capital(x, m, alpha) >= math.log(1 / alpha)).any())


def paired_difference(new: ArrayLike, old: ArrayLike, low: float, high: float, alpha: float = 1e-3) -> Interval:
    """Anytime-valid interval for the mean of ``new - old`` over the same trials, both in ``[low, high]``.

    Raises:
        ValueError: if the two have different lengths.
    """
    a, b = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{a.size} new against {b.size} old trials: a paired difference needs the same trials")
    width = high - low
    return confidence_interval(a - b, -width, width, alpha)


def sign_p_value(differences: ArrayLike) -> float:
    """Anytime-valid one-sided p-value that positive paired differences outweigh negative ones; ties say nothing.

    If the two sides are exchangeable in each trial, the sign of a difference is a fair coin whatever its size. The
    e-process bets on positive signs with the Beta(1/2, 1/2) mixture over the odds above 1/2 (Krichevsky and Trofimov
    1981); by Ville's inequality 1 over its running maximum is a p-value at any stopping time. Sixteen differences
    of one sign give 6e-5, where a bound for the mean of any bounded variable would need many more.
    """
    from scipy.special import betainc, betaln

    signs = np.sign(np.asarray(differences, dtype=np.float64))
    signs = signs[signs != 0]
    if signs.size == 0:
        return 1.0
    n = np.arange(1, signs.size + 1)
    up = np.cumsum(signs > 0)
    a, b = up + 0.5, n - up + 0.5
    with np.errstate(divide="ignore"):
        log_capital = n * math.log(2) + betaln(a, b) + np.log(betainc(b, a, 0.5)) - math.log(math.pi / 2)
    return float(min(1.0, math.exp(-max(0.0, log_capital.max()))))


def holm(p_values: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses to reject so that the chance of any false rejection is at most ``alpha`` (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    below = p[order] <= alpha / (p.size - np.arange(p.size))
    rejected = np.zeros(p.size, dtype=bool)
    rejected[order[np.cumprod(below).astype(bool)]] = True
    return rejected


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of a mean, for display beside curves; judged metrics use :func:`confidence_interval`."""
    from scipy.special import stdtrit  # Student's t quantile; scipy.stats would take a second to import

    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if x.size < 2:
        return Interval(mean, -math.inf, math.inf)
    half = float(stdtrit(x.size - 1, 0.5 + confidence / 2) * x.std(ddof=1) / math.sqrt(x.size))
    return Interval(mean, mean - half, mean + half)


def wilson_interval(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927), without continuity correction."""
    if trials < 1:
        raise ValueError("no trials: a proportion needs at least one")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))
