"""Comparing two records: refusals, regressions, what is missing, exit codes, and how often equal memories are accused."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memspec.cli import main
from memspec.experiments import adaptation
from memspec.judging.check import Check
from memspec.scorecard import record as records
from memspec.scorecard.compare import INCONCLUSIVE, NO_WORSE, NOT_COMPARABLE, WORSE, compare
from memspec.scorecard.differences import comparison
from memspec.scorecard.formatting import number
from memspec.scorecard.record import Record

SPEC = {"key_domain": "real", "value_domain": "real", "association": "hetero", "presentations": 1, "family": "generic"}
RECALL = {"description": "recall", "low": 0.0, "high": 1.0, "better": "up", "at": None}
ERROR = {"description": "error", "low": 0.0, "high": "inf", "better": "down", "at": None}


def made(checks: dict[str, str] | None = None, **metrics: Any) -> Record:
    """A record with one experiment; ``recall=[...]`` and so on are its values."""
    kinds = {
        "recall": RECALL,
        "error": ERROR,
        "update_seconds": {**ERROR, "timing": True},
        "update_growth": {**ERROR, "timing": True},
        "overshoot": ERROR,
        "count": {**ERROR, "better": "none"},
        "bits": {**ERROR, "better": "up", "measure": "bits"},
        "bits_per_parameter": {**ERROR, "better": "up", "measure": "bits"},
    }
    blocks = [
        {
            "experiment": "axis.exp",
            "setting": "default",
            "fields": {},
            "done": "",
            "first_trial": 0,
            "metrics": {name: {**kinds[name], "values": list(map(float, values))} for name, values in metrics.items()},
        }
    ]
    return Record(
        {"plug": "m:M", "spec": dict(SPEC), "shape": {"key_dim": 64, "value_dim": 64, "capacity": 128}},
        {"memspec": "0.1.0", "seed": 0, "torch": "2", "tier": "default", "dtype": "float32", "device": "cpu"},
        {"processor": "any", "cores": 2},
        [Check(i, "law", "axis", s) for i, s in (checks or {"axis/a": "pass"}).items()],
        blocks=blocks if metrics else [],
    )


def test_a_record_is_no_worse_than_itself() -> None:
    one = made(recall=np.random.default_rng(0).random(16), error=np.ones(16))
    result = compare(one, one)
    assert result.exit_status == NO_WORSE
    assert {c.verdict for c in result.changes} == {"same"}


def test_a_significant_loss_beyond_the_tolerance_is_worse() -> None:
    old = np.random.default_rng(0).uniform(0.5, 1, 16)
    result = compare(made(recall=old - 0.1), made(recall=old))
    assert result.exit_status == WORSE
    (change,) = result.changes
    assert change.verdict == "worse"
    assert change.effect == pytest.approx(-0.1)
    assert change.interval == pytest.approx((-0.1, -0.1))  # every trial lost as much
    assert compare(made(recall=old), made(recall=old - 0.1)).exit_status == NO_WORSE
    assert compare(made(recall=old - 0.1), made(recall=old), tolerance=0.2).exit_status == NO_WORSE


@pytest.mark.parametrize(("old", "new"), [(2e-14, 1e-4), (1e-4, 2e-14), (0.5, 0.5004)])
def test_differences_below_a_metrics_resolution_are_none(old: float, new: float) -> None:
    """An overshoot that was 2e-14 and is 1e-4 has not become a hundred times worse: both are rounding."""
    assert adaptation.METRICS["overshoot"].resolution >= 1e-4
    records = [made(overshoot=np.full(16, value)) for value in (new, old)]
    for one in records:
        one.blocks[0]["metrics"]["overshoot"] |= dataclasses.asdict(adaptation.METRICS["overshoot"])
    result = compare(*records)
    assert result.exit_status == NO_WORSE
    assert {c.verdict for c in result.changes} == {"same"}


def test_a_measure_over_several_denominators_is_one_move() -> None:
    old = np.linspace(1, 2, 16)
    result = compare(made(bits=old / 2, bits_per_parameter=old / 8), made(bits=old, bits_per_parameter=old / 4))
    (line,) = [text for text, _ in comparison(result, "title") if text.startswith("  worse by")]
    assert "worse by 50.0%: axis.exp[default].bits" in line
    assert line.endswith("likewise bits_per_parameter)")


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (1.5, "worse by 50.0%: "),
        (51.0, "worse by 50 times the old value: "),
        (np.nan, "worse: "),
        (0.5, "better by 50.0%: "),
    ],
    ids=["share", "times", "nan", "better"],
)
def test_a_move_is_told_in_words(now: float, told: str) -> None:
    result = compare(made(error=np.full(16, now)), made(error=np.ones(16)))
    (line,) = [text for text, _ in comparison(result, "title") if "axis.exp[default].error" in text]
    assert line.startswith(f"  {told}axis.exp[default].error 1 -> {number(now)}")


def test_down_is_worse_where_less_is_better() -> None:
    old = np.linspace(1, 2, 16)
    assert compare(made(error=2 * old), made(error=old)).exit_status == WORSE
    assert compare(made(error=old / 2), made(error=old)).exit_status == NO_WORSE
    infinite = np.where(np.arange(16) < 16, np.inf, old)
    assert compare(made(error=infinite), made(error=old)).exit_status == WORSE
    assert compare(made(error=infinite), made(error=infinite)).exit_status == NO_WORSE


def test_a_few_trials_that_disagree_settle_nothing() -> None:
    old = np.full(16, 0.9)
    new = old.copy()
    new[:3] -= 0.5
    result = compare(made(recall=new), made(recall=old))
    assert result.exit_status == INCONCLUSIVE
    assert result.changes[0].verdict == "unclear"


def test_becoming_not_a_number_is_worse() -> None:
    assert compare(made(error=np.full(16, np.nan)), made(error=np.ones(16))).exit_status == WORSE


def test_times_and_metrics_without_a_direction_are_never_judged() -> None:
    old = np.linspace(1, 2, 16)
    slow = made(update_seconds=100 * old, update_growth=3 * old, count=3 * old)
    result = compare(slow, made(update_seconds=old, update_growth=old, count=old))
    assert result.exit_status == NO_WORSE
    assert {c.verdict for c in result.changes} == {"untested"}


def test_trials_are_paired_as_far_as_both_go() -> None:
    old = np.linspace(0.5, 1, 64)
    (change,) = compare(made(recall=old[:16]), made(recall=old)).changes
    assert change.trials == 16
    assert change.effect == 0


def test_curves_are_compared_by_their_mean_over_common_points() -> None:
    def curve(values: np.ndarray, at: list[float]) -> Record:
        one = made(recall=[0.0])
        one.blocks[0]["metrics"]["recall"] |= {"at": at, "values": values.tolist()}
        return one

    old = curve(np.full((16, 3), 0.8), [1, 2, 3])
    (change,) = compare(curve(np.full((16, 2), 0.6), [1, 3]), old).changes
    assert change.verdict == "worse"
    assert change.effect == pytest.approx(-0.2)


def test_checks_that_break_are_worse_and_those_that_say_less_are_inconclusive() -> None:
    old = made({"a/x": "pass", "a/y": "pass", "a/z": "fail"})
    assert compare(made({"a/x": "fail", "a/y": "pass", "a/z": "fail"}), old).exit_status == WORSE
    assert compare(made({"a/x": "inconclusive", "a/y": "pass", "a/z": "fail"}), old).exit_status == INCONCLUSIVE
    assert compare(made({"a/x": "pass", "a/y": "pass", "a/z": "skip"}), old).exit_status == INCONCLUSIVE
    assert compare(made({"a/x": "pass", "a/y": "pass", "a/z": "pass"}), old).exit_status == NO_WORSE


def test_what_is_missing_from_a_side_is_reported() -> None:
    old, new = (
        made({"a/x": "pass", "a/y": "pass", "a/z": "pass"}, recall=np.ones(16)),
        made({"a/x": "pass", "a/w": "pass"}),
    )
    new.not_asked = {"a/z": "it does not claim to be exact any more"}
    result = compare(new, old)
    assert result.checks_gone.keys() == {"a/y", "a/z"}
    assert "does not claim" in result.checks_gone["a/z"]
    assert result.checks_new.keys() == {"a/w"}
    assert result.metrics_gone == ["axis.exp[default].recall"]
    assert result.exit_status == INCONCLUSIVE
    assert compare(old, new).metrics_new == ["axis.exp[default].recall"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r.signature.update(seed=1), "seed: 1 here, 0 there"),
        (lambda r: r.signature.update(device="cuda"), "device: cuda here, cpu there"),
        (lambda r: r.memory["spec"].update(key_domain="sign"), "spec.key_domain: sign here, real there"),
        (lambda r: r.memory.update(shape={"key_dim": 32}), "different dimensions"),
    ],
    ids=["seed", "device", "domain", "shape"],
)
def test_records_made_otherwise_are_refused(change: Any, why: str) -> None:
    old, new = made(recall=np.ones(16)), made(recall=np.ones(16))
    change(new)
    result = compare(new, old)
    assert result.exit_status == NOT_COMPARABLE
    assert why in result.refused


def test_records_with_nothing_in_common_are_not_comparable() -> None:
    assert compare(made({"a/x": "pass"}), made({"b/y": "pass"})).exit_status == NOT_COMPARABLE


@pytest.mark.ci
def test_equal_memories_are_seldom_accused() -> None:
    """Twenty noisy metrics, both sides alike: any false regression in at most 5% of comparisons (200 of them)."""
    rng = np.random.default_rng(0)
    accused = 0
    for _ in range(200):
        sides = []
        for _ in range(2):
            one = made(recall=[0.0])
            one.blocks[0]["metrics"] = {
                f"recall{i}": {**RECALL, "values": (rng.binomial(4, 0.7, 16) / 4).tolist()} for i in range(20)
            }
            sides.append(one)
        accused += compare(*sides).exit_status == WORSE
    assert accused <= 10 + 3 * 3  # three standard deviations above the promised 5%


def test_a_small_loss_is_found_given_enough_trials() -> None:
    rng = np.random.default_rng(1)
    old = rng.binomial(20, 0.9, 256) / 20
    new = np.clip(old - rng.binomial(3, 0.4, 256) / 20, 0, 1)
    assert compare(made(recall=new), made(recall=old)).exit_status == WORSE


# ---- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    old = np.linspace(0.5, 1, 16)
    sides = {"old": made(recall=old), "worse": made(recall=old - 0.2), "seeded": made(recall=old)}
    sides["unsure"] = made(recall=np.where(np.arange(16) < 3, old - 0.4, old))
    sides["seeded"].signature["seed"] = 9
    for name, one in sides.items():
        records.save([one], tmp_path / f"{name}.json")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text(json.dumps({"schema": "something/9"}))
    return {p.stem: str(p) for p in tmp_path.iterdir()} | {"none": str(tmp_path / "none.json")}


@pytest.mark.parametrize(
    ("name", "code"),
    [("old", 0), ("worse", 1), ("broken", 2), ("other", 2), ("none", 2), ("unsure", 3), ("seeded", 4)],
)
def test_the_command_exits_with_what_it_found(files: dict[str, str], name: str, code: int) -> None:
    assert main(["compare", files["old"], files[name]]) == code


def test_the_command_prints_effect_sizes_first(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", files["old"], files["worse"]])
    out = capsys.readouterr().out
    assert "WORSE" in out
    assert "worse by 20.0%: axis.exp[default].recall 0.75 -> 0.55" in out
    assert "by the signs of 16 paired trials" in out


def test_several_memories_are_matched_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = made(recall=np.ones(16))
    two = copy.deepcopy(one)
    two.memory["plug"] = "m:Two"
    three = copy.deepcopy(one)
    three.memory["plug"] = "m:Three"
    records.save([one, two], tmp_path / "a.json")
    records.save([one, three], tmp_path / "b.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == INCONCLUSIVE
    out = capsys.readouterr().out
    assert "m:Three is not in" in out
    assert "m:Two is not in" in out


# ---- memories that draw ---------------------------------------------------------------------------------------


def noisy(seed: int, loss: float = 0.0, of: int = 20, trials: int = 64, drawing: bool = True) -> Record:
    """A card of twenty metrics under noise, whose first ``of`` are worse by ``loss``."""
    generator = np.random.default_rng(seed)
    one = made()
    one.memory["spec"]["stochastic"] = ["write"] if drawing else []
    for n in range(20):
        values = np.clip(generator.normal(0.6, 0.1, trials) - loss * (n < of), 0, 1)
        block = made(recall=values).blocks[0]
        one.blocks.append(block | {"setting": f"n{n}"})
    return one


def test_two_runs_of_one_noisy_memory_are_decided() -> None:
    """Of twenty pairs, whose metrics move by more than the tolerance as noise does, hardly one is left open."""
    results = [compare(noisy(2 * n), noisy(2 * n + 1)) for n in range(20)]
    assert sum(result.exit_status == NO_WORSE for result in results) >= 18
    assert sum(result.exit_status == WORSE for result in results) == 0
    assert any(result.of("noise") for result in results)
    (move,) = results[0].axes
    assert str(move).startswith("axis: no difference larger than 2% in the mean over 20 metrics (")
    assert "as noise moves" in "\n".join(line for line, _ in comparison(results[0], "title"))


def test_noise_of_a_memory_that_draws_nothing_is_left_open() -> None:
    """Nothing is known to draw there: whatever moves was changed."""
    assert compare(noisy(0, drawing=False), noisy(1, drawing=False)).exit_status == INCONCLUSIVE


@pytest.mark.parametrize(("loss", "of"), [(0.05, 20), (0.15, 1)])
def test_a_loss_is_not_taken_for_noise(loss: float, of: int) -> None:
    """Neither one of every metric that none of them shows alone, nor one of a single metric that its axis hides."""
    for n in range(5):
        assert compare(noisy(2 * n, loss, of), noisy(2 * n + 1)).exit_status in (WORSE, INCONCLUSIVE)


def test_too_few_trials_show_no_equivalence() -> None:
    assert compare(noisy(0, trials=4), noisy(1, trials=4)).exit_status == INCONCLUSIVE
