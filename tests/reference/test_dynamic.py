"""DynamicMemory against a plain-Python store, integer traces of its slots, and closed forms of usage and blending."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import DynamicMemory, SoftmaxMemory


def basis(count: int, width: int = 64) -> torch.Tensor:
    return torch.eye(width, dtype=torch.float64)[:count]


class PlainStore:
    """The rules as the docstring states them, one row and one slot at a time, usage as a number that decays."""

    def __init__(self, capacity: int, match: float, blend: float, retention: float = 0.95) -> None:
        self.slots: list[list | None] = []  # [key, value, usage, writes]
        self.capacity, self.match, self.blend, self.retention = capacity, match, blend, retention

    def cosine(self, key: np.ndarray, other: np.ndarray) -> float:
        norms = float(np.linalg.norm(key) * np.linalg.norm(other))
        return float(key @ other) / norms if norms else 0.0

    def add(self, key: np.ndarray, value: np.ndarray) -> None:
        for slot in self.slots:
            if slot is not None:
                slot[2] *= self.retention
        cosines = [-2.0 if s is None else self.cosine(key, s[0]) for s in self.slots]
        if cosines and max(cosines) >= self.match - 1e-12:  # rounding, where match is 1
            slot = self.slots[cosines.index(max(cosines))]
            assert slot is not None
            slot[1] = (1 - self.blend) * slot[1] + self.blend * value
            slot[2], slot[3] = 1.0, slot[3] + 1
            return
        new = [key, value, 1.0, 1]
        if None in self.slots:
            self.slots[self.slots.index(None)] = new
        elif len(self.slots) < self.capacity:
            self.slots.append(new)
        else:
            usages = [s[2] for s in self.slots if s is not None]
            self.slots[usages.index(min(usages))] = new

    def gc(self, threshold: float = 0.1) -> int:
        gone = [i for i, s in enumerate(self.slots) if s is not None and s[2] < threshold]
        for i in gone:
            self.slots[i] = None
        return len(gone)


def agree(memory: DynamicMemory, plain: PlainStore) -> None:
    usage, writes = memory.slot_usage(), memory.state.writes
    assert (writes > 0).sum() == sum(s is not None for s in plain.slots)
    for i, slot in enumerate(plain.slots):
        if slot is None:
            assert (usage[i], writes[i]) == (0, 0)
            continue
        torch.testing.assert_close(memory.state.keys[i], torch.from_numpy(slot[0]), **EXACT)
        torch.testing.assert_close(memory.state.values[i], torch.from_numpy(slot[1]), **EXACT)
        assert usage[i].item() == pytest.approx(slot[2], rel=1e-10)
        assert writes[i] == slot[3]


@pytest.mark.parametrize(("match", "blend"), [(0.95, 0.5), (0.6, 0.3), (0.3, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_equals_a_plain_store(size, match, blend):
    """120 rows of 30 noisy directions in 5 dimensions, in calls of one size, with collections between: every branch."""
    generator = torch.Generator().manual_seed(1)
    directions = drawn(30, 5)
    which = torch.randint(30, (120,), generator=generator)
    keys, values = directions[which] + 0.1 * drawn(120, 5, seed=2) * (which % 2)[:, None], drawn(120, 3, seed=3)
    memory = DynamicMemory(5, 3, capacity=12, initial_slots=2, match=match, blend=blend, retention=0.9).double()
    plain = PlainStore(12, match, blend, retention=0.9)
    for call, (k, v) in enumerate(zip(keys.split(size), values.split(size))):
        memory.update(k, v)
        for row in range(len(k)):
            plain.add(k[row].numpy(), v[row].numpy())
        if call % 5 == 2:
            assert memory.gc() == plain.gc()
        agree(memory, plain)


def test_a_batch_with_different_histories_equals_single_memories():
    keys, values = drawn(3, 50, 5), drawn(3, 50, 2, seed=1)
    keys[1, 10:30] = keys[1, :20].clone()  # the second memory merges where the others allocate and evict
    make = functools.partial(DynamicMemory, 5, 2, capacity=20, initial_slots=4, match=0.9)
    batch = make().double()
    batch.reset((3,))
    for at in (0, 17, 31):
        batch.update(keys[:, at : at + 17], values[:, at : at + 17])
        batch.gc()
    for b in range(3):
        single = make().double()
        for at in (0, 17, 31):
            single.update(keys[b, at : at + 17], values[b, at : at + 17])
            single.gc()
        size = single.state.writes.shape[-1]
        assert torch.equal(batch.state.writes[b, :size], single.state.writes)
        assert torch.equal(batch.state.last[b, :size], single.state.last)
        torch.testing.assert_close(batch.query(keys)[b], single.query(keys[b]), **EXACT)


def test_a_slot_left_alone_is_collectable_after_45_rows():
    """0.95^44 = .1047 and 0.95^45 = .0994: the first slot stays at 44 later rows and goes at 45."""
    memory = DynamicMemory(64, 2).double()
    keys, values = basis(47), drawn(47, 2)
    memory.update(keys[:45], values[:45])
    assert memory.gc() == 0
    assert memory.slot_usage()[0].item() == pytest.approx(0.95**44, rel=1e-12)
    memory.update(keys[45:46], values[45:46])
    assert memory.slot_usage()[0].item() == pytest.approx(0.95**45, rel=1e-12)
    assert memory.gc() == 1
    assert memory.slot_usage()[0] == 0
    memory.update(keys[46:], values[46:])  # takes the lowest free slot; the next oldest is due
    assert torch.equal(memory.state.keys[0], keys[46])
    assert memory.gc() == 1
    assert memory.slot_usage()[1] == 0


@pytest.mark.parametrize("n", [1, 16, 17, 64])
def test_distinct_pairs_are_recalled_exactly(n):
    memory = DynamicMemory(16, 5, capacity=64).double()
    keys, values = drawn(n, 16), drawn(n, 5, seed=1)
    memory.update(keys, values)
    assert torch.equal(memory.query(keys), values)
    assert torch.equal(memory.confidence(keys), torch.ones(n, dtype=torch.float64))


def test_collection_never_changes_the_answers_of_survivors():
    memory = DynamicMemory(16, 3, capacity=200).double()
    keys, values = drawn(120, 16), drawn(120, 3, seed=1)
    memory.update(keys, values)
    for compact in (False, True):
        before = memory.query(keys[-45:])
        used = int((memory.state.writes > 0).sum())
        freed = memory.gc(compact=compact)
        assert freed == (0 if compact else 75)
        assert torch.equal(memory.query(keys[-45:]), before)
        assert torch.equal(before, values[-45:])
        assert int((memory.slot_usage() > 0).sum()) == used - freed


def test_used_and_free_slots_add_up():
    memory = DynamicMemory(6, 3, capacity=24, initial_slots=4, match=0.8).double()
    for step in range(30):
        memory.update(drawn(5, 6, seed=step), drawn(5, 3, seed=100 + step))
        if step % 3 == 0:
            memory.gc(compact=step % 2 == 0)
        usage = memory.slot_usage()
        free = usage == 0
        assert torch.equal(free, memory.state.writes == 0)
        assert torch.equal(free, (memory.state.keys == 0).all(-1))
        assert usage.max() == 1
        assert len(usage) <= 24


def test_compaction_keeps_the_order_and_gives_room_back():
    memory = DynamicMemory(64, 1, capacity=64, initial_slots=4).double()
    keys, values = basis(64), torch.arange(64, dtype=torch.float64)[:, None]
    memory.update(keys, values)
    twin = DynamicMemory(64, 1, capacity=64, initial_slots=4).double()
    twin.load_state_dict(memory.state_dict())
    memory.touch(keys[[5, 3, 9]])
    twin.touch(keys[[5, 3, 9]])
    assert memory.gc(compact=True) == 64 - 45 - 3 == twin.gc()
    held = [3, 5, 9, *range(19, 64)]
    assert memory.slot_values()[:48, 0].tolist() == held
    assert (memory.slot_usage() > 0).tolist() == [True] * 48 + [False] * 16
    for each in (memory, twin):  # once all is forgotten that is left, what comes meets the same fate in both
        each.forget(keys[20:])
        each.gc(compact=each is memory)
    assert memory.slot_values()[:, 0].tolist() == [3, 5, 9, 19]
    assert len(twin.slot_values()) == 64
    assert torch.equal(memory.query(keys[held]), twin.query(keys[held]))


def test_growth_doubles_and_never_moves_a_slot():
    memory = DynamicMemory(64, 1, capacity=50, initial_slots=3).double()
    keys, values = basis(50), torch.arange(1, 51, dtype=torch.float64)[:, None]
    sizes = []
    for row in range(50):
        memory.update(keys[row : row + 1], values[row : row + 1])
        sizes.append(len(memory.slot_values()))
        assert memory.slot_values()[: row + 1, 0].tolist() == list(range(1, row + 2))
    assert sizes == [3] * 3 + [6] * 3 + [12] * 6 + [24] * 12 + [48] * 24 + [50] * 2
    memory.update(drawn(20, 64), drawn(20, 1))
    assert len(memory.slot_values()) == 50
    memory.reset()
    assert len(memory.slot_values()) == 3


def test_slots_are_an_integer_trace():
    """Allocation in order, merging, eviction of the least used, touch, forget, and the lowest free slot after it."""
    memory = DynamicMemory(64, 1, capacity=4, match=0.9).double()
    key = basis(20)

    def write(i: int) -> None:
        memory.update(key[i : i + 1], torch.tensor([[float(i)]], dtype=torch.float64))

    def held() -> list[int]:
        return [int(k.argmax()) if k.any() else -1 for k in memory.state.keys]

    for i in (0, 1, 2, 3, 0):
        write(i)
    assert held() == [0, 1, 2, 3]
    assert memory.state.writes.tolist() == [2, 1, 1, 1]
    write(4)  # 0 was written again, so 1 is the least used
    assert held() == [0, 4, 2, 3]
    memory.touch(key[[2]])
    write(5)
    assert held() == [0, 4, 2, 5]
    write(6)
    assert held() == [6, 4, 2, 5]
    memory.touch(key)  # all alike: the lowest index goes first
    write(7)
    assert held() == [7, 4, 2, 5]
    memory.forget(key[[2, 5, 11]])
    assert held() == [7, 4, -1, -1]
    write(8)
    assert held() == [7, 4, 8, -1]
    assert memory.state.clock == 10


@pytest.mark.parametrize("blend", [0.2, 1.0])
def test_merged_values_blend_geometrically(blend):
    memory = DynamicMemory(8, 3, blend=blend).double()
    key, values = drawn(1, 8), drawn(6, 3, seed=1)
    memory.update(key.expand(6, -1) * torch.arange(1, 7)[:, None], values)
    shares = np.array([(1 - blend) ** 5, *(blend * (1 - blend) ** (5 - i) for i in range(1, 6))])
    torch.testing.assert_close(memory.query(key)[0], torch.from_numpy(shares @ values.numpy()), **EXACT)
    assert memory.state.writes[0] == 6
    assert torch.equal(memory.state.keys[0], key[0])


def test_softmax_read_is_that_of_the_softmax_store():
    keys, values, asked = drawn(20, 6), drawn(20, 3, seed=1), drawn(9, 6, seed=2)
    memory = DynamicMemory(6, 3, capacity=64, match=1.0, read="softmax", beta=5.0).double()
    store = SoftmaxMemory(6, 3, capacity=64, beta=5.0).double()
    for each in (memory, store):
        each.update(keys, values)
    torch.testing.assert_close(memory.query(asked), store.query(asked), **EXACT)


def test_gradients_through_merging_growing_and_evicting():
    memory = DynamicMemory(4, 2, capacity=5, initial_slots=2, match=0.9, blend=0.3, read="softmax", beta=2.0).double()
    keys, values, asked = drawn(9, 4), drawn(9, 2, seed=1), drawn(3, 4, seed=2)
    keys[4], keys[6] = 2 * keys[3], keys[0] * 0.5
    for tensor in (keys, values, asked):
        tensor.requires_grad_()
    fresh = memory.init_state(())
    assert torch.autograd.gradcheck(
        lambda k, v, q: memory.read(memory.write(memory.write(fresh, k, v), k.flip(0)[:3], v[:3]), q),
        (keys, values, asked),
    )


def test_a_match_of_one_tells_close_directions_apart():
    """Cosines of float32 cannot: 1e-4 apart they are 1."""
    memory = DynamicMemory(3, 1, match=1.0)
    keys = torch.tensor([[1.0, 0, 0], [1.0, 1e-4, 0], [3.0, 0, 0]])
    memory.update(keys, torch.tensor([[1.0], [2.0], [5.0]]))
    assert memory.state.writes.tolist()[:3] == [2, 1, 0]
    assert memory.query(keys)[:, 0].tolist() == [3.0, 2.0, 3.0]


def test_ten_thousand_rows_later_the_least_used_is_still_known():
    """0.95^10000 is 0 in any float: usage kept as a number would tie, and slot 0 would go first."""
    memory = DynamicMemory(64, 1, capacity=8)
    keys = torch.eye(64)
    memory.update(keys[:8], torch.arange(8.0)[:, None])
    memory.touch(keys[:3])
    memory.update(keys[7:8].expand(10_000, -1), torch.full((10_000, 1), 7.0))
    assert memory.slot_usage()[:7].sum() == 0
    memory.update(keys[8:9], torch.tensor([[8.0]]))
    assert memory.state.keys.argmax(-1).tolist() == [0, 1, 2, 8, 4, 5, 6, 7]
    assert torch.isfinite(memory.query(keys)).all()


def test_a_grown_store_can_be_loaded_and_one_too_large_is_refused():
    memory, other = (DynamicMemory(6, 3, capacity=40, initial_slots=4) for _ in range(2))
    memory.update(torch.randn(30, 6), torch.randn(30, 3))
    other.load_state_dict(memory.state_dict())
    asked = torch.randn(5, 6)
    assert torch.equal(other.query(asked), memory.query(asked))
    with pytest.raises(RuntimeError, match="S at most 16"):
        DynamicMemory(6, 3, capacity=16, initial_slots=4).load_state_dict(memory.state_dict())


def test_claims_follow_the_options():
    assert not DynamicMemory(4, 4).spec.constant_state
    assert DynamicMemory(4, 4, capacity=8).spec.constant_state
    assert (DynamicMemory(4, 4).spec.exact, DynamicMemory(4, 4, match=1.0).spec.exact) == (False, True)
    assert (DynamicMemory(4, 4).spec.overwrite, DynamicMemory(4, 4, blend=1.0).spec.overwrite) == ("blend", "replace")
    assert [DynamicMemory(4, 4, match=m).spec.family for m in (0.5, 0.95)] == ["generic", "cache"]
