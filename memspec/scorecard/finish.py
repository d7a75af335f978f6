"""The end of a run: collected reports -> records, scores, files, regression check, summary lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memspec.scorecard import record as records
from memspec.scorecard.record import Record
from memspec.session import Session


@dataclass
class Outcome:
    """What the plugin shows and returns."""

    lines: list[str] = field(default_factory=list)
    exit_status: int = 0


def finish(session: Session, collected: Sequence[dict[str, Any]], option: Callable[[str], Any]) -> Outcome:
    """Build the records, write what was asked for, and say it."""
    cards = [card(session, name, collected) for name in dict.fromkeys(c["memory"] for c in collected)]
    outcome = Outcome()
    for one in cards:
        outcome.lines.append(f"{one.name}: {one.verdict} {one.counts}")
    if option("--scorecard"):
        records.save(cards, option("--scorecard"))
        outcome.lines.append(f"scorecard: {option('--scorecard')}")
    return outcome


def card(session: Session, name: str, collected: Sequence[dict[str, Any]]) -> Record:
    """One memory's record from what its checks reported."""
    plug = session.plugs[name]
    mine = [c for c in collected if c["memory"] == name]
    one = Record(
        memory={
            "plug": name,
            "spec": plug.spec.to_json(),
            "capabilities": sorted(plug.capabilities),
            "parameters": plug.parameter_count,
        },
        signature=session.signature,
        machine=records.machine(),
    )
    for report in mine:
        check = report["check"]
        if check["status"] == "skip" and check["message"].startswith("not asked: "):
            one.not_asked[check["id"]] = check["message"].removeprefix("not asked: ")
        else:
            one.checks.append(check)
        one.blocks.extend(report["blocks"])
    return one
