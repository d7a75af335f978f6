"""What is too dear to look at around every call, and is looked at around every check: the process around the memory."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import locale
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, MethodType
from typing import Any

import numpy as np
import torch

from memspec.world import functions, settings
from memspec.world.disturbance import Disturbance, note_lasting
from memspec.world.processes import children, leave_if_copied, left_behind, own_id

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

SIGNALS = [
    getattr(signal, name)
    for name in [
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGALRM",
        "SIGCHLD",
        "SIGPIPE",
        "SIGUSR1",
        "SIGUSR2",
        "SIGQUIT",
        "SIGPROF",
        "SIGVTALRM",
    ]
    if hasattr(signal, name)
]
PATIENCE = 0.2
"""Seconds that a thread which is ending is given."""


class Guard:
    """The process as it was when this was made; :meth:`changed` compares, and puts right."""

    def __init__(self) -> None:
        self.process, self.children = own_id(), children()
        self.settings = settings.snapshot()
        self.threads = set(threading.enumerate())
        self.modules = set(sys.modules)
        self.functions = functions.snapshot()
        self.before = {kind: read() for kind, (read, _) in STATES.items()}

    def changed(self, call: str = "the check", alive: bool = False) -> list[Disturbance]:
        """What is not as it was.

        Args:
            alive: whether the memory lives on: threads that it holds are its own then.
        """
        leave_if_copied(self.process)
        new = {name for name in sys.modules.keys() - self.modules if name.partition(".")[0] != "memspec"}
        found = self._replaced(new, call)  # first: the rest may use them
        found += settings.changed(self.settings, call)
        for kind, (read, restore) in STATES.items():
            before = self.before[kind]
            now = read()
            if now == before:
                continue
            by_import = bool(new) and kind in BY_IMPORT and not (kind in KEPT and _lost(before, now))
            if by_import and kind in KEPT:
                continue
            with contextlib.suppress(Exception):
                restore(before)
            if not by_import and not _by_compiler(kind, before, now):
                what = f"changed the {kind}{_difference(before, now)}"
                found.append(Disturbance(kind, what, call, lasting=read() != before))
        left = [thread for thread in self._left_behind() if not (alive and _is_held(thread))]
        if left:
            names = ", ".join(sorted({thread.name for thread in left}))
            found.append(Disturbance("threads", f"left {len(left)} of its threads running ({names})", call))
        return found + left_behind(self.children, call)

    def _replaced(self, imported: set[str], call: str) -> list[Disturbance]:
        """Functions that are others now; what imports have put there stays."""
        names = []
        for owner, name, was, now in functions.replaced(self.functions):
            if not (imported and functions.by_import(owner, now, imported)):
                names.append(functions.shown(owner, name))
                with contextlib.suppress(Exception):
                    functions.restore(owner, name, was)
        return [Disturbance(REPLACED, f"changed the {REPLACED} ({', '.join(names[:5])})", call)] if names else []

    def _left_behind(self) -> list[threading.Thread]:
        """Threads begun since, that go on although nobody holds what began them."""
        left = [t for t in threading.enumerate() if t not in self.threads and t not in _library_threads()]
        if not left:
            return []
        gc.collect()
        end = time.monotonic() + PATIENCE
        for thread in left:
            thread.join(max(0.0, end - time.monotonic()))
        return [thread for thread in left if thread.is_alive()]


REPLACED = "replaced functions"
BY_IMPORT = ("environment", "signal handlers", "import path", "numpy's error handling")
"""What libraries may change when they are imported, which may be in a memory's first call."""
KEPT = ("environment", "import path")
"""Of these, what they would not work without: what they add, for nothing of it may be lost."""


DEEP = 2000
"""The recursion limit that torch's compiler sets whenever it compiles, where it is lower."""


def _by_compiler(kind: str, before: Any, now: Any) -> bool:
    """Whether torch.compile, and not the memory that uses it, has changed this."""
    return kind == "recursion limit" and now == max(before, DEEP) and "torch._inductor.compile_fx" in sys.modules


def _library_threads() -> set[Any]:
    """The threads that libraries keep for as long as the process lives: torch's compiler, progress bars, joblib's workers."""
    pool = getattr(getattr(sys.modules.get("torch._inductor.async_compile"), "AsyncCompile", None), "pool", None)
    bars = getattr(getattr(sys.modules.get("tqdm.std"), "tqdm", None), "monitor", None)
    found: set[Any] = {bars}
    for name in ("joblib.externals.loky.reusable_executor", "loky.reusable_executor"):
        workers = getattr(sys.modules.get(name), "_executor", None)
        found.add(getattr(workers, "_executor_manager_thread", None))
        found.add(getattr(getattr(workers, "_call_queue", None), "_thread", None))
    with contextlib.suppress(Exception):  # another version of torch
        found |= set(pool()._threads) if pool is not None and pool.cache_info().currsize else set()
    return found


def _is_held(thread: threading.Thread) -> bool:
    """Whether somebody holds a thread's object, besides what Python itself keeps of it."""
    kept = (threading._active, threading._limbo)  # type: ignore[attr-defined]
    holders = [one for one in gc.get_referrers(thread) if not any(one is other for other in kept)]
    return any(not isinstance(one, (FrameType, MethodType)) for one in holders)


def _lost(before: Any, now: Any) -> bool:
    """Whether something of a list, or a key of a dict, is gone."""
    return any(one not in now for one in before)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "(deleted)"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def _restore_environment(was: dict[str, str]) -> None:
    for name in _environment().keys() - was.keys():
        del os.environ[name]
    os.environ.update(was)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in SIGNALS}


