"""What a worker does with a group of cells: load the memory in a process of its own, and measure each cell in a copy of that.

The worker itself never loads a memory. One process per group loads it, under a deadline; each cell is measured in a
copy of that process, so that a cell depends on nothing but itself, and one that raises, hangs or ends its process
costs itself alone.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspec.errors import CannotMeasure, MemspecError, NotAsked, OutOfTime
from memspec.failure import place, plain, raised
from memspec.running.process import Bounds, Ended, forked, stream
from memspec.sweep.cell import Cell, Done, Group, Memory, Outcome
from memspec.sweep.devices import environment_of_worker
from memspec.sweep.signature import differing, signature_of

if TYPE_CHECKING:
    from memspec.plugs.plug import Plug

PRELOADED = ["memspec.sweep.preloaded"]
"""What the process has imported that memories are loaded in copies of."""

LOADING = 120.0
"""Seconds that loading a memory may take."""


def run_group(group: Group) -> Done:
    """Measure the cells of a group, one after the other, until they or the group's share of time is used up.

    Never raises for what a memory does: that is in the outcomes. Can be pickled, and run in any process that can fork.
    """
    where = f"{platform.node()}:{os.getpid()}"
    outcomes: list[Outcome] = []
    arguments = {
        "group": group,
        "environment": environment_of_worker(),
        "path": list(sys.path),
    }
    limit = max(LOADING, group.bounds.seconds + 10)
    ended = Ended("death", "the process that loads the memory ended")
    try:
        with contextlib.closing(stream(measured_cells, arguments, limit, PRELOADED)) as answers:
            for answer in answers:
                if isinstance(answer, Ended):
                    ended = answer
                elif isinstance(answer, Outcome):
                    outcomes.append(replace(answer, where=where))
                else:
                    return Done(tuple(outcomes), group.cells[len(outcomes) :])
    except MemspecError as error:  # the memory cannot be loaded, or not here
        why = "signature" if isinstance(error, OtherSignature) else "refused"
        return Done(tuple(Outcome(cell, "fail", why, plain(error), where=where) for cell in group.cells))
    if len(outcomes) == len(group.cells):
        return Done(tuple(outcomes))
    # It ended while the memory was loaded, or took this process with it: the cell that was next is told of it.
    cell = group.cells[len(outcomes)]
    outcomes.append(Outcome(cell, "fail", ended.why, f"outside of the cell: {ended.what}", ended.stack, where=where))
    return Done(tuple(outcomes), group.cells[len(outcomes) :])


class OtherSignature(MemspecError):
    """This worker's code or versions are not those that the sweep was planned with."""


# ---- in the process that holds the memory ---------------------------------------------------------------------


def measured_cells(group: Group, environment: dict[str, str], path: list[str], pipe: int) -> Iterator[Any]:
    """The outcome of each cell as it is known; then, if time was up before the last, a word that says so.

    Raises:
        MemspecError: if the memory cannot be loaded.
        OtherSignature: if it is not the one that was planned.
    """
    from memspec.plugs.loading import load_plug

    os.environ.update(environment)
    sys.path[:] = path
    first = group.cells[0]
    _stand(first.memory, group.folder)
    before = set(sys.modules)
    plug = load_plug(first.memory.name)
    found = signature_of(plug, first.tier, before)
    if group.signature and found != group.signature:
        raise OtherSignature(f"this worker has {differing(found, group.signature)}")
    gc.freeze()  # what copies share stays shared
    begun = time.monotonic()
    for number, cell in enumerate(group.cells):
        if number and time.monotonic() - begun > group.share:
            yield "left"
            return
        start = time.perf_counter()
        answer = forked(functools.partial(measured, plug, cell), group.bounds, waited_for=pipe)
        if isinstance(answer, Ended):
            answer = Outcome(cell, "fail", answer.why, answer.what, answer.stack, seconds=time.perf_counter() - start)
        yield answer


def _stand(memory: Memory, folder: str) -> None:
    """Go where a plug that is a file is named from; modules of the working folder are found as well."""
    sys.path.append(folder)
    with contextlib.suppress(OSError):
        os.chdir(memory.folder or folder)


def measured(plug: Plug, cell: Cell) -> Outcome:
    """One cell in this process, at the very dimensions that its setting names: the numbers of ``Experiment.run``."""
    from memspec.experiments import catalog

    experiment = catalog.experiments()[cell.experiment]
    begun = time.perf_counter()
    try:
        exact = plug.exactly(cell.setting.dimensions)
        numbers = experiment.arrays(exact, cell.setting, range(cell.trials), cell.seed)
    except NotAsked as error:
        return Outcome(cell, "skip", "not asked", plain(error))
    except CannotMeasure as error:
        return Outcome(cell, "skip", "cannot measure", plain(error))
    except MemoryError as error:
        return Outcome(cell, "fail", "memory", raised(error))
    except (Exception, SystemExit, KeyboardInterrupt, OutOfTime) as error:
        where = place(error)
        cause = raised(error) + (f" ({where})" if where else "")
        why = "memory" if "can't allocate memory" in cause else "raised"
        return Outcome(cell, "fail", why, cause, seconds=time.perf_counter() - begun)
    return Outcome(cell, "ok", measured=numbers, seconds=time.perf_counter() - begun)


# ---- what is known of a memory before its first cell ------------------------------------------------------------


class NotLoaded(MemspecError):
    """A memory ended the process that was to load it, or took too long."""

    def __init__(self, ended: Ended, memory: Memory) -> None:
        super().__init__(f"{memory.name} cannot be loaded: {ended.what}")
        self.ended = ended


def looked_at(memory: Memory, tier: str) -> dict[str, Any]:
    """The signature of a memory's cells, found out in a process of its own.

    Raises:
        NoSuchPlug: if what is named is not there.
        NotLoaded: if it ends the process that tries, or takes longer than :data:`LOADING`.
        MemspecError: if it cannot be loaded.
    """
    arguments = {"memory": memory, "tier": tier, "path": list(sys.path), "folder": str(Path.cwd())}
    with contextlib.closing(stream(look, arguments, LOADING, PRELOADED)) as answers:
        found = next(answers)
    if isinstance(found, Ended):
        raise NotLoaded(found, memory)
    told: dict[str, Any] = found
    return told


def look(memory: Memory, tier: str, path: list[str], folder: str, pipe: int) -> Iterator[dict[str, Any]]:
    """The signature, in this process."""
    from memspec.plugs.loading import load_plug, there

    sys.path[:] = path
    _stand(memory, folder)
    before = set(sys.modules)
    there(memory.name)
    yield signature_of(load_plug(memory.name), tier, before)


BOUNDS = {"default": Bounds(60.0), "full": Bounds(3600.0)}
"""What a cell of a tier may take, unless the plan says otherwise."""
