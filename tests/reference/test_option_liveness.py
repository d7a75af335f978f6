"""Every documented option of the matrix, inner-model, Hopfield and superposition memories changes an answer.

A knob that nothing reads is a defect of published memory code; :mod:`test_options` does the same for the core ones.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from memspec import reference

CASES: dict[str, list[dict[str, Any]]] = {
    "GatedDeltaMemory": [{"alpha": 0.5}, {"beta": 0.3}],
    "LeastSquaresMemory": [{"ridge": 0.5}, {"decay": 0.5}],
    "LinearAttentionMemory": [
        {"feature_map": "relu"},
        {"feature_map": "dpfp"},
        {"normalise": False},
        {"key_norm": "none"},
    ],
    "TTTMemory": [
        {"model": "mlp"},
        {"model": "mlp", "hidden": 7},
        {"lr": 0.3},
        {"minibatch": 2},
        {"mode": "full"},
        {"bias": False},
    ],
    "TitansMemory": [
        {"depth": 1},
        {"depth": 3},
        {"expansion": 3},
        {"theta": 0.3},
        {"eta": 0.1},
        {"alpha": 0.2},
        {"chunk": 2},
        {"max_grad_norm": 0.1},
    ],
    "MbPAMemory": [
        {"capacity": 3},
        {"neighbours": 2},
        {"lr": 0.1},
        {"steps": 2},
        {"beta": 0.5},
        {"eps": 1.0},
    ],
    "AssociativeMemory": [{"capacity": 3}, {"beta": 0.3}, {"steps": 3}],
    "HopfieldMemory": [{"rule": "storkey"}, {"rule": "pinv"}, {"update_order": "sync"}, {"sweeps": 1}],
    "BidirectionalMemory": [{"bounces": 1}],
    "HolographicMemory": [{"dim": 64}, {"sharpness": 0.5}, {"binding": "map"}],
    "SparseDistributedMemory": [{"capacity": 5000}, {"locations": 64}, {"radius": 2}],
}
STORES: dict[str, list[dict[str, Any]]] = {
    "NearestNeighbourMemory": [
        {"neighbours": 3},
        {"neighbours": 3, "read": "softmax"},
        {"neighbours": 3, "read": "softmax", "beta": 1.0},
        {"neighbours": 3, "read": "inverse", "eps": 1.0},
        {"metric": "cosine"},
    ],
    "DynamicMemory": [{"capacity": 4}, {"read": "softmax"}, {"read": "softmax", "beta": 1.0}],
    "FIFOMemory": [{"capacity": 4}],
    "LRUMemory": [{"capacity": 4}],
    "RandomEvictionMemory": [{"capacity": 4}],
    "ReservoirMemory": [{"capacity": 4}],
}
"""Options of the stores that noisy cues show; the others show in integer traces and in the claims of their own tests."""

SPEED_ONLY = {"form", "chunk"}
"""Options of GatedDeltaMemory that change the speed and not the answers (which its oracles test)."""


def answers(name: str, options: dict[str, Any]) -> torch.Tensor:
    """What 60 noisy cues are answered after updates with 12 pairs (20, or 1 for a store), from the same construction seed."""
    torch.manual_seed(0)
    memory = getattr(reference, name)(16, 16, **options)
    g = torch.Generator().manual_seed(1)
    sign = memory.spec.key_domain == "sign"
    keys, values, noise = (torch.randn(n, 16, generator=g) for n in (12, 12, 60))
    cues = keys.repeat(5, 1) + noise
    if sign:
        keys, values, cues = keys.sign(), values.sign(), cues.sign()
    values = keys if memory.spec.association == "auto" else values
    for _ in range(1 if name in STORES else 20):  # a store would only keep copies
        memory.update(keys, values)
    answer: torch.Tensor = memory.query(cues).detach()
    return answer


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=f"{name}-" + "-".join(f"{k}={v}" for k, v in options.items()))
        for name, cases in {**CASES, **STORES}.items()
        for options in cases
    ],
)
def test_option_changes_an_answer(name: str, options: dict[str, Any]) -> None:
    last = list(options)[-1]
    without = {k: v for k, v in options.items() if k != last}
    assert not torch.equal(answers(name, options), answers(name, without)), f"{last} is read by nothing"


@pytest.mark.parametrize("name", CASES)
def test_no_option_is_left_out(name: str) -> None:
    parameters = set(inspect.signature(getattr(reference, name)).parameters) - {"key_dim", "value_dim"}
    speed = SPEED_ONLY if name == "GatedDeltaMemory" else set()
    assert {k for case in CASES[name] for k in case} == parameters - speed
