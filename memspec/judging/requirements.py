"""What a suite calls to have a metric judged; puts the verdict on the check's record and fails the check where it must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memspec.errors import CheckFailed, NotAsked
from memspec.failure import Failure
from memspec.judging.check import CheckRun
from memspec.judging.verdicts import FIRST_TRIALS, Bound, Verdict, decide_metric, surely_met
from memspec.metrics import Metric

if TYPE_CHECKING:
    from memspec.experiments.base import Experiment, Runner, Setting

UNDECIDED = "the interval still crosses the bound; more trials (--memspec-max-trials) would decide"
UNTRAINED = (
    "looks untrained, because it has parameters and answers no better than chance: load a checkpoint in its factory, or "
    "declare fidelity='trained'"
)


@dataclass
class Judge:
    """The judge of one check.

    Attributes:
        run: the check being carried out; verdicts go there.
        runner: measures the memory under test, and keeps the numbers.
        again: the command that repeats one trial of an experiment; empty where none would (then the whole check is).
        alpha, max_trials: false-alarm rate of a verdict, and the trials after which it stays open.
        strict: whether an open verdict fails the check.
        required: what the user's bounds file requires of this check, beside what is required of it anyway.
        untrained: whether the memory looks as if its weights had never been trained; asked where a check fails.
        blind: what a memory that answers zeros reaches, ``(experiment, setting, metric, at)``, or None; asked where a
            check passes.
    """

    run: CheckRun
    runner: Runner
    again: Callable[[Experiment, Setting, int], str]
    alpha: float = 1e-3
    max_trials: int = 256
    strict: bool = False
    required: Callable[[str], Bound | None] = lambda better: None
    untrained: Callable[[], bool] = lambda: False
    blind: Callable[[Experiment, Setting, str, float | None], NDArray[np.float64] | None] = lambda *_: None

    def __call__(
        self,
        experiment: Experiment,
        setting: Setting,
        metric: str,
        *bounds: Bound | None,
        at: float | None = None,
        cause: str = "",
        first: int = FIRST_TRIALS,
        unasked: str = "",
    ) -> Verdict:
        """Judge ``metric`` against the first bound given (spec, theory, floor, in that order), and against a bounds file.

        What a user requires comes on top: it can be stricter than what is asked anyway, and takes nothing back. Where one check judges several metrics its record shows the worst verdict: a later pass hides nothing.

        Args:
            at: the point of a curve to judge.
            cause: the likeliest cause of a failure, for the message.
            first: trials to begin with.
            unasked: why nothing is required, where no bound may be given.

        Raises:
            NotAsked: with ``unasked``, if neither a bounds file nor the caller requires anything.
            CheckFailed: if the bound is broken (or, under --strict, not decided).
        """
        own = next((bound for bound in bounds if bound is not None), None)
        asked = [bound for bound in (own, self.required(experiment.metrics[metric].better)) if bound is not None]
        if not asked:
            raise NotAsked(unasked) if unasked else ValueError("nothing is required: give at least one bound")
        verdicts = [self._judge(experiment, setting, metric, bound, at, cause, first) for bound in asked]
        return max(verdicts, key=lambda v: v.status == "inconclusive")

    def _judge(
        self,
        experiment: Experiment,
        setting: Setting,
        metric: str,
        bound: Bound,
        at: float | None,
        cause: str,
        first: int,
    ) -> Verdict:
        verdict = decide_metric(
            lambda n: self.runner.values(experiment, setting, metric, n, at),
            metric if at is None else f"{metric}@{at:g}",
            experiment.metrics[metric],
            bound,
            alpha=self.alpha,
            max_trials=self.max_trials,
            first=first,
        )
        if self.run.check.status == "inconclusive" and verdict.status == "pass":
            return verdict
        failure, blind = None, None
        if verdict.status != "pass":
            failure = self._failure(verdict, experiment.metrics[metric], experiment, setting, cause)
        elif self.run.check.kind != "law":
            blind = self.blind(experiment, setting, metric, at)
        held = self.run.check.status == "pass" and self.run.check.required  # by an earlier bound of this check
        required = held or blind is None or not surely_met(blind, experiment.metrics[metric], bound)
        centre = None if blind is None else float(np.mean(blind) if verdict.judged == "mean" else np.median(blind))
        self.run.check = self.run.check.with_verdict(verdict, experiment.name, setting.label, failure, centre, required)
        if failure is not None and (verdict.status == "fail" or self.strict):
            raise CheckFailed(failure)
        return verdict

    def require(
        self,
        holds: bool,
        *,
        got: str,
        expected: str,
        cause: str,
        trial: tuple[Experiment, Setting, int] | None = None,
        done: str = "",
        metric: str | None = None,
        estimate: float | None = None,
        interval: tuple[float, float] | None = None,
    ) -> None:
        """Fail the check unless ``holds``: for a statement that one counterexample breaks, or that is judged elsewhere.

        Args:
            got, expected, cause: what came, what is required and by whom, the likeliest reason it does not hold.
            trial: the experiment, setting and trial that show it; none repeats the whole check.
            done: what was done to the memory; of a trial, the experiment says it.
            metric, estimate, interval: a number for the record, whatever holds.

        Raises:
            CheckFailed: unless ``holds``.
        """
        self.run.check = replace(self.run.check, metric=metric, estimate=estimate, interval=interval)
        if holds:
            return
        if trial is not None:
            done = done or trial[0].describe(trial[1])
        repeat = self.again(*trial) if trial is not None else ""
        raise CheckFailed(self.run.failure(got=got, expected=expected, cause=cause, done=done, repeat=repeat))

    def _failure(self, v: Verdict, metric: Metric, experiment: Experiment, setting: Setting, cause: str) -> Failure:
        low, high = v.interval
        if v.judged == "share":
            got = (
                f"median {v.metric} {v.estimate:.4g}; share of trials that meet the bound: "
                f"{low:.3f} to {high:.3f} ({v.trials} trials, alpha {v.alpha:g})"
            )
            expected = f"{v.metric} {v.bound} in at least {v.bound.share:.0%} of the trials, by {v.bound.source}"
        else:
            got = f"{v.metric} = {v.estimate:.4f}, between {low:.4f} and {high:.4f} ({v.trials} trials, alpha {v.alpha:g})"
            expected = f"{v.metric} {v.bound}, by {v.bound.source}"
        if v.status == "inconclusive":
            got, cause = f"inconclusive: {got}", UNDECIDED
        elif v.bound is self.required(metric.better):
            cause = ""  # a user's own bound may be beyond a sound memory
        elif self.untrained():
            cause = f"{UNTRAINED}; if it needs no training, {cause or 'what the rule says does not hold'}"
        return self.run.failure(
            got=got,
            expected=expected,
            cause=cause,
            repeat=self.again(experiment, setting, v.worst_trial),
            done=experiment.describe(setting),
            meaning=f"{v.metric} is the {metric.description}",
        )
