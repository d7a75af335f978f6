"""Which cells may stand beside which: what was planned and is missing, and what differs in more than memory, grid and seed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memspec.experiments import catalog
from memspec.sweep.cell import Cell, Memory
from memspec.sweep.store import AXIS, FIELD, hashable

if TYPE_CHECKING:
    from pandas import DataFrame

NAMED = 8
"""Settings that cells are missing of, by name at the most."""


def with_missing(frame: DataFrame, plans: Sequence[Mapping[str, Any]], newest: Mapping[str, str]) -> DataFrame:
    """With a row for every cell that was planned, of the newest signature of its memory, and is not there."""
    import msgspec
    import pandas as pd

    known, there = catalog.experiments(), set(frame.key)
    missing: dict[str, dict[str, Any]] = {}
    for plan in plans:
        names = [name for name, digest in plan["memories"].items() if newest[name] == digest]
        for point in plan.get("points", ()) if names else ():
            setting = msgspec.convert(point["fields"], known[point["experiment"]].setting)
            columns = {AXIS + n: hashable(v) for n, v in point["grid"].items()}
            columns |= {FIELD + n: hashable(v) for n, v in point["fields"].items()}
            for name, seed in itertools.product(names, plan["seeds"]):
                cell = Cell(Memory(name), point["experiment"], setting, plan["trials"], seed, plan["tier"])
                if cell.key not in there:
                    missing[cell.key] = {
                        "key": cell.key,
                        "cell": cell.id,
                        "memory": name,
                        "experiment": cell.experiment,
                        "setting": setting.label,
                        "seed": seed,
                        "trials": cell.trials,
                        "tier": cell.tier,
                        "status": "missing",
                        **columns,
                    }
    return pd.concat([frame, pd.DataFrame(list(missing.values()))], ignore_index=True) if missing else frame


def missing_cells(frame: DataFrame) -> list[str]:
    """How many of the cells that were planned are not there, and of which settings, in words; empty if all are."""
    cells = frame.drop_duplicates("key")
    missing = cells[cells.status == "missing"]
    if missing.empty:
        return []
    of_all = cells.groupby(["experiment", "setting"]).size()
    counts = missing.groupby(["experiment", "setting"]).size().sort_values(ascending=False, kind="stable")
    some = [
        f"{' '.join(map(str, setting))} ({'all' if n == of_all[setting] else f'{n} of'} {of_all[setting]})"
        for setting, n in list(zip(counts.index.tolist(), counts.tolist()))[:NAMED]
    ]
    more = f" and {len(counts) - NAMED} more settings" if len(counts) > NAMED else ""
    there = len(cells) - len(missing)
    return [
        f"{there} of {len(cells)} planned cells are there; the same sweep goes on. Missing: {', '.join(some)}{more}"
    ]


def in_sheets(frame: DataFrame) -> DataFrame:
    """With the column ``sheet``: the experiment, and what tells cells apart that lie at one place of the grid.

    Names on the grid that are fields of the setting are filled in for cells that were planned by other names.
    """
    import pandas as pd

    parts = []
    for experiment, mine in frame.groupby("experiment", sort=False):
        mine = mine.copy()
        fields = [c for c in mine.columns if c.startswith(FIELD) and mine[c].notna().any()]
        axes = [c for c in mine.columns if c.startswith(AXIS) and mine[c].notna().any()]
        for axis in axes:
            field_of = FIELD + axis.removeprefix(AXIS)
            of_setting = mine.groupby(fields, dropna=False)[axis].transform("first") if fields else mine[axis]
            mine[axis] = mine[field_of] if field_of in fields else mine[axis].fillna(of_setting)
        cells = mine.drop_duplicates("key")
        place = cells.groupby(axes, dropna=False).ngroup() if axes else cells.seed * 0
        apart = [name for name in ("trials", "tier") if len(set(cells[name])) > 1]
        apart += [name for name in fields if cells[name].groupby(place).nunique(dropna=False).max() > 1]
        said = (
            mine[apart].apply(lambda row: "".join(f", {_said(n, v)}" for n, v in row.items()), axis=1) if apart else ""
        )
        parts.append(mine.assign(sheet=str(experiment) + said))
    return pd.concat(parts, ignore_index=True)


def _said(name: str, value: Any) -> str:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name.removeprefix(FIELD).replace('_', ' ')} {shown}"
