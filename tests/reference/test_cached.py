"""CachedMemory against integer traces of its replacement rule, a plain-Python copy of it, and closed-form losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import CachedMemory


def labels(*classes: int, of: int = 3) -> torch.Tensor:
    return torch.eye(of, dtype=torch.float64)[list(classes)]


def class_at(memory: CachedMemory) -> list[int]:
    return memory.slot_values().argmax(-1).tolist()


class PlainCache:
    """The rule as the source states it, one row and one slot at a time."""

    def __init__(self, capacity: int, threshold: float, overwrite: bool = False) -> None:
        self.keys: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.capacity, self.threshold, self.overwrite = capacity, threshold, overwrite

    def add(self, key: np.ndarray, value: np.ndarray) -> None:
        cosines = [float(k @ key / np.linalg.norm(k) / np.linalg.norm(key)) for k in self.keys]
        if self.overwrite and cosines and max(cosines) >= self.threshold:
            slot = cosines.index(max(cosines))
        elif len(self.keys) < self.capacity:
            self.keys.append(key)
            self.values.append(value)
            return
        elif max(cosines) >= self.threshold:
            return
        else:
            same = [i for i, v in enumerate(self.values) if v.argmax() == value.argmax()]
            slot = min(same or range(len(cosines)), key=lambda i: cosines[i])
        self.keys[slot], self.values[slot] = key, value


def test_the_published_replacement_trace():
    """Keys e0, e1, e2 of classes 0, 1, 1; (0, .6, .1, .79) of class 1 replaces slot 2, the less similar of its class."""
    memory = CachedMemory(4, 3, capacity=3).double()
    memory.update(torch.eye(4, dtype=torch.float64)[:3], labels(0, 1, 1))
    new = torch.tensor([[0, 0.6, 0.1, 0.79]], dtype=torch.float64)
    memory.update(new, labels(1))
    assert torch.equal(memory.state.keys[2], new[0])
    assert memory.slot_usage().tolist() == [1, 1, 2]


def test_replacement_on_basis_keys_is_an_integer_table():
    """Every branch: a class of its own, a class not stored (lowest of all), a known key (ignored), ties (lowest slot)."""
    basis = torch.eye(6, dtype=torch.float64)
    memory = CachedMemory(6, 3, capacity=3).double()
    memory.update(basis[[0, 1]], labels(0, 1))
    memory.update(basis[[1]], labels(1))  # known, but there is room: appended
    assert class_at(memory) == [0, 1, 1]
    steps = [
        (basis[3], 0, [3, 1, 1], [0, 1, 1]),  # class 0: its only slot
        (basis[4], 2, [4, 1, 1], [2, 1, 1]),  # class 2 is not stored: all cosines 0, the lowest slot
        (basis[5], 1, [4, 5, 1], [2, 1, 1]),  # class 1: slots 1 and 2 tie, the lower goes
        (basis[5], 0, [4, 5, 1], [2, 1, 1]),  # known: ignored
        (0.6 * basis[5] + 0.8 * basis[2], 1, [4, 5, 7], [2, 1, 1]),  # class 1: slot 2 (cosine 0) before slot 1 (.6)
        (basis[0] - basis[4], 0, [8, 5, 7], [0, 1, 1]),  # class 0 is gone: slot 0 has the lowest cosine, -.7
    ]
    names = {7: 0.6 * basis[5] + 0.8 * basis[2], 8: basis[0] - basis[4]}
    for key, label, held, classes in steps:
        memory.update(key[None], labels(label))
        expected = torch.stack([names[i] if i in names else basis[i] for i in held])
        assert torch.equal(memory.state.keys, expected)
        assert class_at(memory) == classes


@pytest.mark.parametrize("known", ["ignore", "overwrite"])
@pytest.mark.parametrize("threshold", [0.8, 0.3])
def test_the_store_is_the_plain_rule(known, threshold):
    """50 random rows into 8 slots, in one update, in unequal ones, and as two memories of one batch."""
    keys, values = drawn(2, 50, 3), drawn(2, 50, 4, seed=1)
    truths = []
    for k, v in zip(keys.numpy(), values.numpy()):
        plain = PlainCache(8, threshold, overwrite=known == "overwrite")
        for row in zip(k, v):
            plain.add(*row)
        truths.append((np.stack(plain.keys), np.stack(plain.values)))
    memory = CachedMemory(3, 4, capacity=8, similarity_threshold=threshold, known=known).double()
    for sizes in ([50], [3, 1, 9, 30, 7], [1] * 50):
        memory.reset((2,))
        for k, v in zip(keys.split(sizes, -2), values.split(sizes, -2)):
            memory.update(k, v)
        for i, (stored_keys, stored_values) in enumerate(truths):
            n = len(stored_keys)
            assert np.array_equal(memory.state.keys[i, :n].numpy(), stored_keys)
            assert np.array_equal(memory.state.values[i, :n].numpy(), stored_values)
            assert memory.slot_usage()[i, n:].eq(0).all()


def test_memories_of_a_batch_may_be_full_at_different_times():
    """One state with 1 free slot beside one with 4: each goes on as it would alone."""
    keys, values = drawn(2, 12, 3), drawn(2, 12, 4, seed=1)
    memory = CachedMemory(3, 4, capacity=5).double()
    starts = [memory.write(memory.init_state(), keys[i, :n], values[i, :n]) for i, n in enumerate((4, 1))]
    alone = [memory.write(s, keys[i, 4:], values[i, 4:]) for i, s in enumerate(starts)]
    together = memory.write(type(starts[0])(*(torch.stack(part) for part in zip(*starts))), keys[:, 4:], values[:, 4:])
    for joint, parts in zip(together, zip(*alone)):
        assert torch.equal(joint, torch.stack(parts))


def test_updates_longer_than_a_block_of_rows(monkeypatch):
    keys, values = drawn(40, 3), drawn(40, 4, seed=1)
    memory = CachedMemory(3, 4, capacity=5).double()
    whole = memory.write(memory.init_state(), keys, values)
    monkeypatch.setattr("memspec.reference.memories.cached.BLOCK", 7)
    for one, other in zip(whole, memory.write(memory.init_state(), keys, values)):
        assert torch.equal(one, other)


def test_read_is_the_value_of_the_nearest_slot():
    """By cosine, whatever the lengths; values of any width come back bit for bit."""
    memory = CachedMemory(5, 7, capacity=20).double()
    keys, values, queries = drawn(9, 5), drawn(9, 7, seed=1), drawn(30, 5, seed=2)
    memory.update(keys, values)
    lengths = np.linalg.norm(keys.numpy(), axis=1)
    cosines = queries.numpy() @ keys.numpy().T / lengths / np.linalg.norm(queries.numpy(), axis=1)[:, None]
    assert torch.equal(memory.query(queries), values[cosines.argmax(1)])
    torch.testing.assert_close(memory.confidence(queries), torch.from_numpy(cosines.max(1).clip(0)), **EXACT)
    assert torch.equal(memory.read_weights(queries) @ memory.slot_values(), memory.query(queries))


def test_an_empty_cache_answers_zeros_without_confidence():
    memory = CachedMemory(5, 7)
    assert memory.query(torch.ones(3, 5)).eq(0).all()
    assert memory.confidence(torch.ones(3, 5)).eq(0).all()
    assert memory.read_weights(torch.ones(3, 5)).eq(0).all()
    assert memory.auxiliary_loss(torch.ones(3, 5), torch.ones(3, 7)) == 0


def test_equal_keys_answer_with_the_oldest_however_many_ask():
    """Which of several equal rows answers does not depend on the shape of the question."""
    memory = CachedMemory(16, 2, capacity=37)
    key = drawn(1, 16).float()
    memory.update(key.expand(37, 16), torch.arange(74.0).view(37, 2))
    for count in (1, 3, 64):
        assert torch.equal(memory.query(key.expand(count, 16)), torch.tensor([[0.0, 1.0]]).expand(count, 2))


def test_overwrite_replaces_a_rewritten_key_in_its_slot():
    memory = CachedMemory(6, 3, capacity=4, known="overwrite").double()
    keys = torch.eye(6, dtype=torch.float64)[:4]
    memory.update(keys[:3], labels(0, 1, 2))
    memory.update(keys[:1], labels(2))
    memory.update(keys[3:], labels(0))  # there is still room
    assert class_at(memory) == [2, 1, 2, 0]
    memory.update(2 * keys[1:2], labels(0))  # full, and rewritten all the same
    assert class_at(memory) == [2, 0, 2, 0]
    assert memory.spec.overwrite == "replace"


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("negatives", [1, 4])
def test_contrastive_loss_closed_forms(temperature, negatives):
    """One positive at cosine 1 and n negatives at 0: log(1 + n e^{-1/T}); k positives there too: log(1 + n/k ...)."""
    basis = torch.eye(6, dtype=torch.float64)
    memory = CachedMemory(6, 3, temperature=temperature).double()
    memory.update(basis[: 1 + negatives], labels(0, *[1] * negatives))
    loss = memory.auxiliary_loss(3 * basis[:1], labels(0))
    assert loss.item() == pytest.approx(math.log(1 + negatives * math.exp(-1 / temperature)), abs=1e-10)
    memory.update(basis[:1], labels(0))
    loss = memory.auxiliary_loss(basis[:1], labels(0))
    assert loss.item() == pytest.approx(math.log(1 + negatives / 2 * math.exp(-1 / temperature)), abs=1e-10)


def test_contrastive_loss_is_the_mean_over_rows_with_a_positive():
    """numpy over random rows; rows whose class is not stored count for nothing, and have a gradient of exactly 0."""
    memory = CachedMemory(5, 4, capacity=10).double()
    stored, stored_class = drawn(6, 5), [0, 0, 1, 2, 1, 0]
    memory.update(stored, labels(*stored_class, of=4))
    features, classes = drawn(4, 5, seed=1).requires_grad_(), [0, 3, 1, 3]
    terms = []
    for f, c in zip(features.detach().numpy(), classes):
        cosines = stored.numpy() @ f / np.linalg.norm(f) / np.linalg.norm(stored.numpy(), axis=1)
        if c in stored_class:
            own = np.array(stored_class) == c
            terms.append(np.log(np.exp(cosines / 0.1).sum()) - np.log(np.exp(cosines[own] / 0.1).sum()))
    loss = memory.auxiliary_loss(features, labels(*classes, of=4))
    assert loss.item() == pytest.approx(np.mean(terms), abs=1e-10)
    loss.backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad[[1, 3]].eq(0).all()
    assert features.grad[[0, 2]].ne(0).any(-1).all()


def test_contrastive_loss_is_zero_where_all_are_positive_and_finite_where_cold():
    memory = CachedMemory(5, 3, temperature=1e-3)
    memory.update(drawn(4, 5).float(), labels(1, 1, 1, 1).float())
    assert memory.auxiliary_loss(drawn(3, 5, seed=1).float(), labels(1, 1, 1).float()) == 0
    memory.update(drawn(4, 5, seed=2).float(), labels(0, 0, 0, 0).float())
    features = drawn(3, 5, seed=1).float().requires_grad_()
    loss = memory.auxiliary_loss(features, labels(0, 1, 0).float())  # exp(1 / T) overflows; differences do not
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()
    features = drawn(3, 5, seed=1).requires_grad_()
    warm = CachedMemory(5, 3, temperature=0.5).double()
    warm.update(drawn(4, 5), labels(0, 1, 1, 2))
    assert torch.autograd.gradcheck(lambda f: warm.auxiliary_loss(f, labels(0, 1, 0)), features)


def test_the_store_survives_saving():
    """The source's cache is missing from its state_dict; here a restored one answers and goes on the same."""
    memory, other = CachedMemory(5, 3, capacity=4), CachedMemory(5, 3, capacity=4)
    keys, values = drawn(20, 5).float(), drawn(20, 3, seed=1).float()
    memory.update(keys[:7], values[:7])
    other.load_state_dict(memory.state_dict())
    for part in (slice(7, 9), slice(9, 20)):
        memory.update(keys[part], values[part])
        other.update(keys[part], values[part])
    assert torch.equal(memory.query(keys), other.query(keys))
