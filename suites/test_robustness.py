"""Robustness: what the memory recalls from imperfect cues, among similar keys and among distractors."""

from __future__ import annotations

import pytest

from memspec.experiments.base import Experiment, Setting
from memspec.experiments.robustness import (
    ASSOCIATION,
    CORRELATED,
    CUE,
    DISTRACTORS,
    NOISE,
    Association,
    Cues,
    Distractors,
)
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory import band

GUESS = Bound(at_least=0.45, source="universal floor: a blind guess (0.5), less 0.05")


class TestRobustness:
    """Robustness: what the memory recalls from imperfect cues, among similar keys and among distractors."""

    pytestmark = pytest.mark.measurement

    @pytest.mark.parametrize("sigma", [0.5, 2.0], ids="s{:g}".format)
    def test_noise(self, plug: Plug, judge: Judge, sigma: float) -> None:
        """A noisy key still finds its value: within the family's theory, else no worse than a blind guess."""
        cause = "the lookup wants the exact key, or the answer moves away from the value when the key moves"
        judge_recall(judge, plug, NOISE, Cues(), "recall", sigma, cause)

    @pytest.mark.parametrize("rho", [0.25, 0.75], ids="r{:g}".format)
    def test_partial_cue(self, plug: Plug, judge: Judge, rho: float) -> None:
        """A key with a share of its entries erased still finds its value, as far as the family's theory says."""
        cause = "the lookup wants the exact key, or depends on a few entries of it"
        judge_recall(judge, plug, CUE, Cues(), "recall", rho, cause)

    @pytest.mark.parametrize("rho", [0.1, 0.3, 0.5], ids="r{:g}".format)
    def test_correlated_keys(self, plug: Plug, judge: Judge, rho: float) -> None:
        """Keys that share a common part stay distinct, as far as the family's theory says."""
        cause = "similar keys are taken for one: a threshold too low, or keys kept with too little precision"
        judge_recall(judge, plug, CORRELATED, Cues(), "recall", rho, cause)

    @pytest.mark.parametrize("fraction", [0.4, 0.8], ids="f{:g}".format)
    def test_distractors(self, plug: Plug, judge: Judge, fraction: float) -> None:
        """Pairs shown among distractors are recalled, as far as the family's theory says."""
        cause = "later writes displace earlier ones, or a long batch is only partly stored"
        judge_recall(judge, plug, DISTRACTORS, Distractors(), "signal_recall", fraction, cause)

    def test_repetition_helps(self, plug: Plug, judge: Judge) -> None:
        """Pairs shown twice are recalled no worse than pairs shown once among them."""
        floor = Bound(at_least=-0.1, source="universal floor: repetition does no harm (0), less 0.1")
        cause = "writing a pair again weakens it: an update that toggles, cancels or drops what is already stored"
        judge(DISTRACTORS, Distractors(), "write_selectivity", floor, at=0.8, cause=cause)

    @pytest.mark.parametrize("kind", ["hetero", "auto"])
    def test_association(self, plug: Plug, judge: Judge, kind: str) -> None:
        """Noisy cues recall values paired with the keys (hetero), and the keys themselves stored as values (auto)."""
        cause = "the memory treats a value that equals its key in another way than any other value"
        judge_recall(judge, plug, ASSOCIATION, Association(kind=kind), "noisy_recall", None, cause)


def judge_recall(
    judge: Judge, plug: Plug, experiment: Experiment, setting: Setting, metric: str, at: float | None, cause: str
) -> None:
    """Recall within the family's theory; where theory says nothing, answers not farther from their values than a guess."""
    bound = band(plug, experiment.name, setting, metric, at)
    if bound is None and judge.required(experiment.metrics[metric].better) is None:
        judge(experiment, setting, "discrimination", GUESS, at=at, cause=cause)
    else:
        judge(experiment, setting, metric, bound, at=at, cause=cause)
