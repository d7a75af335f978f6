"""Every check of a memory runs in that memory's own process; this is the side that watches.

The pytest process that the user started never loads a memory. Where it would run a check it sends the check's name to
the memory's process (:mod:`memspec.running.server`) and hands the reports that come back to pytest, so that ``-k``,
``-x``, ``--lf``, JUnit files, other plugins and pytest-xdist see an ordinary run. When the process dies or exceeds a limit, the
check that was running fails with the cause and the stack, and the next check gets a new process.

Isolation is against accidents: a memory that means harm can do all that its user can.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memspec.errors import MemspecError
from memspec.failure import printable
from memspec.running import limits
from memspec.running.messages import (
    Collected,
    Done,
    Event,
    Forked,
    Loaded,
    Pong,
    Reaped,
    Reported,
    Unknown,
    Warned,
    read,
)
from memspec.running.wire import GONE, Channel, Closed, Damaged, Listener, connect
from memspec.world.processes import end_marked, is_stopped

STARTUP = 120.0
"""Seconds that importing and collecting may take on a busy machine."""
ANSWER = 30.0
"""Seconds in which the server answers, if it is not stopped."""
GRACE = 2.0
"""Seconds between the time at which a process writes its stacks and its end."""
LOOK = 0.25
"""Seconds between two looks at how much memory a process holds."""
DEATHS = 25
"""Processes of one memory that may die before the rest of its checks is given up."""
DEAR = 3
"""Of these, how many may cost long."""
ENDED = "ended"
LIVING = 3
"""Memories whose processes are kept at once; the one used longest ago is ended first."""
MARK = "MEMSPEC_PROCESSES_OF"
"""The variable by which every process below a server is known, whatever it does with its group and its parents."""
STACK_LINES = 30
ACTS_IN_RUN = (
    "Plugins that are installed, but not named, act in the run alone; "
    "-p NAME loads one there too, and --memspec-no-isolate does without such processes."
)
CRASHES = "a crash in compiled code, or an exit that the memory calls; the stack shows where"
SLOW = 30
"""Times as long as any other a check marked slow may take: it trains something."""
HANGS = "an endless loop, a lock that nobody frees, or work that takes this long (--memspec-check-timeout)"
PARENT = "a signal that the memory sends to its parent process, or to every process"
DAMAGED = "files, sockets or functions of the whole process that the memory has replaced or written to"
LEAKS = "what is stored is never freed, or a copy is made for every trial (--memspec-memory-limit)"


@dataclass(frozen=True)
class Limits:
    """What one process may take.

    Attributes:
        seconds: for one check, beside what its plan lets a slow memory's calls take.
        memory_bytes: beyond what an empty process has.
    """

    seconds: float = 60.0
    memory_bytes: int = 8 << 30


@dataclass(frozen=True)
class Death:
    """How a memory's process ended in the middle of something.

    Attributes:
        cause: one clause, such as ``its process was ended by SIGSEGV``.
        likely: what usually is behind it.
        stack: where it was, as faulthandler wrote it; may be empty.
        dear: it cost long: time was up, or the waiting process had to be started anew.
    """

    cause: str
    likely: str
    stack: str = ""
    dear: bool = False


class Refused(MemspecError):
    """The memory could not be loaded."""


@dataclass
class Holder:
    """The process of one memory, seen from outside."""

    memory: str
    pid: int
    channel: Channel
    stacks: Path
    server: str
    used: float = field(default_factory=time.monotonic)


class Pool:
    """The processes that one process of a run uses: the server (shared by all of them), and a holder for each memory in use.

    Args:
        order: what the server is told: ``arguments`` of pytest and ``path`` to import from.
        bounds: what a holder may take.
        server: where a server listens that another process of this run has started; None starts one.
    """

    def __init__(self, order: dict[str, Any], bounds: Limits, server: str | None = None) -> None:
        self.bounds = bounds
        self.folder = Path(tempfile.mkdtemp(prefix="memspec-"))
        self.deaths: dict[str, list[Death]] = {}
        self._listener = Listener(str(self.folder / "holders"))
        self.order = order
        self._holders: dict[str, Holder] = {}
        self._count = 0
        self._ran = ""  # the memory whose check ran last
        self._server: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._server_pid = 0
        self.server_path = server or self._start()

    # ---- the server -------------------------------------------------------------------------------------------

    def _start(self) -> str:
        """Start a server; it collects while this process does."""
        self._count += 1
        path = str(self.folder / f"server-{self._count}")
        program = (
            "import json, sys; from memspec.running.server import main; "
            "sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))"
        )
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, path, json.dumps(self.order)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, MARK: str(self.folder), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        return path

    def server(self) -> Channel:
        """The channel to the server, once it has collected.

        Raises:
            MemspecError: if it has ended, or takes too long; with what it printed.
        """
        end = time.monotonic() + STARTUP
        while self._server is None:
            try:
                self._server = connect(self.server_path)
            except OSError:
                gone = self._process is not None and self._process.poll() is not None
                if gone or Path(f"{self.server_path}{GONE}").exists():
                    raise MemspecError(
                        f"the process for memories did not start. {ACTS_IN_RUN}\n{self._log()}"
                    ) from None
                if time.monotonic() > end:
                    raise MemspecError(f"the process for memories was not ready after {STARTUP:g} seconds") from None
                time.sleep(0.01)
        return self._server

    def manifest(self) -> dict[str, Any]:
        """What the server has collected, as JSON."""
        collected: Collected = self._ask_server(Collected, order="manifest")
        return collected.manifest

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (Path(self.server_path).parent / "log").read_text(encoding="utf-8", errors="replace")[-3000:]
        return ""

    def _ask_server(self, kind: Any, **order: Any) -> Any:
        """The server's answer; if it has died (a memory may have killed it) another one is started."""
        for _ in range(2):
            try:
                self.server().send(**order)
                message, _ = self._heard(STARTUP)
                if message is not None:
                    return read(message, kind)
            except Closed:
                pass
            self._stop_server()
            self.server_path = self._start()
            if kind is Reaped:
                return Reaped(None)  # it was the dead server's child, and has died with it
        raise MemspecError(f"the process for memories died twice:\n{self._log()}")

    def _heard(self, seconds: float) -> tuple[dict[str, Any] | None, bool]:
        """What the server says within so many seconds, and whether it had been stopped; it is told to go on.

        Raises:
            Closed: if it is gone.
        """
        end, stopped = time.monotonic() + seconds, False
        while True:
            message = self.server().receive(LOOK)
            if message is not None or time.monotonic() > end:
                return message, stopped
            if self._server_pid and is_stopped(self._server_pid):
                stopped = True
                with contextlib.suppress(OSError):
                    os.kill(self._server_pid, signal.SIGCONT)

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._process is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            end_marked(f"{MARK}={self.folder}")

    # ---- the holders ------------------------------------------------------------------------------------------

    def holder(self, memory: str) -> Holder:
        """The process of a memory, started if there is none.

        Raises:
            Refused: if the memory cannot be loaded; the message says why.
            Died: if the process ended while loading it.
        """
        if memory in self._holders:
            found = self._holders[memory]
            found.used = time.monotonic()
            return found
        while len(self._holders) >= LIVING:
            self.end(min(self._holders, key=lambda k: self._holders[k].used))
        self._count += 1
        name, stacks = f"holder-{self._count}", self.folder / f"stacks-{self._count}"
        forked: Forked = self._ask_server(
            Forked,
            order="fork",
            name=name,
            listener=self._listener.path,
            memory=memory,
            stacks=str(stacks),
            seconds=self.bounds.seconds,
            memory_bytes=self.bounds.memory_bytes,
        )
        self._server_pid = forked.server
        channel = self._listener.accept(name, STARTUP)
        if channel is None:
            raise MemspecError(f"the process for {memory} did not report:\n{self._log()}")
        found = Holder(memory, forked.pid, channel, stacks, self.server_path)
        self._holders[memory] = found
        for event in self._events(memory, found, self.bounds.seconds):
            if isinstance(event, Loaded):
                if event.refused is not None:
                    self.end(memory)
                    raise Refused(event.refused)
                return found
        raise AssertionError("unreachable: events end with an exception or with the awaited one")

    def run(self, key: str, item: str, following: str | None, slow: bool = False) -> Iterator[Reported | Warned]:
        """The events of one check, run in the process of ``key``; a ``slow`` one has :data:`SLOW` times as long.

        Raises:
            Refused, Died: as :meth:`holder`; Died too if the process ended, or had to be, before the check was done.
        """
        self._drop_if_gone(key)
        found = self.holder(key)
        self._ran = key
        seconds = self.bounds.seconds * (SLOW if slow else 1)
        try:
            found.channel.send(order="run", item=item, next=following, seconds=seconds)
        except Closed:
            raise Died(self._dead(key, found)) from None
        for event in self._events(key, found, seconds):
            if isinstance(event, Done):
                break
            if isinstance(event, Unknown):
                if any(planned[0] == item for planned in self.manifest()["planned"]):
                    raise Died(self.distrust(key, Damaged("it said that there is no such check, which there is")))
                raise MemspecError(f"the process for memories does not know the check {item}. {ACTS_IN_RUN}")
            if not isinstance(event, Loaded):
                yield event
        if gone := self._server_gone():
            raise Died(self._dead(key, found, f"it {gone} the process that it was copied from", PARENT))

    def _drop_if_gone(self, key: str) -> None:
        """A process that ended while it had nothing to do: by itself, or with its server, which another memory has ended.

        Raises:
            Died: if it was by itself.
        """
        found = self._holders.get(key)
        if found is None:
            return
        try:
            found.channel.receive(0)
        except Closed:
            if found.server == self.server_path and (key == self._ran or not self._server_gone()):
                raise Died(self._dead(key, found)) from None  # something of the memory's went on after the last check
            self._kill(found.pid)
            del self._holders[key]
            found.channel.close()

    def _server_gone(self) -> str:
        """What became of the server: :data:`ENDED` (or it is ending: then it answers nothing any more), ``stopped`` and
        told to go on, or nothing.
        """
        if self._server is None:
            return ""
        try:
            self._server.send(order="ping")
            message, stopped = self._heard(ANSWER)
            if message is not None:
                read(message, Pong)
                return "stopped" if stopped else ""
        except Closed:
            return ENDED
        if self._process is not None:  # another one is started, or every later question would wait
            self._stop_server()
            self.server_path = self._start()
        return ENDED

    def _events(self, key: str, found: Holder, seconds: float) -> Iterator[Event]:
        """What a process says, until it dies or the time is up; then :class:`Died`."""
        begun, more = time.monotonic(), 0.0
        while True:
            try:
                message = found.channel.receive(LOOK)
                event = None if message is None else read(message, Event)
            except Damaged as damage:
                raise Died(self._dead(key, found, str(damage), DAMAGED)) from None
            except Closed:
                raise Died(self._dead(key, found)) from None
            if event is not None:
                more = event.more if isinstance(event, Reported) else more
                yield event
                if time.monotonic() < begun + seconds + more:  # whoever never stops talking is ended too
                    continue
            held = limits.resident_bytes(found.pid)
            if held is not None and held > 2 * self.bounds.memory_bytes:
                raise Died(self._dead(key, found, f"it held {held / 2**30:.1f} GiB of memory", LEAKS))
            if time.monotonic() > begun + seconds + more + GRACE:
                if not _text(found.stacks) and limits.DUMP is not None:
                    with contextlib.suppress(OSError):
                        os.kill(found.pid, limits.DUMP)
                        time.sleep(0.2)
                raise Died(self._dead(key, found, f"it was not done after {seconds + more:g} seconds", HANGS))

    def exhausted(self, key: str) -> bool:
        """Whether a memory's processes have died so often that another one is not worth its time."""
        deaths = self.deaths.get(key, [])
        return len(deaths) >= DEATHS or sum(d.dear for d in deaths) >= DEAR

    def distrust(self, key: str, damage: Damaged) -> Death:
        """End the process of a memory that said what cannot be."""
        return self._dead(key, self._holders[key], str(damage), DAMAGED)

    def _dead(self, key: str, found: Holder, why: str = "", likely: str = CRASHES) -> Death:
        """End what is left of a process, and say how it ended."""
        self._kill(found.pid)
        reaped: Reaped = self._ask_server(Reaped, order="reap", pid=found.pid)
        status = reaped.status
        self._holders.pop(key, None)
        found.channel.close()
        stack = _text(found.stacks)
        if not stack and status and not why:  # it may have said why it ended
            stack = printable("\n".join(self._log().splitlines()[-STACK_LINES:]))
        dear = likely == HANGS or why.startswith(f"it {ENDED}")
        death = Death(why or _cause(status), likely, stack, dear)
        self.deaths.setdefault(key, []).append(death)
        return death

    def end(self, key: str) -> None:
        """End the process of a memory that is not needed any more."""
        found = self._holders.pop(key)
        with contextlib.suppress(Closed):
            found.channel.send(order="end")
            found.channel.receive(GRACE)  # it ends at once: there is nothing to wait for but the end of the line
        self._kill(found.pid)
        self._ask_server(Reaped, order="reap", pid=found.pid)
        found.channel.close()

    @staticmethod
    def _kill(pid: int) -> None:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End everything."""
        for key in list(self._holders):
            found = self._holders.pop(key)
            self._kill(found.pid)
            found.channel.close()
        self._stop_server()
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Died(MemspecError):
    """A memory's process ended in the middle of something."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.cause)
        self.death = death


