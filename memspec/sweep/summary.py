"""What a results folder comes to: each memory's newest results, its standing, its curves, and heat maps.

A number of a cell is the mean over its trials; seeds are the repetitions, and every interval is over seeds: Student's
t at 95%. Where cells are missing or failed, memories are ranked by the settings that all of them have.
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
from memspec.sweep.store import AXIS, Store

if TYPE_CHECKING:
    from pandas import DataFrame

PANELS = 6
"""Panels of one metric at the most; with more combinations of settings their mean is drawn."""
METRICS = 4
"""Metrics of an experiment that are drawn, unless the plan names some."""


@dataclass(frozen=True)
class Standing:
    """One memory in the leaderboard of one experiment; ``mean`` is nan where it has no setting in common with the others."""

    memory: int
    mean: float
    low: float
    high: float
    ok: int
    failed: int
    skipped: int
    seconds: float


@dataclass(frozen=True)
class Board:
    """Memories ranked by one metric of one experiment, over the settings that all of them have."""

    experiment: str
    metric: str
    description: str
    better: str
    settings: int
    of: int
    standings: Sequence[Standing]


@dataclass(frozen=True)
class Heat:
    """The mean of a metric over two settings, for each memory: ``values [memory][row][column]``."""

    experiment: str
    metric: str
    what: Metric
    row: str
    column: str
    rows: Sequence[float]
    columns: Sequence[float]
    values: Mapping[int, Sequence[Sequence[float]]]


@dataclass
class Results:
    """What a folder holds of the memories that were planned last.

    Attributes:
        frame: tidy rows; ``memory`` is a number, into ``names``.
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
        frame = store.rows(list(dict.fromkeys(newest.values())))
        notes = [f"{path.name} is damaged and left out" for path in store.damaged]
        notes += _left_out(store, newest)
        names = [name for name in newest if name in set(frame.memory)]
        frame = frame.assign(memory=frame.memory.map({name: i for i, name in enumerate(names)}))
        return cls(names, frame, {newest[n]: signatures[newest[n]] for n in names}, plans, notes)

    # ---- what there is ----------------------------------------------------------------------------------------

    @property
    def experiments(self) -> list[str]:
        return sorted(set(self.frame.experiment))

    def axes(self, experiment: str) -> list[str]:
        """Names on the grid that took several values, numbers only; the one with the most values first."""
        mine = self.frame[self.frame.experiment == experiment]
        counts = {}
        for name in (c.removeprefix(AXIS) for c in mine.columns if c.startswith(AXIS)):
            values = mine[AXIS + name].dropna().unique()
            if len(values) > 1 and all(isinstance(v, (int, float, np.number)) for v in values):
                counts[name] = len(values)
        last = {name: place for place, name in enumerate(counts)}
        return sorted(counts, key=lambda name: (-counts[name], -last[name]))

    def metrics(self, experiment: str, wanted: Sequence[str] = ()) -> list[str]:
        """The metrics to show, the main one first: those wanted, or else those of the plan, or else a few."""
        here = list(dict.fromkeys(self.frame[self.frame.experiment == experiment].metric.dropna()))
        if wanted and not set(wanted) & set(here):
            return []
        chosen = [name for name in wanted if name in here]
        chosen = chosen or [m for plan in self.plans for m in plan["metrics"].get(experiment, ()) if m in here]
        if not chosen:
            scored = [s.metric for s in catalog.scorings() if s.experiment == experiment and s.metric in here]
            chosen = (scored + here)[:METRICS]
        return list(dict.fromkeys(chosen))

    def by_seed(self, experiment: str, metric: str) -> DataFrame:
        """One row a memory, setting, seed (and point of a curve): the mean over trials."""
        mine = self.frame[(self.frame.experiment == experiment) & (self.frame.metric == metric)]
        keys = ["memory", *(c for c in mine.columns if c.startswith(AXIS)), "at", "seed"]
        return mine.groupby(keys, dropna=False, sort=True)["value"].mean().reset_index()

    # ---- leaderboard ------------------------------------------------------------------------------------------

    def board(self, experiment: str, metric: str) -> Board:
        """Memories in the order of a metric."""
        what = catalog.experiments()[experiment].metrics[metric]
        rows = self.by_seed(experiment, metric)
        places = [c for c in rows.columns if c.startswith(AXIS)] + ["at"]
        rows = rows.assign(place=rows.groupby(places, dropna=False).ngroup())
        mine = self.frame[self.frame.experiment == experiment]
        having = [set(rows[rows.memory == m].place) for m in sorted(set(rows.memory))]
        common = set.intersection(*having) if having else set()
        standings = []
        for memory, cells in mine.drop_duplicates("key").groupby("memory"):
            of_it = rows[(rows.memory == memory) & rows.place.isin(common)]
            per_seed = of_it.groupby("seed")["value"].mean().to_numpy()
            per_seed = per_seed[np.isfinite(per_seed)]
            mean = mean_interval(per_seed) if per_seed.size else None
            ends = (mean.mean, mean.low, mean.high) if mean else (math.nan, math.nan, math.nan)
            counts = cells.status.value_counts()
            ok, failed, skipped = (int(counts.get(status, 0)) for status in ("ok", "fail", "skip"))
            standings.append(Standing(int(str(memory)), *ends, ok, failed, skipped, float(cells.seconds.mean())))
        sign = 1 if what.better == "down" else -1
        standings.sort(key=lambda s: (math.isnan(s.mean), sign * s.mean if not math.isnan(s.mean) else 0.0))
        every = set(rows.place)
        return Board(experiment, metric, what.description, what.better, len(common), len(every), standings)

    # ---- curves -----------------------------------------------------------------------------------------------

    def panels(self, experiment: str, metric: str) -> list[Panel]:
        """A metric over its axis with intervals over seeds, a panel for each combination of the other settings."""
        rows, axes = self.by_seed(experiment, metric), self.axes(experiment)
        if rows.empty:
            return []
        curve = bool(rows["at"].notna().any())
        if not curve and not axes:
            return []
        x = "at" if curve else AXIS + axes[0]
        others = [AXIS + name for name in (axes if curve else axes[1:])]
        groups: list[tuple[str, Any]] = [("", rows)]
        combinations = list(itertools.product(*(sorted(rows[o].dropna().unique()) for o in others)))
        if others and len(combinations) <= PANELS:
            groups = [
                (
                    ", ".join(f"{o.removeprefix(AXIS)} {v:g}" for o, v in zip(others, values)),
                    rows[_equal(rows, others, values)],
                )
                for values in combinations
            ]
        what = catalog.experiments()[experiment].metrics[metric]
        label = catalog.experiments()[experiment].showing.axis.label if curve else axes[0].replace("_", " ")
        return [self._panel(metric, what, said, label, x, group) for said, group in groups if not group.empty]

    def _panel(self, metric: str, what: Metric, said: str, label: str, x: str, rows: DataFrame) -> Panel:
        title = metric.replace("_", " ") + (f", {said}" if said else "")
        panel = Panel(title, what.description, label or "at", what.low, what.high, several=True)
        panel.y_label, panel.unit = what.axis(metric), what.unit
        for memory, mine in rows.groupby("memory"):
            points = [(float(str(at)), group) for at, group in mine.groupby(x)]
            found = [
                (at, mean_interval(values))
                for at, group in points
                if (values := _finite(group.groupby("seed")["value"].mean().to_numpy())).size
            ]
            if found:
                columns = zip(*((at, i.mean, i.low, i.high) for at, i in found))
                panel.lines.append(Line("", int(str(memory)), 0, *(np.array(c, dtype=float) for c in columns)))
        return panel

    # ---- heat maps --------------------------------------------------------------------------------------------

    def heat(self, experiment: str, metric: str) -> Heat | None:
        """The mean of a metric over the two axes with the most values; None where there are not two."""
        axes = self.axes(experiment)
        if len(axes) < 2:
            return None
        rows = self.by_seed(experiment, metric)
        if rows.empty:
            return None
        column, row = AXIS + axes[0], AXIS + axes[1]
        columns, lines = sorted(rows[column].dropna().unique()), sorted(rows[row].dropna().unique())
        values = {}
        for memory, mine in rows.groupby("memory"):
            means = mine.groupby([row, column])["value"].mean()
            values[int(str(memory))] = [[float(means.get((r, c), math.nan)) for c in columns] for r in lines]
        what = catalog.experiments()[experiment].metrics[metric]
        return Heat(experiment, metric, what, axes[1], axes[0], lines, columns, values)

    # ---- failures ---------------------------------------------------------------------------------------------

    def failures(self) -> Iterator[tuple[str, str, int, list[str], str]]:
        """Why, in what words, how many cells, some of them, and a stack; the most frequent first."""
        failed = self.frame[self.frame.status == "fail"]
        groups = sorted(failed.groupby(["why", "cause"]), key=lambda group: -len(group[1]))
        for (why, cause), cells in groups:
            stacks = [stack for stack in cells["stack"] if stack]
            yield str(why), str(cause), len(cells), list(cells.cell[:5]), stacks[0] if stacks else ""


def _equal(rows: DataFrame, names: Sequence[str], values: Sequence[Any]) -> Any:
    chosen = np.ones(len(rows), dtype=bool)
    for name, value in zip(names, values):
        chosen &= (rows[name] == value).to_numpy()
    return chosen


def _finite(values: Any) -> Any:
    return values[np.isfinite(values)]


def _left_out(store: Store, newest: Mapping[str, str]) -> list[str]:
    """What is not shown because its signature is not the newest of its memory, and what that differs in."""
    kept, there, counts = set(newest.values()), store.signatures(), store.counts()
    old = [digest for digest in counts if digest not in kept]
    if not old:
        return []
    fields = set()
    for digest in old:
        told = there.get(digest, {})
        now = there.get(newest.get(str(told.get("memory")), ""), {})
        fields |= {name for name in told if told[name] != now.get(name)} if now else {"no plan names their memory"}
    files = sum(counts[digest] for digest in old)
    return [f"{files} files of other signatures are left out; they differ in {', '.join(sorted(fields))}"]


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
