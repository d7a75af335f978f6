"""Scores, costs, records and their renderings, from raw rows with known answers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_cards import block, card, check
from memspec.errors import RecordError
from memspec.experiments.base import Scoring
from memspec.judging.verdicts import Bound
from memspec.scorecard import formatting, pages, render
from memspec.scorecard import record as records
from memspec.scorecard.pages import page
from memspec.scorecard.record import Record, merged
from memspec.scorecard.score import rescore, score_of

SCORING = Scoring("axis", "axis.exp", "recall", floor=0.2, ceiling=1.0, description="recall above chance")


# ---- scores ---------------------------------------------------------------------------------------------------


def test_a_score_is_the_raw_mean_between_its_anchors() -> None:
    score = score_of([block([0.5, 0.7])], SCORING)
    assert score is not None
    assert score["raw"] == pytest.approx(0.6)
    assert score["score"] == pytest.approx(0.5)
    assert (score["floor"], score["ceiling"], score["trials"]) == (0.2, 1.0, 2)


def test_settings_count_alike_however_many_trials_each_took() -> None:
    score = score_of([block([1.0] * 64), block([0.0, 0.0], setting="n16")], SCORING)
    assert score is not None
    assert score["raw"] == pytest.approx(0.5)


def test_scores_are_never_clipped() -> None:
    above = score_of([block([1.5, 1.5])], SCORING)
    below = score_of([block([0.0, 0.0])], SCORING)
    assert above is not None
    assert below is not None
    assert above["score"] > 1
    assert below["score"] == pytest.approx(-0.25)


def test_anchors_may_run_downwards() -> None:
    downwards = Scoring("axis", "axis.exp", "recall", floor=1.0, ceiling=0.0, description="error")
    score = score_of([block([0.1, 0.3])], downwards)
    assert score is not None
    assert score["score"] == pytest.approx(0.8)
    assert score["interval"][0] <= score["score"] <= score["interval"][1]


def test_a_curve_counts_all_its_points_or_those_named() -> None:
    curve = block([[0.0, 1.0], [0.0, 0.5]], at=[1, 2])
    every, named = score_of([curve], SCORING), score_of([curve], Scoring(**{**vars(SCORING), "at": (2.0,)}))
    assert every is not None
    assert named is not None
    assert every["raw"] == pytest.approx(0.375)
    assert named["raw"] == pytest.approx(0.75)
    assert score_of([curve], Scoring(**{**vars(SCORING), "at": (7.0,)})) is None


def test_only_the_named_settings_count_and_nothing_measured_is_no_score() -> None:
    named = Scoring(**{**vars(SCORING), "labels": ("n16",)})
    assert score_of([block([0.5, 0.7])], named) is None
    assert score_of([], SCORING) is None
    found = score_of([block([0.5, 0.7]), block([1.0, 1.0], setting="n16")], named)
    assert found is not None
    assert found["raw"] == 1.0


def test_the_interval_covers_the_truth_at_its_rate() -> None:
    """Three settings of different spread and length; 95% over 400 repetitions, within three standard errors."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        blocks = [
            block(rng.normal(m, s, n), setting=f"n{n}") for m, s, n in ((0.5, 0.1, 16), (0.7, 0.3, 32), (0.2, 0.05, 64))
        ]
        score = score_of(blocks, Scoring("a", "axis.exp", "recall", 0.0, 1.0, ""))
        assert score is not None
        hits += score["interval"][0] <= (0.5 + 0.7 + 0.2) / 3 <= score["interval"][1]
    assert abs(hits / 400 - 0.95) < 0.035


def test_a_saved_record_gives_the_same_scores_again(tmp_path: Path) -> None:
    one = rescore(card(block([0.5, 0.7, math.inf]), block([0.25], setting="n16")), [SCORING])
    records.save([one], tmp_path / "card.json")
    (again,) = records.load(tmp_path / "card.json")
    before = json.dumps(one.to_json()["scores"])
    assert json.dumps(rescore(again, [SCORING]).to_json()["scores"]) == before


