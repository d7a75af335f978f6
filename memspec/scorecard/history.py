"""Scores, bytes and times over commits, from a folder of cards: one card (or file of cards) a commit.

Cards stand in the order of their commits' dates, else of when they were made. A step is a score whose difference from
the card before it, over paired trials, has an interval that leaves 0 out; times are followed on one machine at a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from memspec.errors import RecordError
from memspec.scorecard import record as records
from memspec.scorecard import svg
from memspec.scorecard.declared import prices
from memspec.scorecard.figures import figures
from memspec.scorecard.formatting import Line, number, two_digits
from memspec.scorecard.overview import machine_of, score_names
from memspec.scorecard.plots import HEIGHT, WIDTH, Figure, Key
from memspec.scorecard.record import Record
from memspec.scorecard.render import wrapped
from memspec.scorecard.score import rescore
from memspec.scorecard.side_by_side import rows
from memspec.scorecard.svg import Scale

SPARKS = "▁▂▃▄▅▆▇█"
LEAST = 0.02
"""What a score's axis spans at least."""
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 24, 40


@dataclass(frozen=True)
class Entry:
    """A card with its place in the history; ``date`` tells it apart from the others there, as far as time does."""

    card: Record
    when: datetime
    file: Path
    date: str = ""

    @property
    def commit(self) -> str:
        """The beginning of the commit's name; empty where the card does not tell."""
        return str(self.card.made.get("commit", ""))[:8]

    @property
    def label(self) -> str:
        """The commit, else the date."""
        return self.commit or self.date


@dataclass(frozen=True)
class Step:
    """A score that moved from one card to the next; ``interval`` (95%, paired) is of ``new - old``."""

    name: str
    at: int
    old: float
    new: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One number over the history: places of the cards that have it, its values and the ends of their intervals."""

    name: str
    description: str
    paid: bool
    at: list[int]
    values: list[float]
    low: list[float]
    high: list[float]
    machine: str = ""


@dataclass
class History:
    """One memory's cards in order, and what became of each number."""

    memory: str
    entries: list[Entry]
    scores: list[Series] = field(default_factory=list)
    paid: list[Series] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def read(folder: Path) -> list[History]:
    """The histories of all memories whose cards lie in a folder or below it, by name.

    Raises:
        RecordError: if it is no folder, holds no card, or holds a JSON file that says it is one and cannot be read.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder; give the folder that holds the cards of different commits")
    found: dict[str, list[Entry]] = {}
    for path in sorted(folder.rglob("*.json")):
        if '"memspec-scorecard/' not in _beginning(path):
            continue
        for card in records.load(path):
            if card.stopped != records.UNFINISHED:
                found.setdefault(card.name, []).append(Entry(rescore(card), _when(card, path), path))
    if not found:
        raise RecordError(
            f"{folder}: there is no card in it; runs with --memspec-scorecard=FOLDER/NAME.json write some"
        )
    return [history(name, sorted(mine, key=lambda e: (e.when, e.file))) for name, mine in sorted(found.items())]


def _beginning(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(200)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error


def _when(card: Record, path: Path) -> datetime:
    """When the commit was made, else the card, else (an older card does not tell) the file."""
    for told in (card.made.get("committed"), card.made.get("at")):
        try:
            at = datetime.fromisoformat(str(told))
        except ValueError:
            continue
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def history(memory: str, entries: Sequence[Entry]) -> History:
    """What became of each number of one memory."""
    out = History(memory, dated(entries))
    cards = [entry.card for entry in entries]
    for name in score_names(cards):
        has = [(i, one.scores[name]) for i, one in enumerate(cards) if name in one.scores]
        has = [(i, s) for i, s in has if math.isfinite(float(s["score"]))]
        if has:
            values = [float(s["score"]) for _, s in has]
            ends = [[float(end) for end in s["interval"]] for _, s in has]
            low, high = ([x if math.isfinite(x) else v for x, v in zip(side, values)] for side in zip(*ends))
            described = str(has[-1][1].get("description", ""))
            out.scores.append(Series(name, described, False, [i for i, _ in has], values, low, high))
    out.paid = list(_paid(cards))
    out.steps = list(_steps(cards))
    return out


DATES = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")


def dated(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with their dates: the day where one alone is of it, else the minute, else the second."""
    written = [Counter(f"{entry.when:{form}}" for entry in entries) for form in DATES]
    out = []
    for entry in entries:
        dates = [f"{entry.when:{form}}" for form in DATES]
        alone = (date for date, count in zip(dates, written) if count[date] == 1)
        out.append(replace(entry, date=next(alone, dates[-1])))
    return out


