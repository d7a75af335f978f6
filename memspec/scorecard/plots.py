"""Plots of a record: the panels of :mod:`memspec.scorecard.panels` as SVG that takes its colours from the page.

A memory (or, on the page of one memory, a setting) is a class ``m0``, ``m1``, ...; which of them has which colour, and
whether it is shown in colour at all, the page's style says. So a page follows light and dark, and readers may pick.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from memspec.scorecard import svg
from memspec.scorecard.formatting import short_names
from memspec.scorecard.overview import picked
from memspec.scorecard.panels import Band, FloatArray, Line, Matrix, Panel, panels_of
from memspec.scorecard.record import Record
from memspec.scorecard.svg import Scale

WIDTH, HEIGHT = 340, 232
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 24, 40
DASHES = 4
"""Kinds of line in the style, for the groups of several memories."""

TINY = 1e-6
"""A logarithmic axis goes down to this share of its top: an exact answer's rounding errors are no finding."""

HAIR = 0.7
"""Intervals narrower than this many units are not drawn."""


@dataclass(frozen=True)
class Key:
    """What a line or an area means: ``kind`` is ``line``, ``theory``, ``required`` or ``people``; ``look`` its classes."""

    kind: str
    look: str
    label: str


@dataclass(frozen=True)
class Figure:
    """One plot of the page, or (matrices) one for each memory."""

    name: str
    experiment: str
    title: str
    caption: str
    drawings: Sequence[tuple[str, str]]
    """Name and SVG; the name is empty where the drawing is of all memories."""
    keys: Sequence[Key] = field(default_factory=list)

    @property
    def axis(self) -> str:
        """The axis of the suites that it belongs to."""
        return self.experiment.partition(".")[0]


def figures(cards: Sequence[Record]) -> list[Figure]:
    """A figure for each panel that has something to draw, in the order of their experiments."""
    names, shown, found = short_names(cards), picked(cards), panels_of(cards)
    for panels in found.values():
        for panel in panels:
            panel.lines.sort(key=lambda line: line.memory in shown)  # what is in colour lies above the rest
    return [figure(panel, experiment, names) for experiment, panels in found.items() for panel in panels]


def figure(panel: Panel, experiment: str, names: Sequence[str]) -> Figure:
    """A panel as a figure; ``names`` are the memories'."""
    caption = panel.description
    if panel.left_out:
        caption = f"{caption}; {panel.left_out} further settings are in the record"
    name = re.sub(r"[^a-z0-9]+", "-", f"{experiment} {panel.metric}".lower()).strip("-")
    title = panel.metric.replace("_", " ")
    if panel.matrices:
        several = len(panel.matrices) > 1
        drawings = [
            (names[m.memory] if several else "", matrix(m, panel, f"{title} of {names[m.memory]}", several=several))
            for m in panel.matrices
        ]
        return Figure(name, experiment, title, caption, drawings)
    label = f"{title} over {panel.x_label}, {experiment}"
    return Figure(name, experiment, title, caption, [("", lines(panel, label))], keys_of(panel))


# ---- lines over an axis ---------------------------------------------------------------------------------------


def lines(panel: Panel, label: str) -> str:
    """The panel's bands and lines over its two axes."""
    x, y = scales(panel)
    parts = list(axes(panel, x, y))
    for band, owned in _apart(panel.bands):
        parts += _band(band, x, y, f" own m{band.memory}" if owned and panel.several else "")
    for line in panel.lines:
        parts.append(_line(line, panel, x, y))
    return svg.drawing(WIDTH, HEIGHT, parts, label, "plot")


def scales(panel: Panel) -> tuple[Scale, Scale]:
    """Where the numbers of a panel lie: logarithmic where they span much, never below a metric's range."""
    at = np.concatenate([line.x for line in panel.lines])
    wide = at.min() > 0 and at.max() / at.min() >= 16
    log = bool(at.min() > 0 and (panel.x_scale == "log" or (panel.x_scale == "auto" and wide)))
    x = Scale(*_apart_ends(float(at.min()), float(at.max())), LEFT + 8, WIDTH - RIGHT - 6, log)
    low, high, log = _ends(panel)
    return x, Scale(low, high, HEIGHT - BOTTOM, TOP, log)


