"""Dimensions: recall against the width of keys and values, and against an internal width where a memory has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from memspec.errors import NotAsked
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting
from memspec.experiments.curves import s_curve
from memspec.experiments.drawing import drawn
from memspec.metrics import Axis, Metric, Showing
from memspec.plugs.plug import Plug
from memspec.plugs.population import populate

INF = float("inf")
TOKEN_DIMS = (8, 16, 32, 64, 128, 256)
MEMORY_DIMS = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Token(Setting):
    """``n`` pairs at every token dimension, keys and values of that width (values keep theirs where it is fixed)."""

    n: int = 64
    capacity: int = 128
    key_dim: int = 256
    value_dim: int = 256
    dims: tuple[int, ...] = TOKEN_DIMS

    @property
    def label(self) -> str:
        return f"n{self.n}" + (f"-c{self.capacity}" if self.capacity != 128 else "")


TOKEN_METRICS = {
    "recall_cosine": Metric("share of the values decoded rightly by cosine, at each token dimension", label="share recalled"),
    "recall_above_chance": Metric("(recall by cosine - chance) / (1 - chance), at each token dimension", low=-1.0),
    "relative_mse": Metric("|answer - value|^2 / |value|^2, at each token dimension", high=INF, better="down", label="relative squared error"),
    "d50": Metric("token dimension at which the fitted S-curve reaches recall .5; twice the largest = beyond", high=INF, better="down"),
    "d95": Metric("token dimension at which the fitted S-curve reaches recall .95; twice the largest = beyond", high=INF, better="down"),
    "plateau": Metric("recall that the fitted S-curve approaches in many dimensions"),
}  # fmt: skip


def measure_token(plug: Plug, setting: Token, trials: Sequence[int], seed: int) -> Measured:
    """Store n pairs in memories of every token dimension that they can have.

    Raises:
        CannotMeasure: if the factory does not take key_dim, or the memory can have none of them.
    """
    plug.needs_free("key_dim")
    dims = tuple(dim for dim in setting.dims if plug.nearest(dim, dim, setting.capacity).key_dim == dim)
    if not dims:
        plug.needs_widths(setting.dims[-1])
    recalls, above, errors = [], [], []
    for dim in dims:
        shape = plug.shape(dim, dim, setting.capacity)
        keys, values = drawn(plug, setting.n, shape, trials, seed, "dimensions.token", setting.label, dim)
        memories = populate(plug, shape, trials, seed)
        memories.store(keys, values)
        answers = memories.query(keys)
        recalls.append(decode.recalled(answers, values, torch.arange(setting.n)).double().mean(-1))
        chance = decode.chance(values)
        above.append((recalls[-1] - chance) / max(1 - chance, 1e-9))
        errors.append(decode.relative_error(answers, values).double().mean(-1))
    recall = torch.stack(recalls, -1)
    fitted, beyond = s_curve(dims, recall), 2.0 * dims[-1]
    return {
        "recall_cosine": Curve(recall, dims),
        "recall_above_chance": Curve(torch.stack(above, -1), dims),
        "relative_mse": Curve(torch.stack(errors, -1), dims),
        "d50": fitted.reaches(0.5, beyond),
        "d95": fitted.reaches(0.95, beyond),
        "plateau": fitted.plateau,
    }


@dataclass(frozen=True)
class Internal(Setting):
    """``n`` pairs of token dimension ``key_dim`` in memories of every internal dimension."""

    n: int = 10
    key_dim: int = 128
    value_dim: int = 128
    capacity: int = 128
    dims: tuple[int, ...] = MEMORY_DIMS

    @property
    def label(self) -> str:
        return f"n{self.n}" + (f"-d{self.key_dim}" if self.key_dim != 128 else "")


INTERNAL_METRICS = {
    "recall_cosine": Metric("share of the values decoded rightly by cosine, at each internal dimension", label="share recalled"),
    "reconstruction_error": Metric("|answer - value|^2 / |value|^2, at each internal dimension", high=INF, better="down", label="relative squared error"),
    "pca_floor": Metric("1 - internal / token dimension: the mean error of the best fixed projection of random values", better="none"),
    "state_bytes": Metric("bytes of state at each internal dimension", high=INF, better="none", unit="B"),
    "live": Metric("share of trials in which the internal dimension changes the answers or the bytes of state", better="none"),
}  # fmt: skip


def measure_internal(plug: Plug, setting: Internal, trials: Sequence[int], seed: int) -> Measured:
    """Store the same n pairs in memories of every internal dimension.

    Raises:
        NotAsked: if the factory takes no ``memory_dim``.
    """
    if "memory_dim" not in plug.accepts:
        raise NotAsked(f"{plug.name} takes no memory_dim")
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    keys, values = drawn(plug, setting.n, shape, trials, seed, "dimensions.internal", setting.label)
    answers, size = [], []
    for dim in setting.dims:
        memories = populate(plug, shape, trials, seed, memory_dim=dim)
        memories.store(keys, values)
        answers.append(memories.query(keys))
        size.append(memories.state_bytes().double())
    recalls = [decode.recalled(a, values, torch.arange(setting.n)).double().mean(-1) for a in answers]
    errors = [decode.relative_error(a, values).double().mean(-1) for a in answers]
    moved = (answers[0] != answers[-1]).flatten(1).any(-1) | (size[0] != size[-1])
    floor = torch.tensor([max(0.0, 1 - dim / shape.value_dim) for dim in setting.dims], dtype=torch.float64)
    return {
        "recall_cosine": Curve(torch.stack(recalls, -1), setting.dims),
        "reconstruction_error": Curve(torch.stack(errors, -1), setting.dims),
        "pca_floor": Curve(floor.expand(len(trials), -1), setting.dims),
        "state_bytes": Curve(torch.stack(size, -1), setting.dims),
        "live": moved.double(),
    }


TOKEN = Experiment(
    "dimensions.token",
    measure_token,
    TOKEN_METRICS,
    "stored {n} random pairs at each of the token dimensions {dims}",
    Token,
    Showing(Axis("token dimension")),
)
INTERNAL = Experiment(
    "dimensions.internal",
    measure_internal,
    INTERNAL_METRICS,
    "stored {n} pairs of token dimension {key_dim} at each of the internal dimensions {dims}",
    Internal,
    Showing(Axis("memory dimension")),
)

SCORES = (
    Scoring(
        "dimensions",
        TOKEN.name,
        "recall_above_chance",
        floor=0.0,
        ceiling=1.0,
        at=TOKEN_DIMS,  # no score where some are refused: the narrow ones are the hard ones
        description="recall by cosine above chance of 64 pairs, mean over token dimensions 8 to 256. Zeros decode to "
        "one fixed value, which is chance (0); a dictionary recalls all at every dimension (1)",
    ),
)
