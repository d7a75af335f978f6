"""Reading the journal of a run that was cut: each line is believed only if it fits, and what does not is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from memspec.errors import RecordError
from memspec.failure import plain
from memspec.judging.check import Kind
from memspec.running.ledger import JOURNAL
from memspec.scorecard.schema import reported


class _Line(Struct):
    """A line of a journal but the first; ``sent`` as of a check's report."""

    event: Literal["begun", "ended"]
    nodeid: str
    sent: dict[str, Any]


class _Planned(Struct):
    planned: list[tuple[str, str, str, Kind, str]]
    suites: list[str]
    deselected: Annotated[int, Meta(ge=0)]


class _Head(Struct):
    """The first line of a journal, as :class:`Head` writes it."""

    memories: list[str]
    options: dict[str, Any]
    signature: dict[str, Any]
    machine: dict[str, Any]
    manifest: _Planned
    notes: list[str]


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """The head of a journal, its lines, and which were left out, and why: damaged ones, as the last of a run that was cut.

    Raises:
        RecordError: if it is missing, or no journal.
    """
    try:
        texts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: not a readable journal ({error})") from error
    lines: list[dict[str, Any]] = []
    left_out = []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            if not lines and not (isinstance(line, dict) and line.get("journal") == JOURNAL):
                break
            msgspec.convert(line, _Line if lines else _Head)
            if lines:
                _believe(line["sent"])
        except (ValueError, KeyError, TypeError, RecursionError, RecordError) as error:
            if not lines:
                raise RecordError(f"{path}: not a readable journal (line {number}: {plain(error)})") from error
            left_out.append(f"line {number} is left out: {plain(error, longest=150)}")
            continue
        lines.append(line)
    if not lines:
        raise RecordError(f"{path}: not a journal of this memspec (its first line should say {JOURNAL!r})")
    return lines[0], lines[1:], left_out


def _believe(sent: dict[str, Any]) -> None:
    """Hold what a check, or the run of one whose process died, said of it to what a card may hold.

    Raises:
        RecordError, KeyError: naming what is wrong.
    """
    lost = sent.get("check") is None and isinstance(sent.get("died"), str) and isinstance(sent.get("nodeid"), str)
    if lost:
        return
    if not isinstance(sent["memory"], str):
        raise RecordError("memory: it names none")
    reported(sent)
