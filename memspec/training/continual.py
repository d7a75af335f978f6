"""ContinualLearningTrainer: one task after another, and after each how well every task is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memspec.experiments import continual
from memspec.randomness import seed_of
from memspec.training.trainer import MemoryTrainer, Settings, Task, answers_of


@dataclasses.dataclass(frozen=True)
class Results:
    """How well every task was done after every task.

    Attributes:
        matrix: ``R [T, T]``: the score on task j after task i was learnt.
        before: ``[T]``: the scores of the untrained model.
    """

    matrix: Tensor
    before: Tensor

    @property
    def accuracy(self) -> float:
        """ACC, on all tasks in the end; see :mod:`memspec.experiments.continual`, as for the others."""
        return float(continual.average_accuracy(self.matrix))

    @property
    def backward_transfer(self) -> float:
        """BWT; below 0 is forgetting."""
        return float(continual.backward_transfer(self.matrix))

    @property
    def forward_transfer(self) -> float:
        """FWT: what is known of a task before it was seen."""
        return float(continual.forward_transfer(self.matrix, self.before))

    @property
    def forgetting(self) -> float:
        """The best a task was ever done less how it is done in the end, over all but the last."""
        return float(continual.forgetting_max(self.matrix))


class ContinualLearningTrainer:
    """Trains one model on several tasks in turn, each by a :class:`~memspec.training.trainer.MemoryTrainer`.

    Args:
        model: a sequence model that is an ``nn.Module``.
        tasks: in the order in which they are learnt.
        score: of outputs ``[T, B, Dy]`` and a batch, what the matrix is made of; higher is better.
        settings: of every task. Task i keeps its checkpoint beside the one that is named, as ``name.i.pt``; a run that was
            cut goes on in the task where it was.
        between: called with the model and the task's number once a task is learnt, such as to consolidate; called again
            for tasks that a checkpoint says are learnt.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        score: Callable[[Tensor, Any], Tensor],
        settings: Settings,
        between: Callable[[nn.Module, int], None] | None = None,
    ) -> None:
        if len(tasks) < 2:
            raise ValueError(f"there is {len(tasks)} task; what is forgotten takes at least 2")
        self.model, self.tasks, self.score, self.settings, self.between = model, tasks, score, settings, between

    def train(self) -> Results:
        """All tasks in turn, and the score on every task after each.

        Raises:
            NotFinite: as soon as a loss or a gradient is.
        """
        before = self._scores()
        rows = []
        for number, task in enumerate(self.tasks):
            settings = self.settings
            if settings.checkpoint is not None:
                own = Path(settings.checkpoint).with_suffix(f".{number}.pt")
                settings = dataclasses.replace(settings, checkpoint=own)
            MemoryTrainer(self.model, task, dataclasses.replace(settings, seed=settings.seed + 2 * number)).train()
            rows.append(self._scores())
            if self.between is not None:
                self.between(self.model, number)
        return Results(torch.stack(rows), before)

    def _scores(self) -> Tensor:
        """``[T]``: the score on every task, on the same batches every time."""
        model: Any = self.model.to(self.settings.device).eval()
        scores = []
        for task in self.tasks:
            batch = task.draw(torch.Generator().manual_seed(seed_of("scores", self.settings.seed)))
            batch = type(batch)(*(part.to(self.settings.device) for part in batch))
            with torch.no_grad():
                outputs = answers_of(model, batch.inputs)
            scores.append(self.score(outputs, batch).double().mean().cpu())
        return torch.stack(scores)
