"""Of memories that draw random numbers: what moved as noise moves, and that nothing moved by more than the tolerance in the mean.

Two runs of one noisy memory, its noise drawn anew, differ in most metrics by more than any tolerance, and of hundreds of
them some always look bad. A move is noise if two things hold: its own trials give no reason to suspect it, at a rate for the
whole comparison (:data:`SUSPICION`); and over all gated metrics of its axis the mean is no worse by more than the tolerance,
by a one-sided test at :data:`LEVEL` (of two such tests an equivalence is made: Schuirmann 1987). That is the equivalence that is shown, and all that is claimed: one metric
of many may have lost what its own trials cannot tell from noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspec.judging.statistics import mean_interval
from memspec.scorecard.record import Record

SUSPICION = 0.2
"""Chance that a comparison of two equal memories suspects any metric of a loss."""
LEVEL = 0.05
"""Chance that an axis that is worse by just the tolerance is called no worse."""
FEWEST = 8
"""Trials below which a mean over an axis says nothing."""


@dataclass(frozen=True)
class AxisMove:
    """How an axis moved on the whole.

    Attributes:
        metrics, trials: how many went into it.
        interval: of the mean improvement over its metrics, each as a share of its scale and cut off at once that scale.
        tolerance: the least of those of its metrics.
    """

    axis: str
    metrics: int
    trials: int
    interval: tuple[float, float]
    tolerance: float

    @property
    def no_worse(self) -> bool:
        """Whether no loss larger than the tolerance is left possible."""
        return self.interval[0] >= -self.tolerance

    def __str__(self) -> str:
        low, high = self.interval
        no_better = high <= self.tolerance
        said = (
            ("no difference" if no_better else "no loss") + " larger than"
            if self.no_worse
            else "a loss may be larger than"
        )
        return (
            f"{self.axis}: {said} {self.tolerance:.0%} in the mean over {self.metrics} metrics "
            f"({low:+.1%} to {high:+.1%}, {self.trials} trials)"
        )


def draws(record: Record) -> bool:
    """Whether a card is of a memory that draws random numbers in calls: it says so, or was seen to."""
    seen = record.observed.get("observations", [])
    return bool(record.memory.get("spec", {}).get("stochastic")) or any(
        one.get("name") == "draws" and one.get("seen") for one in seen
    )


def axis_move(axis: str, gains: Sequence[NDArray[np.float64]], tolerance: float) -> AxisMove:
    """The mean of the gains of all metrics of an axis, trial by trial: of those trials that all of them have."""
    trials = min(len(one) for one in gains)
    each = np.mean([np.clip(one[:trials], -1, 1) for one in gains], axis=0)
    if trials < FEWEST:
        return AxisMove(axis, len(gains), trials, (-1.0, 1.0), tolerance)
    found = mean_interval(each, 1 - 2 * LEVEL)
    return AxisMove(axis, len(gains), trials, (found.low, found.high), tolerance)
