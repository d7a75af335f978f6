"""The mutants mirror the suites: one module each, in which live the memories that its checks kill first."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import textwrap

import pytest

import memspec.fixtures.mutants
import memspec.suites
from memspec import protocol
from memspec.fixtures.mutants import all_mutants

MUTANTS = all_mutants()


def modules_of(path: list[str]) -> set[str]:
    return {module.name for module in pkgutil.iter_modules(path)}


def test_one_module_of_mutants_for_each_suite() -> None:
    suites = {name.removeprefix("test_") for name in modules_of(memspec.suites.__path__)}
    assert modules_of(memspec.fixtures.mutants.__path__) == suites


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_lives_with_the_suite_that_kills_it_first(name: str) -> None:
    home = MUTANTS[name].plug.partition(":")[0].rpartition(".")[2]
    assert home == MUTANTS[name].killed_by[0].partition("/")[0]


@functools.cache
def read_by(cls: type) -> set[str]:
    """Names of the attributes that a class reads, of itself or of anything else."""
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_what_a_mutant_changes_is_there_to_be_changed(name: str) -> None:
    """An override of what its base no longer has would leave a good memory under a bad name."""
    module, _, attribute = MUTANTS[name].plug.partition(":")
    broken = getattr(importlib.import_module(module), attribute)
    bases = [cls for cls in broken.__mro__[1:] if cls is not object]
    promised = {name for thing in vars(protocol).values() if inspect.isclass(thing) for name in vars(thing)}
    asked = promised.union(*(vars(cls) for cls in bases), *(read_by(cls) for cls in (broken, *bases)))
    own = {name for name in vars(broken) if not name.startswith("__") or name == "__init__"}
    assert sorted(own - asked - {"__init__", "spec"}) == []
