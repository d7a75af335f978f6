"""The results of a sweep as a page and for the terminal: leaderboard, curves with intervals over seeds, heat maps."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from memspec.scorecard import svg
from memspec.scorecard.formatting import number
from memspec.scorecard.pages import LIGHT, environment
from memspec.scorecard.plots import Figure, lines
from memspec.sweep.summary import Board, Heat, Results, short

if TYPE_CHECKING:
    import jinja2

CELL, GAP, TOP = 44, 46, 24
"""Sizes in a heat map: of a cell, and of what stands beside and above it."""
NARROWEST = 300
"""A small map is not blown up."""


def page(results: Results, metrics: Sequence[str] = ()) -> str:
    """The HTML text."""
    names = short(results.names)
    chosen = {sheet: results.metrics(sheet, metrics) for sheet in results.sheets}
    boards = [results.board(e, m) for e, some in chosen.items() for m in some[:1]]
    curves = [_curves(results, e, m) for e, some in chosen.items() for m in some]
    heats = [heat for e, some in chosen.items() for m in some if (heat := results.heat(e, m)) is not None]
    return (
        _environment()
        .get_template("sweep.html")
        .render(
            heads=names,
            boards=boards,
            curves=[figure for some in curves for figure in some],
            heats=[_heat_figure(heat, names) for heat in heats],
            failures=list(results.ended("fail")),
            skips=list(results.ended("skip")),
            notes=results.notes,
            signatures=results.signatures,
            cells=results.there,
            planned=results.frame.key.nunique(),
            seeds=results.frame.seed.nunique(),
            slots=list(zip(range(len(names)), range(len(LIGHT)))),
            memories={"names": names, "picked": list(range(min(len(names), len(LIGHT))))},
        )
    )


def terminal(results: Results, metrics: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The leaderboards as lines."""
    names = short(results.names)
    width = max(map(len, names)) + 2
    out: list[tuple[str, str]] = []
    for sheet in results.sheets:
        for metric in results.metrics(sheet, metrics)[:1]:
            board = results.board(sheet, metric)
            out.append((f"{sheet}: {metric}, {over(board)}", "bold"))
            for place, s in enumerate(board.standings, 1):
                said = "nothing in common" if math.isnan(s.mean) else number(s.mean)
                if not math.isnan(s.mean):
                    said += " (no interval)" if math.isnan(s.low) else f" [{number(s.low)}, {number(s.high)}]"
                bad = f"; {s.failed} failed" if s.failed else ""
                bad += f"; {s.skipped} cannot be measured" if s.skipped else ""
                bad += f"; {s.missing} missing" if s.missing else ""
                out.append((f"  {place:>2} {names[s.memory]:<{width}} {said}{bad}", "red" if s.failed else ""))
    out += [(f"failed: {count} cells: {why}: {cause}", "red") for why, cause, count, _, _ in results.ended("fail")]
    out += [(f"not measured: {count} cells: {cause}", "yellow") for _, cause, count, _, _ in results.ended("skip")]
    out += [(note, "yellow") for note in results.notes]
    return out


def over(board: Board) -> str:
    """What a leaderboard is taken over."""
    if board.settings == board.of:
        return "one setting" if board.of == 1 else f"mean over all {board.of} settings"
    if not board.settings:
        return f"no setting of {board.of} that all memories have"
    return f"mean over the {board.settings} of {board.of} settings that all memories have"


# ---- figures --------------------------------------------------------------------------------------------------


def _curves(results: Results, sheet: str, metric: str) -> list[Figure]:
    figures = []
    for count, panel in enumerate(results.panels(sheet, metric)):
        if not any(line.x.size > 1 for line in panel.lines):
            continue
        name = _id(f"{sheet}-{metric}-{count}")
        drawn = lines(panel, f"{panel.metric} over {panel.x_label}, {sheet}")
        figures.append(Figure(name, sheet, panel.metric, panel.description, [("", drawn)]))
    return figures


