"""``memspec sweep``: the plan it was told, where it runs, what it shows meanwhile, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspec.errors import RecordError
from memspec.failure import plain, printable
from memspec.running.counting import Counting, spell
from memspec.running.executors import processes, worker_count
from memspec.running.exits import Exit
from memspec.running.signals import stopped
from memspec.sweep.cluster import Connected, NoScheduler, joined, local, needed, whole_address
from memspec.sweep.plan import ExperimentEntry, MemoryEntry, Plan, SweepError, Told, planned, read

if TYPE_CHECKING:
    from memspec.sweep.cell import Memory, Outcome, Unloaded
    from memspec.sweep.drive import Tally

TIMED = 8
"""Cells that a dry run times, and at least two of each memory."""
LISTED = 12
"""Cells that a dry run lists, unless all are asked for."""
RESTARTS = 3
"""Times that a sweep goes on after its scheduler was lost, without a cell having ended in between."""


def told_by(options: argparse.Namespace) -> Told:
    """The plan that a command line names: a file, with what stands beside it in its place.

    Raises:
        SweepError: if it names none, or two.
    """
    if options.file is not None:
        if options.memory or options.experiment or options.grid or options.set:
            raise SweepError("--memory, --experiment, --grid and --set stand in the file where one is named")
        told = read(options.file)
    else:
        if not options.memory or not options.experiment:
            raise SweepError("name a sweep file, or --memory and --experiment; docs/scale.md shows both")
        grid = {name: [_literal(text) for text in value.split(",")] for name, value in map(_pair, options.grid)}
        chosen = {name: _literal(value) for name, value in map(_pair, options.set)}
        told = Told([MemoryEntry(plug) for plug in options.memory], [ExperimentEntry(options.experiment, grid, chosen)])
    for name in ("seeds", "trials", "tier"):
        if getattr(options, name) is not None:
            setattr(told, name, getattr(options, name))
    return told


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise SweepError(f"{text}: write name=value")
    return name, value


def _literal(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def run(options: argparse.Namespace) -> int:
    """Do what the command line says.

    Raises:
        MemspecError: for what cannot be meant, a memory that cannot be loaded, a package that is missing.
    """
    needed("pyarrow")
    if options.scheduler is not None:
        whole_address(options.scheduler)
    if options.scheduler is not None or options.executor == "dask":
        needed("distributed")
    plan = planned(told_by(options), options.file.parent if options.file else None)
    workers = worker_count(options.workers)
    if options.retries < 0:
        raise SweepError(f"--retries is {options.retries}; it must be at least 0")
    if options.dry_run:
        return dry_run(plan, workers, options)
    if options.into is None:
        raise SweepError("say where results are to be kept: --into FOLDER")
    return swept(plan, workers, options)


# ---- a dry run ------------------------------------------------------------------------------------------------


def dry_run(plan: Plan, workers: int, options: argparse.Namespace) -> int:
    """List the cells, time a few of them here, and say how long all will take; nothing is written."""
    from memspec.judging.statistics import mean_interval
    from memspec.sweep.cell import Cell, Group
    from memspec.sweep.drive import GROUP, looked_at_all
    from memspec.sweep.measuring import run_group

    cells = (cell for group in plan.groups(options.group or GROUP) for cell in group)
    for number, cell in enumerate(cells):
        if number == LISTED and not options.v:
            print(f"... and {len(plan) - LISTED} more (-v lists all)")
            break
        print(cell.id)
    signatures, unloaded = looked_at_all(plan, options.retries)
    for line in _not_loaded(plan, unloaded):
        print(line)
    if len(unloaded) == len(plan.memories):
        return Exit.FAILED
    plan = replace(plan, memories=tuple(memory for memory in plan.memories if memory not in unloaded))
    drawn = random.Random(0)
    each = max(2, math.ceil(TIMED / len(plan.memories)))
    chosen = [
        plan.cell(memory, drawn.choice(plan.points), drawn.choice(plan.seeds))
        for memory in plan.memories
        for _ in range(each)
    ]
    begun = time.perf_counter()
    with connected(options, workers) as there:
        workers = there.workers()

        def measured(cell: Cell) -> tuple[Outcome, float]:
            """What came of a cell, and the seconds that it took beside measuring."""
            start = time.perf_counter()
            group = Group((cell,), signatures[cell.memory], plan.bounds, folder=str(Path.cwd()))
            (outcome,) = there.executor.submit(run_group, group).result().outcomes
            return outcome, time.perf_counter() - start - outcome.seconds

        first, _ = measured(chosen[0])  # its worker imports all that is needed
        starting = time.perf_counter() - begun - first.seconds
        timed = []
        for cell in chosen:
            outcome, overhead = measured(cell)
            timed.append((outcome.seconds, overhead))
            print(f"timed: {cell.id}: {outcome.seconds:.3g} s {outcome.why} {outcome.cause}".rstrip(), flush=True)
    seconds, overheads = zip(*timed)
    interval = mean_interval(seconds)
    a_group = sorted(overheads)[len(overheads) // 2]
    groups = plan.group_count(options.group or GROUP)

    def all_of(a_cell: float, gain: int) -> float:
        return starting + (a_cell * len(plan) + a_group * groups) / gain

    # Cells are timed one at a time: workers that hinder each other, or other work, can take all that they gain.
    gain = min(workers, groups)
    least, worse = max(interval.low, min(seconds)), interval.high if math.isfinite(interval.high) else max(seconds)
    width = (
        f", at least {spell(all_of(least, gain))}; {spell(all_of(worse, 1))} or more where other work takes the cores"
    )
    print(
        f"{len(plan)} cells: {len(plan.memories)} memories, {len(plan.points)} settings, {len(plan.seeds)} seeds, "
        f"{plan.trials} trials each; about {spell(all_of(interval.mean, gain))} with {workers} workers, {spell(starting)} of it "
        f"to start{width}"
    )
    return Exit.FAILED if unloaded else Exit.OK


def _not_loaded(plan: Plan, unloaded: Mapping[Memory, Unloaded]) -> Iterator[str]:
    """A line for each memory that cannot be loaded."""
    cells = len(plan.points) * len(plan.seeds)
    for memory, why in unloaded.items():
        what = "failed" if why.status == "fail" else "cannot be measured"
        yield printable(f"{memory.name} cannot be loaded, so its {cells} cells {what}: {plain(why.cause, 300)}")


# ---- a sweep --------------------------------------------------------------------------------------------------


def swept(plan: Plan, workers: int, options: argparse.Namespace) -> int:
    """Run what is missing, and say how it ended."""
    from memspec.sweep.drive import GROUP, SchedulerLost, Sweep, looked_at_all

    signatures, unloaded = looked_at_all(plan, options.retries)
    sweep = Sweep(
        plan,
        options.into,
        signatures,
        unloaded,
        retries=options.retries,
        again=options.failed,
        group=options.group or GROUP,
        share=options.share,
    )
    tally = sweep.tally
    bar = Counting(tally.total, "cells", tally.before)
    sweep.told = partial(_show, bar=bar, all_of_them=options.v)
    print(f"{len(plan)} cells, {tally.before} of them in {options.into} already")
    for path in sweep.aside:
        print(f"a results file was damaged; it is now {path}, and its cells are run again")
    for line in _not_loaded(plan, unloaded):
        print(line, flush=True)
    lost = 0
    try:
        sweep.begin()
        while tally.before + tally.done < tally.total:
            before = tally.done
            try:
                with connected(options, workers) as there:
                    if there.dashboard and not lost:
                        print(f"Dask's dashboard: {there.dashboard}", flush=True)
                    sweep.run(there.executor, there.workers())
            except SchedulerLost as error:
                lost = lost + 1 if tally.done == before else 1
                print(f"memspec: the scheduler was lost ({error}); going on with what is missing", file=sys.stderr)
                if lost > RESTARTS:
                    raise NoScheduler(f"the scheduler was lost {lost} times in a row") from None
    except KeyboardInterrupt as error:
        return ended(sweep.tally, Exit.INTERRUPTED, f"{stopped(error)}; the same command goes on")
    except RecordError as error:
        return ended(sweep.tally, Exit.NOT_WRITTEN, f"{error}; what was written stays, and the same command goes on")
    except NoScheduler as error:
        return ended(sweep.tally, Exit.BROKEN, f"{error}; what was written stays, and the same command goes on")
    finally:
        bar.close()
    return ended(sweep.tally, Exit.FAILED if tally.failed or tally.failed_before else Exit.OK, "")


def _show(tally: Tally, outcomes: Sequence[Outcome], bar: Counting, all_of_them: bool) -> None:
    """How far it is; with ``-v`` every cell, and why it failed or could not be measured."""
    for outcome in outcomes if all_of_them else ():
        how = f"{outcome.status} ({outcome.why}): {outcome.cause}" if outcome.why else outcome.status
        bar.line(printable(f"{outcome.cell.id}: {how}, {spell(outcome.seconds)}"))
    bar.show(tally.before + tally.done, tally.failed)


@contextlib.contextmanager
def connected(options: argparse.Namespace, workers: int) -> Iterator[Connected]:
    """What the command line says to run on."""
    if options.scheduler is not None:
        with joined(options.scheduler, options.patience) as there:
            yield there
    elif options.executor == "dask":
        with local(workers) as there:
            yield there
    else:
        with processes(workers) as executor:
            yield Connected(executor, lambda: workers)


def ended(tally: Tally, code: Exit, why: str) -> int:
    """The last lines, and the exit code."""
    causes = ", ".join(f"{count} {cause}" for cause, count in tally.causes.most_common())
    failed = f", {tally.failed} failed ({causes})" if tally.failed else ""
    skipped = f", {tally.skipped} cannot be measured" if tally.skipped else ""
    done = f"{tally.done} cells in {spell(tally.elapsed)}{failed}{skipped}"
    left = tally.total - tally.before - tally.done
    print(done + (f"; {left} are left" if left else ""))
    if tally.failed_before:
        more = tally.failed_before - len(tally.earlier)
        named = "\n".join(f"  {name}" for name in [*tally.earlier, *([f"and {more} more"] if more else [])])
        print(f"{tally.failed_before} cells failed in an earlier sweep; --failed runs them again:\n{named}")
    if why:
        print(f"memspec sweep: {why}", file=sys.stderr)
    return int(code)
