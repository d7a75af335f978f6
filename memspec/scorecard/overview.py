"""A card at a glance: its profile, several memories as one leaderboard, and what is paid for what is recalled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memspec.scorecard.declared import prices
from memspec.scorecard.figures import figures
from memspec.scorecard.formatting import number, two_digits
from memspec.scorecard.record import VERDICTS, Record
from memspec.scorecard.sentences import finite_scores

FARTHEST = (-0.5, 1.6)
"""A profile goes no farther beyond its anchors; what does is shown at the edge, with its number."""


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: ``name`` is its heading; ``less``: a price, of which less is better."""

    name: str
    description: str
    less: bool = False


@dataclass(frozen=True)
class Cell:
    """One number of the leaderboard, None where it was not measured, and how it is written."""

    value: float | None
    text: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Mark:
    """One memory's score on the profile: places are shares of the track, in per cent."""

    memory: int
    score: float
    low: float
    high: float
    at: float
    start: float
    end: float
    beyond: bool


@dataclass(frozen=True)
class Row:
    """One score of the profile."""

    name: str
    description: str
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Profile:
    """Every score of some memories; ``zero`` and ``one`` are the places of the anchors on the track, in per cent."""

    rows: Sequence[Row]
    zero: float
    one: float


# ---- the profile ----------------------------------------------------------------------------------------------


def profile(cards: Sequence[Record]) -> Profile:
    """Every score of every memory, with its interval, between the anchors."""
    found = [
        (name, memory, one.scores[name])
        for name in score_names(cards)
        for memory, one in enumerate(cards)
        if name in one.scores
    ]
    ends = [float(x) for _, _, s in found for x in (s["score"], *s["interval"]) if math.isfinite(float(x))]
    low = max(min([-0.06, *ends]), FARTHEST[0])
    high = min(max([1.06, *ends]), FARTHEST[1])

    def place(x: float) -> float:
        return round(100 * (min(max(x, low), high) - low) / (high - low), 2)

    rows: dict[str, Row] = {}
    for name, memory, score in found:
        value, (start, end) = float(score["score"]), (float(x) for x in score["interval"])
        if not math.isfinite(value):
            continue
        start, end = (x if math.isfinite(x) else value for x in (start, end))
        row = rows.setdefault(name, Row(name, str(score.get("description", "")), []))
        mark = Mark(memory, value, start, end, place(value), place(start), place(end), not low <= value <= high)
        rows[name] = Row(name, row.description, [*row.marks, mark])
    return Profile(list(rows.values()), place(0.0), place(1.0))


def score_names(cards: Sequence[Record]) -> list[str]:
    """The scores that any of the cards has, in their order."""
    return list(dict.fromkeys(name for one in cards for name in one.scores))


# ---- the leaderboard ------------------------------------------------------------------------------------------


def leaderboard(cards: Sequence[Record]) -> tuple[list[Column], list[list[Cell]]]:
    """The columns, and for each card its cells: every score, then what is paid in bytes and time."""
    names, paid = score_names(cards), prices(cards)
    columns = [Column(name, _described(cards, name)) for name in names]
    rows = [[_cell(one, name) for name in names] for one in cards]
    costs = [figures(one, paid) for one in cards]
    for _, figure in paid:
        values = [cost[figure.name].value for cost in costs]
        if any(value is not None for value in values):
            columns.append(Column(figure.name, figure.description, less=True))
            for row, value in zip(rows, values):
                row.append(Cell(value, "–" if value is None else number(value)))
    return columns, rows


def _cell(one: Record, name: str) -> Cell:
    score = one.scores.get(name)
    if score is None or not math.isfinite(float(score["score"])):
        return Cell(None, "–")
    low, high = (float(end) for end in score["interval"])
    return Cell(float(score["score"]), two_digits(score["score"]), (low, high))


def _described(cards: Sequence[Record], name: str) -> str:
    return next(str(one.scores[name].get("description", "")) for one in cards if name in one.scores)


# ---- what is paid for what is recalled ------------------------------------------------------------------------

RECALL = "capacity"
"""The score that stands for recall."""


@dataclass(frozen=True)
class Point:
    """A memory by what it costs and how well it recalls; ``low`` and ``high`` are the interval of ``recall``."""

    memory: int
    cost: float
    recall: float
    low: float
    high: float


