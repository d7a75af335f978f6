"""What is worth drawing of a record, from its raw rows alone: every curve, and every metric over a swept setting.

Experiments and metrics say themselves how they are shown (:mod:`memspec.metrics`). A curve metric is drawn along its
axis; a number measured at several settings is drawn over the numeric field that varies most; a matrix over tasks is
kept as one. Means carry a 95% t interval over trials; theory bands and required bounds come from the checks. Several
memories share a panel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspec.judging.statistics import mean_interval
from memspec.metrics import Axis, View
from memspec.scorecard.declared import metric_of, showing_of
from memspec.scorecard.record import Record, merged, values_of

MOST_LINES = 6
PREFIXED = ("", "s", "B")
"""Units that need no word at the axis: none, or one that the ticks carry with a prefix."""
FloatArray = NDArray[np.float64]


@dataclass
class Line:
    """Mean and interval over trials at each point, of the memory with this index; ``label`` tells the groups apart."""

    label: str
    memory: int
    group: int
    x: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass
class Band:
    """What was required at some points, or observed elsewhere (people): ``low`` or ``high`` may be infinite."""

    label: str
    memory: int
    x: FloatArray
    low: FloatArray
    high: FloatArray
    theory: bool


@dataclass
class Matrix:
    """``[K, K]`` means over trials: row i after task i, a column for each task."""

    memory: int
    values: FloatArray


@dataclass
class Panel:
    """One metric of one experiment, or several that share a unit; ``metric`` is its title."""

    metric: str
    description: str
    x_label: str
    low: float
    high: float
    lines: list[Line] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    """Instead of lines."""
    left_out: int = 0
    several: bool = False
    """Whether the page shows several memories: then a colour is a memory's, here as in every panel."""
    y_label: str = ""
    unit: str = ""
    x_scale: str = "auto"


def panels_of(cards: Sequence[Record]) -> dict[str, list[Panel]]:
    """Every panel worth drawing, by experiment."""
    blocks = [(i, block) for i, card in enumerate(cards) for block in merged(card.blocks)]
    out: dict[str, list[Panel]] = {}
    for experiment in sorted({b["experiment"] for _, b in blocks}):
        mine = [(i, b) for i, b in blocks if b["experiment"] == experiment]
        showing = showing_of(mine[-1][1])
        drawn: dict[View, list[Panel]] = {}
        for metric in dict.fromkeys(name for _, b in mine for name in b["metrics"]):
            view = showing.view(metric)
            panel = _panel_of(cards, [(i, b) for i, b in mine if metric in b["metrics"]], metric, view, showing.axis)
            if panel is not None and (panel.matrices or any(line.x.size > 1 for line in panel.lines)):
                panel.several = len(cards) > 1
                drawn.setdefault(view, []).append(panel)
        if drawn:
            out[experiment] = [_together(view, parts) for view, parts in drawn.items()]
    return out


Blocks = Sequence[tuple[int, Mapping[str, Any]]]


def _panel_of(cards: Sequence[Record], blocks: Blocks, metric: str, view: View, axis: Axis) -> Panel | None:
    """One metric's panel, or None where it has but one point."""
    meta = metric_of(blocks[0][1], metric)
    axis = view.axis or axis
    named = meta.label or meta.unit not in PREFIXED
    panel = Panel(
        metric,
        view.caption or meta.description,
        axis.label,
        meta.low,
        meta.high,
        y_label=meta.axis(metric) if named else "",
        unit=meta.unit,
        x_scale=axis.scale,
    )
    if view.people:
        at, low, high = (np.array(column) for column in zip(*view.people))
        panel.bands.append(Band("people", -1, at, low, high, False))
    if view.form == "matrix":
        return _matrix_panel(panel, blocks, metric)
    if any(len(b["metrics"][metric]["at"] or ()) > 1 for _, b in blocks):
        return _curve_panel(panel, cards, blocks, metric)
    return _sweep_panel(panel, cards, blocks, metric, axis)


def _together(view: View, parts: Sequence[Panel]) -> Panel:
    """The panels of one view as one: a line's label says which metric it is of."""
    first = replace(parts[0], metric=view.title or parts[0].metric)
    if len(parts) == 1 or first.matrices:
        return first
    groups = 1 + max(line.group for part in parts for line in part.lines)
    return replace(
        first,
        description="; ".join(f"{part.metric}: {part.description}" for part in parts),
        low=min(part.low for part in parts),
        high=max(part.high for part in parts),
        lines=[
            replace(line, label=", ".join(p for p in (said, line.label) if p), group=i * groups + line.group)
            for i, part in enumerate(parts)
            for said in [part.y_label or part.metric.replace("_", " ")]
            for line in part.lines
        ],
        bands=[band for part in parts for band in part.bands],
        y_label="",
        left_out=max(part.left_out for part in parts),
    )


