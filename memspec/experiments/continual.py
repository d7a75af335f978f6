"""Forgetting over a sequence of tasks: the matrix R, and the scores that the field computes from it.

``R[i, j]`` is the accuracy on task j after task i, tasks counted from 0 here and from 1 in the papers; ``b[j]`` that
on task j before anything was stored. Of the conventions in use, those of the papers are kept:

* BWT and FWT divide by T - 1, as in the text of Lopez-Paz and Ranzato 2017 (their code divides by T);
* forgetting comes in two conventions, each under its own name: ``forgetting_max`` takes the best accuracy before the
  last task (Chaudhry et al. 2018), ``forgetting_first`` that right after learning (Avalanche), which is -BWT;
* Omega (Kemker et al. 2018) divides by what a fresh copy of the same memory reaches when it is shown all tasks at once.

The functions take any leading dimensions: ``R [..., T, T]``, ``b [..., T]``, ``ideal [...]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Setting
from memspec.experiments.drawing import needs_pairs
from memspec.fixtures.data import pairs
from memspec.metrics import Axis, Metric, Showing, View
from memspec.plugs.plug import Plug
from memspec.plugs.population import populate

# ---- scores of a matrix R -------------------------------------------------------------------------------------


def average_accuracy(r: Tensor) -> Tensor:
    """``ACC = 1/T sum_j R[T-1, j]`` (Lopez-Paz and Ranzato 2017, eq. 2)."""
    return _checked(r)[..., -1, :].mean(-1)


def backward_transfer(r: Tensor) -> Tensor:
    """``BWT = 1/(T-1) sum_{j<T-1} (R[T-1, j] - R[j, j])`` (eq. 3); below 0 is forgetting."""
    r = _checked(r)
    return (r[..., -1, :-1] - _diagonal(r)[..., :-1]).mean(-1)


def forward_transfer(r: Tensor, before: Tensor) -> Tensor:
    """``FWT = 1/(T-1) sum_{j>0} (R[j-1, j] - b[j])`` (eq. 4): what is known of a task before it was seen."""
    return (_checked(r).diagonal(1, -2, -1) - before[..., 1:]).mean(-1)


def forgetting_max(r: Tensor) -> Tensor:
    """``1/(T-1) sum_{j<T-1} (max_{l<T-1} R[l, j] - R[T-1, j])`` (Chaudhry et al. 2018, section 3)."""
    r = _checked(r)
    return (r[..., :-1, :-1].amax(-2) - r[..., -1, :-1]).mean(-1)


def forgetting_first(r: Tensor) -> Tensor:
    """``1/(T-1) sum_{j<T-1} (R[j, j] - R[T-1, j])``, Avalanche's convention: ``-BWT``."""
    return -backward_transfer(r)


def omega_base(r: Tensor, ideal: Tensor) -> Tensor:
    """``1/(T-1) sum_{i>0} R[i, 0] / ideal``: how much of the first task lasts (Kemker et al. 2018, eq. 1)."""
    return _checked(r)[..., 1:, 0].mean(-1) / ideal


def omega_new(r: Tensor) -> Tensor:
    """``1/(T-1) sum_{i>0} R[i, i]``: how well a new task is learned (Kemker et al. 2018, eq. 2)."""
    return _diagonal(_checked(r))[..., 1:].mean(-1)


def omega_all(r: Tensor, ideal: Tensor) -> Tensor:
    """``1/(T-1) sum_{i>0} all_i / ideal``, ``all_i`` the mean accuracy on tasks 0..i after task i (eq. 3)."""
    r = _checked(r)
    seen = torch.ones(r.shape[-2:], dtype=r.dtype).tril()
    return ((r * seen).sum(-1) / seen.sum(-1))[..., 1:].mean(-1) / ideal


def _diagonal(r: Tensor) -> Tensor:
    return r.diagonal(0, -2, -1)


def _checked(r: Tensor) -> Tensor:
    if r.ndim < 2 or r.shape[-1] != r.shape[-2] or r.shape[-1] < 2:
        raise ValueError(f"R has shape {tuple(r.shape)}; it must be [..., T, T] with at least two tasks")
    return r


