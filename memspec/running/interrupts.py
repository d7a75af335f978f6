"""How a run ends early, and what waits for it: Ctrl-C, requests to end, and writing what was decided."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Generator

import pytest

from memspec.running.signals import handled

INTERRUPTED = "the run was interrupted"


def stopped_by(session: pytest.Session, exitstatus: int) -> str:
    """Why a run ended before all that was planned had run; empty if it did not."""
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        return INTERRUPTED
    if exitstatus == pytest.ExitCode.INTERNAL_ERROR:
        return "pytest broke down"
    why = session.shouldfail or session.shouldstop
    return f"the run was stopped: {why}" if why else ""


PATIENCE = 10.0
"""Seconds that a run is given to end by itself once it was asked to."""


@contextlib.contextmanager
def held() -> Generator[None, None, None]:
    """Inside, Ctrl-C and a request to end wait: what was decided is being written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = [signal.SIGINT, signal.SIGTERM]
    before = [signal.signal(kind, signal.SIG_IGN) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before):
            signal.signal(kind, handler)


def heed_requests_to_end(config: pytest.Config) -> None:
    """A request to end (SIGTERM, SIGHUP) is taken as Ctrl-C is: processes are ended, and what was decided is written.

    Whoever asks again meanwhile is not heard for :data:`PATIENCE` seconds.
    """

    heard = -PATIENCE

    def interrupt(*_: object) -> None:
        nonlocal heard
        if time.monotonic() - heard < PATIENCE:
            return  # the run is coming to its end already
        heard = time.monotonic()
        raise KeyboardInterrupt

    run = contextlib.ExitStack()
    run.enter_context(handled([signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)], interrupt))
    config.add_cleanup(run.close)
