"""The one way in which jobs are run beside each other: executors in the sense of :mod:`concurrent.futures`.

``memspec selfcheck``, ``memspec score`` of several memories and ``memspec sweep`` hand their jobs to an executor and do not
know which: :class:`Serial` (here, one after the other), :func:`processes` (this machine), or Dask's
(:mod:`memspec.sweep.cluster`). A job is a function that can be pickled and one argument; whatever is dangerous in it
(a memory) runs in processes that the job itself watches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from memspec.errors import MemspecError

J = TypeVar("J")
R = TypeVar("R")


class Serial(Executor):
    """Runs each job at once, in this thread."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def processes(workers: int) -> Executor:
    """So many jobs at once on this machine, each watched by a thread.

    The work of every job is done in processes of its own (forked from one that has imported everything, or a new
    interpreter), so there is nothing for a pool of further processes to do but wait: threads wait more cheaply, and
    none of them is lost when a memory ends its process.
    """
    return Serial() if workers == 1 else ThreadPoolExecutor(workers, thread_name_prefix="memspec")


def worker_count(text: str | int) -> int:
    """``auto`` (one a core that this process may use), or a number.

    Raises:
        MemspecError: if it is neither.
    """
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not str(text).isdecimal() or int(text) < 1:
        raise MemspecError(f"{text} workers: it is a number from 1, or 'auto'")
    return int(text)


def completed(
    executor: Executor, work: Callable[[J], R], take: Callable[[], J | None], window: int
) -> Iterator[tuple[J, Future[R]]]:
    """Run jobs, and yield each with its future as it ends.

    No more than ``window`` are handed over at a time, so that neither side holds more than that however many there are.

    Args:
        take: the next job, or None where there is none (yet); asked again after each that has ended, so that what came of one may
            add others.
    """
    running: dict[Future[R], J] = {}
    try:
        while True:
            while len(running) < window and (job := take()) is not None:
                future = executor.submit(work, job)
                running[future] = job
                if future.done():
                    break  # a serial one: its result is wanted before the next is begun
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future
    finally:
        for future in running:
            future.cancel()


def results(executor: Executor, work: Callable[[J], R], jobs: Iterable[J], window: int) -> Iterator[tuple[J, R]]:
    """What every job comes to, in the order in which they end.

    Raises:
        Exception: what a job raised; the others that have begun run to their end unheard.
    """
    waiting = iter(jobs)
    for job, future in completed(executor, work, lambda: next(waiting, None), window):
        yield job, future.result()
