"""What a results folder comes to: standings over common settings, curves and heat maps over seeds, what is left out."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="results are kept with memspec[sweep]")

from memspec.cli import main
from memspec.running.executors import Serial
from memspec.sweep.cell import Cell, Done, Group, Outcome
from memspec.sweep.drive import Sweep
from memspec.sweep.page import page, short_number
from memspec.sweep.plan import Told, planned
from memspec.sweep.store import Store
from memspec.sweep.summary import Results, short

BETTER, WORSE = "mypkg:Better", "mypkg:Worse"


def made(
    folder: Path,
    value: Callable[[Cell], float | None],
    code: str = "1",
    seeds: int = 3,
    trials: int = 2,
    settings: Any = None,
    groups: int = 1000,
) -> None:
    """Results of two memories over two widths and three loads; None is a failure. It stops after so many groups."""
    entry = {
        "name": "capacity.load",
        "grid": {"key_dim": [16, 32], "load": [0.5, 1, 2]},
        "set": {"n": "load*key_dim"} | (settings or {}),
        "metrics": ["recall_cosine"],
    }
    told = {"memory": [{"plug": WORSE}, {"plug": BETTER}], "experiment": [entry], "seeds": seeds, "trials": trials}
    plan = planned(msgspec.convert(told, Told))
    signatures = {
        m: dict.fromkeys(("package", "version", "memspec", "measuring", "torch", "python", "dtype", "tier"), "1")
        for m in plan.memories
    }
    for memory, signature in signatures.items():
        signature |= {"memory": memory.name, "code": code}

    left = groups

    def work(group: Group) -> Done:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        out = []
        for cell in group.cells:
            came = value(cell)
            if came is None:
                out.append(Outcome(cell, "fail", "raised", "RuntimeError: <no> room", "File here"))
            else:
                out.append(Outcome(cell, "ok", measured={"recall_cosine": (np.array([came - 0.1, came + 0.1]), None)}))
        return Done(tuple(out))

    with contextlib.suppress(KeyboardInterrupt):
        Sweep(plan, folder, signatures).run(Serial(), 1, work)


def quality(cell: Cell) -> float:
    """Falls with the load, differs by seed, and by memory."""
    at: dict[str, Any] = dict(cell.axes)
    return (0.8 if cell.memory.plug == BETTER else 0.5) - 0.1 * at["load"] + 0.01 * cell.seed


def test_the_leaderboard_is_the_mean_over_settings_with_an_interval_over_seeds(tmp_path: Path) -> None:
    made(tmp_path, quality)
    results = Results.of(tmp_path)
    board = results.board("capacity.load", "recall_cosine")
    assert [results.names[s.memory] for s in board.standings] == [BETTER, WORSE]
    best = board.standings[0]
    mean, half = 0.8 - 0.1 * 3.5 / 3 + 0.01, 4.302653 * 0.01 / math.sqrt(3)
    assert (best.mean, best.low, best.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-6)
    assert (best.ok, best.failed, board.settings, board.of) == (18, 0, 6, 6)


def test_memories_are_ranked_by_the_settings_that_all_of_them_have(tmp_path: Path) -> None:
    """The worse one fails where it would be worst, which must not help it."""

    def some(cell: Cell) -> float | None:
        return None if cell.memory.plug == WORSE and dict(cell.axes)["load"] > 0.5 else quality(cell)

    made(tmp_path, some)
    board = Results.of(tmp_path).board("capacity.load", "recall_cosine")
    assert (board.settings, board.of) == (2, 6)
    assert [s.mean for s in board.standings] == pytest.approx([0.76, 0.46])
    assert [s.failed for s in board.standings] == [0, 12]


def test_curves_have_a_panel_for_each_value_of_the_other_setting(tmp_path: Path) -> None:
    made(tmp_path, quality)
    panels = Results.of(tmp_path).panels("capacity.load", "recall_cosine")
    assert [panel.metric for panel in panels] == ["recall cosine, key_dim 16", "recall cosine, key_dim 32"]
    better = next(line for line in panels[0].lines if line.mean[0] > 0.6)
    assert better.x.tolist() == [0.5, 1, 2]
    assert better.mean.tolist() == pytest.approx([0.76, 0.71, 0.61])
    assert (better.high - better.mean).tolist() == pytest.approx([4.302653 * 0.01 / math.sqrt(3)] * 3, abs=1e-6)


def test_a_heat_map_is_over_two_settings(tmp_path: Path) -> None:
    made(tmp_path, lambda cell: quality(cell) + dict(cell.axes)["key_dim"] / 1000)
    heat = Results.of(tmp_path).heat("capacity.load", "recall_cosine")
    assert heat is not None
    assert (heat.row, heat.rows, heat.column, heat.columns) == ("key_dim", [16, 32], "load", [0.5, 1, 2])
    worse = Results.of(tmp_path).names.index(WORSE)
    assert np.ravel(heat.values[worse]).tolist() == pytest.approx([0.476, 0.426, 0.326, 0.492, 0.442, 0.342])


def test_results_of_another_signature_are_left_out_and_told_of(tmp_path: Path) -> None:
    made(tmp_path, lambda cell: 0.1, code="old")
    made(tmp_path, quality, code="new")
    results = Results.of(tmp_path)
    assert set(results.frame.signature) == set(results.signatures)
    assert {told["code"] for told in results.signatures.values()} == {"new"}
    assert results.notes == ["12 files of other signatures are left out; they differ in code"]
    assert len(Store(tmp_path).signatures()) == 4


def test_files_of_a_memory_that_no_plan_names_are_told_of_in_a_sentence(tmp_path: Path) -> None:
    made(tmp_path, quality)
    for plan in (tmp_path / "plans").iterdir():
        told = json.loads(plan.read_text())
        del told["memories"][WORSE]
        plan.write_text(json.dumps(told))
    notes = Results.of(tmp_path).notes
    assert "6 files are left out, of memories that no plan names" in notes
    assert not [note for note in notes if "differ" in note]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["NOFOLDER"], "there is no NOFOLDER: neither a card (memspec score makes one) nor a folder of memspec sweep"),
        (["one", "two"], "2 are named, but a sweep is shown alone: give one folder of results"),
        (["one", "--svg", "x.svg"], "--svg is of cards; of a sweep there is a page, with --html"),
        (["one", "--plot", "x"], "--plot is of cards; of a sweep there is a page, with --html"),
    ],
)
def test_what_a_report_of_sweeps_cannot_be_is_one_line_that_says_what_was_given(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("one", "two"):
        Path(folder).mkdir()
    assert main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_the_page_has_everything_and_escapes_what_memories_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, lambda cell: None if cell.seed == 2 and cell.memory.plug == WORSE else quality(cell))
    assert main(["report", str(tmp_path), "--html"]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for part in ('id="leaderboard"', 'id="curves"', 'id="heat"', 'id="failures"', "6 cells"):
        assert part in text
    assert "RuntimeError: &lt;no&gt; room" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    shown = capsys.readouterr().out
    assert "1 Better" in shown
    assert "failed: 6 cells: raised: Worse, capacity.load: RuntimeError: <no> room" in shown


# ---- what does not stand beside what --------------------------------------------------------------------------


def test_cells_of_other_trials_stand_apart_and_are_told_of(tmp_path: Path) -> None:
    made(tmp_path, quality, seeds=3, trials=1)
    made(tmp_path, lambda cell: quality(cell) - 0.3, seeds=2, trials=4)
    results = Results.of(tmp_path)
    assert results.sheets == ["capacity.load, trials 1", "capacity.load, trials 4"]
    one, four = (results.board(sheet, "recall_cosine").standings[0] for sheet in results.sheets)
    assert one.mean == pytest.approx(0.8 - 0.1 * 3.5 / 3 + 0.01)
    assert four.mean == pytest.approx(0.5 - 0.1 * 3.5 / 3 + 0.005)
    assert (one.ok, four.ok) == (18, 12)
    assert [n for n in results.notes if "trials 1 (36 cells), trials 4 (24 cells)" in n]


def test_settings_that_the_grid_does_not_name_stand_apart(tmp_path: Path) -> None:
    made(tmp_path, quality)
    made(tmp_path, lambda cell: quality(cell) - 0.3, settings={"presented": "rows"})
    assert Results.of(tmp_path).sheets == ["capacity.load, presented batch", "capacity.load, presented rows"]


def test_a_part_of_a_plan_is_told_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, quality, groups=3)
    results = Results.of(tmp_path)
    (note,) = results.notes
    assert note.startswith("9 of 36 planned cells are there")
    assert "n8-d16 (3 of 6)" not in note
    assert "capacity.load n16-d16 (3 of 6)" in note
    assert "capacity.load n64-d32 (all 6)" in note
    board = results.board("capacity.load", "recall_cosine")
    assert (board.settings, board.of) == (1, 6)
    assert [s.missing for s in sorted(board.standings, key=lambda s: s.memory)] == [12, 15]
    assert main(["report", str(tmp_path), "--html"]) == 0
    assert "the 1 of 6 settings that all memories have" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "9 of 36 cells" in text
    assert "27 cells are missing" in text


def test_a_setting_of_which_every_cell_failed_is_one_of_those_planned(tmp_path: Path) -> None:
    made(tmp_path, lambda cell: None if dict(cell.axes)["load"] == 2 else quality(cell))
    board = Results.of(tmp_path).board("capacity.load", "recall_cosine")
    assert (board.settings, board.of) == (4, 6)


def test_a_seed_is_not_better_for_what_it_lacks(tmp_path: Path) -> None:
    """A memory fails with one seed at the highest load, where all are worst."""

    def some(cell: Cell) -> float | None:
        hard = cell.memory.plug == BETTER and cell.seed == 1 and dict(cell.axes)["load"] == 2
        return None if hard else quality(cell)

    made(tmp_path, quality, code="whole")
    whole = Results.of(tmp_path).board("capacity.load", "recall_cosine").standings[0]
    made(tmp_path, some, code="holed")
    holed = Results.of(tmp_path).board("capacity.load", "recall_cosine").standings[0]
    assert holed.failed == 2
    assert (holed.mean, holed.low, holed.high) == pytest.approx((whole.mean, whole.low, whole.high), abs=1e-9)


def test_an_interval_is_no_wider_than_the_metric_and_one_seed_has_none(tmp_path: Path) -> None:
    made(tmp_path, lambda cell: 0.99 - 0.3 * cell.seed, seeds=2)
    best = Results.of(tmp_path).board("capacity.load", "recall_cosine").standings[0]
    assert (best.low, best.high) == (0.0, 1.0)
    made(tmp_path / "one", quality, seeds=1)
    best = Results.of(tmp_path / "one").board("capacity.load", "recall_cosine").standings[0]
    assert math.isnan(best.low)
    assert math.isnan(best.high)


def test_a_folder_that_no_sweep_made_is_named(tmp_path: Path) -> None:
    made(tmp_path, quality)
    cells = tmp_path / "cells"
    shutil.copytree(next(cells.iterdir()), cells / "zzz")
    assert Results.of(tmp_path).notes == ["cells/zzz holds 6 files that no sweep has put there; they are left out"]


def test_a_cell_that_two_plans_name_otherwise_lies_at_its_place_in_both(tmp_path: Path) -> None:
    """One sweep goes over ``n``, the other over ``key_dim``; they cross."""
    for grid, fixed in (({"n": [4, 8]}, {"key_dim": 16}), ({"key_dim": [16, 32]}, {"n": 4})):
        entry = {"name": "capacity.load", "grid": grid, "set": fixed}
        told = {"memory": [{"plug": BETTER}], "experiment": [entry], "seeds": 1, "trials": 1}
        plan = planned(msgspec.convert(told, Told))
        signatures = {m: {"memory": m.name} for m in plan.memories}
        Sweep(plan, tmp_path, signatures).run(
            Serial(),
            1,
            lambda group: Done(
                tuple(Outcome(c, "ok", measured={"recall_cosine": (np.array([0.5]), None)}) for c in group.cells)
            ),
        )
    results = Results.of(tmp_path)
    assert results.sheets == ["capacity.load"]
    frame = results.frame
    assert set(zip(frame["at.n"], frame["at.key_dim"])) == {(4, 16), (8, 16), (4, 32)}
    board = results.board("capacity.load", "recall_cosine")
    assert (board.settings, board.of) == (3, 3)


def test_a_metric_that_was_not_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, quality)
    assert main(["report", str(tmp_path), "--metric", "recal"]) == 2
    assert "recal was not measured; there are recall_cosine" in capsys.readouterr().err


def test_a_folder_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no folder of results" in capsys.readouterr().err


def test_one_seed_has_a_page_too(tmp_path: Path) -> None:
    made(tmp_path, quality, seeds=1)
    assert "leaderboard" in page(Results.of(tmp_path))


def test_short_names_stay_apart() -> None:
    assert short(["a:Same", "b:Same"]) == ["a:Same", "b:Same"]
    assert short(["a.b:One(path='x:y')", "a:Two"]) == ["One(path='x:y')", "Two"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (0.5, "0.50"), (0.0001, "1e-4"), (12.34, "12.3"), (1e6, "1e6"), (math.nan, "")],
)
def test_numbers_fit_a_cell(value: float, text: str) -> None:
    assert short_number(value) == text
