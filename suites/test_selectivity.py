"""Selectivity: whether the memory can tell what it holds from what it never saw, and right answers from wrong ones."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.selectivity import CALIBRATION, FOILS, Foils
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory import band


class TestSelectivity:
    """Selectivity: whether the memory can tell what it holds from what it never saw, and right answers from wrong ones."""

    pytestmark = pytest.mark.measurement

    def test_confidence_knows_stored_keys(self, plug: Plug, judge: Judge) -> None:
        """A Confident memory is surer of keys it stored than of keys it never saw."""
        needs_confidence(plug)
        floor = Bound(at_least=0.6, source="universal floor: 0.5 would say nothing")
        cause = "confidence is constant, inverted, or does not look at what is stored"
        judge(FOILS, Foils(), "confidence_auroc", floor, cause=cause)

    def test_confident_half_is_better(self, plug: Plug, judge: Judge) -> None:
        """Of a Confident memory's answers, the more confident half is no worse than all of them."""
        needs_confidence(plug)
        floor = Bound(at_least=-0.02, source="universal floor: confidence does not prefer wrong answers")
        cause = "confidence grows with distance, or belongs to other answers than those it is asked about"
        judge(CALIBRATION, Foils(), "selective_gain", floor, cause=cause)

    def test_answer_norm(self, plug: Plug, judge: Judge, runner: Runner) -> None:
        """Linear memories answer stored keys louder than others by what theory says; other memories promise nothing."""
        setting = Foils()
        runner.values(FOILS, setting, "norm_auroc", 16)  # recorded in any case
        bound = band(plug, FOILS.name, setting, "norm_auroc")
        unasked = f"{plug.name} promises nothing about the norm of its answers (family {plug.spec.family})"
        cause = "answers do not grow with the match of query and key"
        judge(FOILS, setting, "norm_auroc", bound, cause=cause, unasked=unasked)


def needs_confidence(plug: Plug) -> None:
    """Skip what says nothing of its confidence, or nothing before it is trained."""
    plug.needs("Confident")
    if plug.spec.fidelity == "trained":
        raise NotAsked(f"{plug.name} declares fidelity='trained': untrained it is asked for no recall")
