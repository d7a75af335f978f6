"""From values to verdicts: when trials are added, what passes, what fails, what stays open."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from memspec.judging.statistics import Interval
from memspec.judging.verdicts import Bound, decide_interval, decide_metric
from memspec.metrics import Metric

SHARE = Metric("a share")
RATIO = Metric("a ratio", high=math.inf, better="down")


class Asked:
    """Gives the same value in every trial, and remembers how many were asked for."""

    def __init__(self, value: float | Callable[[int], float]) -> None:
        self.value = value if callable(value) else lambda _: value
        self.counts: list[int] = []

    def __call__(self, n: int) -> NDArray[np.float64]:
        self.counts.append(n)
        return np.array([self.value(t) for t in range(n)], dtype=float)


def test_a_clear_case_needs_no_more_trials() -> None:
    values = Asked(1.0)
    verdict = decide_metric(values, "recall", SHARE, Bound(at_least=0.2))
    assert verdict.status == "pass"
    assert values.counts == [16]


def test_trials_double_until_the_verdict_is_clear() -> None:
    values = Asked(1.0)
    assert decide_metric(values, "recall", SHARE, Bound(at_least=0.9)).status == "pass"
    assert values.counts == [16, 32, 64, 128]


def test_trials_run_out_and_that_is_no_pass() -> None:
    values = Asked(0.9)
    verdict = decide_metric(values, "recall", SHARE, Bound(at_least=0.9), max_trials=100)
    assert verdict.status == "inconclusive"
    assert values.counts[-1] == verdict.trials == 100


@pytest.mark.parametrize(
    ("value", "bound", "status"),
    [
        (0.2, Bound(at_least=0.9), "fail"),
        (0.9, Bound(at_most=0.2), "fail"),
        (0.5, Bound(at_least=0.2, at_most=0.8), "pass"),
        (0.95, Bound(at_least=0.2, at_most=0.5), "fail"),
    ],
    ids=["below", "above", "inside", "over-band"],
)
def test_the_side_of_the_bound_decides(value: float, bound: Bound, status: str) -> None:
    assert decide_metric(Asked(value), "x", SHARE, bound).status == status


def test_a_metric_without_a_range_is_judged_by_the_share_of_trials() -> None:
    mostly = Asked(lambda t: 0.1 if t % 4 else 1e9)  # one trial in four explodes
    verdict = decide_metric(mostly, "error", RATIO, Bound(at_most=1.0, share=0.5))
    assert verdict.status == "pass"
    assert verdict.judged == "share"
    assert verdict.estimate == 0.1
    assert decide_metric(mostly, "error", RATIO, Bound(at_most=1.0, share=0.99)).status == "fail"
    assert decide_metric(Asked(math.inf), "error", RATIO, Bound(at_most=1.0)).status == "fail"


def test_the_worst_trial_is_named() -> None:
    verdict = decide_metric(Asked(lambda t: 0.1 if t == 7 else 0.5), "x", SHARE, Bound(at_least=0.9))
    assert verdict.worst_trial == 7


def test_not_a_number_is_an_error_with_its_trial() -> None:
    with pytest.raises(ValueError, match="NaN in trial 3"):
        decide_metric(Asked(lambda t: math.nan if t == 3 else 0.5), "x", SHARE, Bound(at_least=0.1))


def test_a_value_outside_the_declared_range_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside the range"):
        decide_metric(Asked(1.5), "x", SHARE, Bound(at_least=0.1))


def test_bounds_make_sense_and_read_well() -> None:
    with pytest.raises(ValueError, match="needs at_least"):
        Bound()
    with pytest.raises(ValueError, match="above"):
        Bound(at_least=1.0, at_most=0.0)
    assert str(Bound(at_least=0.5, at_most=0.75)) == "at least 0.5 and at most 0.75"


@pytest.mark.parametrize(
    "limits",
    [
        {"at_least": math.nan},
        {"at_most": math.inf},
        {"at_least": -math.inf},
        {"at_least": 0.1, "share": -3.0},
        {"at_least": 0.1, "share": 0.0},
        {"at_least": 0.1, "share": 1.5},
        {"at_least": 0.1, "share": math.nan},
    ],
    ids=str,
)
def test_a_bound_that_says_nothing_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Bound(**limits)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.6, 0.7, "pass"), (0.2, 0.4, "fail"), (0.4, 0.6, "inconclusive"), (0.5, 0.9, "pass"), (0.95, 0.99, "fail")],
)
def test_an_interval_against_a_band(low: float, high: float, status: str) -> None:
    assert decide_interval(Interval((low + high) / 2, low, high), 0.5, 0.9) == status
