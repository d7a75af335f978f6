"""A pytest plugin that acts in runs and in workers of pytest-xdist, as pytest-randomly, pytest-cov and pytest-html do.

What it does stands in the file ``acted``, a line each time. A worker must have been told something by its controller.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def _acted(what: str) -> None:
    with open("acted", "a", encoding="utf-8") as file:
        file.write(f"{what}\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("worker").addoption("--of-worker", default="nothing")
    parser.getgroup("worker").addoption("--times", type=int, default=1)


def pytest_load_initial_conftests() -> None:
    _acted("begin")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: pytest.Item) -> None:
    node.workerinput["of_worker"] = node.config.getoption("--of-worker")  # type: ignore[attr-defined]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "of_worker: a mark of this plugin")
    given = getattr(config, "workerinput", None)
    _acted("configure" if given is None else f"worker {given['of_worker']}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """More tests than there are without it, as pytest-repeat makes."""
    times = metafunc.config.getoption("--times")
    if times > 1:
        metafunc.fixturenames.append("time")
        metafunc.parametrize("time", range(times))


@pytest.fixture
def of_worker(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("--of-worker"))


def pytest_sessionfinish() -> None:
    Path("report").write_text("mine", encoding="utf-8")
