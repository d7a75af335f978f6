"""`memspec.score` and the card it returns; what the package offers by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import memspec
from memspec.fixtures.mutants.capacity import DropsTheRemainder
from memspec.reference import DeltaMemory

FEW = ["capacity/recall/*", "laws/query-*"]


class Mine(DeltaMemory):
    """A class of the caller's own."""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_class_is_scored_where_it_is() -> None:
    threads = torch.get_num_threads()
    card = memspec.score(Mine, checks=FEW)
    assert torch.get_num_threads() == threads
    assert card.memory.endswith(":Mine")
    assert card.verdict == "partial"
    assert (card.checks.status == "pass").all()
    assert set(card.checks.axis) == {"laws", "capacity"}
    assert 0 < card.scores.loc["capacity", "low"] <= card.scores.loc["capacity", "score"]
    rows = card.measurements()
    assert list(rows.columns) == ["experiment", "setting", "trial", "metric", "at", "value"]
    assert (rows.experiment == "capacity.load").any()
    html = card._repr_html_()
    assert "Mine" in html
    assert "PARTIAL" in html
    assert "<html" not in html
    assert "PARTIAL" in repr(card)
    assert str(card).startswith(card.memory)
    assert "1 parameters" not in str(card)


def test_a_name_is_scored_in_a_process_of_its_own_with_the_same_numbers() -> None:
    named = memspec.score("memspec.reference:DeltaMemory", checks=FEW, max_trials=32)
    given = memspec.score(DeltaMemory, checks=FEW, max_trials=32)
    assert named.measurements().equals(given.measurements())
    assert named.record.signature == given.record.signature


def test_a_failure_is_repeated_by_a_call() -> None:
    card = memspec.score(DropsTheRemainder, checks=["capacity/n95"], seed=3)
    assert card.verdict == "fail"
    (check,) = card.record.checks
    assert check.failure is not None
    again: dict[str, Any] = {"DropsTheRemainder": DropsTheRemainder}
    exec(check.failure.repeat.replace("print(", "card = (", 1), again)
    (other,) = again["card"].record.checks
    assert other.failure == check.failure


def test_a_card_is_saved_and_loaded() -> None:
    card = memspec.score(Mine, checks=["capacity/recall/n8"])
    for name in ("card.json", "card.md", "card.html"):
        card.save(name)
    loaded = memspec.Card.load("card.json")
    assert loaded.verdict == card.verdict
    assert loaded.scores.equals(card.scores)
    assert Path("card.md").read_text().startswith("# ")
    assert Path("card.html").read_text().startswith("<!doctype html>")


def test_a_regression_is_in_the_card() -> None:
    memspec.score(Mine, checks=["capacity/recall/n8"]).save("old.json")
    assert memspec.score(Mine, checks=["capacity/recall/n8"], baseline="old.json").verdict == "partial"


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ("nosuch:X", "there is no module 'nosuch'"),
        (3, "3 is of type int"),
        (Mine(4, 4), "not something that builds memories"),
    ],
    ids=["module", "number", "instance"],
)
def test_what_is_no_memory_is_refused(memory: Any, said: str) -> None:
    with pytest.raises(memspec.MemspecError, match=said):
        memspec.score(memory)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(memspec.MemspecError, match="between 0 and 1"):
        memspec.score(Mine, alpha=2)


def test_every_public_name_is_there_and_declared() -> None:
    source = Path(memspec.__file__).read_text(encoding="utf-8")
    for name in memspec.__all__:
        assert getattr(memspec, name) is not None
        assert name == "__version__" or f" as {name}\n" in source  # for type checkers
    assert set(memspec.__all__) <= set(dir(memspec))
    with pytest.raises(AttributeError, match="nosuch"):
        memspec.nosuch  # noqa: B018


@pytest.mark.parametrize("command", [["-m", "memspec"], ["-m", "memspec.cli"]], ids=["package", "module"])
def test_python_runs_the_command_line(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"memspec {memspec.__version__}\n"
