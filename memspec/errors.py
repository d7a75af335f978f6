"""Exceptions that users see. Each message says what was wrong, where, and what to do."""

from __future__ import annotations

from memspec.failure import Failure


class MemspecError(Exception):
    """Base of memspec's own errors."""


class PlugError(MemspecError):
    """``--memory`` (or ``load_plug``) named something that is not a memory memspec can drive."""


class NoSuchPlug(PlugError):
    """What was named is not there, or is no name: text that cannot be read, no such module, file, attribute or argument."""


class UsageProblem(MemspecError):
    """Something on the command line that cannot be meant."""


class NotAsked(MemspecError):
    """The memory makes no such claim, or lacks the capability: the check does not apply to it."""


class CannotMeasure(MemspecError):
    """The check applies, but cannot be carried out here (fixed dimensions, missing data): a skip with a reason."""


class OutOfTime(BaseException):
    """There is no time left for another call of the memory; no ``except Exception`` takes it for the memory's own.

    Attributes:
        counted: the meter says so, and not a memory.
    """

    def __init__(self, counted: bool = False) -> None:
        super().__init__()
        self.counted = counted


class SaidByMemory(MemspecError):
    """A memory raised what only the harness may say, such as pytest's skip or "not asked": a failure like any exception."""


class RecordError(MemspecError):
    """A scorecard file is missing, damaged, or of another schema."""


class NotComparable(RecordError):
    """A baseline was made in another way than the run that is to be compared with it."""


class BoundsError(MemspecError):
    """A ``--memspec-bounds`` file is damaged or names checks that do not exist."""


class CheckFailed(AssertionError):
    """A check did not pass; the message is its failure as text.

    Attributes:
        failure: rule, what came, what was expected, the likeliest cause, and how to repeat it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return str(self.failure)


class LawBroken(CheckFailed):
    """One counterexample to a law; ``failure.repeat`` is a program that ends in an exception."""
