"""Cost: bytes and operations against hand counts and torch's own counter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from memspec.experiments import cost as axis
from memspec.experiments.base import Curve
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.reference import SoftmaxMemory


class Bag:
    def __init__(self, **parts: object) -> None:
        self.__dict__.update(parts)


def test_a_view_keeps_all_of_its_storage() -> None:
    batch = torch.zeros(100, 8)
    assert axis.reachable_bytes(Bag(last=batch[-1])) == 3200


def test_shared_storage_counts_once() -> None:
    batch = torch.zeros(10, 8)
    assert axis.reachable_bytes(Bag(a=batch, b=batch[2:], c=[batch.T])) == 320


def test_arrays_and_nested_lists_count() -> None:
    assert axis.reachable_bytes(Bag(a=np.zeros(4), log=[{"x": torch.zeros(2)}, (torch.zeros(3),)])) == 32 + 8 + 12


class Learner(nn.Module):
    """State in Parameters that update changes, slow weights that it does not."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.slow = nn.Parameter(torch.ones(10, 10))
        self.matrix = nn.Parameter(torch.zeros(key_dim, value_dim))

    def reset(self) -> None:
        with torch.no_grad():
            self.matrix.zero_()

    def update(self, keys: Tensor, values: Tensor) -> None:
        with torch.no_grad():
            self.matrix += keys.T @ values

    def query(self, keys: Tensor) -> Tensor:
        return (keys @ self.matrix).detach()


def test_parameters_that_change_are_state() -> None:
    found = axis.GROWTH.measure(Plug("Learner", Learner), axis.Growth(), range(2), 0)
    held = found["state_bytes"]
    assert isinstance(held, Curve)
    assert held.values.tolist() == [[64 * 64 * 4.0] * 4] * 2


def test_bytes_of_a_growing_store() -> None:
    found = axis.GROWTH.measure(load_plug("memspec.reference:ExactMemory"), axis.Growth(), range(2), 0)
    assert found["state_bytes"].values.tolist() == [[n * 512.0 for n in (0, 32, 128, 256)]] * 2  # type: ignore[union-attr]
    assert found["bytes_per_pair"].tolist() == [512, 512]  # type: ignore[union-attr]
    assert found["bits_per_state_bit"].tolist() == pytest.approx([256 * 8 / (256 * 512 * 8)] * 2)  # type: ignore[union-attr]
    assert found["bytes_kept_by_reset"].tolist() == [0, 0]  # type: ignore[union-attr]


def test_operations_are_those_of_torchs_counter() -> None:
    a, b = torch.randn(3, 16, 8), torch.randn(3, 8, 4)
    attention = nn.functional.scaled_dot_product_attention

    def work() -> Tensor:
        return torch.einsum("bij,bjk->bik", a, b).sum() + (a[0] @ b[0]).sum() + attention(a, a, a).sum()

    with FlopCounterMode(display=False) as counter:
        work()
    assert axis.flops(work) == counter.get_total_flops() > 0
    memory = SoftmaxMemory(16, 16)
    memory.update(torch.randn(4, 16), torch.randn(4, 16))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        memory.query(torch.randn(5, 16))
    with torch.inference_mode():
        assert axis.flops(lambda: memory.query(torch.randn(5, 16))) == counter.get_total_flops() > 0


def test_what_is_not_seen_is_unknown_not_free() -> None:
    assert math.isnan(axis.flops(lambda: np.ones((4, 4)) @ np.ones((4, 4))))


def test_growth_exponent() -> None:
    at = (32, 128, 256)
    times = torch.tensor([[3.0, 3.0, 3.0], [32e-6, 128e-6, 256e-6], [1.0, 16.0, 64.0]], dtype=torch.float64)
    assert axis.growth_exponent(times, at).tolist() == pytest.approx([0, 1, 2], abs=1e-6)


def test_times_are_positive_and_finite() -> None:
    found = axis.GROWTH.measure(load_plug("memspec.reference:DeltaMemory"), axis.Growth(), range(2), 0)
    for name in ("update_seconds", "update_seconds_p95", "query_seconds", "query_seconds_p95"):
        values = found[name].values  # type: ignore[union-attr]
        assert values.shape == (2, 3)
        assert (values > 0).all()
        assert torch.isfinite(values).all()
    assert (found["update_seconds_p95"].values >= found["update_seconds"].values).all()  # type: ignore[union-attr]
