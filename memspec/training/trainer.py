"""MemoryTrainer: gradient steps on freshly drawn batches of a task, stopped by the task's own metric, resumed bit for bit.

Why not a kept trainer: what is asked of this one is that a run which was cut goes on as if it had not been, and that a
loss which is not finite is told with its place. Lightning and accelerate are made for many devices and many processes, of
which there are none here; both leave the drawing of batches, and so most of the first demand, to their user, and each is a
dependency larger than memspec. What they do well for one device is in torch itself and is used from there: autocast,
gradient scaling, clipping. What is trained is any Recurrent model that is an ``nn.Module``; a larger setting can wrap it as
any other.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from memspec.errors import MemspecError
from memspec.randomness import generator_states, set_generator_states
from memspec.scorecard.files import write_atomically
from memspec.world.boundary import cross


class NotFinite(MemspecError):
    """A loss or a gradient became NaN or infinite; says at which step, and where it was met first."""


class Task(NamedTuple):
    """What a model is trained on.

    Attributes:
        draw: a batch from a generator; its ``inputs [T, B, Dx]`` go into the model.
        loss: of the model's outputs ``[T, B, Dy]`` and the batch, a scalar.
        metric: of the same, what training is stopped by: a number that falls as the model learns, such as wrong bits a
            sequence.
        exam: a batch from a generator that the metric is taken on; None = as those trained on. Where those are of
            different lengths, an easy one would end a training that has not learnt the others.
    """

    draw: Callable[[torch.Generator], Any]
    loss: Callable[[Tensor, Any], Tensor]
    metric: Callable[[Tensor, Any], Tensor]
    exam: Callable[[torch.Generator], Any] | None = None


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Attributes:
        steps: gradient steps at most.
        learning_rate: of Adam.
        clip: largest norm of all gradients together; None does not clip.
        seed: of the batches.
        check_every: steps from one look at the metric to the next, on a batch that is not trained on.
        goal: metric at which training is done; None = after ``steps``.
        patience: looks without a better metric after which it is given up; None = never.
        checkpoint: where to keep what a later run needs to go on; None = nowhere.
        device: where to train.
        precision: ``float32``, or the half precision that the forward pass runs in (the weights stay float32).
        progress: whether a bar is shown.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    clip: float | None = 10.0
    seed: int = 0
    check_every: int = 100
    goal: float | None = None
    patience: int | None = None
    checkpoint: str | Path | None = None
    device: str = "cpu"
    precision: str = "float32"
    progress: bool = True

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"precision is {self.precision!r}; it must be float32, bfloat16 or float16")
        for name in ("steps", "check_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        step: gradient steps taken.
        losses: the loss of every step.
        metrics: step and metric of every look.
        done: why it has ended, or empty: ``goal``, ``patience`` or ``steps``.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    metrics: list[tuple[int, float]] = field(default_factory=list)
    done: str = ""

    @property
    def best(self) -> float:
        """The lowest metric so far; infinite before the first look."""
        return min((metric for _, metric in self.metrics), default=math.inf)

    @property
    def looks_since_best(self) -> int:
        """Looks since the metric was lowest first."""
        values = [metric for _, metric in self.metrics]
        return len(values) - 1 - values.index(min(values)) if values else 0


def answers_of(model: Any, inputs: Tensor) -> Tensor:
    """What a sequence model puts out, of inputs ``[T, B, ...]``, from a fresh state; the model may be somebody's."""
    outputs: Tensor = cross("run", lambda: model.run(inputs, model.initial_state(inputs.shape[1])))[0]
    return outputs