def test_costs_are_medians_and_null_where_nothing_measured_them() -> None:
    cost = block([3.0, 1.0, 100.0], experiment="cost.growth", setting="n64")
    cost["metrics"]["state_bytes"] = cost["metrics"].pop("recall")
    curve = block([[1.0, 2.0], [3.0, 6.0]], experiment="own.time", at=[8, 16])
    curve["showing"] = {"cost": ["update_seconds"]}  # as an experiment of the user's would say
    curve["metrics"]["update_seconds"] = curve["metrics"].pop("recall")
    found = rescore(card(cost, curve), []).cost
    assert found["state_bytes"]["settings"] == {"n64": 3.0}
    assert found["update_seconds"]["settings"]["n8"] == {"at": [8, 16], "median": [2.0, 4.0]}
    assert found["flops"] is None
    assert found["parameters"] == 12


# ---- records --------------------------------------------------------------------------------------------------


def test_blocks_of_several_workers_become_one() -> None:
    parts = [
        block([1.0, 2.0]),
        block([1.0, 2.0, 3.0, 4.0]),
        block([3.0, 4.0], first=2),
        block([5.0], first=4),
        block([9.0], setting="n16"),
    ]
    for order in (parts, parts[::-1]):
        whole = merged(order)
        assert [b["setting"] for b in whole] == ["n16", "n8"]
        assert whole[1]["metrics"]["recall"]["values"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert parts[0]["metrics"]["recall"]["values"] == [1.0, 2.0]  # the parts are as they were


def test_measurements_are_tidy_rows() -> None:
    rows = card(block([0.5, 0.7]), block([[1.0, 2.0]], setting="curve", at=[1, 2])).measurements()
    assert list(rows.columns) == ["experiment", "setting", "trial", "metric", "at", "value"]
    assert rows[rows.setting == "n8"].value.tolist() == [0.5, 0.7]
    assert rows[rows.setting == "curve"]["at"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "pass (1 inconclusive)"),
        (["inconclusive"], "inconclusive"),
        (["pass", "fail", "skip"], "fail"),
        (["pass", "skip"], "partial"),
        (["skip"], "error"),
        ([], "error"),
    ],
)
def test_the_verdict_of_a_card(statuses: list[str], verdict: str) -> None:
    assert card(checks=[check(f"a/{i}", s) for i, s in enumerate(statuses)]).verdict == verdict


def test_a_note_makes_a_card_partial() -> None:
    assert card(checks=[check("a/b", "pass")], notes=["only a selection ran"]).verdict == "partial"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a readable JSON"),
        ("[]", "holds a list"),
        ('{"schema": "x"}', "schema is 'x'"),
        ('{"schema": "memspec-scorecard/2"}', "required field `memory`"),
    ],
    ids=["json", "list", "schema", "parts"],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=said) as caught:
        records.load(path)
    assert "card.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"schema": "memspec-scorecard/1"},
            "schema is 'memspec-scorecard/1', this memspec reads 'memspec-scorecard/2'",
        ),
        ({"schema": "memspec-scorecard/3"}, "schema is 'memspec-scorecard/3'"),
        ({"verdicts": "pass"}, "the card: Object contains unknown field `verdicts`"),
        ({"checks": [check("a/b", "pass").to_json() | {"statu": "fail"}]}, r"checks\[0\]: .*unknown field `statu`"),
    ],
    ids=["older", "newer", "field", "field of a check"],
)
def test_what_another_version_wrote_is_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    """What is not understood cannot be compared."""
    data = card(checks=[check("a/b", "pass")]).to_json()
    (tmp_path / "c.json").write_text(json.dumps(data))
    assert records.load(tmp_path / "c.json")
    (tmp_path / "c.json").write_text(json.dumps(data | changed))
    with pytest.raises(RecordError, match=said):
        records.load(tmp_path / "c.json")


def test_a_check_survives_the_file(tmp_path: Path) -> None:
    judged = {**JUDGED, "estimate": math.inf, "judged": "share"}
    kept = check("axis/recall/n8", "fail", "recall = 0.31", done="stored 8 pairs", rule="A rule.", **judged)
    records.save([card(checks=[kept])], tmp_path / "c.json")
    (again,) = records.load(tmp_path / "c.json")[0].checks
    assert again == kept


def test_numbers_that_json_lacks_survive(tmp_path: Path) -> None:
    records.save([card(block([math.inf, math.nan, -math.inf]))], tmp_path / "c.json")
    json.loads((tmp_path / "c.json").read_text(), parse_constant=lambda c: pytest.fail(f"not JSON: {c}"))
    values = records.load(tmp_path / "c.json")[0].measurements().value
    np.testing.assert_array_equal(values, [math.inf, math.nan, -math.inf])


