"""Learning sequence tasks: a network of the plug beside an LSTM of as many parameters, and beside a guess.

A sequence model is trained as it is, a Functional memory behind a controller (:mod:`memspec.training.fitting`); always a
fresh one. Trials are seeds: of weights, of batches, of exams. Nothing is chosen after the fact: every seed counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memspec.experiments.base import Curve, Experiment, Measured, Setting, one_of
from memspec.fixtures.tasks import courses, logic, sequences
from memspec.fixtures.tasks.courses import Course
from memspec.metrics import Axis, Metric, Showing
from memspec.networks.readout import Fitted, LSTMBaseline, PlacedReadout
from memspec.networks.sequence import SequenceModel
from memspec.plugs.plug import Plug
from memspec.randomness import made_from, seed_of, seeded
from memspec.training.fitting import trainable
from memspec.training.trainer import MemoryTrainer, Progress, Settings, Task, answers_of

EXAM = 64
"""Sequences of an exam."""
THRESHOLD = 0.1
"""Of a guess's error: what counts as learnt."""


@dataclass(frozen=True)
class Learning(Setting):
    """``steps`` batches of ``batch`` sequences of a task of :data:`~memspec.fixtures.tasks.courses.TASKS` or ``REASONING``."""

    task: str = one_of("copy", (*courses.TASKS, *courses.REASONING))
    steps: int = 500
    batch: int = 16
    learning_rate: float = 3e-3
    hidden_size: int = 64
    memory_dim: int = 20
    memory_size: int = 128

    @property
    def label(self) -> str:
        return self.task + (f"-steps{self.steps}" if self.steps != 500 else "")


_WHO = {"": "the network of the plug", "lstm_": "an LSTM of as many parameters"}
METRICS = {
    "chance_error": Metric("error of a guess, by the exam's size", high=float("inf"), better="none"),
    "bag_error": Metric(
        "error of a logistic regression of how often each symbol stands there (entailment)", better="none"
    ),
    **{
        name: metric
        for who, said in _WHO.items()
        for name, metric in {
            f"{who}error": Metric(
                f"wrong bits a sequence, or share of wrong tokens, in the end, of {said}, by the exam's size",
                high=float("inf"),
                better="none" if who else "down",
            ),
            f"{who}whole": Metric(f"share of sequences without an error, of {said}", better="none" if who else "up"),
            f"{who}loss_ratio": Metric(
                f"mean loss over the last tenth of the steps over that of the first tenth, of {said}",
                high=float("inf"),
                better="none" if who else "down",
            ),
            f"{who}reached": Metric(
                f"whether {said} came below a tenth of a guess's error on the sizes it learns",
                better="none" if who else "up",
            ),
            f"{who}sequences": Metric(
                f"sequences seen until then by {said}; all there were where it never came",
                high=float("inf"),
                better="none" if who else "down",
            ),
            f"{who}learning": Metric(
                f"the task's error while {said} learns, by sequences seen", high=float("inf"), better="none"
            ),
            f"{who}kendall": Metric(
                f"Kendall's tau between the order put out by {said} and that of the priorities", low=-1.0, better="none"
            ),
        }.items()
    },
    "parameters": Metric("parameters of the network, controller included", high=float("inf"), better="none"),
    "training_seconds": Metric("of training the network", high=float("inf"), better="none", unit="s", timing=True),
}


def network(plug: Plug, course: Course, seed: int, hidden_size: int = 64, **sizes: Any) -> nn.Module:
    """What learns the course: the plug's network, behind a readout by places where the task asks for one.

    Raises:
        NotAsked: if no network can be made of the plug.
    """
    outputs = hidden_size if course.places else course.outputs
    inner = trainable(plug, course.inputs, outputs, seed, vocabulary=course.tokens, hidden_size=hidden_size, **sizes)
    if not course.places:
        return inner
    return made_from(seed_of(seed, "places"), lambda: PlacedReadout(inner, hidden_size, course.places, course.outputs))


def baseline(course: Course, parameters: int, seed: int, width: int) -> nn.Module:
    """The LSTM beside a network of so many parameters, behind embeddings and readouts like the network's."""

    def build() -> nn.Module:
        inward: nn.Module = nn.Embedding(course.inputs, width) if course.tokens else nn.Identity()
        readout = PlacedReadout(SequenceModel(), width, course.places, course.outputs) if course.places else None
        others = [weight.numel() for part in (inward, readout) if part is not None for weight in part.parameters()]
        lstm = LSTMBaseline(
            width if course.tokens else course.inputs,
            width if course.places else course.outputs,
            max(parameters - sum(others), 1),
        )
        if readout is None:
            return Fitted(lstm, inward, nn.Identity())
        readout.model = Fitted(lstm, inward, nn.Identity())
        return readout

    return made_from(seed_of(seed, "baseline"), build)


