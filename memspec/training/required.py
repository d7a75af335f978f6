"""What is required of a plug that learns a course: a few steps lower its loss, and a training does not raise it."""

from __future__ import annotations

from memspec.errors import CannotMeasure
from memspec.experiments.base import Runner
from memspec.experiments.learning import LEARNED, Learning
from memspec.fixtures.tasks import courses
from memspec.judging.requirements import Judge
from memspec.judging.statistics import mean_interval
from memspec.plugs.plug import Plug
from memspec.training.descent import descend
from memspec.training.fitting import needs_form

SEEDS = 3
RISE = 0.05
"""Of a loss on fresh batches, which is never twice the same."""
DONE = "built a small network of it, and moved what is upstream of the memory down the slope of one batch's loss"


def learns(plug: Plug, judge: Judge, task: str) -> None:
    """Gradients of a task's loss reach what is written and asked, and steps down their slope lower the loss.

    Raises:
        NotAsked, CannotMeasure, CheckFailed: see :func:`~memspec.training.descent.descend`; if the slope is too small for a
            step to show; if the loss does not fall.
    """
    came = descend(plug, courses.small(task), seed=0)
    if came.flat:
        raise CannotMeasure(f"the slope of the loss, {came.losses[-1]:.4g}, is too small for a step to show in float32")
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


def trained(plug: Plug, judge: Judge, runner: Runner, task: str) -> None:
    """Trained from several seeds, none of which is left out, a network of the plug does not end with a higher loss.

    How far it came, beside an LSTM and a guess, is measured and not required: that depends on the budget.

    Raises:
        NotAsked, CheckFailed: if no network can be made of it; if the loss has risen by more than :data:`RISE`, beyond what
            the spread of the seeds explains.
    """
    needs_form(plug)
    setting = Learning(task)
    came = mean_interval(runner.values(LEARNED, setting, "loss_ratio", SEEDS), 1 - 2 * judge.alpha)
    judge.require(
        came.low <= 1 + RISE,
        got=f"the loss at the end is {came.mean:.4g} times that at the beginning (interval {came.low:.4g} to {came.high:.4g} "
        f"over {SEEDS} seeds)",
        expected=f"at most {1 + RISE} times",
        cause="training diverges: gradients explode, or are not those of the loss",
        trial=(LEARNED, setting, 0),
        metric="loss_ratio",
        estimate=came.mean,
        interval=(came.low, came.high),
    )
