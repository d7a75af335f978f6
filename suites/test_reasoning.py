"""Reasoning: rules, events and families stored as facts and asked hop after hop; entailment, chains and patterns learnt."""

from __future__ import annotations

from typing import Any

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.graphs import GRAPH, GRAPHS, Told
from memspec.experiments.reasoning import CHAINED, Chained, built_for
from memspec.fixtures.tasks import courses
from memspec.fixtures.tasks.chains import WORLDS
from memspec.judging.requirements import Judge
from memspec.judging.statistics import mean_interval
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.training import required

HALF = 0.25
FLOOR = Bound(at_least=HALF, source="universal floor: half of chance")
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
        """Trained on a task from three seeds, none of which is left out, a network of it does not end with a higher loss."""
        required.trained(plug, judge, runner, task)

    # ---- knowledge graphs -----------------------------------------------------------------------------------------

    @pytest.mark.measurement
    @pytest.mark.slow
    @pytest.mark.parametrize("graph", GRAPHS)
    def test_graph(self, judge: Judge, runner: Runner, suite_options: Any, graph: str) -> None:
        """Tails and heads of a knowledge graph, asked of the memory alone, are not answered systematically wrong."""
        setting = Told(graph, str(suite_options.data_root or ""))
        came = mean_interval(runner.values(GRAPH, setting, "memory_two_choice", 3))
        judge.require(
            came.high >= HALF,
            got=f"a share of {came.mean:.3f} of the other entities is beaten (95% interval {came.low:.3f} to {came.high:.3f} "
            "over 3 seeds)",
            expected=f"at least {HALF}, by {FLOOR.source}",
            cause="values are stored with the wrong sign, or answers are not finite",
            trial=(GRAPH, setting, 0),
            metric="memory_two_choice",
            estimate=came.mean,
            interval=(came.low, came.high),
        )
