"""One plot of the page as a file of its own, for a document: an SVG with its style, its title and its keys inside."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memspec.errors import UsageProblem
from memspec.scorecard import overview, svg
from memspec.scorecard.formatting import short_names
from memspec.scorecard.overview import RECALL
from memspec.scorecard.pages import DARK, LIGHT, MARKERS
from memspec.scorecard.pareto import PLOTS, paretos
from memspec.scorecard.plots import Figure, figures
from memspec.scorecard.record import Record

HEAD = 30
ROW = 18
LETTER = 6.8
"""Width of a letter of a key, in units."""

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
.title { font-size: 14px; font-weight: 600; } .soft { fill: var(--soft); } .end { text-anchor: end; } .mid { text-anchor: middle; }
.paper { fill: var(--paper); } .grid { stroke: var(--line); fill: none; }
.l { fill: none; stroke: var(--c, var(--mute)); stroke-width: var(--w, 1); opacity: var(--o, .45); } .pts { marker: var(--k, none); }
.d1 { stroke-dasharray: 6 3; } .d2 { stroke-dasharray: 2 2; } .d3 { stroke-dasharray: 8 2 2 2; } .r { fill: var(--c, none); opacity: .17; }
.dot { stroke-width: 8; stroke-linecap: round; marker: none; } .whisker { stroke: var(--c, var(--mute)); opacity: var(--o, .5); }
.b { fill: var(--c, var(--mute)); fill-opacity: .13; stroke: var(--c, var(--mute)); } .edge { fill: none; } .theory { stroke-dasharray: 5 3; }
.required { stroke-dasharray: 1.5 2.5; } .upright { fill: none; stroke-width: 6; } .name { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; } .own { display: var(--d, none); }
.frontier { fill: none; stroke: var(--soft); stroke-dasharray: 3 3; } .cell { fill: var(--heat); stroke: var(--line); stroke-width: .5; } .on { fill: var(--paper); }
"""
COLOURS = (
    ("--paper: #fff; --ink: #1b2330; --soft: #566173; --line: #d9dfe6; --mute: #8b95a3; --heat: #0b3d73;", LIGHT),
    ("--paper: #161b22; --ink: #e6edf3; --soft: #a3adb9; --line: #343b44; --mute: #77818d; --heat: #8ecbff;", DARK),
)


def picture(cards: Sequence[Record], name: str | None = None) -> str:
    """The SVG text of one plot.

    Args:
        cards: the memories on it.
        name: of the plot, as the page's links have it; by default the first: recall against bytes of state, if several.

    Raises:
        UsageProblem: if the page has no plot of this name, or none that is one drawing.
    """
    known = [*(paretos(cards) if len(cards) > 1 else []), *figures(cards)]
    found = [one for one in known if len(one.drawings) == 1 and name in (None, one.name)]
    if not found:
        if name in [plot for plot, *_ in PLOTS]:
            raise UsageProblem(
                f"--plot {name}: it needs two cards or more that have the score {RECALL} and its price; cards of a "
                "selection lack what was not run"
            )
        raise UsageProblem(
            f"--plot {name}: there are {', '.join(one.name for one in known) or 'no plots on this page'}"
        )
    shown = overview.picked(cards) if len(cards) > 1 else list(range(len(LIGHT)))
    named = [] if len(cards) == 1 or "pareto" in found[0].drawings[0][1] else shown
    heads = short_names(cards)
    return drawn(found[0], shown, [(memory, heads[memory]) for memory in named])


def drawn(figure: Figure, shown: Sequence[int], named: Sequence[tuple[int, str]]) -> str:
    """The figure with a title above and, below, a key for each memory in ``named`` and each kind of line."""
    inner = figure.drawings[0][1]
    size = re.match(r'<svg viewBox="0 0 (\d+) (\d+)"', inner)
    assert size is not None
    width, height = int(size[1]), int(size[2])
    keys = [(f"m{memory}", "l pts", head) for memory, head in named]
    keys += [
        (key.look if key.kind == "line" else "", f"{'l' if key.kind == 'line' else 'b'} {key.kind}", key.label)
        for key in figure.keys
        if key.kind != "frontier"
    ]
    placed, x, y = [], 8.0, HEAD + height + 14.0
    for owner, look, label in keys:
        room = 34 + LETTER * len(label)
        if x + room > width and x > 8:
            x, y = 8.0, y + ROW
        mark = f'<path class="{look}" d="M{svg.place(x)} {svg.place(y - 4)}h11h11"/>'
        placed.append(f'<g class="{owner}">{mark}</g>{svg.text(x + 28, y, label)}')
        x += room
    total = int(y) + 10 if placed else HEAD + height
    owners = "".join(
        f".m{memory}{{--c:var(--p{i});--w:1.8;--o:1;--d:inline;--k:url(#k{i})}}" for i, memory in enumerate(shown)
    )
    markers = "".join(
        f'<marker id="k{i}" viewBox="-6 -6 12 12" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse">'
        f'<path d="{path}" style="fill:var(--{"paper" if hollow else f"p{i}"});stroke:var(--p{i});stroke-width:1.8"/></marker>'
        for i, (path, hollow) in enumerate(MARKERS)
    )
    light, dark = (f":root {{ {rest} {''.join(f'--p{i}: {c}; ' for i, c in enumerate(cs))}}}" for rest, cs in COLOURS)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{2 * width}" height="{2 * total}" '
        f'role="img" aria-label="{svg.escaped(figure.title)}"><style>{light}\n'
        f"@media (prefers-color-scheme: dark) {{ {dark} }}\n{STYLE}{owners}</style><defs>{markers}</defs>"
        f'<rect class="paper" width="{width}" height="{total}" rx="6"/>'
        f"{svg.text(8, 20, figure.title, 'title')}"
        f'<svg x="0" y="{HEAD}" width="{width}" height="{height}"{inner.removeprefix("<svg")}{"".join(placed)}</svg>\n'
    )
