"""Timing two operations fairly: in turn, in one run, by their medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison: median seconds of both, and the largest absolute difference of their results (None: not equal)."""

    peer: str
    what: str
    ours: float
    theirs: float
    difference: float | None


Peer = Callable[[float], Iterator[Row]]
"""Seconds to spend a row -> rows; raises ImportError where the peer is not installed."""


def in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Median seconds of both, timed in turn until ``seconds`` are spent (at least five times each)."""
    times: tuple[list[float], list[float]] = ([], [])
    for operation in (ours, theirs):
        operation()
    stop = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < stop:
        for kept, operation in zip(times, (ours, theirs)):
            start = time.perf_counter()
            operation()
            kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])
