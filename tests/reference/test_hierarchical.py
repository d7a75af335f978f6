"""HierarchicalMemory against a plain-Python hierarchy, closed forms of occupancy and means, and the softmax store."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import HierarchicalMemory, SoftmaxMemory
from memspec.reference.memories.hierarchical import level_sizes


def basis(count: int, width: int = 64) -> torch.Tensor:
    return torch.eye(width, dtype=torch.float64)[:count]


class PlainHierarchy:
    """Lists of [key, value, count, last] a level, one row at a time."""

    def __init__(self, sizes: tuple[int, ...], match: float) -> None:
        self.sizes, self.match = sizes, match
        self.levels: list[list[list]] = [[] for _ in sizes]
        self.clock = self.dropped = 0

    def add(self, key: np.ndarray, value: np.ndarray) -> None:
        self.push(0, [key, value, 1, self.clock])
        self.clock += 1

    def push(self, depth: int, entry: list) -> None:
        if depth == len(self.sizes):
            self.dropped += entry[2]
            return
        level = self.levels[depth]
        if depth > 0 and level:
            cosines = [float(e[0] @ entry[0] / np.linalg.norm(e[0]) / np.linalg.norm(entry[0])) for e in level]
            best = cosines.index(max(cosines))
            if cosines[best] >= self.match:
                old, count = level[best], level[best][2] + entry[2]
                share = entry[2] / count if count else 0.0
                level[best] = [
                    (1 - share) * old[0] + share * entry[0],
                    (1 - share) * old[1] + share * entry[1],
                    count,
                    max(old[3], entry[3]),
                ]
                return
        going = None
        if len(level) == self.sizes[depth]:
            last = depth == len(self.sizes) - 1 and depth > 0
            order = [(e[2], e[3]) if last else (e[3],) for e in level]
            going = level.pop(order.index(min(order)))
        level.append(entry)
        if going is not None:
            self.push(depth + 1, going)


def agree(memory: HierarchicalMemory, plain: PlainHierarchy) -> None:
    """Entries of every level alike, whatever their order."""
    state = memory.state
    assert (int(state.clock), int(state.dropped)) == (plain.clock, plain.dropped)
    for level, entries in zip(memory.levels, plain.levels):
        last = state.last[level]
        order = [i for i in last.argsort().tolist() if last[i] >= 0]
        entries = sorted(entries, key=lambda e: e[3])
        assert last[order].tolist() == [e[3] for e in entries]
        assert state.counts[level][order].tolist() == [e[2] for e in entries]
        for tensor, part in ((state.keys, 0), (state.values, 1)):
            if entries:
                expected = torch.from_numpy(np.stack([e[part] for e in entries]))
                torch.testing.assert_close(tensor[level][order], expected, **EXACT)


@pytest.mark.parametrize("sizes", [(1,), (4,), (2, 5), (1, 3, 9), (3, 2, 2, 4)])
@pytest.mark.parametrize("match", [0.4, 0.9])
@pytest.mark.parametrize("size", [1, 7, 60])
def test_equals_a_plain_hierarchy(size, match, sizes):
    """60 rows of 12 noisy directions in 5 dimensions, in calls of one size: merging, passing on, dropping."""
    which = torch.randint(12, (60,), generator=torch.Generator().manual_seed(1))
    keys, values = drawn(12, 5)[which] + 0.1 * drawn(60, 5, seed=2), drawn(60, 3, seed=3)
    memory, plain = HierarchicalMemory(5, 3, sizes=sizes, match=match).double(), PlainHierarchy(sizes, match)
    for k, v in zip(keys.split(size), values.split(size)):
        memory.update(k, v)
        for row in range(len(k)):
            plain.add(k[row].numpy(), v[row].numpy())
        agree(memory, plain)


def test_moving_indices_and_merging_are_one_rule(monkeypatch):
    """Rows that nothing resembles take a way without looking at keys; looking changes nothing."""
    keys, values = drawn(2, 70, 16), drawn(2, 70, 3, seed=1)
    quick, slow = (HierarchicalMemory(16, 3, sizes=(2, 6, 20)).double() for _ in range(2))
    monkeypatch.setattr(slow, "_may_merge", lambda entries: True)
    for memory in (quick, slow):
        memory.reset((2,))
        memory.update(keys, values)
    for a, b in zip(quick.state, slow.state):
        assert torch.equal(a, b)


@pytest.mark.parametrize("read", ["cascade", "softmax"])
def test_as_many_distinct_pairs_as_there_are_entries_are_recalled(read):
    """Cascade: to the bit. Softmax over orthonormal keys: (p - c) v_j + c sum v, p and c in closed form."""
    memory = HierarchicalMemory(64, 5, capacity=40, read=read, beta=9.0).double()
    keys, values = basis(40), drawn(40, 5, seed=1)
    memory.update(keys, values)
    if read == "cascade":
        assert torch.equal(memory.query(keys), values)
        memory.update(2 * basis(41)[40:], 0 * values[:1])  # one more: the first is dropped, the others stay
        assert torch.equal(memory.query(keys[1:]), values[1:])
        assert not memory.query(keys[:1]).any()
        return
    total = math.exp(9.0) + 39
    expected = (math.exp(9.0) - 1) / total * values + values.sum(0) / total
    torch.testing.assert_close(memory.query(keys), expected, **EXACT)


@pytest.mark.parametrize("sizes", [(5,), (2, 6), (1, 4, 16), (3, 3, 3, 3)])
def test_occupancy_is_a_closed_function_of_the_rows(sizes):
    """n distinct rows: level l holds min(S_l, max(0, n - S_0 - ... - S_{l-1}))."""
    memory = HierarchicalMemory(64, 2, sizes=sizes).double()
    for n in range(1, sum(sizes) + 5):
        memory.update(basis(64)[n - 1 : n], drawn(1, 2, seed=n))
        expected = [min(size, max(0, n - sum(sizes[:i]))) for i, size in enumerate(sizes)]
        assert memory.occupancy(memory.state).tolist() == expected
        assert int(memory.state.dropped) == max(0, n - sum(sizes))


def test_merged_values_are_the_mean():
    """m rows of one direction, pushed down by others: a single prototype, the mean of values and of keys."""
    memory = HierarchicalMemory(64, 3, sizes=(2, 30), read="cascade").double()
    key, values = basis(1), drawn(7, 3, seed=1)
    lengths = torch.arange(1.0, 8.0).double()[:, None]
    memory.update(lengths * key, values)
    memory.update(basis(3)[1:], drawn(2, 3, seed=2))
    assert memory.occupancy(memory.state).tolist() == [2, 1]
    torch.testing.assert_close(memory.query(key)[0], values.mean(0), **EXACT)
    torch.testing.assert_close(memory.state.keys[2], 4 * key[0], **EXACT)
    assert memory.slot_usage()[2] == 7


def test_counts_are_conserved():
    memory = HierarchicalMemory(4, 2, capacity=10, match=0.7, promote_count=2).double()
    for step in range(40):
        memory.update(drawn(3, 4, seed=step), drawn(3, 2, seed=100 + step))
        memory.promote(drawn(2, 4, seed=step))
        memory.touch(drawn(2, 4, seed=200 + step))
        assert int(memory.state.counts.sum() + memory.state.dropped) == 3 * (step + 1)
    assert int(memory.state.dropped) > 0


def test_the_last_level_drops_the_lowest_count_and_the_oldest_of_equals():
    memory = HierarchicalMemory(64, 1, sizes=(1, 3), read="cascade").double()
    key = basis(20)

    def write(*which: int) -> list[int]:
        for i in which:
            memory.update(key[i : i + 1], torch.tensor([[float(i)]], dtype=torch.float64))
        found = memory.query(key)[:, 0].tolist()
        return [i for i in range(1, 20) if found[i] == i and memory.confidence(key[i : i + 1]) == 1]

    assert write(1, 1, 2, 3) == [1, 2, 3]
    assert memory.slot_usage().tolist() == [1, 2, 1, 0]
    assert write(4) == [1, 2, 3, 4]
    assert write(5) == [1, 3, 4, 5]  # 2 goes: 1 is older, but stands for two rows
    memory.touch(key[[3]])
    assert write(6) == [1, 3, 5, 6]


def test_a_prototype_that_is_asked_for_comes_back_to_the_first_level():
    memory = HierarchicalMemory(64, 1, sizes=(2, 6), promote_count=3, read="cascade").double()
    key, values = basis(10), torch.arange(10.0).double()[:, None]
    memory.update(key[[0, 0, 0, 1, 1, 2, 3]], values[[3, 4, 5, 1, 1, 2, 3]])
    assert memory.state.counts.tolist() == [1, 1, 3, 2, 0, 0, 0, 0]
    memory.promote(key[[1]])  # two rows are not enough
    assert memory.state.keys[:2].argmax(-1).tolist() == [3, 2] or memory.state.keys[:2].argmax(-1).tolist() == [2, 3]
    before = memory.query(key[:4])
    memory.promote(key[[0, 0, 9]])  # once: then the first level knows it; 9 is unknown
    assert torch.equal(memory.query(key[:4]), before)
    assert sorted(memory.state.keys[:2].argmax(-1).tolist()) == [0, 3]
    assert memory.state.counts[:2].sum() == 1
    assert memory.state.counts[2:].tolist() == [3, 2, 1, 0, 0, 0]
    memory.promote(key[[3]])  # first-level rows are touched: the copy goes first, and changes its prototype in nothing
    memory.update(key[[4]], values[[4]])
    assert sorted(memory.state.keys[:2].argmax(-1).tolist()) == [3, 4]
    assert memory.state.counts[2:].tolist() == [3, 2, 1, 0, 0, 0]
    assert memory.query(key[:1])[0, 0] == pytest.approx(4, abs=1e-12)


@pytest.mark.parametrize("n", [1, 6, 20])
def test_one_level_is_the_softmax_store(n):
    memory = HierarchicalMemory(6, 3, capacity=8, levels=1, beta=3.0).double()
    store = SoftmaxMemory(6, 3, capacity=8, beta=3.0).double()
    keys, values = drawn(n, 6), drawn(n, 3, seed=1)
    keys[n // 2] = keys[0]
    for each in (memory, store):
        each.update(keys, values)
    asked = drawn(5, 6, seed=2)
    torch.testing.assert_close(memory.query(asked), store.query(asked), **EXACT)
    torch.testing.assert_close(memory.read_weights(asked), store.read_weights(asked), **EXACT)
    assert torch.equal(memory.slot_values(), store.slot_values())


def test_level_bias_multiplies_the_weights_of_a_level():
    keys, values, asked = drawn(9, 6), drawn(9, 3, seed=1), drawn(4, 6, seed=2)
    plain = HierarchicalMemory(6, 3, sizes=(2, 3, 4), beta=2.0).double()
    biased = HierarchicalMemory(6, 3, sizes=(2, 3, 4), beta=2.0, level_bias=(0.5, -1.0, 2.0)).double()
    for each in (plain, biased):
        each.update(keys, values)
    factor = np.exp(np.repeat([0.5, -1.0, 2.0], [2, 3, 4]))
    weights = plain.read_weights(asked).numpy() * factor
    weights /= weights.sum(-1, keepdims=True)
    torch.testing.assert_close(biased.read_weights(asked), torch.from_numpy(weights), **EXACT)


def test_a_cascade_asks_the_first_level_first():
    """A newer row 25 degrees off is nearer than match; the exact one below it does not answer. Beyond match it does."""
    exact, near = basis(1, 4), torch.tensor([[0.906, 0.423, 0, 0]], dtype=torch.float64)
    for match, expected in ((0.9, 2.0), (0.95, 1.0)):
        memory = HierarchicalMemory(4, 1, sizes=(1, 5), match=match, read="cascade").double()
        memory.update(torch.cat((exact, near)), torch.tensor([[1.0], [2.0]]).double())
        assert memory.query(exact).item() == expected
        assert memory.query(basis(4, 4)[3:]).item() in (1.0, 2.0)  # nothing within match: the nearest of all
    newest = HierarchicalMemory(4, 1, sizes=(3, 5), read="cascade").double()
    for value in (1.0, 2.0, 3.0, 4.0):
        newest.update(exact, torch.tensor([[value]]).double())
        assert newest.query(exact).item() == value


def test_touched_rows_outlive_others_in_their_level():
    memory = HierarchicalMemory(64, 1, sizes=(3, 4)).double()
    memory.update(basis(3), drawn(3, 1))
    memory.touch(basis(1))
    memory.update(basis(5)[3:], drawn(2, 1))
    assert sorted(memory.state.keys[:3].argmax(-1).tolist()) == [0, 3, 4]
    assert sorted(memory.state.keys[3:5].argmax(-1).tolist()) == [1, 2]


def test_gradients_through_merging_and_moving():
    memory = HierarchicalMemory(4, 2, sizes=(1, 2, 3), match=0.9, beta=2.0).double()
    keys, values, asked = drawn(8, 4), drawn(8, 2, seed=1), drawn(3, 4, seed=2)
    keys[4], keys[6], keys[2] = 2 * keys[3], keys[0] * 0.5, keys[1] + 0.01
    for tensor in (keys, values, asked):
        tensor.requires_grad_()
    fresh = memory.init_state(())
    assert (memory.write(fresh, keys, values).counts > 1).any()
    assert torch.autograd.gradcheck(lambda k, v, q: memory.read(memory.write(fresh, k, v), q), (keys, values, asked))


def test_sizes_of_levels():
    assert level_sizes(21) == (1, 4, 16)
    assert level_sizes(128) == (6, 24, 98)
    assert level_sizes(128, levels=2, growth=7) == (16, 112)
    for capacity in range(1, 200):
        for levels in (1, 2, 3, 5):
            sizes = level_sizes(capacity, levels)
            assert sum(sizes) == capacity
            assert len(sizes) == min(levels, capacity)
            assert list(sizes) == sorted(sizes)
            assert sizes[0] >= 1


def test_claims_follow_the_options():
    def spec(**options):
        return HierarchicalMemory(4, 4, **options).spec

    assert (spec().family, spec(match=0.5).family, spec(level_bias=(0, 0, -1)).family) == (
        "softmax",
        "generic",
        "generic",
    )
    assert (spec(read="cascade").exact, spec(read="cascade", match=1.0).exact) == (False, True)
    assert (spec().eviction, spec(levels=1).eviction) == ("none", "lru")
    assert spec(sizes=(1, 4)).capacity == 5
