"""Who stops reading a command's output changes nothing: it goes on, and ends with the code of its verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ZEROS = """
    import torch

    class Zeros:
        def __init__(self, key_dim, value_dim):
            self.value_dim = value_dim

        def reset(self): ...
        def update(self, keys, values): ...

        def query(self, keys):
            return torch.zeros(len(keys), self.value_dim, dtype=keys.dtype)
"""
SCORE = ("memspec", "score", "zeros.py:Zeros", "--checks=inputs/*refuses*", "--scorecard=card.json")
PYTEST = ("pytest", "-v", "-c", os.devnull, "--pyargs", "memspec.suites", "--memory=zeros.py:Zeros")
PYTEST += ("--memspec-checks=inputs/*refuses*", "--memspec-scorecard=card.json")


def code_without_a_reader(*command: str) -> int:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([sys.executable, "-m", *command], stdout=writes, stderr=writes, timeout=120)
    os.close(writes)
    return done.returncode


@pytest.mark.parametrize("command", [SCORE, PYTEST], ids=["score", "pytest"])
def test_a_failed_run_that_nobody_reads_has_failed(folder: Any, command: tuple[str, ...]) -> None:
    folder.write("zeros.py", ZEROS)
    assert code_without_a_reader(*command) == 1
    assert folder.card()["verdict"] == "fail"


def test_a_comparison_that_nobody_reads_keeps_its_code(folder: Any) -> None:
    """Files that are no cards: wrong usage; a list of references: nothing is wrong."""
    Path("a.json").write_text(json.dumps({}))
    assert code_without_a_reader("memspec", "compare", "a.json", "a.json") == 2
    assert code_without_a_reader("memspec", "list") == 0
