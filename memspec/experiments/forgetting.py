"""Forgetting: a second task after a first, and a key that is written again.

Retention against the number of writes is in :mod:`memspec.experiments.retention`, sequences of tasks in
:mod:`memspec.experiments.continual`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments import decode
from memspec.experiments.base import Experiment, Measured, Scoring, Setting, one_of
from memspec.experiments.drawing import needs_pairs
from memspec.fixtures.data import pairs
from memspec.metrics import Axis, KeyFigure, Metric, Showing
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate

# ---- Task A, then Task B --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoTasks(Setting):
    """``n`` values in each of two tasks.

    ``kind="random"``: each value has one random key, stored and asked for. ``kind="clusters"``: each value is stored
    under ``members`` keys of a cluster (train split) and asked for by ``unseen`` other keys of it (test split); a
    member is ``unit(centre + spread u)``, u a random unit vector.
    """

    n: int = 20
    kind: str = one_of("random", ("random", "clusters"))
    members: int = 4
    unseen: int = 2
    spread: float = 0.5
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128

    @property
    def label(self) -> str:
        return f"{self.kind}-n{self.n}" + (f"-d{self.key_dim}" if self.key_dim != 64 else "")

    @property
    def stored(self) -> int:
        """Pairs stored in both tasks together."""
        return 2 * self.n * (self.members if self.kind == "clusters" else 1)


_WHAT = {"a1": "A, after A was stored", "a2": "A, after B was stored", "b": "B, after B was stored"}
_SPLITS = {"": "", "_train": ", asked for by the stored keys themselves (clusters)"}
TWO_TASKS_METRICS = {
    **{
        name + decoder + split: Metric(f"share of {what}, decoded rightly {how} among its own task's values{asked}")
        for split, asked in _SPLITS.items()
        for name, what in _WHAT.items()
        for decoder, how in {"": "by cosine", "_euclidean": "by Euclidean distance"}.items()
    },
    **{
        f"{name}_similarity{split}": Metric(f"cosine of answer and value on {what}{asked}", low=-1.0)
        for split, asked in _SPLITS.items()
        for name, what in _WHAT.items()
    },
    **{
        f"{name}_among_both{split}": Metric(
            f"share of {_WHAT[name]}, decoded by cosine among both tasks' values{asked}"
        )
        for split, asked in _SPLITS.items()
        for name in ("a2", "b")
    },
    **{
        f"forgetting{score}{split}": Metric(
            f"forgetting score A1 - A2 {of}{asked}", low=-high, high=high, better="down"
        )
        for split, asked in _SPLITS.items()
        for score, of, high in (
            ("", "by the cosine decoder", 1.0),
            ("_euclidean", "by the Euclidean decoder", 1.0),
            ("_similarity", "in mean cosine", 2.0),
        )
    },
}


def measure_two_tasks(plug: Plug, setting: TwoTasks, trials: Sequence[int], seed: int) -> Measured:
    """Store A, ask for A, store B, ask for A and for B."""
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    n = setting.n
    needs_pairs(plug, setting.stored, shape)
    clusters = setting.kind == "clusters"
    stored, asked, values, order = randomness.stacked(
        lambda g: (_clusters if clusters else _random)(plug, setting, shape, g),
        trials,
        seed,
        "forgetting.two_tasks",
        setting.label,
    )
    splits = {"": asked, "_train": stored} if clusters else {"": asked}
    memories = populate(plug, shape, trials, seed)

    answers: dict[tuple[str, str], Tensor] = {}
    for task, states in enumerate((("a1",), ("a2", "b"))):
        memories.store(stored[:, task], values[:, task, _owners(stored, n)])
        for which, name in enumerate(states):
            answers |= {(name, split): memories.query(keys[:, which]) for split, keys in splits.items()}

    # The candidates of both tasks stand in random order: an answer without any preference is then right by chance.
    both = torch.gather(values.flatten(1, 2), 1, order[..., None].expand(-1, -1, shape.value_dim))
    places = order.argsort(-1)
    out: dict[str, Tensor] = {}
    for (name, split), given in answers.items():
        task = int(name == "b")
        own, targets = values[:, task], _owners(splits[split], n)
        out[name + split] = share(given, own, targets)
        out[f"{name}_euclidean{split}"] = share(given, own, targets, "euclidean")
        out[f"{name}_similarity{split}"] = decode.cosine(given, own[:, targets]).double().mean(-1)
        if name != "a1":
            out[f"{name}_among_both{split}"] = share(given, both, places[:, task * n + targets])
    for split in splits:
        for score in ("", "_euclidean", "_similarity"):
            out[f"forgetting{score}{split}"] = out[f"a1{score}{split}"] - out[f"a2{score}{split}"]
    return out


def share(answers: Tensor, candidates: Tensor, targets: Tensor, decoder: str = "cosine") -> Tensor:
    """``[T]`` share of the answers ``[T, Q, Dv]`` that decode to their targets."""
    return decode.recalled(answers, candidates, targets, decoder).double().mean(-1)


def _owners(keys: Tensor, n: int) -> Tensor:
    """Which of the n values each key of a task belongs to; ``keys [..., Q, Dk]`` go round the values."""
    return torch.arange(n).repeat(keys.shape[-2] // n)


def _random(plug: Plug, setting: TwoTasks, shape: Shape, g: torch.Generator) -> tuple[Tensor, ...]:
    """Stored keys, asked keys ``[2, n, Dk]`` (the same), values ``[2, n, Dv]``, an order of all values ``[2n]``."""
    spec, n = plug.spec, setting.n
    keys, values = pairs.pairs(
        spec.key_domain, spec.value_domain, 2 * n, shape.key_dim, shape.value_dim, g, spec.association
    )
    by_task = keys.reshape(2, n, -1)
    return by_task, by_task, values.reshape(2, n, -1), torch.randperm(2 * n, generator=g)


def _clusters(plug: Plug, setting: TwoTasks, shape: Shape, g: torch.Generator) -> tuple[Tensor, ...]:
    """As :func:`_random`, with stored keys ``[2, n * members, Dk]`` and asked keys ``[2, n * unseen, Dk]``."""
    spec, n = plug.spec, setting.n
    if spec.association == "auto":
        raise NotAsked(f"{plug.name} recalls the key itself, so no value is shared by several keys")
    if spec.key_domain == "onehot":
        raise CannotMeasure(f"{plug.name}: one-hot keys have no neighbours, so there are no clusters of them")
    centres = pairs.keys(spec.key_domain, 2 * n, shape.key_dim, g).reshape(2, n, -1)

    def members(count: int) -> Tensor:
        return near(spec.key_domain, centres.repeat(1, count, 1), setting.spread, g)

    values = pairs.vectors(spec.value_domain, 2 * n, shape.value_dim, g).reshape(2, n, -1)
    return members(setting.members), members(setting.unseen), values, torch.randperm(2 * n, generator=g)


def near(domain: str, centres: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Keys near ``centres [..., Dk]``, in their domain: mean cosine with the centre ``1 / sqrt(1 + spread^2)``."""
    if domain == "sign":
        flips = (1 - 1 / math.sqrt(1 + spread**2)) / 2
        return torch.where(torch.rand(centres.shape, generator=generator) < flips, -centres, centres)
    return pairs.noisy(centres, spread, generator)


