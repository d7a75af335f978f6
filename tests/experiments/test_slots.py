"""Slots: the statistics against loops and hand-worked cases, the experiment on a plain-Python store."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, MemspecError, NotAsked
from memspec.experiments import slots as axis
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug


def test_even_and_single_use() -> None:
    p = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0], [0.0] * 4], dtype=torch.float64)
    found = axis.evenness(p)
    assert found["entropy"].tolist() == pytest.approx([1, 0, 0])
    assert found["perplexity"].tolist() == pytest.approx([1, 0.25, 0])
    assert found["dead"].tolist() == pytest.approx([0, 0.75, 1])
    assert found["gini"].tolist() == pytest.approx([0, 0.75, 0])


def test_gini_is_the_mean_absolute_difference() -> None:
    mass = torch.rand(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = axis.evenness(axis.shares(mass))["gini"]
    for row, gini in zip(mass.numpy(), got.tolist()):
        assert gini == pytest.approx(np.abs(row[:, None] - row[None]).mean() / (2 * row.mean()))


def test_information_by_hand() -> None:
    eye, even = torch.eye(8, dtype=torch.float64), torch.full((8, 8), 1 / 8, dtype=torch.float64)
    pairs = eye[:, ::2] + eye[:, 1::2]  # two items share a slot
    assert axis.information(torch.stack((eye, even))).tolist() == pytest.approx([3, 0])
    assert axis.information(pairs[None]).item() == pytest.approx(2)


def test_information_of_missing_mass() -> None:
    """Half of the items read nothing at all: one bit, told by the slot "none"."""
    weights = torch.zeros(1, 4, 3, dtype=torch.float64)
    weights[0, :2, 0] = 1
    assert axis.information(weights).item() == pytest.approx(1)
    assert axis.information(torch.zeros(1, 4, 3)).item() == 0


def test_information_against_loops() -> None:
    weights = torch.rand(1, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p = (weights / weights.sum(-1, keepdim=True))[0].numpy()
    joint = p / 5
    expected = sum(
        joint[i, s] * math.log2(joint[i, s] / (joint.sum(1)[i] * joint.sum(0)[s])) for i in range(5) for s in range(6)
    )
    assert axis.information(torch.as_tensor(p)[None]).item() == pytest.approx(expected)


def test_spread() -> None:
    same, apart = torch.ones(4, 3), torch.eye(4, 3)
    opposite = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    p = torch.full((4, 4), 0.25)
    found = axis.spread(torch.stack((same, opposite, torch.zeros(4, 3), apart)), p)
    assert found.tolist() == pytest.approx([0, 1, 0, 1 - 1 / 4 * 3 / 3], abs=1e-6)


def test_changes_of_a_growing_store() -> None:
    seen = [torch.zeros(1, 0), torch.ones(1, 1), torch.ones(1, 2)]
    assert axis.changes(seen).tolist() == [[[1, 0], [0, 1]]]


class Ring:
    """Slots in plain Python: the next item takes the next slot; reads the nearest."""

    def __init__(self, key_dim: int, value_dim: int, capacity: int) -> None:
        self.sizes = capacity, key_dim, value_dim
        self.reset()

    def reset(self) -> None:
        s, k, v = self.sizes
        self.keys, self.values, self.used, self.next = torch.zeros(s, k), torch.zeros(s, v), torch.zeros(s), 0

    def update(self, keys: Tensor, values: Tensor) -> None:
        for k, v in zip(keys, values):
            at = self.next % self.sizes[0]
            self.keys[at], self.values[at], self.used[at], self.next = k, v, 1.0, self.next + 1

    def query(self, keys: Tensor) -> Tensor:
        return self.read_weights(keys) @ self.values

    def read_weights(self, keys: Tensor) -> Tensor:
        return torch.nn.functional.one_hot((keys @ self.keys.T).argmax(-1), self.sizes[0]).float()

    def slot_values(self) -> Tensor:
        return self.values

    def slot_usage(self) -> Tensor:
        return self.used


def test_a_good_store_uses_every_slot_once() -> None:
    found = axis.USE.measure(Plug("Ring", Ring), axis.Items(), range(3), 0)
    for name in ("write_information", "read_information"):
        assert found[name].tolist() == pytest.approx([5.0] * 3)  # type: ignore[union-attr]
    assert found["usage_dead"].tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert found["query_entropy"].tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert float(found["slot_spread"].min()) > 0.9  # type: ignore[union-attr]


def test_a_functional_store_gives_one_slot_an_item() -> None:
    found = axis.USE.measure(load_plug("memspec.reference:SoftmaxMemory"), axis.Items(), range(3), 0)
    assert found["write_information"].tolist() == pytest.approx([5.0] * 3)  # type: ignore[union-attr]


def test_what_cannot_be_measured_says_so() -> None:
    with pytest.raises(NotAsked, match="neither Slotted nor Addressable"):
        axis.USE.measure(load_plug("memspec.reference:DeltaMemory"), axis.Items(), range(1), 0)
    with pytest.raises(CannotMeasure, match="one slot"):
        axis.USE.measure(Plug("One", Ring, {"capacity": 1}), axis.Items(), range(1), 0)


def test_negative_usage_is_named() -> None:
    class Negative(Ring):
        def slot_usage(self) -> Tensor:
            return -self.used

    with pytest.raises(MemspecError, match="slot_usage answered -1"):
        axis.USE.measure(Plug("Negative", Negative), axis.Items(), range(1), 0)