# ---- the experiment -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskSequence(Setting):
    """``tasks`` tasks of ``n`` independent random pairs each, learned one after the other."""

    tasks: int = 5
    n: int = 12
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128

    @property
    def total(self) -> int:
        """Pairs stored in all."""
        return self.tasks * self.n


METRICS = {
    "R": Metric(
        "accuracy on task j after task i, at i * tasks + j (cosine, among the n values of task j)", label="accuracy"
    ),
    "acc": Metric("ACC: mean accuracy over all tasks after the last"),
    "bwt": Metric("BWT over T - 1 tasks: accuracy after the last task less that right after learning", low=-1.0),
    "fwt": Metric("FWT over T - 1 tasks: accuracy before a task was seen less that of a fresh memory", low=-1.0),
    "unseen": Metric("accuracy on tasks before they were seen, less that of a blind guess", low=-1.0, better="none"),
    "forgetting_max": Metric("best accuracy before the last task less that after it", low=-1.0, better="down"),
    "forgetting_first": Metric("accuracy right after learning less that after the last task", low=-1.0, better="down"),
    "ideal": Metric("accuracy of a fresh copy that was shown all tasks at once (Kemker's alpha_ideal)", better="none"),
    "omega_base": Metric("Omega_base: accuracy on the first task afterwards, over ideal", high=float("inf")),
    "omega_new": Metric("Omega_new: accuracy on each new task"),
    "omega_all": Metric("Omega_all: accuracy on all tasks seen so far, over ideal", high=float("inf")),
}


def measure(plug: Plug, setting: TaskSequence, trials: Sequence[int], seed: int) -> Measured:
    """Learn the tasks one after the other, asking for all of them before the first and after each.

    The copy that is shown everything at once goes first: if instances share a store, what it learned is there when
    the tasks begin, and shows in what is known of unseen tasks.
    """
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    spec, count, n = plug.spec, setting.tasks, setting.n
    needs_pairs(plug, setting.total, shape)

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        drawn = pairs.pairs(
            spec.key_domain, spec.value_domain, setting.total, shape.key_dim, shape.value_dim, g, spec.association
        )
        return *drawn, torch.randperm(setting.total, generator=g)

    keys, values, order = randomness.stacked(draw, trials, seed, "forgetting.sequence", setting.label)

    def accuracies(answers: Tensor) -> Tensor:
        by_task = (len(trials) * count, n, shape.value_dim)
        right = decode.recalled(answers.reshape(by_task), values.reshape(by_task), torch.arange(n))
        return right.double().mean(-1).reshape(len(trials), count)

    rows = torch.arange(len(trials))[:, None]
    ideal_copy = populate(plug, shape, trials, seed)
    ideal_copy.store(keys[rows, order], values[rows, order])
    ideal = accuracies(ideal_copy.query(keys)).mean(-1)

    memories = populate(plug, shape, trials, seed)
    before = accuracies(memories.query(keys))
    stages = []
    for i in range(count):
        memories.store(keys[:, i * n : (i + 1) * n], values[:, i * n : (i + 1) * n])
        stages.append(accuracies(memories.query(keys)))
    r = torch.stack(stages, 1)
    unseen = torch.cat((before[:, :1], r.diagonal(1, -2, -1)), -1).mean(-1)
    at_least_chance = ideal.clamp_min(1 / n)  # a memory that learned nothing must not divide by zero
    return {
        "R": Curve(r.flatten(1), range(count * count)),
        "acc": average_accuracy(r),
        "bwt": backward_transfer(r),
        "fwt": forward_transfer(r, before),
        "unseen": unseen - decode.chance(values.reshape(len(trials) * count, n, shape.value_dim)),
        "forgetting_max": forgetting_max(r),
        "forgetting_first": forgetting_first(r),
        "ideal": ideal,
        "omega_base": omega_base(r, at_least_chance),
        "omega_new": omega_new(r),
        "omega_all": omega_all(r, at_least_chance),
    }


SEQUENCE = Experiment(
    "forgetting.sequence",
    measure,
    METRICS,
    "stored {tasks} tasks of {n} random pairs one after the other, asking for all tasks after each",
    TaskSequence,
    Showing(
        Axis("tasks learned"),
        (
            View(
                ("R",),
                form="matrix",
                caption="accuracy on each task (a column) after each task was learned (a row); below the diagonal, what is left",
            ),
        ),
    ),
)
