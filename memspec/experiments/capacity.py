"""Capacity: how much a memory holds. N pairs are stored, all N are asked for.

Recall is decoded among all N stored values (a decoder that always names the same one is right 1/N of the time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from memspec.experiments import decode
from memspec.experiments.base import Experiment, Measured, Setting
from memspec.fixtures import pairs, streams
from memspec.judge import Metric
from memspec.plug import Plug
from memspec.population import populate


@dataclass(frozen=True)
class Load(Setting):
    """``n`` independent pairs, presented in one batch or row by row."""

    n: int = 20
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128
    presented: str = "batch"

    @property
    def label(self) -> str:
        rows = "-rows" if self.presented == "rows" else ""
        dims = f"-d{self.key_dim}" if self.key_dim != 64 else ""
        return f"n{self.n}{dims}{rows}"


METRICS = {
    "recall_cosine": Metric("share of the N values decoded rightly by cosine"),
    "recall_euclidean": Metric("share of the N values decoded rightly by Euclidean distance"),
    "mean_cosine": Metric("cosine of answer and value", low=-1.0),
    "relative_mse": Metric("|answer - value|^2 / |value|^2", high=float("inf"), better="down"),
    "bits": Metric("bits decoded (cosine), errors spread evenly", high=float("inf")),
    "bits_per_state_byte": Metric("bits decoded per byte of state after the N writes", high=float("inf")),
}


def measure(plug: Plug, setting: Load, trials: Sequence[int], seed: int) -> Measured:
    """Store N pairs, ask for all of them."""
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    spec = plug.spec
    keys, values = streams.stacked(
        lambda g: pairs.pairs(
            spec.key_domain, spec.value_domain, setting.n, shape.key_dim, shape.value_dim, g, spec.association
        ),
        trials,
        seed,
        "capacity",
        setting.label,
    )
    memories = populate(plug, shape, trials, seed)
    if setting.presented == "rows":
        memories.store_rows(keys, values)
    else:
        memories.store(keys, values)
    answers = memories.query(keys)
    targets = torch.arange(setting.n)
    by_cosine = decode.recalled(answers, values, targets, "cosine").double().mean(-1)
    bits = decode.bits(by_cosine, setting.n)
    return {
        "recall_cosine": by_cosine,
        "recall_euclidean": decode.recalled(answers, values, targets, "euclidean").double().mean(-1),
        "mean_cosine": decode.cosine(answers, values).mean(-1),
        "relative_mse": decode.relative_error(answers, values).mean(-1),
        "bits": bits,
        "bits_per_state_byte": bits / memories.state_bytes().clamp_min(1.0),
    }


LOAD = Experiment("capacity.load", measure, METRICS, "stored {n} random pairs, then asked for all {n}", Load)
