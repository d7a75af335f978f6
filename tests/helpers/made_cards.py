"""Cards with known contents, made without a run."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from memspec.experiments.base import Scoring
from memspec.failure import Failure
from memspec.judging.check import Check, Status
from memspec.scorecard.record import Record
from memspec.scorecard.score import rescore

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


SCORINGS = [
    Scoring(axis, f"{axis}.exp", "recall", floor=0.0, ceiling=1.0, description=f"what {axis} is")
    for axis in ("capacity", "forgetting")
]


def memory(name: str, capacity: float = 0.9, forgetting: float = 0.3, checks: Any = (), **more: Any) -> Record:
    """A card with two scores, a sweep and what was paid."""
    blocks = [block([capacity, capacity], experiment="capacity.exp", setting=f"n{n}", n=n) for n in (8, 16, 32)]
    blocks.append(block([forgetting, forgetting + 0.1], experiment="forgetting.exp"))
    paid = block([100.0 + len(name)], experiment="own.paid")
    paid["showing"] = {"figures": [{"name": "bytes", "metric": "recall", "description": "bytes", "price": "bytes"}]}
    one = rescore(card(*blocks, paid, checks=checks or [check("laws/a", "pass")], **more), SCORINGS)
    one.memory["plug"] = name
    return one


def shown(text: str) -> str:
    """What stands on the page without its tags."""
    body = re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def many(count: int) -> list[Record]:
    rng = np.random.default_rng(0)
    return [memory(f"m:Memory{i}", *rng.uniform(0, 1, 2).tolist()) for i in range(count)]
