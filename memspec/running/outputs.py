"""The files that a run is to write, held before it begins to being writable, and each one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from memspec.running.ledger import journal_path
from memspec.scorecard.files import apart, own_file

OTHERS = {"--junitxml": "xmlpath", "--log-file": "log_file", "--report-log": "report_log"}
"""Options of pytest and of its plugins that name a file to write, and what they are called in its configuration."""
READ = ("--memspec-bounds",)
"""Options of ours that name a file which is the user's own work."""


def outputs(option: Callable[[str], Any]) -> dict[str, Path]:
    """What a run that keeps a card writes, by the options that ask for it."""
    card: Path = option("--memspec-scorecard")
    found = {"--memspec-scorecard": card, "the journal of --memspec-scorecard": journal_path(card)}
    if option("--memspec-html"):
        found["--memspec-html"] = card.with_suffix(".html")
    if option("--memspec-md"):
        found["--memspec-md"] = card.with_suffix(".md")
    return found


def refuse_outputs(option: Callable[[str], Any]) -> None:
    """Refuse a run whose files cannot be written, or would overwrite each other.

    Args:
        option: reads an option of the command line.

    Raises:
        RecordError: naming the file and the options.
    """
    ours = outputs(option)
    own_file(journal_path(option("--memspec-scorecard")))
    others = {name: option(called) for name, called in OTHERS.items()} | {name: option(name) for name in READ}
    apart(ours | {name: Path(path) for name, path in others.items() if path and _is_file(Path(path))})


def _is_file(path: Path) -> bool:
    """Whether a path is that of a file, of now or of later: others' options may name devices and pipes too."""
    return path.is_file() or not path.exists()
