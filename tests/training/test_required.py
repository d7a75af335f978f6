"""What is required of a training: a loss that has risen fails, one that has not does not; and whom it is not asked of."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from memspec.errors import CheckFailed, NotAsked
from memspec.experiments.base import Runner
from memspec.judging.check import Check, CheckRun
from memspec.judging.requirements import Judge
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.training import required


def judged(plug: Plug, ratios: list[float], monkeypatch: pytest.MonkeyPatch) -> Check:
    """The check on trainings that end with these ratios of losses."""

    def measure(plug: Any, setting: Any, trials: Any, seed: int) -> dict[str, torch.Tensor]:
        return {"loss_ratio": torch.tensor(ratios, dtype=torch.float64)}

    monkeypatch.setattr(required, "LEARNED", dataclasses.replace(required.LEARNED, measure=measure))
    runner = Runner(plug)
    run = CheckRun(Check("tasks/trained/copy", "measurement", "tasks"), "the rule")
    judge = Judge(run, runner, lambda *_: "memspec trial ...")
    required.trained(plug, judge, runner, "copy")
    return run.check


@pytest.mark.parametrize("ratios", [[0.1, 0.2, 0.15], [1.0, 1.0, 1.0], [1.04, 1.06, 1.08], [0.9, 1.3, 1.4]])
def test_a_loss_that_has_not_risen_for_sure_passes(ratios: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    check = judged(load_plug("memspec.reference:DeltaMemory"), ratios, monkeypatch)
    assert check.metric == "loss_ratio"
    assert check.estimate == pytest.approx(sum(ratios) / 3)


def test_a_loss_that_has_risen_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckFailed, match="training diverges"):
        judged(load_plug("memspec.reference:DeltaMemory"), [2.0, 2.01, 2.02], monkeypatch)


def test_what_cannot_be_trained_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAsked, match="no init_state, write and read"):
        judged(load_plug("memspec.fixtures.plain:PlainStore"), [1.0] * 3, monkeypatch)
