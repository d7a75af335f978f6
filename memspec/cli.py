"""The command line: finds the command, runs it, and says in one line what cannot be meant."""

from __future__ import annotations

import argparse
import io
import sys
import traceback
from collections.abc import Sequence

from memspec import __version__
from memspec.commands import cards, compare, experiments, history, plugs, score, selfcheck, sweep, trial
from memspec.errors import MemspecError
from memspec.failure import printable
from memspec.running.exits import Exit
from memspec.running.readers import outlived

USAGE, BROKEN, INTERRUPTED = 2, 70, 130
COMMANDS = (score, experiments, compare, cards, history, plugs, trial, sweep, selfcheck)
"""In the order of ``memspec --help``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code. ``compare``: 0 no worse, 1 worse, 2 usage, 3 inconclusive, 4 not comparable. ``score``: those of
        :class:`memspec.running.exits.Exit`, as pytest's. Wrong usage of any other command is 2, :data:`BROKEN` where
        memspec itself fails, and :data:`INTERRUPTED`, as of shells, where Ctrl-C ended what keeps no card. Who stops
        reading what is printed, such as head, changes none of these.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal's encoding does not have is written as escapes
            stream.reconfigure(errors="backslashreplace")
    with outlived():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = score.arguments(given[1:]) if given[:1] == ["score"] else parser().parse_args(given)
    try:
        return int(options.run(options))
    except MemspecError as error:
        print(printable(f"memspec {options.command}: {error}"), file=sys.stderr)
        return Exit.USAGE if options.command == "score" else USAGE
    except KeyboardInterrupt:
        print(f"memspec {options.command}: interrupted, nothing was written", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # Python's own code for it is 1, which says "worse" of a comparison
        traceback.print_exc()
        return BROKEN


def parser() -> argparse.ArgumentParser:
    """Everything that the command line takes."""
    parser = argparse.ArgumentParser(
        prog="memspec", description="A conformance suite for neural memories: laws, claims and measurements."
    )
    parser.add_argument("--version", action="version", version=f"memspec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
