"""How numbers, scores and names are written for people, wherever a record is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from memspec.scorecard.record import Record

Line = tuple[str, str]
"""Text, and the pytest markup it is shown in (``green``, ``red bold``, ...)."""

BAR = 10


def number(value: Any) -> str:
    """A number for people: three significant digits, whole numbers in full up to ten million; ``-`` for none."""
    if value is None:
        return "-"
    x = float(value)
    if not math.isfinite(x):
        return str(x)
    if abs(x) < 1e7 and (x == int(x) or abs(x) >= 1000):
        return f"{x:,.0f}"
    return f"{x:.3g}"


def amount(value: Any, unit: str) -> str:
    """A number with its unit; seconds in milliseconds or microseconds where people read those better."""
    if not unit or value is None or not math.isfinite(float(value)):
        return number(value)
    if unit == "s":
        prefixes = ((1.0, "s"), (1e3, "ms"), (1e6, "us"))
        factor, unit = next((pair for pair in prefixes if abs(float(value)) * pair[0] >= 1), prefixes[-1])
        return f"{number(float(value) * factor)} {unit}"
    return f"{number(value)} {unit}"


def share(effect: float) -> str:
    """The size of a move: a share in per cent, or how many times the old value."""
    size = abs(effect)
    return f"{size:.1%}" if size < 10 else f"{number(size)} times the old value" if math.isfinite(size) else "no bound"


def two_digits(score: float) -> str:
    """A score to two digits, without the sign of a negative zero."""
    return f"{round(float(score), 2) + 0.0:.2f}"


def bar(score: float) -> str:
    """Ten cells; a score outside 0..1 is marked by ``<`` or ``>`` at its end, not cut off silently."""
    if not math.isfinite(score):
        return "?" * BAR
    filled = round(BAR * min(max(score, 0.0), 1.0))
    cells = "█" * filled + "░" * (BAR - filled)
    if score < -0.005:
        return "<" + cells[1:]
    return cells[:-1] + ">" if score > 1.005 else cells


def clip(text: str, width: int) -> str:
    """At most ``width`` characters, cut between words."""
    return text if len(text) <= width else text[: width - 3].rpartition(" ")[0].rstrip(" ,;:(") + " ..."


def short_names(cards: Sequence[Record]) -> list[str]:
    """The plugs without their modules, where that tells as many apart; cards of one plug by day, commit or number."""
    full = [one.name for one in cards]
    short = [name.rpartition(":")[2] if "(" not in name else name.split(":", 1)[-1] for name in full]
    if len(set(short)) < len(set(full)):
        short = full
    return [_told_apart(cards, short, i) if short.count(name) > 1 else name for i, name in enumerate(short)]


def _told_apart(cards: Sequence[Record], names: Sequence[str], which: int) -> str:
    """A name that several cards have, with the first thing that tells all of them apart."""
    alike = [i for i, name in enumerate(names) if name == names[which]]
    for length, field in ((10, "at"), (8, "commit"), (16, "at")):
        told = [str(cards[i].made.get(field, ""))[:length].replace("T", " ") for i in alike]
        if all(told) and len(set(told)) == len(told):
            return f"{names[which]} ({told[alike.index(which)]})"
    return f"{names[which]} #{alike.index(which) + 1}"
