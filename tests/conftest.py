"""How the tests are spread over processes, and fixtures for tests that run pytest inside a folder of their own."""

from __future__ import annotations

import json
import os
import random
import re
import sys
import textwrap
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that read one run stay on one worker; see :mod:`hands`."""
    if config.getoption("dist") != "load":  # another way was asked for
        return None
    from hands import Hands

    return Hands(config, log)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ci: takes ten seconds or more; run by .ci/run, with -m ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked slow wait for --memspec-full, as slow checks do; those marked ci also run where they are asked for."""
    if config.getoption("--memspec-full"):
        return
    named = re.findall(r"\w+", config.getoption("markexpr"))
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --memspec-full"))
        elif item.get_closest_marker("ci") and "ci" not in named:
            item.add_marker(pytest.mark.skip(reason="takes ten seconds or more; run with -m ci"))


@pytest.fixture(autouse=True)
def same_numbers(request: pytest.FixtureRequest) -> None:
    """What a test draws without a seed of its own is the same in every run, whichever tests ran before it."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (memories that draw so are meant)
    torch.manual_seed(seed)


@dataclass
class Finished:
    """One run: exit code and everything it printed."""

    code: int
    text: str


@dataclass
class Folder:
    """A user's folder: write files into it, run pytest in it, read the card back."""

    path: Path
    _read: Callable[[], str]

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def pytest(self, *arguments: str, config: str = os.devnull, isolate: bool = False) -> Finished:
        """Run pytest in this process, in this folder, whatever the project's settings, the caller's, and other plugins.

        Memories are loaded into this process too, which is quicker, unless ``isolate`` says otherwise.
        """
        common = ["-p", "no:cacheprovider", "--import-mode=importlib", f"-c{config}", f"--rootdir={self.path}"]
        common += ["-p", "memspec.plugin", *(["-p", "xdist.plugin"] if find_spec("xdist") else [])]
        common += [] if isolate else ["--memspec-no-isolate"]
        self._read()
        before = set(sys.modules)
        try:
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
                for options in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
                    environment.delenv(options, raising=False)
                code = pytest.main([*common, *arguments])
        finally:
            for name in set(sys.modules) - before:  # a file written anew is imported anew
                if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(self.path)):
                    del sys.modules[name]
        return Finished(int(code), self._read())

    def card(self, name: str = "card.json") -> dict[str, Any]:
        return json.loads((self.path / name).read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # for commands that run pytest themselves

    def read() -> str:
        out = capsys.readouterr()
        return out.out + out.err

    return Folder(tmp_path, read)