def points(cards: Sequence[Record], kind: str) -> list[Point]:
    """The cards that have both; the price is all that is paid in this kind, ``bytes`` or ``time``, in B or s."""
    paid = [(experiment, figure) for experiment, figure in prices(cards) if figure.price == kind]
    out = []
    for memory, one in enumerate(cards):
        score, found = one.scores.get(RECALL), figures(one, paid)
        parts = [found[figure.name].value for _, figure in paid]
        price = sum(part / figure.factor for part, (_, figure) in zip(parts, paid) if part is not None)
        if score is None or None in parts or not price > 0:
            continue
        value, (low, high) = float(score["score"]), (float(end) for end in score["interval"])
        low, high = (end if math.isfinite(end) else value for end in (low, high))
        out.append(Point(memory, price, value, low, high))
    return out


def frontier(found: Iterable[Point]) -> list[Point]:
    """Those that no other beats in both: none is as cheap and recalls as much; by cost."""
    out: list[Point] = []
    for point in sorted(found, key=lambda p: (p.cost, -p.recall)):
        if not out or point.recall > out[-1].recall:
            out.append(point)
    return out


PICKS = 12
"""So many memories are told apart by colour."""


def picked(cards: Sequence[Record]) -> list[int]:
    """Which memories are shown in colour until the reader picks others: all, or some that span what there is."""
    if len(cards) <= PICKS:
        return list(range(len(cards)))
    recall = {i: finite_scores(one).get(RECALL, -math.inf) for i, one in enumerate(cards)}
    ranked = sorted(recall, key=lambda i: -recall[i])
    best = [point.memory for point in frontier(points(cards, "bytes"))]
    families = {str((cards[i].memory.get("spec") or {}).get("family")): i for i in reversed(ranked)}  # the best of each
    chosen = [*best[:: max(1, math.ceil(len(best) / 3))], *sorted(families.values(), key=ranked.index), *ranked]
    return list(dict.fromkeys(chosen))[:6]


def machine_of(one: Record) -> str:
    """Where a card was made, in a few words."""
    parts = [str(one.machine.get("processor") or "unknown processor"), f"{number(one.machine.get('cores'))} cores"]
    return ", ".join(parts + ([str(one.machine["cuda"])] if one.machine.get("cuda") else []))


def best(column: Column, cells: Iterable[Cell]) -> str:
    """The best number of a column, as it is written; what differs out of sight is no better, nor is one alone."""
    sign = 1.0 if column.less else -1.0
    known = [cell for cell in cells if cell.value is not None]
    return min(known, key=lambda cell: sign * (cell.value or 0.0)).text if len(known) > 1 else ""


def ranked(columns: Sequence[Column], cells: Sequence[Sequence[Cell]], by: int) -> list[int]:
    """The memories' places, best of the column ``by`` first; those without a number in it come last."""
    if not columns:
        return list(range(len(cells)))
    sign = 1.0 if columns[by].less else -1.0

    def key(memory: int) -> tuple[bool, float]:
        value = cells[memory][by].value
        return value is None, 0.0 if value is None else sign * value

    return sorted(range(len(cells)), key=key)


def verdicts(cards: Sequence[Record]) -> dict[str, int]:
    """How many cards have which verdict, worst first."""
    words = [one.verdict.partition(" ")[0] for one in cards]
    return {word: words.count(word) for word in VERDICTS if word in words}


def verdict_word(one: Record) -> str:
    """The verdict in a table's cell: with the number of failures, and with what the baseline says against it."""
    word = one.verdict.partition(" ")[0]
    parts = [f"{word} {one.counts['fail']}" if word == "fail" else word]
    gate = one.gate.get("verdict", "")
    if gate in ("worse", "inconclusive", "not comparable") and gate != word:
        parts.append(f"baseline: {gate}")
    return ", ".join(parts)


def made(one: Record) -> str:
    """When a card was made, and of which commit; empty where it does not tell."""
    at, commit = str(one.made.get("at", ""))[:16].replace("T", " "), str(one.made.get("commit", ""))[:10]
    changed = " with changes" if one.made.get("changed") else ""
    return ", ".join(part for part in (at, f"commit {commit}{changed}" if commit else "") if part)
