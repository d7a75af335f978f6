"""Requests to end, outside of pytest: they are taken as Ctrl-C is, so that there is one way in which a command ends early."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator, Iterable
from types import FrameType
from typing import Any


class AskedToEnd(KeyboardInterrupt):
    """A signal asked this process to end; its name is the message."""


def stopped(error: KeyboardInterrupt) -> str:
    """What ended a command early, in words."""
    return f"ended by {error}" if isinstance(error, AskedToEnd) else "interrupted"


@contextlib.contextmanager
def heeded() -> Generator[None, None, None]:
    """Inside, SIGTERM and SIGHUP raise :class:`AskedToEnd`; a program that has its own handlers, or is no main thread, keeps them."""

    def end(number: int, frame: FrameType | None) -> None:
        raise AskedToEnd(signal.Signals(number).name)

    with handled([signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)], end):
        yield


@contextlib.contextmanager
def deferred() -> Generator[None, None, None]:
    """Requests to end that come inside are obeyed when the block ends: what is half begun cannot be ended cleanly.

    Processes that are started inside do not hear Ctrl-C.
    """
    heard: list[int] = []
    kinds = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]
    masks = threading.current_thread() is threading.main_thread() and hasattr(signal, "pthread_sigmask")
    if not masks:
        yield
        return
    before = {kind: known for kind in kinds if (known := signal.getsignal(kind)) not in (None, signal.SIG_IGN)}
    for kind in before:
        signal.signal(kind, lambda number, frame: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes and threads begin with this one's mask
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what was held back comes now
        for kind, known in before.items():
            signal.signal(kind, known)
        if heard:
            signal.raise_signal(heard[0])


@contextlib.contextmanager
def inherited_deaf() -> Generator[None, None, None]:
    """Processes that are started inside do not hear Ctrl-C: this one does, and ends them."""
    with handled([signal.SIGINT], signal.SIG_IGN):
        yield


@contextlib.contextmanager
def handled(kinds: Iterable[signal.Signals], handler: Any) -> Generator[None, None, None]:
    """Inside, these signals go to a handler, but for those that have one other than Python's own; elsewhere than in the main
    thread, none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {kind: signal.getsignal(kind) for kind in kinds}
    before = {kind: known for kind, known in before.items() if known in usual}
    for kind in before:
        signal.signal(kind, handler)
    try:
        yield
    finally:
        for kind, known in before.items():
            signal.signal(kind, known)
