"""The command line: list, trial, report, score, selfcheck."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from memspec.cli import main
from memspec.commands.trial import parsed, parsed_setting
from memspec.errors import MemspecError
from memspec.experiments import catalog
from memspec.experiments.base import Experiment, Runner, Setting, choices_of, types_of
from memspec.experiments.capacity import LOAD, Load
from memspec.experiments.streams import Stream
from memspec.metrics import Metric
from memspec.plugs.loading import load_plug
from memspec.plugs.references import reference_plugs
from memspec.running import selfcheck
from memspec.running.selfcheck import Matrix, matrix


@dataclass(frozen=True)
class Typed(Setting):
    n: int = 1
    sigma: float = 0.5
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    name: str = "x"
    limit: int | None = None
    ages: tuple[int, ...] = (1, 2)


CHOSEN = [
    ("capacity.load", "presented"),
    ("forgetting.two_tasks", "kind"),
    ("reasoning.graph", "graph"),
    ("tasks.learned", "task"),
    ("reasoning", "world"),
    ("robustness.association", "kind"),
    ("continual", "kind"),
    ("continual", "data"),
    ("tasks.stored", "task"),
]


@pytest.mark.parametrize(("experiment", "field"), CHOSEN)
def test_text_that_is_none_of_a_settings_choices_is_refused_with_these(
    experiment: str, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trial", "memspec.reference:DeltaMemory", experiment, "--set", f"{field}=weird"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    kind = catalog.experiments()[experiment].setting
    assert f"{field} is 'weird'; it must be one of {', '.join(choices_of(kind)[field])}" in line


def test_every_text_of_a_setting_has_choices_or_is_a_path() -> None:
    texts = {
        (name, field)
        for name, experiment in catalog.experiments().items()
        for field, kind in types_of(experiment.setting).items()
        if kind is str
    }
    assert texts == {*CHOSEN, ("continual", "root"), ("reasoning.graph", "root")}


def test_choices_hold_of_each_entry_and_of_literal_types() -> None:
    with pytest.raises(ValueError, match="methods is 'majic'; it must be one of plain, ewc, gem, replay, memory"):
        Stream(methods=("plain", "majic"))
    with pytest.raises(ValueError, match="kind is 'c'; it must be one of a, b"):
        Typed(kind="c")  # type: ignore[arg-type]


TYPED = Experiment("typed", lambda *_: {"m": torch.zeros(1)}, {"m": Metric("nothing")}, "did {n}", Typed)


def test_list_shows_every_reference_with_what_its_class_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for plug in reference_plugs():
        assert f"{plug}\n" in out
    assert "family delta" in out
    assert "source: Schlag" in out
    assert "(no description)" not in out


def test_trial_repeats_what_the_run_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["trial", "memspec.reference:MatrixAssociativeMemory", "capacity.load", "--set", "n=64", "--trial", "3"])
        == 0
    )
    out = capsys.readouterr().out
    runner = Runner(load_plug("memspec.reference:MatrixAssociativeMemory"), seed=0)
    recall = runner.values(LOAD, Load(n=64), "relative_mse", 16)[3]
    (line,) = [line for line in out.splitlines() if line.split()[0] == "relative_mse"]
    assert float(line.split()[1]) == pytest.approx(recall, rel=5e-3)
    assert "stored 64 random pairs" in out


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], Typed()),
        (["n=3", "sigma=1e-3"], Typed(n=3, sigma=1e-3)),
        (["fast=True", "kind=b", "name=a=b"], Typed(fast=True, kind="b", name="a=b")),
        (["limit=None"], Typed()),
        (["limit=4", "ages=(3, 4, 5)"], Typed(limit=4, ages=(3, 4, 5))),
    ],
    ids=["defaults", "numbers", "words", "none", "tuple"],
)
def test_settings_are_read_by_their_types(texts: list[str], expected: Typed) -> None:
    assert parsed_setting(TYPED, texts) == expected


@pytest.mark.parametrize("name", sorted(catalog.experiments()))
def test_every_setting_reads_what_a_message_would_print(name: str) -> None:
    experiment = catalog.experiments()[name]
    default = experiment.setting()
    texts = [f"{field}={getattr(default, field)}" for field in type(default).__dataclass_fields__]
    assert parsed_setting(experiment, texts) == default


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trial", "memspec.reference:DeltaMemory", "nosuch"], "there is no experiment 'nosuch'"),
        (["trial", "memspec.reference:DeltaMemory", "capacity.load", "--set", "n=many"], "n takes a value of type int"),
        (["trial", "memspec.reference:DeltaMemory", "capacity.load", "--set", "m=1"], "capacity.load has n"),
        (["trial", "memspec.reference:DeltaMemory", "capacity.load", "--trial=-1"], "trials count from 0"),
        (["trial", "nosuch:X", "capacity.load"], "there is no module"),
        (["report", "none.json"], "there is no such file"),
        (["compare", "none.json", "none.json"], "there is no such file"),
        (["selfcheck", "--only", "NoSuchMutant"], "there is no mutant named NoSuchMutant"),
    ],
    ids=["experiment", "type", "field", "trial", "plug", "report", "compare", "mutant"],
)
def test_wrong_use_is_one_line_and_exit_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_values_that_are_not_of_their_type_are_refused() -> None:
    for text, kind, said in (
        ("maybe", bool, "True or False"),
        ("c", Literal["a", "b"], "one of"),
        ("x", int | None, "none of"),
    ):
        with pytest.raises(ValueError, match=said):
            parsed(text, kind)


def test_score_runs_the_suites_and_report_shows_the_record(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(
        "pytest.ini", "[pytest]\naddopts = --nosuch-option\npython_files = nothing_*.py\n"
    )  # the user's own affair
    code = main(["score", "memspec.reference:DeltaMemory", "--checks=capacity/recall/n*", "--scorecard=card.json"])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "memspec.reference:DeltaMemory: PARTIAL" in out
    card = folder.card()
    assert all(c["status"] == "pass" for c in card["checks"])
    assert main(["report", "card.json", "--html", "page.html", "--md", "page.md"]) == 0
    out = capsys.readouterr().out
    assert "memspec.reference:DeltaMemory: PARTIAL" in out
    assert (folder.path / "page.html").read_text().startswith("<!doctype html>")
    assert "capacity" in (folder.path / "page.md").read_text()


def test_score_exits_with_what_pytest_found(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "nosuch:X"]) == 4
    assert "there is no module 'nosuch'" in capsys.readouterr().err


def test_what_fails_in_memspec_itself_is_not_taken_for_worse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("memspec.scorecard.record.load", broken)
    assert main(["compare", "old.json", "new.json"]) == 70
    assert "RuntimeError: a defect" in capsys.readouterr().err


# ---- selfcheck ------------------------------------------------------------------------------------------------


def test_the_matrix_of_one_mutant(capsys: pytest.CaptureFixture[str]) -> None:
    mutants = __import__("memspec.fixtures.mutants", fromlist=["all_mutants"]).all_mutants()
    name = next(iter(sorted(mutants)))
    found = matrix(workers=1, only=[name], named_checks_only=True)
    assert isinstance(found, Matrix)
    assert found.problems == []
    assert found.failed(mutants[name].plug)
    assert "1 of 1 mutants are failed by a check" in [line for line, _ in found.lines()]


def test_selfcheck_shows_how_far_it_is_unless_it_is_to_be_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[selfcheck.Part] = []

    def run(part: selfcheck.Part) -> None:
        parts.append(part)
        raise MemspecError("no card")

    monkeypatch.setattr(selfcheck, "run_part", run)
    name = min(__import__("memspec.fixtures.mutants", fromlist=["all_mutants"]).all_mutants())
    for option in ([], ["-q"]):
        assert main(["selfcheck", "--quick", "-n", "1", "--only", name, *option]) == 2
    assert [part.shown for part in parts] == [True, False]


@pytest.mark.ci
def test_a_mutant_that_survives_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    from memspec.fixtures import mutants

    entry = mutants.Mutant(
        "memspec.reference:DeltaMemory",
        "memspec.reference:MatrixAssociativeMemory",
        "nothing",
        ("capacity/recall/n8",),
        "",
    )
    monkeypatch.setattr(mutants, "all_mutants", lambda: {"Healthy": entry})
    found = matrix(workers=1, only=["Healthy"], named_checks_only=True)
    assert not found.sound
    assert found.problems == ["Healthy (nothing) survives capacity/recall/n8: pass"]


def test_a_run_that_breaks_down_says_so() -> None:
    with pytest.raises(MemspecError, match="the run broke down"):
        matrix(workers=1, only=[], named_checks_only=True, references=[], arguments=["--nosuch-option"])


def test_a_plain_file_is_not_mistaken_for_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.json").write_text('"hello"')
    assert main(["report", str(tmp_path / "notes.json")]) == 2
    assert "holds a str" in capsys.readouterr().err


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from memspec.commands import compare

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "_compare", interrupted, raising=True)
    assert main(["compare", "a.json", "b.json"]) == 130
    assert capsys.readouterr().err == "memspec compare: interrupted, nothing was written\n"
