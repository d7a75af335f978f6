"""The stores against dictionaries in plain Python, exact survival probabilities, and the published random stream."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import FIFOMemory, LRUMemory, RandomEvictionMemory, ReservoirMemory
from memspec.reference.ops import draws

STORES = [FIFOMemory, LRUMemory, RandomEvictionMemory, ReservoirMemory]
every = pytest.mark.parametrize("store", STORES)


class Plain:
    """A dictionary of key number -> value, one write at a time."""

    def __init__(self, store, capacity, seed, splitmix):
        self.kind, self.capacity, self.seed, self.splitmix = store, capacity, seed, splitmix
        self.held, self.place, self.offered = OrderedDict(), {}, 0

    def write(self, key, value):
        if key in self.held:
            self.held[key] = value
            if self.kind is LRUMemory:
                self.held.move_to_end(key)
            return
        number, self.offered = self.offered, self.offered + 1
        slot = number
        if number >= self.capacity:
            draw = self.splitmix(self.seed, number) >> 1
            if self.kind in (FIFOMemory, LRUMemory):
                slot = self.place[next(iter(self.held))]
            elif self.kind is RandomEvictionMemory:
                slot = draw % self.capacity
            else:
                slot = draw % (number + 1)
                if slot >= self.capacity:
                    return
            gone = next(k for k, s in self.place.items() if s == slot)
            del self.held[gone], self.place[gone]
        self.held[key], self.place[key] = value, slot


def contents(memory, keys, index=()):
    """Key number -> value of what a memory holds."""
    state = memory.state
    out = {}
    for slot in range(memory.slots):
        if state.writes[(*index, slot)] > 0:
            number = (keys == state.keys[(*index, slot)]).all(-1).nonzero().item()
            out[number] = state.values[(*index, slot)].tolist()
    return out


def test_the_stream_is_splitmix64(splitmix):
    """The first numbers from seed 1234567, as published, and Python's integers for large seeds and indices."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    got = draws.splitmix(torch.tensor(1234567), torch.arange(4)).tolist()
    assert [g % 2**64 for g in got] == published
    assert [splitmix(1234567, i) for i in range(4)] == published
    seeds, index = torch.randint(2**62, (5,), generator=torch.Generator().manual_seed(0)), torch.tensor([0, 7, 10**12])
    got = draws.splitmix(seeds, index.expand(5, 3))
    for seed, row in zip(seeds.tolist(), got.tolist()):
        assert [r % 2**64 for r in row] == [splitmix(seed, i) for i in index.tolist()]


def test_uniforms_and_integers_come_from_the_high_bits(splitmix):
    index = torch.arange(1000)
    numbers = [splitmix(5, i) for i in range(1000)]
    uniforms = draws.uniforms(torch.tensor(5), index)
    assert uniforms.tolist() == [(n >> 11) / 2**53 for n in numbers]
    assert draws.integers(torch.tensor(5), index, 7).tolist() == [(n >> 1) % 7 for n in numbers]
    assert abs(uniforms.mean() - 0.5) < 4 / math.sqrt(12 * 1000)


@every
@pytest.mark.parametrize("fresh_keys", [True, False], ids=["new", "rewritten"])
def test_the_store_is_the_plain_rule(store, fresh_keys, splitmix):
    """60 rows into 7 slots, in one update, in unequal ones, row by row; two memories of a batch with different rows."""
    g = torch.Generator().manual_seed(3)
    pool, values = drawn(60, 4), drawn(2, 60, 3, seed=1)
    rows = (
        torch.stack([torch.randperm(60, generator=g) for _ in range(2)])
        if fresh_keys
        else torch.randint(12, (2, 60), generator=g)
    )
    memory = store(4, 3, capacity=7).double()
    memory.reset((2,))
    seeds = memory.state.seed.tolist() if hasattr(memory.state, "seed") else [0, 0]
    truths = []
    for seed, numbers, written in zip(seeds, rows.tolist(), values.tolist()):
        plain = Plain(store, 7, seed, splitmix)
        for number, value in zip(numbers, written):
            plain.write(number, value)
        truths.append(dict(plain.held))
    for sizes in ([60], [3, 1, 9, 40, 7], [1] * 60):
        memory.reset((2,))
        for r, v in zip(rows.split(sizes, -1), values.split(sizes, -2)):
            memory.update(pool[r], v)
        for i, truth in enumerate(truths):
            assert contents(memory, pool, (i,)) == truth


