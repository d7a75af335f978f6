"""What is offered for continuous integration, carried out as far as one machine can: the action, its badge, the snippets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from memspec.cli import main
from memspec.commands import score

ROOT = Path(__file__).resolve().parents[1]
SNIPPETS = ("docs/ci/github.yml", "docs/ci/gitlab.yml", "docs/ci/pre-commit.yaml", "action.yml")


def script(action: str) -> str:
    """The shell script of the action's step that scores."""
    step = action.partition("- id: score")[2]
    lines = step.partition("run: |\n")[2].splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("worse", "code"), [pytest.param(False, 0, id="same", marks=pytest.mark.slow), pytest.param(True, 6, id="worse")]
)
def test_the_action_scores_gates_and_tells(tmp_path: Path, worse: bool, code: int) -> None:
    (tmp_path / "mem.py").write_text(
        "from memspec.reference import DeltaMemory\nclass Mine(DeltaMemory):\n"
        "    def __init__(self, key_dim, value_dim, beta=1.0):\n        super().__init__(key_dim, value_dim, beta=beta)\n"
    )
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {**os.environ, "PATH": tools, "GITHUB_STEP_SUMMARY": "summary.md"}
    own |= {"GITHUB_OUTPUT": "out.txt", "MEMORY": "mem.py:Mine", "BASELINE": "main.json", "GATE": "all"}
    own["OPTIONS"] = "--checks=cost/* --checks=capacity/n95"
    body = script((ROOT / "action.yml").read_text(encoding="utf-8"))
    body = body.replace("memspec score", f"{sys.executable} -m memspec score")
    body = body.replace("memspec badge", f"{sys.executable} -m memspec badge")

    def run(**more: str) -> int:
        return subprocess.run(
            ["bash", "-c", body], cwd=tmp_path, env={**own, **more}, capture_output=True, check=False
        ).returncode

    assert run() == 0
    os.replace(tmp_path / "memspec-card/card.json", tmp_path / "main.json")
    (tmp_path / "summary.md").unlink()
    assert run(MEMORY="mem.py:Mine(beta=0.05)" if worse else "mem.py:Mine") == code
    summary = (tmp_path / "summary.md").read_text()
    assert ("WORSE than main.json" in summary) == worse
    badge = json.loads((tmp_path / "memspec-card/badge.json").read_text())
    assert badge["schemaVersion"] == 1
    assert badge["message"].startswith("worse" if worse else "partial")
    assert (tmp_path / "out.txt").read_text().splitlines()[-1] == f"verdict={'worse' if worse else 'partial'}"


@pytest.mark.parametrize("name", SNIPPETS)
def test_every_command_in_a_snippet_is_one_that_memspec_takes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for command in re.findall(r"memspec score ([^\n]*)", text):
        words = [w for w in command.replace('"', "").split() if not w.startswith("$") and w not in ("||", "code=$?")]
        assert score.arguments(words or ["m:M"]).plugs or "$MEMORY" in command
    assert yaml.safe_load(text)


def test_a_trained_memory_is_loaded_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import trained  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(ROOT / "examples"))
    made = trained.Projected(64, 64)
    for layer in (made.read_in, made.read_out):
        torch.nn.init.orthogonal_(layer.weight)
    made.read_out.weight.data = torch.eye(64)
    torch.save(made.state_dict(), tmp_path / "projection.pt")
    monkeypatch.chdir(tmp_path)
    plug: Any = f"{ROOT}/examples/trained.py:load(checkpoint='projection.pt')"
    assert main(["score", plug, "--checks=capacity/recall/n8", "--checks=laws/query-*", "-q"]) == 0
