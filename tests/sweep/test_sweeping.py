"""What a sweep does with what comes back: folders, retries, faults; with real memories in real processes, or made-up outcomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import faulty_memory

pytest.importorskip("pyarrow", reason="results are kept with memspec[sweep]")
import pyarrow.parquet as pq

from memspec.errors import NoSuchPlug, RecordError
from memspec.experiments.capacity import LOAD
from memspec.plugs.loading import load_plug
from memspec.running.executors import Serial, processes
from memspec.sweep.cell import Cell, Done, Group, Memory, Outcome
from memspec.sweep.drive import SchedulerLost, Sweep, looked_at_all
from memspec.sweep.measuring import looked_at, measured, run_group
from memspec.sweep.plan import Plan, Told, planned
from memspec.sweep.signature import digest_of
from memspec.sweep.store import SCHEMA, Store

DELTA = "memspec.reference:DeltaMemory"
FAULTY = "faulty_memory:Faulty"
SIZES = {name: getattr(faulty_memory, name) for name in ("SOUND", "RAISES", "HANGS", "EXITS", "CRASHES", "FILLS")}


def plan_of(plug: str = FAULTY, sizes: Any = (4,), seeds: Any = 2, **more: Any) -> Plan:
    """So many pairs in memories of width 16."""
    entry = {"name": "capacity.load", "grid": {"n": list(sizes)}, "set": {"key_dim": 16, "value_dim": "key_dim"}}
    told = {"memory": [{"plug": plug}], "experiment": [entry], "seeds": seeds, "trials": 2, **more}
    return planned(msgspec.convert(told, Told))


def made_up(group: Group) -> Done:
    """Outcomes that nobody measured, each its own."""
    return Done(
        tuple(Outcome(c, "ok", measured={"recall_cosine": (np.full(2, c.seed / 8), None)}) for c in group.cells)
    )


def sweep_of(plan: Plan, folder: Path, code: str = "1", **more: Any) -> Sweep:
    """A sweep of memories that are not looked at."""
    return Sweep(plan, folder, {m: {"memory": m.name, "code": code} for m in plan.memories}, **more)


def rows(folder: Path) -> Any:
    store = Store(folder)
    return store.rows(list(store.signatures()))


# ---- the folder -----------------------------------------------------------------------------------------------


def test_rows_are_tidy_and_carry_their_signature(tmp_path: Path) -> None:
    tally = sweep_of(plan_of(sizes=(4, 8), seeds=3), tmp_path).run(Serial(), 1, made_up)
    found = rows(tmp_path)
    assert (tally.done, tally.failed, len(found)) == (6, 0, 12)
    assert set(found.signature) == {digest_of({"memory": FAULTY, "code": "1"})}
    one = found[(found["field.n"] == 8) & (found.seed == 2)]
    assert one.trial.tolist() == [0, 1]
    assert one["value"].tolist() == [0.25, 0.25]
    assert one["at.n"].tolist() == [8, 8]


def test_a_rerun_does_only_what_is_missing(tmp_path: Path) -> None:
    sweep_of(plan_of(seeds=3), tmp_path).run(Serial(), 1, made_up)
    asked: list[Cell] = []

    def work(group: Group) -> Done:
        asked.extend(group.cells)
        return made_up(group)

    again = sweep_of(plan_of(seeds=5), tmp_path)
    assert again.tally.before == 3
    again.run(Serial(), 1, work)
    assert [cell.seed for cell in asked] == [3, 4]
    assert sweep_of(plan_of(seeds=5), tmp_path).tally.before == 5


def test_cells_of_another_signature_are_not_taken_for_done(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path, code="1").run(Serial(), 1, made_up)
    other = sweep_of(plan_of(), tmp_path, code="2")
    assert other.tally.before == 0
    other.run(Serial(), 1, made_up)
    assert len(Store(tmp_path).signatures()) == 2
    assert len(Store(tmp_path).rows([digest_of({"memory": FAULTY, "code": "2"})])) == 4


def test_a_file_that_lies_under_another_signature_is_not_believed(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path, code="1").run(Serial(), 1, made_up)
    (folder,) = (tmp_path / "cells").iterdir()
    folder.rename(folder.with_name(digest_of({"memory": FAULTY, "code": "2"})))
    with pytest.raises(RecordError, match="another signature"):
        sweep_of(plan_of(), tmp_path, code="2")


def test_a_damaged_file_is_told_of_and_its_cells_run_again(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path).run(Serial(), 1, made_up)
    (path,) = tmp_path.glob("cells/*/*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    again = sweep_of(plan_of(), tmp_path)
    assert again.tally.before == 0
    assert again.aside == [path.with_name(f".{path.stem}.damaged")]
    again.run(Serial(), 1, made_up)
    assert len(rows(tmp_path)) == 4
    assert sweep_of(plan_of(), tmp_path).aside == []  # told once


def test_a_file_with_one_wrong_byte_is_damaged_though_its_footer_is_whole(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path).run(Serial(), 1, made_up)
    (path,) = tmp_path.glob("cells/*/*.parquet")
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    pq.read_metadata(path)
    again = sweep_of(plan_of(), tmp_path)
    assert (again.tally.before, len(again.aside)) == (0, 1)
    again.run(Serial(), 1, made_up)
    assert len(pq.read_table(tmp_path / "cells")) == 4  # whoever reads the folder does not meet it


def test_a_folder_of_a_files_name_is_nobodys(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path).run(Serial(), 1, made_up)
    (path,) = tmp_path.glob("cells/*/*.parquet")
    (path.parent / "x.parquet").mkdir()
    again = sweep_of(plan_of(), tmp_path)
    assert (again.tally.before, again.aside) == (2, [])


def test_all_files_are_one_table(tmp_path: Path) -> None:
    """Of other arguments, other names on the grid, whole and broken numbers on it, another experiment."""
    for arguments, experiment in (
        ({"lr": 0.5}, {"name": "capacity.load", "grid": {"load": [1]}, "set": {"n": "4*load"}}),
        ({"lr": [1]}, {"name": "capacity.load", "grid": {"load": [0.25]}, "set": {"n": "32*load"}}),
        ({"tag": {"a": 1}}, {"name": "capacity.overfill", "grid": {"factor": [2]}}),
    ):
        told = {"memory": [{"plug": FAULTY, "arguments": arguments}], "experiment": [experiment], "seeds": 1}
        sweep_of(planned(msgspec.convert(told, Told)), tmp_path).run(Serial(), 1, made_up)
    table = pq.read_table(tmp_path / "cells")
    assert len(table) == 6
    assert table.schema.equals(SCHEMA)
    assert {len(pq.read_schema(path)) for path in tmp_path.glob("cells/*/*.parquet")} == {len(SCHEMA)}
    assert [json.loads(text) for text in sorted(set(table["grid"].to_pylist()))] == [
        {"factor": 2},
        {"load": 0.25},
        {"load": 1},
    ]


def test_cells_that_failed_before_are_counted_and_named(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path).run(Serial(), 1, failing({1: 9}))
    tally = sweep_of(plan_of(), tmp_path).run(Serial(), 1, made_up)
    assert (tally.done, tally.failed, tally.failed_before) == (0, 0, 1)
    assert tally.earlier == [f"{FAULTY}/capacity.load/n=4,key_dim=16,value_dim=16/t2/s1: death"]
    tally = sweep_of(plan_of(), tmp_path, again=True).run(Serial(), 1, made_up)
    assert (tally.done, tally.failed, tally.failed_before) == (1, 0, 0)


def test_two_sweeps_on_one_folder_leave_each_cell_once(tmp_path: Path) -> None:
    """At once, on the same cells: both write all they measured."""
    sweeps = [sweep_of(plan_of(seeds=40), tmp_path, group=3) for _ in range(2)]
    threads = [threading.Thread(target=sweep.run, args=(Serial(), 1, made_up)) for sweep in sweeps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(tmp_path)
    assert len(found) == 80
    assert sorted(found[found.trial == 0].seed) == list(range(40))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot hold results"):
        sweep_of(plan_of(), tmp_path / "file")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_leaves_what_was_written_and_no_half_of_a_file(tmp_path: Path) -> None:
    """The operating system refuses the second file, as it does on a full disk; then there is room again."""
    resource = pytest.importorskip("resource")
    sweep = sweep_of(plan_of(seeds=4), tmp_path, group=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = 0

    def told(tally: Any, outcomes: Any) -> None:
        nonlocal written
        written += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    sweep.told = told
    try:
        with pytest.raises(RecordError, match=r"could not be written: .*File too large"):
            sweep.run(Serial(), 1, made_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert written == 1
    assert len(list(tmp_path.glob("cells/*/*"))) == 1
    assert pq.read_metadata(next(tmp_path.glob("cells/*/*.parquet"))).num_rows == 4
    assert sweep_of(plan_of(seeds=4), tmp_path).tally.before == 2


# ---- failures and retries -------------------------------------------------------------------------------------


def failing(times: Mapping[int, int], why: str = "death") -> Callable[[Group], Done]:
    """Work in which the cell of a seed fails so many times."""
    left = dict(times)

    def work(group: Group) -> Done:
        outcomes = []
        for cell in group.cells:
            fails = left.get(cell.seed, 0) > 0
            left[cell.seed] = left.get(cell.seed, 0) - 1
            ok = made_up(group.of([cell])).outcomes[0]
            outcomes.append(Outcome(cell, "fail", why, "it died") if fails else ok)
        return Done(tuple(outcomes))

    return work


def test_a_failure_is_recorded_with_its_cause_and_does_not_stop_the_others(tmp_path: Path) -> None:
    tally = sweep_of(plan_of(seeds=4), tmp_path).run(Serial(), 1, failing({1: 9}))
    assert (tally.done, tally.failed, dict(tally.causes)) == (4, 1, {"death": 1})
    found = rows(tmp_path).set_index("seed")
    assert found.loc[1, ["status", "why", "cause"]].tolist() == ["fail", "death", "it died"]
    assert found.loc[1, ["metric", "value"]].isna().all()
    assert found.loc[3, "value"].tolist() == [0.375, 0.375]


def test_a_failure_is_tried_again_as_often_as_told(tmp_path: Path) -> None:
    tally = sweep_of(plan_of(seeds=3), tmp_path, retries=2).run(Serial(), 1, failing({0: 2, 1: 3}))
    assert (tally.done, tally.failed) == (3, 1)
    found = rows(tmp_path).drop_duplicates("seed").set_index("seed")
    assert found.attempts.to_dict() == {0: 3, 1: 3, 2: 1}


def test_an_earlier_failure_is_run_again_where_that_is_asked_for(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path).run(Serial(), 1, failing({1: 1}))
    assert sweep_of(plan_of(), tmp_path).tally.before == 2
    again = sweep_of(plan_of(), tmp_path, again=True)
    assert again.tally.before == 1
    again.run(Serial(), 1, made_up)
    assert set(rows(tmp_path).status) == {"ok"}


def test_a_lost_worker_says_nothing_of_a_cell(tmp_path: Path) -> None:
    sweep_of(plan_of(), tmp_path).run(Serial(), 1, failing({1: 1}, why="worker"))
    assert sweep_of(plan_of(), tmp_path).tally.before == 1


def test_a_worker_that_is_lost_with_a_group_costs_one_cell(tmp_path: Path) -> None:
    class KilledWorker(Exception):
        """As Dask's is called."""

    def work(group: Group) -> Done:
        if any(cell.seed == 2 for cell in group.cells):
            raise KilledWorker("it was ended three times")
        return made_up(group)

    tally = sweep_of(plan_of(seeds=5), tmp_path).run(Serial(), 1, work)
    assert (tally.done, tally.failed, dict(tally.causes)) == (5, 1, {"worker": 1})


