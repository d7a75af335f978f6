"""Several memories scored on several workers: the cards of one run of them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memspec.cli import main
from memspec.running.exits import Exit
from memspec.scorecard import record

DELTA, NULL = "memspec.reference:DeltaMemory", "memspec.reference:NullMemory"


def told(path: Path) -> list[Any]:
    """What a file of cards says but for times."""
    cards = record.load(path)
    checks = [{c.id: (c.status, c.estimate, c.interval) for c in card.checks} for card in cards]
    return [(card.name, card.verdict, card.signature, card.blocks, some) for card, some in zip(cards, checks)]


@pytest.mark.ci
def test_cards_are_those_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # so much time that what a call takes now, on a busy machine, does not say how many trials are made
    asked = ["score", DELTA, NULL, "--checks", "capacity/recall*", "--budget", "1e6", "--scorecard"]
    one = main([*asked, str(tmp_path / "one.json"), "-q"])
    several = main([*asked, str(tmp_path / "several.json"), "--workers", "2"])
    assert several == one
    assert told(tmp_path / "several.json") == told(tmp_path / "one.json")
    assert "scores side by side" in capsys.readouterr().out


def test_a_memory_that_cannot_be_loaded_has_its_card_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "card.json"
    given = ["score", f"{NULL}x", NULL, "--checks", "capacity/recall/n8", "--scorecard", str(path), "--workers", "2"]
    assert main(given) == Exit.USAGE
    assert "no attribute 'NullMemoryx'" in " ".join(capsys.readouterr().out.split())  # wrapped to the terminal
    assert [card.name for card in record.load(path)] == [f"{NULL}x", NULL]


@pytest.mark.parametrize("option", [["-n", "2"], ["-x"], ["--resume"], ["--junitxml", "x.xml"]])
def test_what_is_of_one_run_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", DELTA, "--workers", "2", *option]) == Exit.USAGE
    assert f"{option[0]} is of one run" in capsys.readouterr().err