TWO_TASKS = Experiment(
    "forgetting.two_tasks",
    measure_two_tasks,
    TWO_TASKS_METRICS,
    "stored Task A ({n} values, {kind} keys), asked for it, stored Task B (as many), asked for both",
    TwoTasks,
    Showing(
        Axis("values a task", "n"),
        figures=(KeyFigure("forgetting", "forgetting", "A1 - A2, 64 pairs a task", setting="random-n64", place=12),),
    ),
)


# ---- a key written again --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overwrite(Setting):
    """``n`` keys stored, then stored again with new values."""

    n: int = 8
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128


OVERWRITE_METRICS = {
    "newest": Metric("share of keys that answer their newest value (cosine, among all old and new values)"),
    "stale": Metric("share of keys that answer the value they had before", better="down"),
}


def measure_overwrite(plug: Plug, setting: Overwrite, trials: Sequence[int], seed: int) -> Measured:
    """Store n pairs, then the same keys with new values; decode among all 2n values."""
    spec, n = plug.spec, setting.n
    if spec.association == "auto":
        raise NotAsked(f"{plug.name} recalls the key itself, so a key has no second value")
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    needs_pairs(plug, n, shape)

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        return (
            pairs.keys(spec.key_domain, n, shape.key_dim, g),
            pairs.vectors(spec.value_domain, 2 * n, shape.value_dim, g),
            torch.randperm(2 * n, generator=g),
        )

    keys, values, order = randomness.stacked(draw, trials, seed, "forgetting.overwrite", setting.label)
    memories = populate(plug, shape, trials, seed)
    memories.store(keys, values[:, :n])
    memories.store(keys, values[:, n:])
    answers = memories.query(keys)
    candidates = torch.gather(values, 1, order[..., None].expand_as(values))
    places = order.argsort(-1)
    newest = decode.recalled(answers, candidates, places[:, n:])
    stale = decode.recalled(answers, candidates, places[:, :n]) & ~newest
    return {"newest": newest.double().mean(-1), "stale": stale.double().mean(-1)}


OVERWRITE = Experiment(
    "forgetting.overwrite",
    measure_overwrite,
    OVERWRITE_METRICS,
    "stored {n} pairs, stored the same keys again with new values, asked for all keys",
    Overwrite,
    Showing(Axis("pairs stored", "n")),
)


SCORES = (
    Scoring(
        "forgetting",
        TWO_TASKS.name,
        "a2",
        floor=1 / 64,
        ceiling=1.0,
        description="accuracy on Task A after Task B, 64 pairs each; 0 = blind guess among 64, 1 = dictionary",
        labels=("random-n64",),
    ),
)
