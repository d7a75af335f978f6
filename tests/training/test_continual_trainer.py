"""ContinualLearningTrainer: the matrix R by hand, resumed bit for bit, and forgetting where two tasks contradict each other."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspec.fixtures.plain import PlainSequence
from memspec.fixtures.tasks import sequences as tasks
from memspec.randomness import seed_of
from memspec.training.continual import ContinualLearningTrainer
from memspec.training.trainer import Settings, Task


def shown(generator: torch.Generator, inverted: bool) -> tasks.Bits:
    """Bits that are to be put out as they come, or the other way round."""
    bits = torch.randint(2, (3, 32, 4), generator=generator).float()
    inputs = torch.cat((bits, torch.ones(3, 32, 1)), -1)
    return tasks.Bits(inputs, 1 - bits if inverted else bits, torch.ones(3, dtype=torch.bool))


def right(outputs: Tensor, batch: tasks.Bits) -> Tensor:
    return 1 - tasks.bits_wrong(outputs, batch) / batch.targets[batch.asked][:, 0].numel()


SAME, INVERTED = (
    Task(lambda generator, inverted=inverted: shown(generator, inverted), tasks.bit_loss, tasks.bits_wrong)
    for inverted in (False, True)
)
SETTINGS = Settings(steps=100, check_every=50, learning_rate=0.05, progress=False)


def model() -> nn.Module:
    torch.manual_seed(0)
    return PlainSequence(5, 16, 4)


def test_a_task_that_contradicts_the_first_makes_it_forgotten() -> None:
    results = ContinualLearningTrainer(model(), (SAME, INVERTED), right, SETTINGS).train()
    (first, other), (left, second) = results.matrix.tolist()
    assert first > 0.9
    assert second > 0.9
    assert other == pytest.approx(1 - first)  # every bit right in one is wrong in the other
    assert left == pytest.approx(1 - second)
    assert results.forgetting == pytest.approx(first - left)
    assert results.backward_transfer == pytest.approx(left - first)
    assert results.accuracy == pytest.approx((left + second) / 2)
    assert results.forward_transfer == pytest.approx(other - results.before[1].item())


def test_rows_are_scores_of_the_model_as_it_was_after_each_task() -> None:
    kept: list[Any] = []
    trainer = ContinualLearningTrainer(
        model(), (SAME, INVERTED), right, SETTINGS, between=lambda m, number: kept.append((number, copy.deepcopy(m)))
    )
    results = trainer.train()
    assert [number for number, _ in kept] == [0, 1]
    for number, after in kept:
        for column, task in enumerate((SAME, INVERTED)):
            batch = task.draw(torch.Generator().manual_seed(seed_of("scores", 0)))
            outputs = after.run(batch.inputs, after.initial_state(32))[0]
            assert results.matrix[number, column].item() == pytest.approx(right(outputs, batch).mean().item())


def test_a_run_that_was_cut_in_its_second_task_gives_the_same_matrix(tmp_path: Path) -> None:
    whole = ContinualLearningTrainer(model(), (SAME, INVERTED), right, SETTINGS).train()
    settings = dataclasses.replace(SETTINGS, checkpoint=tmp_path / "run.pt")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ContinualLearningTrainer(model(), (SAME, INVERTED), right, settings, between=stop).train()
    again = ContinualLearningTrainer(model(), (SAME, INVERTED), right, settings).train()
    assert torch.equal(again.matrix, whole.matrix)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.0.pt", "run.1.pt"]


def test_one_task_is_refused() -> None:
    with pytest.raises(ValueError, match="takes at least 2"):
        ContinualLearningTrainer(model(), (SAME,), right, SETTINGS)