def _restore_handlers(was: dict[int, Any]) -> None:
    for number, handler in was.items():
        if signal.getsignal(number) != handler and handler is not None:
            signal.signal(number, handler)


def _streams() -> tuple[Any, ...]:
    return sys.stdout, sys.stderr, sys.stdin, *(bool(getattr(s, "closed", False)) for s in (sys.stdout, sys.stderr))


def _restore_streams(was: tuple[Any, ...]) -> None:
    sys.stdout, sys.stderr, sys.stdin = was[:3]
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(getattr(sys, name), "closed", False):
            setattr(sys, name, open(os.dup(number), "w", buffering=1))  # noqa: SIM115


_behind_streams: dict[tuple[int, int], int] = {}
"""Files that were found behind the standard streams, each with a number of ours under which it stays open."""
MOST = 16
"""Of these, how many are kept: a run has two or three."""


def _descriptors() -> list[tuple[int, int] | None]:
    """Which files stand behind the numbers of the standard streams."""
    found = [_behind(number) for number in range(3)]
    for number, file in enumerate(found):
        if file is not None and len(_behind_streams) < MOST and _behind(_behind_streams.get(file, -1)) != file:
            with contextlib.suppress(OSError):
                _behind_streams[file] = os.dup(number)
    return found


def _behind(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _restore_descriptors(was: list[tuple[int, int] | None]) -> None:
    for number, file in enumerate(was):
        kept = -1 if file is None else _behind_streams.get(file, -1)
        if _behind(number) != file and _behind(kept) == file:
            os.dup2(kept, number)


TIMERS = [getattr(signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, name)]


def _timers() -> list[bool]:
    """Which timers will send a signal."""
    return [signal.getitimer(timer)[0] > 0 for timer in TIMERS]


def _restore_timers(was: list[bool]) -> None:
    for timer, armed in zip(TIMERS, was):
        if not armed:  # one that somebody else had set cannot be set as it was
            signal.setitimer(timer, 0)


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def _limits() -> dict[str, tuple[int, int]]:
    names = () if resource is None else [name for name in vars(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _restore_limits(was: dict[str, tuple[int, int]]) -> None:
    for name, limit in was.items():
        number = getattr(resource, name)
        if resource.getrlimit(number) != limit:
            with contextlib.suppress(OSError, ValueError):  # the others are put back all the same
                resource.setrlimit(number, limit)


def _flushes_denormals() -> bool:
    return bool(torch.tensor(1e-40) * 1 == 0)


def _print_options() -> tuple[Any, ...]:
    options = torch._tensor_str.PRINT_OPTS
    return tuple(sorted(vars(options).items())), tuple((k, repr(v)) for k, v in np.get_printoptions().items())


def _restore_print_options(was: tuple[Any, ...]) -> None:
    vars(torch._tensor_str.PRINT_OPTS).update(dict(was[0]))


def _collector() -> tuple[Any, ...]:
    return gc.isenabled(), gc.get_threshold()


def _restore_collector(was: tuple[Any, ...]) -> None:
    (gc.enable if was[0] else gc.disable)()
    gc.set_threshold(*was[1])


def _tracing() -> tuple[Any, ...]:
    return sys.getprofile(), sys.gettrace()


def _restore_tracing(was: tuple[Any, ...]) -> None:
    sys.setprofile(was[0])
    sys.settrace(was[1])


STATES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "working folder": (_cwd, os.chdir),
    "environment": (_environment, _restore_environment),
    "signal handlers": (_handlers, _restore_handlers),
    "import path": (lambda: list(sys.path), lambda was: sys.path.__setitem__(slice(None), was)),
    "standard streams": (_streams, _restore_streams),
    "standard descriptors": (_descriptors, _restore_descriptors),
    "timers": (_timers, _restore_timers),
    "priority": (_priority, lambda was: os.setpriority(os.PRIO_PROCESS, 0, was)),
    "locale": (lambda: locale.setlocale(locale.LC_ALL), lambda was: locale.setlocale(locale.LC_ALL, was)),
    "fault handler": (faulthandler.is_enabled, lambda was: faulthandler.enable() if was else faulthandler.disable()),
    "recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "garbage collector": (_collector, _restore_collector),
    "file mode mask": (_umask, os.umask),
    "resource limits": (_limits, _restore_limits),
    "numpy's error handling": (np.geterr, lambda was: np.seterr(**was)),
    "flushing of denormals": (_flushes_denormals, torch.set_flush_denormal),
    "autocast": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda was: torch.set_autocast_enabled("cpu", was),
    ),
    "print options": (_print_options, _restore_print_options),
    "switch interval": (sys.getswitchinterval, sys.setswitchinterval),
    "profiler": (_tracing, _restore_tracing),
}
"""What is compared, how it is read, and how it is put back."""


def _difference(before: Any, now: Any) -> str:
    """What of a state differs, in a few words."""
    if isinstance(before, dict):
        names = sorted(str(k) for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        return f" ({', '.join(names[:5])})"
    if isinstance(before, (bool, int, float, str)):
        return f" to {now} (it was {before})"
    return ""


@contextlib.contextmanager
def guarded(call: str = "the check", memory: str = "") -> Iterator[list[Disturbance]]:
    """Inside is one check, or another use of a memory; afterwards the list holds what it left changed, which has been put right.

    Args:
        call: the use in words.
        memory: of a use that is no check, the name of the memory: what cannot be put right is told by its checks.
    """
    guard = Guard()
    found: list[Disturbance] = []
    try:
        yield found
    finally:
        found += guard.changed(call)
        if memory:
            note_lasting(memory, found)