# ---- what people read -----------------------------------------------------------------------------------------


JUDGED = {
    "metric": "recall",
    "estimate": 0.31,
    "interval": (0.2, 0.4),
    "trials": 16,
    "bound": Bound(at_least=0.9, source="spec: exact"),
    "meaning": "recall is a share",
}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut to fit depends on the terminal."""
    monkeypatch.setenv("COLUMNS", "140")


def full_card() -> Record:
    checks = [
        check("laws/purity", "pass"),
        check("axis/recall/n8", "fail", "recall = 0.31", done="<stored> 8 pairs", **JUDGED),
        check("axis/crash", "fail", f"raised {CRASH}", raised=CRASH),
        check("axis/open", "inconclusive", "inconclusive: recall = 0.31", **JUDGED),
        check("axis/free", "skip", "m:M does not take key_dim, so it cannot be varied"),
    ]
    return rescore(card(block([0.5, 0.7]), checks=checks, not_asked={"laws/x": "m:M is not Confident"}), [SCORING])


def test_the_summary_says_what_failed_what_is_open_what_was_skipped_and_not_asked() -> None:
    text = "\n".join(line for line, _ in render.terminal([full_card()]))
    for part in (
        "m:M: FAIL (1 passed, 2 failed, 1 inconclusive, 1 skipped)",
        "axis/recall/n8: required recall at least 0.9; got 0.31, between 0.2 and 0.4 (16 trials; spec: exact)",
        "axis/crash: raised RuntimeError: no index",
        "inconclusive (neither passed nor failed):",
        "m:M does not take key_dim, so it cannot be varied: axis/free",
        "1 checks not asked: not Confident (1)",
        "0.50  █████░░░░░",
    ):
        assert part in text


CRASH = "RuntimeError: no index"
RULE = "Asking changes no answer. More."


def terminal_lines(*checks: dict[str, Any]) -> list[str]:
    return [line for line, _ in render.terminal([card(checks=checks)])]


def test_failures_are_told_laws_first_each_with_its_rule() -> None:
    lines = terminal_lines(
        check("a/measured", "fail", "recall = 0.31", **JUDGED),
        check("inputs/law", "fail", "largest difference 2", rule=RULE, kind="law"),
        check("a/claim", "fail", "1 of 2", kind="claim"),
        check("laws/law", "fail", "largest difference 1", rule=RULE, kind="law"),
    )
    at = lines.index("  failed: 2 laws, 1 claim, 1 measurement")
    assert lines[at + 1] == "    fix the laws first: other failures often follow from them"
    assert lines[at + 2] == "    laws/law: Asking changes no answer; got: largest difference 1"
    assert [line.split(":")[0].strip() for line in lines[at + 3 : at + 6]] == ["inputs/law", "a/claim", "a/measured"]


def test_the_first_sentence_of_a_rule_stands_in_the_summary() -> None:
    found = render.gist(check("a/x", "fail", "N95 = 0", rule="N95 is at least 1.5 times its capacity. More."))
    assert found == "N95 is at least 1.5 times its capacity; got: N95 = 0"


def test_checks_that_end_in_one_exception_share_a_line() -> None:
    lines = terminal_lines(
        *(check(f"a/c{i}", "fail", f"raised {CRASH}", raised=CRASH) for i in range(5)),
        check("laws/law", "fail", f"a1 = m1.query(probe) raised {CRASH} (at /x/y.py:7)", raised=CRASH, kind="law"),
        check("a/other", "fail", "1 of 2"),
    )
    (shared,) = [line for line in lines if "RuntimeError" in line]
    assert shared == f"    6 checks raised {CRASH}: laws/law, a/c0, a/c1, ..."
    assert "    a/other: 1 of 2" in lines


def test_a_long_list_is_counted_not_shown() -> None:
    lines = terminal_lines(*(check(f"a/c{i:02}", "fail", f"{i} lost") for i in range(40)))
    shown = [line for line in lines if "lost" in line]
    assert len(shown) == render.MOST_LINES
    assert f"    ... and {40 - len(shown)} more (pytest shows each in full; --memspec-html lists them)" in lines


def test_a_line_is_cut_between_words() -> None:
    assert formatting.clip("one two three four", 12) == "one two ..."
    assert formatting.clip("one two", 7) == "one two"


def test_a_score_from_fewer_settings_than_a_full_run_names_them() -> None:
    recall = block([0.5, 0.7], experiment="capacity.load", setting="n8", n=8)
    recall["metrics"]["recall_above_chance"] = recall["metrics"].pop("recall")
    one = rescore(card(recall, checks=[check("capacity/recall/n8", "pass")], notes=["only a selection ran"]))
    (row,) = [line for line, _ in render.terminal([one]) if "recall_above_chance" in line]
    assert row.endswith("recall_above_chance 0.6 (from n8 only)")


def test_several_memories_stand_side_by_side() -> None:
    one, two = full_card(), full_card()
    two.memory["plug"] = "m:Other"
    text = "\n".join(line for line, _ in render.terminal([one, two]))
    assert "scores side by side" in text
    assert formatting.short_names([one, two]) == ["M", "Other"]


@pytest.mark.parametrize(
    ("score", "bar"),
    [(0.0, "░" * 10), (1.0, "█" * 10), (1.4, "█" * 9 + ">"), (-0.4, "<" + "░" * 9), (math.nan, "?" * 10)],
)
def test_a_bar_shows_what_leaves_the_scale(score: float, bar: str) -> None:
    assert formatting.bar(score) == bar


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0625, "0.0625"),
        (1, "1"),
        (16384, "16,384"),
        (0.53417, "0.534"),
        (math.inf, "inf"),
        (1.5e9, "1.5e+09"),
    ],
)
def test_numbers_are_for_people(value: Any, text: str) -> None:
    assert formatting.number(value) == text


def test_the_page_is_self_contained_and_escapes_what_it_shows() -> None:
    text = page([full_card()])
    assert "&lt;stored&gt; 8 pairs" in text
    assert not re.search(r"<(link|img|iframe|object|script [^>]*src)|@import|url\((?!#)|https?://", text)
    assert "FAIL (1 passed, 2 failed" in text


def test_markdown_shows_the_same_card() -> None:
    text = pages.markdown([full_card()])
    assert "# m:M: FAIL (1 passed, 2 failed, 1 inconclusive, 1 skipped)" in text
    assert "| axis | 0.5 |" in text
    assert "* `axis/crash`: raised RuntimeError: no index" in text


def test_markdown_of_several_cards_begins_with_them_side_by_side() -> None:
    one, two = full_card(), full_card()
    two.memory["plug"] = "m:Other"
    text = pages.markdown([one, two])
    assert text.startswith("# Side by side")
    assert "| score | M | Other |\n|---|---|---|\n| axis | 0.50 | 0.50 |" in text
    assert "Side by side" not in pages.markdown([one])


def test_costs_come_in_a_fixed_order_and_times_in_units() -> None:
    cost = block([2e-5], experiment="cost.growth")
    names = ("query_seconds", "flops", "no_cost", "bytes_per_pair", "state_bytes")
    cost["metrics"] = dict.fromkeys(names, cost["metrics"]["recall"])
    one = rescore(card(cost), [])
    ordered = ["state_bytes", "bytes_per_pair", "flops", "query_seconds"]
    assert [name for name, _ in pages.cost_rows(one)] == ordered
    assert "| query_seconds | n8 | 20 us |" in pages.markdown([one])
    assert [formatting.amount(x, "s") for x in (2.5, 0.0025)] == ["2.5 s", "2.5 ms"]


def test_failures_stand_before_passes_on_the_page() -> None:
    text = page([card(checks=[check("axis/a", "pass"), check("axis/z", "fail", "lost")])])
    assert text.index("axis/z") < text.index("axis/a")


def test_markdown_lists_laws_first() -> None:
    text = pages.markdown([card(checks=[check("a/b", "fail", "lost"), check("z/law", "fail", "lost", kind="law")])])
    assert text.index("`z/law`") < text.index("`a/b`")


def test_an_old_card_with_a_missing_part_still_renders() -> None:
    bare = Record(
        {"plug": "m:M"},
        {
            "memspec": "0",
            "seed": 0,
            "tier": "default",
            "alpha": 0.001,
            "max_trials": 4,
            "dtype": "float32",
            "device": None,
            "torch": "2",
        },
        {"processor": "", "cores": 1, "cuda": None},
    )
    assert "ERROR (no checks)" in page([bare])
    assert "nothing was measured" in "\n".join(line for line, _ in render.terminal([bare]))
