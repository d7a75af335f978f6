"""How much of the suites a slow memory is asked: planned from what its first calls take.

A memory whose calls are quick is asked everything. For others the seconds of ``--memspec-budget`` are turned into a
number of calls once, and from then on calls are counted, so that the same plan asks the same. Laws and claims come
first and keep to the sizes that their share of the calls reaches; measurements follow with fewer trials. A check that
is not reached, or needs more calls than are left, is not measured, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from memspec.plugs.meter import METER, Pace
from memspec.plugs.plug import SMALL, Plug, Shape
from memspec.plugs.population import one_call
from memspec.plugs.sequences import first_inputs
from memspec.randomness import seeded, unshared
from memspec.world.boundary import cross
from memspec.world.guard import guarded

WHOLE = 40_000
"""Calls that all checks make of a memory driven in a loop, and some to spare (``benchmarks/calls.py`` counts them)."""
TRIAL = 900
"""Of these, calls that one trial of all measurements makes."""
SHARE = 60
"""A check may make this part of all calls; most make fewer."""
MEASURED = 8
"""The same of a check that measures."""
LEAST = 12
"""Calls that a check is given at the least: enough to store, ask and compare."""
TRIALS = (16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Plan:
    """What there is time for.

    Attributes:
        seconds: the budget.
        call_ms: what a call takes, rounded, so that a busy machine makes the same plan.
        calls: how many there is time for; None = as many as are wanted.
        each: how many one check may make.
        trials: of each measurement at most; None = as many as its verdict takes.
        pace: of the small memories that laws drive, by which ladders and histories are planned; None = not known.
    """

    seconds: float
    call_ms: float
    calls: int | None = None
    each: int | None = None
    trials: int | None = None
    pace: Pace | None = None

    @property
    def full(self) -> bool:
        """Whether everything is asked."""
        return self.calls is None

    @property
    def longest(self) -> float:
        """Seconds that the calls of one check may take at the most; 0 where calls are quick."""
        if self.calls is None or self.each is None:
            return 0.0
        return max(self.each, self.calls // MEASURED) * self.call_ms / 1000

    def __str__(self) -> str:
        """What there is no time for; empty where everything is asked."""
        from memspec.laws.law import LARGEST_RUNG, climbed
        from memspec.laws.stateful import EXAMPLES, planned

        parts = []
        if not self.full:
            parts.append(
                f"{self.calls} calls of about {self.call_ms:g} ms in {self.seconds:g} s: at most {self.each} a check and "
                f"{self.trials} trial{'s' * (self.trials != 1)} a measurement"
            )
        rows, lives = climbed(self.pace), planned(self.pace)
        if rows < LARGEST_RUNG:
            parts.append(
                f"laws that speak of any number of rows try up to about {rows} of them (--full: {LARGEST_RUNG})"
            )
        if lives < EXAMPLES:
            parts.append(f"{lives} of {EXAMPLES} histories of each kind are played (--memspec-examples: more)")
        return "; ".join(parts)


def plan_for(seconds: float, call: float, pace: Pace | None = None) -> Plan:
    """The plan for a memory whose calls take ``call`` seconds, and those of small ones what ``pace`` says."""
    rounded = 10 ** (round(math.log10(max(call, 1e-6)) * 4) / 4)
    call_ms = float(f"{rounded * 1000:.2g}")
    if WHOLE * rounded <= seconds:
        return Plan(seconds, call_ms, pace=pace)
    calls = max(1, int(seconds / rounded))
    trials = next((t for t in TRIALS if TRIAL * t <= calls / 2), 1)
    return Plan(seconds, call_ms, calls, max(LEAST, calls // SHARE), trials, pace)


def pace(plug: Plug) -> float:
    """Seconds that a call of this memory takes: the slower of update and query, with eight pairs; or building, if that is slower.

    The quickest of several calls, the first left out where there are more: it may load or compile something, and any
    may have waited for its turn on a busy machine. Of a sequence model, a step of two sequences.
    """
    with guarded("being timed", plug.name), seeded(unshared(0)):
        return _pace(plug)


FEW, MANY = 8, 64
"""Pairs of the calls that are timed."""
ROUNDS = 6
"""Calls of each kind that are timed at most."""
ENOUGH = 0.5
"""Seconds of calls after which no more are timed, when each kind was called twice."""
TOO_SLOW = 5.0
"""Seconds of calls after which one of each has to do."""


def _pace(plug: Plug) -> float:
    shape = plug.shape()
    build, memory = METER.timed(lambda: plug.build(shape))
    call = step_time(memory) if plug.is_sequence_model else _call_time(plug, memory, shape)
    for _ in range(2):
        if build / 2 > call and build < ENOUGH:
            build = min(build, METER.timed(lambda: plug.build(shape))[0])
    return max(build / 2, call)


def pace_of_laws(plug: Plug) -> Pace | None:
    """What calls of the small memories take that laws drive; None where no calls can be timed, or the memory is a sequence model."""
    if plug.is_sequence_model:
        return None
    with guarded("being timed", plug.name), seeded(unshared(0)):
        few, many = (plug.shape(*SMALL[:2], rows) for rows in (FEW, MANY))
        call = _call_time(plug, plug.build(few), few, FEW)
        if call > ENOUGH / ROUNDS or many.capacity < MANY:
            return Pace.rounded(call)
        return Pace.rounded(call, max(0.0, _call_time(plug, plug.build(many), many, MANY) - call) / (MANY - FEW))


def _call_time(plug: Plug, memory: Any, shape: Shape, rows: int = FEW) -> float:
    """Seconds of the slower of update and query, with so many pairs."""
    taken: dict[str, list[float]] = {"update": [], "query": []}
    for done in range(1, ROUNDS + 1):
        for name in taken:
            try:
                taken[name].append(one_call(plug, memory, shape, name, rows))
            except Exception:  # what it raises is for the checks to tell
                taken[name].append(0.0)
        spent = sum(map(sum, taken.values()))
        if spent > (ENOUGH if done > 1 else TOO_SLOW):
            break
    return max(min(times[1:] or times) for times in taken.values())


def step_time(model: Any) -> float:
    """Seconds that a step of a sequence model takes, by the quickest of three; 0 where it raises, which is for the checks to tell."""
    xs, taken = first_inputs(model, steps=3), math.inf
    try:
        state = model.initial_state(xs.shape[1])
        for x in xs:
            seconds, (_, state) = METER.timed(lambda x=x, state=state: cross("step", lambda: model.step(x, state)))  # type: ignore[misc]
            taken = min(taken, seconds)
    except Exception:
        return 0.0
    return taken


class Budget:
    """What is left of one memory's plan in this process."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.used = plan, 0
        self._over: set[Any] = set()

    @contextmanager
    def check(self, kind: str) -> Iterator[None]:
        """A check of this memory: its calls are counted, and end where its share does.

        With no call left it may still find that it does not apply, or judge what was measured before.
        """
        if self.plan.calls is None or self.plan.each is None:
            yield
            return
        left = max(0, self.plan.calls - self.used)
        share = self.plan.each if kind != "measurement" else max(self.plan.each, self.plan.calls // MEASURED)
        before = METER.begin(min(left, share))
        try:
            yield
        finally:
            self.used += METER.end(before)
