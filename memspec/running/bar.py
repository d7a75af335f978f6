"""What runs now, what is done, what failed and how long it will take: a bar in a terminal, a line now and then elsewhere.

Loaded with ``-p memspec.running.bar`` by ``memspec score`` and ``memspec selfcheck``, in place of pytest's dots.
"""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import pytest

EVERY = 20.0
"""Seconds between two lines where there is no terminal."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Bar(sys.__stderr__ or sys.stderr), "memspec-bar")


class Bar:
    """Counts the tests of a run as they end.

    Args:
        file: where to show it.
        every: seconds between two lines where that is no terminal.
    """

    def __init__(self, file: TextIO, every: float = EVERY) -> None:
        self.file, self.every = file, every
        self.total = self.done = self.failed = 0
        self.now = ""
        self.begun = self.told = time.monotonic()
        self.bar: Any = None

    def start(self, total: int) -> None:
        self.total = total
        self.begun = self.told = time.monotonic()
        if self.bar is None and self.file.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total,
                file=self.file,
                leave=False,
                dynamic_ncols=True,
                bar_format="{n_fmt}/{total_fmt} {bar:10} {remaining} left{desc}",
            )

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not session.config.getoption("collectonly") and session.items:
            self.start(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        """Under pytest-xdist the workers collect, all of them the same."""
        if not self.total:
            self.start(len(ids))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.now = nodeid.rpartition("::")[2].removeprefix("test_")
        self.show()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.done += 1
            self.failed += report.failed
            self.show()

    def show(self) -> None:
        failed = f", {self.failed} failed" if self.failed else ""
        if self.bar is not None:
            self.bar.n = self.done
            self.bar.set_description_str(clipped(f"{failed}, {self.now}", self.file), refresh=True)
            return
        now = time.monotonic()
        if now - self.told < self.every:
            return
        self.told = now
        left = (now - self.begun) / max(self.done, 1) * (self.total - self.done)
        print(
            f"memspec: {self.done} of {self.total} done{failed}, about {left:.0f} s left, now {self.now}",
            file=self.file,
            flush=True,
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dots."""
        if report.when == "call" and report.passed:
            return "passed", "", "PASSED"
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self.bar is not None:
            self.bar.close()


def clipped(text: str, file: TextIO) -> str:
    """What has room beside the bar."""
    import os

    try:
        width = os.get_terminal_size(file.fileno()).columns
    except OSError:
        width = 80
    return text[: max(width - 36, 8)]
