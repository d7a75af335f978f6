"""``memspec history``: what became of a memory's scores from commit to commit."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from memspec.commands.base import Commands, command, show, write


def add(commands: Commands) -> None:
    """Enter the command."""
    history = command(
        commands,
        "history",
        _history,
        help="scores over commits, from a folder of cards",
        description="Show how the scores, bytes and times of each memory went, from a folder of cards of different commits "
        "(or days), and every step. A card tells its commit where its run was started in a git checkout.",
    )
    history.add_argument("folder", type=Path, metavar="FOLDER")
    history.add_argument("--html", type=Path, metavar="OUT.html", help="write a self-contained page with plots")


def _history(options: argparse.Namespace) -> int:
    from memspec.scorecard.history import page, read, terminal

    histories = read(options.folder)
    show(terminal(histories, max(60, shutil.get_terminal_size((100, 24)).columns)))
    if options.html:
        write(options.html, page(histories))
    return 0
