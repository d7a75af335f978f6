"""A worker that dies costs one test, and the run ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent / "helpers")!r})

def pytest_xdist_make_scheduler(config, log):
    from hands import Hands
    return Hands(config, log)
"""
TESTS = """
import os, pytest

@pytest.mark.parametrize("n", range(12))
def test_one(n):
    if n == {dies}:
        os._exit(3)
"""


@pytest.mark.ci
@pytest.mark.parametrize("dies", [0, 5, 11])
def test_a_worker_that_dies_costs_one_test(tmp_path: Path, dies: int) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS.format(dies=dies))
    command = [sys.executable, "-m", "pytest", "-q", "-n2", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert re.search("1 failed, 11 passed", done.stdout), done.stdout
    assert f"test_one[{dies}]" in done.stdout
