"""The options: beside other plugins' of the same short names, and the short names of `memspec score`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreign_plugins import FLAGS, TAKEN
from memspec.cli import main
from memspec.commands import score
from memspec.running.options import OPTIONS, forwarded

DELTA = "memspec.reference:DeltaMemory"
ONE = "--checks=capacity/recall/n8"


def test_memspec_lives_beside_plugins_that_have_the_short_names(folder: Any) -> None:
    folder.write("test_own.py", "def test_own(pytestconfig):\n    assert pytestconfig.getoption('--alpha') == 'mine'\n")
    done = folder.pytest("-p", "foreign_plugins", "--alpha=mine", "--full", "test_own.py")
    assert done.code == 0, done.text
    assert "html=foreign html" in done.text
    assert "full=True" in done.text
    suites = ("--pyargs", "memspec.suites.test_capacity", f"--memory={DELTA}", f"--memspec-{ONE[2:]}")
    done = folder.pytest("-p", "foreign_plugins", "--alpha=mine", *suites, "--memspec-scorecard=card.json")
    assert done.code == 0, done.text
    assert folder.card()["signature"]["alpha"] == 1e-3
    assert folder.card()["signature"]["tier"] == "default"


def test_every_option_but_the_memory_has_the_prefix(pytestconfig: pytest.Config) -> None:
    (group,) = [g for g in pytestconfig._parser._groups if g.name == "memspec"]
    names = [name for option in group.options for name in option.names()]
    assert {"--memory", "--memspec-html", "--memspec-scorecard"} <= set(names)
    assert [name for name in names if not name.startswith("--memspec-")] == ["--memory"]
    assert {*TAKEN, *FLAGS} - {"gate"} <= OPTIONS.keys()  # the foreign plugin takes names that would collide


def test_score_passes_every_option_on() -> None:
    given = {"action": [], "int": ["3"], "float": ["0.5"], "Path": ["x.json"]}
    for name, settings in OPTIONS.items():
        kind = "action" if settings.get("action") == "store_true" else settings.get("type", str).__name__
        value = given.get(kind, ["text"])
        for written in (f"--{name}", f"--memspec-{name}"):
            told = score.arguments([written, *value, "m:M"])
            assert told.plugs == ["m:M"]
            assert forwarded(told) == [f"--memspec-{name}" + "".join(f"={v}" for v in value)]


@pytest.mark.parametrize(
    "given",
    [
        ["--checks", "a/*", "x:X", "y:Y"],
        ["x:X", "--checks", "a/*", "y:Y"],
        ["x:X", "y:Y", "--checks", "a/*"],
        ["x:X", "y:Y", "--checks=a/*", "--", "--durations=3", "-x"],
    ],
    ids=["first", "between", "last", "rest"],
)
def test_plugs_and_options_of_score_may_stand_in_any_order(given: list[str]) -> None:
    told = score.arguments(given)
    assert told.plugs == ["x:X", "y:Y"]
    assert told.checks == ["a/*"]
    assert told.rest == (["--durations=3", "-x"] if "--" in given else [])


def test_score_reads_its_plugs_behind_an_option(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["score", "--checks", "capacity/recall/n8", DELTA, "--scorecard", "card.json", "--", "--durations=1"]) == 0
    )
    assert "slowest" in capsys.readouterr().out
    assert [c["id"] for c in folder.card()["checks"]] == ["capacity/recall/n8"]
    assert Path("card.json").exists()


@pytest.mark.parametrize("wrong", ["--chekcs=x", "--durations=3", "--scorecar=card.json"])
def test_score_refuses_what_it_does_not_know(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["score", DELTA, wrong])
    assert end.value.code == 4
    assert wrong.partition("=")[0] in capsys.readouterr().err


TAKES_MEMORY = """
    def pytest_addoption(parser):
        parser.addoption("--memory", default="16G", help="of the machine")
"""


def test_a_project_keeps_its_own_option_of_the_short_name(folder: Any) -> None:
    """Its runs are its own; memories are named by the long name, as every message then says."""
    folder.write("conftest.py", TAKES_MEMORY)
    folder.write("test_own.py", "def test_own(pytestconfig):\n    assert pytestconfig.getoption('--memory') == '8G'\n")
    done = folder.pytest("--memory=8G", "test_own.py")
    assert done.code == 0, done.text
    folder.write("test_check.py", "def test_check(plug):\n    '''It is built.'''\n    plug.build()\n")
    done = folder.pytest("--memory=8G", "test_check.py")
    assert done.code == 4
    assert "--memory is an option of this project" in done.text
    assert "Add --memspec-memory=mypkg:MyMemory" in done.text
    done = folder.pytest("--memory=8G", f"--memspec-memory={DELTA}", "test_check.py", isolate=True)
    assert done.code == 0, done.text
    assert "1 passed" in done.text


def test_memories_are_named_by_either_name(folder: Any) -> None:
    folder.write("test_check.py", "def test_check(plug):\n    '''It is built.'''\n    plug.build()\n")
    done = folder.pytest(f"--memory={DELTA}", "--memspec-memory", "memspec.reference:TTTMemory", "test_check.py")
    assert "2 passed" in done.text
