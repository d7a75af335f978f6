"""LSH against buckets in plain Python, exact search, and the collision probability of SimHash."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import LSHMemory, NearestNeighbourMemory


def test_only_the_buckets_of_the_query_are_searched():
    """Dictionaries of buckets, one table at a time: the nearest of their members, zeros where there is none."""
    torch.manual_seed(0)
    memory = LSHMemory(6, 3, tables=2, bits=5).double()
    keys, values, asked = drawn(60, 6), drawn(60, 3, seed=1), drawn(200, 6, seed=2)
    for part in (slice(0, 25), slice(25, 26), slice(26, 60)):
        memory.update(keys[part], values[part])
    planes = memory.state.planes.numpy()
    tables = []
    for table in planes:
        buckets = defaultdict(list)
        for i, key in enumerate(keys.numpy()):
            buckets[tuple(bool(plane @ key >= 0) for plane in table)].append(i)
        tables.append(buckets)
    expected, sure = np.zeros((200, 3)), np.zeros(200)
    for row, q in enumerate(asked.numpy()):
        found = {i for t, b in zip(planes, tables) for i in b.get(tuple(bool(p @ q >= 0) for p in t), [])}
        if found:
            best = min(found, key=lambda i: np.linalg.norm(keys[i].numpy() - q))
            expected[row], sure[row] = values[best].numpy(), 1 / (1 + np.linalg.norm(keys[best].numpy() - q))
    assert 0 < (sure == 0).sum() < 200
    assert torch.equal(memory.query(asked), torch.from_numpy(expected))
    torch.testing.assert_close(memory.confidence(asked), torch.from_numpy(sure), **EXACT)
    torch.testing.assert_close(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [1, 12, 62])
def test_a_stored_key_finds_itself(bits, dtype):
    """Asked alone or in company; zero, tiny and huge rows too; a rewritten key has its newest value."""
    memory = LSHMemory(8, 3, tables=3, bits=bits).to(dtype)
    keys = torch.cat((drawn(300, 8), torch.zeros(1, 8), 1e-20 * drawn(1, 8), 1e15 * drawn(1, 8))).to(dtype)
    values = drawn(303, 3, seed=1).to(dtype)
    for k, v in zip(keys.split(120), values.split(120)):
        memory.update(k, v)
    assert torch.equal(memory.query(keys), values)
    assert torch.equal(torch.cat([memory.query(key[None]) for key in keys]), values)
    memory.update(keys[:50], values[50:100])
    assert torch.equal(memory.query(keys[:50]), values[50:100])


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("read", ["mean", "softmax", "inverse"])
@pytest.mark.parametrize("k", [1, 4, 70])
def test_no_bits_is_exact_search(k, read, metric):
    memory = LSHMemory(6, 3, tables=3, bits=0, neighbours=k, read=read, metric=metric).double()
    exact = NearestNeighbourMemory(6, 3, neighbours=k, read=read, metric=metric).double()
    keys, values, asked = drawn(2, 60, 6), drawn(2, 60, 3, seed=1), drawn(2, 25, 6, seed=2)
    for each in (memory, exact):
        each.reset((2,))
        each.update(keys[:, :41], values[:, :41])
        each.update(keys[:, 41:], values[:, 41:])
    torch.testing.assert_close(memory.query(asked), exact.query(asked), **EXACT)


@pytest.mark.parametrize(("tables", "bits"), [(1, 1), (1, 8), (4, 6), (8, 8)])
@pytest.mark.parametrize("angle", [0.2, 0.7, 1.4])
def test_neighbours_are_found_with_the_probability_of_simhash(tables, bits, angle):
    """``1 - (1 - (1 - theta/pi)^b)^L`` over 3000 memories, each with its own planes; 4.5 standard errors."""
    torch.manual_seed(0)
    memory = LSHMemory(16, 1, tables=tables, bits=bits).double()
    pair = torch.linalg.qr(drawn(3000, 16, 2)).Q.mT
    keys = pair[:, :1]
    asked = math.cos(angle) * keys + math.sin(angle) * pair[:, 1:]
    state = memory.write(memory.init_state((3000,)), keys, torch.ones(3000, 1, 1).double())
    found = memory.read(state, asked).mean().item()
    p = 1 - (1 - (1 - angle / math.pi) ** bits) ** tables
    assert abs(found - p) <= 4.5 * math.sqrt(p * (1 - p) / 3000)


def test_tables_are_sorted_whatever_the_updates():
    torch.manual_seed(0)
    memory = LSHMemory(6, 3, tables=4, bits=3).double()
    keys, values = drawn(40, 6), drawn(40, 3, seed=1)
    fresh = memory.state
    whole = memory.write(fresh, keys, values)
    for sizes in ([1] * 40, [7, 30, 3], [0, 40]):
        state = fresh
        for k, v in zip(keys.split(sizes), values.split(sizes)):
            state = memory.write(state, k, v)
        for one, other in zip(state, whole):
            assert torch.equal(one, other)
    assert (whole.codes.diff(dim=-1) >= 0).all()
    assert torch.equal(whole.order.sort(-1).values, torch.arange(40).expand(4, 40))


def test_blocks_of_queries_change_nothing(monkeypatch):
    memory = LSHMemory(6, 3, tables=3, bits=2, neighbours=4, read="inverse").double()
    memory.reset((2,))
    memory.update(drawn(2, 60, 6), drawn(2, 60, 3, seed=1))
    asked = drawn(2, 25, 6, seed=2)
    whole = memory.query(asked)
    monkeypatch.setattr("memspec.reference.memories.lsh.GATHERED", 2000)
    assert torch.equal(memory.query(asked), whole)


def test_fewer_candidates_than_neighbours():
    """The weights go to those that are there: with this many bits to one bucket, no two keys share theirs."""
    torch.manual_seed(0)
    memory = LSHMemory(8, 2, tables=1, bits=20, neighbours=5, read="softmax").double()
    keys, values = drawn(30, 8), drawn(30, 2, seed=1)
    memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys), values, **EXACT)
    assert (memory.read_weights(keys) > 0).sum(-1).eq(1).all()


def test_gradients_of_what_is_found():
    memory = LSHMemory(4, 2, tables=3, bits=1, neighbours=3, read="softmax", beta=1.0).double()
    fresh = memory.state

    def run(keys, values, asked):
        return memory.read(memory.write(fresh, keys, values), asked)

    inputs = [t.requires_grad_() for t in (drawn(6, 4), drawn(6, 2, seed=1), drawn(5, 4, seed=2))]
    assert torch.autograd.gradcheck(run, inputs)
