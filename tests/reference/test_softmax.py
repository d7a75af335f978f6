"""SoftmaxMemory against the closed form for orthonormal keys, a loop in numpy, and its two limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import SoftmaxMemory


@pytest.mark.parametrize("beta", [1.0, 8.0, 16.0])
def test_orthonormal_keys_have_the_closed_form(beta):
    """Asking for key j gives ``(p - c) v_j + c sum_i v_i`` with p, c of e^beta (any nonzero lengths: cosine)."""
    count = 6
    memory = SoftmaxMemory(8, 3, capacity=10, beta=beta).double()
    keys, values = torch.linalg.qr(drawn(8, 8)).Q[:count], drawn(count, 3, seed=1)
    memory.update(keys * torch.arange(1, count + 1)[:, None], values)
    share = 1 / (math.exp(beta) + count - 1)
    expected = (math.exp(beta) * share - share) * values + share * values.sum(0)
    torch.testing.assert_close(memory.query(5 * keys), expected, **EXACT)


@pytest.mark.parametrize("key_norm", ["unit", "none"])
def test_read_is_attention_over_the_newest_pairs(key_norm):
    """A ring of 5 after 3 + 4 + 9 rows equals softmax over the last 5, in numpy."""
    memory = SoftmaxMemory(6, 3, capacity=5, beta=2.5, key_norm=key_norm).double()
    keys, values, queries = drawn(16, 6), drawn(16, 3, seed=1), drawn(4, 6, seed=2)
    written = 0
    for n in (3, 4, 9):
        memory.update(keys[written : written + n], values[written : written + n])
        written += n
        kept_k, kept_v = keys[:written][-5:].numpy(), values[:written][-5:].numpy()
        expected = []
        for q in queries.numpy():
            scores = np.array([q @ k for k in kept_k])
            if key_norm == "unit":
                scores /= np.linalg.norm(q) * np.linalg.norm(kept_k, axis=1)
            weights = np.exp(2.5 * scores)
            expected.append((weights / weights.sum()) @ kept_v)
        torch.testing.assert_close(memory.query(queries), torch.from_numpy(np.stack(expected)), **EXACT)


def test_slots_not_in_use_have_exactly_no_weight():
    memory = SoftmaxMemory(4, 2, capacity=6).double()
    assert memory.query(drawn(3, 4)).eq(0).all()
    assert memory.read_weights(drawn(3, 4)).eq(0).all()
    assert memory.confidence(drawn(3, 4)).eq(0).all()
    memory.update(drawn(2, 4), drawn(2, 2))
    weights = memory.read_weights(drawn(3, 4, seed=1))
    assert weights[:, 2:].eq(0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(weights @ memory.slot_values(), memory.query(drawn(3, 4, seed=1)), **EXACT)


def test_margin_bound_and_the_nearest_neighbour_limit():
    """``1 - w_j <= (N - 1) e^{-beta gap}``; with a large beta the answer is the nearest neighbour's value."""
    keys, values = torch.nn.functional.normalize(drawn(20, 16), dim=-1), drawn(20, 3, seed=1)
    cosines = (keys @ keys.mT).fill_diagonal_(-1)
    gap = 1 - cosines.amax(-1)
    for beta in (4.0, 32.0):
        memory = SoftmaxMemory(16, 3, capacity=20, beta=beta).double()
        memory.update(keys, values)
        assert (1 - memory.read_weights(keys).diagonal() <= 19 * torch.exp(-beta * gap)).all()
    sharp = SoftmaxMemory(16, 3, capacity=20, beta=1e4).double()
    sharp.update(keys, values)
    queries = drawn(9, 16, seed=2)
    torch.testing.assert_close(sharp.query(queries), values[(queries @ keys.mT).argmax(-1)], **EXACT)


def test_weight_on_random_keys_follows_theory():
    """Random unit keys, d = 64, N = 128, beta 8: mean weight near ``1 / (1 + (N-1) exp(-beta + beta^2 / 2d))``."""
    keys = torch.nn.functional.normalize(drawn(50, 128, 64), dim=-1)
    memory = SoftmaxMemory(64, 1, capacity=128, beta=8.0).double()
    memory.state = memory.write(memory.init_state((50,)), keys, keys[..., :1])
    weight = memory.read_weights(keys).diagonal(dim1=-2, dim2=-1).mean().item()
    assert weight == pytest.approx(1 / (1 + 127 * math.exp(-8 + 64 / 128)), abs=0.01)


def test_pairs_under_one_key_answer_with_their_mean():
    memory = SoftmaxMemory(4, 3).double()
    key, values = drawn(1, 4), drawn(3, 3, seed=1)
    memory.update(key.expand(3, 4), values)
    torch.testing.assert_close(memory.query(key), values.mean(0, keepdim=True), **EXACT)


def test_the_order_of_slots_does_not_matter():
    memory = SoftmaxMemory(4, 3, capacity=6).double()
    memory.update(drawn(6, 4), drawn(6, 3, seed=1))
    before = memory.query(drawn(5, 4, seed=2))
    order = [2, 5, 0, 1, 4, 3]
    memory.state = memory.state._replace(keys=memory.state.keys[order], values=memory.state.values[order])
    torch.testing.assert_close(memory.query(drawn(5, 4, seed=2)), before, **EXACT)


def test_usage_counts_the_writes_of_each_slot():
    memory = SoftmaxMemory(4, 3, capacity=4)
    assert memory.slot_usage().tolist() == [0, 0, 0, 0]
    memory.update(torch.ones(3, 4), torch.ones(3, 3))
    assert memory.slot_usage().tolist() == [1, 1, 1, 0]
    memory.update(torch.ones(7, 4), torch.ones(7, 3))
    assert memory.slot_usage().tolist() == [3, 3, 2, 2]


def test_confidence_is_the_cosine_of_the_nearest_key():
    memory = SoftmaxMemory(3, 2).double()
    memory.update(torch.eye(3, dtype=torch.float64)[:2] * 4, torch.ones(2, 2, dtype=torch.float64))
    asked = torch.tensor([[3.0, 4, 0], [0, 0, 1], [-1, -1, 0], [2, 0, 0]], dtype=torch.float64)
    expected = torch.tensor([0.8, 0, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(memory.confidence(asked), expected, **EXACT)
