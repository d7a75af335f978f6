"""What is too dear to look at around every call, and is looked at around every check: the process around the memory."""

from __future__ import annotations

import builtins
import contextlib
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from memspec.world import settings
from memspec.world.disturbance import Disturbance
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
OFTEN_PATCHED: tuple[tuple[Any, str], ...] = tuple(
    (owner, name)
    for owner, names in (
        (torch, "tensor zeros ones empty full rand randn randint randperm normal bernoulli multinomial manual_seed "),
        (torch, "seed matmul mm bmm einsum add mul cat stack softmax sigmoid exp log norm equal allclose no_grad "),
        (torch, "where argmax topk sort save load set_default_dtype set_default_device compile inference_mode "),
        (torch.Tensor, "__matmul__ __add__ __mul__ __getitem__ __setitem__ __eq__ __repr__ backward clone detach "),
        (torch.Tensor, "to copy_ fill_ numpy item norm softmax topk sum mean max abs cpu float double "),
        (torch.nn.functional, "softmax normalize cosine_similarity linear relu dropout mse_loss cross_entropy "),
        (torch.nn.Module, "__call__ __setattr__ __getattr__ state_dict load_state_dict to train parameters "),
        (torch.autograd, "grad backward "),
        (torch.linalg, "norm solve inv lstsq svd "),
        (np, "array zeros dot matmul argmax allclose "),
        (np.random, "seed rand randn choice permutation normal "),
        (random, "seed random choice shuffle sample "),
        (time, "time perf_counter sleep monotonic "),
        (warnings, "warn showwarning simplefilter filterwarnings "),
        (builtins, "print open isinstance len sum max min range sorted "),
        (sys, "excepthook exit unraisablehook "),
        (os, "_exit kill getcwd "),
    )
    for name in names.split()
    if hasattr(owner, name)
)
"""Functions that code in a hurry replaces for the whole process."""
PATIENCE = 0.2
"""Seconds that a thread which is ending is given."""
_ABSENT = object()


class Guard:
    """The process as it was when this was made; :meth:`changed` compares, and puts right."""

    def __init__(self) -> None:
        self.process, self.children = own_id(), children()
        self.settings = settings.snapshot()
        self.threads = set(threading.enumerate())
        self.modules = set(sys.modules)
        self.before = {kind: read() for kind, (read, _) in STATES.items()}

    def changed(self, call: str = "the check") -> list[Disturbance]:
        """What is not as it was."""
        leave_if_copied(self.process)
        found = settings.changed(self.settings, call)
        imported = any(name.partition(".")[0] != "memspec" for name in sys.modules.keys() - self.modules)
        for kind, (read, restore) in STATES.items():
            before = self.before[kind]
            now = read()
            if now == before:
                continue
            if not (imported and kind in BY_IMPORT):
                found.append(Disturbance(kind, f"changed the {kind}{_difference(before, now)}", call))
            elif kind in KEPT:
                continue
            with contextlib.suppress(Exception):
                restore(before)
        left = self._left_behind()
        if left:
            names = ", ".join(sorted({thread.name for thread in left}))
            found.append(Disturbance("threads", f"left {len(left)} of its threads running ({names})", call))
        return found + left_behind(self.children, call)

    def _left_behind(self) -> list[threading.Thread]:
        """Threads begun since, that go on although nobody holds what began them."""
        left = [thread for thread in threading.enumerate() if thread not in self.threads]
        if not left:
            return []
        gc.collect()
        end = time.monotonic() + PATIENCE
        for thread in left:
            thread.join(max(0.0, end - time.monotonic()))
        return [thread for thread in left if thread.is_alive()]


BY_IMPORT = ("environment", "signal handlers", "import path", "numpy's error handling", "replaced functions")
"""What libraries may change when they are imported, which may be in a memory's first call."""
KEPT = ("environment", "import path", "replaced functions")
"""Of these, what they would not work without."""


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


def _functions() -> list[Any]:
    return [
        vars(owner).get(name, _ABSENT) if isinstance(owner, type) else getattr(owner, name, _ABSENT)
        for owner, name in OFTEN_PATCHED
    ]


def _restore_functions(was: list[Any]) -> None:
    for (owner, name), function in zip(OFTEN_PATCHED, was):
        now = vars(owner).get(name, _ABSENT) if isinstance(owner, type) else getattr(owner, name, _ABSENT)
        if now is function:
            continue
        if function is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, function)


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def _limits() -> dict[int, tuple[int, int]]:
    if resource is None:
        return {}
    numbers = {number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}
    return {number: resource.getrlimit(number) for number in numbers}


def _restore_limits(was: dict[int, tuple[int, int]]) -> None:
    for number, limit in was.items():
        if resource.getrlimit(number) != limit:
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
    "replaced functions": (_functions, _restore_functions),
    "standard streams": (_streams, _restore_streams),
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
    if before and isinstance(before, list) and len(before) == len(OFTEN_PATCHED) == len(now):
        changed = [f"{o.__name__}.{n}" for (o, n), a, b in zip(OFTEN_PATCHED, before, now) if a is not b]
        return f" ({', '.join(changed[:5])})"
    if isinstance(before, (bool, int, float, str)):
        return f" to {now} (it was {before})"
    return ""


@contextlib.contextmanager
def guarded() -> Iterator[list[Disturbance]]:
    """Inside is one check; afterwards the list holds what it left changed, which has been put right."""
    guard = Guard()
    found: list[Disturbance] = []
    try:
        yield found
    finally:
        found += guard.changed()
