"""What is built has everything: the wheel all of the package, the sdist all that tests it; the suites run from each."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = {
    "memspec": "memspec",
    "reference": "memspec/reference",
    "suites": "memspec/suites",
    "fixtures": "memspec/fixtures",
}
"""Folders of the checkout, and where they stand in what is installed."""

WITH_IT = (".ci", "benchmarks", "docs", "examples", "tests")
"""Folders that only the sdist has."""

FILES = (
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md", "conftest.py"),
    *("constraints.txt", "mkdocs.yml", "pyproject.toml", "setup.py"),
)
ONE_MEMORY = ("--memory=memspec.reference:DeltaMemory", "-p", "no:cacheprovider", "-q")


def files(folder: str) -> list[str]:
    """Every file below a folder of the checkout, as a path from its root; nothing that a run leaves."""
    found = (path for path in (CHECKOUT / folder).rglob("*") if path.is_file())
    kept = (path.relative_to(CHECKOUT).as_posix() for path in found)
    return [name for name in kept if "__pycache__" not in name and not name.endswith((".pyc", ".pyo"))]


def clean(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from a copy, so that nothing is left in the checkout."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    for name in FILES:
        shutil.copy(CHECKOUT / name, copy)
    for name in (*PACKAGE, *WITH_IT):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=clean)
    build(copy, out, "sdist", "wheel")
    return out


def build(source: Path, out: Path, *kinds: str) -> None:
    """Build what pip would, by the build backend that pyproject.toml names."""
    calls = "; ".join(f"backend.build_{kind}({str(out)!r})" for kind in kinds)
    run(sys.executable, "-c", f"import setuptools.build_meta as backend; {calls}", at=source)


def run(*command: object, at: Path, code: int = 0) -> str:
    """What a command prints; it must end with ``code``."""
    own = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}
    done = subprocess.run(list(map(str, command)), cwd=at, env=own, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    return text


def unpacked(sdist: Path, into: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (root,) = into.iterdir()
    return root


def installed(wheel: Path, folder: Path) -> Path:
    """The interpreter of a new environment that has memspec from a wheel, and the rest from this one."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:  # pure Python: what pip would do
        archive.extractall(site)
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(shared), encoding="utf-8")  # their own .pth files are not followed
    assert str(site) in run(python, "-c", "import memspec; print(memspec.__file__)", at=folder)
    return python


@functools.cache
def names_in(archive: Path) -> frozenset[str]:
    if archive.suffix == ".whl":
        return frozenset(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as opened:
        return frozenset(name.partition("/")[2] for name in opened.getnames())


def only(built: Path, pattern: str) -> Path:
    (found,) = built.glob(pattern)
    return found


@pytest.mark.parametrize("folder", PACKAGE)
def test_the_wheel_has_every_file_of_the_package(built: Path, folder: str) -> None:
    expected = {PACKAGE[folder] + name.removeprefix(folder) for name in files(folder)}
    assert expected
    assert sorted(expected - names_in(only(built, "*.whl"))) == []


def test_the_wheel_has_nothing_else(built: Path) -> None:
    tops = {name.partition("/")[0].partition("-")[0] for name in names_in(only(built, "*.whl"))}
    assert tops == {"memspec"}


@pytest.mark.parametrize("folder", [*PACKAGE, *WITH_IT])
def test_the_sdist_has_every_file_of_the_checkout(built: Path, folder: str) -> None:
    assert sorted({*files(folder), *FILES} - names_in(only(built, "*.tar.gz"))) == []


def from_sdist(built: Path, folder: Path) -> Path:
    """A wheel that is built from the sdist, as pip builds it where there is no other."""
    build(unpacked(only(built, "*.tar.gz"), folder / "source"), folder, "wheel")
    return only(folder, "*.whl")


@pytest.mark.ci
def test_the_wheel_of_the_sdist_is_the_wheel(built: Path, tmp_path: Path) -> None:
    """And the suites run from it."""
    wheel = from_sdist(built, tmp_path)
    assert names_in(wheel) == names_in(only(built, "*.whl"))
    python = installed(wheel, tmp_path / "venv")
    run(python, "-m", "pytest", "--pyargs", "memspec.suites", *ONE_MEMORY, "--memspec-checks=laws/s*", at=tmp_path)


@pytest.mark.ci
def test_the_suites_run_where_the_wheel_is_installed(built: Path, tmp_path: Path) -> None:
    """Every check of a memory, away from any checkout."""
    python = installed(only(built, "*.whl"), tmp_path / "venv")
    said = run(python, "-m", "pytest", "--pyargs", "memspec.suites", *ONE_MEMORY, at=tmp_path)
    assert "memspec.reference:DeltaMemory" in said
    assert "failed" not in said


@pytest.mark.ci
def test_a_checkout_beside_another_install(built: Path, tmp_path: Path) -> None:
    """Its suites with the installed package are refused, with what to do; ``python -m pytest`` takes all from it."""
    python = installed(only(built, "*.whl"), tmp_path / "venv")
    root = unpacked(only(built, "*.tar.gz"), tmp_path / "source")
    script = "import sys, pytest; sys.exit(pytest.main())"  # as the command pytest: without the working directory
    refused = run(python, "-P", "-c", script, "suites", *ONE_MEMORY, at=root, code=4)
    assert f"pip install -e {root}" in refused
    assert "pytest --pyargs memspec.suites" in refused
    run(python, "-m", "pytest", "suites", *ONE_MEMORY, "--memspec-checks=laws/shape", at=root)
