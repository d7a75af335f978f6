"""Running a sweep: what is missing is handed to an executor, and what comes back is written at once.

Nothing here grows with the number of cells but the set of those that are done: cells are planned as they are handed
over, a window of groups is under way at a time, and rows are let go when they are written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memspec.errors import CannotMeasure, MemspecError, NoSuchPlug, NotAsked
from memspec.failure import plain
from memspec.running.executors import completed
from memspec.sweep.cell import Cell, Done, Group, Memory, Outcome, Unloaded
from memspec.sweep.measuring import NotLoaded, looked_at, run_group
from memspec.sweep.plan import Plan
from memspec.sweep.signature import digest_of, unloaded_signature
from memspec.sweep.store import PASSING, Known, Store

GROUP = 20
"""Cells that are handed to a worker together at the most; its share of time usually ends before."""


NAMED = 12
"""Cells that failed in an earlier sweep that are named."""


class SchedulerLost(Exception):
    """The executor has lost what it runs on, and all that was under way."""


@dataclass
class Tally:
    """How far a sweep is.

    Attributes:
        total: cells of the plan; ``before`` of them were in the folder already.
        done: cells that have ended in this sweep; ``failed`` and ``skipped`` of them.
        failed_before: cells that failed in an earlier sweep and are not run again; some of them are in ``earlier``, each
            with its cause.
        causes: failures by cause.
        seconds: that cells took, added up; ``elapsed`` since the sweep began.
    """

    total: int
    before: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    failed_before: int = 0
    earlier: list[str] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begun


class Sweep:
    """One plan and one folder.

    Args:
        signatures: of each memory, as it is now; see :func:`looked_at_all`.
        unloaded: those that could not be loaded; nothing of them is run, and their cells are recorded as that.
        retries: times that a failed cell is run again.
        again: whether cells that failed in an earlier sweep are run again.
        told: called after each file is written, with how far it is and what has ended.

    Attributes:
        aside: damaged files, which got other names; their cells are run again.

    Raises:
        RecordError: if the folder cannot hold results.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        signatures: Mapping[Memory, Mapping[str, Any]],
        unloaded: Mapping[Memory, Unloaded] | None = None,
        *,
        retries: int = 0,
        again: bool = False,
        group: int = GROUP,
        share: float = 2.0,
        told: Callable[[Tally, Sequence[Outcome]], None] = lambda tally, outcomes: None,
    ) -> None:
        self.plan, self.signatures, self.retries, self.told = plan, signatures, retries, told
        self.store = Store(folder)
        self._size, self._share = group, share
        self._attempts: Counter[str] = Counter()
        self._again: deque[list[Cell]] = deque()
        self._away: dict[str, list[Cell]] = {}  # handed over, by the key of the first
        self._known: dict[Memory, dict[bytes, Known]] = {}
        for memory, signature in signatures.items():
            known = self.store.known(signature)
            self._known[memory] = {key: k for key, k in known.items() if _settled(k, again)}
        self.aside = self.store.set_aside()
        self.tally = Tally(len(plan))
        if any(self._known.values()):
            self._count_known()
        unloaded = unloaded or {}
        self._planned = (cells for cells in self._missing() if cells[0].memory not in unloaded)
        lost = self._missing() if unloaded else iter(())
        self._lost = ([unloaded[c.memory].of(c) for c in cells] for cells in lost if cells[0].memory in unloaded)

    def _count_known(self) -> None:
        tally = self.tally
        for cells in self.plan.groups(self._size):
            for cell in cells:
                known = self._known[cell.memory].get(bytes.fromhex(cell.key))
                tally.before += known is not None
                if known is not None and known.status == "fail":
                    tally.failed_before += 1
                    if len(tally.earlier) < NAMED:
                        tally.earlier.append(f"{cell.id}: {known.why}")

    def _missing(self) -> Iterator[list[Cell]]:
        for cells in self.plan.groups(self._size):
            known = self._known[cells[0].memory]
            missing = [cell for cell in cells if bytes.fromhex(cell.key) not in known] if known else cells
            if missing:
                yield missing

    def begin(self) -> None:
        """Note the plan, and record the cells of memories that could not be loaded; done once however often it is called.

        Raises:
            RecordError: if results cannot be written.
        """
        self.store.note_plan(self._name(), self._described())
        for outcomes in self._lost:
            self.store.write(outcomes, self.signatures[outcomes[0].cell.memory])
            self._count(outcomes)
            self.told(self.tally, outcomes)

    def run(self, executor: Executor, workers: int, work: Callable[[Group], Done] = run_group) -> Tally:
        """Run what is missing.

        Args:
            workers: jobs that the executor runs at once; twice as many are handed over.
            work: what a worker does with a group.

        Raises:
            RecordError: if results cannot be written; what was written stays.
            SchedulerLost: if the executor lost what it runs on; calling this again with another goes on.
        """
        self.begin()
        for group, future in completed(executor, work, self._take, window=2 * workers):
            done = self._came(group, future)
            if done.left:
                self._again.append(list(done.left))
            final = [kept for outcome in done.outcomes if (kept := self._judged(outcome)) is not None]
            if final:
                self.store.write(final, group.signature)
                self._count(final)
                self.told(self.tally, final)
        return self.tally

    def _take(self) -> Group | None:
        cells = self._again.popleft() if self._again else next(self._planned, None)
        if cells is None:
            return None
        self._away[cells[0].key] = cells
        signature = dict(self.signatures[cells[0].memory])
        return Group(tuple(cells), signature, self.plan.bounds, self._share, str(Path.cwd()))

    def _came(self, group: Group, future: Future[Done]) -> Done:
        """What came of a group; a worker that was lost with it is its cells' failure."""
        try:
            done = future.result()
        except CancelledError as error:  # and so will be all others
            self._again.extendleft(self._away.values())
            self._away.clear()
            raise SchedulerLost(plain(error) or "what was under way was cancelled") from error
        except Exception as error:
            del self._away[group.cells[0].key]
            why = "worker" if type(error).__name__ in ("KilledWorker", "BrokenProcessPool") else "raised"
            cause = f"{type(error).__name__}: {plain(error, 300)}"
            if len(group.cells) > 1:  # which of them it was is found out one by one
                self._again.extend([cell] for cell in group.cells)
                return Done(())
            return Done(tuple(Outcome(cell, "fail", why, cause) for cell in group.cells))
        del self._away[group.cells[0].key]
        return done

    def _judged(self, outcome: Outcome) -> Outcome | None:
        """The outcome to keep, or None where the cell is run once more."""
        key = outcome.cell.key
        before = self._attempts.pop(key, 0)
        if outcome.status == "fail" and before < self.retries:
            self._attempts[key] = before + 1
            self._again.append([outcome.cell])
            return None
        return replace(outcome, attempts=before + 1)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        tally = self.tally
        for outcome in outcomes:
            tally.done += 1
            tally.skipped += outcome.status == "skip"
            tally.failed += outcome.status == "fail"
            tally.seconds += outcome.seconds
            if outcome.status == "fail":
                tally.causes[outcome.why] += 1

    def _name(self) -> str:
        return hashlib.blake2b(repr(self.plan).encode(), digest_size=6).hexdigest()

    def _described(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "cells": len(plan),
            "points": [
                {"experiment": p.experiment, "fields": dataclasses.asdict(p.setting), "grid": dict(p.axes)}
                for p in plan.points
            ],
            "memories": {m.name: digest_of(self.signatures[m]) for m in plan.memories},
            "signatures": {digest_of(s): dict(s) for s in self.signatures.values()},
            "experiments": sorted({point.experiment for point in plan.points}),
            "axes": {p.experiment: [name for name, _ in p.axes] for p in plan.points},
            "metrics": {point.experiment: list(point.metrics) for point in plan.points},
            "seeds": list(plan.seeds),
            "trials": plan.trials,
            "tier": plan.tier,
        }