def _heat_figure(heat: Heat, names: Sequence[str]) -> Figure:
    name = _id(f"heat-{heat.sheet}-{heat.metric}")
    drawings = [(names[memory], heat_map(heat, memory)) for memory in sorted(heat.values)]
    title = f"{heat.metric.replace('_', ' ')} over {said(heat.row)} and {said(heat.column)}"
    pooled = f"; mean over {', '.join(map(said, heat.over))}" if heat.over else ""
    return Figure(name, heat.sheet, title, heat.what.description + pooled, drawings)


def _id(text: str) -> str:
    """Text as the id of an element."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text)


def said(name: str) -> str:
    """A setting's name in words."""
    return name.replace("_", " ")


def heat_map(heat: Heat, memory: int) -> str:
    """One memory's means: a row for each value of one setting, a column for each of the other."""
    values = heat.values[memory]
    low, high, log = strength_range(heat)
    parts = [svg.text(2, 12, said(heat.row), "soft")]
    for i, (row, at) in enumerate(zip(values, heat.rows)):
        y = TOP + CELL * i
        parts.append(svg.text(GAP - 6, y + CELL / 2 + 4, f"{at:g}", "end"))
        for j, value in enumerate(row):
            parts += _cell(value, strength(value, low, high, log), GAP + CELL * j, y)
    bottom = TOP + CELL * len(values)
    for j, at in enumerate(heat.columns):
        parts.append(svg.text(GAP + CELL * (j + 0.5), bottom + 16, f"{at:g}", "mid"))
    parts.append(svg.text(GAP + CELL * len(heat.columns) / 2, bottom + 32, said(heat.column), "mid soft"))
    label = f"{heat.metric} over {said(heat.row)} and {said(heat.column)}"
    width = max(GAP + CELL * len(heat.columns) + 6, NARROWEST)
    return svg.drawing(width, bottom + 40, parts, label, "plot heat")


def _cell(value: float, depth: float, x: float, y: float) -> list[str]:
    box = f'<rect class="cell" x="{svg.place(x)}" y="{svg.place(y)}" width="{CELL}" height="{CELL}" style="fill-opacity:{depth:.2f}"/>'
    text = short_number(value)
    return [box, svg.text(x + CELL / 2, y + CELL / 2 + 4, text, "mid on" if depth > 0.55 else "mid")]


def strength_range(heat: Heat) -> tuple[float, float, bool]:
    """Between which numbers a cell goes from white to dark, the same for all memories; logarithmic where they span much."""
    seen = [v for rows in heat.values.values() for row in rows for v in row if math.isfinite(v)]
    if not seen:
        return 0.0, 1.0, False
    if heat.what.bounded:
        return max(heat.what.low, min(0.0, *seen)), heat.what.high, False
    positive = [v for v in seen if v > 0]
    if positive and min(seen) >= 0 and max(positive) / min(positive) > 100:  # what is 0 is as light as the least
        return max(min(positive), 1e-6 * max(positive)), max(positive), True
    return min(seen), max(seen), False


def strength(value: float, low: float, high: float, log: bool) -> float:
    """How dark a cell is, 0 to 1."""
    if not math.isfinite(value) or high <= low:
        return 0.0
    if log:
        value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def short_number(value: float) -> str:
    """A number that fits a cell."""
    if not math.isfinite(value):
        return ""
    if value == 0 or 0.005 <= abs(value) < 100:
        return f"{value:.2f}".removesuffix(".00") if abs(value) < 9.995 else f"{value:.3g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


@cache
def _environment() -> jinja2.Environment:
    """The templates of cards, and the one of sweeps."""
    import jinja2

    shared = environment()
    loaders = [jinja2.PackageLoader("memspec.sweep", "templates"), shared.loader]
    found: jinja2.Environment = shared.overlay(loader=jinja2.ChoiceLoader([one for one in loaders if one is not None]))
    found.globals |= {"over": over}
    return found
