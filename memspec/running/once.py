"""One cause is told once: of the checks that end in one same exception pytest shows the first, with the number of all."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

MOST = 8


def tell_once(reporter: Any) -> None:
    """Leave all but the first of each cause out of the failures that a terminal reporter is about to show.

    They stay in its counts, in the short summary, in the card, and in every other report.
    """
    groups: dict[tuple[str, ...], list[tuple[pytest.TestReport, str]]] = {}
    for report in reporter.stats.get("failed", []):
        told = [json.loads(str(text)) for key, text in report.user_properties if key == "memspec"]
        failure = (told[-1]["check"] or {}).get("failure") if told else None
        if failure and failure["raised"]:
            groups.setdefault(cause_of(failure), []).append((report, failure["check"]))
    for (first, _), *rest in groups.values():
        if rest:
            names = ", ".join(check for _, check in rest[:MOST]) + (", ..." if len(rest) > MOST else "")
            more = "1 more check ends" if len(rest) == 1 else f"{len(rest)} more checks end"
            text = f"{more} in the same exception: {names}"
            first.sections.append(("one cause, told once", text))
        for report, _ in rest:
            # what pytest's reporter goes by to show nothing of a failure that was shown already
            report._pdbshown = True  # type: ignore[attr-defined]


def cause_of(failure: dict[str, str]) -> tuple[str, ...]:
    """What two failures have in common that have one cause: the memory, the type of exception, and the line that raised it."""
    place = re.search(r"\(at (.+)\)$", failure["got"])
    kind, _, words = failure["raised"].partition(":")
    return failure["memory"], kind, place[1] if place else words
