"""The suites held to what they must catch: every mutant killed for the right reason, every check useful, every reference spared.

All mutants run the checks that they name, their good twins the same checks, and references every check. In one
process these are a few pytest runs, two at a time. Under pytest-xdist the memories are dealt out: each hand is a run of
its own, and the tests that read it stay on one worker, so that no memory is run twice and no worker waits for another.
"""

from __future__ import annotations

import functools
import os
import shlex
from typing import Any

import pytest

from memspec.cli import parser
from memspec.commands import score, trial
from memspec.experiments import catalog
from memspec.fixtures.mutants import all_mutants
from memspec.plugs.references import reference_plugs
from memspec.running.selfcheck import EXPECTED_TO_FAIL, Matrix, matrix

MUTANTS = all_mutants()
REFERENCES = reference_plugs()
QUICK = [
    f"memspec.reference:{name}" for name in ("DeltaMemory", "MatrixAssociativeMemory", "SoftmaxMemory", "NullMemory")
]
"""References that run every check by default, one of a kind; the others under --memspec-full."""
TWINS = sorted({mutant.twin for mutant in MUTANTS.values()})

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
HANDS = 3 * WORKERS if WORKERS > 1 else 1
"""Enough that the workers end together, few enough that starting a run (three seconds) costs little."""
HAND = {plug: number % HANDS for number, plug in enumerate(dict.fromkeys([*QUICK, *TWINS]))}
"""A mutant plays with its twin, which so runs once."""


@functools.cache
def found(hand: int) -> Matrix:
    """The run of one hand."""
    return matrix(
        workers=1 if WORKERS > 1 else 2,
        only=[name for name, mutant in MUTANTS.items() if HAND[mutant.twin] == hand],
        named_checks_only=True,
        references=[plug for plug in QUICK if HAND[plug] == hand],
    )


@functools.cache
def alone(plug: str) -> Matrix:
    """The run of one reference that is not among the quick ones."""
    return matrix(workers=1, only=[], references=[plug])


def dealt(hands: dict[str, int]) -> list[Any]:
    """Parameters of tests that read a hand's run: name and hand. Their ids keep those of one hand on one worker."""
    return [pytest.param(name, hand, id=f"hand{hand}-{name}") for name, hand in hands.items()]


def assert_parses(command: str) -> None:
    """A ``memspec trial`` names an experiment and fields that exist, a ``memspec score`` options of the plugin."""
    memspec, name, *arguments = shlex.split(command)
    assert memspec == "memspec"
    if name == "trial":
        chosen = parser().parse_args([name, *arguments])
        trial.parsed_setting(catalog.experiments()[chosen.experiment], chosen.set)
        return
    assert name == "score"
    chosen = score.arguments(arguments)
    assert chosen.checks
    assert chosen.plugs


def test_there_are_enough_mutants() -> None:
    assert len(MUTANTS) >= 25


@pytest.mark.parametrize(("name", "hand"), dealt({name: HAND[MUTANTS[name].twin] for name in sorted(MUTANTS)}))
def test_every_mutant_is_failed_by_the_checks_it_names(name: str, hand: int) -> None:
    """And the message of the first says what is wrong."""
    assert [problem for problem in found(hand).survivors() if problem.startswith((f"{name} ", f"{name}:"))] == []


@pytest.mark.parametrize(("name", "hand"), dealt({name: HAND[MUTANTS[name].twin] for name in sorted(MUTANTS)}))
def test_every_failure_has_its_parts_and_repeats(name: str, hand: int) -> None:
    """Rule, what came, what was expected, the likeliest cause, and a program that compiles or a command that parses."""
    failures = found(hand).failures(MUTANTS[name].plug)
    assert failures
    for check, failure in failures.items():
        assert (failure.check, failure.memory) == (check, MUTANTS[name].plug)
        for part in (failure.rule, failure.got, failure.expected, failure.cause, failure.repeat):
            assert part.strip(), f"{check}: {failure}"
        assert "Traceback" not in str(failure)
        if failure.is_command:
            assert_parses(failure.repeat)
        else:
            compile(failure.repeat, check, "exec")


@pytest.mark.parametrize(("plug", "hand"), dealt({plug: HAND[plug] for plug in QUICK}))
def test_a_reference_of_each_kind_passes_all_it_is_asked(plug: str, hand: int) -> None:
    if plug in EXPECTED_TO_FAIL:
        assert any(check.startswith(("laws/", "liveness/")) for check in found(hand).failed(plug))
    else:
        assert found(hand).failed(plug) == {}


@pytest.mark.slow
@pytest.mark.parametrize("plug", [plug for plug in REFERENCES if plug not in QUICK])
def test_every_other_reference_passes_all_it_is_asked(plug: str) -> None:
    assert alone(plug).failed(plug) == {}


@pytest.mark.parametrize(("plug", "hand"), dealt({plug: HAND[plug] for plug in TWINS}))
def test_no_good_twin_fails_what_its_mutants_fail(plug: str, hand: int) -> None:
    assert [problem for problem in found(hand).false_alarms() if problem.startswith(f"{plug} fails")] == []
    assert found(hand).cards[plug].verdict != "error"  # it was asked something


@pytest.mark.parametrize("hand", [0], ids=["hand0"])
def test_every_check_fails_a_mutant(hand: int) -> None:
    """Each is named by a mutant, and every mutant is failed by what it names, as is held above."""
    named = {"/".join(glob.split("/")[:2]) for mutant in MUTANTS.values() for glob in mutant.killed_by}
    assert not [name for name in named if set(name) & set("*?[")]  # or it would not be known which check is meant
    assert [check for check in found(hand).checks if check not in named] == []
