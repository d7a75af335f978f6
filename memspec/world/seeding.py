"""Whether a call seeded a global generator: drawing from it is anybody's right, starting it anew is not.

Two memories that draw, or a memory and its caller, then draw the same numbers. What tells seeding from drawing is not
the state, from which any other can be reached, but the act. Torch's generator says which number it was last seeded
with; those of numpy and python are replaced by equal ones that count when they are set. A call that saves a state and
puts it back at its end, as ``torch.random.fork_rng`` does, has seeded nothing.
"""

from __future__ import annotations

import _random
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand

from memspec.world.disturbance import Disturbance


class Acts:
    """What was done to one generator, other than drawing, since the current call began.

    Attributes:
        watched: a call is under way.
        acted: it seeded the generator, or set its state.
        first: the state before it did so first.
        known: states that were asked for before that.
        last: the state that was set last; None after a seeding.
    """

    def __init__(self, kind: str, restore: Callable[[Any], object]) -> None:
        self.kind, self.restore, self.watched = kind, restore, False
        self.begin()
        self.watched = False

    def begin(self) -> None:
        """A call begins."""
        self.watched, self.acted, self.first, self.last = True, False, None, None
        self.known: list[Any] = []

    def act(self, before: Any, state: Any = None) -> None:
        """The generator was seeded, or ``state`` was set."""
        if not self.acted:
            self.acted, self.first = True, before
        self.last = state

    def asked(self, state: Any) -> None:
        """Somebody saved the state."""
        if self.watched and not self.acted:
            self.known.append(state)

    def end(self) -> bool:
        """The call is over: whether it acted, and did not undo that with a state from before."""
        self.watched = False
        if not self.acted:
            return False
        return self.last is None or not any(_same(self.last, state) for state in (self.first, *self.known))


NUMPY = Acts("generator of numpy", lambda state: setattr(mtrand.get_bit_generator(), "state", state))
PYTHON = Acts("generator of python", random.setstate)


_STATE: Any = np.random.MT19937.__dict__["state"]


class MT19937(np.random.MT19937):
    """Numpy's own generator, which reports when it is seeded or set. (The state holds the name of the class.)"""

    def _legacy_seeding(self, seed: Any) -> None:
        if NUMPY.watched:
            NUMPY.act(_STATE.__get__(self))
        super()._legacy_seeding(seed)

    @property
    def state(self) -> Any:
        now = _STATE.__get__(self)
        NUMPY.asked(now)
        return now

    @state.setter
    def state(self, state: Any) -> None:
        before = _STATE.__get__(self) if NUMPY.watched else None
        _STATE.__set__(self, state)
        if before is not None:
            NUMPY.act(before, _STATE.__get__(self))


class _Reporting(_random.Random):
    """Stands below :class:`random.Random`, where every way to seed or set it passes."""

    __slots__ = ()

    def seed(self, *arguments: Any) -> None:
        if PYTHON.watched:
            PYTHON.act(super().getstate())
        super().seed(*arguments)

    def getstate(self) -> Any:
        now = super().getstate()
        PYTHON.asked(now)
        return now

    def setstate(self, state: Any) -> None:
        before = super().getstate() if PYTHON.watched else None
        super().setstate(state)
        if before is not None:
            PYTHON.act(before, super().getstate())


class _Random(random.Random, _Reporting):
    """The generator behind the functions of :mod:`random`."""


def install() -> None:
    """Let numpy's and python's generators report; what they draw stays as it is."""
    now = mtrand.get_bit_generator()
    if type(now) is np.random.MT19937:
        reporting = MT19937()
        reporting.state = now.state
        mtrand.set_bit_generator(reporting)
    inner = getattr(random, "_inst", None)
    if type(inner) is random.Random:
        inner.__class__ = _Random


def snapshot() -> tuple[int, torch.Tensor]:
    """Begin a call."""
    NUMPY.begin()
    PYTHON.begin()
    generator = torch.default_generator
    return generator.initial_seed(), generator.get_state()


def changed(before: tuple[int, torch.Tensor], call: str) -> list[Disturbance]:
    """The generators that a call seeded; they are put back to where they were before that."""
    found = []
    number, state = before
    now = torch.default_generator.initial_seed()
    if now != number:
        found.append(Disturbance("generator of torch", f"seeded the global generator of torch (with {now})", call))
        torch.default_generator.set_state(state)
    for acts in (NUMPY, PYTHON):
        if acts.end():
            text = f"seeded the global {acts.kind}, or set it to a state of another time"
            found.append(Disturbance(acts.kind, text, call))
            acts.restore((3, acts.first, None) if acts is PYTHON else acts.first)
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        inner_a, inner_b = a["state"], b["state"]
        return bool(inner_a["pos"] == inner_b["pos"]) and inner_a["key"].tobytes() == inner_b["key"].tobytes()
    return bool(a == b)
