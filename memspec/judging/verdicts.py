"""From bounds to verdicts: asks for more trials until the interval lies on one side of the bound.

pass = the interval lies inside the bound; fail = wholly outside; inconclusive = the trials ran out first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memspec.judging.statistics import Interval, confidence_interval
from memspec.metrics import Metric

Status = Literal["pass", "fail", "inconclusive"]

FIRST_TRIALS = 16


@dataclass(frozen=True)
class Bound:
    """What is required of a mean, and by whom.

    Attributes:
        at_least, at_most: the required side or band.
        source: who requires it: a bounds file, the memory's spec, theory (with the formula), or the universal floor.
        share: for metrics without a range: the share of trials that must meet the bound.

    Raises:
        ValueError: where nothing, or nothing that could hold, is required.
    """

    at_least: float | None = None
    at_most: float | None = None
    source: str = "universal floor"
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a bound needs at_least, at_most or both")
        for name in ("at_least", "at_most"):
            limit = getattr(self, name)
            if limit is not None and not math.isfinite(limit):
                raise ValueError(f"{name} is {limit}; it must be a finite number")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be above 0 and at most 1")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}")

    def met(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which single values meet it."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return (values >= low) & (values <= high)

    def __str__(self) -> str:
        parts = []
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:.4g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:.4g}")
        return " and ".join(parts)


@dataclass(frozen=True)
class Verdict:
    """What came out of judging one metric.

    ``estimate`` and ``interval`` are of the mean; for a metric without a range, ``interval`` is of ``share``, the
    share of trials that meet the bound, and ``estimate`` the median.
    """

    status: Status
    metric: str
    estimate: float
    interval: tuple[float, float]
    alpha: float
    bound: Bound
    trials: int
    seconds: float
    worst_trial: int
    judged: Literal["mean", "share"] = "mean"


def decide_interval(interval: Interval, at_least: float | None, at_most: float | None) -> Status:
    """The verdict an interval allows."""
    low = -math.inf if at_least is None else at_least
    high = math.inf if at_most is None else at_most
    if interval.low >= low and interval.high <= high:
        return "pass"
    if interval.high < low or interval.low > high:
        return "fail"
    return "inconclusive"


def decide_metric(
    values: Callable[[int], NDArray[np.float64]],
    name: str,
    metric: Metric,
    bound: Bound,
    *,
    alpha: float = 1e-3,
    max_trials: int = 256,
    first: int = FIRST_TRIALS,
) -> Verdict:
    """Judge one metric, doubling the trials until the verdict is clear.

    Args:
        values: ``values(n)`` gives the metric for trials 0..n-1, running what was not run yet.
        name, metric: what is judged.
        bound: what is required.
        alpha: false-alarm rate of this verdict.
        max_trials: where to stop, inconclusive.
        first: trials to begin with.

    Raises:
        ValueError: if a value is NaN, or lies outside the metric's range.
    """
    start = time.perf_counter()
    n = min(first, max_trials)
    while True:
        x = np.asarray(values(n), dtype=np.float64)
        if np.isnan(x).any():
            raise ValueError(
                f"{name} is NaN in trial {int(np.isnan(x).argmax())}: the memory answered non-finite numbers"
            )
        if metric.bounded:
            interval = confidence_interval(x, metric.low, metric.high, alpha)
            status = decide_interval(interval, bound.at_least, bound.at_most)
            estimate = interval.mean
        else:
            interval = confidence_interval(bound.met(x).astype(float), 0.0, 1.0, alpha)
            status = decide_interval(interval, bound.share, None)
            estimate = float(np.median(x))
        if status != "inconclusive" or n >= max_trials:
            break
        n = min(2 * n, max_trials)
    return Verdict(
        status,
        name,
        estimate,
        (interval.low, interval.high),
        alpha,
        bound,
        len(x),
        time.perf_counter() - start,
        _worst(x, bound),
        "mean" if metric.bounded else "share",
    )


def surely_met(values: NDArray[np.float64], metric: Metric, bound: Bound) -> bool:
    """Whether these trials leave no doubt that the bound is met: three standard errors away from it, or without spread.

    Quick and rough beside :func:`decide_metric`: for what a blind memory reaches, which is not on trial.
    """
    met = values if metric.bounded else bound.met(values).astype(float)
    low, high = (bound.at_least, bound.at_most) if metric.bounded else (bound.share, None)
    reach = 3 * float(met.std(ddof=1)) / math.sqrt(len(met)) if len(met) > 1 else 0.0
    mean = float(met.mean())
    return (low is None or mean - reach >= low) and (high is None or mean + reach <= high)


def _worst(x: NDArray[np.float64], bound: Bound) -> int:
    """The trial farthest on the wrong side."""
    below = -math.inf if bound.at_least is None else bound.at_least - x
    above = -math.inf if bound.at_most is None else x - bound.at_most
    return int(np.argmax(np.nan_to_num(np.maximum(below, above), posinf=1e300)))