class MemoryTrainer:
    """Trains a model on a task.

    Args:
        model: a sequence model (``initial_state``, ``run``) that is an ``nn.Module``; it is moved to the device.

    Attributes:
        progress: how far it has come.
    """

    def __init__(self, model: nn.Module, task: Task, settings: Settings) -> None:
        self.model: Any = model.to(settings.device)
        self.task, self.settings = task, settings
        self.optimizer = torch.optim.Adam(self.model.parameters(), settings.learning_rate)
        self.scaler = torch.amp.GradScaler(settings.device, enabled=settings.precision == "float16")
        self.batches = torch.Generator().manual_seed(settings.seed)
        self.looks = torch.Generator().manual_seed(settings.seed + 1)
        self.progress = Progress()

    # ---- training ---------------------------------------------------------------------------------------------

    def train(self, until: int | None = None) -> Progress:
        """Go on to the end, or until so many steps have been taken in all; from the checkpoint, if there is one that is further.

        Raises:
            NotFinite: as soon as a loss or a gradient is.
        """
        if self.settings.checkpoint is not None and Path(self.settings.checkpoint).is_file():
            self.resume()
        self.progress.done = self._ended()
        last = min(self.settings.steps, until or self.settings.steps)
        bar = tqdm(
            total=self.settings.steps, initial=self.progress.step, disable=not self.settings.progress, unit="step"
        )
        with bar:
            while not self.progress.done and self.progress.step < last:
                self._step()
                bar.update()
                if self.progress.step % self.settings.check_every == 0 or self.progress.step == self.settings.steps:
                    self._look()
                    bar.set_postfix(loss=self.progress.losses[-1], metric=self.progress.metrics[-1][1])
                    self.progress.done = self._ended()
                    self.save()
        if self.progress.step % self.settings.check_every:
            self.save()
        return self.progress

    def _step(self) -> None:
        """One batch, one step of the weights."""
        self.model.train()
        batch = self._drawn(self.task.draw, self.batches)
        outputs = self._outputs(batch)
        loss = self.task.loss(outputs.float(), batch)
        if not bool(loss.isfinite()):
            raise NotFinite(f"step {self.progress.step}: the loss is {loss.item()}; {self._first(outputs)}")
        self.optimizer.zero_grad(set_to_none=True)
        cross("backward", lambda: self.scaler.scale(loss).backward())
        self.scaler.unscale_(self.optimizer)
        if not self.scaler.is_enabled():  # which skips such steps, and lowers its scale
            for name, weight in self.model.named_parameters():
                if weight.grad is not None and not bool(weight.grad.isfinite().all()):
                    raise NotFinite(
                        f"step {self.progress.step}: the loss is {loss.item():.4g}, but the gradient of {name} is not finite"
                    )
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.progress.losses.append(loss.item())
        self.progress.step += 1

    def _look(self) -> None:
        """The metric of a batch that is not trained on."""
        self.model.eval()
        with torch.no_grad():
            batch = self._drawn(self.task.exam or self.task.draw, self.looks)
            metric = self.task.metric(self._outputs(batch).float(), batch)
        self.progress.metrics.append((self.progress.step, float(metric.double().mean())))

    def _drawn(self, draw: Callable[[torch.Generator], Any], generator: torch.Generator) -> Any:
        batch = draw(generator)
        return type(batch)(*(part.to(self.settings.device) for part in batch))

    def _outputs(self, batch: Any) -> Tensor:
        half = self.settings.precision != "float32"
        dtype = getattr(torch, self.settings.precision) if half else torch.bfloat16
        with torch.autocast(torch.device(self.settings.device).type, dtype=dtype, enabled=half):
            outputs: Tensor = answers_of(self.model, batch.inputs)
        return outputs

    def _first(self, outputs: Tensor) -> str:
        """Where a number that is not finite was met first."""
        for name, weight in self.model.named_parameters():
            if not bool(weight.isfinite().all()):
                return f"the weights {name} are not finite: the step before was too large (learning rate, clip)"
        bad = (~outputs.isfinite()).flatten(1).any(1).nonzero()
        if len(bad):
            return f"all weights are finite, and outputs are so up to step {int(bad[0])} of the sequence"
        return "all weights and outputs are finite: it is the loss itself"

    def _ended(self) -> str:
        """Why there is nothing more to do; empty if there is."""
        if self.settings.goal is not None and self.progress.best <= self.settings.goal:
            return "goal"
        if self.settings.patience is not None and self.progress.looks_since_best >= self.settings.patience:
            return "patience"
        return "steps" if self.progress.step >= self.settings.steps else ""

    # ---- going on where a run was cut -------------------------------------------------------------------------

    def save(self) -> None:
        """Keep all that the next step depends on, in one step: a crash leaves the old checkpoint or the new one."""
        if self.settings.checkpoint is None:
            return
        kept = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "batches": self.batches.get_state(),
            "looks": self.looks.get_state(),
            "generators": generator_states(),
            "progress": vars(self.progress),
        }
        file = io.BytesIO()
        torch.save(kept, file)
        write_atomically(Path(self.settings.checkpoint), file.getvalue())

    def resume(self) -> None:
        """Take up the checkpoint, if it is further than this.

        Raises:
            MemspecError: if it is damaged, or of another model.
        """
        path = self.settings.checkpoint
        assert path is not None
        try:
            kept = torch.load(path, map_location=self.settings.device, weights_only=False)
            if kept["progress"]["step"] <= self.progress.step:
                return
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.scaler.load_state_dict(kept["scaler"])
            self.batches.set_state(kept["batches"].cpu())
            self.looks.set_state(kept["looks"].cpu())
            set_generator_states(kept["generators"])
            self.progress = Progress(**kept["progress"])
        except Exception as error:
            raise MemspecError(f"{path} is no checkpoint of this training: {error}") from error