def test_what_was_under_way_when_the_scheduler_was_lost_is_run_by_the_next(tmp_path: Path) -> None:
    sweep = sweep_of(plan_of(seeds=10), tmp_path, group=2)
    calls = 0

    def lost(group: Group) -> Done:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise CancelledError("lost")
        return made_up(group)

    with processes(3) as executor, pytest.raises(SchedulerLost):
        sweep.run(executor, 3, lost)
    sweep.run(Serial(), 1, made_up)
    assert sorted(rows(tmp_path).query("trial == 0").seed) == list(range(10))


def test_what_a_worker_hands_back_is_handed_over_again(tmp_path: Path) -> None:
    def work(group: Group) -> Done:
        return Done(made_up(group.of(group.cells[:1])).outcomes, group.cells[1:])

    assert sweep_of(plan_of(seeds=6), tmp_path).run(Serial(), 1, work).done == 6


# ---- real memories in real processes --------------------------------------------------------------------------


def test_numbers_are_those_of_one_process_bit_for_bit() -> None:
    plan = plan_of(DELTA, sizes=(4, 32), seeds=2)
    ((memory, signature),) = looked_at_all(plan)[0].items()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for cells in plan.groups(9):
            for outcome in run_group(Group(tuple(cells), signature, plan.bounds)).outcomes:
                cell = outcome.cell
                here = LOAD.run(load_plug(memory.name), cell.setting, range(cell.trials), cell.seed)
                for metric, (values, _) in outcome.measured.items():
                    assert here[here.metric == metric]["value"].tolist() == values.tolist()
    finally:
        torch.set_num_threads(threads)


