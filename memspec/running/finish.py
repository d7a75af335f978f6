"""The end of a run: collected reports -> records, scores, files, regression check, summary lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memspec.errors import RecordError
from memspec.failure import plain
from memspec.judging.bounds import unmatched
from memspec.judging.check import Check, CheckRun
from memspec.running.checks import identify_lost
from memspec.running.options import Options
from memspec.running.repeat import check_command
from memspec.running.session import Session
from memspec.scorecard import pages, render
from memspec.scorecard import record as records
from memspec.scorecard.record import Record
from memspec.scorecard.score import rescore

NOTHING_DECIDED = 5
"""pytest's exit code for "no tests were collected", given too when tests ran and none of them decided anything."""
USAGE = 4


@dataclass
class Outcome:
    """What the plugin shows (each line with pytest markup such as ``red bold``) and returns."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    cards: list[Record] = field(default_factory=list)
    exit_status: int = 0


def finish(
    session: Session,
    collected: Sequence[dict[str, Any]],
    names: Sequence[str],
    option: Callable[[str], Any],
    *,
    baseline: Sequence[Record] | None = None,
    interrupted: bool = False,
) -> Outcome:
    """Build the records, write what was asked for, compare with the baseline, and say it all.

    Args:
        collected: what the checks reported, in any order.
        names: the plugs on the command line; those that reported nothing are an error.
        option: reads a command-line option.
    """
    notes = selection(option) + (["the run was interrupted"] if interrupted else [])
    collected = [placed(c, names, session.options) for c in collected]
    order = dict.fromkeys([*names, *(c["memory"] for c in collected)])
    cards = [card(session, name, collected, notes) for name in order]
    outcome = Outcome(render.terminal(cards, strict=session.options.strict), cards)
    if any(one.verdict in ("error", "inconclusive") for one in cards):
        outcome.exit_status = NOTHING_DECIDED
    if not notes:
        _unused_bounds(session, cards, outcome)
    if baseline is not None:
        _regressions(cards, baseline, option, outcome)
    path = option("--memspec-scorecard")
    if path:
        for written in write(cards, path, html=option("--memspec-html"), markdown=option("--memspec-md")):
            outcome.lines.append((f"written: {written}", ""))
    return outcome


def write(cards: Sequence[Record], path: Path, *, html: bool = False, markdown: bool = False) -> list[Path]:
    """Write the record, and the pages asked for beside it; what was written."""
    records.save(cards, path)
    written = [path]
    if markdown:
        written.append(path.with_suffix(".md"))
        records.write_atomically(written[-1], pages.markdown(cards))
    if html:
        written.append(path.with_suffix(".html"))
        records.write_atomically(written[-1], pages.page(cards))
    return written


def card(session: Session, name: str, collected: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> Record:
    """One memory's record from what its checks reported."""
    mine = [c for c in collected if c["memory"] == name]
    about = next((c["about"] for c in mine if c["about"]), None)
    if about is None:
        about = session.about(name) if name in session.plugs else {"plug": name}
    one = Record(
        memory=about,
        signature={**session.signature, "device": about.get("device")},
        machine=records.machine(),
        notes=list(notes),
    )
    kept: dict[str, Check] = {}
    for report in mine:
        check = Check.from_json(report["check"])
        if check.id not in kept or check.status == "fail":  # a check reports twice only when its teardown fails
            kept[check.id] = check
        one.blocks.extend(report["blocks"])
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


def selection(option: Callable[[str], Any]) -> list[str]:
    """Why not every check ran, from the options that choose among them."""
    chosen = {
        "--memspec-checks": option("--memspec-checks"),
        "-k": option("keyword"),
        "-m": option("markexpr"),
        "--deselect": option("deselect"),
    }
    return [
        f"only a selection ran ({name} {', '.join(value) if isinstance(value, list) else value})"
        for name, value in chosen.items()
        if value
    ]


def _unused_bounds(session: Session, cards: Sequence[Record], outcome: Outcome) -> None:
    """A bound that no check was judged by says nothing, whatever was meant: an error."""
    judged = [check.id for one in cards for check in one.checks if check.bound is not None]
    unused = unmatched(session.bounds, judged)
    if unused:
        listed = ", ".join(f'["{pattern}"]' for pattern in unused)
        outcome.lines.append((f"--memspec-bounds: no check that {listed} matches had a metric judged", "red"))
        outcome.exit_status = outcome.exit_status or USAGE


# ---- baseline -------------------------------------------------------------------------------------------------


def read_baseline(session: Session, path: Path) -> list[Record]:
    """The baseline's records, after making sure that this run can be compared with them.

    Raises:
        RecordError: if the file cannot be read, or its signature differs from this run's.
    """
    from memspec.scorecard.compare import differing

    old = records.load(path)
    new = {**session.signature, "device": old[0].signature.get("device")}
    different = differing(new, old[0].signature)
    if different:
        raise RecordError(
            f"--memspec-baseline={path} was made differently and cannot be compared: {different}.\n"
            "  Run with the same options and versions, or write a new baseline with --memspec-scorecard"
        )
    return old


def _regressions(
    cards: Sequence[Record], baseline: Sequence[Record], option: Callable[[str], Any], outcome: Outcome
) -> None:
    from memspec.scorecard.compare import WORSE, compare, matched
    from memspec.scorecard.differences import comparison

    for new, old in matched(cards, baseline):
        if old is None:
            outcome.lines.append(
                (f"baseline: {new.name} is not in {option('--memspec-baseline')}: not compared", "yellow")
            )
            continue
        result = compare(new, old, tolerance=option("--memspec-tolerance"), selection=bool(new.notes))
        outcome.lines.extend(comparison(result, f"baseline: {new.name} against {option('--memspec-baseline')}"))
        if result.refused or result.exit_status == WORSE:
            outcome.exit_status = 4 if result.refused else max(outcome.exit_status, 1)
