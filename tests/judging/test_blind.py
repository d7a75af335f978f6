"""What a blind memory meets requires nothing: such checks are measured, never passed, wherever a card is shown."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import memspec
from memspec.experiments.capacity import LOAD, Load
from memspec.experiments.selectivity import CALIBRATION, FOILS, Foils
from memspec.experiments.slots import USE, Items
from memspec.judging.check import Check, CheckRun
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound, surely_met
from memspec.metrics import Metric
from memspec.plugs.blind import BlindPlug, blind_values
from memspec.plugs.loading import load_plug
from memspec.plugs.meter import METER
from memspec.plugs.plug import Plug, Shape
from memspec.reference import ExactMemory, NullMemory
from memspec.scorecard import pages
from memspec.scorecard.compare import NO_WORSE, compare
from memspec.scorecard.render import NOT_REQUIRED, axes, terminal
from tests.scorecard.test_scorecard import card, check

SHARE = Metric("a share")
MEASURED = ["capacity/*", "contiguity/*", "digits/*", "dimensions/*", "facts/*", "robustness/*", "selectivity/*"]


# ---- the memory that answers zeros ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zeros() -> memspec.Card:
    return memspec.score(NullMemory, checks=[*MEASURED, "adaptation/*", "forgetting/*"])


def test_zeros_pass_no_measurement(zeros: memspec.Card) -> None:
    checks = zeros.checks
    measurements = checks[checks.kind == "measurement"]
    assert set(measurements.status) == {"measured", "fail", "inconclusive"}
    assert (measurements.status == "measured").sum() > 20


def test_no_line_of_what_zeros_reach_is_green(zeros: memspec.Card) -> None:
    rows = {row["axis"]: row for row in axes(zeros.record)}
    for axis in ("capacity", "contiguity", "digits", "facts", "robustness"):
        assert rows[axis]["style"] == "", axis
        assert rows[axis]["counts"] == NOT_REQUIRED
        assert not rows[axis]["required"]
    assert rows["adaptation"]["style"] == "red"
    shown = [(text, style) for text, style in terminal([zeros.record]) if text.startswith(f"  {'robustness'}")]
    assert [NOT_REQUIRED in text and style == "" for text, style in shown] == [True]


def test_every_way_of_showing_a_card_says_so(zeros: memspec.Card) -> None:
    assert f"robustness ({NOT_REQUIRED})" in pages.markdown([zeros.record])
    assert NOT_REQUIRED in pages.page([zeros.record])
    assert NOT_REQUIRED in zeros._repr_html_()
    assert "measured, " in repr(zeros)


def test_the_norm_of_answers_is_no_confidence(zeros: memspec.Card) -> None:
    """A memory that declares none has no score of it."""
    assert "selectivity" not in zeros.scores.index
    assert not zeros.measurements().metric.str.startswith("confidence").any()


def test_a_memory_that_does_better_passes_what_zeros_do_not() -> None:
    found = memspec.score(ExactMemory, checks=["capacity/recall/*", "robustness/*", "selectivity/*"]).checks
    assert (found[found.index.str.startswith("capacity")].status == "pass").all()
    assert found.loc["robustness/noise/s0.5", "status"] == "pass"
    assert found.loc["robustness/noise/s0.5", "blind"] == pytest.approx(1 / 32)
    assert found.loc["selectivity/confidence-knows-stored-keys", "status"] == "pass"
    assert found.loc["selectivity/confident-half-is-better", "status"] == "measured"


def test_a_bound_of_the_users_own_is_a_requirement(tmp_path: Path) -> None:
    bounds = tmp_path / "bounds.toml"
    bounds.write_text('["digits/accuracy/n50"]\nat_least = 0.5\n', encoding="utf-8")
    found = memspec.score("memspec.reference:DeltaMemory", checks=["digits/accuracy/*"], bounds=bounds).checks
    assert found.loc["digits/accuracy/n50", "status"] == "pass"
    assert found.loc["digits/accuracy/n100", "status"] == "measured"


# ---- judging --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "bound", "met"),
    [
        ([0.5] * 4, Bound(at_least=0.45), True),
        ([0.5] * 4, Bound(at_least=0.5), True),
        ([0.5] * 4, Bound(at_least=0.55), False),
        ([0.5] * 4, Bound(at_most=0.45), False),
        ([0.0, 1.0, 0.0, 1.0], Bound(at_least=0.45), False),  # in doubt
        ([0.0, 1.0, 0.0, 1.0], Bound(at_least=0.45, at_most=0.55), False),
        ([0.5], Bound(at_most=0.5), True),
    ],
)
def test_what_is_surely_met(values: list[float], bound: Bound, met: bool) -> None:
    assert surely_met(np.array(values), SHARE, bound) is met


def test_of_a_metric_without_a_range_the_share_of_trials_is_looked_at() -> None:
    ratio = Metric("a ratio", high=math.inf, better="down")
    assert surely_met(np.array([1.0, 2.0, 1.0, 1.5]), ratio, Bound(at_most=3.0))
    assert not surely_met(np.array([1.0, 1.0, 1.0, 1.0]), ratio, Bound(at_most=0.5))


class Asked:
    """A runner that gives the same value in every trial."""

    def values(self, *_: object) -> np.ndarray:
        return np.ones(256)


def judged(kind: str, *bounds: float) -> Check:
    """A check of this kind in which all trials reach 1 and a blind memory .125, held to these bounds in turn."""
    run = CheckRun(Check("small/recall", kind, "small"), "Something is recalled.")  # type: ignore[arg-type]
    judge = Judge(run, Asked(), lambda *_: "", blind=lambda *_: np.full(16, 0.125))  # type: ignore[arg-type]
    for bound in bounds:
        judge(LOAD, Load(n=8), "recall_cosine", Bound(at_least=bound))
    return run.check


def test_a_measurement_that_zeros_reach_is_no_pass() -> None:
    found = judged("measurement", 0.1)
    assert (found.status, found.required, found.blind) == ("measured", False, 0.125)
    assert Check.from_json(found.to_json()) == found


def test_a_claim_stays_a_claim() -> None:
    found = judged("claim", 0.1)
    assert (found.status, found.required) == ("pass", False)


def test_one_bound_that_requires_something_is_enough() -> None:
    for bounds in ((0.1, 0.5), (0.5, 0.1)):
        found = judged("measurement", *bounds)
        assert (found.status, found.required) == ("pass", True)
        assert found.bound == Bound(at_least=bounds[-1])


def test_a_law_is_not_compared_with_zeros() -> None:
    found = judged("law", 0.1)
    assert (found.status, found.required, found.blind) == ("pass", True, None)


# ---- the blind memory beside another --------------------------------------------------------------------------


def test_it_has_the_widths_of_the_memory_that_it_stands_beside() -> None:
    plug = Plug("narrow", ExactMemory, {"key_dim": 12, "value_dim": 20})
    beside = BlindPlug.like(plug)
    assert beside.shape(64, 64, 128) == plug.shape(64, 64, 128) == Shape(12, 20, 128)
    built = beside.build()
    assert (built.key_dim, built.value_dim) == (12, 20)
    found = LOAD.measure(beside, Load(n=8), range(4), 0)
    assert found["recall_cosine"].tolist() == [0.125] * 4  # type: ignore[union-attr]


def test_its_confidence_says_nothing() -> None:
    beside = BlindPlug.like(load_plug("memspec.reference:ExactMemory"))
    assert FOILS.measure(beside, Foils(), range(2), 0)["confidence_auroc"].tolist() == [0.5, 0.5]  # type: ignore[union-attr]
    assert CALIBRATION.measure(beside, Foils(), range(2), 0)["selective_gain"].tolist() == [0, 0]  # type: ignore[union-attr]


def test_what_it_has_no_part_in_is_required_of_the_memory() -> None:
    from memspec.experiments.base import Runner

    beside = BlindPlug.like(load_plug("memspec.reference:SoftmaxMemory"))
    values = blind_values(lambda: Runner(beside))
    assert values(USE, Items(), "read_information", None) is None


def test_it_costs_the_memory_no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    from memspec.experiments.base import Runner

    beside = BlindPlug.like(load_plug("memspec.reference:ExactMemory"))
    monkeypatch.setattr(METER, "on", True)
    before = METER.calls.copy()
    assert blind_values(lambda: Runner(beside))(LOAD, Load(n=8), "recall_cosine", None) is not None
    assert METER.calls == before
    assert METER.on


# ---- records --------------------------------------------------------------------------------------------------


def test_a_card_of_nothing_but_such_checks_is_no_pass() -> None:
    one = card(checks=[check("axis/a", "measured")])
    assert one.verdict == "measured"
    assert card(checks=[check("axis/a", "measured"), check("laws/b", "pass")]).verdict == "pass"
    assert card(checks=[check("axis/a", "measured")], notes=["only a selection ran"]).verdict == "partial"


def test_cards_of_before_compare_as_they_did() -> None:
    """An older card calls a pass what is measured now."""
    new, old = card(checks=[check("axis/a", "measured")]), card(checks=[check("axis/a", "pass")])
    found = compare(new, old)
    assert (found.exit_status, found.checks) == (NO_WORSE, {})
    broken = compare(card(checks=[check("axis/a", "fail", "lost")]), new)
    assert broken.checks == {"axis/a": ("pass", "fail")}