def test_each_kind_of_end_is_recorded_with_its_cause_and_costs_one_cell(tmp_path: Path) -> None:
    plan = plan_of(sizes=SIZES.values(), seeds=1, seconds=1.0, memory_gib=1.0)
    with processes(2) as executor:
        tally = Sweep(plan, tmp_path, *looked_at_all(plan)).run(executor, 2)
    found = rows(tmp_path).drop_duplicates("key").set_index("field.n")
    assert (tally.done, tally.failed) == (6, 5)
    whys = {name: found.loc[dim, "why"] for name, dim in SIZES.items()}
    assert whys == {
        "SOUND": "",
        "RAISES": "raised",
        "HANGS": "time",
        "EXITS": "death",
        "CRASHES": "death",
        "FILLS": "memory",
    }
    says = {
        "RAISES": "no room left",
        "HANGS": "1 seconds",
        "EXITS": "exit code 7",
        "CRASHES": "SIGSEGV",
        "FILLS": "memory",
    }
    for name, words in says.items():
        assert words in found.loc[SIZES[name], "cause"]
    assert "faulty_memory.py" in found.loc[SIZES["HANGS"], "stack"]


def outcome_of(plan: Plan) -> Outcome:
    """What came of the only cell of a plan, measured here in processes."""
    ((_, signature),) = looked_at_all(plan)[0].items()
    (cells,) = plan.groups(9)
    (outcome,) = run_group(Group(tuple(cells), signature, plan.bounds)).outcomes
    return outcome


