"""Imports go one way: what stands lower knows nothing of what stands higher, and no two modules need each other."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = {
    name: Path(importlib.util.find_spec(name).submodule_search_locations[0])  # type: ignore[union-attr,index]
    for name in ("memspec", "memspec.reference", "memspec.fixtures", "memspec.suites")
}
MODULES = {
    ".".join((root, *file.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): file
    for root, folder in ROOTS.items()
    for file in folder.rglob("*.py")
}

LEVELS = (
    ("failure",),
    ("metrics", "options", "protocol", "randomness"),
    ("errors", "functional"),
    ("networks", "training.elastic", "training.projection"),
    ("world",),
    ("fixtures.data",),
    ("fixtures.tasks",),
    ("plugs",),
    ("judging", "scorecard.files"),
    ("training.trainer", "training.fitting"),
    ("laws", "experiments"),
    ("theory", "analysis"),
    ("inference",),
    ("scorecard",),
    ("running",),
    ("training",),
    ("sweep",),
    ("plugin", "commands"),
    ("cli",),
    ("__main__",),
)
"""Parts of memspec from the bottom up; each may import what stands in an earlier line, and itself."""

LEVEL = {f"memspec.{part}": level for level, parts in enumerate(LEVELS) for part in parts}
BESIDE = ("memspec.reference", "memspec.suites", "memspec.fixtures")
"""What stands beside memspec, under its name."""


def within(module: str, parts: tuple[str, ...]) -> str | None:
    """The part that a module belongs to."""
    return next((part for part in parts if f"{module}.".startswith(f"{part}.")), None)


def imported(module: str) -> Iterator[str]:
    """Every module of ours that a module imports, at its head or inside a function, but for types alone."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by dots"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in names if within(name, ("memspec",)))


IMPORTS = {module: {name for name in imported(module) if name != module} for module in MODULES}


def assert_none(wrong: list[str]) -> None:
    assert not wrong, "\n".join(sorted(wrong))


def test_every_module_has_its_level() -> None:
    ours = [module for module in MODULES if module != "memspec" and not within(module, BESIDE)]
    assert_none([f"{module}: enter it in LEVELS" for module in ours if not within(module, tuple(LEVEL))])


def test_memspec_imports_downwards() -> None:
    wrong = []
    for module in MODULES:
        home = within(module, tuple(LEVEL))
        for name in IMPORTS[module] if home else ():
            part = within(name, tuple(LEVEL))
            if name == "memspec":  # the names it offers, loaded when they are asked for
                continue
            if part is None or (part != home and LEVEL[part] >= LEVEL[str(home)]):
                wrong.append(f"{module} imports {name}")
    assert_none(wrong)


@pytest.mark.parametrize(
    ("part", "others"),
    [
        (
            "memspec.reference",
            ("memspec.suites", "memspec.fixtures", "memspec.plugs", "memspec.laws", "memspec.judging"),
        ),
        ("memspec.reference", ("memspec.experiments", "memspec.theory", "memspec.scorecard", "memspec.running")),
        ("memspec.fixtures", ("memspec.suites", "memspec.laws", "memspec.judging", "memspec.experiments")),
        ("memspec.suites", ("memspec.reference", "memspec.scorecard", "memspec.running", "memspec.plugin")),
        ("memspec.reference.ops", ("memspec.reference.memories", "memspec.reference.wrappers")),
        ("memspec.reference.memories", ("memspec.reference.wrappers",)),
    ],
)
def test_what_stands_beside_imports_no_more_than_it_needs(part: str, others: tuple[str, ...]) -> None:
    pairs = [(m, name) for m in MODULES if within(m, (part,)) for name in IMPORTS[m]]
    assert_none([f"{module} imports {name}" for module, name in pairs if within(name, others)])


def test_no_circle() -> None:
    """Of modules; those that a function imports count as well."""
    graphlib.TopologicalSorter(IMPORTS).prepare()


def test_the_test_sees_imports_wherever_they_stand() -> None:
    assert "memspec.randomness" in IMPORTS["memspec.functional"]
    assert "memspec.running.selfcheck" in IMPORTS["memspec.commands.selfcheck"]  # inside a function
    assert "memspec.laws.law" not in IMPORTS["memspec.running.run"]
