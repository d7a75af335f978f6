"""The beginning and the end of a run: journal, records, files, regression check, summary lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspec.errors import NotComparable, RecordError
from memspec.judging.bounds import unmatched
from memspec.running.cards import Ending, cards_of, exit_of, selection, unfinished
from memspec.running.exits import Exit, gravest
from memspec.running.interrupts import INTERRUPTED
from memspec.running.journal import read_journal
from memspec.running.ledger import Head, Ledger, journal_path
from memspec.running.manifest import Manifest
from memspec.running.options import Options
from memspec.running.session import Session
from memspec.scorecard import pages, render
from memspec.scorecard import record as records
from memspec.scorecard.files import write_atomically
from memspec.scorecard.gate import policy_of
from memspec.scorecard.origin import made
from memspec.scorecard.record import Record

if TYPE_CHECKING:
    from memspec.running.controller import Controller


@dataclass
class Outcome:
    """What the plugin shows (each line with pytest markup such as ``red bold``) and returns."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    cards: list[Record] = field(default_factory=list)
    exit_status: int = 0


def begin(session: Session, ledger: Ledger, names: Sequence[str], option: Callable[[str], Any]) -> None:
    """A run is about to run its first check: its journal begins, and the card's place says that it is unfinished.

    Raises:
        RecordError: if that cannot be written, as on a full disk, or another run is about to write this card.
    """
    path = option("--memspec-scorecard")
    if not path:
        return
    ledger.claim(journal_path(path))
    try:
        records.save(unfinished(session, names), path)
    except RecordError:
        ledger.close(remove=True)
        raise
    manifest = ledger.manifest or Manifest()  # under pytest-xdist only the workers know
    ledger.open(head_of(session, names, manifest, selection(option, manifest)))


def resume(session: Session, ledger: Ledger, names: Sequence[str], card: Path | None) -> None:
    """Take over what the run decided that was to write this card and was cut.

    Raises:
        RecordError: if no card is named, or its journal is missing or of another kind of run.
    """
    if card is None:
        raise RecordError("resuming needs the card whose run was cut: add --memspec-scorecard=PATH.json")
    path = journal_path(card)
    before, lines, _ = read_journal(path)  # what is left out runs again
    ledger.resume(path, head_of(session, names, Manifest()), before, lines)


def recovered(path: Path) -> tuple[list[Record], list[str]]:
    """The records that a journal amounts to, and which of its lines were left out, and why.

    Raises:
        RecordError: if it is missing, or no journal.
    """
    head, lines, left_out = read_journal(path)
    ledger = Ledger()
    for line in lines:
        ledger.book(line["nodeid"], line["event"], line["sent"])
    known = {f.name for f in fields(Options)}
    session = Session(Options(**{k: v for k, v in head["options"].items() if k in known and k != "bounds"}))
    ending = Ending(Manifest.from_json(head["manifest"]), stopped="the run was cut", notes=head["notes"])
    cards = cards_of(session, ledger.collected, head["memories"], ending)
    for one in cards:
        one.signature = {**head["signature"], "device": one.signature.get("device")}
        one.machine = head["machine"]
    return cards, left_out


def head_of(session: Session, names: Sequence[str], manifest: Manifest, notes: Sequence[str] = ()) -> Head:
    """What a journal says of this run."""
    options = {k: str(v) if isinstance(v, Path) else v for k, v in vars(session.options).items() if k != "strict"}
    return Head(list(names), options, dict(session.signature), records.machine(), manifest, list(notes))


