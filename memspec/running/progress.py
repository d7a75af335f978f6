"""A line now and then of what a long run does: how many checks are done, which runs, and about how long is left."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

EVERY = 15.0
"""Seconds between two lines; a run that is shorter shows none."""


class Progress:
    """The pytest plugin that says so, in the process that the user started.

    Args:
        clock: seconds; another one for tests.
    """

    def __init__(self, config: pytest.Config, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self.clock = config, clock
        self.planned = self.done = self.failed = 0
        self.began = self.said = clock()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.planned = len(session.items)
        self.began = self.said = self.clock()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        """With pytest-xdist, workers collect."""
        self.planned = len(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        now = self.clock()
        if now - self.said < EVERY:
            return
        self.said = now
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            if self.config.get_terminal_writer().width_of_current_line:  # dots behind no file's name, as with -q
                reporter.write_line("")
            reporter.write_line(self.line(nodeid, now - self.began))

    def line(self, nodeid: str, elapsed: float) -> str:
        """What is said while this item runs, so many seconds after the first."""
        name = nodeid.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", "-")
        failed = f", {self.failed} failed" if self.failed else ""
        left = f"; about {elapsed / self.done * (self.planned - self.done):.0f} s left" if self.done else ""
        return f"memspec: {self.done} of {self.planned} checks done{failed}; now {name}{left}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.done += 1
            self.failed += report.failed
