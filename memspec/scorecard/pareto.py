"""What is paid for what is recalled: every memory a point, and the line of those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence

from memspec.scorecard import svg
from memspec.scorecard.declared import prices
from memspec.scorecard.formatting import short_names
from memspec.scorecard.overview import RECALL, Point, frontier, picked, points
from memspec.scorecard.plots import Figure, Key
from memspec.scorecard.record import Record
from memspec.scorecard.svg import Scale

WIDTH, HEIGHT = 420, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 24, 42
LETTER = 7.0
"""Width of a letter of a label, in units."""

PLOTS = (
    ("recall-bytes", "recall against bytes of state", "bytes", "bytes of state", "B"),
    ("recall-time", "recall against time", "time", "time to store a pair and to answer a query", "s"),
)
"""Name and title of each plot, what is paid, how the axis says it, and its unit."""


def paretos(cards: Sequence[Record]) -> list[Figure]:
    """Recall against bytes and against time, where at least two memories have both."""
    names, out = short_names(cards), []
    shown = picked(cards)
    for name, title, kind, label, unit in PLOTS:
        found = points(cards, kind)
        paid = ", and ".join(figure.description for _, figure in prices(cards) if figure.price == kind)
        if len(found) < 2:
            continue
        description = next(str(one.scores[RECALL].get("description", "")) for one in cards if RECALL in one.scores)
        keys = [Key("frontier", "", "no other recalls more for less")]
        drawn = pareto(found, names, label, unit, title, shown)
        out.append(Figure(name, "", title, f"Recall: {description}. Price: {paid}", [("", drawn)], keys))
    return out


def pareto(
    found: Sequence[Point], names: Sequence[str], label: str, unit: str, title: str, shown: Sequence[int] = ()
) -> str:
    """The plot: cost to the right (logarithmic where it spans much), recall upwards, labels where there is room.

    Memories in ``shown`` lie above the others.
    """
    costs = [p.cost for p in found]
    log = max(costs) / min(costs) >= 16
    low, high = (min(costs) / 1.6, max(costs) * 1.6) if log else (0.0, 1.1 * max(costs))
    x = Scale(low, high, LEFT, WIDTH - RIGHT, log)
    bottom, top = min(0.0, *(p.recall for p in found)), max(1.0, *(p.recall for p in found))
    y = Scale(bottom - 0.03, top + 0.05, HEIGHT - BOTTOM, TOP)
    best = frontier(found)
    parts = list(_axes(x, y, label, unit))
    start = f"M{svg.place(float(x(best[0].cost)))} {HEIGHT - BOTTOM}"
    steps = "".join(f"H{svg.place(float(x(p.cost)))}V{svg.place(float(y(p.recall)))}" for p in best)
    parts.append(f'<path class="frontier" d="{start}{steps}H{WIDTH - RIGHT}"/>')
    taken = [(float(x(p.cost)) - 5, float(y(p.recall)) - 5, 10.0, 10.0) for p in found]
    marks = {
        point.memory: _point(point, names[point.memory], x, y, taken, best=point in best)
        for point in [*best, *sorted((p for p in found if p not in best), key=lambda p: p.memory not in shown)]
    }
    parts += [marks[memory] for memory in sorted(marks, key=lambda memory: memory in shown)]
    return svg.drawing(WIDTH, HEIGHT, parts, f"{title}: {len(found)} memories", "plot pareto")


def _axes(x: Scale, y: Scale, label: str, unit: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    levels = svg.linear_ticks(y.low, y.high)
    columns = svg.log_ticks(x.low, x.high) if x.log else svg.linear_ticks(x.low, x.high)
    grid = "".join(f"M{LEFT} {svg.place(float(y(v)))}H{right}" for v in levels)
    grid += "".join(f"M{svg.place(float(x(v)))} {TOP}V{bottom}" for v in columns)
    return [
        f'<path class="grid" d="{grid}"/>',
        *(svg.text(LEFT - 6, float(y(v)) + 4, svg.tick_text(v), "end") for v in levels),
        *(svg.text(float(x(v)), bottom + 16, svg.tick_text(v, unit), "mid") for v in columns),
        svg.text(4, 13, "recall (score)", "soft"),
        svg.text((LEFT + right) / 2, HEIGHT - 6, label, "mid soft"),
    ]


Box = tuple[float, float, float, float]
PLACES = ((8, 4, ""), (-8, 4, "end"), (0, -9, "mid"), (0, 17, "mid"), (7, 16, ""), (-7, -8, "end"))
"""Where a name may stand beside its dot, and how it is aligned there."""


def _point(point: Point, name: str, x: Scale, y: Scale, taken: list[Box], *, best: bool) -> str:
    """The mark of a memory with its interval, and its name where there is room.

    The names of the ``best`` stay shown, if need be above dots.
    """
    px, py = float(x(point.cost)), float(y(point.recall))
    high, low = float(y(point.high)), float(y(point.low))
    whisker = (
        f'<path class="whisker" d="M{svg.place(px)} {svg.place(low)}V{svg.place(high)}"/>' if low - high > 9 else ""
    )
    dot = f'<path class="l pts dot" d="M{svg.place(px)} {svg.place(py)}h0"/>'
    label, width = "", LETTER * len(name)
    own = (px - 5, py - 5, 10.0, 10.0)
    labels = [box for box in taken if box[2] != 10.0]
    near = [box for box in taken if box[2] == 10.0 and not _overlap(box, own)]  # a dot under this one hides nothing
    tries = [(place, [*labels, *near]) for place in PLACES] + [(place, labels) for place in reversed(PLACES) if best]
    for (dx, dy, kind), others in tries:
        left = px + dx - (width if kind == "end" else width / 2 if kind == "mid" else 0)
        box = (left, py + dy - 10, width, 12.0)
        inside = left >= LEFT and left + width <= WIDTH - 2 and box[1] >= TOP and box[1] + 12 <= HEIGHT - BOTTOM
        if inside and not any(_overlap(box, other) for other in others):
            taken.append(box)
            label = svg.text(px + dx, py + dy, name, f"name {kind}{'' if best else ' own'}".strip())
            break
    return f'<g class="m{point.memory}">{whisker}{dot}{label}</g>'


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
