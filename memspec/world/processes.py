"""The processes that a memory starts: copies of this one that come back out of its calls, and what it leaves behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from memspec.failure import plain
from memspec.world.disturbance import Disturbance

CAME_BACK = 87
"""Exit code of a copy that came back."""
PATIENCE = 0.2
"""Seconds that a process which is ending is given."""
ROUNDS = 5
"""Times that is looked for what the ended ones have left in their turn."""
COMPILER = "torch/_inductor/compile_worker"
"""What the command lines of torch.compile's own processes have in them: they live as long as the process does."""

own_id, _leave = os.getpid, os._exit  # as they are before any memory can replace them


def leave_if_copied(from_: int) -> None:
    """End this process at once if it is a copy, forked since, of the one with this id: only that one may go on.

    A memory that forks, and whose child returns or raises instead of ending, would run the rest of the checks twice.
    """
    if own_id() != from_:
        _leave(CAME_BACK)


def children() -> frozenset[int]:
    """The children of this process that live, or that nobody has waited for (Linux; elsewhere none are found)."""
    if not hasattr(os, "waitid"):
        return frozenset()
    try:  # that there are none at all is one question; which there are takes many
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return frozenset()
    mine = own_id()
    return frozenset(pid for pid in _processes() if _parent(pid) == mine)


def left_behind(before: frozenset[int], call: str) -> list[Disturbance]:
    """Processes begun since there were those of ``before``, which nobody has waited for or holds; they are ended.

    Pools and servers that a memory, or a library that it uses, holds and asks again are theirs.
    """
    if not children() - before - _libraries():
        return []
    gc.collect()  # pools end theirs when nobody holds them any more
    before |= _held()
    subprocess._cleanup()  # type: ignore[attr-defined]  # waits for those that ended unheard
    end = time.monotonic() + PATIENCE
    while _living(children() - before - _libraries()) and time.monotonic() < end:
        time.sleep(0.01)
    names, back = [], 0
    for _ in range(ROUNDS):
        new = children() - before - _libraries()
        if not new:
            break
        living = _living(new)
        names += [_name(pid) for pid in living]
        back += sum(end_child(pid) == CAME_BACK for pid in new)
    found = []
    if back:
        what = "forked this process, and the copy came back out of the call (it has to end with os._exit)"
        found.append(Disturbance("copies of the process", what, call))
    if names:
        listed = ", ".join(sorted(set(names))[:5])
        found.append(Disturbance("processes", f"left {len(names)} of its processes behind ({listed})", call))
    return found


def _held() -> frozenset[int]:
    """Processes whose objects somebody holds: a pool, an executor, a memory, besides what Python itself keeps of them."""
    own = sys.modules.get("multiprocessing.process")
    kept: set[Any] = getattr(own, "_children", set())
    begun = list(kept)
    found = {p.pid for p in begun if any(_is_holder(o, kept, begun) for o in gc.get_referrers(p))}
    unheard: list[Any] = subprocess._active or []  # type: ignore[attr-defined]
    popens = [o for o in gc.get_objects() if type(o) is subprocess.Popen and o not in unheard]
    return frozenset(pid for pid in (*found, *(p.pid for p in popens if p.returncode is None)) if pid)


def _is_holder(one: Any, *not_these: Any) -> bool:
    return not any(one is other for other in not_these) and not isinstance(one, FrameType)


def end_child(pid: int) -> int | None:
    """End a child and what is in its group; its exit code (negative: the signal), None if it is not ours to wait for."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            kill(pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def end_marked(mark: str) -> None:
    """End every process, whoever its parent is by now, that was started with ``mark`` in its environment (Linux)."""
    wanted, mine = mark.encode(), own_id()
    for pid in _processes():
        with contextlib.suppress(OSError):
            if pid != mine and wanted in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signal.SIGKILL)


def is_stopped(pid: int) -> bool:
    """Whether a process has been stopped (SIGSTOP), and waits to be told to go on."""
    return _stat(pid)[:1] == ["T"]


def _processes() -> list[int]:
    if sys.platform != "linux":
        return []
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return []


def _stat(pid: int) -> list[str]:
    """What ``/proc`` says of a process behind its name: state, parent, group, session, ...; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []


def _parent(pid: int) -> int:
    found = _stat(pid)
    return int(found[1]) if len(found) > 1 else 0


def _living(pids: frozenset[int]) -> list[int]:
    return [pid for pid in pids if _stat(pid)[:1] not in ([], ["Z"], ["X"])]


def _libraries() -> frozenset[int]:
    """Processes that libraries keep for as long as this one lives: helpers of Python and of joblib, and torch's compilers."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    helpers = [getattr(server, "_forkserver_pid", None)]
    for home in ("multiprocessing", "joblib.externals.loky.backend", "loky.backend"):
        tracker = getattr(sys.modules.get(f"{home}.resource_tracker"), "_resource_tracker", None)
        helpers.append(getattr(tracker, "_pid", None))
    return frozenset(pid for pid in helpers if pid) | frozenset(p for p in children() if COMPILER in _command(p))


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return said.decode("utf-8", "replace").strip()
    return ""


def _name(pid: int) -> str:
    """A process in a few words."""
    command = _command(pid)
    return "a copy of this process" if command == _command(own_id()) else plain(command, longest=60) or f"process {pid}"
