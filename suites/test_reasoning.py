"""Reasoning: rules, events and families stored as facts and asked hop after hop; entailment, chains and patterns learnt."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.reasoning import CHAINED, Chained, built_for
from memspec.fixtures.tasks import courses
from memspec.fixtures.tasks.chains import WORLDS
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.training import required

FLOOR = Bound(at_least=0.25, source="universal floor: half of chance")
questions = pytest.mark.parametrize(
    ("world", "hops"),
    [
        pytest.param(name, hops, id=f"{name}-hops{hops}")
        for name, world in WORLDS.items()
        for hops in range(1, world.hops + 1)
    ],
)


class TestReasoning:
    """Reasoning: rules, events and families stored as facts and asked hop after hop; entailment, chains and patterns learnt."""

    @pytest.mark.measurement
    @questions
    def test_chained(self, judge: Judge, world: str, hops: int) -> None:
        """Questions over so many hops are not answered systematically wrong: at least half of chance."""
        judge(
            CHAINED,
            Chained(world),
            "two_choice",
            FLOOR,
            at=hops,
            cause="values are stored with the wrong sign, or answers are not finite",
        )

    @pytest.mark.claim
    @questions
    def test_exact(self, plug: Plug, judge: Judge, runner: Runner, world: str, hops: int) -> None:
        """A memory that claims to be exact answers every question, however many hops it takes."""
        if not plug.spec.exact:
            raise NotAsked(f"{plug.name} does not claim to be exact")
        setting = Chained(world)
        if (room := built_for(plug, setting).capacity) < WORLDS[world].facts:
            raise NotAsked(f"{plug.name} claims to be exact only up to {room} pairs")
        points, accuracy = runner.curve(CHAINED, setting, "accuracy")
        came = accuracy[:, points.index(hops)]
        worst = int(came.argmin())
        judge.require(
            came.min() == 1,
            got=f"only {came.min():.1%} of the questions over {hops} hops are answered rightly in trial {worst}",
            expected="every question answered rightly, by spec: exact=True",
            cause="facts are lost among others, or asking changes what is asked next",
            trial=(CHAINED, setting, worst),
        )

    # ---- learnt ---------------------------------------------------------------------------------------------------

    @pytest.mark.measurement
    @pytest.mark.sequence
    @pytest.mark.parametrize("task", courses.REASONING)
    def test_learns(self, plug: Plug, judge: Judge, task: str) -> None:
        """Gradients of a task's loss reach what is written and asked, and steps down their slope lower the loss."""
        required.learns(plug, judge, task)

    @pytest.mark.measurement
    @pytest.mark.sequence
    @pytest.mark.slow
    @pytest.mark.parametrize("task", courses.REASONING)
    def test_trained(self, plug: Plug, judge: Judge, runner: Runner, task: str) -> None:
        """Trained on a task from three seeds, none of which is left out, a network of it does no worse than a guess."""
        required.trained(plug, judge, runner, task)
