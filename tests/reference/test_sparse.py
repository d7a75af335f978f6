"""SparseMemory: its choice of slots, access traces, closed gates, sparse gradients, and a step against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import SparseMemory
from memspec.reference.memories.sparse import SparseGates
from memspec.reference.ops.addressing import content_weights, top_k


def real(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def filled(**options):
    memory = SparseMemory(6, 3, 8, **options).double()
    memory.update(drawn(8, 6), drawn(8, 3, seed=1))
    return memory


# ---- choice ---------------------------------------------------------------------------------------------------


def test_the_k_best_ties_to_the_lowest_index():
    """Against a sort of (score, index) pairs in Python, with many ties; NaN counts as the least."""
    generator = torch.Generator().manual_seed(0)
    for k in (1, 3, 10):
        scores = torch.randint(4, (5, 10), generator=generator).double()
        expected = [sorted(sorted(range(10), key=lambda i: (-row[i], i))[:k]) for row in scores.tolist()]
        assert top_k(scores, k).tolist() == expected
    assert top_k(real(0, 0, 0, 0), 2).tolist() == [0, 1]
    assert top_k(real(torch.nan, 1, torch.nan, 2), 2).tolist() == [1, 3]


def test_all_slots_is_dense():
    """K = S is a softmax over everything."""
    memory, asked = filled(k=8, beta=3.0), drawn(5, 6, seed=2)
    state = memory.state
    dense = content_weights(asked, state.memory[:, :6], torch.full((5,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(memory.query(asked), dense @ state.memory[:, 6:], **EXACT)
    torch.testing.assert_close(memory.read_weights(asked), dense, **EXACT)


def test_one_slot_is_the_nearest_neighbour():
    """K = 1 answers the value of the largest cosine, bit for bit, at any beta."""
    memory, asked = filled(k=1, beta=0.1), drawn(20, 6, seed=2)
    keys, values = drawn(8, 6), drawn(8, 3, seed=1)
    for query, answer in zip(asked, memory.query(asked)):
        best = max(range(8), key=lambda i: float(query @ keys[i] / keys[i].norm()))
        assert torch.equal(answer, values[best])
    assert memory.spec.exact


@pytest.mark.parametrize("k", [2, 5])
def test_weights_are_those_of_the_k_best_alone(k):
    memory, asked = filled(k=k, beta=4.0), drawn(1, 6, seed=2)
    cosines = [float(asked[0] @ key / key.norm() / asked.norm()) for key in drawn(8, 6)]
    best = sorted(range(8), key=lambda i: -cosines[i])[:k]
    raw = {i: np.exp(4 * cosines[i]) for i in best}
    expected = [raw.get(i, 0) / sum(raw.values()) for i in range(8)]
    np.testing.assert_allclose(memory.read_weights(asked)[0], expected, atol=1e-12)


def test_gradients_reach_k_rows_and_no_other():
    memory = filled(k=3, beta=2.0)
    rows = memory.state.memory.clone().requires_grad_()
    asked = drawn(1, 6, seed=2)
    memory.read(memory.state._replace(memory=rows), asked).sum().backward()
    touched = rows.grad.abs().sum(-1).gt(0)
    assert touched.tolist() == memory.read_weights(asked)[0].gt(0).tolist()
    assert touched.sum() == 3


# ---- access ---------------------------------------------------------------------------------------------------


def test_the_access_trace_is_that_of_plain_python():
    """Writes among touches of one slot each: which slot is taken and when each was used, against a list."""
    generator = torch.Generator().manual_seed(2)
    memory = SparseMemory(9, 1, 4, k=1).double()
    last, held = list(range(-4, 0)), [None] * 4
    for time in range(60):
        key = int(torch.randint(9, (), generator=generator))
        asked = torch.eye(9, dtype=torch.float64)[key : key + 1]
        if key in held and torch.rand((), generator=generator) < 0.7:
            memory.touch(asked)
            last[held.index(key)] = time
        else:
            slot = last.index(min(last))
            memory.update(asked, torch.zeros(1, 1, dtype=torch.float64))
            held[slot], last[slot] = key, time
        assert memory.state.accessed.tolist() == last
        assert int(memory.state.time) == time + 1


def test_touching_several_at_once_is_touching_one_after_the_other():
    one, other = filled(k=2), filled(k=2)
    asked = drawn(5, 6, seed=3)
    one.touch(asked)
    for row in asked.split(1):
        other.touch(row)
    assert torch.equal(one.state.accessed, other.state.accessed)


def test_it_is_the_slot_accessed_longest_ago_that_goes():
    """Not the one used last, as the paper's formula would have it."""
    memory = SparseMemory(8, 2, 3, k=1).double()
    keys, values = torch.eye(8, dtype=torch.float64), drawn(8, 2)
    memory.update(keys[:3], values[:3])
    memory.touch(keys[:1])
    memory.update(keys[3:5], values[3:5])
    assert torch.equal(memory.query(keys[[0, 3, 4]]), values[[0, 3, 4]])