def _paid(cards: Sequence[Record]) -> Iterator[Series]:
    """Bytes, and times with a series for each machine."""
    machines = [machine_of(one) for one in cards]
    for experiment, figure in prices(cards):
        values = [figures(one, [(experiment, figure)])[figure.name].value for one in cards]
        for machine in dict.fromkeys(machines) if figure.price == "time" else [""]:
            has = [(i, v) for i, v in enumerate(values) if v is not None]
            has = [(i, v) for i, v in has if not machine or machines[i] == machine]
            if has:
                at, mine = [i for i, _ in has], [v for _, v in has]
                several = machine if len(set(machines)) > 1 else ""
                yield Series(figure.name, figure.description, True, at, mine, mine, mine, several)


def _steps(cards: Sequence[Record]) -> Iterator[Step]:
    """The scores that moved, in the order of the history."""
    for at, (old, new) in enumerate(pairwise(cards), start=1):
        if old.signature.get("seed") != new.signature.get("seed"):
            continue  # other streams: nothing is paired
        for row in rows(new, old):
            low, high = row.interval
            if not low <= 0 <= high and abs(row.new - row.old) >= 5e-4:
                yield Step(row.axis, at, row.old, row.new, row.interval)


# ---- shown ----------------------------------------------------------------------------------------------------


def terminal(histories: Sequence[History], width: int = 100) -> list[Line]:
    """A line for each number of each memory: its course, first and last, and then every step."""
    lines: list[Line] = []
    for one in histories:
        first, last = one.entries[0], one.entries[-1]
        verdicts = " ".join(entry.card.verdict.partition(" ")[0] for entry in one.entries[-8:])
        lines += [("", ""), (f"{one.memory}: {len(one.entries)} cards, {first.label} to {last.label}", "bold")]
        lines.append((f"  verdicts, latest last: {verdicts}", ""))
        names = max((len(s.name) for s in (*one.scores, *one.paid)), default=0) + 2
        for series in (*one.scores, *one.paid):
            ends = (series.values[0], series.values[-1])
            moved = " -> ".join(number(x) if series.paid else two_digits(x) for x in ends)
            where = f" ({series.machine})" if series.machine else ""
            lines.append((f"  {series.name:<{names}}{spark(series.values)}  {moved}{where}", ""))
        for step in one.steps:
            lines.append((f"  {_told(step, one)}", "red" if step.new < step.old else "green"))
    return wrapped(lines, width)


def _told(step: Step, one: History) -> str:
    low, high = step.interval
    way = "worse" if step.new < step.old else "better"
    return (
        f"{way} at {one.entries[step.at].label}: {step.name} {two_digits(step.old)} -> {two_digits(step.new)} "
        f"({low:+.3f} to {high:+.3f})"
    )