def conclude_run(
    session: Session,
    ledger: Ledger,
    names: Sequence[str],
    option: Callable[[str], Any],
    *,
    controller: Controller | None = None,
    stopped: str = "",
    baseline: Sequence[Record] | None = None,
) -> Outcome:
    """Build the records, write what was asked for, compare with the baseline, and say it all.

    Args:
        names: the plugs on the command line; those that reported nothing are an error.
        option: reads a command-line option.
        controller: what ran the checks in other processes, if anything did.
        stopped: why the run ended early; empty if it did not.
    """
    manifest = ledger.manifest
    if manifest is None and controller is not None:
        manifest = controller.manifest()
    manifest = manifest or Manifest()
    ending = Ending(manifest, stopped=stopped, notes=selection(option, manifest))
    if controller is not None:
        ending = replace(ending, refused=controller.refused, given_up=controller.given_up)
    cards, stamp = cards_of(session, ledger.collected, names, ending), made()
    for record in cards:
        record.made = dict(stamp)
    outcome = Outcome(cards=cards)
    outcome.exit_status = gravest(Exit.OK, *(exit_of(one) for one in cards))
    if not ending.notes and not stopped:
        _unused_bounds(session, cards, outcome)
    if ledger.problem:
        outcome.lines.append((ledger.problem, "yellow"))
    path, written = option("--memspec-scorecard"), True
    try:
        if path and baseline is not None:  # before it is compared: whatever the comparison comes to, the card is there
            records.save(cards, path)
        if baseline is not None:
            regressions(cards, baseline, option, outcome)
        if path:
            for one in write(cards, path, html=option("--memspec-html"), markdown=option("--memspec-md")):
                outcome.lines.append((f"written: {one}", ""))
    except RecordError as error:
        if not path:
            raise
        written = False
        kept = journal_path(path)
        where = f"; what was decided is in {kept} (memspec recover)" if kept.exists() else ""
        outcome.lines.append((f"the card was not written: {error}{where}", "red bold"))
        outcome.exit_status = gravest(outcome.exit_status, Exit.NOT_WRITTEN)
    if stopped == INTERRUPTED:
        outcome.lines[:0] = render.interrupted(cards)
        if path:
            outcome.lines.append(("--memspec-resume (memspec score: --resume) beside the same command goes on", ""))
    else:
        unmatched_globs = [(line, "yellow" if any(one.checks for one in cards) else "red") for line in ledger.unmatched]
        outcome.lines[:0] = [
            *render.wrapped(unmatched_globs, render.columns()),
            *render.terminal(cards, strict=session.options.strict),
        ]
    ledger.close(remove=written and not stopped)
    return outcome


def write(cards: Sequence[Record], path: Path, *, html: bool = False, markdown: bool = False) -> list[Path]:
    """Write the record, and the pages asked for beside it; what was written."""
    records.save(cards, path)
    written = [path]
    if markdown:
        written.append(path.with_suffix(".md"))
        write_atomically(written[-1], pages.markdown(cards))
    if html:
        written.append(path.with_suffix(".html"))
        write_atomically(written[-1], pages.page(cards))
    return written


def _unused_bounds(session: Session, cards: Sequence[Record], outcome: Outcome) -> None:
    """A bound that no check was judged by says nothing, whatever was meant: an error."""
    judged = [check.id for one in cards for check in one.checks if check.bound is not None]
    unused = unmatched(session.bounds, judged)
    if unused:
        listed = ", ".join(f'["{pattern}"]' for pattern in unused)
        outcome.lines.append((f"--memspec-bounds: no check that {listed} matches had a metric judged", "red"))
        outcome.exit_status = gravest(outcome.exit_status, Exit.USAGE)


# ---- baseline -------------------------------------------------------------------------------------------------


def read_baseline(session: Session, path: Path, gate: str | None) -> list[Record]:
    """The baseline's records, after making sure that this run can be compared with them.

    Args:
        gate: the policy that ``--memspec-gate`` names.

    Raises:
        RecordError: if the file cannot be read.
        NotComparable: if its numbers come from other streams than this run's.
        BoundsError: if there is no such policy.
    """
    from memspec.scorecard.compare import DECISIVE, differing

    policy_of(gate)
    old = records.load(path)
    sides = [{k: s.get(k) for k in DECISIVE if k != "device"} for s in (session.signature, old[0].signature)]
    different = differing(*sides)
    if different:
        raise NotComparable(
            f"--memspec-baseline={path} was made differently and cannot be compared: {different}.\n"
            "  Run with the same options and versions, or write a new baseline with --memspec-scorecard"
        )
    return old


def regressions(
    cards: Sequence[Record], baseline: Sequence[Record], option: Callable[[str], Any], outcome: Outcome
) -> None:
    """Compare with the baseline; what came of it goes to the cards and the outcome."""
    from memspec.scorecard.compare import WORSE, compare, matched
    from memspec.scorecard.differences import comparison

    path = option("--memspec-baseline")
    policy = policy_of(option("--memspec-gate"), option("--memspec-tolerance"))
    for new, old in matched(cards, baseline):
        if old is None:
            outcome.lines.append((f"baseline: {new.name} is not in {path}: not compared", "yellow"))
            continue
        result = compare(new, old, policy=policy, selection=bool(new.notes))
        new.gate = result.gate(str(path))
        outcome.lines.extend(comparison(result, f"baseline: {new.name} against {path}"))
        if result.refused:
            outcome.exit_status = gravest(outcome.exit_status, Exit.NOT_COMPARABLE)
        elif result.exit_status == WORSE:
            outcome.exit_status = gravest(outcome.exit_status, Exit.WORSE)