def _cause(status: int | None) -> str:
    if status is None:
        return "its process is gone"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process was ended by signal {-status}"
    return f"its process ended itself with exit code {status}"


def _text(path: Path) -> str:
    """The stacks a process wrote, cut to what is worth reading: that of the thread which runs the checks comes first."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    starts = [n for n, line in enumerate(lines) if line.startswith(("Thread 0x", "Current thread"))]
    head = lines[: starts[0]] if starts else lines
    threads = [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)])]
    threads.sort(key=lambda thread: not any("_pytest" in line for line in thread))
    shown: list[str] = []
    for part in (head, *threads):
        own = next((n for n, line in enumerate(part) if "_pytest" in line), len(part))  # below that it is pytest's
        shown += part[:own]
    return printable("\n".join(shown[:STACK_LINES]))


def warning_of(event: Warned) -> warnings.WarningMessage:
    """The warning that an event describes, of its own category where that is known here."""
    module, name = event.category
    category = getattr(sys.modules.get(module), name, UserWarning)
    if not (isinstance(category, type) and issubclass(category, Warning)):
        category = UserWarning
    try:
        message = category(event.message)
    except Exception:  # a category that takes more than its text
        message = UserWarning(event.message)
    return warnings.WarningMessage(message, type(message), event.file, event.line)
