"""GatedDelta, least squares, linear attention: oracles and identities with other architectures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from memspec.fixtures.data.pairs import orthonormal, unit
from memspec.reference import (
    DeltaMemory,
    GatedDeltaMemory,
    LeastSquaresMemory,
    LinearAttentionMemory,
    MatrixAssociativeMemory,
)
from memspec.reference.ops.delta import delta


def pairs(n: int, dk: int = 12, dv: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    keys = unit(torch.randn(n, dk, generator=g, dtype=torch.float64))
    return keys, torch.randn(n, dv, generator=g, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- gated delta ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_gated_delta_equals_the_recurrence(chunk: int) -> None:
    """Every chunk size gives S <- alpha (I - beta k k^T) S + beta k v^T, with gates that differ from row to row."""
    keys, values = pairs(17)
    g = torch.Generator().manual_seed(1)
    alpha = 0.5 + 0.5 * torch.rand(17, generator=g, dtype=torch.float64)
    beta = 1.9 * torch.rand(17, generator=g, dtype=torch.float64)
    start = torch.randn(12, 7, generator=g, dtype=torch.float64)
    s = start.numpy().copy()
    for k, v, a, b in zip(keys.numpy(), values.numpy(), alpha.numpy(), beta.numpy()):
        s = a * (np.eye(12) - b * np.outer(k, k)) @ s + b * np.outer(k, v)
    close(delta(start, keys, values, beta, alpha.log(), chunk), torch.from_numpy(s))


def test_gated_delta_survives_strong_decay_in_long_chunks() -> None:
    """0.5^512 underflows; differences of logarithms do not."""
    keys, values = pairs(512)
    memory = GatedDeltaMemory(12, 7, alpha=0.5, chunk=512).double()
    memory.update(keys, values)
    rows = GatedDeltaMemory(12, 7, alpha=0.5, form="rows").double()
    rows.update(keys, values)
    close(memory.query(keys), rows.query(keys))


def test_gated_delta_without_decay_is_the_delta_rule() -> None:
    keys, values = pairs(40)
    gated, plain = GatedDeltaMemory(12, 7, alpha=1.0).double(), DeltaMemory(12, 7).double()
    gated.update(keys, values)
    plain.update(keys, values)
    close(gated.query(keys), plain.query(keys))


def test_gated_delta_gain_of_an_old_item_is_alpha_to_its_age() -> None:
    """Orthonormal keys do not interfere, so an item of age a answers alpha^a v."""
    g = torch.Generator().manual_seed(0)
    keys = orthonormal(8, 12, g).double()
    values = torch.randn(8, 7, generator=g, dtype=torch.float64)
    memory = GatedDeltaMemory(12, 7, alpha=0.9).double()
    memory.update(keys, values)
    ages = torch.arange(7, -1, -1, dtype=torch.float64)
    close(memory.query(keys), 0.9 ** ages[:, None] * values, 1e-6)  # orthonormal to float32 only


# ---- least squares --------------------------------------------------------------------------------------------


def test_least_squares_is_the_ridge_solution() -> None:
    keys, values = pairs(30)
    memory = LeastSquaresMemory(12, 7, ridge=0.1).double()
    memory.update(keys[:11], values[:11])
    memory.update(keys[11:], values[11:])
    k, v = keys.numpy(), values.numpy()
    expected = k @ np.linalg.solve(k.T @ k + 0.1 * np.eye(12), k.T @ v)
    close(memory.query(keys), torch.from_numpy(expected))


def test_least_squares_tends_to_the_pseudo_inverse() -> None:
    """As the ridge goes to 0; independent keys are then exact.

    The error is ridge / (smallest eigenvalue), while rounding is amplified by 1 / ridge: both are 1e-6 or less here.
    """
    keys, values = pairs(9)
    memory = LeastSquaresMemory(12, 7, ridge=1e-8).double()
    memory.update(keys, values)
    close(memory.query(keys), values, 1e-6)
    probe, _ = pairs(5, seed=1)
    close(memory.query(probe), torch.from_numpy(probe.numpy() @ np.linalg.pinv(keys.numpy()) @ values.numpy()), 1e-6)


def test_least_squares_equals_many_delta_sweeps() -> None:
    """Kaczmarz: sweeping the delta rule over independent keys converges to the pseudo-inverse."""
    keys, values = pairs(6)
    least, delta = LeastSquaresMemory(12, 7, ridge=1e-8).double(), DeltaMemory(12, 7).double()
    least.update(keys, values)
    for _ in range(2000):
        delta.update(keys, values)
    probe, _ = pairs(5, seed=1)
    close(least.query(probe), delta.query(probe), 1e-6)


def test_least_squares_with_decay_is_weighted_least_squares() -> None:
    keys, values = pairs(30)
    memory = LeastSquaresMemory(12, 7, ridge=0.1, decay=0.9).double()
    memory.update(keys[:4], values[:4])
    memory.update(keys[4:], values[4:])
    w = 0.9 ** np.arange(29, -1, -1)[:, None]
    k, v = keys.numpy(), values.numpy()
    expected = k @ np.linalg.solve(k.T @ (w * k) + 0.1 * np.eye(12), k.T @ (w * v))
    close(memory.query(keys), torch.from_numpy(expected))


# ---- linear attention -----------------------------------------------------------------------------------------


def test_linear_attention_is_the_explicit_kernel_average() -> None:
    keys, values = pairs(10)
    memory = LinearAttentionMemory(12, 7).double()
    memory.update(keys, values)
    probe, _ = pairs(4, seed=1)

    def phi(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x + 1, np.exp(x))

    kernel = phi(probe.numpy()) @ phi(keys.numpy()).T
    close(memory.query(probe), torch.from_numpy(kernel / kernel.sum(1, keepdims=True) @ values.numpy()))


def test_unnormalised_identity_linear_attention_is_hebb() -> None:
    keys, values = pairs(10)
    linear = LinearAttentionMemory(12, 7, feature_map="identity", normalise=False, key_norm="none").double()
    hebb = MatrixAssociativeMemory(12, 7).double()
    for memory in (linear, hebb):
        memory.update(keys, values)
    close(linear.query(keys), hebb.query(keys))


def test_normalised_answers_are_convex_combinations() -> None:
    """Positive features: every answer lies between the smallest and the largest stored value."""
    for feature_map in ("elu", "relu", "dpfp"):
        keys, values = pairs(10)
        memory = LinearAttentionMemory(12, 7, feature_map=feature_map).double()
        memory.update(keys, values)
        answers = memory.query(pairs(50, seed=2)[0])
        nonzero = answers.abs().sum(-1) > 0  # a query without a common feature answers zeros
        assert (answers[nonzero] <= values.max(0).values + 1e-12).all()
        assert (answers[nonzero] >= values.min(0).values - 1e-12).all()


def test_dpfp_features_are_products_of_neighbours() -> None:
    memory = LinearAttentionMemory(2, 1, feature_map="dpfp", key_norm="none").double()
    # relu([x, -x]) of (3, -2) is (3, 0, 0, 2); times its roll (2, 3, 0, 0).
    assert memory.features(torch.tensor([[3.0, -2.0]])).tolist() == [[6.0, 0.0, 0.0, 0.0]]


def test_ridge_cost_is_as_documented() -> None:
    """One unit pair: relative error ridge / (ridge + 1)."""
    keys, values = pairs(1)
    memory = LeastSquaresMemory(12, 7, ridge=0.25).double()
    memory.update(keys, values)
    close(memory.query(keys), values * (1 - 0.25 / 1.25))
    assert math.isclose(0.25 / 1.25, 0.2)
