"""What a run is to decide, what it has begun and what it has decided, in memory and line by line on disk.

The journal is a file of JSON lines beside the scorecard. It says what the run is, then what every check reports as it
reports it, so that a run that was cut, however hard, can be shown (``memspec recover``) or finished (``--memspec-resume``).
It goes when the card has been written.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from memspec.errors import RecordError
from memspec.scorecard.files import own_file

if TYPE_CHECKING:
    from memspec.running.manifest import Manifest

JOURNAL = "memspec-journal/1"
PLANNED = "memspec_planned"
"""Key of what a worker of pytest-xdist says it has collected."""
UNMATCHED = "memspec_unmatched"
"""Key of what it says of globs that match no check."""


@dataclass(frozen=True)
class Head:
    """The first line of a journal: which run it is.

    Attributes:
        memories: the plugs of ``--memory``.
        options: of the run, as JSON.
        signature: what the numbers depend on.
        machine: where it runs.
        manifest: what is to be decided.
        notes: why that is not the whole specification.
    """

    memories: list[str]
    options: dict[str, Any]
    signature: dict[str, Any]
    machine: dict[str, Any]
    manifest: Manifest
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        return {"journal": JOURNAL, **vars(self), "manifest": self.manifest.to_json()}


class Ledger:
    """The books of one run; a pytest plugin that reads the reports of its checks.

    Attributes:
        collected: what checks have reported at their ends: memory, check, blocks, about.
        started: checks that have begun and not ended, by pytest's own id.
        done: pytest's own ids of checks that need not be run, since a run before this one has decided them.
        no_memory: whether a worker of pytest-xdist had no memory to test.
        problem: why the journal could not be kept; empty if it could.
        unmatched: what globs of ``--memspec-checks`` say that no collected check matches.
        manifest: what is to be decided, once this process has collected it, or a worker of pytest-xdist has said it.
    """

    def __init__(self) -> None:
        self.manifest: Manifest | None = None
        self.collected: list[dict[str, Any]] = []
        self.started: dict[str, dict[str, Any]] = {}
        self.done: set[str] = set()
        self.no_memory = False
        self.problem = ""
        self.unmatched: list[str] = []
        self._file: TextIO | None = None
        self._path = Path()
        self._deselected: list[pytest.Item] = []

    # ---- hooks ------------------------------------------------------------------------------------------------

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Remember what is left out."""
        self._deselected += items

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Book what is planned; leave out what an earlier run has decided."""
        if not any("plug" in getattr(item, "fixturenames", ()) for item in items):
            return  # nothing of memspec's in this run: torch need not be imported
        from memspec.running.manifest import manifest_of

        self.manifest = manifest_of(items, self._deselected)
        if self.done:
            items[:] = [item for item in items if item.nodeid not in self.done]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Book what a check reports."""
        sent = [text for key, text in report.user_properties if key == "memspec"]
        if sent and report.when == "setup" and report.passed:
            self._enter(report.nodeid, "begun", json.loads(str(sent[-1])))
        elif sent and (report.when == "call" or not report.passed):
            self._enter(report.nodeid, "ended", json.loads(str(sent[-1])))
        elif report.failed and report.when not in ("setup", "call", "teardown"):  # a worker died in this test
            lost: dict[str, Any] = {"memory": None, "check": None, "blocks": [], "about": None}
            begun = self.started.get(report.nodeid, lost)
            self._enter(report.nodeid, "ended", {**begun, "nodeid": report.nodeid, "died": report.longreprtext})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker of pytest-xdist says what was planned, which its controller has not collected."""
        if hasattr(session.config, "workeroutput") and self.manifest is not None:
            session.config.workeroutput[PLANNED] = self.manifest.to_json()
            session.config.workeroutput[UNMATCHED] = self.unmatched

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist ended, and has said what it had collected; or that it had no memory to test."""
        said = getattr(node, "workeroutput", {})
        self.no_memory = self.no_memory or "no-memory" in said
        if PLANNED in said:
            from memspec.running.manifest import Manifest

            self.manifest = Manifest.from_json(said[PLANNED])
            self.unmatched = list(said[UNMATCHED])

    # ---- books ------------------------------------------------------------------------------------------------

    def _enter(self, nodeid: str, event: str, sent: dict[str, Any]) -> None:
        self.book(nodeid, event, sent)
        self._write({"event": event, "nodeid": nodeid, "sent": sent})

    def book(self, nodeid: str, event: str, sent: dict[str, Any]) -> None:
        """Note that a check has begun or ended, and what it said."""
        if event == "begun":
            self.started[nodeid] = sent
        else:
            self.started.pop(nodeid, None)
            self.collected.append(sent)
            self.done.add(nodeid)

    # ---- the journal ------------------------------------------------------------------------------------------

    def claim(self, path: Path) -> None:
        """Take the journal at ``path``, and so the card beside it, for this run; its lock ends with this process.

        Raises:
            RecordError: if another run holds it, or something lies there that is no file of a run's own.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._file = open(os.open(own_file(path), flags, 0o666), "a", encoding="utf-8")  # noqa: SIM115
            self._path = path
        except OSError as error:
            self.problem = f"no journal is kept: {error}"
            return
        if not _locked(self._file):
            self._file.close()
            self._file = None
            raise RecordError(f"another run is about to write this card ({path} is in use); name another file")

    def open(self, head: Head) -> None:
        """Begin the journal that was claimed; what was read from one before stays in it."""
        if self._file is not None and not self.done:
            self._file.truncate(0)
            self._write(head.to_json())

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line, default=float) + "\n")
            self._file.flush()
        except (OSError, ValueError) as error:
            self.problem = f"the journal ends early: {error}"
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def close(self, *, remove: bool) -> None:
        """The run has ended; ``remove`` the journal where the card says it all."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            self._file.close()
            if remove:
                self._path.unlink()
        self._file = None

    def resume(self, path: Path, head: Head, before: Mapping[str, Any], lines: Iterable[dict[str, Any]]) -> None:
        """Take over what an earlier run of the same kind has decided, and go on in its journal.

        Args:
            before, lines: what that journal, at ``path``, holds.

        Raises:
            RecordError: if it is of another kind of run.
        """
        for name in ("memories", "options", "signature"):
            ours, theirs = json.loads(json.dumps(getattr(head, name), default=str)), before[name]
            if ours != theirs:
                raise RecordError(f"{path}: it is the journal of a run with other {name}; run again without resuming")
        for line in lines:
            if line["event"] == "ended" and "died" not in line["sent"]:
                self.book(line["nodeid"], line["event"], line["sent"])


def _locked(file: TextIO) -> bool:
    """Whether a file is this process's now, and no other run's; always where the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def journal_path(card: Path) -> Path:
    """Where the journal of a run lies that is to write this card."""
    return card.with_name(card.name + ".journal")
