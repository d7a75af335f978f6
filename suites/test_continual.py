"""Continual: images in tasks, one after the other, with a memory behind the first layer of a network; no task is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.streams import METHODS, STREAM, Stream, built_for
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug

FLOOR = Bound(at_least=0.05, source="universal floor: half of chance, among ten classes")
SETTINGS = [Stream("split"), Stream("permuted")]
LONG = [
    Stream("split", methods=METHODS, shown=250, held_out=90, epochs=4),
    Stream("permuted", methods=METHODS, shown=600, held_out=300, epochs=4),
    Stream("split", "cifar10", methods=METHODS, shown=400, held_out=200, learning_rate=0.05, epochs=2),
]


def _required(judge: Judge, setting: Stream) -> None:
    """The network with the memory is not systematically wrong after the last task."""
    judge(
        STREAM,
        setting,
        "memory_acc",
        FLOOR,
        cause="values are stored with the wrong sign, or answers are not finite",
    )


class TestContinual:
    """Continual: images in tasks, one after the other, with a memory behind the first layer of a network; no task is named."""

    @pytest.mark.measurement
    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.label)
    def test_accuracy(self, judge: Judge, setting: Stream) -> None:
        """Images of all tasks are not told systematically wrong after the last: at least half of chance."""
        _required(judge, setting)

    @pytest.mark.claim
    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.label)
    def test_exact(self, plug: Plug, judge: Judge, runner: Runner, setting: Stream) -> None:
        """A memory that claims to be exact answers every image that it was shown with its label, whatever came later."""
        if not plug.spec.exact:
            raise NotAsked(f"{plug.name} does not claim to be exact")
        shown = setting.tasks * setting.shown
        if (room := built_for(plug, setting).capacity) < shown:
            raise NotAsked(f"{plug.name} claims to be exact only up to {room} pairs")
        kept = runner.values(STREAM, setting, "kept", 16)
        worst = int(kept.argmin())
        judge.require(
            kept.min() == 1,
            got=f"only {kept.min():.1%} of {shown} images shown are answered with their label (trial {worst})",
            expected="every image with its own label, by spec: exact=True",
            cause="what came later takes the place of what came first, though there is room",
            trial=(STREAM, setting, worst),
        )

    @pytest.mark.measurement
    @pytest.mark.slow
    @pytest.mark.parametrize("setting", LONG, ids=lambda s: s.label)
    def test_methods(self, judge: Judge, suite_options: Any, setting: Stream) -> None:
        """Beside elastic weights, episodic gradients and replay: images of all tasks are not told systematically wrong."""
        root = str(suite_options.data_root or "") if setting.data == "cifar10" else ""
        _required(judge, replace(setting, root=root))
