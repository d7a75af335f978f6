"""The two anchors: a dictionary compared with a dict, and zeros."""

from __future__ import annotations

import pytest
import torch

from drawing import drawn
from memspec.reference import ExactMemory, NullMemory


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30], ids=["ordinary", "tiny", "huge"])
def test_exact_memory_is_a_dict(scale):
    """Random writes and rewrites of float32 keys, close together and of any size, answer as a Python dict, bit for bit."""
    generator = torch.Generator().manual_seed(3)
    pool = scale * (1 + torch.arange(12)[:, None] * 2**-18 * torch.ones(12, 4))  # neighbours differ in the sixth digit
    memory, truth = ExactMemory(4, 3), {}
    for _ in range(15):
        rows = torch.randint(12, (3,), generator=generator)
        values = torch.randn(3, 3, generator=generator)
        memory.update(pool[rows], values)
        truth.update(zip(rows.tolist(), values))
        known = list(truth)
        assert torch.equal(memory.query(pool[known]), torch.stack([truth[i] for i in known]))


def test_an_unknown_key_answers_as_its_nearest():
    memory = ExactMemory(3, 2).double()
    keys, values, queries = drawn(9, 3), drawn(9, 2, seed=1), drawn(20, 3, seed=2)
    memory.update(keys, values)
    for query, answer in zip(queries, memory.query(queries)):
        nearest = min(range(9), key=lambda i: float(((keys[i] - query) ** 2).sum()))
        assert torch.equal(answer, values[nearest])


def test_confidence_falls_with_the_distance():
    memory = ExactMemory(2, 1).double()
    assert memory.confidence(drawn(2, 2)).eq(0).all()
    memory.update(torch.zeros(1, 2).double(), torch.ones(1, 1).double())
    asked = torch.tensor([[0.0, 0], [3, 4]], dtype=torch.float64)
    torch.testing.assert_close(memory.confidence(asked), torch.tensor([1, 1 / 6], dtype=torch.float64))


def test_saved_pairs_are_restored_into_a_fresh_memory():
    memory, other = ExactMemory(3, 2), ExactMemory(3, 2)
    memory.update(torch.eye(3), torch.ones(3, 2))
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.query(torch.eye(3)), torch.ones(3, 2))
    with pytest.raises(RuntimeError, match=r"not \[n, 4\]"):
        ExactMemory(4, 2).load_state_dict(memory.state_dict())


def test_null_memory_answers_zeros():
    memory = NullMemory(3, 2)
    memory.update(torch.eye(3), torch.ones(3, 2))
    assert torch.equal(memory.query(torch.eye(3)), torch.zeros(3, 2))
