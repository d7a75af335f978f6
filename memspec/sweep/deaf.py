"""Loaded by every worker of the cluster that a sweep starts: Ctrl-C, which a terminal sends to all, is for the sweep alone."""

from __future__ import annotations

import contextlib
import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Hear it no more; the sweep ends its workers."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