@every
def test_updates_longer_than_a_block_of_rows(store, monkeypatch):
    keys, values = drawn(40, 3), drawn(40, 4, seed=1)
    keys[25] = keys[2]
    memory = store(3, 4, capacity=5).double()
    state = memory.init_state()
    whole = memory.write(state, keys, values)
    monkeypatch.setattr("memspec.reference.memories.policies.BLOCK", 7)
    for one, other in zip(whole, memory.write(state, keys, values)):
        assert torch.equal(one, other)


def held_after(store, capacity, writes, memories=4000):
    """``[memories, writes]``: which of so many distinct keys each of many memories still holds, oldest first."""
    torch.manual_seed(0)
    memory = store(1, 1, capacity=capacity).double()
    numbers = torch.arange(1.0, writes + 1, dtype=torch.float64).view(1, -1, 1).expand(memories, -1, 1)
    state = memory.write(memory.init_state((memories,)), numbers, numbers)
    return (numbers == state.keys.mT).any(-1).double()


def test_random_eviction_survives_geometrically():
    """``(1 - 1/C)^a`` after a further keys came to the full store; 4.5 standard errors of 4000 memories."""
    capacity, writes = 8, 40
    held = held_after(RandomEvictionMemory, capacity, writes)
    assert (held.sum(-1) == capacity).all()
    ages = np.arange(writes)[::-1]
    expected = (1 - 1 / capacity) ** np.minimum(ages, writes - capacity)
    off = 4.5 * np.sqrt(expected * (1 - expected) / len(held))
    assert (np.abs(held.mean(0).numpy() - expected) <= off + 1e-12).all()


@pytest.mark.parametrize("writes", [9, 40])
def test_a_reservoir_is_an_even_sample(writes):
    """``C / N`` at every age; pairs of keys are held together with ``C (C - 1) / (N (N - 1))``."""
    capacity = 8
    held = held_after(ReservoirMemory, capacity, writes)
    assert (held.sum(-1) == capacity).all()
    p = capacity / writes
    assert (held.mean(0) - p).abs().max() <= 4.5 * math.sqrt(p * (1 - p) / len(held))
    both = p * (capacity - 1) / (writes - 1)
    together = (held[:, 0] * held[:, -1]).mean()
    assert abs(together - both) <= 4.5 * math.sqrt(both * (1 - both) / len(held))


@pytest.mark.parametrize("store", [FIFOMemory, LRUMemory])
def test_queues_hold_the_newest(store):
    held = held_after(store, 8, 21, memories=2)
    assert held.tolist() == [[0.0] * 13 + [1.0] * 8] * 2


def test_a_rewrite_keeps_its_place_in_fifo_and_moves_up_in_lru():
    keys, values = torch.eye(5, dtype=torch.float64), drawn(6, 2)
    for store, left in ((FIFOMemory, [1, 2, 3]), (LRUMemory, [0, 2, 3])):
        memory = store(5, 2, capacity=3).double()
        memory.update(keys[:3], values[:3])
        memory.update(keys[:1], values[5:])
        memory.update(keys[3:4], values[3:4])
        assert sorted(contents(memory, keys)) == left


