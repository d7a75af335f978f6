"""docs/contributing.md does what it says: its examples are applied to a copy of the project and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"^(?P<before>(?:[^\n]+\n)*)\n```(?P<kind>python|diff)\n(?P<text>.*?)```\n", re.DOTALL | re.MULTILINE
)
CHECKS = [f"--memspec-checks={axis}/*" for axis in ("laws", "claims", "pacing", "persistence")]
FILE = re.compile(r"`([\w/]+\.py)`")


def apply(document: str, root: Path) -> list[str]:
    """Write what each block says into the file that the paragraph before it names (or the block before it).

    Returns:
        The files changed.
    """
    changed: list[str] = []
    for block in BLOCK.finditer(document):
        named = FILE.findall(block["before"])
        name = named[0] if named else changed[-1]
        changed.append(name)
        file = root / name
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        if block["kind"] == "python":
            new = f"{old}\n\n{block['text']}" if "at its end" in block["before"] else block["text"]
        else:
            new = patched(old, block["text"].splitlines())
        file.write_text(new, encoding="utf-8")
    return changed


def patched(old: str, lines: list[str]) -> str:
    """``old`` with the lines of a diff that begin with + in place of those with -; the others stand there once."""
    before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    assert old.count(before) == 1, f"these lines stand there {old.count(before)} times:\n{before}"
    return old.replace(before, after)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with every example in it."""
    root = tmp_path_factory.mktemp("project")
    for name in ("memspec", "reference", "suites", "fixtures", "tests"):
        shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", root)
    document = (CHECKOUT / "docs" / "contributing.md").read_text(encoding="utf-8")
    assert len(set(apply(document, root))) == 10
    return root


def run(root: Path, *arguments: str) -> str:
    """What ``python -m ...`` in the copy prints; it must end well."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=root, env=own | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.ci
def test_the_reference_passes_what_it_is_asked(project: Path) -> None:
    """The checks of the new axis and claim are asked of it as well."""
    memory = "--memory=memspec.reference:TopHebbMemory"
    run(project, "pytest", "suites", memory, "-q", "-p", "no:cacheprovider", "--memspec-scorecard=card.json", *CHECKS)
    card = json.loads((project / "card.json").read_text(encoding="utf-8"))
    assert "pacing/recall" in json.dumps(card)
    assert "it does not claim to be linear" in json.dumps(card)


@pytest.mark.ci
def test_the_mutants_are_failed_and_their_twins_pass(project: Path) -> None:
    names = ("GivesUpNineTenths", "HalvesAtEachCall", "ClaimsToBeLinear")
    said = run(project, "memspec", "selfcheck", "--quick", "-n", "1", *(f"--only={name}" for name in names))
    assert "3 of 3 mutants are failed by a check" in said


@pytest.mark.ci
def test_the_project_s_own_tests_take_them(project: Path) -> None:
    """Those of what every reference keeps, of its options' ranges, of where mutants live, and of who asks for a choice."""
    files = [f"tests/{name}" for name in ("reference/test_every.py", "reference/test_option_ranges.py", "suites")]
    new = "TopHebbMemory or HalvesAtEachCall or GivesUpNineTenths or ClaimsToBeLinear or one_module or has_a_check"
    args = (
        *files,
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        f"({new}) and not hand",
        "--ignore=tests/suites/test_matrix.py",
    )
    run(project, "pytest", *args)
