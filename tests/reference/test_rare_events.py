"""RareEventsMemory against integer traces, closed forms, and its rule in plain Python, noise included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import RareEventsMemory


def labels(*classes: int, of: int = 3) -> torch.Tensor:
    return torch.eye(of, dtype=torch.float64)[list(classes)]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Plain:
    """The rule, one row and one slot at a time."""

    def __init__(self, capacity, noise, seed, splitmix):
        self.keys, self.values, self.ages = [None] * capacity, [None] * capacity, [0] * capacity
        self.noise, self.seed, self.splitmix, self.rows = noise, seed, splitmix, 0

    def write(self, key, value):
        key = unit(key)
        used = [i for i, k in enumerate(self.keys) if k is not None]
        right = False
        if used:
            near = max(used, key=lambda i: (round(float(self.keys[i] @ key), 12), -self.ages[i]))
            right = bool((self.values[near] == value).all())
        if right:
            slot = near
            self.keys[slot] = unit(key + self.keys[slot])
        else:
            slot = len(used) if len(used) < len(self.keys) else max(used, key=self.noisy)
            self.keys[slot], self.values[slot] = key, value
        self.ages = [age + 1 for age in self.ages]
        self.ages[slot] = 0
        self.rows += 1

    def noisy(self, slot):
        uniform = (self.splitmix(self.seed, self.rows * len(self.keys) + slot) >> 11) / 2**53
        return self.ages[slot] + self.noise * (2 * uniform - 1)


@pytest.mark.parametrize("classes", [3, 10**6], ids=["labels", "all-different"])
@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_the_store_is_the_plain_rule(noise, classes, splitmix):
    """60 rows into 9 slots, in one update, in unequal ones and row by row, two memories of a batch."""
    keys, g = drawn(2, 60, 4), torch.Generator().manual_seed(1)
    if classes == 3:
        values = torch.eye(3, dtype=torch.float64)[torch.randint(3, (2, 60), generator=g)]
    else:
        values = drawn(2, 60, 3, seed=1)
    memory = RareEventsMemory(4, 3, capacity=9, age_noise=noise).double()
    memory.reset((2,))
    truths = []
    for seed, k, v in zip(memory.state.seed.tolist(), keys.numpy(), values.numpy()):
        plain = Plain(9, noise, seed, splitmix)
        for row in zip(k, v):
            plain.write(*row)
        truths.append(plain)
    for sizes in ([60], [3, 1, 9, 40, 7], [1] * 60):
        memory.reset((2,))
        for k, v in zip(keys.split(sizes, -2), values.split(sizes, -2)):
            memory.update(k, v)
        for i, plain in enumerate(truths):
            torch.testing.assert_close(memory.state.keys[i], torch.from_numpy(np.stack(plain.keys)), **EXACT)
            assert torch.equal(memory.state.values[i], torch.from_numpy(np.stack(plain.values)))
            assert memory.state.ages[i].tolist() == plain.ages


def test_ages_and_slots_are_an_integer_table():
    """Without noise: free slots in order, a right answer makes its slot young, then the oldest goes."""
    basis = torch.eye(6, dtype=torch.float64)
    memory = RareEventsMemory(6, 3, capacity=3, age_noise=0).double()
    steps = [  # key, label, ages, labels of the slots, writes
        (0, 0, [0, 1, 1], [0], [1, 0, 0]),
        (1, 1, [1, 0, 2], [0, 1], [1, 1, 0]),
        (0, 0, [0, 1, 3], [0, 1], [2, 1, 0]),  # right
        (2, 2, [1, 2, 0], [0, 1, 2], [2, 1, 1]),  # a free slot
        (3, 1, [2, 0, 1], [0, 1, 2], [2, 2, 1]),  # slot 1 is the oldest: key 1 is gone
        (0, 2, [0, 1, 2], [2, 1, 2], [3, 2, 1]),  # wrong: the new value goes into the oldest slot, which held it
        (0, 2, [0, 2, 3], [2, 1, 2], [4, 2, 1]),  # right now
    ]
    for key, label, ages, held, writes in steps:
        memory.update(basis[key : key + 1], labels(label))
        assert memory.state.ages.tolist() == ages
        assert memory.slot_values().argmax(-1)[: len(held)].tolist() == held
        assert memory.slot_usage().tolist() == writes


def test_without_right_answers_the_oldest_goes():
    memory = RareEventsMemory(5, 2, capacity=7, age_noise=0).double()
    keys, values = drawn(40, 5), drawn(40, 2, seed=1)
    memory.update(keys, values)
    held = (memory.state.values[:, None] == values).all(-1).any(0)
    assert held.nonzero().flatten().tolist() == list(range(33, 40))
    assert memory.spec.eviction == "fifo"
    assert RareEventsMemory(5, 2).spec.eviction == "none"


def test_noise_spares_and_takes_within_its_bound():
    """With noise a, a slot can go only if it is within 2 a of the oldest; and not always the oldest does."""
    memory = RareEventsMemory(5, 2, capacity=40, age_noise=8.0).double()
    keys, values = drawn(300, 5), drawn(300, 2, seed=1)
    memory.update(keys[:40], values[:40])
    oldest = []
    for i in range(40, 300):
        before = memory.state.ages
        memory.update(keys[i : i + 1], values[i : i + 1])
        gone = before[memory.state.ages == 0].item()
        oldest.append(gone == before.max())
        assert gone >= before.max() - 16
    assert 0.02 < np.mean(oldest) < 0.9


def test_two_right_answers_give_the_middle_key():
    """``normalise(q1 + q2)``; the lengths of what is written do not matter."""
    q1, q2 = torch.tensor([[3.0, 0, 0]], dtype=torch.float64), torch.tensor([[1.0, 1, 0]], dtype=torch.float64)
    memory = RareEventsMemory(3, 3, capacity=4).double()
    memory.update(torch.cat((q1, q2)), labels(0, 0))
    expected = torch.nn.functional.normalize(q1 / 3 + q2 / 2**0.5, dim=-1)
    torch.testing.assert_close(memory.state.keys[:1], expected, **EXACT)
    assert memory.slot_usage().tolist() == [2, 0, 0, 0]


def test_right_answers_again_and_again_turn_the_key_to_the_question():
    """``k <- normalise(k + q)`` halves the angle to q each time."""
    memory = RareEventsMemory(2, 3, capacity=4).double()
    memory.update(torch.tensor([[1.0, 0]], dtype=torch.float64), labels(0))
    q = torch.tensor([[math.cos(1.2), math.sin(1.2)]], dtype=torch.float64)
    for n in range(1, 20):
        memory.update(q, labels(0))
        key = memory.state.keys[0]
        assert math.atan2(key[1], key[0]) == pytest.approx(1.2 * (1 - 0.5**n), abs=1e-10)


def test_opposite_keys_do_not_cancel():
    memory = RareEventsMemory(2, 3, capacity=4).double()
    memory.update(torch.tensor([[1.0, 0], [-1, 0]], dtype=torch.float64), labels(0, 0))
    assert memory.state.keys[0].tolist() == [1.0, 0.0]


def test_a_rewritten_key_has_its_new_value():
    """However often either was written before: a key merged with itself is off by rounding, and ties go to the youngest."""
    for dtype in (torch.float32, torch.float64):
        memory = RareEventsMemory(16, 3, capacity=20).to(dtype)
        key = drawn(1, 16).to(dtype)
        for label in (0, 1, 0, 2):
            for _ in range(10):
                memory.update(key, labels(label).to(dtype))
            assert memory.query(key).argmax().item() == label
    assert memory.spec.overwrite == "replace"


def test_the_first_pairs_are_all_held_in_spite_of_noise():
    memory = RareEventsMemory(8, 4, capacity=12, age_noise=100.0).double()
    keys, values = drawn(12, 8), drawn(12, 4, seed=1)
    for k, v in zip(keys.split(5), values.split(5)):
        memory.update(k, v)
    assert torch.equal(memory.query(keys), values)


@pytest.mark.parametrize(("k", "temperature"), [(256, 39.3574), (5, 1.0), (1, 1.0)])
def test_the_temperature_formula(k, temperature):
    """``max(1, ln(.2 k) / alpha)``: 39.4 for the published k = 256, alpha = .1."""
    assert RareEventsMemory(4, 4, choose_k=k).softmax_temperature == pytest.approx(temperature, abs=1e-4)


@pytest.mark.parametrize("k", [3, 20, 256])
def test_softmax_read_over_the_nearest(k):
    memory = RareEventsMemory(5, 3, capacity=30, choose_k=k, read="softmax").double()
    keys, values, asked = drawn(20, 5), drawn(20, 3, seed=1), drawn(9, 5, seed=2)
    assert memory.query(asked).eq(0).all()
    memory.update(keys, values)
    t = max(1.0, math.log(k / 5) / 0.1)
    expected = []
    for q in unit(asked.numpy()):
        cosines = unit(keys.numpy()) @ q
        near = np.argsort(-cosines)[:k]
        weights = np.exp(t * (cosines[near] - cosines.max()))
        expected.append(weights / weights.sum() @ values.numpy()[near])
    torch.testing.assert_close(memory.query(asked), torch.from_numpy(np.stack(expected)), **EXACT)
    torch.testing.assert_close(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked), **EXACT)
    asked.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: memory.read(memory.state, q), asked)


def test_nearest_read_and_confidence():
    memory = RareEventsMemory(5, 3, capacity=30).double()
    keys, values, asked = drawn(20, 5), drawn(20, 3, seed=1), drawn(9, 5, seed=2)
    assert memory.query(asked).eq(0).all()
    assert memory.confidence(asked).eq(0).all()
    memory.update(keys, values)
    cosines = unit(asked.numpy()) @ unit(keys.numpy()).T
    assert torch.equal(memory.query(asked), values[cosines.argmax(1)])
    torch.testing.assert_close(memory.confidence(asked), torch.from_numpy(cosines.max(1).clip(0)), **EXACT)
    assert torch.equal(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked))


def test_margin_loss():
    """``[max_neg - max_pos + alpha]_+`` in numpy, the mean over rows with both; a gradient only where it is above 0."""
    memory = RareEventsMemory(5, 4, capacity=10, alpha=0.3).double()
    features, classes = drawn(12, 5, seed=1).requires_grad_(), [0, 3, 1, 2, 0, 1, 2, 0, 1, 2, 3, 0]
    assert memory.auxiliary_loss(features, labels(*classes, of=4)) == 0
    stored, held = drawn(6, 5), [0, 1, 0, 2, 2, 1]
    memory.update(stored, labels(*held, of=4))
    slots = memory.state.keys.numpy()
    slot_class = memory.slot_values().argmax(-1).numpy()
    terms = []
    used = memory.slot_usage().numpy() > 0
    for f, c in zip(unit(features.detach().numpy()), classes):
        cosines = slots @ f
        own, other = used & (slot_class == c), used & (slot_class != c)
        if own.any():
            terms.append((cosines[other].max() - cosines[own].max() + 0.3, c))
    loss = memory.auxiliary_loss(features, labels(*classes, of=4))
    assert loss.item() == pytest.approx(np.mean([max(t, 0.0) for t, _ in terms]), abs=1e-10)
    loss.backward()
    hinge = iter(t for t, _ in terms)
    for c, gradient in zip(classes, features.grad):
        assert bool(gradient.any()) == (c != 3 and next(hinge) > 0)


def test_updates_longer_than_a_block_of_rows(monkeypatch):
    memory = RareEventsMemory(3, 3, capacity=5).double()
    keys = drawn(40, 3)
    values = labels(*[i % 3 for i in range(40)])
    state = memory.init_state()
    whole = memory.write(state, keys, values)
    monkeypatch.setattr("memspec.reference.memories.rare_events.BLOCK", 7)
    for one, other in zip(whole, memory.write(state, keys, values)):
        assert torch.equal(one, other)
