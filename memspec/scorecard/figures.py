"""Key figures: the handful of numbers that papers quote, from a record's raw rows.

Which they are is declared beside each experiment (:class:`memspec.metrics.KeyFigure`). Pure functions of a record's
blocks, like scores: a saved record can be summed up again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspec.judging.statistics import mean_interval
from memspec.metrics import KeyFigure
from memspec.scorecard.declared import key_figures
from memspec.scorecard.formatting import number, short_names, two_digits
from memspec.scorecard.record import Record
from memspec.scorecard.score import per_trial


@dataclass(frozen=True)
class Figure:
    """One number with its interval, or None where it was not measured."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    description: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "description": self.description}


def figures(record: Record, declared: Sequence[tuple[str, KeyFigure]] | None = None) -> dict[str, Figure]:
    """Every key figure by name, in the order of the table; ``value`` None where its experiment did not run.

    Args:
        record: what was measured.
        declared: experiment and figure of each column; by default those of all experiments known or measured.
    """
    chosen = key_figures([record]) if declared is None else declared
    return {figure.name: _figure(record, experiment, figure) for experiment, figure in chosen}


Sample = tuple[Mapping[str, Any], NDArray[np.float64]]


def _figure(record: Record, experiment: str, wanted: KeyFigure) -> Figure:
    samples = list(_samples(record, experiment, wanted))
    value, low, high = _reduced(wanted, samples) if samples else (None, None, None)
    value, low, high = (None if x is None else x * wanted.factor for x in (value, low, high))
    return Figure(wanted.name, value, low, high, wanted.description)


def _samples(record: Record, experiment: str, wanted: KeyFigure) -> list[Sample]:
    """The fields and the values ``[T]`` of every setting that the figure is taken from."""
    found = []
    for block in record.blocks:
        if block["experiment"] != experiment or wanted.metric not in block["metrics"]:
            continue
        fields = block.get("fields", {})
        if wanted.setting and block["setting"] != _filled(wanted.setting, fields):
            continue
        values = per_trial(block["metrics"][wanted.metric], None if wanted.at is None else (wanted.at,))
        if values is not None and np.isfinite(values).any():
            found.append((fields, values))
    return found


def _filled(setting: str, fields: Mapping[str, Any]) -> str | None:
    """The name of a setting with these fields; None where the ones that it is made of are missing."""
    try:
        return setting.format(**fields)
    except (KeyError, ValueError, TypeError):
        return None


def _reduced(wanted: KeyFigure, samples: Sequence[Sample]) -> tuple[float, float | None, float | None]:
    """The number and its interval, where it has one."""
    if wanted.of == "median":
        return float(np.nanmedian(samples[0][1])), None, None
    if wanted.of == "best":
        return max(float(values.mean()) for _, values in samples), None, None
    if wanted.of == "reach":
        from memspec.experiments.curves import n95

        shares = all(((values >= 0) & (values <= 1)).all() for _, values in samples)
        if not shares or not all(isinstance(fields.get(wanted.along), (int, float)) for fields, _ in samples):
            return math.nan, None, None  # not what the figure is made of: nothing can be said of where they end
        levels = sorted((fields[wanted.along], values) for fields, values in samples)
        best = n95([at for at, _ in levels], [values for _, values in levels], wanted.level)
        return best.estimate, best.low, best.high
    interval = mean_interval(samples[0][1])
    return interval.mean, interval.low, interval.high


def table(cards: Sequence[Record]) -> str:
    """The cards side by side as a Markdown table, one row a memory; an en dash where nothing was measured."""
    declared = key_figures(cards)
    rows = [figures(card, declared) for card in cards]
    names = list(rows[0]) if rows else []
    lines = [
        "| memory | family | verdict | " + " | ".join(names) + " |",
        "|---|---|---|" + "---:|" * len(names),
    ]
    for card, short, row in zip(cards, short_names(cards), rows):
        cells = ["–" if row[n].value is None else number(row[n].value) for n in names]
        family = (card.memory.get("spec") or {}).get("family", "–")  # a memory that was refused has declared nothing
        lines.append(f"| {short} | {family} | {card.verdict} | " + " | ".join(cells) + " |")
    meanings = [f"* **{f.name}**: {f.description}" for f in (rows[0].values() if rows else ())]
    return "\n".join([*lines, "", *meanings, ""])


def scores(cards: Sequence[Record]) -> str:
    """The scores of cards as a Markdown table, one row a score, one column a memory; an en dash where there is none."""
    names = list(dict.fromkeys(name for card in cards for name in card.scores))
    lines = ["| score | " + " | ".join(short_names(cards)) + " |", "|---|" + "---:|" * len(cards)]
    for name in names:
        cells = [two_digits(card.scores[name]["score"]) if name in card.scores else "–" for card in cards]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])