def test_a_cell_of_a_width_that_the_memory_cannot_have_is_skipped_with_the_reason() -> None:
    entry = {"name": "capacity.load", "set": {"n": 4, "key_dim": 12}}
    told = {"memory": [{"plug": "memspec.fixtures.widths:EightHeadsDelta"}], "experiment": [entry], "seeds": 1}
    outcome = outcome_of(planned(msgspec.convert(told, Told)))
    assert (outcome.status, outcome.why, outcome.measured) == ("skip", "cannot measure", {})
    assert "cannot have 12 -> 64" in outcome.cause


def test_an_interrupt_that_a_memory_raises_is_its_own() -> None:
    outcome = outcome_of(plan_of(sizes=[faulty_memory.INTERRUPTS], seeds=1))
    assert (outcome.status, outcome.why) == ("fail", "raised")
    assert "KeyboardInterrupt" in outcome.cause


def test_a_death_took_the_time_it_took() -> None:
    outcome = outcome_of(plan_of(sizes=[faulty_memory.EXITS], seeds=1, seconds=50.0))
    assert outcome.why == "death"
    assert 0 < outcome.seconds < 25


@pytest.mark.parametrize(
    ("plug", "says"),
    [
        ("memspec.reference:DeltaMemry", "no attribute 'DeltaMemry'"),
        ("nosuchmodule:Memory", "no module 'nosuchmodule'"),
        ("nosuchfile.py:Memory", "no file nosuchfile.py"),
        ("memspec.reference:DeltaMemory(lrr=1)", "It has no argument 'lrr'"),
        ("memspec.reference:__doc__", "not something that builds memories"),
    ],
)
def test_a_memory_that_is_not_there_is_refused_before_anything_runs_in_one_line(plug: str, says: str) -> None:
    with pytest.raises(NoSuchPlug, match=says) as refused:
        looked_at_all(plan_of(plug))
    assert "\n" not in str(refused.value)


BROKEN = """
import os, pathlib
from memspec.reference import DeltaMemory as Sound
tried = pathlib.Path(__file__).with_name("tried")

def raises(key_dim, value_dim):
    raise RuntimeError("no licence")

def dies(key_dim, value_dim):
    os._exit(3)

def at_first(key_dim, value_dim):
    if not tried.exists():
        tried.touch()
        os._exit(3)
    return Sound(key_dim, value_dim)
"""