def test_touch_uses_in_order_and_changes_no_answer():
    """Keys 0, 1, 2, 3 held; touched 1, 0, 1: the next to go are 2, 3, 0, 1."""
    keys, values = torch.eye(8, dtype=torch.float64), drawn(8, 2)
    memory = LRUMemory(8, 2, capacity=4).double()
    memory.touch(keys)  # an empty store has nothing to use
    assert (memory.state.stamps == 0).all()
    memory.update(keys[:4], values[:4])
    before = memory.query(keys)
    memory.touch(keys[[1, 0, 1]])
    memory.touch(keys[:0])
    assert torch.equal(memory.query(keys), before)
    for new, left in ((4, [0, 1, 3, 4]), (5, [0, 1, 4, 5]), (6, [1, 4, 5, 6]), (7, [4, 5, 6, 7])):
        memory.update(keys[new : new + 1], values[new : new + 1])
        assert sorted(contents(memory, keys)) == left


def test_querying_does_not_use():
    keys, values = torch.eye(4, dtype=torch.float64), drawn(4, 2)
    memory = LRUMemory(4, 2, capacity=3).double()
    memory.update(keys[:3], values[:3])
    memory.query(keys[:1])
    memory.confidence(keys[:1])
    memory.read_weights(keys[:1])
    memory.update(keys[3:], values[3:])
    assert sorted(contents(memory, keys)) == [1, 2, 3]


@every
def test_unknown_keys_answer_as_the_nearest(store):
    memory = store(5, 3, capacity=9).double()
    keys, values, asked = drawn(9, 5), drawn(9, 3, seed=1), drawn(30, 5, seed=2)
    assert memory.query(asked).eq(0).all()
    assert memory.confidence(asked).eq(0).all()
    assert memory.read_weights(asked).eq(0).all()
    memory.update(keys, values)
    apart = np.linalg.norm(asked.numpy()[:, None] - keys.numpy(), axis=-1)
    assert torch.equal(memory.query(asked), values[apart.argmin(1)])
    torch.testing.assert_close(memory.confidence(asked), torch.from_numpy(1 / (1 + apart.min(1))), **EXACT)
    assert torch.equal(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked))
    assert torch.equal(memory.query(keys), values)


@every
def test_keys_that_look_alike_are_different_keys(store):
    """Zero, minus zero (the same), doubles, tiny and nearly equal rows: a dictionary goes by equality, not by angle."""
    one = drawn(1, 4)
    keys = torch.cat((0 * one, one, 2 * one, one * (1 + 1e-15), 1e-200 * one))
    memory = store(4, 2, capacity=8).double()
    memory.update(keys, drawn(5, 2))
    assert (memory.state.writes > 0).sum() == 5
    memory.update(-0.0 * keys[:1], drawn(1, 2, seed=1))
    assert (memory.state.writes > 0).sum() == 5
    assert torch.equal(memory.query(keys[:1]), drawn(1, 2, seed=1))


@pytest.mark.parametrize("store", [RandomEvictionMemory, ReservoirMemory])
def test_chances_are_drawn_once(store):
    """Another memory evicts otherwise; a reset one, and a restored one, evict alike."""
    keys, values = drawn(60, 4), drawn(60, 2, seed=1)

    def left(memory):
        memory.update(keys, values)
        return sorted(contents(memory, keys))

    torch.manual_seed(0)
    one, other, copy = (store(4, 2, capacity=10).double() for _ in range(3))
    first = left(one)
    assert left(other) != first
    one.reset()
    assert left(one) == first
    one.reset()
    one.update(keys[:20], values[:20])
    copy.load_state_dict(one.state_dict())
    copy.update(keys[20:], values[20:])
    assert sorted(contents(copy, keys)) == first


@every
def test_gradients_reach_the_values_that_are_left(store):
    memory = store(4, 2, capacity=3).double()
    keys, values = drawn(8, 4), drawn(8, 2, seed=1).requires_grad_()
    state = memory.write(memory.init_state(), keys, values)
    memory.read(state, keys).sum().backward()
    assert (values.grad != 0).any(-1).sum() == 3
