"""What the commands share: how one is entered, how lines are shown, how text is written."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from memspec.errors import UsageProblem
from memspec.failure import printable
from memspec.scorecard.files import write_atomically

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What commands are entered in; argparse has no public name for it."""
END_MARK = "<!-- to here -->"


def command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help: str,
    description: str | None = None,
    parents: Sequence[argparse.ArgumentParser] = (),
) -> argparse.ArgumentParser:
    """Enter a command.

    Args:
        commands: what it is entered in.
        name, help: what it is called, and its line in the list of all.
        run: what it does with its options; returns the exit code, and raises MemspecError for what cannot be meant.
        description: what ``--help`` says of it.
        parents: whose arguments it takes as well.

    Returns:
        The parser, for its arguments.
    """
    parser = commands.add_parser(name, help=help, description=description, parents=parents)
    parser.set_defaults(run=run)
    return parser


def show(lines: Sequence[tuple[str, str]]) -> None:
    """Print lines, in colour where the terminal has it."""
    from _pytest._io import TerminalWriter

    writer = TerminalWriter()
    for text, style in lines:
        writer.line(printable(text), **dict.fromkeys(style.split(), True))


def write(path: Path, text: str) -> None:
    """Write a file, and say so."""
    write_atomically(path, text)
    print(f"written: {path}")


def put_into(path: Path, mark: str, text: str) -> None:
    """Replace what a file has below a mark, up to the next end mark if there is one.

    Raises:
        UsageProblem: if the file cannot be read, or has no such mark.
    """
    try:
        head, found, below = path.read_text(encoding="utf-8").partition(mark)
    except OSError as error:
        raise UsageProblem(f"--into {path}: {error}") from None
    if not found:
        raise UsageProblem(f"--into {path}: it has no line {mark}")
    _, end, rest = below.partition(END_MARK)
    write(path, f"{head}{mark}\n\n{text}" + (f"\n{end}{rest}" if end else ""))


def expanded(plugs: Sequence[str]) -> list[str]:
    """The plugs, with ``all`` standing for every reference memory."""
    from memspec.plugs.references import reference_plugs

    return [name for plug in plugs for name in (reference_plugs() if plug == "all" else [plug])]
