"""Adaptation: how fast new pairs are learned, and learned again."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.adaptation import RELEARNING, SEVERAL, SINGLE, Relearning, Several, Single
from memspec.experiments.base import Experiment
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory import band

SETTINGS = {"single": (SINGLE, Single()), "several": (SEVERAL, Several())}


class TestAdaptation:
    """Adaptation: how fast new pairs are learned, and learned again."""

    @pytest.mark.measurement
    @pytest.mark.parametrize("kind", list(SETTINGS))
    def test_direction(self, plug: Plug, judge: Judge, kind: str) -> None:
        """After 20 showings the answers point nearer to their values than before the first."""
        experiment, setting = SETTINGS[kind]
        judge(
            experiment,
            setting,
            "closer",
            Bound(at_least=0.75, source="universal floor: showing a pair moves the answer towards its value"),
            cause="the write has no effect, or the wrong sign; or the answer does not depend on what was written",
        )

    @pytest.mark.claim
    @pytest.mark.parametrize("kind", list(SETTINGS))
    def test_error_falls(self, plug: Plug, judge: Judge, kind: str) -> None:
        """A memory that claims to replace or to blend ends nearer to the values than it began."""
        if plug.spec.overwrite not in ("replace", "blend"):
            raise NotAsked(f"overwrite is {plug.spec.overwrite!r}: repeated showings may overshoot")
        experiment, setting = SETTINGS[kind]
        judge(
            experiment,
            setting,
            "final",
            Bound(at_most=0.999, source=f"spec: overwrite={plug.spec.overwrite!r}", share=0.75),
            cause="repeated writes add up instead of replacing, or the inner step is too large and diverges",
        )

    @pytest.mark.claim
    @pytest.mark.parametrize("kind", list(SETTINGS))
    def test_exact(self, plug: Plug, judge: Judge, kind: str) -> None:
        """A memory that claims to be exact knows new pairs as soon as they count as stored."""
        if not plug.spec.exact:
            raise NotAsked("exact recall is not claimed")
        experiment, setting = SETTINGS[kind]
        if plug.spec.presentations > setting.steps:
            raise NotAsked(f"{plug.spec.presentations} presentations are claimed, {setting.steps} are made here")
        judge(
            experiment,
            setting,
            "error",
            Bound(at_most=1e-6, source="spec: exact=True", share=0.9),
            at=plug.spec.presentations,
            cause="the write stores a fraction of the value, or another pair's",
        )

    @pytest.mark.claim
    @pytest.mark.parametrize("n", [1, 2, 20], ids="n{}".format)
    def test_curve(self, plug: Plug, judge: Judge, n: int) -> None:
        """The error of one pair after n showings is what the declared family's equation gives."""
        predicted(plug, judge, SINGLE, Single(), n)

    @pytest.mark.claim
    def test_first_sweep(self, plug: Plug, judge: Judge) -> None:
        """The error of several pairs after one showing is what the declared family's equation gives."""
        predicted(plug, judge, SEVERAL, Several(), 1)

    @pytest.mark.measurement
    def test_relearning(self, plug: Plug, judge: Judge) -> None:
        """Pairs overwritten by others under the same keys can be learned again."""
        judge(
            RELEARNING,
            Relearning(),
            "recovered",
            Bound(at_least=0.75, source="universal floor: showing pairs again moves the answers back towards them"),
            cause="writes have less and less effect (a step size or a gate that decays to nothing), or a pair seen before is taken for known",
        )


def predicted(plug: Plug, judge: Judge, experiment: Experiment, setting: Single, n: int) -> None:
    """Judge the error after n showings by theory, where theory says anything."""
    bound = band(plug, experiment.name, setting, "error", at=n)
    judge(
        experiment,
        setting,
        "error",
        bound,
        at=n,
        cause="the family is declared wrongly, or its step differs from the declared one",
        unasked=f"theory has no learning curve for family {plug.spec.family!r} under this spec",
    )