def test_a_read_below_delta_is_no_access():
    """delta is the weight from which a read counts."""
    counts = []
    for delta in (0.0, 0.25, 0.9):
        memory = filled(k=4, beta=4.0, delta=delta)
        memory.touch(drawn(1, 6, seed=2))
        counts.append(int(memory.state.accessed.eq(8).sum()))
    assert counts[0] == 4
    assert 0 < counts[1] < 4
    assert counts[2] == 0


# ---- a step ---------------------------------------------------------------------------------------------------


def gates(memory, write, reuse, row=None, heads=1):
    row = drawn(heads, memory.width, seed=7) if row is None else row
    one = torch.ones(heads, dtype=torch.float64)
    return SparseGates(drawn(heads, memory.width, seed=8), 5 * one, row, write * one, reuse * one)


def test_a_closed_gate_changes_no_row():
    """Write gate 0 leaves every bit of the memory; erasing always, as the paper has it, would empty a slot."""
    for erase, same in (("gated", True), ("always", False)):
        memory = filled(erase=erase)
        after = memory.step(gates(memory, 0.0, 0.3), memory.state)[1]
        assert torch.equal(after.memory, memory.state.memory) == same


def test_an_open_gate_replaces_the_oldest_row():
    memory = filled()
    row = drawn(1, 9, seed=4)
    after = memory.step(gates(memory, 1.0, 0.0, row), memory.state)[1]
    assert torch.equal(after.memory[0], row[0])
    assert torch.equal(after.memory[1:], memory.state.memory[1:])
    assert int(after.accessed[0]) == 8


def test_writing_where_it_read_adds_there():
    """reuse 1: the written row lands on the read weights; where it coincides with the oldest slot, both add up."""
    memory = filled()
    state = memory.state._replace(read_weights=real(0.5, 0, 0, 0.25, 0, 0, 0, 0.25)[None])
    row = drawn(1, 9, seed=4)
    after = memory.step(gates(memory, 1.0, 1.0, row), state)[1]
    torch.testing.assert_close(after.memory, state.memory + state.read_weights.mT @ row, **EXACT)
    half = memory.step(gates(memory, 1.0, 0.5, row), state)[1]
    expected = state.memory[0] * 0.5 + (0.25 + 0.5) * row[0]
    torch.testing.assert_close(half.memory[0], expected, **EXACT)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("erase", ["gated", "always"])
def test_steps_are_those_of_plain_loops(erase, heads):
    """Twelve steps with random gates against numpy loops."""
    memory = SparseMemory(3, 2, 6, k=2, heads=heads, erase=erase, delta=0.05, initial=0.01).double()
    state = memory.init_state(())
    rows, last, reads = np.full((6, 5), 0.01), list(range(-6, 0)), np.zeros((heads, 6))
    for time in range(12):
        g = memory.interface(2 * drawn(memory.interface_size, seed=time))
        out, state = memory.step(g, state)
        key, strength, add, write, reuse = (part.numpy() for part in g)
        line = sorted(range(6), key=lambda i: last[i])[:heads]
        weights, kept = np.zeros((heads, 6)), np.ones(6)
        for h in range(heads):
            weights[h] = write[h] * reuse[h] * reads[h]
            weights[h, line[h]] += write[h] * (1 - reuse[h])
            kept[line[h]] -= 1 if erase == "always" else write[h] * (1 - reuse[h])
        rows = rows * kept[:, None] + weights.T @ add
        reads = np.zeros((heads, 6))
        for h in range(heads):
            cosines = [float(key[h] @ m / max(np.linalg.norm(m), 1e-300) / np.linalg.norm(key[h])) for m in rows]
            for i in sorted(range(6), key=lambda i: (-round(cosines[i], 9), i))[:2]:
                reads[h, i] = np.exp(strength[h] * cosines[i])
            reads[h] /= reads[h].sum()
        for i in range(6):
            if (weights[:, i] + reads[:, i]).sum() > 0.05:
                last[i] = time
        np.testing.assert_allclose(out, reads @ rows, atol=1e-10)
        assert state.accessed.tolist() == last
    np.testing.assert_allclose(state.memory, rows, atol=1e-10)
