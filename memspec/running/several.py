"""``memspec score`` of several memories on several workers: a run of pytest for each memory, and one card of all.

The cards are those of one run of them all; what needs all of them (files, the baseline, bounds that nothing was judged by,
the exit code) is done here, when the last has come back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memspec.errors import RecordError, UsageProblem
from memspec.failure import plain_lines
from memspec.judging.bounds import read_bounds, unmatched
from memspec.running.cards import exit_of, unfinished
from memspec.running.counting import Counting
from memspec.running.executors import results
from memspec.running.exits import Exit, gravest
from memspec.running.finish import Outcome, regressions, write
from memspec.running.options import chosen
from memspec.running.outputs import refuse_outputs
from memspec.running.scoring import suite_arguments
from memspec.running.session import Session
from memspec.scorecard import record, render
from memspec.scorecard.gate import policy_of
from memspec.scorecard.record import Record

OF_ALL = ("scorecard", "html", "md", "baseline", "gate", "tolerance", "progress")
"""Options that are about all memories, and no run's of one."""


@dataclass(frozen=True)
class Job:
    """One memory, and the arguments of pytest that say what is asked of it."""

    plug: str
    arguments: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Scored:
    """What came of it: the card, or why there is none."""

    code: int
    card: Record | None
    said: str = ""


def run_one(job: Job) -> Scored:
    """Run the suites on one memory in a pytest of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "card.json")
        command = [sys.executable, "-m", "pytest", *suite_arguments(), f"--memspec-memory={job.plug}", *job.arguments]
        where = job.folder if os.path.isdir(job.folder) else None
        done = subprocess.run(
            [*command, f"--memspec-scorecard={path}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=where,
            check=False,
        )
        card = record.load(path)[0] if path.exists() else None
        return Scored(done.returncode, card, "" if card else done.stdout[-3000:])


def score_several(
    names: Sequence[str],
    arguments: Sequence[str],
    option: Callable[[str], Any],
    executor: Executor,
    workers: int,
) -> Outcome:
    """Run the suites on every memory, and do with their cards what was asked for.

    Args:
        names: plugs.
        arguments: of pytest, for each of them.
        option: reads an option of the command line, ``--memspec-...``.
        workers: jobs that the executor runs at once.

    Raises:
        RecordError, BoundsError: if the baseline or the bounds cannot be read; before anything runs.
        UsageProblem: if pages are asked for without a record.
    """
    baseline = record.load(option("--memspec-baseline")) if option("--memspec-baseline") else None
    policy_of(option("--memspec-gate"))
    bounds = read_bounds(option("--memspec-bounds")) if option("--memspec-bounds") else {}
    path = option("--memspec-scorecard")
    if (option("--memspec-html") or option("--memspec-md")) and not path:
        raise UsageProblem("--html and --md are written beside the record: add --scorecard PATH.json")
    if path:
        refuse_outputs(lambda name: option(name) if name.startswith("--memspec-") else None)
    session = Session(chosen(option), alpha_run=option("--memspec-alpha-run"))
    if path:
        record.save(unfinished(session, names), path)
    jobs = [Job(name, tuple(arguments), str(Path.cwd())) for name in names]
    found: dict[str, Scored] = {}
    counting = Counting(len(jobs), "memories")
    for job, scored in results(executor, run_one, jobs, window=workers):
        found[job.plug] = scored
        counting.show(len(found), sum(s.code == Exit.FAILED for s in found.values()))
    counting.close()
    outcome = Outcome(cards=[found[name].card or _none(session, name) for name in names])
    outcome.exit_status = gravest(Exit.OK, *(exit_of(card) for card in outcome.cards))
    for name in names:
        if found[name].card is None:
            outcome.lines.append((f"{name}: the run broke down\n{plain_lines(found[name].said)}", "red bold"))
            outcome.exit_status = gravest(outcome.exit_status, found[name].code or Exit.BROKEN)
    _conclude(outcome, option, path, baseline, bounds)
    return outcome


def _none(session: Session, name: str) -> Record:
    """The card of a memory whose run left none."""
    (card,) = unfinished(session, [name])
    card.stopped = "its run broke down"
    return card


def _conclude(
    outcome: Outcome,
    option: Callable[[str], Any],
    path: Path | None,
    baseline: Sequence[Record] | None,
    bounds: dict[str, Any],
) -> None:
    """The baseline, bounds that nothing met, the files, and what is shown."""
    judged = [check.id for card in outcome.cards for check in card.checks if check.bound is not None]
    unused = unmatched(bounds, judged) if not any(card.notes or card.stopped for card in outcome.cards) else []
    if unused:
        listed = ", ".join(f'["{pattern}"]' for pattern in unused)
        outcome.lines.append((f"--bounds: no check that {listed} matches had a metric judged", "red"))
        outcome.exit_status = gravest(outcome.exit_status, Exit.USAGE)
    try:
        if baseline is not None:
            if path:  # whatever the comparison comes to, the card is there
                record.save(outcome.cards, path)
            regressions(outcome.cards, baseline, option, outcome)
        if path:
            for one in write(outcome.cards, path, html=option("--memspec-html"), markdown=option("--memspec-md")):
                outcome.lines.append((f"written: {one}", ""))
    except RecordError as error:
        if not path:
            raise
        outcome.lines.append((f"the card was not written: {error}", "red bold"))
        outcome.exit_status = gravest(outcome.exit_status, Exit.NOT_WRITTEN)
    outcome.lines[:0] = render.terminal(outcome.cards, strict=bool(option("--strict")))
