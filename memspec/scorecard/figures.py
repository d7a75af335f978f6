"""Key figures: the handful of numbers that papers quote, from a record's raw rows.

Pure functions of a record's blocks, like scores: a saved record can be summed up again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspec.scorecard.record import Record, values_of
from memspec.scorecard.score import per_trial

LOADS = (8, 32, 128, 256)
"""The four loads of the side-by-side table; 64 is the key width, 128 the capacity."""


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


def figures(record: Record) -> dict[str, Figure]:
    """Every key figure by name, in the order of the table; ``value`` None where its experiment did not run."""
    found = [
        *(_recall(record, n) for n in LOADS),
        _n95(record),
        _most_bits(record),
        _mean(record, "forgetting", "forgetting.two_tasks", "random-n64", "forgetting", "A1 - A2, 64 pairs a task"),
        _mean(record, "half-life", "forgetting.retention", None, "half_life", "writes until retention has halved"),
        _mean(record, "temporal factor", "contiguity.free_recall", None, "temporal_factor", "chance .5, people .70"),
        _mean(record, "sigma50", "robustness.noise", None, "sigma50", "key noise at which recall of 32 pairs halves"),
        _cost(record, "update us", "update_seconds", 1e6, "microseconds a pair, 128 stored"),
        _cost(record, "query us", "query_seconds", 1e6, "microseconds a query, 128 stored"),
        _cost(record, "state KiB", "state_bytes", 1 / 1024, "state after 128 writes"),
    ]
    return {figure.name: figure for figure in found}


def _blocks(record: Record, experiment: str, setting: str | None = None) -> list[Mapping[str, Any]]:
    return [b for b in record.blocks if b["experiment"] == experiment and setting in (None, b["setting"])]


def _mean(record: Record, name: str, experiment: str, setting: str | None, metric: str, meaning: str) -> Figure:
    from memspec.judging.statistics import mean_interval

    for block in _blocks(record, experiment, setting):
        sample = per_trial(block["metrics"][metric]) if metric in block["metrics"] else None
        if sample is not None and sample.size:
            interval = mean_interval(sample)
            return Figure(name, interval.mean, interval.low, interval.high, meaning)
    return Figure(name, None, description=meaning)


def _recall(record: Record, n: int) -> Figure:
    return _mean(record, f"recall {n}", "capacity.load", f"n{n}", "recall_cosine", f"recall of {n} pairs, d = 64")


def _n95(record: Record) -> Figure:
    """Largest load of the grid with recall of at least .95 up to it; the interval by Wilson bounds."""
    from memspec.experiments.curves import n95

    meaning = "largest load with recall >= .95 up to it"
    recalls: dict[int, NDArray[np.float64]] = {
        int(b["fields"]["n"]): values_of(b["metrics"]["recall_cosine"])
        for b in _blocks(record, "capacity.load")
        if b["setting"] == f"n{b['fields']['n']}"
    }
    if not recalls:
        return Figure("N95", None, description=meaning)
    loads = sorted(recalls)
    best = n95(loads, [recalls[n] for n in loads])
    return Figure("N95", best.estimate, best.low, best.high, meaning)


def _most_bits(record: Record) -> Figure:
    """The best load's decoded bits per byte of state."""
    per_load: Sequence[float] = [
        float(values_of(b["metrics"]["bits_per_state_byte"]).mean()) for b in _blocks(record, "capacity.load")
    ]
    return Figure("bits/byte", max(per_load, default=None), description="decoded bits a state byte, at the best load")


def _cost(record: Record, name: str, metric: str, scale: float, meaning: str) -> Figure:
    for block in _blocks(record, "cost.growth"):
        kept = block["metrics"].get(metric)
        if kept is not None and kept["at"] is not None and 128.0 in kept["at"]:
            column = values_of(kept)[:, list(kept["at"]).index(128.0)]
            if np.isfinite(column).any():
                return Figure(name, float(np.nanmedian(column)) * scale, description=meaning)
    return Figure(name, None, description=meaning)


def table(cards: Sequence[Record]) -> str:
    """The cards side by side as a Markdown table, one row a memory; an en dash where nothing was measured."""
    from memspec.scorecard.formatting import number, short_names

    rows = [figures(card) for card in cards]
    names = list(rows[0]) if rows else []
    lines = [
        "| memory | family | verdict | " + " | ".join(names) + " |",
        "|---|---|---|" + "---:|" * len(names),
    ]
    for card, short, row in zip(cards, short_names(cards), rows):
        cells = ["–" if row[n].value is None else number(row[n].value) for n in names]
        family = card.memory["spec"]["family"]
        lines.append(f"| {short} | {family} | {card.verdict} | " + " | ".join(cells) + " |")
    meanings = [f"* **{f.name}**: {f.description}" for f in (rows[0].values() if rows else ())]
    return "\n".join([*lines, "", *meanings, ""])
