"""The suites held to what they must catch: every mutant killed for the right reason, every check useful, every reference spared.

Mutants run the checks that they name (one in six by default, all in CI), their good twins the same checks, and references
every check. In one process these are a few pytest runs, two at a time. Under pytest-xdist the memories are dealt out: each hand is a run of
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
from memspec.running.selfcheck import EXPECTED_TO_FAIL, Matrix, matrix, run_plan

MUTANTS = all_mutants()
REFERENCES = reference_plugs()
QUICK = [
    f"memspec.reference:{name}" for name in ("NullMemory", "DeltaMemory", "MatrixAssociativeMemory", "SoftmaxMemory")
]
"""References that run every check in CI, one of a kind, and the first by default; the others under --memspec-full."""
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


class Deck:
    """Mutants with their twins, and references, dealt out in hands: each is one run, and a mutant plays with its twin.

    Args:
        hands: so many a worker; enough that the workers end together, few enough that starting a run (three seconds)
            costs little.
        first: number of the first hand.
    """

    def __init__(self, mutants: list[str], references: list[str], hands: int, first: int = 0) -> None:
        self.mutants, self.references = mutants, references
        self.twins = sorted({MUTANTS[name].twin for name in mutants})
        self.hands = hands * WORKERS if WORKERS > 1 else 1
        self.first = first
        self.hand = {p: first + n % self.hands for n, p in enumerate(dict.fromkeys([*references, *self.twins]))}

    def run(self, hand: int) -> Matrix:
        return matrix(
            workers=1 if WORKERS > 1 else 2,
            only=[name for name in self.mutants if self.hand[MUTANTS[name].twin] == hand],
            named_checks_only=True,
            references=[plug for plug in self.references if self.hand[plug] == hand],
        )


SAMPLE = Deck(sorted(MUTANTS)[::6], QUICK[:1], hands=2)
REST = Deck(sorted(set(MUTANTS) - set(SAMPLE.mutants)), QUICK[1:], hands=3, first=SAMPLE.hands)
"""In CI alone."""


@functools.cache
def found(hand: int) -> Matrix:
    """The run of one hand."""
    return (SAMPLE if hand < REST.first else REST).run(hand)


@functools.cache
def alone(plug: str) -> Matrix:
    """The run of one reference that is not among the quick ones."""
    return matrix(workers=1, only=[], references=[plug])


def dealt(*which: str) -> list[Any]:
    """Parameters of tests that read a hand's run: name and hand. Their ids keep those of one hand on one worker.

    Args:
        which: attributes of a deck that list what is asked for.
    """
    params = []
    for deck, marks in ((SAMPLE, ()), (REST, (pytest.mark.ci,))):
        for name in (name for part in which for name in getattr(deck, part)):
            hand = deck.hand[MUTANTS[name].twin if name in MUTANTS else name]
            params.append(pytest.param(name, hand, id=f"hand{hand}-{name}", marks=marks))
    return params


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


@pytest.mark.parametrize(("name", "hand"), dealt("mutants"))
def test_every_mutant_is_failed_by_the_checks_it_names(name: str, hand: int) -> None:
    """And the message of the first says what is wrong."""
    assert [problem for problem in found(hand).survivors() if problem.startswith((f"{name} ", f"{name}:"))] == []


@pytest.mark.parametrize(("name", "hand"), dealt("mutants"))
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


@pytest.mark.parametrize(("plug", "hand"), dealt("references"))
def test_a_reference_of_each_kind_passes_all_it_is_asked(plug: str, hand: int) -> None:
    if plug in EXPECTED_TO_FAIL:
        assert any(check.startswith(("laws/", "liveness/")) for check in found(hand).failed(plug))
    else:
        assert found(hand).failed(plug) == {}


@pytest.mark.slow
@pytest.mark.parametrize("plug", [plug for plug in REFERENCES if plug not in QUICK])
def test_every_other_reference_passes_all_it_is_asked(plug: str) -> None:
    assert alone(plug).failed(plug) == {}


@pytest.mark.parametrize(("plug", "hand"), dealt("twins"))
def test_no_good_twin_fails_what_its_mutants_fail(plug: str, hand: int) -> None:
    assert [problem for problem in found(hand).false_alarms() if problem.startswith(f"{plug} fails")] == []
    assert found(hand).cards[plug].verdict != "error"  # it was asked something


@pytest.mark.parametrize("hand", [0], ids=["hand0"])
def test_every_check_fails_a_mutant(hand: int) -> None:
    """Each is named by a mutant, and every mutant is failed by what it names, as is held above."""
    named = {"/".join(glob.split("/")[:2]) for mutant in MUTANTS.values() for glob in mutant.killed_by}
    assert not [name for name in named if set(name) & set("*?[")]  # or it would not be known which check is meant
    assert [check for check in found(hand).checks if check not in named] == []


@pytest.mark.ci
def test_what_rounding_moves_as_far_is_no_order_of_rows() -> None:
    """At narrow keys this memory diverges: the last bit of what is written decides what it answers."""
    plug = "memspec.reference:TitansMemory"
    assert run_plan({plug: ["claims/split"]}, 1, ["--memspec-no-isolate"])[plug].checks[0].status == "pass"
