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

FINE = 1e-9
"""Ends of an interval are found to this share of the range, and then taken outwards."""
CUTS = 16
"""Parts that a bracket is cut into at once, while an end of an interval is found."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval ``[low, high]`` and the mean of the values it was made from."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def _bets(values: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """``[T]``: what is bet on each of the values, tuned to alpha; depends on those before it alone."""
    t = np.arange(1, len(values) + 1)
    running = (0.5 + np.cumsum(values)) / (t + 1)
    variance = (0.25 + np.cumsum((values - running) ** 2)) / (t + 1)
    previous = np.concatenate(([0.25], variance[:-1]))
    bets: NDArray[np.float64] = np.sqrt(2 * math.log(2 / alpha) / (previous * t * np.log1p(t)))
    return bets


def _best_bet_above(
    values: NDArray[np.float64], means: NDArray[np.float64], bets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The largest log capital, over all trials, of the gambler who bets that the mean is above each candidate ``[G]``.

    It falls as the candidate rises, in every trial: a value above the candidate is then less far above it, one below
    is farther below it, and the cut of the bet at .9 / candidate only lowers what is left of both.
    """
    m = means[:, None]
    with np.errstate(divide="ignore"):
        bet = np.minimum(bets, 0.9 / m)
    best: NDArray[np.float64] = np.cumsum(np.log1p(bet * (values - m)), axis=1).max(axis=1)
    return best


def _least_not_excluded(values: NDArray[np.float64], alpha: float) -> float:
    """The lower end of the interval of values in [0, 1]: every candidate below it is excluded.

    The capital against a candidate falls as it rises, so the end is the one root, found by cutting the bracket that
    holds it; the candidate returned is excluded itself, unless it is 0.
    """
    bets, enough = _bets(values, alpha), math.log(2 / alpha)
    low, high = 0.0, 1.0
    if _best_bet_above(values, np.array([low]), bets)[0] < enough:
        return low
    while high - low > FINE:
        cuts = np.linspace(low, high, CUTS + 1)
        inner = int((_best_bet_above(values, cuts[1:-1], bets) >= enough).sum())  # a run from the left: it is monotone
        low, high = float(cuts[inner]), float(cuts[inner + 1])
    return low


def confidence_interval(values: ArrayLike, low: float = 0.0, high: float = 1.0, alpha: float = 1e-3) -> Interval:
    """Anytime-valid interval for the mean of values bounded in ``[low, high]``.

    Each of the two gamblers excludes the candidates on one side, and the more the farther they lie out, so the ends
    are roots of their capitals and not points of a grid: an interval may be as narrow as the values allow.

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
    # Mirrored, the gambler who bets on a lower mean is the one who bets on a higher one.
    ends = _least_not_excluded(scaled, alpha), 1 - _least_not_excluded(1 - scaled, alpha)
    # Where the two exclude everything between them (at most at the rate alpha), what is between is all there is to say.
    return Interval(float(x.mean()), low + min(ends) * (high - low), low + max(ends) * (high - low))


def excludes(values: ArrayLike, mean: float, low: float = 0.0, high: float = 1.0, alpha: float = 1e-3) -> bool:
    """Whether the sequence has excluded one candidate mean."""
    x = np.clip((np.asarray(values, dtype=np.float64) - low) / (high - low), 0, 1)
    m = min(max((mean - low) / (high - low), 0.0), 1.0)
    capitals = (_best_bet_above(y, np.array([c]), _bets(y, alpha))[0] for y, c in ((x, m), (1 - x, 1 - m)))
    return bool(max(capitals) >= math.log(2 / alpha))


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
