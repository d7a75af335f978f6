"""What a results folder comes to: each memory's newest results, its standing, its curves, and heat maps.

A number of a cell is the mean over its trials; seeds are the repetitions, and every interval is over seeds: Student's
t at 95%. Where cells are missing or failed, memories are ranked by the settings that all of them have. Only cells that
differ in nothing but the memory, the place on the grid and the seed stand in one leaderboard (a sheet): others of the
same experiment, with more trials or another setting, have one of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memspec.errors import MemspecError, RecordError
from memspec.experiments import catalog
from memspec.judging.statistics import mean_interval
from memspec.metrics import Metric
from memspec.scorecard.panels import Line, Panel
from memspec.sweep.sheets import in_sheets, missing_cells, with_missing
from memspec.sweep.signature import digest_of
from memspec.sweep.store import AXIS, Store

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

PANELS = 6
"""Panels of one metric at the most; with more combinations of settings their mean is drawn."""
METRICS = 4
"""Metrics of an experiment that are drawn, unless the plan names some."""


@dataclass(frozen=True)
class Standing:
    """One memory in a leaderboard.

    Attributes:
        mean: nan where it has no setting in common with the others; inf where a value is.
        low, high: nan where there is one seed.
        missing: cells that were planned and are not there.
    """

    memory: int
    mean: float
    low: float
    high: float
    ok: int
    failed: int
    skipped: int
    missing: int
    seconds: float


@dataclass(frozen=True)
class Board:
    """Memories ranked by one metric of one sheet, over the settings that all of them have (of those that were planned)."""

    sheet: str
    metric: str
    description: str
    better: str
    settings: int
    of: int
    standings: Sequence[Standing]


@dataclass(frozen=True)
class Heat:
    """The mean of a metric over two settings, for each memory: ``values [memory][row][column]``.

    Attributes:
        over: the other settings that it is a mean over.
    """

    sheet: str
    metric: str
    what: Metric
    row: str
    column: str
    rows: Sequence[float]
    columns: Sequence[float]
    values: Mapping[int, Sequence[Sequence[float]]]
    over: Sequence[str] = ()


@dataclass
class Results:
    """What a folder holds of the memories that were planned last.

    Attributes:
        frame: tidy rows; ``memory`` is a number, into ``names``; ``sheet`` says what it may stand beside. A cell that
            was planned and is not there has a row of status ``missing``.
        notes: what was left out, and why.
    """

    names: list[str]
    frame: DataFrame
    signatures: dict[str, dict[str, Any]]
    plans: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    # ---- reading ----------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, folder: Path) -> Results:
        """Read a folder.

        Raises:
            RecordError: if it holds no results.
        """
        if not (folder / "cells").is_dir():
            raise RecordError(f"{folder} is no folder of results; memspec sweep --into makes one")
        store = Store(folder)
        plans = store.plans()
        newest = {name: digest for plan in plans for name, digest in plan["memories"].items()}
        signatures = {digest: told for plan in plans for digest, told in plan["signatures"].items()}
        frame = with_missing(store.rows(list(dict.fromkeys(newest.values()))), plans, newest)
        notes = missing_cells(frame)
        notes += [f"{path.name} is damaged and left out; the same sweep runs its cells again" for path in store.damaged]
        notes += _left_out(store, newest)
        names = [name for name in newest if name in set(frame.memory)]
        frame = in_sheets(frame.assign(memory=frame.memory.map({name: i for i, name in enumerate(names)})))
        for experiment, mine in frame.groupby("experiment"):
            counts = mine.drop_duplicates("key").groupby("sheet").size()
            if len(counts) > 1:
                said = ", ".join(
                    f"{str(sheet).removeprefix(f'{experiment}, ')} ({n} cells)" for sheet, n in counts.items()
                )
                notes.append(
                    f"{experiment} was measured in ways that are not to be mixed, and each stands alone: {said}"
                )
        return cls(names, frame, {newest[n]: signatures[newest[n]] for n in names}, plans, notes)

    # ---- what there is ----------------------------------------------------------------------------------------

    @property
    def sheets(self) -> list[str]:
        return sorted(set(self.frame["sheet"]))

    @property
    def there(self) -> int:
        """Cells that have come to an end."""
        return int(self.frame[self.frame.status != "missing"].key.nunique())

    def experiment(self, sheet: str) -> str:
        """Whose cells stand in a sheet."""
        return sheet.partition(",")[0]

    def axes(self, sheet: str) -> list[str]:
        """Names on the grid that took several values, numbers only; the one with the most values first."""
        mine = self.frame[self.frame["sheet"] == sheet]
        counts = {}
        for name in (c.removeprefix(AXIS) for c in mine.columns if c.startswith(AXIS)):
            values = mine[AXIS + name].dropna().unique()
            if len(values) > 1 and all(isinstance(v, (int, float, np.number)) for v in values):
                counts[name] = len(values)
        last = {name: place for place, name in enumerate(counts)}
        return sorted(counts, key=lambda name: (-counts[name], -last[name]))

    def metrics(self, sheet: str, wanted: Sequence[str] = ()) -> list[str]:
        """The metrics to show, the main one first: those wanted, or else those of the plan, or else a few."""
        experiment = self.experiment(sheet)
        here = list(dict.fromkeys(self.frame[self.frame["sheet"] == sheet].metric.dropna()))
        if wanted and not set(wanted) & set(here):
            return []
        chosen = [name for name in wanted if name in here]
        chosen = chosen or [m for plan in self.plans for m in plan["metrics"].get(experiment, ()) if m in here]
        if not chosen:
            scored = [s.metric for s in catalog.scorings() if s.experiment == experiment and s.metric in here]
            chosen = (scored + here)[:METRICS]
        return list(dict.fromkeys(chosen))

    def by_seed(self, sheet: str, metric: str) -> DataFrame:
        """One row a memory, setting, seed (and point of a curve): the mean over trials."""
        mine = self.frame[(self.frame["sheet"] == sheet) & (self.frame.metric == metric)]
        keys = ["memory", *(c for c in mine.columns if c.startswith(AXIS)), "at", "seed"]
        return mine.groupby(keys, dropna=False, sort=True)["value"].mean().reset_index()

    # ---- leaderboard ------------------------------------------------------------------------------------------

    def board(self, sheet: str, metric: str) -> Board:
        """Memories in the order of a metric."""
        what = self._metric(sheet, metric)
        rows = self.by_seed(sheet, metric)
        places = [c for c in rows.columns if c.startswith(AXIS)]
        rows = rows.assign(place=rows.groupby([*places, "at"], dropna=False).ngroup())
        mine = self.frame[self.frame["sheet"] == sheet]
        having = [set(rows[rows.memory == m].place) for m in sorted(set(rows.memory))]
        common = set.intersection(*having) if having else set()
        standings = []
        for memory, cells in mine.drop_duplicates("key").groupby("memory"):
            per_seed = seed_means(rows[(rows.memory == memory) & rows.place.isin(common)], "place")
            mean = _interval(per_seed, what) if per_seed.size else (math.nan, math.nan, math.nan)
            counts = cells.status.value_counts()
            ok, failed, skipped, missing = (int(counts.get(s, 0)) for s in ("ok", "fail", "skip", "missing"))
            seconds = float(cells.seconds[cells.status.isin(("ok", "fail"))].mean())
            standings.append(Standing(int(str(memory)), *mean, ok, failed, skipped, missing, seconds))
        sign = 1 if what.better == "down" else -1
        standings.sort(key=lambda s: (math.isnan(s.mean), sign * s.mean if not math.isnan(s.mean) else 0.0))
        of_all = len(mine[places].drop_duplicates()) if places else 1
        settings = rows[rows.place.isin(common)]
        shared = len(settings[places].drop_duplicates()) if places else min(1, len(settings))
        return Board(sheet, metric, what.description, what.better, shared, of_all, standings)

    def _metric(self, sheet: str, metric: str) -> Metric:
        return catalog.experiments()[self.experiment(sheet)].metrics[metric]

    # ---- curves -----------------------------------------------------------------------------------------------

    def panels(self, sheet: str, metric: str) -> list[Panel]:
        """A metric over its axis with intervals over seeds, a panel for each combination of the other settings."""
        rows, axes = self.by_seed(sheet, metric), self.axes(sheet)
        if rows.empty:
            return []
        curve = bool(rows["at"].notna().any())
        if not curve and not axes:
            return []
        x = "at" if curve else AXIS + axes[0]
        others = [AXIS + name for name in (axes if curve else axes[1:])]
        pooled = f"mean over {', '.join(o.removeprefix(AXIS) for o in others)}" if others else ""
        groups: list[tuple[str, Any]] = [(pooled, rows)]
        combinations = list(itertools.product(*(sorted(rows[o].dropna().unique()) for o in others)))
        if others and len(combinations) <= PANELS:
            groups = [
                (
                    ", ".join(f"{o.removeprefix(AXIS)} {v:g}" for o, v in zip(others, values)),
                    rows[_equal(rows, others, values)],
                )
                for values in combinations
            ]
        what = self._metric(sheet, metric)
        label = catalog.experiments()[self.experiment(sheet)].showing.axis.label if curve else axes[0].replace("_", " ")
        return [self._panel(metric, what, said, label, x, others, group) for said, group in groups if not group.empty]

    def _panel(
        self, metric: str, what: Metric, said: str, label: str, x: str, others: list[str], rows: DataFrame
    ) -> Panel:
        title = metric.replace("_", " ") + (f", {said}" if said else "")
        panel = Panel(title, what.description, label or "at", what.low, what.high, several=True)
        panel.y_label, panel.unit = what.axis(metric), what.unit
        rows = rows.assign(place=rows.groupby(others, dropna=False).ngroup() if others else 0)
        for memory, mine in rows.groupby("memory"):
            points = [(float(str(at)), seed_means(group, "place")) for at, group in mine.groupby(x)]
            found = [
                (at, *_interval(values, what)) for at, values in points if np.isfinite(values).all() and values.size
            ]
            if found:
                # of one seed nothing but its number is known
                columns = zip(
                    *((at, mean, *((mean, mean) if math.isnan(low) else (low, high))) for at, mean, low, high in found)
                )
                panel.lines.append(Line("", int(str(memory)), 0, *(np.array(c, dtype=float) for c in columns)))
        return panel

    # ---- heat maps --------------------------------------------------------------------------------------------

    def heat(self, sheet: str, metric: str) -> Heat | None:
        """The mean of a metric over the two axes with the most values; None where there are not two."""
        axes = self.axes(sheet)
        if len(axes) < 2:
            return None
        rows = self.by_seed(sheet, metric)
        if rows.empty:
            return None
        column, row = AXIS + axes[0], AXIS + axes[1]
        columns, lines = sorted(rows[column].dropna().unique()), sorted(rows[row].dropna().unique())
        values = {}
        for memory, mine in rows.groupby("memory"):
            means = mine.groupby([row, column])["value"].mean()
            values[int(str(memory))] = [[float(means.get((r, c), math.nan)) for c in columns] for r in lines]
        return Heat(sheet, metric, self._metric(sheet, metric), axes[1], axes[0], lines, columns, values, axes[2:])

    # ---- failures ---------------------------------------------------------------------------------------------

    def ended(self, status: str = "fail") -> Iterator[tuple[str, str, int, list[str], str]]:
        """Of cells that ended so: why, in what words, how many cells, some of them, and a stack; the most frequent first.

        The words name the memory and the experiment.
        """
        failed = self.frame[self.frame.status == status]
        groups = sorted(failed.groupby(["memory", "experiment", "why", "cause"]), key=lambda group: -len(group[1]))
        names = short(self.names)
        for (memory, experiment, why, cause), cells in groups:
            stacks = [stack for stack in cells["stack"] if stack]
            said = f"{names[int(str(memory))]}, {experiment}: {cause}"
            yield str(why), said, len(cells), list(cells.cell[:5]), stacks[0] if stacks else ""


def _equal(rows: DataFrame, names: Sequence[str], values: Sequence[Any]) -> Any:
    chosen = np.ones(len(rows), dtype=bool)
    for name, value in zip(names, values):
        chosen &= (rows[name] == value).to_numpy()
    return chosen


def seed_means(rows: DataFrame, place: str) -> NDArray[np.float64]:
    """The mean of ``value`` over places, one for each seed.

    A seed that lacks a place is not better for it: what counts of it is how far it lies from the mean of the places that
    it has. Where nothing is missing that is its plain mean. Values that are no number are missing.
    """
    rows = rows[rows["value"].notna()]
    if np.isinf(rows["value"]).any():
        return np.asarray(rows["value"][np.isinf(rows["value"])].to_numpy()[:1], dtype=np.float64)
    table = rows.pivot_table(index="seed", columns=place, values="value")
    of_places = table.mean()
    means: NDArray[np.float64] = ((table - of_places).mean(axis=1) + of_places.mean()).to_numpy()
    return means


def _interval(per_seed: NDArray[np.float64], what: Metric) -> tuple[float, float, float]:
    """Mean and interval, no wider than the metric can be; without ends where there is one seed."""
    if per_seed.size < 2:
        return float(per_seed[0]), math.nan, math.nan
    found = mean_interval(per_seed)
    return found.mean, max(found.low, min(what.low, found.mean)), min(found.high, max(what.high, found.mean))


def _left_out(store: Store, newest: Mapping[str, str]) -> list[str]:
    """What is not shown because its signature is not the newest of its memory, and what that differs in."""
    kept, there, counts = set(newest.values()), store.signatures(), store.counts()
    old = [digest for digest in counts if digest not in kept]
    foreign = [digest for digest in old if digest not in there or digest_of(there[digest]) != digest]
    notes = [
        f"cells/{name} holds {counts[name]} files that no sweep has put there; they are left out" for name in foreign
    ]
    old = [digest for digest in old if digest not in foreign]
    fields: set[str] = set()
    files = unnamed = 0
    for digest in old:
        told = there[digest]
        now = there.get(newest.get(str(told.get("memory")), ""), {})
        fields |= {name for name in told if told[name] != now.get(name)} if now else set()
        files += counts[digest] if now else 0
        unnamed += 0 if now else counts[digest]
    if files:
        notes.append(f"{files} files of other signatures are left out; they differ in {', '.join(sorted(fields))}")
    if unnamed:
        notes.append(f"{unnamed} files are left out, of memories that no plan names")
    return notes


def short(names: Sequence[str]) -> list[str]:
    """Names without their modules, where these tell no two apart."""
    heads = [name.partition("(") for name in names]
    cut = ["".join((head.rpartition(":")[2], *rest)) for head, *rest in heads]
    return cut if len(set(cut)) == len(cut) else list(names)


def wanted_somewhere(results: Results, metrics: Sequence[str]) -> None:
    """Make sure that every metric named was measured.

    Raises:
        MemspecError: naming the first that was not, and those that were.
    """
    known = sorted(set(results.frame.metric.dropna()))
    for name in metrics:
        if name not in known:
            raise MemspecError(f"{name} was not measured; there are {', '.join(known)}")
