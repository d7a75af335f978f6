"""Exit codes of a run, in pytest and in ``memspec score``. The first six are pytest's own."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a run's exit code means; where several apply, the first of them in the order of :data:`GRAVEST`."""

    OK = 0
    """This very run decided every planned check (and wrote its card, if one was asked for), and none failed."""
    FAILED = 1
    """A check failed."""
    INTERRUPTED = 2
    """The run was interrupted, or stopped early."""
    BROKEN = 3
    """The tool broke: a planned check was not run, or something went wrong in memspec or pytest itself."""
    USAGE = 4
    """The command line, or a file that it names, cannot be meant; no memory could be loaded."""
    UNDECIDED = 5
    """Nothing was decided: no check ran to a verdict, or all that ran are inconclusive."""
    WORSE = 6
    """No check failed, but something is worse than in the baseline."""
    NOT_COMPARABLE = 7
    """The baseline cannot be compared with."""
    NOT_WRITTEN = 8
    """The card could not be written; what was decided is in its journal, or was shown."""


GRAVEST = (
    Exit.USAGE,
    Exit.BROKEN,
    Exit.INTERRUPTED,
    Exit.NOT_WRITTEN,
    Exit.FAILED,
    Exit.NOT_COMPARABLE,
    Exit.WORSE,
    Exit.UNDECIDED,
    Exit.OK,
)


def gravest(*codes: int) -> int:
    """The one to exit with. Codes that are none of ours (a plugin's own) come before all."""
    foreign = [code for code in codes if code not in set(Exit)]
    return foreign[0] if foreign else next(code for code in GRAVEST if code in codes)
