"""Plots of a record: the panels of :mod:`memspec.scorecard.panels`, drawn with matplotlib."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from memspec.scorecard.panels import Band, FloatArray, Panel, panels_of
from memspec.scorecard.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Okabe and Ito's palette: told apart by colour-blind readers too."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
COLUMNS = 3
WIDTH = 4.1
"""Of a panel, in inches."""

TINY = 1e-6
"""A logarithmic axis goes down to this share of its top: an exact answer's rounding errors are no finding."""


def figures(cards: Sequence[Record]) -> list[dict[str, str]]:
    """A figure for each experiment that has something to draw: ``title``, ``caption``, ``png`` (base64), ``width``."""
    out = []
    for experiment, panels in panels_of(cards).items():
        figure = draw(panels)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        left_out = max(p.left_out for p in panels)
        captions = [f"{p.metric}: {p.description}" for p in panels]
        if left_out:
            captions.append(f"{left_out} further settings or tasks are in the record")
        png = base64.b64encode(buffer.getvalue()).decode("ascii")
        width = f"{100 * min(COLUMNS, len(panels)) / COLUMNS:.0f}%"  # so that a panel has one size everywhere
        out.append({"title": experiment, "caption": "; ".join(captions), "png": png, "width": width})
    return out


def draw(panels: Sequence[Panel]) -> Figure:
    """All panels of an experiment in one figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    labels = {line.label for panel in panels for line in panel.lines}
    figure = Figure(figsize=(WIDTH * columns, 3.1 * rows + 0.12 * max(0, len(labels) - 4)), layout="constrained")
    FigureCanvasAgg(figure)
    handles: dict[str, Any] = {}
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw_panel(axes, panel)
        for handle, label in zip(*axes.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    if len(handles) > 1 or any(handles):
        named = {label: handle for label, handle in handles.items() if label}
        if named:
            longest = max(map(len, named))
            fitting = int(WIDTH * columns / (0.075 * longest + 0.6))  # inches: 8 point letters, handle and gap
            place: dict[str, Any] = {"loc": "outside lower center", "ncols": max(1, min(4, fitting))}
            figure.legend(named.values(), named.keys(), fontsize=8, frameon=False, **place)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    several = panel.several
    for band, owned in _apart(panel.bands):
        _draw_band(axes, band, COLOURS[band.memory % len(COLOURS)] if several and owned else "")
    for line in panel.lines:
        colour = COLOURS[(line.memory if several else line.group) % len(COLOURS)]
        dash = DASHES[line.group % len(DASHES)] if several else "-"
        sides = np.maximum(line.low, panel.low), np.minimum(line.high, panel.high)  # an interval may leave the range
        x, mean, low, high = _parted(line.x, line.mean, *sides)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        marker = "o" if line.x.size <= 12 else ""
        axes.plot(x, mean, color=colour, linestyle=dash, linewidth=1.6, marker=marker, markersize=3, label=line.label)
    axes.set_title(panel.metric, fontsize=9, loc="left", fontweight="bold")
    axes.set_xlabel(panel.x_label, fontsize=8)
    axes.set_ylabel(panel.y_label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _scales(axes, panel)


def _apart(bands: Sequence[Band]) -> list[tuple[Band, bool]]:
    """The bands, each once, and whether it belongs to one memory alone: what is asked of all alike is nobody's."""
    kept: dict[tuple[Any, ...], list[Band]] = {}
    for band in bands:
        kept.setdefault((band.theory, *(tuple(a) for a in (band.x, band.low, band.high))), []).append(band)
    out = []
    for mine in kept.values():
        owned = len({band.memory for band in mine}) == 1 and mine[0].memory >= 0
        out.append((mine[0] if owned else replace(mine[0], label=mine[0].label.partition(",")[0]), owned))
    return out


def _draw_band(axes: Axes, band: Band, colour: str) -> None:
    """A band where both sides are given; a dashed (theory) or dotted (other) line where one is. No colour is grey."""
    x, low, high = _parted(band.x, band.low, band.high)
    if np.isfinite(band.low).all() and np.isfinite(band.high).all():
        if band.x.size > 1:
            hatch = "////" if band.theory else None
            look: dict[str, Any] = {
                "facecolor": f"{colour}30" if colour else "#bbbbbb66",
                "edgecolor": f"{colour or '#999999'}99",
            }
            axes.fill_between(x, low, high, linewidth=0, hatch=hatch, label=band.label, **look)
        else:
            axes.vlines(
                band.x, band.low, band.high, color=colour or "#888888", alpha=0.5, linewidth=5, label=band.label
            )
        return
    for edge, side in ((low, "at least"), (high, "at most")):
        if np.isfinite(edge[np.isfinite(x)]).all():
            one_sided: dict[str, Any] = {
                "linestyle": "--" if band.theory else ":",
                "marker": "_" if band.x.size <= 12 else "",
            }
            axes.plot(x, edge, color=colour or "#444444", linewidth=1, label=f"{band.label} {side}", **one_sided)


def _parted(x: FloatArray, *columns: FloatArray) -> tuple[FloatArray, ...]:
    """The columns with a gap at 0 where an axis runs from -1 to +1 without it: lags have no lag 0."""
    place = int(np.searchsorted(x, 0.0))
    if 0 < place < x.size and x[place] > 0 and x[place - 1] == -x[place]:
        return tuple(np.insert(c, place, np.nan) for c in (x, *columns))
    return x, *columns


def _scales(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    x = np.concatenate([line.x for line in panel.lines])
    wide = x.min() > 0 and x.max() / x.min() >= 16
    if x.min() > 0 and (panel.x_scale == "log" or (panel.x_scale == "auto" and wide)):
        powers = np.log2(x)
        two = bool(np.allclose(powers, powers.round()))
        axes.set_xscale("log", base=2 if two else 10)
        if two:
            axes.xaxis.set_major_formatter("{x:g}")
    elif (x == x.round()).all() or x.max() > 10:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if math.isfinite(panel.low) and math.isfinite(panel.high):
        low = panel.low if panel.low >= 0 or min(line.low.min() for line in panel.lines) < 0 else 0.0
        margin = 0.04 * (panel.high - low)
        axes.set_ylim(low - margin, panel.high + margin)
        return
    y = np.concatenate([line.mean for line in panel.lines])
    edges = np.concatenate([y, *(side for band in panel.bands for side in (band.low, band.high))])
    edges = edges[np.isfinite(edges)]
    top, positive = edges.max(), edges[edges > 0]
    if panel.low == 0 and positive.size and top / positive.min() > 100:  # with a bound far off, too
        axes.set_yscale("log")
        axes.set_ylim(max(positive.min() / 2, TINY * top), 2 * top)
    elif panel.low == 0:
        axes.set_ylim(bottom=0)
    if panel.unit in ("s", "B"):
        axes.yaxis.set_major_formatter(EngFormatter(panel.unit))
    elif axes.get_yscale() == "linear" and (top >= 1e4 or 0 < top < 1e-2):
        axes.yaxis.set_major_formatter(EngFormatter())