def spark(values: Sequence[float], most: int = 24) -> str:
    """The last values as bars between the least and the greatest of them."""
    shown = np.asarray(values[-most:])
    low, high = float(shown.min()), float(shown.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        return SPARKS[3] * shown.size
    return "".join(SPARKS[round((len(SPARKS) - 1) * (v - low) / (high - low))] for v in shown.tolist())


def page(histories: Sequence[History]) -> str:
    """The HTML text: for each memory its steps first, then a plot for each number."""
    from memspec.scorecard.pages import LIGHT, environment

    told = [(one, [(step, _told(step, one)) for step in one.steps], plots(one, i)) for i, one in enumerate(histories)]
    return (
        environment()
        .get_template("history.html")
        .render(told=told, slots=[(i, i) for i in range(len(LIGHT))], memories={"names": [], "picked": []})
    )


def plots(one: History, index: int) -> list[Figure]:
    """A figure for each score, and for each price; of times a line for each machine."""
    out = [_figure(one, [series], f"h{index}-{series.name}") for series in one.scores]
    for name in dict.fromkeys(series.name for series in one.paid):
        out.append(_figure(one, [series for series in one.paid if series.name == name], f"h{index}-{name}"))
    return out


def _figure(one: History, series: Sequence[Series], name: str) -> Figure:
    first = series[0]
    keys = [Key("line", f"m{i}", s.machine) for i, s in enumerate(series) if s.machine]
    drawn = plot(one, series)
    return Figure(name.replace(" ", "-"), "", first.name, first.description, [("", drawn)], keys)


def plot(one: History, series: Sequence[Series]) -> str:
    """One number over the cards, evenly spaced; a ring marks a step, with what moved."""
    first = series[0]
    values = np.array([x for s in series for x in (*s.low, *s.high, *s.values)])
    low, high = float(values.min()), float(values.max())
    if first.paid:
        low = 0.0
    if high - low < LEAST and not first.paid:  # rounding errors are no course
        low, high = (low + high - LEAST) / 2, (low + high + LEAST) / 2
    if high <= low:
        high = low + 1.0
    margin = 0.06 * (high - low)
    x = Scale(0.0, max(len(one.entries) - 1, 1), LEFT + 8, WIDTH - RIGHT - 6)
    y = Scale(low - (0.0 if first.paid else margin), high + margin, HEIGHT - BOTTOM, TOP)
    parts = list(_axes(one, x, y))
    for i, s in enumerate(series):
        px, py = x(np.array(s.at, dtype=float)), y(s.values)
        shade = f'<path class="r" d="{svg.area(px, y(s.low), y(s.high))}"/>' if s.low != s.values else ""
        line = svg.path(px, py) if len(s.at) > 1 else svg.path(np.repeat(px, 2), np.repeat(py, 2))
        parts.append(f'<g class="m{i}">{shade}<path class="l{" pts" if len(s.at) <= 40 else ""}" d="{line}"/></g>')
    for step in one.steps:
        if step.name == first.name and not first.paid:
            way = "worse" if step.new < step.old else "better"
            place = f'cx="{svg.place(float(x(step.at)))}" cy="{svg.place(float(y(step.new)))}"'
            parts.append(f'<circle class="step {way}" {place} r="7" data-tip="{svg.escaped(_told(step, one))}"/>')
    label = f"{first.name} of {one.memory} over {len(one.entries)} cards, last {number(first.values[-1])}"
    return svg.drawing(WIDTH, HEIGHT, parts, label, "plot")


def _axes(one: History, x: Scale, y: Scale) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    levels = svg.linear_ticks(y.low, y.high)
    yield f'<path class="grid" d="{"".join(f"M{LEFT} {svg.place(float(y(v)))}H{right}" for v in levels)}"/>'
    for value in levels:
        yield svg.text(LEFT - 6, float(y(value)) + 4, svg.tick_text(value), "end")
    last = len(one.entries) - 1
    shown = sorted({0, last} | ({last // 2} if last >= 4 else set()))
    for i in shown:
        kind = "mid" if 0 < i < last else "end" if i == last and last else ""
        at = float(x(i)) + (6 if kind == "end" else -8 if not kind else 0)
        entry = one.entries[i]
        lines = [entry.commit, entry.date] if entry.commit else entry.date.split(" ")
        for line, text in enumerate(lines):
            yield svg.text(at, bottom + 16 + 15 * line, text, f"{kind} soft".strip() if line else kind)
