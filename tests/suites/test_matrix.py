"""The suites held to what they must catch: every mutant killed for the right reason, every check useful, every reference spared.

One pytest run in two processes over all mutants (the checks they name), their good twins, and all references (every
check); the tests below read its result.
"""

from __future__ import annotations

import os

import pytest

from memspec.cli import reference_names
from memspec.fixtures.mutants import all_mutants
from memspec.running.selfcheck import EXPECTED_TO_FAIL, Matrix, matrix

MUTANTS = all_mutants()


@pytest.fixture(scope="session")
def found() -> Matrix:
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return matrix(workers="2" if workers == "1" else "1", named_checks_only=True)


def test_there_are_enough_mutants() -> None:
    assert len(MUTANTS) >= 25


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_is_failed_by_the_checks_it_names(found: Matrix, name: str) -> None:
    """And the message of the first says what is wrong."""
    assert [problem for problem in found.survivors() if problem.startswith((f"{name} ", f"{name}:"))] == []


@pytest.mark.parametrize("name", reference_names())
def test_every_reference_passes_all_it_is_asked(found: Matrix, name: str) -> None:
    plug = f"memspec.reference:{name}"
    if plug in EXPECTED_TO_FAIL:
        assert any(check.startswith(("laws/", "liveness/")) for check in found.failed(plug))
    else:
        assert found.failed(plug) == {}


def test_no_good_twin_fails_what_its_mutants_fail(found: Matrix) -> None:
    assert list(found.false_alarms()) == []


def test_every_check_fails_a_mutant(found: Matrix) -> None:
    assert found.idle() == []