def _settled(known: Known, again: bool) -> bool:
    """Whether a cell that ended so is not to be run again."""
    return known.status != "fail" or not (again or known.why in PASSING)


def looked_at_all(plan: Plan, retries: int = 0) -> tuple[dict[Memory, dict[str, Any]], dict[Memory, Unloaded]]:
    """The signature of every memory of a plan, each loaded in a process of its own, and those that cannot be loaded.

    Args:
        retries: times that a memory which cannot be loaded is tried again.

    Raises:
        NoSuchPlug: for the first that is not there; before anything is run.
    """
    signatures, unloaded = {}, {}
    for memory in plan.memories:
        found = _looked_at(memory, plan.tier, retries)
        if isinstance(found, Unloaded):
            unloaded[memory] = found
            found = unloaded_signature(memory.name, plan.tier, found.cause)
        signatures[memory] = found
    return signatures, unloaded


def _looked_at(memory: Memory, tier: str, retries: int) -> dict[str, Any] | Unloaded:
    for attempt in range(1, retries + 2):
        try:
            return looked_at(memory, tier)
        except NoSuchPlug as error:
            raise NoSuchPlug(plain(error)) from None  # in one line
        except NotAsked as error:
            return Unloaded("skip", "not asked", plain(error), attempts=attempt)
        except CannotMeasure as error:
            return Unloaded("skip", "cannot measure", plain(error), attempts=attempt)
        except NotLoaded as error:
            last = Unloaded("fail", error.ended.why, plain(error), error.ended.stack, attempt)
        except MemspecError as error:
            said = str(error).partition("\n\n")[0].partition("\n  A factory that would work")[0]  # without advice
            last = Unloaded("fail", "refused", plain(said), attempts=attempt)
    return last
