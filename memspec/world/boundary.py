"""The one way from the harness into a memory: every call of one, anywhere in the suites and experiments, goes through here.

Around a call stand the cheap watches: settings of torch, warning filters, seedings of the global generators, the
tensors that it is given and the answers that it gave. What it changed is noted in the ledger by the name of the
call and put right, so that neither later checks nor other memories meet it. And whatever it raises that only the
harness may say (a skip, an exit, "not asked") becomes an ordinary exception, which fails the check.

The memory itself is called as it is, never wrapped: a copy, a pickle, an ``isinstance`` see what they always see.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor

from memspec.errors import CannotMeasure, CheckFailed, NotAsked, OutOfTime, SaidByMemory
from memspec.failure import raised
from memspec.world import seeding, settings
from memspec.world.disturbance import note
from memspec.world.processes import leave_if_copied, own_id
from memspec.world.tensors import Answers, seen, touched

T = TypeVar("T")

HARNESS = ("pytest", "_pytest", "hypothesis", "unittest", "pluggy")
"""Libraries whose exceptions steer a run of tests."""

_answers = Answers()
_inside = False
_attended = True


def call(memory: Any, method: str, *arguments: Any) -> Any:
    """``memory.method(*arguments)``."""
    return cross(
        method,
        lambda: getattr(memory, method)(*arguments),
        [a for a in arguments if isinstance(a, Tensor)],
        method in ("query", "read"),
    )


def cross(said: str, use: Callable[[], T], given: Iterable[Tensor] = (), answers: bool = False) -> T:
    """``use()``, which calls a memory; inside such a use this one is part of it.

    Args:
        said: the use in words, or as the program that is written down has it.
        given: tensors of the caller that the memory gets.
        answers: whether what comes back is an answer, which later calls must leave alone.

    Raises:
        SaidByMemory: for exceptions that only the harness may raise; all others as they are.
    """
    global _inside
    if _inside:
        return use()
    _inside = True
    _answers.begin()
    tensors = [seen(tensor) for tensor in given]
    process, before, seeds = own_id(), settings.snapshot(), seeding.snapshot()
    try:
        result = use()
    except BaseException as error:
        leave_if_copied(process)
        if steers(error):
            raise SaidByMemory(f"the memory raised {_owner(error)}{raised(error)}") from error
        raise
    finally:
        leave_if_copied(process)
        _inside = False
        # Settings first: they are what the comparisons below are made under.
        found = settings.changed(before, said)
        found += seeding.changed(seeds, said)
        found += touched(tensors, said)
        found += _answers.changed(said)
        if found:
            note(found)
    if answers:
        _answers.keep(said, result)
    return result


def inside() -> bool:
    """Whether a memory is being called (for the tests that hold every call to come this way)."""
    return _inside


def unattended() -> None:
    """From now on nobody can interrupt this process by Ctrl-C: who raises KeyboardInterrupt here is the memory."""
    global _attended
    _attended = False


def steers(error: BaseException) -> bool:
    """Whether an exception would steer the run: skips, exits and the like. Ctrl-C and the budget are not the memory's."""
    if isinstance(error, SaidByMemory) or (isinstance(error, OutOfTime) and error.counted):
        return False
    if interrupts(error):
        return False
    if not isinstance(error, Exception) or isinstance(error, (NotAsked, CannotMeasure, CheckFailed, unittest.SkipTest)):
        return True
    return any(kind.__module__.partition(".")[0] in HARNESS for kind in type(error).__mro__)


def interrupts(error: BaseException) -> bool:
    """Whether this is Ctrl-C, and not a memory that raises the like."""
    return isinstance(error, KeyboardInterrupt) and _attended


def _owner(error: BaseException) -> str:
    """Whose exception it is; pytest's own say that they are builtin, their base classes say better."""
    packages = (kind.__module__.partition(".")[0].lstrip("_") for kind in type(error).__mro__)
    package = next((name for name in packages if name != "builtins"), "")
    return f"{package}'s " if package else ""


seeding.install()
