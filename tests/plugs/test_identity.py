"""Which factories are one, and what they are called."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

import memspec
from memspec.errors import PlugError
from memspec.fixtures.plain import PlainStore, PlainSums
from memspec.plugs.identity import name_of, same_factory
from memspec.plugs.plug import Plug
from memspec.reference import DeltaMemory, SoftmaxMemory
from memspec.running.options import Options
from memspec.running.session import Session


def closing_over(kind: Any, number: int = 0) -> Any:
    def make(key_dim: int, value_dim: int) -> Any:
        return (kind, kind)[number](key_dim, value_dim)

    return make


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (DeltaMemory, DeltaMemory, True),
        (DeltaMemory, SoftmaxMemory, False),
        (partial(DeltaMemory), DeltaMemory, True),
        (partial(DeltaMemory), partial(SoftmaxMemory), False),
        (partial(DeltaMemory, beta=0.5), partial(DeltaMemory, beta=0.5), True),
        (partial(DeltaMemory, beta=0.5), partial(DeltaMemory, beta=0.25), False),
        (partial(DeltaMemory, start=torch.ones(2)), partial(DeltaMemory, start=torch.ones(2)), True),
        (partial(DeltaMemory, start=torch.ones(2)), partial(DeltaMemory, start=torch.zeros(2)), False),
        (closing_over(PlainSums), closing_over(PlainSums), True),
        (closing_over(PlainSums), closing_over(PlainStore), False),
        (memspec.adapt(PlainSums), memspec.adapt(PlainSums), True),
        (memspec.adapt(PlainSums), memspec.adapt(PlainSums, reset="reset"), False),
    ],
)
def test_a_factory_is_its_identity_and_its_arguments(a: Any, b: Any, same: bool) -> None:
    assert same_factory(a, b) is same
    assert same_factory(b, a) is same


def test_a_partial_is_called_by_its_function_and_arguments() -> None:
    module = DeltaMemory.__module__
    assert name_of(partial(DeltaMemory)) == f"{module}:DeltaMemory"
    assert name_of(partial(DeltaMemory, beta=0.5)) == f"{module}:DeltaMemory(beta=0.5)"
    assert name_of(partial(DeltaMemory, rule=print, start=torch.ones(2))) == (
        f"{module}:DeltaMemory(rule=print, start=Tensor)"
    )


def test_the_same_factory_twice_is_one_plug() -> None:
    session = Session(Options())
    first = session.plug(partial(DeltaMemory, beta=0.5))
    assert session.plug(partial(DeltaMemory, beta=0.5)) is first
    assert session.plug("memspec.reference:DeltaMemory") is session.plug("memspec.reference:DeltaMemory")
    assert session.plug(first) is first


def test_partials_of_two_classes_are_two_plugs() -> None:
    session = Session(Options())
    delta, softmax = session.plug(partial(DeltaMemory)), session.plug(partial(SoftmaxMemory))
    assert isinstance(delta.build(), DeltaMemory)
    assert isinstance(softmax.build(), SoftmaxMemory)
    assert delta.name != softmax.name


@pytest.mark.parametrize(
    "other",
    [closing_over(PlainSums, 1), Plug(name_of(closing_over(PlainSums)), PlainStore)],
    ids=["factory", "plug"],
)
def test_two_factories_of_one_name_are_an_error_that_says_so(other: Any) -> None:
    session = Session(Options())
    session.plug(closing_over(PlainSums))
    with pytest.raises(PlugError, match=r"two different memories are called .*closing_over[^$]*memspec\.Plug") as told:
        session.plug(other)
    assert "test_identity.py:" in str(told.value)
