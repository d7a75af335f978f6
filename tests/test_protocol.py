"""The contract's own objects: specs refuse nonsense, capabilities are found by their methods."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from memspec.protocol import CAPABILITIES, MemoryProtocol, MemorySpec, capabilities_of, spec_of
from memspec.reference import DeltaMemory, ExactMemory


def test_every_default_is_the_weakest_promise() -> None:
    spec = MemorySpec()
    assert spec.family == "generic"
    assert not any((spec.exact, spec.constant_state, spec.deterministic, spec.inference_mode, spec.differentiable))
    assert {spec.write, spec.overwrite, spec.eviction, spec.empty_read, spec.nonfinite} == {"none"}
    assert spec.beta is None


@pytest.mark.parametrize(
    ("field", "value", "listed"),
    [
        ("family", "hopfield", "hebbian"),
        ("write", "batch", "sequential"),
        ("overwrite", "yes", "replace"),
        ("eviction", "mru", "lru"),
        ("key_domain", "binary", "onehot"),
        ("nonfinite", True, "reject"),
        ("differentiable", {"query", "slots"}, "values"),
        ("presentations", 0, "from 1 to"),
        ("capacity", 0, "at least 1"),
    ],
)
def test_a_wrong_value_is_named_with_the_choices(field: str, value: object, listed: str) -> None:
    with pytest.raises(ValueError, match=listed) as caught:
        MemorySpec(**{field: value})
    assert field in str(caught.value)


def test_a_spec_is_json() -> None:
    assert json.loads(json.dumps(MemorySpec(differentiable={"values", "query"}).to_json()))["differentiable"] == [
        "query",
        "values",
    ]


def test_specs_of_objects() -> None:
    class Wrong:
        spec = {"family": "delta"}  # noqa: RUF012

    assert spec_of(object()) == MemorySpec()
    assert spec_of(DeltaMemory(2, 2)).family == "delta"
    with pytest.raises(TypeError, match=r"must be a memspec\.MemorySpec"):
        spec_of(Wrong())


def test_capabilities_are_found_by_their_methods() -> None:
    class Half:
        def read_weights(self, keys: Tensor) -> Tensor: ...

    class Sure:
        confidence = staticmethod(torch.ones_like)

    assert capabilities_of(Half()) == frozenset()  # Addressable needs slot_values too
    assert capabilities_of(Sure()) == {"Confident"}
    assert {"Functional", "Persistent", "Confident"} <= capabilities_of(ExactMemory(2, 2))
    assert len(CAPABILITIES) == 10


def test_delegated_methods_count() -> None:
    class Wrapper:
        def __getattr__(self, name: str) -> object:
            return torch.ones_like if name == "confidence" else object.__getattribute__(self, name)

    assert capabilities_of(Wrapper()) == {"Confident"}


def test_references_keep_the_protocol() -> None:
    assert isinstance(DeltaMemory(2, 2), MemoryProtocol)
    assert not isinstance(object(), MemoryProtocol)


def test_a_spec_cannot_ask_for_showings_without_end() -> None:
    with pytest.raises(ValueError, match="from 1 to 10,000"):
        MemorySpec(presentations=10**9)
