"""When a card is made, and of which commit of the project that the run was started in."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Seconds that git may take; without its answer a card has no commit."""


def made(folder: Path | None = None) -> dict[str, Any]:
    """``at`` (UTC); in a git checkout also ``commit``, ``committed`` and ``changed``: whether tracked files differ.

    Args:
        folder: where the run was started; by default where this process is.
    """
    found: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    head = _git(folder, "log", "-1", "--format=%H %cI")
    if head is None or len(head.split()) != 2:
        return found
    found["commit"], found["committed"] = head.split()
    found["changed"] = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    return found


def _git(folder: Path | None, *arguments: str) -> str | None:
    """What git says, None where there is no git, no checkout or no answer."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
