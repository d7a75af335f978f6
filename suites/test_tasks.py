"""Tasks: sequence tasks, the controller's part done by hand, or learnt: a few steps of it, and all of it."""

from __future__ import annotations

import pytest

from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.learning import LEARNED, Learning, descend
from memspec.experiments.tasks import STORED, Stored, built_for
from memspec.fixtures.tasks import courses
from memspec.fixtures.tasks.by_hand import HANDS
from memspec.judging.requirements import Judge
from memspec.judging.statistics import mean_interval
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.training.fitting import needs_form

FLOOR = Bound(at_least=0.25, source="universal floor: half of chance")
DONE = "built a small network of it, and moved what is upstream of the memory down the slope of one batch's loss"
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
        came = descend(plug, courses.small(task), seed=0)
        if came.flat:
            raise CannotMeasure(
                f"the slope of the loss, {came.losses[-1]:.4g}, is too small for a step to show in float32"
            )
        judge.require(
            not came.unreached,
            got=f"no gradient, or one that is not finite, for {', '.join(came.unreached)}",
            expected="a finite gradient, not zero everywhere",
            cause="a detach, no_grad or argmax between what is written or asked and what is read",
            done=DONE,
        )
        first, last = came.losses[0], came.losses[-1]
        judge.require(
            last < first,
            got=f"a loss of {first:.6g}, which no step along its slope lowers, however short",
            expected="a lower loss",
            cause="the gradient is not that of the answers: a custom backward, or a state changed in place, is wrong",
            done=DONE,
            metric="fall of the loss",
            estimate=1 - last / first,
        )

    @pytest.mark.measurement
    @pytest.mark.sequence
    @pytest.mark.slow
    @tasks
    def test_trained(self, plug: Plug, judge: Judge, runner: Runner, task: str) -> None:
        """Trained on a task from three seeds, none of which is left out, a network of it does no worse than a guess."""
        needs_form(plug)
        setting = Learning(task)
        sizes, errors = runner.curve(LEARNED, setting, "error", 3)
        chance = runner.curve(LEARNED, setting, "chance_error", 3)[1][0, 0]
        came = mean_interval(errors[:, 0])
        judge.require(
            came.low <= chance,
            got=f"an error of {came.mean:.4g} (95% interval {came.low:.4g} to {came.high:.4g} over {len(errors)} seeds) "
            f"at size {sizes[0]:g}",
            expected=f"no more than the {chance:.4g} of a guess",
            cause="training diverges, or what is learnt on one batch is undone by the next",
            trial=(LEARNED, setting, int(errors[:, 0].argmax())),
            metric=f"error@{sizes[0]:g}",
            estimate=came.mean,
            interval=(came.low, came.high),
        )
