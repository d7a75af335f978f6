"""The statistics against known figures, exact alternatives and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from memspec.judging.statistics import (
    confidence_interval,
    excludes,
    holm,
    mean_interval,
    paired_difference,
    sign_p_value,
    wilson_interval,
)

ALPHA = 1e-3


def first_excluded(values: np.ndarray, mean: float) -> int:
    """Trials after which the sequence excludes this mean."""
    return next(n for n in range(1, len(values) + 1) if excludes(values[:n], mean, alpha=ALPHA))


@pytest.mark.parametrize(("mean", "trials"), [(0.95, 165), (0.9, 80)])
def test_a_perfect_memory_is_shown_to_be_good_after_a_known_number_of_trials(mean: float, trials: int) -> None:
    assert first_excluded(np.ones(256), mean) == trials


def test_a_memory_at_85_percent_is_shown_to_be_below_95_after_about_23_trials() -> None:
    rng = np.random.default_rng(0)
    needed = [first_excluded(rng.binomial(20, 0.85, 200) / 20, 0.95) for _ in range(60)]
    assert 18 <= np.median(needed) <= 28


@pytest.mark.parametrize("kind", ["bernoulli", "items", "skewed", "constant"])
def test_the_true_mean_is_hardly_ever_excluded(kind: str) -> None:
    """At alpha 0.01, so that 400 runs can tell; anytime: excluded once counts."""
    rng = np.random.default_rng(1)
    make = {
        "bernoulli": lambda: (rng.random(128) < 0.9).astype(float),
        "items": lambda: rng.binomial(20, 0.9, 128) / 20,
        "skewed": lambda: rng.beta(9, 1, 128),
        "constant": lambda: np.full(128, 0.9),
    }[kind]
    wrong = sum(excludes(make(), 0.9, alpha=0.01) for _ in range(400))
    assert stats.binomtest(wrong, 400, 0.01, alternative="greater").pvalue > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.5, 0.9, 0.99])
def test_false_exclusion_over_twenty_thousand_runs(mean: float) -> None:
    """The published figure: at alpha 0.001 over 256 trials the true mean is excluded in at most 0.1% of the runs."""
    rng = np.random.default_rng(2)
    wrong = sum(excludes(rng.binomial(20, mean, 256) / 20, mean, alpha=ALPHA) for _ in range(20_000))
    assert wrong / 20_000 <= ALPHA


def test_the_interval_agrees_with_exact_exclusion() -> None:
    rng = np.random.default_rng(3)
    values = rng.binomial(20, 0.8, 64) / 20
    interval = confidence_interval(values, alpha=ALPHA)
    assert interval.mean == pytest.approx(values.mean())
    assert not excludes(values, interval.low + 1e-8, alpha=ALPHA)
    assert not excludes(values, interval.high - 1e-8, alpha=ALPHA)
    assert excludes(values, interval.low - 1e-8, alpha=ALPHA)
    assert excludes(values, interval.high + 1e-8, alpha=ALPHA)


@pytest.mark.parametrize("kind", ["items", "mostly-zero", "mostly-one", "constant", "spread"])
def test_the_ends_are_where_the_capital_crosses(kind: str) -> None:
    """Against the definition, candidate by candidate: the capital of both gamblers after each trial, in plain loops."""
    rng = np.random.default_rng(30)
    x = {
        "items": rng.binomial(20, 0.8, 48) / 20,
        "mostly-zero": (rng.random(48) < 0.05).astype(float),
        "mostly-one": (rng.random(48) < 0.95).astype(float),
        "constant": np.full(48, 0.5),
        "spread": rng.random(48),
    }[kind]

    def excluded(m: float) -> bool:
        up = down = 1.0
        total, squares, variance = 0.0, 0.0, 0.25
        for t, value in enumerate(x, 1):
            bet = math.sqrt(2 * math.log(2 / ALPHA) / (variance * t * math.log1p(t)))
            up *= 1 + min(bet, 0.9 / m if m else math.inf) * (value - m)
            down *= 1 - min(bet, 0.9 / (1 - m) if m < 1 else math.inf) * (value - m)
            if max(up, down) / 2 >= 1 / ALPHA:
                return True
            total += value
            squares += (value - (0.5 + total) / (t + 1)) ** 2
            variance = (0.25 + squares) / (t + 1)
        return False

    grid = np.linspace(0, 1, 4001)
    kept = grid[[not excluded(m) for m in grid]]
    interval = confidence_interval(x, alpha=ALPHA)
    assert kept[0] - 1 / 4000 <= interval.low <= kept[0]
    assert kept[-1] <= interval.high <= kept[-1] + 1 / 4000
    assert all(excludes(x, m, alpha=ALPHA) == excluded(m) for m in grid[::97])


@pytest.mark.parametrize("mean", [0.3005, 1e-5, 0.99999])
def test_many_values_that_hardly_vary_have_a_narrow_interval_around_the_truth(mean: float) -> None:
    """Narrower than a thousandth of the range, and never of no width at all."""
    values = mean + 1e-6 * np.random.default_rng(31).standard_normal(30_000)
    interval = confidence_interval(values)
    assert interval.low < mean < interval.high
    assert interval.high - interval.low < 1e-3


def test_intervals_scale_with_the_range_and_mirror() -> None:
    values = np.random.default_rng(4).random(40)
    plain, scaled = confidence_interval(values), confidence_interval(10 * values - 5, -5, 5)
    assert (10 * plain.low - 5, 10 * plain.high - 5) == pytest.approx((scaled.low, scaled.high))
    mirrored = confidence_interval(1 - values)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((plain.low, plain.high), abs=1e-8)


@pytest.mark.parametrize("values", [[], [0.5, 1.2], [0.5, math.nan], [-0.1]], ids=["none", "above", "nan", "below"])
def test_what_has_no_interval_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        confidence_interval(values)


def test_paired_differences_use_the_pairing() -> None:
    rng = np.random.default_rng(5)
    old = rng.random(256)
    new = np.clip(old - 0.1, 0, 1)
    paired = paired_difference(new, old, 0, 1)
    assert paired.high < 0
    assert paired.low <= (new - old).mean() <= paired.high
    with pytest.raises(ValueError, match="same trials"):
        paired_difference(new[:5], old, 0, 1)


def test_sixteen_differences_of_one_sign_are_strong_evidence() -> None:
    assert sign_p_value(np.full(16, 0.1)) == pytest.approx(6e-5, rel=0.2)
    assert sign_p_value(np.full(16, -0.1)) == 1.0
    assert sign_p_value(np.zeros(16)) == 1.0
    assert sign_p_value([]) == 1.0
    ties = np.concatenate([np.zeros(20), np.full(16, 0.1), np.zeros(20)])
    assert sign_p_value(ties) == sign_p_value(np.full(16, 0.1))


def test_the_sign_test_is_the_mixture_it_says() -> None:
    """Against numerical integration of the betting mixture over odds above 1/2."""
    p = np.linspace(0.5, 1, 200_001)[1:-1]
    density = 1 / np.sqrt(p * (1 - p))
    ups, downs = 9, 3
    capital = 2.0 ** (ups + downs) * np.average(p**ups * (1 - p) ** downs, weights=density)
    ordered = [-1.0] * downs + [1.0] * ups  # its capital is largest at the end
    assert sign_p_value(ordered) == pytest.approx(1 / capital, rel=0.01)


def test_fair_signs_seldom_look_unfair_at_any_time() -> None:
    rng = np.random.default_rng(6)
    wrong = sum(sign_p_value(rng.standard_normal(128)) <= 0.05 for _ in range(1000))
    assert stats.binomtest(wrong, 1000, 0.05, alternative="greater").pvalue > 1e-4


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05).tolist() == [True, False, False, True]
    assert holm([0.2, 0.3], 0.05).tolist() == [False, False]


def test_intervals_for_display_agree_with_scipy() -> None:
    values = np.random.default_rng(7).random(12)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    interval = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert mean_interval([0.3]).low == -math.inf
    wilson = wilson_interval(0, 10)
    assert wilson.low == pytest.approx(0, abs=1e-12)
    assert wilson.high == pytest.approx(1.96**2 / (10 + 1.96**2), abs=1e-3)
    with pytest.raises(ValueError, match="no trials"):
        wilson_interval(0, 0)
