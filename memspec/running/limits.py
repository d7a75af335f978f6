"""What holds a process to its bounds: memory by the operating system, death with its parent, stacks when it hangs."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
DUMP = getattr(signal, "SIGUSR2", None)
"""The signal on which a process writes its stacks."""


def die_with_parent() -> None:
    """Ask the operating system to end this process with the one that started it (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind, so that it can end it (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def limit_memory(more: int) -> None:
    """Let this process take ``more`` bytes than it has now; an allocation beyond that is refused."""
    import resource

    used = data_bytes(os.getpid())
    if used is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = used + more if hard == resource.RLIM_INFINITY else min(used + more, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def data_bytes(pid: int) -> int | None:
    """Bytes of a process's own writable memory, as the limit counts them; None where that cannot be read."""
    return _status(pid, "VmData:")


def resident_bytes(pid: int) -> int | None:
    """Bytes of real memory that a process holds; None where that cannot be read."""
    return _status(pid, "VmRSS:")


def available_bytes() -> int:
    """Bytes that could be taken now without swapping; 8 GiB where that cannot be read."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return 8 << 30


def _status(pid: int, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return None


class Stacks:
    """Where a process writes the stacks of its threads: at a fatal signal, on :data:`DUMP`, or when time is up.

    The writing is done in C, without Python's lock, so it works where a memory hangs in compiled code.
    """

    def __init__(self, path: str) -> None:
        self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115 (open as long as the process lives)
        faulthandler.enable(self._file, all_threads=True)
        if DUMP is not None:
            faulthandler.register(DUMP, self._file, all_threads=True, chain=False)

    def clear(self) -> None:
        """Forget what was written."""
        self._file.seek(0)
        self._file.truncate()

    def after(self, seconds: float) -> None:
        """Write the stacks once, so many seconds from now."""
        faulthandler.dump_traceback_later(seconds, repeat=False, file=self._file, exit=False)

    def cancel(self) -> None:
        faulthandler.cancel_dump_traceback_later()
