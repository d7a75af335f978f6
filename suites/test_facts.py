"""Facts: short statements hidden in real prose, recalled from their first two words, beside two controls."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.facts import FACTS, Hidden, built_for
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug

SETTINGS = [Hidden(prose=72), Hidden(prose=232)]
AT_CHANCE = Bound(
    at_most=0.75, source="chance, 1/2 exactly for whatever has not seen the facts, and half as much again"
)
over_prose = pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.label)


class TestFacts:
    """Facts: short statements hidden in real prose, recalled from their first two words, beside two controls."""

    @pytest.mark.measurement
    @over_prose
    def test_recall(self, judge: Judge, setting: Hidden) -> None:
        """Facts that were shown are not ranked systematically wrong: at least half of chance."""
        judge(
            FACTS,
            setting,
            "two_choice",
            Bound(at_least=0.25, source="universal floor: half of chance"),
            cause="values are stored with the wrong sign, or answers are not finite",
        )

    @pytest.mark.claim
    @over_prose
    def test_exact(self, plug: Plug, judge: Judge, runner: Runner, setting: Hidden) -> None:
        """A memory that claims to be exact ranks every fact first."""
        if not plug.spec.exact:
            raise NotAsked(f"{plug.name} does not claim to be exact")
        if (room := built_for(plug, setting).capacity) < setting.shown:
            raise NotAsked(f"{plug.name} claims to be exact only up to {room} pairs")
        accuracy = runner.values(FACTS, setting, "accuracy", 16)
        worst = int(accuracy.argmin())
        judge.require(
            accuracy.min() == 1,
            got=f"only {accuracy.min():.1%} of the facts are ranked first in trial {worst}, of {setting.shown} statements "
            f"shown {setting.paragraph} at a time",
            expected="every fact ranked first, by spec: exact=True",
            cause="rows of a batch are lost",
            trial=(FACTS, setting, worst),
        )

    @pytest.mark.measurement
    def test_memory_off(self, judge: Judge) -> None:
        """After a reset the facts are gone: what is left ranks them by chance."""
        judge(
            FACTS,
            SETTINGS[0],
            "two_choice_off",
            AT_CHANCE,
            cause="reset leaves something behind, or instances share a store",
        )

    @pytest.mark.measurement
    def test_shuffled(self, judge: Judge) -> None:
        """A memory that was shown permuted endings ranks the true ones by chance."""
        judge(
            FACTS,
            SETTINGS[0],
            "two_choice_shuffled",
            AT_CHANCE,
            cause="answers come from what another instance was shown: a cache on the class or the module",
        )
