"""Digits: real features stored with their labels, and asked for unseen ones."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.digits import CHANCE, DIGITS, Digits, built_for
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug

SETTING = Digits()


class TestDigits:
    """Digits: real features stored with their labels, and asked for unseen ones."""

    @pytest.mark.measurement
    @pytest.mark.parametrize("n", SETTING.stored, ids="n{}".format)
    def test_accuracy(self, judge: Judge, n: int) -> None:
        """Labels of unseen digits, after n stored ones, are not told systematically wrong: at least half of chance."""
        judge(
            DIGITS,
            SETTING,
            "accuracy",
            Bound(at_least=CHANCE / 2, source="universal floor: half of chance"),
            at=n,
            cause="values are stored with the wrong sign, or answers are not finite",
        )

    @pytest.mark.claim
    @pytest.mark.parametrize("n", SETTING.stored, ids="n{}".format)
    def test_exact(self, plug: Plug, judge: Judge, runner: Runner, n: int) -> None:
        """A memory that claims to be exact answers every stored digit, of n, with its own label."""
        if not plug.spec.exact:
            raise NotAsked(f"{plug.name} does not claim to be exact")
        if built_for(plug, SETTING, n).capacity < n:
            raise NotAsked(f"{plug.name} claims to be exact only up to {built_for(plug, SETTING, n).capacity} pairs")
        points, accuracy = runner.curve(DIGITS, SETTING, "stored_accuracy")
        wrong = (1 - accuracy[:, points.index(n)]) * n
        worst = int(wrong.argmax())
        judge.require(
            not wrong.any(),
            got=f"{wrong.max():.0f} of {n} stored digits answer another label (trial {worst})",
            expected="every stored digit with its own label, by spec: exact=True",
            cause="near keys are taken for one (different digits have cosines up to 0.87 here), or rows of a batch are lost",
            trial=(DIGITS, SETTING, worst),
        )
