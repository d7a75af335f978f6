"""Every option that a reference declares changes something: generated from the declarations.

A knob that nothing reads is a defect of published memory code. Values are taken from the declared range; for each option
one of them must change an answer, or a loss, beside the options that :data:`BESIDE` names.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drawing import drawn
from memspec import reference
from memspec.fixtures.data import pairs
from memspec.functional import FunctionalMemory
from memspec.options import Choice, Option, Whole, declared
from memspec.reference import CachedMemory, EpisodicMemory, ProjectingEpisodicMemory

DIM = 12
SMALL = {"capacity": 4}
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("CachedMemory", "similarity_threshold"): SMALL,
    ("DNCMemory", "linkage"): SMALL,
    ("DynamicMemory", "beta"): {"read": "softmax"},
    ("KeyValueMemoryNetwork", "hop"): {"hops": 2},
    ("KeyValueMemoryNetwork", "hops"): {"hop": "replace"},
    ("LinearAttentionMemory", "feature_map"): {"normalise": False},
    ("MemoryNetwork", "hops"): {"hop": "replace"},
    ("ProductKeyMemory", "codebook"): {"top": 1},
    ("RareEventsMemory", "age_noise"): SMALL,
    ("RareEventsMemory", "choose_k"): {"read": "softmax"},
    ("TTTMemory", "hidden"): {"model": "mlp"},
    ("TrainableMemory", "similarity_threshold"): SMALL,
    **{(name, "read"): {"neighbours": 3} for name in ("LSHMemory", "NearestNeighbourMemory")},
    **{(name, "beta"): {"neighbours": 3, "read": "softmax"} for name in ("LSHMemory", "NearestNeighbourMemory")},
    **{(name, "eps"): {"neighbours": 3, "read": "inverse"} for name in ("LSHMemory", "NearestNeighbourMemory")},
}
"""Options that only matter beside others."""
SAME_ANSWERS = {
    "DeltaMemory": {"form", "chunk"},
    "GatedDeltaMemory": {"form", "chunk"},
    "NearestNeighbourMemory": {"index"},
}
"""What changes the speed and not the answers (which the oracles of these memories test)."""
ELSEWHERE = {
    "AdaptiveMemory": {"hidden"},  # width of a network that starts as zero
    "DNCMemory": {"read_heads", "write_heads", "deallocate", "strength", "usage_grad"},
    "HierarchicalMemory": {"promote_count"},  # when rows rise: integer traces
    "LRUAMemory": {"heads"},
    "NTMMemory": {"read_heads", "write_heads", "reach", "read_first"},
    "SparseMemory": {"delta", "heads", "erase"},
    "ElasticWeightConsolidation": {"strength", "merge", "decay", "fisher", "examples", "step"},
    "GradientEpisodicMemory": {"method", "tasks", "examples", "margin", "ridge"},
}
"""What shows only where gates are driven or tasks end: in the tests of those memories, which know how."""


def options() -> list[Any]:
    return [
        pytest.param(name, o, option, id=f"{name}-{o}")
        for name in sorted(reference.__all__)
        for o, option in declared(getattr(reference, name)).items()
        if o not in {"key_dim", "value_dim"} | SAME_ANSWERS.get(name, set()) | ELSEWHERE.get(name, set())
        and getattr(reference, name).__init__ is not FunctionalMemory.__init__  # it has no option of its own
    ]


def candidates(option: Option) -> list[Any]:
    """Values all over the range that are not the default."""
    kind = option.kind
    if isinstance(kind, Choice):
        values = list(kind.values)
    elif isinstance(kind, Whole):
        values = [1, 2, 3, 4, 7, 10, 20]
    else:
        values = [0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 0.99, 1.0, 1.5, 5.0, 30.0, 100.0, -0.5]
    return [v for v in values if v != option.default and kind.accepts(v, {"value_dim": DIM, "key_dim": DIM})]


def shown(name: str, options: dict[str, Any]) -> list[torch.Tensor]:
    """What it answers noisy cues, tells of its slots and of a loss, and claims, after a stream, from one seed."""
    torch.manual_seed(0)
    memory = getattr(reference, name)(DIM, DIM, **options)
    spec, g = memory.spec, torch.Generator().manual_seed(1)
    keys, values = pairs.pairs(spec.key_domain, spec.value_domain, 24, DIM, DIM, g, spec.association)
    noise = torch.randn(48, DIM, generator=g)
    cues = keys.repeat(2, 1) + 0.5 * noise
    cues = cues.sign() if spec.key_domain == "sign" else cues
    for part in (slice(0, 10), slice(4, 7), slice(10, 24), slice(20, 24)):
        memory.update(keys[part], values[part])
    trained = float(sum(p.numel() for p in memory.parameters()))
    out = [memory.query(cues), memory.query(keys), torch.tensor([float(spec.presentations), trained])]
    for told in ("slot_usage", "confidence"):
        method = getattr(memory, told, None)
        if callable(method):
            out.append(method() if told == "slot_usage" else method(cues))
    if callable(getattr(memory, "auxiliary_loss", None)):
        out.append(memory.auxiliary_loss(keys, values))
    if callable(getattr(memory, "gc", None)):
        memory.gc()
        out.append(memory.query(cues))
    return [x.detach() for x in out]


def differ(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("name", "option", "declaration"), options())
def test_option_changes_something(name: str, option: str, declaration: Option) -> None:
    beside = BESIDE.get((name, option), {})
    plain = shown(name, beside)
    assert any(differ(shown(name, {**beside, option: value}), plain) for value in candidates(declaration)), (
        f"{option} is read by nothing"
    )


def test_exceptions_are_options_that_exist() -> None:
    for name, exempt in [*SAME_ANSWERS.items(), *ELSEWHERE.items()]:
        assert exempt <= declared(getattr(reference, name)).keys()
    for name, option in BESIDE:
        assert option in declared(getattr(reference, name))


def test_options_that_show_elsewhere():
    """presentations in the spec; the cache's threshold once it is full, its temperature in the loss; projections train."""
    assert EpisodicMemory(5, 3, presentations=3).spec.presentations == 3
    assert ProjectingEpisodicMemory(5, 3, presentations=3).spec.presentations == 3
    caches = [CachedMemory(5, 3, capacity=3, similarity_threshold=t, temperature=t) for t in (0.01, 0.99)]
    for cache in caches:
        cache.update(drawn(9, 5).float(), drawn(9, 3, seed=1).float())
    assert not torch.equal(caches[0].state.keys, caches[1].state.keys)
    for cache in caches:
        cache.state = caches[0].state
    losses = [cache.auxiliary_loss(drawn(9, 5).float(), drawn(9, 3, seed=1).float()) for cache in caches]
    assert losses[0] != losses[1]
    assert ProjectingEpisodicMemory(5, 3, projection="learned").value_projection.requires_grad
