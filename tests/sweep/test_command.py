"""``memspec sweep`` as a command: what it is told, what it prints, how it exits."""

from __future__ import annotations

import argparse
import os
import re
import signal
from pathlib import Path

import pytest

import faulty_memory

pytest.importorskip("pyarrow", reason="results are kept with memspec[sweep]")

from memspec.cli import main, parser
from memspec.running.counting import Counting, spell
from memspec.running.signals import AskedToEnd
from memspec.sweep import command
from memspec.sweep.command import told_by
from memspec.sweep.plan import SweepError, planned

FAULTY = "faulty_memory:Faulty"
HERE = ["--executor", "processes", "--workers", "1"]


def options(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(["sweep", *arguments])


def test_options_mean_the_same_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'seeds = 3\ntrials = 2\n[[memory]]\nplug = "mypkg:M"\narguments = { lr = 0.5 }\n[[experiment]]\nname = "capacity.load"\n'
        'grid = { key_dim = [16, 32], load = [0.25, 1] }\nset = { n = "load*key_dim", presented = "rows" }\n'
    )
    grid = ["--grid", "key_dim=16,32", "--grid", "load=.25,1", "--set", "n=load*key_dim", "--set", "presented=rows"]
    given = ["--memory", "mypkg:M(lr=0.5)", "--experiment", "capacity.load", *grid, "--seeds", "3", "--trials", "2"]
    assert planned(told_by(options(*given))) == planned(told_by(options(str(path))))


def test_options_beside_a_file_stand_above_it(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('seeds = 3\n[[memory]]\nplug = "mypkg:M"\n[[experiment]]\nname = "capacity.load"\n')
    assert planned(told_by(options(str(path), "--seeds", "7"))).seeds == tuple(range(7))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a sweep file"),
        (["--memory", "a:b"], "name a sweep file"),
        (["x.toml", "--memory", "a:b"], "stand in the file"),
        (["--memory", "a:b", "--experiment", "capacity.load", "--grid", "n"], "write name=value"),
        (["nosuch.toml"], "nosuch.toml"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], says: str) -> None:
    with pytest.raises(SweepError, match=says):
        told_by(options(*arguments))


@pytest.mark.parametrize("option", [["--workers", "0"], ["--retries", "-1"], []])
def test_wrong_usage_is_one_line_and_exit_2(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = ["sweep", "--memory", FAULTY, "--experiment", "capacity.load", "--executor", "processes"]
    assert main([*given, *option]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_sweep_says_what_is_done_and_what_failed_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = str(tmp_path / "out")
    sizes = f"n=4,{faulty_memory.RAISES}"
    given = ["sweep", "--memory", FAULTY, "--experiment", "capacity.load", "--grid", sizes, "--trials", "1", *HERE]
    assert main([*given, "--seeds", "2", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"{FAULTY}/capacity.load/n=4/t1/s0" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("4 cells: ")]
    assert "1 memories, 2 settings, 2 seeds, 1 trials each; about" in line
    assert re.search(r", at least .*; .* or more where other work takes the cores$", line)
    assert not (tmp_path / "out").exists()
    assert main([*given, "--seeds", "2", "--into", into]) == 1
    shown = capsys.readouterr().out
    assert "4 cells in " in shown
    assert "2 failed (2 raised)" in shown
    assert main([*given, "--seeds", "3", "--into", into]) == 1
    assert "6 cells, 4 of them in" in capsys.readouterr().out
    assert main([*given, "--seeds", "3", "--into", into]) == 1
    shown = capsys.readouterr().out
    assert "3 cells failed in an earlier sweep; --failed runs them again" in shown
    assert f"{FAULTY}/capacity.load/n={faulty_memory.RAISES}/t1/s2: raised" in shown
    assert main(["report", into]) == 0
    assert "3 failed" in capsys.readouterr().out


def test_every_cell_is_told_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = f"n=4,{faulty_memory.RAISES}"
    given = ["sweep", "--memory", FAULTY, "--experiment", "capacity.load", "--grid", sizes, "--trials", "1", *HERE]
    assert main([*given, "--seeds", "1", "--into", str(tmp_path / "out"), "-v"]) == 1
    told = capsys.readouterr().err
    assert f"{FAULTY}/capacity.load/n=4/t1/s0: ok, " in told
    assert f"{FAULTY}/capacity.load/n={faulty_memory.RAISES}/t1/s0: fail (raised): RuntimeError: no room left" in told


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:9", "tcp:/foo", "tcp://127.0.0.1", "tcp://h:x"])
def test_what_is_no_address_of_a_scheduler_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--memory", FAULTY, "--experiment", "capacity.load", "--scheduler", address]) == 2
    assert "write tcp://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "says"), [(KeyboardInterrupt(), "interrupted"), (AskedToEnd("SIGTERM"), "ended by SIGTERM")]
)
def test_what_ends_a_sweep_before_it_began_is_one_line(
    error: BaseException, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "planned", planned)
    assert main(["sweep", "--memory", FAULTY, "--experiment", "capacity.load", *HERE]) == 2
    assert capsys.readouterr().err == f"memspec sweep: {says}, nothing was written\n"


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_a_sweep_keeps_what_was_measured(
    kind: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Counting, "show", lambda *_: os.kill(os.getpid(), kind))  # when the first group has come back
    given = ["sweep", "--memory", FAULTY, "--experiment", "capacity.load", "--grid", "n=4,5", "--trials", "1", *HERE]
    assert main([*given, "--seeds", "1", "--into", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert "1 cells in" in out
    assert err == f"memspec sweep: ended by {kind.name}; the same command goes on\n"
    assert len(list(tmp_path.glob("out/cells/*/*.parquet"))) == 1
    assert signal.getsignal(kind) == signal.SIG_DFL


def test_times_are_spelled() -> None:
    assert [spell(s) for s in (0.5, 40, 600, 10_000)] == ["0.5 s", "40 s", "10 min", "2.8 h"]


def test_what_is_left_is_told_at_the_rate_so_far() -> None:
    counting = Counting(total=10, what="cells", before=4)
    counting.begun -= 6.0
    assert counting.left(7) == pytest.approx(6.0, abs=0.5)
