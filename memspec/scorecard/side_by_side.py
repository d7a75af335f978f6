"""Two cards side by side, one line an axis: old score, new score, and the difference with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memspec.scorecard.formatting import Line, two_digits
from memspec.scorecard.record import Record
from memspec.scorecard.score import per_trial, pooled_interval


@dataclass(frozen=True)
class Row:
    """One score of both; ``interval`` (95%, over paired trials) is of ``new - old``."""

    axis: str
    old: float
    new: float
    interval: tuple[float, float]


def rows(new: Record, old: Record) -> Iterator[Row]:
    """The scores that both have, in the new card's order."""
    for axis, mine in new.scores.items():
        theirs = old.scores.get(axis)
        if theirs is None:
            continue
        span = float(mine["ceiling"]) - float(mine["floor"])
        sides = []
        for one in (new, old):
            blocks = {b["setting"]: b for b in one.blocks if b["experiment"] == mine["experiment"]}
            sides.append({s: per_trial(blocks[s]["metrics"][mine["metric"]]) for s in mine["settings"] if s in blocks})
        differences = []
        for setting in sides[0].keys() & sides[1].keys():
            a, b = sides[0][setting], sides[1][setting]
            if a is not None and b is not None and min(a.size, b.size):
                differences.append(a[: min(a.size, b.size)] - b[: min(a.size, b.size)])
        low, high = pooled_interval(differences) if differences else (float("-inf"), float("inf"))
        ends = sorted((low / span, high / span))
        yield Row(axis, float(theirs["score"]), float(mine["score"]), (ends[0], ends[1]))


def side_by_side(new: Record, old: Record) -> list[Line]:
    """The rows as text."""
    found = list(rows(new, old))
    if not found:
        return []
    width = max(len(row.axis) for row in found) + 2
    lines: list[Line] = [("", ""), (f"  {'score':<{width}}{'old':>6}{'new':>7}  difference (95%, paired)", "bold")]
    for row in found:
        low, high = row.interval
        style = "red" if high < 0 else "green" if low > 0 else ""
        ends = f"({low:+.3f} to {high:+.3f})" if low > float("-inf") else "(too few trials)"
        text = f"  {row.axis:<{width}}{two_digits(row.old):>6}{two_digits(row.new):>7}  {row.new - row.old:+.3f} {ends}"
        lines.append((text, style))
    return lines
