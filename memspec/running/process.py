"""Work in a process of its own, under a deadline and a memory limit: how a memory is measured outside of the suites.

:func:`ask` and :func:`stream` run a task in a process forked from one that has imported everything but the memories
(torch takes seconds to import, a fork hundredths of one). :func:`forked` runs a function in a copy of the present
process. Whatever a memory does there (raise, hang, exit, take all memory, crash in compiled code), the caller goes on,
and is told how it ended. Isolation is against accidents: a memory that means harm can do all that its user can.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import multiprocessing
import os
import pickle
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any

from memspec.errors import MemspecError
from memspec.failure import printable
from memspec.running import limits
from memspec.running.signals import inherited_deaf

BYTES = 4 << 30
"""Memory that a process may take beyond what it starts with."""
GRACE = 0.5
"""Seconds between the time at which a process writes its stacks and its end."""
LOOK = 0.1
"""Seconds between two looks at how much memory a process holds."""
STACK = ("Timeout (", "Fatal Python error", "Current thread", "Thread 0x")
"""How faulthandler begins."""
LINES = 30
"""Lines of what a process wrote at its end that are kept."""


@dataclass(frozen=True)
class Bounds:
    """What one piece of work may take: ``seconds``, and ``memory_bytes`` beyond what its process starts with."""

    seconds: float = 60.0
    memory_bytes: int = BYTES


@dataclass(frozen=True)
class Ended:
    """A process that gave no answer.

    Attributes:
        why: ``time``, ``memory`` or ``death``.
        what: in words.
        stack: where it was, and what it had written to its standard error; may be empty.
    """

    why: str
    what: str
    stack: str = ""


# ---- from a process that has all imported ---------------------------------------------------------------------


def ask(task: Callable[..., Any], arguments: dict[str, Any], limit: float, preload: Sequence[str]) -> Any:
    """``task(**arguments)`` in a process of its own, or :class:`Ended` after ``limit`` seconds or its death.

    Args:
        preload: modules that the process has imported when it starts; no memory may be among them.

    Raises:
        MemspecError: if the task raised one.
    """
    with contextlib.closing(_answers(task, arguments, limit, preload, several=False)) as answers:
        return next(answers)


def stream(
    task: Callable[..., Iterator[Any]], arguments: dict[str, Any], limit: float, preload: Sequence[str]
) -> Generator[Any, None, None]:
    """What a generator yields in a process of its own, as it comes; an :class:`Ended` comes last if it was cut off.

    Args:
        limit: seconds for each of its values.

    Raises:
        MemspecError: if the task raised one.
    """
    return _answers(task, arguments, limit, preload, several=True)


def _answers(
    task: Callable[..., Any], arguments: dict[str, Any], limit: float, preload: Sequence[str], several: bool
) -> Generator[Any, None, None]:
    context = server(tuple(preload))
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, task, arguments, several), daemon=True)
    _may_have_children()
    process.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(limit):
                yield Ended("time", f"no end after {limit:.0f} s")
                return
            kind, answer = ours.recv()
            if kind == "end":
                return
            if kind == "raised":
                raise answer
            yield answer
            if not several:
                return
    except (EOFError, OSError):
        process.join()
        yield Ended("death", f"the process ended with code {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()


@functools.cache
def server(preload: tuple[str, ...]) -> Any:
    """Where processes come from: a fork server with everything imported; a fresh interpreter where there is none."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with inherited_deaf():  # it ends with this process, and says nothing of a Ctrl-C meanwhile
        forkserver.ensure_running()
    return context


def _may_have_children() -> None:
    """Workers of Dask and of multiprocessing are started as daemons, which may have no children unless they say so."""
    current = multiprocessing.current_process()
    if current.daemon:
        current.daemon = False


