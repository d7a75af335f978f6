"""Cells and plans: ids, grids, formulas, and what is refused; nothing is run."""

from __future__ import annotations

import datetime
import math
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from memspec.experiments.capacity import Load
from memspec.plugs.loading import parsed_name
from memspec.sweep.cell import Cell, Memory
from memspec.sweep.measuring import looked_at
from memspec.sweep.plan import Plan, SweepError, Told, computed, planned, read

DELTA = "memspec.reference:DeltaMemory"


def plan_of(memory: Any = None, experiment: Any = None, **more: Any) -> Plan:
    """The plan of one memory and one experiment, entries as in a file."""
    entry = {"name": "capacity.load"} | (experiment or {})
    return planned(msgspec.convert({"memory": [{"plug": DELTA} | (memory or {})], "experiment": [entry]} | more, Told))


def test_an_id_says_what_differs_from_the_defaults() -> None:
    cell = Cell(Memory(DELTA, (("lr", 0.5),)), "capacity.load", Load(n=4, key_dim=16), trials=2, seed=3)
    assert cell.id == "memspec.reference:DeltaMemory(lr=0.5)/capacity.load/n=4,key_dim=16/t2/s3"


def test_an_id_does_not_depend_on_how_the_cell_was_planned() -> None:
    by_formula = plan_of(
        experiment={"grid": {"key_dim": [16], "load": [0.25]}, "set": {"n": "load * key_dim"}}, seeds=1
    )
    by_hand = plan_of(experiment={"grid": {"n": [4]}, "set": {"key_dim": 16}}, seeds=[0])
    assert [c.id for g in by_formula.groups(9) for c in g] == [c.id for g in by_hand.groups(9) for c in g]


