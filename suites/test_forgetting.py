"""Forgetting: what later writes do to what was stored before."""

from __future__ import annotations

import pytest

from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments.base import Experiment, Runner
from memspec.experiments.continual import SEQUENCE, TaskSequence
from memspec.experiments.forgetting import OVERWRITE, TWO_TASKS, Overwrite, TwoTasks
from memspec.experiments.retention import RETENTION, Writes, age_bins, age_of
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory import band


class TestForgetting:
    """Forgetting: what later writes do to what was stored before."""

    @pytest.mark.measurement
    @pytest.mark.parametrize("kind", ["random", "clusters"])
    def test_second_task(self, plug: Plug, judge: Judge, kind: str) -> None:
        """A second small task is learned: its answers are its own values no more rarely than a blind guess is."""
        setting = TwoTasks(n=4, kind=kind)
        needs_room(plug, setting, setting.stored)
        floor = Bound(at_least=1 / (2 * setting.n), source="universal floor: chance among both tasks' values")
        judge(
            TWO_TASKS,
            setting,
            "b_among_both",
            floor,
            cause="writes stop after the first task, come late or are misplaced",
        )

    @pytest.mark.measurement
    def test_first_task(self, plug: Plug, judge: Judge, runner: Runner) -> None:
        """A second task leaves of the first what the family's theory says."""
        setting = TwoTasks(n=64)
        bound = band(plug, TWO_TASKS.name, setting, "a2_similarity")
        runner.values(TWO_TASKS, setting, "forgetting", 16)
        unasked = f"no theory of forgetting for family {plug.spec.family} as declared; measured only"
        cause = "old pairs decay, are erased or are protected"
        judge(TWO_TASKS, setting, "a2_similarity", bound, cause=cause, unasked=unasked)

    @pytest.mark.measurement
    @pytest.mark.parametrize("age", [0.0, 5.5, 23.5, 95.5], ids="age{:g}".format)
    def test_retention(self, plug: Plug, judge: Judge, runner: Runner, age: float) -> None:
        """So many writes later a pair is retained as the family's theory, or the declared eviction, says."""
        setting = Writes(capacity=128 if plug.spec.eviction == "none" else 64)
        assert age in map(age_of, age_bins(setting.writes))
        runner.curve(RETENTION, setting, "gain")
        bands = {metric: band(plug, RETENTION.name, setting, metric, age) for metric in ("gain", "recall")}
        metric = "gain" if bands["gain"] else "recall"
        unasked = f"no theory of retention for family {plug.spec.family} as declared; measured only"
        cause = "writes decay, spare or evict others than declared"
        judge(RETENTION, setting, metric, bands[metric], at=age, cause=cause, unasked=unasked)

    @pytest.mark.claim
    @pytest.mark.parametrize(
        ("experiment", "setting", "metric", "stored"),
        [
            pytest.param(TWO_TASKS, TwoTasks(n=64), "a2", 128, id="two-tasks"),
            pytest.param(RETENTION, Writes(), "recall", 128, id="retention"),
            pytest.param(SEQUENCE, TaskSequence(), "acc", 60, id="sequence"),
        ],
    )
    def test_exact(
        self,
        plug: Plug,
        judge: Judge,
        runner: Runner,
        experiment: Experiment,
        setting: TwoTasks | Writes | TaskSequence,
        metric: str,
        stored: int,
    ) -> None:
        """A memory that claims to be exact forgets nothing within its capacity."""
        if not plug.spec.exact:
            raise NotAsked(f"{plug.name} does not claim to be exact")
        needs_room(plug, setting, stored)
        if experiment is RETENTION:
            values = runner.curve(experiment, setting, metric)[1].min(1)
        else:
            values = runner.values(experiment, setting, metric, 16)
        worst = int(values.argmin())
        judge.require(
            values.min() == 1,
            got=f"{metric} fell to {values.min():.4f} of 1 in trial {worst}",
            expected=f"{metric} of 1, by spec: exact=True",
            cause="a later write erased, moved or hid an earlier pair",
            trial=(experiment, setting, worst),
        )

    @pytest.mark.claim
    def test_overwrite(self, plug: Plug, judge: Judge, runner: Runner) -> None:
        """Where a second write is declared to replace the value, the old value is not answered."""
        setting = Overwrite()
        runner.values(OVERWRITE, setting, "newest", 16)
        replaces = plug.spec.overwrite == "replace"
        bound = Bound(at_most=0.1, source="the memory's spec (overwrite='replace')") if replaces else None
        unasked = f"{plug.name} declares overwrite={plug.spec.overwrite!r}; newest and stale rates measured only"
        judge(
            OVERWRITE,
            setting,
            "stale",
            bound,
            cause="the first value wins, or both are kept and mixed",
            unasked=unasked,
        )

    @pytest.mark.measurement
    def test_unseen_tasks(self, plug: Plug, judge: Judge) -> None:
        """Nothing is known of a task of random pairs before it was seen."""
        if plug.spec.association == "auto":
            raise NotAsked(f"{plug.name} recalls the key itself, which the question gives away")
        bound = Bound(at_most=0.25, source="probability: random values cannot be known beforehand")
        judge(
            SEQUENCE,
            TaskSequence(),
            "unseen",
            bound,
            cause="instances share a store, or reset leaves what another stored",
        )


def needs_room(plug: Plug, setting: TwoTasks | Writes | TaskSequence, pairs: int) -> None:
    """Skip with a reason where the memory cannot hold what the check stores."""
    room = plug.shape(setting.key_dim, setting.value_dim, setting.capacity).capacity
    if pairs > room:
        raise CannotMeasure(f"{plug.name} holds {room} pairs; this check stores {pairs}")