def test_a_memory_that_cannot_be_loaded_costs_its_own_cells_alone(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    named = [{"plug": f"{tmp_path}/broken.py:{name}"} for name in ("raises", "Sound", "dies", "at_first")]
    told = {"memory": named, "experiment": [{"name": "capacity.load", "set": {"n": 4}}], "seeds": 2, "trials": 1}
    plan = planned(msgspec.convert(told, Told))
    signatures, unloaded = looked_at_all(plan, retries=1)
    assert [memory.name.rpartition(":")[2] for memory in unloaded] == ["raises", "dies"]
    sweep = Sweep(plan, tmp_path / "out", signatures, unloaded)
    sweep.begin()
    assert (sweep.tally.done, sweep.tally.failed) == (4, 4)
    tally = sweep.run(Serial(), 1)
    assert (tally.done, dict(tally.causes)) == (8, {"refused": 2, "death": 2})
    frame = rows(tmp_path / "out")
    ended = {
        name.rpartition(":")[2]: (set(mine.status), set(mine.why), mine.cause.iloc[0])
        for name, mine in frame.groupby("memory")
    }
    assert ended["Sound"][0] == ended["at_first"][0] == {"ok"}
    assert ended["raises"][:2] == ({"fail"}, {"refused"})
    assert "no licence" in ended["raises"][2]
    assert ended["dies"] == ({"fail"}, {"death"}, ended["dies"][2])
    assert "ended with code 3" in ended["dies"][2]
    again = Sweep(plan, tmp_path / "out", *looked_at_all(plan)).tally
    assert again.failed_before == 2  # the death; what was refused is looked at by every sweep


def test_what_stores_pairs_is_not_asked_of_a_sequence_model_nor_training_of_a_plain_memory(tmp_path: Path) -> None:
    layer = "memspec.reference.layers:MemoryLayer"
    for experiment in ("capacity.load", "capacity.overfill", "cost.growth", "dimensions.token", "adaptation.single"):
        told = {"memory": [{"plug": layer}], "experiment": [{"name": experiment}], "seeds": 1, "trials": 1}
        (cells,) = planned(msgspec.convert(told, Told)).groups(9)
        outcome = measured(load_plug(layer), cells[0])
        assert (outcome.status, outcome.why) == ("skip", "not asked")
        assert outcome.cause == f"{layer}: a sequence model has no update and no query"
    told = {"memory": [{"plug": FAULTY}], "experiment": [{"name": "tasks.learned"}], "seeds": 1, "trials": 1}
    (cells,) = planned(msgspec.convert(told, Told)).groups(9)
    assert measured(load_plug(FAULTY), cells[0]).status == "skip"


def test_a_worker_with_other_code_measures_nothing() -> None:
    plan = plan_of(DELTA, seeds=1)
    (cells,) = plan.groups(9)
    (outcome,) = run_group(Group(tuple(cells), {"torch": "1.0"}, plan.bounds)).outcomes
    assert (outcome.status, outcome.why) == ("fail", "signature")
    assert "torch" in outcome.cause


def test_the_signature_follows_the_source_of_a_memory_and_of_its_neighbours(tmp_path: Path) -> None:
    neighbour = tmp_path / "beside.py"
    neighbour.write_text("RATE = 1\n")
    file = tmp_path / "mine.py"
    file.write_text("import beside\nfrom memspec.reference import DeltaMemory as Mine\n")
    memory = Memory(f"{file}:Mine")
    one = looked_at(memory, "default")
    assert looked_at(memory, "default") == one
    neighbour.write_text("RATE = 2\n")
    assert looked_at(memory, "default")["code"] != one["code"]


def test_a_group_whose_time_is_up_hands_back_what_is_left() -> None:
    plan = plan_of(f"{FAULTY}(slow=0.05)", seeds=5)
    ((_, signature),) = looked_at_all(plan)[0].items()
    (cells,) = plan.groups(9)
    done = run_group(Group(tuple(cells), signature, plan.bounds, share=0.01))
    assert len(done.outcomes) == 1
    assert done.left == tuple(cells[1:])


# ---- without the extra ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["pyarrow", "distributed"])
def test_without_the_extra_the_line_that_installs_it_is_told(package: str, tmp_path: Path) -> None:
    program = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name == {package!r} else find(name, *a)\n"
        "from memspec.cli import main\n"
        f"sys.exit(main(['sweep', '--memory', {DELTA!r}, '--experiment', 'capacity.load', '--into', 'x']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), check=False
    )
    assert done.returncode == 2
    assert f"needs {package}" in done.stderr
    assert "pip install -e '.[sweep]'" in done.stderr
