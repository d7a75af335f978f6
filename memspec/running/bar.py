"""What runs now, what is done, what failed and how long it will take, in place of pytest's dots.

Loaded with ``-p memspec.running.bar`` by ``memspec score`` and ``memspec selfcheck``.
"""

from __future__ import annotations

import sys

import pytest

from memspec.running.counting import Counting


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Bar(Counting(0, "", file=sys.__stderr__)), "memspec-bar")


class Bar:
    """Counts the tests of a run as they end."""

    def __init__(self, counting: Counting) -> None:
        self.counting = counting
        self.done = self.failed = 0
        self.now = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not session.config.getoption("collectonly"):
            self.counting.start(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        """Under pytest-xdist the workers collect, all of them the same."""
        if not self.counting.total:
            self.counting.start(len(ids))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.now = nodeid.rpartition("::")[2].removeprefix("test_")
        self.show()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.done += 1
            self.failed += report.failed
            self.show()

    def show(self) -> None:
        self.counting.show(self.done, self.failed, self.now)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dots."""
        if report.when == "call" and report.passed:
            return "passed", "", "PASSED"
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.counting.close()