def _curve_panel(panel: Panel, cards: Sequence[Record], blocks: Blocks, metric: str) -> Panel:
    """A line for each memory and setting, along the metric's own axis."""
    settings = list(dict.fromkeys(b["setting"] for _, b in blocks))
    shown = _some(settings)
    panel.left_out = len(settings) - len(shown)
    for memory, block in blocks:
        if block["setting"] not in shown:
            continue
        kept = block["metrics"][metric]
        label = block["setting"] if len(settings) > 1 else ""
        group = shown.index(block["setting"])
        panel.lines.append(_line(label, memory, group, np.asarray(kept["at"], dtype=float), values_of(kept)))
        panel.bands += _required(
            cards,
            memory,
            block["experiment"],
            {(block["setting"], f"{metric}@{x:g}"): x for x in kept["at"]},
        )
    return panel


def _matrix_panel(panel: Panel, blocks: Blocks, metric: str) -> Panel:
    """A square matrix over a task sequence (row i: after task i), which a record keeps flattened."""
    for memory, block in blocks:
        values = values_of(block["metrics"][metric])
        tasks = math.isqrt(values.shape[-1])
        if len(values) and tasks**2 == values.shape[-1]:
            panel.matrices.append(Matrix(memory, values.mean(axis=0).reshape(tasks, tasks)))
    return panel


def _sweep_panel(panel: Panel, cards: Sequence[Record], blocks: Blocks, metric: str, axis: Axis) -> Panel | None:
    """A line for each memory (and each combination of the other fields), over the field that varies most."""
    swept = _swept([b.get("fields", {}) for _, b in blocks])
    if swept is None:
        return None
    x_name, others = swept
    if x_name != axis.field:
        panel = replace(panel, x_label=x_name.replace("_", " "), x_scale="auto")
    groups: dict[tuple[Any, ...], dict[int, list[Mapping[str, Any]]]] = {}
    for memory, block in blocks:
        key = tuple(str(block["fields"].get(name)) for name in others)
        groups.setdefault(key, {}).setdefault(memory, []).append(block)
    usable = [key for key, by_memory in groups.items() if any(len(bs) > 1 for bs in by_memory.values())]
    shown = _some(usable)
    panel.left_out = len(usable) - len(shown)
    for group, key in enumerate(shown):
        what = ", ".join(f"{name} {value}" for name, value in zip(others, key)) if len(groups) > 1 else ""
        for memory, mine in groups[key].items():
            mine = sorted(mine, key=lambda b: b["fields"][x_name])
            x = np.array([float(b["fields"][x_name]) for b in mine])
            columns = [values_of(b["metrics"][metric]).reshape(-1) for b in mine]
            panel.lines.append(_line(what, memory, group, x, columns))
            at = {(b["setting"], metric): float(b["fields"][x_name]) for b in mine}
            panel.bands += _required(cards, memory, mine[0]["experiment"], at)
    return panel


def _swept(fields: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]] | None:
    """The numeric field with most values (at least 3), and the other fields that vary."""
    values = {
        name: {f.get(name) if not isinstance(f.get(name), list) else str(f.get(name)) for f in fields}
        for name in dict.fromkeys(name for f in fields for name in f)
    }
    varying = {name: v for name, v in values.items() if len(v) > 1}
    numeric = [
        name
        for name, v in varying.items()
        if len(v) >= 3 and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in v)
    ]
    if not numeric:
        return None
    best = max(numeric, key=lambda name: len(varying[name]))
    return best, [name for name in varying if name != best]


def _some(names: Sequence[Any]) -> list[Any]:
    """At most ``MOST_LINES`` of them, spread evenly, first and last included."""
    if len(names) <= MOST_LINES:
        return list(names)
    return [names[round(i * (len(names) - 1) / (MOST_LINES - 1))] for i in range(MOST_LINES)]


def _line(label: str, memory: int, group: int, x: FloatArray, values: Any) -> Line:
    """Points from ``[T, K]`` values, or from K columns of different lengths."""
    columns = [np.asarray(c, dtype=float) for c in (values.T if isinstance(values, np.ndarray) else values)]
    finite = [c[np.isfinite(c)] for c in columns]
    keep = [i for i, c in enumerate(finite) if c.size]
    intervals = [mean_interval(finite[i]) for i in keep]
    return Line(
        label,
        memory,
        group,
        x[keep],
        np.array([i.mean for i in intervals]),
        np.array([i.low if math.isfinite(i.low) else i.mean for i in intervals]),
        np.array([i.high if math.isfinite(i.high) else i.mean for i in intervals]),
    )


def _required(cards: Sequence[Record], memory: int, experiment: str, at: Mapping[tuple[str, str], float]) -> list[Band]:
    """Bands and bounds that checks put on these points, theory apart from the rest."""
    card = cards[memory]
    points: dict[bool, dict[float, tuple[float, float]]] = {}
    for check in card.checks:
        place, bound = (check.setting or "", check.metric or ""), check.bound
        if check.experiment != experiment or place not in at or bound is None:
            continue
        low = -math.inf if bound.at_least is None else bound.at_least
        high = math.inf if bound.at_most is None else bound.at_most
        points.setdefault(bound.source.startswith("theory"), {})[at[place]] = (low, high)
    bands = []
    for theory, found in points.items():
        x = np.array(sorted(found))
        low, high = np.array([found[p] for p in x]).T
        bands.append(Band("theory" if theory else "required", memory, x, low, high, theory))
    return bands
