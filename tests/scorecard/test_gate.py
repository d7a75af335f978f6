"""The policy of a comparison: what is gated, tolerances by metric and axis, and files that cannot be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from made_cards import check, memory
from memspec.errors import BoundsError
from memspec.experiments.catalog import scorings
from memspec.scorecard.badge import badge
from memspec.scorecard.gate import Policy, policy_of


def test_scores_are_made_of_few_metrics_and_those_are_gated() -> None:
    default = Policy()
    for one in scorings():
        setting = one.labels[0] if one.labels else "any"
        assert default.metric(one.experiment, setting, one.metric)
        assert not Policy("laws").metric(one.experiment, setting, one.metric)
        assert not default.metric(one.experiment, setting, "no such metric")
        assert Policy("all").metric(one.experiment, setting, "no such metric")


def test_laws_and_claims_are_gated_by_default() -> None:
    assert [kind for kind in ("law", "claim", "measurement") if Policy().check(kind)] == ["law", "claim"]
    assert not any(Policy("scores").check(kind) for kind in ("law", "claim", "measurement"))
    assert Policy("all").check("measurement")


def test_tolerances_go_by_axis_and_by_metric() -> None:
    policy = Policy("all", 0.02, {"capacity.load.relative_mse": 0.5, "capacity": 0.1, "*.recall": 0.2})
    assert policy.tolerated("capacity.load", "n64", "relative_mse") == 0.5
    assert policy.tolerated("capacity.load", "n64", "recall") == 0.1
    assert policy.tolerated("other.load", "n64", "recall") == 0.2
    assert policy.tolerated("other.load", "n64", "error") == 0.02


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text('judged = "scores"\ntolerance = 0.05\n[tolerances]\ncapacity = 0.1\n')
    assert policy_of(str(file)) == Policy("scores", 0.05, {"capacity": 0.1})
    for pattern in ("capacity.load[[]n64].recall_cosine", "*.recall_cosine", "capacity.load", "capacity.*"):
        file.write_text(f'[tolerances]\n"{pattern}" = 0.1\n')
        assert policy_of(str(file)).tolerances == {pattern: 0.1}
    assert policy_of("laws", 0.3) == Policy("laws", 0.3)
    assert policy_of(None) == Policy()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('judged = "some"', "judged is 'some'; there are default, laws, scores, all"),
        ("tolerance = -1", "tolerance is -1; it must be a number, at least 0"),
        ("[tolerances]\ncapacity = true", "capacity is True"),
        ("gates = 1", "it has gates; there are judged, tolerance, tolerances"),
        ("[tolerances]\nforgeting = 0.5", "no axis and no metric is called 'forgeting'; near it are forgetting"),
        ('[tolerances]\n"capacity.load[[]n64].recal" = 0.5', "near it are capacity.load"),
        ("[tolerances]\nzzz = 0.5", "the axes are adaptation, capacity"),
        ("gate = [", "not a readable TOML file"),
    ],
    ids=["judged", "negative", "bool", "unknown", "typo", "metric", "nothing", "damaged"],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(BoundsError, match=said):
        policy_of(str(file))
    for name, why in (("none.toml", "there is no such file"), ("score", "give one of default, laws, scores, all")):
        with pytest.raises(BoundsError, match=why):
            policy_of(name)


def test_a_badge_says_of_a_regression_what_it_is_worse_than() -> None:
    fine, worse, failed = memory("m:A"), memory("m:B"), memory("m:C", checks=[check("laws/a", "fail")])
    assert json.loads(badge([fine]))["message"] == "pass, 1 of 1 checks"
    worse.gate = {"verdict": "worse"}
    assert json.loads(badge([fine, worse]))["message"] == "worse than baseline, 2 of 2 checks"
    assert json.loads(badge([failed]))["message"] == "fail, 0 of 1 checks"
    assert json.loads(badge([failed, worse]))["message"] == "fail, worse than baseline, 1 of 2 checks"
