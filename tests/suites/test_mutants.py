"""The mutants mirror the suites: one module each, in which live the memories that its checks kill first."""

from __future__ import annotations

import pkgutil

import pytest

import memspec.fixtures.mutants
import memspec.suites
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
