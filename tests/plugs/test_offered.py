"""Capabilities are methods that fit, or what the spec says of them; nothing else of the same name counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspec import MemorySpec
from memspec.errors import PlugError
from memspec.fixtures.plain import PlainModule, PlainSums
from memspec.plugs.loading import checked
from memspec.plugs.plug import Plug
from memspec.protocol import capabilities_of


def capabilities(factory: Any) -> frozenset[str]:
    return checked(Plug("one", factory)).capabilities


class Gated(PlainModule):
    """Its forget gate is a layer, its confidence a class."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.forget = nn.Linear(key_dim, 1)
        self.confidence = nn.Sigmoid


def test_submodules_and_classes_are_no_methods() -> None:
    assert capabilities(Gated) == capabilities(PlainModule)


class Helpers(PlainSums):
    """Methods of its own that take something else."""

    def init_state(self) -> None: ...

    def write(self, row: Tensor) -> None: ...

    def read(self) -> Tensor:
        return self.matrix

    def touch(self) -> None: ...

    def forget(self, keys: Tensor, *, rate: float) -> None: ...


def test_helpers_that_take_other_arguments_are_no_capability() -> None:
    assert capabilities(Helpers) == frozenset()


class Likely(PlainSums):
    """Helpers that take as many arguments as the functional form does."""

    def init_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.key_dim, self.value_dim)

    def write(self, state: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return state + keys[:, :, None] * values[:, None]

    def read(self, state: Tensor, keys: Tensor) -> Tensor:
        return (keys[:, None] @ state)[:, 0]


class SwitchedOff(Likely):
    spec = MemorySpec(capabilities={"Functional": False})


def test_helpers_that_look_alike_can_be_switched_off() -> None:
    with pytest.raises(PlugError, match=r'(?s)init_state.*MemorySpec\(capabilities=\{"Functional": False\}\)'):
        capabilities(Likely)
    assert capabilities(SwitchedOff) == frozenset()


class Abstract(PlainSums):
    """Has what its base class names, and offers none of it."""

    def confidence(self, keys: Tensor) -> Tensor:
        raise NotImplementedError

    def forget(self, keys: Tensor) -> None:
        raise NotImplementedError("not for sums")

    def slot_usage(self) -> Tensor:
        return torch.ones(1)


def test_not_implemented_is_not_offered() -> None:
    assert capabilities(Abstract) == {"Slotted"}


class Yes(PlainSums):
    """Says yes to every name, as a proxy or a mock does."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: None

    def slot_usage(self) -> Tensor:
        return torch.ones(1)


def test_what_answers_to_every_name_has_only_what_it_defines() -> None:
    memory = Yes(3, 2)
    memory.spec = MemorySpec()
    assert capabilities_of(memory) == {"Slotted"}


class Callable:
    def __call__(self, keys: Tensor) -> Tensor:
        return keys.new_ones(len(keys))


class Declares(PlainSums):
    """Its confidence is an object that can be called."""

    spec = MemorySpec(capabilities={"Confident": True})

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.confidence = Callable()


class DeclaresInVain(PlainSums):
    spec = MemorySpec(capabilities={"Addressable": True})


def test_capabilities_can_be_declared() -> None:
    assert capabilities(Declares) == {"Confident"}
    with pytest.raises(PlugError, match="says that it is Addressable, but it has no read_weights and no slot_values"):
        capabilities(DeclaresInVain)
    with pytest.raises(ValueError, match="names \\['Confidence'\\]; it takes Confident, "):
        MemorySpec(capabilities={"Confidence": True})


def test_specs_with_capabilities_can_be_hashed_and_written() -> None:
    spec = MemorySpec(capabilities={"Functional": False})
    assert hash(spec) == hash(MemorySpec())
    assert spec.to_json()["capabilities"] == {"Functional": False}
