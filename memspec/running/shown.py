"""How a failed check looks in pytest's reports: its text as it is, and one line of it for the short summary."""

from __future__ import annotations

from typing import Any

from memspec.failure import printable


def as_shown(text: object, summary: str) -> Any:
    """A ``longrepr`` of foreign text: printable, and with a summary of its own.

    Without one pytest takes the text itself for its short summary, whole where ``CI`` is set: a wall for every failure.

    Args:
        text: what is shown of the failure.
        summary: what is told of it; its first line follows the test's name in the short summary.
    """
    from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

    lines = printable(summary).strip().splitlines() or [""]
    entry = ReprEntryNative([printable(text).rstrip("\n") + "\n"])
    return ReprExceptionInfo(
        reprcrash=ReprFileLocation("", 0, lines[0]),
        reprtraceback=ReprTraceback([entry], extraline=None, style="native"),
    )
