"""Cards with known contents, made without a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from memspec.failure import Failure
from memspec.judging.check import Check, Status
from memspec.scorecard.record import Record

META = {"description": "a metric", "low": 0.0, "high": 1.0, "better": "up"}


def block(
    values: Any, *, experiment: str = "axis.exp", setting: str = "n8", at: Any = None, first: int = 0, **fields: Any
) -> dict[str, Any]:
    return {
        "experiment": experiment,
        "setting": setting,
        "fields": fields,
        "done": "stored 8 pairs",
        "first_trial": first,
        "metrics": {"recall": {**META, "at": at, "values": np.asarray(values, dtype=float).tolist()}},
    }


def check(name: str, status: Status, got: str = "", **more: Any) -> Check:
    """A check; ``got`` is what its failure says (or the reason of a skip), ``rule`` and the like go to the failure."""
    parts = {part: more.pop(part) for part in ("rule", "raised", "meaning", "done", "repeat") if part in more}
    if status in ("fail", "inconclusive"):
        told = {"rule": "", "expected": "", "cause": "", "repeat": "", **parts}
        more["failure"] = Failure(name, "m:M", got=got, **told)
    return Check(name, more.pop("kind", "measurement"), name.split("/")[0], status, reason=got, **more)


def card(*blocks: dict[str, Any], checks: Any = (), **more: Any) -> Record:
    memory = {
        "plug": "m:M",
        "parameters": 12,
        "spec": {"family": "generic"},
        "shape": {"key_dim": 4, "value_dim": 2, "capacity": 8},
    }
    signature = {
        "memspec": "0.1.0",
        "seed": 0,
        "alpha": 1e-3,
        "max_trials": 256,
        "tier": "default",
        "dtype": "float32",
        "device": "cpu",
        "torch": "2",
    }
    machine = {"processor": "x86", "cores": 2, "python": "3.11", "cuda": None}
    return Record(memory, signature, machine, list(checks), blocks=list(blocks), **more)
