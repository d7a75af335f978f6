"""A card as a badge: the JSON that shields.io reads from an address (its endpoint badge)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from memspec.scorecard.record import VERDICTS, Record

COLOURS = {"pass": "brightgreen", "fail": "red", "worse": "red", "error": "red"}


def badge(cards: Sequence[Record]) -> str:
    """The worst verdict of some cards, as JSON."""
    verdicts = [one.verdict.partition(" ")[0] for one in cards]
    worst = min(verdicts, key=VERDICTS.index)
    counts = [one.counts for one in cards]
    said = "worse than baseline" if worst == "worse" else worst
    if worst == "fail" and any(one.gate.get("verdict") == "worse" for one in cards):
        said = "fail, worse than baseline"
    message = f"{said}, {sum(c['pass'] for c in counts)} of {sum(sum(c.values()) for c in counts)} checks"
    return json.dumps(
        {"schemaVersion": 1, "label": "memspec", "message": message, "color": COLOURS.get(worst, "yellow")}
    )
