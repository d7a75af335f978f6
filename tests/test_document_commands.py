"""The commands in README and in the documents are carried out, cut down to a few checks, in a folder of their own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.test_documents import FEW, NAMES, ROOT, TUTORIALS, commands

ELSEWHERE = {
    "pip install": "downloads packages; .ci/run begins with it",
    "pytest tests -n auto": "is the whole of these tests, minutes",
    "pytest suites --memory=memspec.reference:TopHebbMemory": "of an example that tests/test_contributing.py applies and runs",
    "pytest tests/reference -k TopHebbMemory": "of an example that tests/test_contributing.py applies and runs",
    "memspec trial memspec.reference:DeltaMemory pacing.calls": "of an example that tests/test_contributing.py applies",
    "pytest suites/test_pacing.py": "of an example that tests/test_contributing.py applies and runs",
    "memspec score all": "every reference, a quarter of an hour",
    "pytest suites --memory=examples/faiss_index.py:FaissMemory": "needs a library that the tests do without",
    "python examples/gallery.py": "downloads the libraries of the gallery; tests/test_documents.py joins its cards",
    "python docs/landmarks.py": "four memories in full, minutes; tests/test_landmarks.py has it write one axis",
}
"""Commands (how they begin) that are not carried out here, and why."""
MINE = """\
import os
from memspec.reference import DeltaMemory


class Drifts(DeltaMemory):
    asked = 0

    def query(self, keys):
        self.asked += 1
        return super().query(keys) + self.asked


MyMemory = Drifts if os.path.exists("broken") else DeltaMemory
"""
SWEEP = {"seeds = 20": "seeds = 1", "[16, 32, 64, 128, 256]": "[16]", "[0.25, 0.5, 1, 2, 4]": "[0.5]"}
"""What examples/sweep.toml is cut down to."""
QUICK = {
    "memspec.reference.models": ["--checks=sequences/run-is-steps*"],
    "memspec run": ["--quick"],
}


def reason(words: Sequence[str]) -> str:
    """Why a command is not carried out; empty if it is."""
    text = " ".join(words)
    return next((why for start, why in ELSEWHERE.items() if text.startswith(start)), "")


@pytest.mark.parametrize("start", ELSEWHERE)
def test_what_is_not_carried_out_is_in_a_document(start: str) -> None:
    texts = [" ".join(w) for name in NAMES for w in commands((ROOT / name).read_text(encoding="utf-8"))]
    assert any(text.startswith(start) for text in texts)


def memspec(*arguments: str, code: int = 0) -> str:
    """What the command line prints, in a process of its own; it must end with this code."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "memspec", *arguments], env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reader's memory, and a card of it."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "mypkg.py").write_text(MINE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(folder))
        memspec("score", "mypkg:MyMemory", *FEW, "--checks=cost/*", "--scorecard=main.json", "-q")
    return folder


@pytest.fixture
def place(cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has what readers have when they come to the commands."""
    shutil.copy(cards / "mypkg.py", tmp_path)
    for name in ("main.json", "references.json", "cards/old.json", "cards/new.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(cards / "main.json", tmp_path / name)
    for name in ("docs/architectures.md", "examples/sweep.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    plan = (tmp_path / "examples/sweep.toml").read_text(encoding="utf-8")
    for much, little in SWEEP.items():
        assert plan.count(much) == 1
        plan = plan.replace(much, little)
    (tmp_path / "examples/sweep.toml").write_text(plan, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


LONG = ("README.md", "docs/isolation.md", "docs/networks.md", "docs/scale.md")
"""Documents whose commands take ten seconds or more."""
CARRIED_OUT = [
    pytest.param(name, marks=pytest.mark.ci if name in LONG else ())
    for name in NAMES
    if Path(name).name not in TUTORIALS
    and not all(reason(words) for words in commands((ROOT / name).read_text(encoding="utf-8")))
]


@pytest.mark.parametrize("name", CARRIED_OUT)
def test_commands_do_what_they_say(name: str, place: Path) -> None:
    """From above to below; a run that is to be resumed was stopped by its first failure."""
    for words in commands((ROOT / name).read_text(encoding="utf-8")):
        if not reason(words):
            carry_out(words, place)


def carry_out(words: Sequence[str], folder: Path) -> None:
    """One command, cut down."""
    program, *given = [str(one) for word in words for one in (sorted(folder.glob(word)) if "*" in word else [word])]
    if program == "pytest":
        score = [a.replace("--memspec-", "--") for a in given if a.startswith("--mem")]
        plug = score.pop(0).partition("=")[2].replace("...", "mypkg:MyMemory")
        given = ["score", plug, *score]
    text = shlex.join([program, *given])
    if given[0] == "recover":
        stopped(folder)
    if given[0] == "score":
        given += FEW
    for part, fewer in QUICK.items():
        if part in text:
            given = [*(a for a in given if a not in FEW), *fewer]
    if given[0] == "sweep" or given[:2] == ["report", "results"]:
        pytest.importorskip("pyarrow", reason="results are kept with memspec[sweep]")
    memspec(*given, code=int("--resume" in given))  # the failure that it was stopped by counts
    for option in ("--html", "--svg", "--scorecard"):
        for argument in given:
            if argument.startswith(f"{option}=") and not argument.endswith("="):
                assert (folder / argument.partition("=")[2]).exists(), words


def stopped(folder: Path) -> None:
    """A run that was stopped before its end: its journal is kept."""
    (folder / "broken").touch()
    memspec("score", "mypkg:MyMemory", "--scorecard=card.json", *FEW, "-x", "-q", code=1)
    (folder / "broken").unlink()
    assert (folder / "card.json.journal").exists()