@pytest.mark.parametrize(
    "other",
    [
        {"memory": Memory(DELTA, (("lr", 1.0),))},
        {"experiment": "capacity.overfill"},
        {"setting": Load(n=5)},
        {"trials": 3},
        {"seed": 1},
        {"tier": "full"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_cells_that_differ_have_other_ids_and_keys(other: dict[str, Any]) -> None:
    told = {"memory": Memory(DELTA), "experiment": "capacity.load", "setting": Load(n=4), "trials": 2, "seed": 0}
    one, two = Cell(**told), Cell(**(told | other))  # type: ignore[arg-type]
    assert one.id != two.id
    assert one.key != two.key


def test_a_cell_survives_pickling() -> None:
    cell = Cell(Memory(DELTA), "capacity.load", Load(n=4), 2, 0, axes=(("load", 0.25),))
    assert pickle.loads(pickle.dumps(cell)) == cell


def test_lists_of_arguments_are_swept() -> None:
    plan = plan_of({"arguments": {"lr": [0.5, 1.0], "normalize": True}})
    assert [m.name for m in plan.memories] == [f"{DELTA}(lr={lr}, normalize=True)" for lr in (0.5, 1.0)]


def test_arguments_behind_the_name_are_the_same_as_those_of_the_table() -> None:
    assert plan_of({"plug": f"{DELTA}(lr=0.5)"}).memories == plan_of({"arguments": {"lr": 0.5}}).memories


def test_the_grid_is_a_product_and_keeps_the_names_that_settings_are_computed_from() -> None:
    plan = plan_of(
        experiment={
            "grid": {"key_dim": [16, 32], "load": [0.25, 2]},
            "set": {"n": "load*key_dim", "capacity": "key_dim"},
        }
    )
    assert [(p.setting.n, p.setting.capacity, dict(p.axes)["load"]) for p in plan.points] == [  # type: ignore[attr-defined]
        (4, 16, 0.25),
        (32, 16, 2),
        (8, 32, 0.25),
        (64, 32, 2),
    ]


def test_a_formula_reads_what_the_others_come_to_in_whatever_order_they_stand() -> None:
    entry = {"set": {"n": "2 * key_dim", "key_dim": "value_dim // 2", "value_dim": 16}, "grid": {"capacity": [8]}}
    (point,) = plan_of(experiment=entry).points
    assert point.setting == Load(n=16, key_dim=8, value_dim=16, capacity=8)


def test_a_setting_that_comes_twice_is_spelled_as_it_is_written() -> None:
    entry = {"grid": {"x": [1.01, 1.02]}, "set": {"n": "4*x"}}
    with pytest.raises(SweepError, match=r"x=1.02 and x=1.01 come to .*, n=4, key_dim=64"):
        plan_of(experiment=entry)


def test_groups_hold_every_cell_once_and_differ_in_the_seed_alone() -> None:
    plan = plan_of({"arguments": {"lr": [0.5, 1.0]}}, {"grid": {"n": [4, 8]}}, seeds=7)
    groups = list(plan.groups(3))
    cells = [cell for group in groups for cell in group]
    assert len({cell.id for cell in cells}) == len(cells) == len(plan) == 28
    assert max(map(len, groups)) == 3
    assert all(len({(c.memory, c.setting) for c in group}) == 1 for group in groups)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"experiment": {"name": "capacity.laod"}}, "no experiment 'capacity.laod'"),
        ({"experiment": {"grid": {"lod": [1]}}}, "no setting 'lod'"),
        ({"experiment": {"set": {"n": "load*3"}}}, "there is no load"),
        ({"experiment": {"grid": {"n": []}}}, "grid.n is empty"),
        ({"experiment": {"grid": {"n": [4]}, "set": {"n": 8}}}, "on the grid and is set"),
        ({"experiment": {"grid": {"n": ["four"]}}}, "n"),
        ({"experiment": {"set": {"presented": "weird"}}}, "presented is 'weird'; it must be one of batch, rows"),
        ({"experiment": {"grid": {"presented": ["rows", "key_dim"]}}}, "presented is 'key_dim'; it must be one of"),
        ({"experiment": {"set": {"n": "key_dim", "key_dim": "n"}}}, "set computes"),
        ({"experiment": {"set": {"n": "2*n"}}}, "set computes n from n, so"),
        ({"experiment": {"set": {"n": "presented - 1"}}}, "set.n = 'presented - 1'"),
        ({"experiment": {"set": {"n": "min()"}}}, "set.n = "),
        ({"experiment": {"grid": {"key_dim": [16], "x": [0.1, 0.11]}, "set": {"n": "x*key_dim"}}}, "the same setting"),
        ({"experiment": {"metrics": ["recal"]}}, "does not measure 'recal'"),
        ({"memory": {"plug": "DeltaMemory"}}, "write module:attribute"),
        ({"memory": {"plug": f"{DELTA}(lr=1)", "arguments": {"lr": 2}}}, "behind the name and under arguments"),
        ({"memory": {"arguments": {"lr": [1, 1]}}}, "named twice"),
        ({"memory": {"arguments": {"lr": []}}}, "arguments.lr is an empty list"),
        ({"memory": {"arguments": {"lr": math.nan}}}, "arguments.lr = nan: arguments are finite numbers"),
        ({"memory": {"arguments": {"lr": [1, [math.inf]]}}}, r"arguments.lr = \[inf\]: arguments are"),
        ({"memory": {"arguments": {"day": datetime.date(2020, 1, 1)}}}, "arguments.day = 2020-01-01: arguments are"),
        ({"experiment": {"set": {"n": "+".join(["1"] * 20_000)}}}, "a formula of 39,999 characters"),
        ({"experiment": {"set": {"n": "-" * 999 + "1"}}}, "nested too deeply"),
        ({"experiment": {"set": {"n": "1e300*1e300"}}}, "infinity"),
        ({"experiment": {"grid": {"n": [4, -4]}}}, "n is -4; it must be at least 1"),
        (
            {"experiment": {"grid": {"n": list(range(1, 1001)), "key_dim": list(range(1, 1001))}}, "seeds": 1000},
            "1,000,000,000 cells",
        ),
        ({"seeds": 0}, "seeds is 0; it must be a number from 1"),
        ({"seeds": -1}, "seeds is -1; it must be a number from 1"),
        ({"seeds": []}, "there is no seed"),
        ({"seeds": [99999999999999999999]}, "a seed is 99999999999999999999"),
        ({"trials": 99999999999999999999}, "trials is 1e"),
        ({"seconds": math.inf}, "seconds is inf"),
        ({"memory_gib": math.inf}, "memory_gib is inf"),
        ({"seeds": [1, 1]}, "named twice"),
        ({"seeds": [-1]}, "a seed is -1"),
        ({"trials": 0}, "trials is 0"),
        ({"seconds": 0.0}, "seconds is 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(
        SweepError if "plug" not in entry.get("memory", {}) else Exception, match=says.replace("(", r"\(")
    ):
        plan_of(**entry)


@pytest.mark.parametrize("value", [{"a": 1}, [[1, 2], [3]], [{"a": [1]}, "text"]])
def test_tables_and_lists_are_arguments(value: Any) -> None:
    plan = plan_of({"arguments": {"tag": value}})
    assert len({cell.key for group in plan.groups(1) for cell in group}) == len(plan)
    for memory in plan.memories:
        assert dict(parsed_name(memory.name)[1])["tag"] in (value if isinstance(value, list) else [value])


def test_a_setting_that_two_experiments_lead_to_is_there_once() -> None:
    one = {"name": "capacity.load", "grid": {"n": [4, 8]}, "set": {"key_dim": 16}}
    two = {"name": "capacity.load", "grid": {"key_dim": [16, 32]}, "set": {"n": 4}}
    told = {"memory": [{"plug": DELTA}], "experiment": [one, two], "seeds": 1}
    assert len(planned(msgspec.convert(told, Told))) == 3
    with pytest.raises(SweepError, match="named twice: capacity"):
        planned(msgspec.convert(told | {"experiment": [one, one]}, Told))


def test_a_plug_that_is_a_file_stands_beside_the_sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside.py").write_text("from memspec.reference import DeltaMemory as Mine\n")
    told = msgspec.convert({"memory": [{"plug": "beside.py:Mine"}], "experiment": [{"name": "capacity.load"}]}, Told)
    (memory,) = planned(told, tmp_path).memories
    assert (memory.name, memory.folder) == ("beside.py:Mine", str(tmp_path))
    assert looked_at(memory, "default")["memory"] == "beside.py:Mine"
    assert planned(told).memories == (memory,)
    monkeypatch.chdir(tmp_path)
    assert looked_at(planned(told).memories[0], "default") == looked_at(memory, "default")


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('seeds = 3\n[[memory]]\nplug = "a:b"\n[[experiment]]\nname = "capacity.load"\n', "utf-8-sig")
    assert read(path).seeds == 3


def test_an_unknown_entry_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('sedes = 3\n[[memory]]\nplug = "a:b"\n[[experiment]]\nname = "capacity.load"\n')
    with pytest.raises(SweepError, match="sedes"):
        read(path)


@pytest.mark.parametrize(
    ("text", "value"), [("2*x", 6), ("x/2", 1.5), ("max(x, 4)", 4), ("-x**2", -9), ("round(x*1.4)", 4), ("7//2", 3)]
)
def test_formulas(text: str, value: float) -> None:
    assert computed(text, {"x": 3}) == value


@pytest.mark.parametrize("text", ["__import__('os')", "x.real", "y", "x if x else 1", "9**9**9", "'a'", "x(", "[1]"])
def test_anything_else_is_no_formula(text: str) -> None:
    with pytest.raises(ValueError):
        computed(text, {"x": 3})
