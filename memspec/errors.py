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
    """One counterexample to a law; the message, rendered from these parts, says all of it.

    Attributes:
        rule: the sentence the law states.
        got, expected: what came, and what should have come.
        cause: the likeliest reason.
        snippet: a program that repeats it, and ends in an exception.
        check, memory: the id of the check, and the plug it was asked of.
        smallest: the case it broke at, the first of ascending sizes.
    """

    def __init__(
        self,
        rule: str,
        got: str,
        expected: str,
        cause: str,
        snippet: str = "",
        check: str = "",
        memory: str = "",
        smallest: str = "",
    ) -> None:
        super().__init__(rule, got, expected, cause, snippet, check, memory, smallest)
        self.rule, self.got, self.expected, self.cause, self.snippet = rule, got, expected, cause, snippet
        self.check, self.memory, self.smallest = check, memory, smallest

    def __str__(self) -> str:
        lines = [
            f"broken law: {self.got}",
            f"  check:    {self.check}, by {self.memory}",
            f"  rule:     {self.rule}",
            f"  smallest: {self.smallest}",
            f"  expected: {self.expected}",
            f"  likely:   {self.cause}",
            "  repeat:   paste this into Python",
            "",
            self.snippet,
        ]
        return "\n".join(lines)
