"""Suites reused in a user's own file: whatever is combined, every check is collected, and lands on the right card."""

from __future__ import annotations

import itertools
import pkgutil
import random
from pathlib import Path
from typing import Any

import pytest

import memspec.suites

MODULES = sorted(module.name for module in pkgutil.iter_modules(memspec.suites.__path__))
CLASSES = {name: "Test" + "".join(part.title() for part in name.split("_")[1:]) for name in MODULES}

MEMORY = """
    import pytest
    from memspec.reference import DeltaMemory, SoftmaxMemory

    @pytest.fixture(scope="session")
    def memory():
        return DeltaMemory
"""


def collected(folder: Any, *arguments: str) -> list[str]:
    """What each collected item is called, without its file and class (a user's class has a name of its own)."""
    done = folder.pytest("--collect-only", "-q", *arguments)
    assert done.code == 0, done.text
    names = [line.rpartition("::")[2] for line in done.text.splitlines() if "::" in line]
    return sorted(
        name.replace("[memspec.reference:DeltaMemory]", "").replace("memspec.reference:DeltaMemory-", "")
        for name in names
    )


@pytest.fixture(scope="session")
def by_module(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The checks of each suite, as the command line collects them."""
    import subprocess
    import sys

    out = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--pyargs", "memspec.suites", "-p", "no:cacheprovider"]
        + ["--memory=memspec.reference:DeltaMemory", "-c", "/dev/null", "--import-mode=importlib"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path_factory.mktemp("collect"),
    ).stdout
    found: dict[str, list[str]] = {name: [] for name in MODULES}
    for line in out.splitlines():
        if "::" in line:
            path, _, test = line.partition("::")
            name = test.rpartition("::")[2]
            name = name.replace("[memspec.reference:DeltaMemory]", "").replace("memspec.reference:DeltaMemory-", "")
            found[Path(path).stem].append(name)
    assert all(found.values())
    return found


def test_star_imports_of_all_suites_drop_nothing(folder: Any, by_module: dict[str, list[str]]) -> None:
    imports = "".join(f"    from memspec.suites.{name} import *\n" for name in MODULES)
    folder.write("test_mine.py", MEMORY + imports)
    assert collected(folder, "test_mine.py") == sorted(itertools.chain.from_iterable(by_module.values()))


@pytest.mark.parametrize("draw", range(3))
def test_any_choice_of_classes_is_collected_whole(folder: Any, by_module: dict[str, list[str]], draw: int) -> None:
    rng = random.Random(draw)
    chosen = rng.sample(MODULES, 6)
    lines = [
        f"    from memspec.suites.{name} import {CLASSES[name]}\n"
        if rng.random() < 0.5
        else f"    import memspec.suites.{name}\n    class TestOwn{name}(memspec.suites.{name}.{CLASSES[name]}): pass\n"
        for name in chosen
    ]
    folder.write("test_mine.py", MEMORY + "".join(lines))
    assert collected(folder, "test_mine.py") == sorted(
        itertools.chain.from_iterable(by_module[name] for name in chosen)
    )


def test_several_memories_in_one_file_each_have_their_card(folder: Any) -> None:
    """Partials, classes and functions, in classes of one suite and of two: each result on its memory's card."""
    folder.write(
        "test_mine.py",
        """
        import functools
        import pytest
        import memspec.suites.test_capacity as capacity
        import memspec.suites.test_slots as slots
        from memspec.reference import DeltaMemory, NullMemory, SoftmaxMemory

        class TestA(slots.TestSlots):
            @pytest.fixture
            def memory(self):
                return functools.partial(SoftmaxMemory)

        class TestB(slots.TestSlots):
            @pytest.fixture(scope="class")
            def memory(self):
                return functools.partial(DeltaMemory)

        class TestC(capacity.TestCapacity):
            @pytest.fixture(scope="session")
            def memory(self):
                return NullMemory
        """,
    )
    folder.pytest("test_mine.py", "--memspec-scorecard=card.json", "-k", "slots or usage or reads or (recall and n8)")
    cards = {card["memory"]["plug"].rpartition(":")[2]: card for card in folder.card()["cards"]}
    statuses = {name: {c["id"]: c["status"] for c in card["checks"]} for name, card in cards.items()}
    assert statuses["SoftmaxMemory"]["slots/usage-follows-writes"] == "pass"
    assert "slots/usage-follows-writes" not in statuses["DeltaMemory"]
    assert "slots/usage-follows-writes" in cards["DeltaMemory"]["not_asked"]


def test_a_class_of_two_suites_is_refused_with_what_to_write_instead(folder: Any) -> None:
    folder.write(
        "test_mine.py",
        MEMORY
        + """
    from memspec.suites.test_capacity import TestCapacity
    from memspec.suites.test_claims import TestClaims

    class TestBoth(TestCapacity, TestClaims):
        pass
    """,
    )
    done = folder.pytest("test_mine.py", "--memspec-checks=capacity/recall/n1")
    assert done.code == 2
    for part in (
        "TestBoth inherits from the suites TestCapacity and TestClaims",
        "class TestBothClaims(TestClaims): ...",
    ):
        assert part in done.text