def _answer(pipe: Connection, task: Callable[..., Any], arguments: dict[str, Any], several: bool) -> None:
    import torch

    torch.set_num_threads(1)
    multiprocessing.set_start_method(
        None, force=True
    )  # this machine's own: locks of a fork server outlive who is killed
    limits.die_with_parent()
    limits.limit_memory(BYTES)
    message: tuple[str, Any]
    try:
        if several:
            for answer in task(**arguments, pipe=pipe.fileno()):
                pipe.send(("value", answer))
            message = "end", None
        else:
            message = "value", task(**arguments)
    except MemoryError:
        os._exit(1)
    except BrokenPipeError:  # nobody waits any more
        os._exit(0)
    except Exception as error:
        message = (
            "raised",
            error if isinstance(error, MemspecError) else MemspecError(f"{type(error).__name__}: {error}"),
        )
    pipe.send(message)
    pipe.close()
    os._exit(0)  # what a memory has left behind is not waited for


# ---- in a copy of this process --------------------------------------------------------------------------------


def forked(function: Callable[[], Any], bounds: Bounds, waited_for: int | None = None) -> Any:
    """``function()`` in a copy of this process, or :class:`Ended`.

    What it prints is thrown away; the end of what it writes to standard error is kept where it gives no answer.

    Args:
        bounds: the deadline is kept by this process, so that it holds for code that never comes back to Python.
        waited_for: the writing end of a pipe; when nobody reads it any more the copy is ended, and so is this process.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        readable, writable = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(readable)
            _in_copy(function, bounds, writable, words)
        os.close(writable)
        try:
            answer, broken = _read(readable, pid, bounds, waited_for)
        finally:
            status = _end(pid)
            os.close(readable)
        if broken is None and answer:
            with contextlib.suppress(pickle.UnpicklingError, EOFError):
                return pickle.loads(answer)
        why, what = broken or ("death", _how(status))
        words.seek(0)
        return Ended(why, what, _told(words.read().splitlines()))


def _in_copy(function: Callable[[], Any], bounds: Bounds, pipe: int, words: IO[str]) -> None:
    """The life of a copy; it never returns."""
    status = 1
    try:
        os.setsid()
        limits.die_with_parent()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(words.fileno(), 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        faulthandler.enable(words, all_threads=True)
        faulthandler.dump_traceback_later(bounds.seconds, exit=False, file=words)
        limits.limit_memory(bounds.memory_bytes)
        answer = pickle.dumps(function())
        faulthandler.cancel_dump_traceback_later()
        with open(pipe, "wb") as file:
            file.write(answer)
        status = 0
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _read(pipe: int, pid: int, bounds: Bounds, waited_for: int | None) -> tuple[bytes, tuple[str, str] | None]:
    """What a copy answers, and why it has to be ended if it has to be."""
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    if waited_for is not None:
        waiting.register(waited_for, 0)  # errors alone: the other end has closed
    end = time.monotonic() + bounds.seconds + GRACE
    came = bytearray()
    while True:
        for ready, _ in waiting.poll(1000 * LOOK):
            if ready == waited_for:
                _end(pid)
                os._exit(0)
            part = os.read(pipe, 1 << 20)
            if not part:
                return bytes(came), None
            came += part
        if time.monotonic() > end:
            return b"", ("time", f"it was not done after {bounds.seconds:g} seconds")
        held = limits.resident_bytes(pid)
        if held is not None and held > 2 * bounds.memory_bytes:
            return b"", ("memory", f"it held {held / 2**30:.1f} GiB of memory")


def _told(lines: list[str]) -> str:
    """What is worth keeping of what a copy wrote: the innermost frames of its stacks, or else its last words."""
    first = next((n for n, line in enumerate(lines) if line.startswith(STACK)), len(lines))
    own = [n for n, line in enumerate(lines) if n > first and __file__ in line]
    return printable("\n".join([*lines[:first][-LINES:], *lines[first : min([*own, first + LINES])]]))


def _end(pid: int) -> int:
    """End a copy and its group; its exit status (negative: the signal)."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        # a copy that has answered is leaving by itself
        for _ in range(20):
            time.sleep(0.0005)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            if kill is os.killpg or not ended:
                kill(pid, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _how(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process was ended by signal {-status}"
    return f"its process ended itself with exit code {status}"


def can_fork() -> bool:
    """Whether this machine can copy processes."""
    return hasattr(os, "fork") and sys.platform != "win32"
