"""What a failure says: the same however pytest shows it, whatever the memory raises, and it can be done again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from memspec.cli import main
from memspec.failure import Failure

MEMORIES = '''
    import torch

    class Odd:
        def __init__(self, key_dim, value_dim, capacity):
            self.value_dim = value_dim
        def reset(self):
            pass
        def update(self, keys, values):
            pass
        def query(self, keys):
            if keys is not None and len(keys) == 1:  # as at loading
                return torch.zeros(1, self.value_dim)
            raise ValueError("no {such} {0} thing\\n\\x1b[31mred\\x1b[0m 100%s")

    class Unsaid(Odd):
        """Its exception cannot even be told."""
        def query(self, keys):
            if keys is not None and len(keys) == 1:
                return torch.zeros(1, self.value_dim)
            class Mute(Exception):
                def __str__(self):
                    raise RuntimeError("no words")
            raise Mute()
'''

CHECKS = '''
    import pytest
    from memspec.experiments.capacity import LOAD, Load
    from memspec.judging.verdicts import Bound

    def test_judged(judge):
        """Recall is good."""
        judge(LOAD, Load(n=4), "recall_cosine", Bound(at_least=0.9))

    def test_crash(plug):
        """A query is answered."""
        plug.build().query(None)

    def test_asserted(plug):
        """Two is three.

        A longer story.
        """
        two = 2
        assert two == 3, "two is two"

    def test_failed(plug):
        pytest.fail("not good\\nat all")

    @pytest.fixture
    def broken(plug):
        raise KeyError("no {such}")

    def test_setup(broken):
        pass

    class TestA:
        def test_one(self, plug):
            assert 0

    class TestB:
        def test_one(self, plug):
            pass
'''


@pytest.fixture
def own(folder: Any) -> Any:
    folder.write("mem.py", MEMORIES)
    folder.write("test_own.py", CHECKS)
    return folder


def failures(folder: Any) -> dict[str, dict[str, Any]]:
    return {c["id"]: c["failure"] for c in folder.card()["checks"] if c["status"] == "fail"}


def test_the_card_is_the_same_whatever_tracebacks_are_shown(own: Any) -> None:
    cards = []
    for style in ("no", "short", "long"):
        own.pytest("--memory=mem.py:Odd", "--memory=mem.py:Unsaid", f"--tb={style}", "--memspec-scorecard=card.json")
        cards.append([c | {"seconds": 0} for card in own.card()["cards"] for c in card["checks"]])
    assert cards[0] == cards[1] == cards[2]


def test_every_end_of_a_check_becomes_a_failure_with_its_parts(own: Any) -> None:
    done = own.pytest("--memory=mem.py:Odd", "--memspec-scorecard=card.json")
    found = failures(own)
    assert set(found) == {"own/judged", "own/crash", "own/asserted", "own/failed", "own/setup", "own/A.one"}
    for failure in found.values():
        assert all(failure[part] for part in ("rule", "got", "expected", "cause", "repeat"))
        assert failure["memory"] == "mem.py:Odd"
    crash = found["own/crash"]
    assert crash["raised"] == "ValueError: no {such} {0} thing red 100%s"
    assert crash["got"].endswith("mem.py:14, in query)")
    assert crash["rule"] == "A query is answered."
    assert found["own/judged"]["raised"] == crash["raised"]
    assert found["own/asserted"]["got"] == "two is two"
    assert found["own/asserted"]["rule"] == "Two is three."
    assert found["own/failed"]["got"] == "not good at all"
    assert "before the check began" in found["own/setup"]["got"]
    checks = {c["id"]: c for c in own.card()["checks"]}
    assert checks["own/B.one"]["status"] == "pass"
    assert "own/judged: raised ValueError" in done.text
    assert "1 more check ends in the same exception: own/crash" in done.text


def test_memspecs_frames_are_not_shown(own: Any) -> None:
    done = own.pytest("--memory=mem.py:Odd", "--tb=short", "-k", "judged")
    assert "mem.py:14: in query" in done.text
    assert "memspec/experiments" not in done.text
    assert "memspec/judging" not in done.text
    full = own.pytest("--memory=mem.py:Odd", "--full-trace", "-k", "judged")
    assert "memspec/experiments" in full.text


def test_an_exception_without_words_is_a_failure_too(own: Any) -> None:
    own.pytest("--memory=mem.py:Unsaid", "--memspec-scorecard=card.json", "-k", "crash")
    assert failures(own)["own/crash"]["raised"] == "Mute: (its message raised RuntimeError)"


@pytest.mark.parametrize("test", ["crash", "setup"])
def test_the_command_for_an_own_check_repeats_it(own: Any, test: str) -> None:
    own.pytest("--memory=mem.py:Odd", "--memspec-seed=3", "--memspec-scorecard=card.json", "-k", test)
    failure = failures(own)[f"own/{test}"]
    command = shlex.split(failure["repeat"])
    assert command[0] == "pytest"
    again = own.pytest(*command[1:], "--memspec-scorecard=card.json")
    assert again.code == 1
    assert failures(own)[f"own/{test}"] == failure


MUTANTS = "memspec.fixtures.mutants"


@pytest.mark.parametrize(
    ("plug", "check"),
    [
        pytest.param(f"{MUTANTS}.capacity:DropsTheRemainder", "capacity/n95", marks=pytest.mark.ci),
        (f"{MUTANTS}.slots:ConstantUsage", "slots/usage-follows-writes"),
    ],
)
def test_the_command_for_a_check_of_a_suite_repeats_it(folder: Any, plug: str, check: str) -> None:
    folder.pytest(
        "--pyargs", "memspec.suites", f"--memory={plug}", f"--memspec-checks={check}", "--memspec-scorecard=card.json"
    )
    failure = failures(folder)[check]
    command = shlex.split(failure["repeat"])
    assert command[0] == "memspec"
    code = main([*command[1:], "--scorecard=again.json"] if command[1] == "score" else command[1:])
    if command[1] == "trial":
        assert code == 0
    else:
        assert code == 1
        again = {c["id"]: c["failure"] for c in folder.card("again.json")["checks"]}
        assert again[check] == failure


def test_a_fixtures_memory_is_repeated_by_its_own_test(folder: Any) -> None:
    """The command line cannot name what only a test file can build."""
    folder.write(
        "test_mine.py",
        """
        import pytest
        from memspec.suites.test_adaptation import TestAdaptation
        from memspec.reference import NullMemory

        @pytest.fixture
        def memory():
            def make(key_dim, value_dim):
                return NullMemory(key_dim, value_dim)
            return make
        """,
    )
    folder.pytest("test_mine.py", "--memspec-scorecard=card.json", "-k", "test_direction and single")
    (failure,) = failures(folder).values()
    assert failure["repeat"] == "pytest 'test_mine.py::TestAdaptation::test_direction[single]'"


def test_a_program_too_long_to_be_shown_is_said_to_be_on_the_card() -> None:
    """And never shown in part, as if it could be pasted."""
    failure = Failure("laws/one", "m", "a rule", "1", "2", "a cause", "x = 0\n" * 4000)
    assert "paste this" not in str(failure)
    assert "a program of 24,000 characters, whole on the card" in str(failure)
    assert "x = 0" not in str(failure)
    assert failure.to_json()["repeat"] == failure.repeat