def measure(plug: Plug, setting: Learning, trials: Sequence[int], seed: int) -> Measured:
    """Train the network and the LSTM under every seed, on the same batches, and hold the same exams."""
    course = courses.full(setting.task, setting.batch)
    asked = {size: _asked(setting.task, size) for size in course.exams}
    rows: dict[str, list[Tensor]] = {}
    for trial in trials:
        own = seed_of(seed, "tasks.learned", setting.task, trial)
        sizes = {name: getattr(setting, name) for name in ("hidden_size", "memory_dim", "memory_size")}
        model = network(plug, course, own, **sizes)
        parameters = sum(weight.numel() for weight in model.parameters())
        found = {"parameters": torch.tensor(float(parameters))}
        for who, one in (("", model), ("lstm_", baseline(course, parameters, own, setting.hidden_size))):
            found |= {f"{who}{name}": value for name, value in _learnt(one, course, asked, setting, own).items()}
        if setting.task == "entailment":
            found["bag_error"] = _bag_errors(course, asked, own)
        found["chance_error"] = torch.tensor([course.chance[size] for size in course.exams])
        for name, value in found.items():
            rows.setdefault(name, []).append(value.double())
    sizes_asked = list(course.exams)
    points = {
        "learning": [setting.batch * step for step in _looks(setting)],
        "error": sizes_asked,
        "whole": sizes_asked,
    }
    out: dict[str, Tensor | Curve] = {}
    for name, values in rows.items():
        kind = name.removeprefix("lstm_").removeprefix("chance_").removeprefix("bag_")
        out[name] = Curve(torch.stack(values), points[kind]) if kind in points else torch.stack(values)
    out.pop("lstm_training_seconds", None)
    return out


def _asked(task: str, size: int) -> Any:
    """An exam: a larger batch of the same task."""
    return courses.full(task, EXAM).exams[size]


def _looks(setting: Learning) -> list[int]:
    """The steps at which the error is looked at: twenty times."""
    every = max(1, setting.steps // 20)
    return sorted({*range(every, setting.steps + 1, every), setting.steps})


def _learnt(model: nn.Module, course: Course, asked: dict[int, Any], setting: Learning, seed: int) -> dict[str, Tensor]:
    """Train one model; what it came to."""
    largest = max(size for size in course.exams if size <= _learns_up_to(setting.task, course))
    task = Task(course.draw, course.loss, course.error, exam=asked[largest])
    settings = Settings(
        steps=setting.steps,
        learning_rate=setting.learning_rate,
        seed=seed % 2**31,
        check_every=max(1, setting.steps // 20),
        progress=False,
    )
    start = time.perf_counter()
    with seeded(seed):
        progress = MemoryTrainer(model, task, settings).train()
    seconds = time.perf_counter() - start
    errors, wholes = [], []
    found: dict[str, Tensor] = {}
    for size, draw in asked.items():
        batch = draw(torch.Generator().manual_seed(seed_of(seed, "exam", size)))
        with torch.no_grad(), seeded(seed):
            outputs = answers_of(model.eval(), batch.inputs)
        errors.append(course.error(outputs, batch).double())
        wholes.append(_whole(outputs, batch, course))
        if setting.task == "sort":
            found["kendall"] = sequences.order_kept(outputs, batch).mean()
    reached, seen = _threshold(progress, THRESHOLD * course.chance[largest], setting)
    return found | {
        "error": torch.stack(errors),
        "whole": torch.stack(wholes),
        "loss_ratio": _loss_ratio(progress.losses),
        "reached": torch.tensor(float(reached)),
        "sequences": torch.tensor(float(seen)),
        "learning": torch.tensor([metric for _, metric in progress.metrics]),
        "training_seconds": torch.tensor(seconds),
    }


def _bag_errors(course: Course, asked: dict[int, Any], seed: int) -> Tensor:
    """What the numbers of symbols alone tell of entailment, by exam."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    def seen(batch: Any) -> tuple[Any, Any]:
        return logic.bags(batch).numpy(), (batch.targets[-1] == logic.TRUE).numpy()

    generator = torch.Generator().manual_seed(seed_of(seed, "bags"))
    rows, answers = zip(*(seen(course.draw(generator)) for _ in range(100)))
    model = LogisticRegression(max_iter=500).fit(np.concatenate(rows), np.concatenate(answers))
    exams = (seen(draw(torch.Generator().manual_seed(seed_of(seed, "exam", size)))) for size, draw in asked.items())
    return torch.tensor([1 - model.score(*exam) for exam in exams])


def _learns_up_to(task: str, course: Course) -> int:
    """The largest exam whose size is learnt from."""
    return {"copy": 20, "repeat-copy": 7, "associative": 6, "chaining": 3, "entailment": 1}.get(task, max(course.exams))


def _whole(outputs: Tensor, batch: Any, course: Course) -> Tensor:
    if not course.tokens:
        return (sequences.bits_wrong(outputs, batch) == 0).double().mean()
    wrong = (outputs.argmax(-1) != batch.targets) & batch.asked
    return (~wrong.any(0)).double().mean()


def _loss_ratio(losses: list[float]) -> Tensor:
    tenth = max(1, len(losses) // 10)
    every = torch.tensor(losses, dtype=torch.float64)
    return every[-tenth:].mean() / every[:tenth].mean()


def _threshold(progress: Progress, threshold: float, setting: Learning) -> tuple[bool, int]:
    """Whether the error came below a threshold, and the sequences seen by the first look at which it was."""
    for step, metric in progress.metrics:
        if metric <= threshold:
            return True, step * setting.batch
    return False, setting.steps * setting.batch


LEARNED = Experiment(
    "tasks.learned",
    measure,
    METRICS,
    "trained a network of it on {steps} batches of {batch} sequences of the task {task}, beside an LSTM of as many parameters",
    Learning,
    Showing(Axis("sequences seen")),
    first=3,
    of_sequences=True,
)
