"""What runs a memory's checks leaves other plugins alone: they act in the run, once, and in no process that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import worker_plugin

DELTA = "memspec.reference:DeltaMemory"
OWN = '''
    import pytest

    @pytest.mark.of_worker
    @pytest.mark.law
    def test_own(plug, of_worker, request):
        """One pair is stored."""
        assert of_worker == "told"
        assert not hasattr(request.config, "workerinput")
        plug.build()
'''
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(folder: Any) -> Run:
    """pytest with every installed plugin, of which one more is :mod:`worker_plugin`."""
    installed = folder.path / "installed"
    (installed / "worker_plugin-1.dist-info").mkdir(parents=True)
    (installed / "worker_plugin.py").write_text(Path(worker_plugin.__file__).read_text())
    (installed / "worker_plugin-1.dist-info" / "METADATA").write_text("Name: worker_plugin\nVersion: 1\n")
    (installed / "worker_plugin-1.dist-info" / "entry_points.txt").write_text("[pytest11]\nworker = worker_plugin\n")
    folder.write(
        "pytest.ini", "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nrequired_plugins = worker_plugin\n"
    )
    folder.write("test_own.py", OWN)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        command = [sys.executable, "-m", "pytest", f"--memory={DELTA}", "test_own.py", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def acted() -> list[str]:
    return Path("acted").read_text(encoding="utf-8").split("\n")[:-1]


def test_an_installed_plugin_acts_in_the_run_alone(run: Run) -> None:
    done = run("--of-worker=told", "--junitxml=units.xml", "--memspec-scorecard=card.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert acted() == ["begin", "configure"]
    assert json.loads(Path("card.json").read_text())["verdict"] == "pass"
    assert "test_own" in Path("units.xml").read_text()


@pytest.mark.ci
def test_workers_of_xdist_are_told_what_their_plugins_need(run: Run) -> None:
    pytest.importorskip("xdist")
    done = run("--of-worker=told", "-n1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert acted().count("worker told") == 1
    assert acted().count("configure") == 1


def test_a_plugin_that_is_named_acts_for_memories_too(run: Run) -> None:
    done = run("--of-worker=told", "-p", "worker")
    assert done.returncode == 0, done.stdout + done.stderr
    assert acted().count("configure") == 2
    assert acted().count("worker told") == 0


@pytest.mark.ci
def test_checks_that_a_plugin_multiplies_are_run(run: Run) -> None:
    done = run("--of-worker=told", "--times=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.ci
@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "workers"])
def test_what_cannot_start_for_memories_is_told_and_ends_the_run(run: Run, folder: Any, workers: tuple[str]) -> None:
    """A conftest that needs what a plugin does in the run alone."""
    folder.write(
        "conftest.py",
        """
        def pytest_configure(config):
            assert not config.pluginmanager.has_plugin("memspec-server"), "it was not begun"
        """,
    )
    done = run("--of-worker=told", *workers)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "-p NAME loads one there too" in done.stdout + done.stderr
    assert "it was not begun" in done.stdout + done.stderr


@pytest.mark.ci
def test_a_check_that_is_known_in_the_run_alone_ends_it(run: Run, folder: Any) -> None:
    folder.write(
        "conftest.py",
        """
        def pytest_generate_tests(metafunc):
            if not metafunc.config.pluginmanager.has_plugin("memspec-server"):
                metafunc.fixturenames.append("more")
                metafunc.parametrize("more", [1])
        """,
    )
    done = run("--of-worker=told")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "does not know the check test_own.py::test_own[" in done.stdout + done.stderr
