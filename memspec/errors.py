"""Exceptions that users see. Each message says what was wrong, where, and what to do."""

from __future__ import annotations


class MemspecError(Exception):
    """Base of memspec's own errors."""


class PlugError(MemspecError):
    """``--memory`` (or ``load_plug``) named something that is not a memory memspec can drive."""


class NotAsked(MemspecError):
    """The memory makes no such claim, or lacks the capability: the check does not apply to it."""


class CannotMeasure(MemspecError):
    """The check applies, but cannot be carried out here (fixed dimensions, missing data): a skip with a reason."""


class RecordError(MemspecError):
    """A scorecard file is missing, damaged, or of another schema."""


class BoundsError(MemspecError):
    """A ``--bounds`` file is damaged or names checks that do not exist."""


class LawBroken(AssertionError):
    """One counterexample to a law; the message says all of it.

    Attributes:
        snippet: a program that repeats it, and ends in an exception.
    """

    def __init__(self, message: str, snippet: str = "") -> None:
        super().__init__(message)
        self.snippet = snippet
