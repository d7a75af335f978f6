"""How a run shows itself: one cause told once, progress, and two cards side by side."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest

import memspec
from memspec.cli import main
from memspec.judging.bounds import asks
from memspec.judging.verdicts import Bound
from memspec.running.bar import Bar
from memspec.running.counting import Counting

BROKEN = """
    import torch

    class Late:
        def __init__(self, key_dim, value_dim):
            self.value_dim = value_dim
        def reset(self): ...
        def update(self, keys, values): ...
        def query(self, keys):
            if len(keys) > 2:
                raise RuntimeError(f"the index broke at {len(keys)} keys")
            return torch.zeros(len(keys), self.value_dim)
"""


@pytest.mark.parametrize("ci", ["", "true"])
def test_one_cause_is_told_once_with_the_number_of_checks(
    folder: Any, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)  # where it is set pytest's short summary is not cut to the terminal's width
    folder.write("mem.py", BROKEN)
    done = folder.pytest(
        "--pyargs", "memspec.suites.test_capacity", "--memory=mem.py:Late", "--memspec-scorecard=card.json"
    )
    assert done.code == 1
    failed = [c for c in folder.card()["checks"] if c["status"] == "fail"]
    assert len(failed) >= 3
    assert done.text.count("raise RuntimeError(") == 1
    assert f"{len(failed) - 1} more checks end in the same exception" in done.text
    assert f"{len(failed)} failed" in done.text  # and all are counted
    short = [line for line in done.text.splitlines() if line.startswith("FAILED")]
    assert len(short) == len(failed)
    assert all("raised RuntimeError: the index" in line or not ci for line in short)
    assert len(done.text.partition("short test summary")[0].splitlines()) < 80
    full = folder.pytest(
        "--pyargs", "memspec.suites.test_capacity", "--memory=mem.py:Late", "--full-trace", "-k", "recall"
    )
    assert full.text.count("raise RuntimeError(") > 1


UNTRAINED = '''
    import torch
    from torch import nn

    class Net(nn.Module):
        """Reads by projections that nobody has trained."""
        def __init__(self, key_dim, value_dim):
            super().__init__()
            self.read = nn.Linear(key_dim, value_dim)
            self.reset()
        def reset(self):
            self.rows = []
        def update(self, keys, values):
            self.rows += list(values)
        def query(self, keys):
            return self.read(keys) + 1e-3 * sum(self.rows, torch.zeros(self.read.out_features))
'''


def test_an_untrained_module_is_told_so_and_not_of_a_wrong_sign(folder: Any) -> None:
    folder.write("mem.py", UNTRAINED)
    folder.pytest(
        "--pyargs", "memspec.suites.test_adaptation", "memspec.suites.test_digits", "--memory=mem.py:Net",
        "--memspec-scorecard=card.json",
    )  # fmt: skip
    causes = [c["failure"]["cause"] for c in folder.card()["checks"] if c["status"] == "fail" and c["metric"]]
    assert causes
    assert all(cause.startswith("looks untrained") and "fidelity='trained'" in cause for cause in causes)
    folder.pytest(
        "--pyargs", "memspec.suites.test_adaptation", "--memory=memspec.reference:NullMemory",
        "--memspec-scorecard=card.json",
    )  # fmt: skip
    causes = [c["failure"]["cause"] for c in folder.card()["checks"] if c["status"] == "fail"]
    assert causes
    assert not any("untrained" in cause for cause in causes)  # it has nothing to train


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


@pytest.mark.parametrize("file", [Terminal, io.StringIO], ids=["terminal", "plain"])
def test_progress_says_what_runs_what_is_done_and_how_long_it_will_take(file: Any) -> None:
    shown = Bar(Counting(4, "", file=file(), every=0.0))
    for n, failed in enumerate((False, True, False)):
        shown.pytest_runtest_logstart(f"suites/test_capacity.py::TestCapacity::test_recall[n{n}]")
        shown.pytest_runtest_logreport(SimpleNamespace(when="call", passed=not failed, failed=failed))  # type: ignore[arg-type]
    text = shown.counting.file.getvalue()  # type: ignore[attr-defined]
    shown.pytest_sessionfinish()
    assert "recall[n1]" in text
    assert "1 failed" in text
    assert "left" in text
    assert ("3/4" in text) if file is Terminal else ("3 of 4 done" in text)


def test_nothing_is_shown_of_progress_under_q(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["score", "memspec.reference:DeltaMemory", "--checks=capacity/recall/n8"]
    assert main([*given, "-q"]) == 0
    assert "done" not in capsys.readouterr().err


def test_two_cards_stand_side_by_side_by_axis(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name, memory in (("old", "DeltaMemory"), ("new", "MatrixAssociativeMemory")):
        memspec.score(getattr(memspec.reference, memory), checks=["capacity/recall/*"]).save(f"{name}.json")
    main(["compare", "old.json", "new.json"])
    (line,) = [text for text in capsys.readouterr().out.splitlines() if text.split()[:1] == ["capacity"]]
    old, new = (float(memspec.Card.load(f"{name}.json").scores.loc["capacity", "score"]) for name in ("old", "new"))
    parts = line.split()
    assert float(parts[1]) == pytest.approx(old, abs=0.006)
    assert float(parts[2]) == pytest.approx(new, abs=0.006)
    assert float(parts[3]) == pytest.approx(new - old, abs=0.001)
    assert float(parts[4].strip("(")) <= new - old <= float(parts[6].strip(")"))
    main(["compare", "old.json", "old.json"])
    assert "+0.000 (+0.000 to +0.000)" in capsys.readouterr().out


def test_a_glob_asks_at_least_only_of_what_is_better_when_it_is_more() -> None:
    least, most = Bound(at_least=0.9), Bound(at_most=0.1)
    assert asks("capacity/error/n8", {"capacity/*": least}, "down") is None
    assert asks("capacity/recall/n8", {"capacity/*": least}, "up") is least
    assert asks("capacity/error/n8", {"capacity/error/n8": least}, "down") is least
    assert asks("capacity/error/n8", {"capacity/*": most}, "down") is most
    assert asks("other/x", {"capacity/*": most}, "down") is None
