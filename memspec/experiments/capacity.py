"""Capacity: how much a memory holds. N pairs are stored, all N are asked for; then far more than it has room for.

Recall is decoded among all N stored values (a decoder that always names the same one is right 1/N of the time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec.errors import CannotMeasure
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting, one_of
from memspec.experiments.drawing import drawn
from memspec.metrics import Axis, KeyFigure, Metric, Showing
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import Population, populate

INF = float("inf")
LOADS = (8, 16, 32, 64, 128, 256)
"""The geometric grid of loads of the default tier, at 64 dimensions and a capacity of 128."""


LARGEST_OVERFILLED = 256
"""Capacity above which overfilling is not tried: all pairs written are compared with each other."""


@dataclass(frozen=True)
class Load(Setting):
    """``n`` independent pairs, presented in one batch or row by row; both see the same pairs."""

    n: int = 20
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128
    presented: str = one_of("batch", ("batch", "rows"))

    @property
    def stream(self) -> str:
        """What the pairs depend on."""
        return f"n{self.n}" + (f"-d{self.key_dim}" if self.key_dim != 64 else "")

    @property
    def label(self) -> str:
        value_dim = f"-dv{self.value_dim}" if self.value_dim != 64 else ""
        capacity = f"-c{self.capacity}" if self.capacity != 128 else ""
        return f"{self.stream}{value_dim}{capacity}{'-rows' if self.presented == 'rows' else ''}"


METRICS = {
    "recall_cosine": Metric("share of the N values decoded rightly by cosine", label="share recalled"),
    "recall_euclidean": Metric("share of the N values decoded rightly by Euclidean distance", label="share recalled"),
    "recall_above_chance": Metric("(recall by cosine - chance) / (1 - chance)", low=-1.0),
    "mean_cosine": Metric("cosine of answer and value", low=-1.0, label="cosine"),
    "relative_mse": Metric("|answer - value|^2 / |value|^2", high=INF, better="down", label="relative squared error"),
    "bits": Metric(
        "bits decoded (cosine), errors spread evenly", high=INF, unit="bit", label="decoded", measure="bits"
    ),
    "bits_per_state_byte": Metric(
        "bits decoded per byte of state after the N writes", high=INF, unit="bit/B", label="decoded", measure="bits"
    ),
    "bits_per_parameter": Metric(
        "bits decoded per number, of slow weights and state (of 4 bytes) together",
        high=INF,
        unit="bit/number",
        label="decoded",
        measure="bits",
    ),
    "bits_per_slot": Metric(
        "bits decoded per slot of its capacity", high=INF, unit="bit/slot", label="decoded", measure="bits"
    ),
    "share_of_ceiling": Metric(
        "bits decoded over the 8 bits in every byte of state",
        high=INF,
        better="none",
        label="decoded, share of the ceiling",
        measure="bits",
    ),
}


def measure(plug: Plug, setting: Load, trials: Sequence[int], seed: int) -> Measured:
    """Store N pairs, ask for all of them. ``bits_per_slot`` only where the memory has a capacity."""
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    keys, values = drawn(plug, setting.n, shape, trials, seed, "capacity", setting.stream)
    memories = populate(plug, shape, trials, seed)
    present(memories, keys, values, setting.presented)
    answers = memories.query(keys)
    targets = torch.arange(setting.n)
    by_cosine = decode.recalled(answers, values, targets, "cosine").double().mean(-1)
    chance = decode.chance(values)
    # Labels that several keys share carry fewer bits than N values would.
    alternatives = min(setting.n, shape.value_dim) if plug.spec.value_domain == "onehot" else setting.n
    bits = decode.bits(by_cosine, alternatives) * (setting.n / alternatives)
    state = memories.state_bytes().double()
    measured: dict[str, Tensor] = {
        "recall_cosine": by_cosine,
        "recall_euclidean": decode.recalled(answers, values, targets, "euclidean").double().mean(-1),
        "recall_above_chance": (by_cosine - chance) / max(1 - chance, 1e-9),
        "mean_cosine": decode.cosine(answers, values).mean(-1),
        "relative_mse": decode.relative_error(answers, values).mean(-1),
        "bits": bits,
        "bits_per_state_byte": bits / state.clamp_min(1),
        "bits_per_parameter": bits / (plug.parameter_count + state / 4).clamp_min(1),
        "share_of_ceiling": bits / (8 * state.clamp_min(1)),
    }
    held = slots(plug, shape)
    if held is not None:
        measured["bits_per_slot"] = bits / held
    return measured


@dataclass(frozen=True)
class Presentation(Setting):
    """The same pairs in one batch and row by row."""

    n: int = 64
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128


PRESENTATION_METRICS = {
    "answers_apart": Metric(
        "squared difference of the answers after a batch and after single rows, over that of the answers",
        high=INF,
        better="down",
    ),
    "recall_apart": Metric(
        "absolute difference of recall by cosine after a batch and after single rows", better="down"
    ),
}


def measure_presentation(plug: Plug, setting: Presentation, trials: Sequence[int], seed: int) -> Measured:
    """Store the same pairs twice, as a batch and row by row, in memories that start alike."""
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    keys, values = drawn(plug, setting.n, shape, trials, seed, "capacity", f"n{setting.n}")
    targets = torch.arange(setting.n)
    answers, recalls = [], []
    for presented in ("batch", "rows"):
        memories = populate(plug, shape, trials, seed)
        present(memories, keys, values, presented)
        answers.append(memories.query(keys).double())
        recalls.append(decode.recalled(answers[-1], values.double(), targets).double().mean(-1))
    batch, rows = answers
    size = (batch.square() + rows.square()).sum((-2, -1)) / 2
    apart = (batch - rows).square().sum((-2, -1)) / size.clamp_min(1e-30)
    finite = torch.isfinite(apart)
    return {
        "answers_apart": torch.where(finite, apart, INF),
        "recall_apart": (recalls[0] - recalls[1]).abs(),
    }


@dataclass(frozen=True)
class Overfill(Setting):
    """``factor`` times as many pairs as there is room for, in batches of ``batch`` rows."""

    capacity: int = 32
    factor: int = 4
    batch: int = 16
    key_dim: int = 64
    value_dim: int = 64


OVERFILL_METRICS = {
    "recall": Metric(
        "share of values decoded rightly by cosine, by age (later writes) in bins of a quarter capacity",
        label="share recalled",
    ),
    "recall_all": Metric(
        "share of all the values ever written that are decoded rightly by cosine", label="share recalled"
    ),
    "recall_newest": Metric(
        "share of the values of the newest C pairs (C = capacity) that are decoded rightly by cosine",
        label="share recalled",
    ),
    "recall_older": Metric(
        "share of the values of pairs older than the newest C that are decoded rightly by cosine",
        better="none",
        label="share recalled",
    ),
}


def measure_overfill(plug: Plug, setting: Overfill, trials: Sequence[int], seed: int) -> Measured:
    """Store ``factor`` times the capacity, ask for everything.

    Raises:
        CannotMeasure: if the memory has no capacity, or one too large to overfill.
    """
    if not has_capacity(plug):
        raise CannotMeasure(
            f"{plug.name} has no capacity (no such argument, attribute or spec), so it cannot be overfilled"
        )
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    if shape.capacity > LARGEST_OVERFILLED:
        raise CannotMeasure(
            f"{plug.name} holds {shape.capacity} pairs; more than {LARGEST_OVERFILLED} are not overfilled here: let its "
            "factory take capacity"
        )
    n = setting.factor * shape.capacity
    keys, values = drawn(plug, n, shape, trials, seed, "capacity.overfill", setting.label)
    memories = populate(plug, shape, trials, seed)
    for _ in range(plug.spec.presentations):
        for k, v in zip(keys.split(setting.batch, 1), values.split(setting.batch, 1)):
            memories.update(k, v)
    right = decode.recalled(memories.query(keys), values, torch.arange(n)).double().flip(-1)  # by age
    bins = overfill_bins(shape.capacity, n)
    return {
        "recall": Curve(torch.stack([right[:, a:b].mean(-1) for a, b in bins], -1), [a for a, _ in bins]),
        "recall_all": right.mean(-1),
        "recall_newest": right[:, : shape.capacity].mean(-1),
        "recall_older": right[:, shape.capacity :].mean(-1),
    }


def overfill_bins(capacity: int, n: int) -> list[tuple[int, int]]:
    """``[start, stop)`` ages of the bins, a quarter of the capacity each."""
    width = max(1, capacity // 4)
    return [(a, min(a + width, n)) for a in range(0, n, width)]


def has_capacity(plug: Plug) -> bool:
    """Whether the memory has a capacity: chosen by the harness, declared, or told by an attribute."""
    return "capacity" in plug.accepts or plug.nearest(capacity=1).capacity == plug.nearest(capacity=2).capacity


def slots(plug: Plug, shape: Shape) -> int | None:
    """The slots it fills, or None for a memory without any (a matrix, or a store that grows)."""
    spec = plug.spec
    bounded = spec.eviction != "none" or spec.capacity is not None or "Slotted" in plug.capabilities
    return shape.capacity if bounded and has_capacity(plug) else None


def present(memories: Population, keys: Tensor, values: Tensor, presented: str) -> None:
    """Store pairs in one ``batch`` or in ``rows``."""
    if presented == "rows":
        memories.store_rows(keys, values)
    else:
        memories.store(keys, values)


LOAD = Experiment(
    "capacity.load",
    measure,
    METRICS,
    "stored {n} random pairs, then asked for all {n}",
    Load,
    Showing(
        Axis("pairs stored", "n"),
        figures=(
            *(
                KeyFigure(f"recall {n}", "recall_cosine", f"recall of {n} pairs, d = 64", setting=f"n{n}", place=i)
                for i, n in enumerate((8, 32, 128, 256))  # 64 is the key width, 128 the capacity
            ),
            KeyFigure(
                "N95",
                "recall_cosine",
                "largest load with recall >= .95 up to it",
                of="reach",
                setting="n{n}",
                along="n",
                place=10,
            ),
            KeyFigure(
                "bits/byte",
                "bits_per_state_byte",
                "decoded bits a state byte, at the best load",
                of="best",
                place=11,
            ),
        ),
    ),
)
PRESENTATION = Experiment(
    "capacity.presentation",
    measure_presentation,
    PRESENTATION_METRICS,
    "stored the same {n} pairs as one batch and row by row",
    Presentation,
)
OVERFILL = Experiment(
    "capacity.overfill",
    measure_overfill,
    OVERFILL_METRICS,
    "stored {factor} times as many pairs as the capacity holds ({capacity}, where it can be chosen), {batch} a batch",
    Overfill,
    Showing(Axis("writes since")),
)

SCORES = (
    Scoring(
        "capacity",
        LOAD.name,
        "recall_above_chance",
        floor=0.0,
        ceiling=1.0,
        labels=tuple(Load(n=n).label for n in LOADS),
        description="recall by cosine above chance, mean over loads of 8 to 256 pairs at 64 dimensions and a capacity "
        "of 128. Zeros decode to one fixed value, which is chance (0); a dictionary recalls all (1)",
    ),
)
