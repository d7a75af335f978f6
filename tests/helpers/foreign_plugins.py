"""A pytest plugin with options that other plugins have: pytest-html's, pytest-md's, pytest-benchmark's, people's own."""

from __future__ import annotations

import pytest

TAKEN = ("html", "md", "scorecard", "baseline", "tolerance", "bounds", "alpha", "max-trials", "seed", "checks", "gate")
FLAGS = ("full", "download")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("foreign")
    for name in TAKEN:
        group.addoption(f"--{name}", action="store", default=f"foreign {name}")
    for name in FLAGS:
        group.addoption(f"--{name}", action="store_true", default=False)


def pytest_report_header(config: pytest.Config) -> str:
    return "foreign: " + ", ".join(f"{name}={config.getoption(f'--{name}')}" for name in (*TAKEN, *FLAGS))