def _ends(panel: Panel) -> tuple[float, float, bool]:
    """The ends of the upright axis, and whether it is logarithmic."""
    if math.isfinite(panel.low) and math.isfinite(panel.high):
        low = panel.low if panel.low >= 0 or min(line.low.min() for line in panel.lines) < 0 else 0.0
        margin = 0.03 * (panel.high - low)
        return low - margin, panel.high + margin, False
    seen = np.concatenate([line.mean for line in panel.lines])
    edges = np.concatenate([seen, *(side for band in panel.bands for side in (band.low, band.high))])
    edges = edges[np.isfinite(edges)]
    if not edges.size:
        return 0.0, 1.0, False
    low, top, positive = float(edges.min()), float(edges.max()), edges[edges > 0]
    if panel.low == 0 and positive.size and top / positive.min() > 100:  # with a bound far off, too
        return max(float(positive.min()) / 2, TINY * top), 2 * top, True
    low = 0.0 if panel.low == 0 else low
    low, top = _apart_ends(low, top)
    margin = 0.06 * (top - low)
    return low if panel.low == 0 else low - margin, top + margin, False


def _apart_ends(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def axes(panel: Panel, x: Scale, y: Scale) -> Iterable[str]:
    """Grid, ticks and what stands at the axes."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    levels = svg.log_ticks(y.low, y.high) if y.log else svg.linear_ticks(y.low, y.high)
    grid = "".join(f"M{LEFT} {svg.place(float(y(v)))}H{right}" for v in levels)
    yield f'<path class="grid" d="{grid}"/>'
    for value in levels:
        yield svg.text(LEFT - 6, float(y(value)) + 4, svg.tick_text(value, panel.unit), "end")
    for value in _x_ticks(panel, x):
        place = float(x(value))
        yield f'<path class="grid" d="M{svg.place(place)} {bottom}v4"/>'
        yield svg.text(place, bottom + 16, svg.tick_text(value), "mid")
    if panel.y_label:
        yield svg.text(4, 13, panel.y_label, "soft")
    yield svg.text((LEFT + right) / 2, HEIGHT - 6, panel.x_label, "mid soft")


def _x_ticks(panel: Panel, x: Scale) -> list[float]:
    at = np.concatenate([line.x for line in panel.lines])
    if not x.log:
        return svg.linear_ticks(x.low, x.high, whole=bool((at == at.round()).all() or at.max() > 10), most=7)
    powers = np.log2(at)
    return svg.log_ticks(x.low, x.high, 2 if np.allclose(powers, powers.round()) else 10, most=7)


def _line(line: Line, panel: Panel, x: Scale, y: Scale) -> str:
    """A line with its interval, of the class of its memory (or of its group, on the page of one memory)."""
    sides = np.maximum(line.low, panel.low), np.minimum(line.high, panel.high)  # an interval may leave the range
    at, mean, low, high = _parted(line.x, line.mean, *sides)
    px, py, top, bottom = x(at), y(mean), y(high), y(low)
    shade = ""
    if np.nanmax(bottom - top, initial=0.0) > HAIR:
        shade = f'<path class="r" d="{svg.area(px, bottom, top)}"/>'
    look = "l" + (" pts" if line.x.size <= 12 else "")
    look += f" d{line.group % DASHES}" if panel.several and line.group else ""
    drawn = svg.path(px, py) if line.x.size > 1 else svg.path(np.repeat(px, 2), np.repeat(py, 2))
    return f'<g class="m{line.memory if panel.several else line.group}">{shade}<path class="{look}" d="{drawn}"/></g>'


def _apart(bands: Sequence[Band]) -> list[tuple[Band, bool]]:
    """The bands, each once, and whether it belongs to one memory alone: what is asked of all alike is nobody's."""
    kept: dict[tuple[object, ...], list[Band]] = {}
    for band in bands:
        kept.setdefault((band.theory, *(tuple(a) for a in (band.x, band.low, band.high))), []).append(band)
    return [(mine[0], len({band.memory for band in mine}) == 1 and mine[0].memory >= 0) for mine in kept.values()]


def _kind(band: Band) -> str:
    return "people" if band.memory < 0 else "theory" if band.theory else "required"


def _band(band: Band, x: Scale, y: Scale, owner: str) -> list[str]:
    """An area where both sides are given, a line where one is; without ``owner`` it is grey."""
    at, low, high = _parted(band.x, band.low, band.high)
    kind = _kind(band)
    if np.isfinite(band.low).all() and np.isfinite(band.high).all():
        if band.x.size > 1:
            return [f'<path class="b {kind}{owner}" d="{svg.area(x(at), y(low), y(high))}"/>']
        upright = svg.path(np.repeat(x(at), 2), np.r_[y(low), y(high)])
        return [f'<path class="b {kind} upright{owner}" d="{upright}"/>']
    out = []
    for edge in (low, high):
        if np.isfinite(edge[np.isfinite(at)]).all():
            px, py = x(at), y(edge)
            if band.x.size == 1:  # a point would not be seen
                px, py = np.r_[px - 6, px + 6], np.repeat(py, 2)
            out.append(f'<path class="b {kind} edge{owner}" d="{svg.path(px, py)}"/>')
    return out


def _parted(x: FloatArray, *columns: FloatArray) -> tuple[FloatArray, ...]:
    """The columns with a gap at 0 where an axis runs from -1 to +1 without it: lags have no lag 0."""
    place = int(np.searchsorted(x, 0.0))
    if 0 < place < x.size and x[place] > 0 and x[place - 1] == -x[place]:
        return tuple(np.insert(c, place, np.nan) for c in (x, *columns))
    return x, *columns


def keys_of(panel: Panel) -> list[Key]:
    """What the lines and areas of a panel mean, beside which memory they are of."""
    groups = dict(sorted({line.group: line.label for line in panel.lines if line.label}.items()))
    keys = [Key("line", f"d{g % DASHES}" if panel.several else f"m{g}", label) for g, label in groups.items()]
    kinds = {_kind(band) for band in panel.bands}
    return keys + [Key(kind, kind, kind) for kind in ("theory", "required", "people") if kind in kinds]


# ---- matrices over tasks --------------------------------------------------------------------------------------


def matrix(one: Matrix, panel: Panel, label: str, *, several: bool) -> str:
    """A heat map: a row for each task learned, a column for each task tested. Small where there are several."""
    tasks = len(one.values)
    numbered = not several
    left, top, size = (LEFT, TOP, 36 if tasks <= 6 else 216 // tasks) if not several else (2, 2, max(100 // tasks, 6))
    parts = []
    if not several:
        parts.append(svg.text(4, 13, "after task", "soft"))
        parts.append(svg.text(left + size * tasks / 2, top + size * tasks + 32, "tested on task", "mid soft"))
    span = panel.high - panel.low
    for i, row in enumerate(one.values):
        if not several:
            parts.append(svg.text(left - 8, top + size * (i + 0.5) + 4, str(i + 1), "end"))
            parts.append(svg.text(left + size * (i + 0.5), top + size * tasks + 16, str(i + 1), "mid"))
        for j, value in enumerate(row):
            strength = (value - panel.low) / span if math.isfinite(span) else value
            strength = min(max(float(strength), 0.0), 1.0) if math.isfinite(value) else 0.0
            parts.append(
                f'<rect class="cell{" seen" if j <= i else ""}" x="{left + size * j}" y="{top + size * i}" width="{size}"'
                f' height="{size}" style="fill-opacity:{strength:.2f}"/>'
            )
            if numbered and tasks <= 8:
                on = " on" if strength > 0.55 else ""
                said = f"{value:.2f}".replace("0.", ".", 1) if 0 <= value < 0.995 else f"{value:.2g}"
                parts.append(svg.text(left + size * (j + 0.5), top + size * (i + 0.5) + 4, said, f"mid{on}"))
    width = left + size * tasks + (RIGHT if not several else 2)
    height = top + size * tasks + (BOTTOM if not several else 2)
    return svg.drawing(max(width, WIDTH) if not several else width, height, parts, label, "plot heat")
