"""The suites held to what they must catch: every mutant killed for the right reason, every check useful, every reference spared.

All mutants run the checks that they name, their good twins the same checks, and all references every check. In one
process this is one pytest run in two further ones. Under pytest-xdist the memories are dealt out: each hand is a run of
its own, and the tests that read it stay on one worker, so that no memory is run twice and no worker waits for another.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest

from memspec.cli import reference_names
from memspec.fixtures.mutants import all_mutants
from memspec.running.selfcheck import EXPECTED_TO_FAIL, Matrix, matrix

MUTANTS = all_mutants()
REFERENCES = [f"memspec.reference:{name}" for name in reference_names()]
TWINS = sorted({mutant.twin for mutant in MUTANTS.values()})

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
HANDS = 4 * WORKERS if WORKERS > 1 else 1
"""Enough that the workers end together, few enough that starting a run (three seconds) costs little."""
HAND = {plug: number % HANDS for number, plug in enumerate(dict.fromkeys([*REFERENCES, *TWINS]))}
"""A mutant plays with its twin, which so runs once."""


@functools.cache
def found(hand: int) -> Matrix:
    """The run of one hand."""
    return matrix(
        workers=1 if WORKERS > 1 else 2,
        only=[name for name, mutant in MUTANTS.items() if HAND[mutant.twin] == hand],
        named_checks_only=True,
        references=[plug for plug in REFERENCES if HAND[plug] == hand],
    )


def dealt(hands: dict[str, int]) -> list[Any]:
    """Parameters of tests that read a hand's run: name and hand, on one worker for each hand."""
    return [
        pytest.param(name, hand, id=name, marks=pytest.mark.xdist_group(f"matrix-{hand}"))
        for name, hand in hands.items()
    ]


def test_there_are_enough_mutants() -> None:
    assert len(MUTANTS) >= 25


@pytest.mark.parametrize(("name", "hand"), dealt({name: HAND[MUTANTS[name].twin] for name in sorted(MUTANTS)}))
def test_every_mutant_is_failed_by_the_checks_it_names(name: str, hand: int) -> None:
    """And the message of the first says what is wrong."""
    assert [problem for problem in found(hand).survivors() if problem.startswith((f"{name} ", f"{name}:"))] == []


@pytest.mark.parametrize(("plug", "hand"), dealt({plug: HAND[plug] for plug in REFERENCES}))
def test_every_reference_passes_all_it_is_asked(plug: str, hand: int) -> None:
    if plug in EXPECTED_TO_FAIL:
        assert any(check.startswith(("laws/", "liveness/")) for check in found(hand).failed(plug))
    else:
        assert found(hand).failed(plug) == {}


@pytest.mark.parametrize(("plug", "hand"), dealt({plug: HAND[plug] for plug in TWINS}))
def test_no_good_twin_fails_what_its_mutants_fail(plug: str, hand: int) -> None:
    assert [problem for problem in found(hand).false_alarms() if problem.startswith(f"{plug} fails")] == []
    assert found(hand).cards[plug].verdict != "error"  # it was asked something


@pytest.mark.xdist_group("matrix-0")
def test_every_check_fails_a_mutant() -> None:
    """Each is named by a mutant, and every mutant is failed by what it names, as is held above."""
    named = {"/".join(glob.split("/")[:2]) for mutant in MUTANTS.values() for glob in mutant.killed_by}
    assert not [name for name in named if set(name) & set("*?[")]  # or it would not be known which check is meant
    assert [check for check in found(0).checks if check not in named] == []
