"""How often a memory is called and how long its calls take; and an end to calls when there is no time left for them.

Off, it costs nothing: methods are replaced, on the memory's own class so that copies and saved objects stay what they
are, only when a meter is started, which is done for memories whose calls are slow, and to count.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from memspec.errors import OutOfTime

METHODS = ("update", "query", "reset", "write", "read", "step", "run")


@dataclass(frozen=True)
class Pace:
    """What a memory's calls take, in seconds, rounded to a quarter of a decade: a busy machine finds the same.

    Attributes:
        call: one of few rows, or half of building a memory, if that is more.
        row: each further row of a long one.
    """

    call: float
    row: float

    @staticmethod
    def rounded(call: float, row: float | None = None) -> Pace:
        """Of what was timed; a row that was not is an eighth of a call."""
        whole, part = (float(f"{10 ** (round(math.log10(max(one, 1e-6)) * 4) / 4):.2g}") for one in (call, row or 0.0))
        return Pace(whole, whole / 8 if row is None else part)


@dataclass
class Meter:
    """Counts the outermost calls of memories.

    Attributes:
        on: whether memories that are built from now on are counted.
        calls: by method.
        seconds: inside memories.
        limit: calls in all after which the next is refused; None = never.
        started: calls in all when the present check began.
    """

    on: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    limit: int | None = None
    started: int = 0
    _depth: int = 0

    @property
    def tired(self) -> bool:
        """Whether the present check has used half of the calls it may make: time to come to an end."""
        return self.limit is not None and 2 * self.calls.total() >= self.started + self.limit

    def begin(self, calls: int) -> int:
        """A check begins that may make so many calls; what to give to :meth:`end`."""
        self.started = self.calls.total()
        self.limit = self.started + calls
        return self.started

    def end(self, began: int) -> int:
        """The check has ended; the calls it made."""
        self.limit = None
        return self.calls.total() - began

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """What is built in here is not counted: it is none of the memory under test."""
        on, self.on = self.on, False
        try:
            yield
        finally:
            self.on = on

    def count(self, name: str) -> None:
        """A call is about to be made.

        Raises:
            OutOfTime: if none is left.
        """
        if self.limit is not None and self.calls.total() >= self.limit:
            raise OutOfTime(counted=True)
        self.calls[name] += 1

    @staticmethod
    def timed(call: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds that something took, and what it gave."""
        start = time.perf_counter()
        given = call()
        return time.perf_counter() - start, given

    def attach(self, memory: Any) -> None:
        """Count the calls of this memory and of all others of its class."""
        owner = type(memory)
        for name in METHODS:
            method = getattr(owner, name, None)
            if callable(method) and not hasattr(method, "memspec_metered"):
                with contextlib.suppress(TypeError, AttributeError):  # a class of compiled code stays as it is
                    setattr(owner, name, self._counted(name, method))

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def called(*arguments: Any, **named: Any) -> Any:
            if self._depth:
                return method(*arguments, **named)
            self.count(name)
            start = time.perf_counter()
            self._depth += 1
            try:
                return method(*arguments, **named)
            finally:
                self._depth -= 1
                self.seconds += time.perf_counter() - start

        called.memspec_metered = True  # type: ignore[attr-defined]
        return called


METER = Meter()
"""The one of this process."""
