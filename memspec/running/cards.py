"""From what checks reported to records: one a memory, with every planned check in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from memspec.failure import plain, plain_lines
from memspec.judging.check import Check, CheckRun
from memspec.running.checks import identify_lost
from memspec.running.exits import Exit
from memspec.running.manifest import Manifest
from memspec.running.options import Options
from memspec.running.repeat import check_command
from memspec.running.session import Session
from memspec.scorecard import record as records
from memspec.scorecard.record import Record
from memspec.scorecard.score import rescore


@dataclass(frozen=True)
class Ending:
    """How a run came to its end.

    Attributes:
        manifest: what was planned.
        refused: memories that could not be loaded, and why.
        given_up: memories whose processes died too often, and how often.
        stopped: why the run ended early; empty if it did not.
        notes: why this is not the whole specification.
    """

    manifest: Manifest = field(default_factory=Manifest)
    refused: dict[str, str] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    notes: list[str] = field(default_factory=list)

    def reason(self, memory: str) -> str:
        """Why a planned check of a memory was not run."""
        if memory in self.given_up:
            return f"given up: the memory's process died {self.given_up[memory]} times"
        return self.stopped or "no process reported it"


def cards_of(
    session: Session, collected: Sequence[dict[str, Any]], names: Sequence[str], ending: Ending
) -> list[Record]:
    """A record for each memory: those on the command line first, then whatever else reported."""
    collected = [placed(c, names, session.options) for c in collected]
    order = dict.fromkeys([*names, *(c["memory"] for c in collected)])
    cards = []
    for name in order:
        if name in ending.refused:
            about = {"plug": name, "refused": plain_lines(ending.refused[name])}
            cards.append(
                Record(about, {**session.signature, "device": None}, records.machine(), notes=list(ending.notes))
            )
            continue
        one = card(session, name, collected, ending.notes)
        known = {c.id for c in one.checks} | set(one.not_asked)
        planned = [p.check for p in ending.manifest.planned if p.memory == name]
        lost = [check for check in planned if check.id not in known]
        one.checks += [replace(c, status="not_run", reason=ending.reason(name)) for c in lost]
        one.stopped = "" if planned and not lost else ending.stopped  # what had ended before is whole
        cards.append(one)
    return cards


def unfinished(session: Session, names: Sequence[str]) -> list[Record]:
    """What stands in the place of the records while a run goes on."""
    return [
        Record({"plug": name}, {**session.signature, "device": None}, records.machine(), stopped=records.UNFINISHED)
        for name in names
    ]


def card(session: Session, name: str, collected: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> Record:
    """One memory's record from what its checks reported."""
    mine = [c for c in collected if c["memory"] == name]
    about = next((c["about"] for c in mine if c["about"]), None)
    if about is None:
        about = session.about(name) if name in session.plugs else {"plug": name}
    planned = {"plan": about["plan"]} if about.get("plan") else {}
    one = Record(
        memory=about,
        signature={**session.signature, "device": about.get("device")} | planned,
        machine=records.machine(),
        notes=[*notes, *(f"the memory is slow: {plan}" for plan in planned.values())],
    )
    kept: dict[str, Check] = {}
    for report in mine:
        check = Check.from_json(report["check"])
        if check.id not in kept or check.status == "fail":  # a check reports twice only when its teardown fails
            kept[check.id] = check
        one.blocks.extend(report["blocks"])
        one.observed = report.get("observed") or one.observed
    for check in sorted(kept.values(), key=lambda c: c.id):
        if check.status == "not_asked":
            one.not_asked[check.id] = check.reason
        else:
            one.checks.append(check)
    return rescore(one)


def placed(report: dict[str, Any], names: Sequence[str], options: Options) -> dict[str, Any]:
    """A report as it is; one of a worker that died mid-test as a failed check, of the memory it was asked of."""
    if "died" not in report:
        return report
    if report["check"] is not None:
        memory, check = report["memory"], Check.from_json(report["check"])
    else:
        memory, check = identify_lost(report["nodeid"], names)
    run = CheckRun(check, "The process survives the check.", memory, check_command(memory, check.id, options))
    came = f"the process died in this check: {plain(report['died'])}"
    failure = run.failure(
        got=came,
        expected="an answer, or an exception",
        cause="a crash in compiled code, an exit called by the memory, or the memory of the machine ran out",
    )
    return {**report, "memory": memory, "check": check.failed(failure).to_json()}


def exit_of(one: Record) -> Exit:
    """What a record by itself means for the run's exit code."""
    verdict = one.verdict
    if one.refused:
        return Exit.USAGE
    if verdict == "fail":
        return Exit.FAILED
    if one.stopped:
        return Exit.INTERRUPTED
    if one.counts["not_run"]:
        return Exit.BROKEN
    return Exit.UNDECIDED if verdict in ("error", "inconclusive") else Exit.OK


def selection(option: Callable[[str], Any], manifest: Manifest) -> list[str]:
    """Why not every check ran, from the options that choose among them and from what was collected."""
    chosen = {
        "--memspec-checks": option("--memspec-checks"),
        "-k": option("keyword"),
        "-m": option("markexpr"),
        "--deselect": option("deselect"),
        "--last-failed": option("lf"),
        "--stepwise": option("stepwise"),
    }
    notes = [
        f"only a selection ran ({name}{'' if value is True else f' {written(value)}'})"
        for name, value in chosen.items()
        if value
    ]
    if manifest.deselected and not notes:
        notes.append(f"only a selection ran ({manifest.deselected} checks were deselected)")
    if manifest.missing and not chosen["--memspec-checks"]:  # which leaves whole suites out
        notes.append(f"only a selection ran (suites: {', '.join(manifest.suites)})")
    return notes


def written(value: Any) -> str:
    """An option's value as it is written on a command line."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
