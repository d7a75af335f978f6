"""``memspec run``: what its names ask, and what it leaves behind."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest

from memspec.cli import main
from memspec.commands.experiments import EXPERIMENTS


def test_every_experiment_asks_checks_that_there_are_and_no_others(folder: Any) -> None:
    """All at once, without trainings; a glob that only a training fits is met by one that is left out."""
    code = main(["run", "all", "memspec.reference:DeltaMemory", "--quick", "-qq"])
    assert code == 0
    card = folder.card("all.json")
    asked = {check["id"] for check in card["checks"]} | set(card["not_asked"])
    globs = [glob for these in EXPERIMENTS.values() for glob in these]
    assert [glob for glob in globs if not fnmatch.filter(asked, glob)] == []
    assert [check for check in asked if not any(fnmatch.fnmatchcase(check, glob) for glob in globs)] == []
    page = (folder.path / "all.html").read_text()
    assert "<svg" in page


def test_one_experiment_is_asked_alone(folder: Any) -> None:
    assert (
        main(["run", "logical", "memspec.fixtures.plain:PlainSequence", "--quick", "-qq", "--scorecard=mine.json"]) == 0
    )
    ran = [check["id"] for check in folder.card("mine.json")["checks"]]
    assert sorted(ran) == ["reasoning/learns/chaining", "reasoning/learns/entailment"]


def test_an_experiment_that_there_is_not(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "juggling", "memspec.reference:DeltaMemory"])
    assert ended.value.code == 2
    assert "invalid choice: 'juggling'" in capsys.readouterr().err
