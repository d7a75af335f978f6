"""Budgets: what a slow memory is asked is planned from its first calls; what is not reached is said to be."""

from __future__ import annotations

import time

import pytest
from torch import Tensor

from memspec.errors import OutOfTime
from memspec.fixtures.plain import PlainSums
from memspec.laws.ladder import Ladder
from memspec.laws.law import Law
from memspec.laws.stateful import EXAMPLES, planned
from memspec.plugs.loading import load_plug
from memspec.plugs.meter import METER, Meter, Pace
from memspec.plugs.plug import Plug
from memspec.running.budget import Plan, pace, plan_for
from memspec.running.progress import Progress
from tests.conftest import Folder

SLOW = """
    import time
    from memspec.fixtures.plain import PlainSums

    class Slow(PlainSums):
        def learn(self, keys, values):
            time.sleep(0.004)
            super().learn(keys, values)

        def recall(self, keys):
            time.sleep(0.004)
            return super().recall(keys)
"""


@pytest.fixture(autouse=True)
def _meter_off() -> object:
    yield
    METER.on, METER.limit = False, None


@pytest.mark.parametrize("call", [1e-6, 1e-4, 0.001, 0.005])
def test_a_quick_memory_is_asked_everything(call: float) -> None:
    assert plan_for(300, call).full


def test_plans_shrink_with_the_time_a_call_takes() -> None:
    """At 50 ms a call there is time for two trials of each measurement, at 500 ms for hardly one."""
    fifty, half = plan_for(300, 0.05), plan_for(300, 0.5)
    assert (fifty.call_ms, half.call_ms) == (56.0, 560.0)
    assert fifty.calls is not None
    assert half.calls is not None
    assert 4500 < fifty.calls < 6500
    assert 450 < half.calls < 650
    assert (fifty.trials, half.trials) == (2, 1)
    assert plan_for(1800, 0.05).trials == 16


def test_a_busy_machine_makes_the_same_plan() -> None:
    assert plan_for(300, 0.050) == plan_for(300, 0.061)
    assert plan_for(300, 0.050) != plan_for(300, 0.100)


def test_calls_that_had_to_wait_make_no_plan() -> None:
    """The first call compiles something, and two of the others come while the machine is busy elsewhere."""

    class Waits(PlainSums):
        calls = builds = 0

        def __init__(self, key_dim: int, value_dim: int) -> None:
            super().__init__(key_dim, value_dim)
            Waits.builds += 1
            time.sleep(0.04 if Waits.builds <= 2 else 0)

        def learn(self, keys: Tensor, values: Tensor) -> None:
            Waits.calls += 1
            time.sleep({1: 0.6, 2: 0.03, 3: 0.03}.get(Waits.calls, 0))
            super().learn(keys, values)

    assert pace(Plug("waits", Waits)) < 0.005


def test_a_plan_says_what_it_is() -> None:
    assert str(Plan(300, 0.1, pace=Pace(1e-4, 1e-6))) == ""
    slow = str(Plan(300, 56, 5000, 83, 2, Pace(0.056, 0.0056)))
    assert "; laws that speak of any number of rows try up to about" in slow
    assert "1 of 7 histories of each kind are played" in slow
    plan = Plan(300, 56, 5000, 83, 2)
    assert str(plan) == "5000 calls of about 56 ms in 300 s: at most 83 a check and 2 trials a measurement"


def test_histories_and_ladders_are_planned_and_not_timed() -> None:
    """What a memory is asked depends on its pace alone, and a slower one is asked less."""
    plug = load_plug("memspec.fixtures.plain:PlainSums")
    paces = [Pace(call, call / 8) for call in (1e-4, 1e-3, 1e-2, 1e-1)]
    assert [planned(pace) for pace in paces] == sorted((planned(pace) for pace in paces), reverse=True)
    assert (planned(paces[0]), planned(paces[-1]), planned(None)) == (EXAMPLES, 1, EXAMPLES)
    climbs = [len(list(Law(plug, "r", "laws/x", pace=pace).cases(ladder=Ladder()))) for pace in paces]
    assert climbs == sorted(climbs, reverse=True)
    assert climbs[0] > 20 > climbs[-1]


def test_calls_beyond_the_limit_are_refused_by_what_no_except_takes_for_the_memorys_own() -> None:
    class Memory:
        def update(self) -> None:
            self.query()

        def query(self) -> None: ...

    meter, memory = Meter(on=True), Memory()
    meter.attach(memory)
    before = meter.begin(2)
    memory.update()
    assert meter.calls == {"update": 1}  # the outermost call alone
    assert meter.tired
    memory.query()
    assert not issubclass(OutOfTime, Exception)
    with pytest.raises(OutOfTime):
        memory.update()
    assert meter.end(before) == 2
    memory.update()


def test_what_was_not_reached_is_on_the_card(folder: Folder) -> None:
    """Laws first, then measurements of as many trials as there is time for; the card is partial and names the plan."""
    folder.write("mine.py", SLOW)
    common = ["--pyargs", "memspec.suites", "--memory=mine.py:Slow", "-q", "--memspec-scorecard=card.json"]
    chosen = [f"--memspec-checks={glob}" for glob in ("laws/*", "capacity/recall/*", "claims/exact/*")]
    run = folder.pytest(*common, *chosen, "--memspec-budget=2")
    assert run.code == 0, run.text
    card = folder.card()
    by = {check["id"]: check for check in card["checks"]}
    assert by["laws/shape"]["status"] == "pass"
    missing = [c for c in card["checks"] if str(c["reason"]).startswith("not measured: budget")]
    assert missing
    assert card["verdict"] == "partial"
    assert "calls of about" in card["signature"]["plan"]
    assert any("the memory is slow" in note for note in card["notes"])
    assert len(by) + len(card["not_asked"]) == len(set(by) | set(card["not_asked"]))
    assert "claims/exact/batch" in card["not_asked"]  # it does not apply, whatever time there is


def test_the_budget_must_be_a_time(folder: Folder) -> None:
    run = folder.pytest("--pyargs", "memspec.suites", "--memory=memspec.fixtures.plain:PlainSums", "--memspec-budget=0")
    assert run.code == 4
    assert "it must be above 0" in run.text


def test_progress_says_what_runs_and_how_long_is_left(pytestconfig: pytest.Config) -> None:
    progress = Progress(pytestconfig)
    progress.planned, progress.done, progress.failed = 200, 50, 3
    assert progress.line("suites/test_laws.py::TestLaws::test_reset_answers[mypkg:M]", 100.0) == (
        "memspec: 50 of 200 checks done, 3 failed; now reset-answers; about 300 s left"
    )


def test_a_long_run_shows_itself_unless_it_is_to_be_quiet(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspec.running.progress.EVERY", 0.0)
    arguments = [
        "--pyargs",
        "memspec.suites",
        "--memory=memspec.fixtures.plain:PlainSums",
        "--memspec-checks=inputs/rank*",
    ]
    shown = folder.pytest(*arguments)
    assert "checks done; now rank-of-update" in shown.text
    assert "checks done" not in folder.pytest(*arguments, "-q").text
    quiet = folder.pytest(*arguments, "-q", "--memspec-progress").text
    assert "checks done" in quiet
    for text in (shown.text, quiet):  # each on a line of its own, not behind dots
        assert all(line.startswith("memspec: ") for line in text.splitlines() if "checks done" in line)
