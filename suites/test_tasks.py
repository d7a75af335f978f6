"""Tasks: sequence tasks, the controller's part done by hand, or learnt: a few steps of it, and all of it."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.tasks import STORED, Stored, built_for
from memspec.fixtures.tasks.by_hand import HANDS
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.training import required

FLOOR = Bound(at_least=0.25, source="universal floor: half of chance")
tasks = pytest.mark.parametrize("task", HANDS)


class TestTasks:
    """Tasks: sequence tasks, the controller's part done by hand, or learnt: a few steps of it, and all of it."""

    @pytest.mark.measurement
    @tasks
    def test_stored(self, judge: Judge, task: str) -> None:
        """What a task writes is not answered systematically wrong: at least half of chance."""
        judge(
            STORED,
            Stored(task),
            "two_choice",
            FLOOR,
            cause="values are stored with the wrong sign, or answers are not finite",
        )

    @pytest.mark.claim
    @pytest.mark.parametrize("task", [task for task in HANDS if task != "sort"])  # whose keys may be all but equal
    def test_exact(self, plug: Plug, judge: Judge, runner: Runner, task: str) -> None:
        """A memory that claims to be exact answers every question of the task rightly."""
        if not plug.spec.exact:
            raise NotAsked(f"{plug.name} does not claim to be exact")
        setting, hand = Stored(task), HANDS[task]
        if (room := built_for(plug, setting).capacity) < hand.written:
            raise NotAsked(f"{plug.name} claims to be exact only up to {room} pairs")
        accuracy = runner.values(STORED, setting, "accuracy", 16)
        worst = int(accuracy.argmin())
        judge.require(
            accuracy.min() == 1,
            got=f"only {accuracy.min():.1%} of the answers in trial {worst} are right, after {hand.written} pairs",
            expected="every answer right, by spec: exact=True",
            cause="a pair that is written again counts as another, or rows of a long update are lost",
            trial=(STORED, setting, worst),
        )

    # ---- learnt ---------------------------------------------------------------------------------------------------

    @pytest.mark.measurement
    @pytest.mark.sequence
    @tasks
    def test_learns(self, plug: Plug, judge: Judge, task: str) -> None:
        """Gradients of a task's loss reach what is written and asked, and steps down their slope lower the loss."""
        required.learns(plug, judge, task)

    @pytest.mark.measurement
    @pytest.mark.sequence
    @pytest.mark.slow
    @tasks
    def test_trained(self, plug: Plug, judge: Judge, runner: Runner, task: str) -> None:
        """Trained on a task from three seeds, none of which is left out, a network of it does not end with a higher loss."""
        required.trained(plug, judge, runner, task)
