"""What the page says, whoever looks at it: the verdict first, what failed, every memory, nothing that was meant as text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from made_cards import card, check, many, memory, shown
from memspec.cli import main
from memspec.scorecard import overview, pages, sentences
from memspec.scorecard import record as records
from memspec.scorecard.formatting import short_names
from memspec.scorecard.pages import DARK, LIGHT, MARKERS, page
from memspec.scorecard.picture import picture

LIMIT = 2_000_000
"""Bytes that a page may have."""

# ---- one memory -----------------------------------------------------------------------------------------------


def test_the_verdict_and_a_sentence_of_strength_and_weakness_come_first() -> None:
    text = shown(page([memory("m:M", capacity=1.0, forgetting=0.3)]))
    head = text[: text.index("Profile", text.index("m:M "))]
    assert "PASS (1 passed)" in head
    assert "As good as an exact dictionary in capacity. Weakest in forgetting, 0.35 (" in head
    assert "what forgetting is" in head


def test_what_fails_is_the_weakness() -> None:
    one = memory("m:M", checks=[check("a/z", "fail", "lost"), check("laws/b", "fail", "lost", kind="law")])
    assert sentences.weakness(one) == "It fails 1 law, 1 measurement; first laws/b."
    assert sentences.strength(memory("m:M", capacity=0.9)).startswith("Strongest in capacity, 0.90")
    assert sentences.weakness(card()) == "No score was measured."
    assert sentences.strength(card()) == ""


def test_a_regression_stands_in_the_headline_whatever_passed() -> None:
    one = memory("m:M")
    one.gate = {"baseline": "old.json", "verdict": "worse", "losses": ["recall"], "warnings": [], "policy": "laws"}
    text = shown(page([one]))
    assert "WORSE than old.json" in text
    assert "worse: recall" in text
    assert "worse" in shown(page([one, memory("m:N")]))


def test_a_partial_card_says_why() -> None:
    assert "only a selection ran: this card is partial." in shown(page([memory("m:M", notes=["only a selection ran"])]))
    stopped = memory("m:M", stopped="Ctrl-C")
    assert "Ctrl-C: this card is partial." in shown(page([stopped]))


def test_every_check_has_a_place_of_its_own_and_failures_a_program_to_copy() -> None:
    checks = [
        check("axis/b", "pass"),
        check("axis/a", "fail", "lost", repeat="memspec trial a"),
        check("x/c", "skip", "no"),
    ]
    text = page([memory("m:M", checks=checks)])
    for name in ("axis/a", "axis/b", "x/c"):
        assert len(re.findall(rf'id="{name}"', text)) == 1
        assert f'href="#{name}"' in text
    assert re.search(r"<pre[^>]*>memspec trial a</pre><button[^>]*>copy</button>", text)
    assert text.index('id="axis/a"') < text.index('id="axis/b"')


def test_all_ids_differ_and_all_links_lead_somewhere() -> None:
    checks = [check(f"axis/{i}", "pass" if i % 2 else "fail", "lost", raised="E" if i < 4 else "") for i in range(9)]
    for cards in ([memory("m:M", checks=checks)], [memory("m:M", checks=checks), memory("m:N", checks=checks)]):
        text = page(cards)
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert sorted(set(ids)) == sorted(ids)
        assert {link.replace("%3A", ":") for link in re.findall(r'href="#([^"]+)"', text)} <= set(ids)


def test_what_a_score_leaves_its_scale_by_is_on_the_profile() -> None:
    found = overview.profile([memory("m:M", capacity=1.4), memory("m:N", capacity=40.0)])
    row = found.rows[0]
    assert [mark.score for mark in row.marks] == pytest.approx([1.4, 40.0])
    assert found.one < row.marks[0].at < row.marks[1].at == 100
    assert [mark.beyond for mark in row.marks] == [False, True]


MARKUP = "<img src=x onerror=alert(1)>{{ 7*7 }}"


def test_no_text_becomes_markup() -> None:
    checks = [check(f"a/{MARKUP}", "fail", MARKUP, rule=MARKUP, repeat=MARKUP, metric=MARKUP)]
    one = memory(f"m:{MARKUP}", checks=checks, notes=[MARKUP], not_asked={MARKUP: MARKUP})
    one.gate = {"baseline": MARKUP, "verdict": "worse", "losses": [MARKUP], "warnings": [MARKUP], "policy": ""}
    one.blocks[0]["metrics"]["recall"]["description"] = MARKUP
    one.scores["capacity"]["description"] = MARKUP
    one.machine["processor"] = MARKUP
    one.made = {"at": MARKUP, "commit": MARKUP}
    for text in (page([one]), page([one, memory("m:N")]), picture([one, one])):
        assert "<img" not in text
        assert "onerror" in text
        assert "{{ 7*7 }}" in text


# ---- several --------------------------------------------------------------------------------------------------


def test_several_begin_with_a_leaderboard_best_first_with_what_is_paid() -> None:
    text = page([memory("m:Low", 0.2), memory("m:High", 0.8), memory("m:Mid", 0.5)])
    rows = re.findall(r"<tr data-find=\"m:\w+\">.*?</tr>", text[text.index('id="board"') :], re.DOTALL)
    assert [re.search(r"m:(\w+)", row)[1] for row in rows] == ["High", "Mid", "Low"]  # type: ignore[index]
    assert "106" in shown(rows[0])
    order = [text.index(f'id="{part}"') for part in ("leaderboard", "pareto", "measurements", "memories-in-full")]
    assert order == sorted(order)


def test_what_rounds_alike_is_best_alike() -> None:
    column = overview.Column("capacity", "")
    cells = [overview.Cell(0.9999, "1.00"), overview.Cell(1.0, "1.00"), overview.Cell(None, "–")]
    assert overview.best(column, cells) == "1.00"
    assert (
        overview.best(overview.Column("bytes", "", less=True), [overview.Cell(3.0, "3"), overview.Cell(2.0, "2")])
        == "2"
    )


def test_one_number_alone_is_not_the_best_of_its_column() -> None:
    assert overview.best(overview.Column("c", ""), [overview.Cell(None, "–"), overview.Cell(0.4, "0.40")]) == ""


def test_up_to_twelve_are_in_colour_and_some_of_more() -> None:
    assert overview.picked(many(12)) == list(range(12))
    assert len(overview.picked(many(43))) == 6
    text = page(many(43))
    assert text.count('class="pick ') == 43
    assert page(many(12)).count('class="pick ') == 0


def test_43_memories_are_one_page_below_two_megabytes() -> None:
    """With as many checks, and as many failures with long programs, as a bad day brings."""
    cards = many(43)
    for one in cards:
        one.checks = [check(f"axis{i % 20}/check/{i}", "pass") for i in range(150)]
        one.checks += [check(f"axis/bad/{i}", "fail", f"lost {i}", repeat="x = 1\n" * 300) for i in range(20)]
    assert len(page(cards).encode()) < LIMIT


def test_cards_of_different_days_and_machines_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = memory("m:M", 0.5), memory("m:M", 0.6)
    for one, day in ((old, "01"), (new, "02")):
        one.made = {"at": f"2026-11-{day}T10:00:00+00:00"}
    new.machine["processor"] = "arm"
    records.save([old], tmp_path / "a.json")
    records.save([new], tmp_path / "b.json")
    page_file, picture_file = tmp_path / "out.html", tmp_path / "out.svg"
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert main(["report", *paths, "--html", str(page_file), "--svg", str(picture_file)]) == 0
    text = shown(page_file.read_text())
    assert "M (2026-11-01)" in text
    assert "M (2026-11-02)" in text
    assert "These cards are of 2 machines: their times do not compare." in text
    assert picture_file.read_text().startswith("<svg xmlns=")
    assert main(["report", *paths, "--svg", str(picture_file), "--plot", "no-such"]) == 2
    assert "no-such: there are" in capsys.readouterr().err
    old.scores.clear()
    records.save([old], tmp_path / "a.json")
    assert main(["report", *paths, "--svg", str(picture_file), "--plot", "recall-bytes"]) == 2
    assert "it needs two cards or more that have the score capacity and its price" in capsys.readouterr().err


def test_names_that_are_alike_are_told_apart() -> None:
    cards = [memory("m:M"), memory("m:M"), memory("m:N")]
    assert short_names(cards) == ["M #1", "M #2", "N"]
    for one, commit in zip(cards, ("a" * 40, "b" * 40)):
        one.made = {"at": "2026-11-01T10:00:00+00:00", "commit": commit}
    assert short_names(cards) == ["M (aaaaaaaa)", "M (bbbbbbbb)", "N"]
    assert short_names([memory("m:M"), memory("n:M")]) == ["m:M", "n:M"]


def test_a_cost_of_an_older_card_has_no_unit() -> None:
    one = memory("m:M")
    one.cost = {"took": {"description": "what it took", "settings": {"n8": 3.0}}}
    assert "what it took" in page([one])
    assert "| took | n8 | 3 | what it took |" in pages.markdown([one])


def test_a_notebook_still_has_its_piece() -> None:
    assert "PASS" in pages.fragment(memory("m:M"))


# ---- colours --------------------------------------------------------------------------------------------------

VISIONS = {  # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colours: Sequence[str]) -> NDArray[np.float64]:
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    to_lms = [
        [0.41222147, 0.53633254, 0.05144599],
        [0.2119035, 0.68069955, 0.10739696],
        [0.08830246, 0.28171884, 0.6299787],
    ]
    to_lab = [
        [0.21045426, 0.79361779, -0.00407205],
        [1.9779985, -2.42859221, 0.45059371],
        [0.02590404, 0.78277177, -0.80867577],
    ]
    return 100 * np.cbrt(np.clip(rgb @ np.array(to_lms).T, 0, None)) @ np.array(to_lab).T


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize(("colours", "paper"), [(LIGHT, "#ffffff"), (DARK, "#161b22")], ids=["light", "dark"])
def test_twelve_colours_are_told_apart_by_all_readers(vision: str, colours: Sequence[str], paper: str) -> None:
    """By more than Okabe and Ito's seven are (7.6, between two of them, for protanopia), and 3 to 1 from the page."""
    seen = oklab(np.clip(linear(colours) @ np.array(VISIONS[vision]).T, 0, 1))
    assert len(colours) == len(MARKERS) == overview.PICKS
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 9.5
    light = linear([*colours, paper]) @ np.array([0.2126, 0.7152, 0.0722]) + 0.05
    assert min(max(x, light[-1]) / min(x, light[-1]) for x in light[:-1].tolist()) >= 2.98
