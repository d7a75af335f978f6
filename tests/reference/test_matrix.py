"""MatrixAssociativeMemory against sums written out in numpy, and the theory of the Hebbian family."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import DeltaMemory, MatrixAssociativeMemory


def orthonormal(count: int, dim: int) -> torch.Tensor:
    return torch.linalg.qr(drawn(dim, count, seed=7)).Q.mT


def recalled(memory, keys, values, queries):
    return memory.read(memory.write(memory.init_state(keys.shape[:-2]), keys, values), queries)


@pytest.mark.parametrize("decay", [1.0, 0.9])
@pytest.mark.parametrize("key_norm", ["none", "unit"])
def test_read_is_the_sum_of_outer_products(key_norm, decay):
    """The state after N rows is ``S <- decay S + k v^T`` done row by row in numpy."""
    memory = MatrixAssociativeMemory(5, 3, key_norm=key_norm, decay=decay).double()
    keys, values, queries = drawn(7, 5, seed=1), drawn(7, 3, seed=2), drawn(4, 5, seed=3)
    rows = [k / (np.linalg.norm(k) if key_norm == "unit" else 1) for k in keys.numpy()]
    asked = [q / (np.linalg.norm(q) if key_norm == "unit" else 1) for q in queries.numpy()]
    matrix = np.zeros((5, 3))
    for k, v in zip(rows, values.numpy()):
        matrix = decay * matrix + np.outer(k, v)
    expected = torch.from_numpy(np.stack([q @ matrix for q in asked]))
    torch.testing.assert_close(recalled(memory, keys, values, queries), expected, **EXACT)


def test_orthonormal_keys_are_exact():
    memory = MatrixAssociativeMemory(8, 3).double()
    keys, values = orthonormal(8, 8), drawn(8, 3)
    torch.testing.assert_close(recalled(memory, keys, values, keys), values, **EXACT)


def test_gain_of_a_raw_key_is_its_squared_length():
    memory = MatrixAssociativeMemory(6, 4).double()
    key, value = drawn(1, 6), drawn(1, 4, seed=1)
    torch.testing.assert_close(recalled(memory, key, value, key), key.square().sum() * value, **EXACT)


def test_negative_values_delete():
    """Writing ``-v`` under the same keys gives back the fresh memory."""
    memory = MatrixAssociativeMemory(6, 4).double()
    keys, values = drawn(5, 6), drawn(5, 4, seed=1)
    memory.update(keys, values)
    memory.update(keys, -values)
    torch.testing.assert_close(memory.query(drawn(3, 6, seed=2)), torch.zeros(3, 4, dtype=torch.float64), **EXACT)


def test_order_does_not_matter_without_decay_and_does_with_it():
    keys, values, order = drawn(5, 6), drawn(5, 4, seed=1), [3, 1, 4, 0, 2]
    for decay, same in ((1.0, True), (0.8, False)):
        memory = MatrixAssociativeMemory(6, 4, decay=decay).double()
        one, other = recalled(memory, keys, values, keys), recalled(memory, keys[order], values[order], keys)
        assert torch.allclose(one, other, rtol=0, atol=1e-10) is same


@pytest.mark.parametrize("count", [8, 32, 128])
def test_random_keys_follow_the_closed_forms(count):
    """Unit keys, N(0, 1) values, d = 64: relative MSE (N-1)/d, and mean cosine about 1/sqrt(1 + (N-1)/d)."""
    trials, dim = 100, 64
    keys, values = torch.nn.functional.normalize(drawn(trials, count, dim), dim=-1), drawn(trials, count, dim, seed=1)
    answers = recalled(MatrixAssociativeMemory(dim, dim).double(), keys, values, keys)
    load = (count - 1) / dim
    errors = (answers - values).square().mean((-1, -2))
    assert abs(errors.mean() - load) < 4 * errors.std() / trials**0.5
    cosine = torch.nn.functional.cosine_similarity(answers, values, dim=-1).mean().item()
    assert cosine == pytest.approx((1 + load) ** -0.5, abs=0.01)


def test_equals_delta_rule_on_orthonormal_keys():
    keys, values, queries = orthonormal(6, 8), drawn(6, 3), drawn(5, 8, seed=5)
    hebb = recalled(MatrixAssociativeMemory(8, 3, key_norm="unit").double(), keys, values, queries)
    torch.testing.assert_close(hebb, recalled(DeltaMemory(8, 3).double(), keys, values, queries), **EXACT)


def test_long_decay_in_one_update_neither_overflows_nor_vanishes():
    """5,000 rows in one call, decay 0.5: only the last few count, and they count fully."""
    memory = MatrixAssociativeMemory(2, 1, decay=0.5)
    memory.update(torch.tensor([[1.0, 0.0]]).expand(5000, 2), torch.ones(5000, 1))
    assert memory.query(torch.tensor([[1.0, 0.0]])).item() == pytest.approx(2.0)  # sum of 2^-n


def test_decay_withdraws_the_claims_it_breaks():
    spec = MatrixAssociativeMemory(4, 4, decay=0.9).spec
    assert (spec.family, spec.write, spec.overwrite) == ("generic", "sequential", "none")
