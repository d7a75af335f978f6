"""LRUAMemory: its integer traces, ties, and a step against loops over the paper's equations."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import LRUAMemory
from memspec.reference.memories.lrua import LRUAGates
from memspec.reference.ops.usage import least_used


def test_ties_are_one_hot_and_go_to_the_lowest_slot():
    """A fresh memory has one least used slot, not all of them; the h-th head gets the h-th."""
    assert least_used(torch.zeros(12), 1).tolist() == [[1.0] + 11 * [0.0]]
    usage = torch.tensor([3.0, 1, 2, 1, 2, 1])
    assert least_used(usage, 4).argmax(-1).tolist() == [1, 3, 5, 2]


def test_closed_gates_go_round_robin():
    """With gate 0 and nothing read, slots are taken 0, 1, ..., S-1, 0, ... in steps as in updates."""
    memory = LRUAMemory(2, 1, 5).double()
    for t in range(17):
        row = drawn(1, 3, seed=t)
        memory.update(row[:, :2], row[:, 2:])
        assert torch.equal(memory.state.memory[t % 5], row[0])


@pytest.mark.parametrize("gamma", [Fraction(1, 2), Fraction(9, 10)])
def test_usage_is_that_of_exact_fractions(gamma):
    """Writes among touches that read one slot wholly: usage and the slots taken, against fractions in plain Python."""
    generator = torch.Generator().manual_seed(4)
    memory = LRUAMemory(8, 1, 4, gamma=float(gamma), beta=1e4).double()
    usage, held = [Fraction(0)] * 4, [None] * 4
    for _ in range(40):
        key = int(torch.randint(8, (), generator=generator))
        asked = torch.eye(8, dtype=torch.float64)[key : key + 1]
        if key in held and torch.rand((), generator=generator) < 0.7:
            memory.touch(asked)
            copies = [i for i, k in enumerate(held) if k == key]
            usage = [gamma * u + (Fraction(1, len(copies)) if i in copies else 0) for i, u in enumerate(usage)]
        else:
            slot = usage.index(min(usage))
            memory.update(asked, torch.zeros(1, 1, dtype=torch.float64))
            usage, held[slot] = [gamma * u + (i == slot) for i, u in enumerate(usage)], key
        np.testing.assert_allclose(memory.state.usage, [float(u) for u in usage], atol=1e-12)
        assert [int(row[:8].argmax()) for row in memory.state.memory] == [0 if k is None else k for k in held]


def test_touching_several_at_once_is_touching_one_after_the_other():
    one, other = (LRUAMemory(4, 2, 6).double() for _ in range(2))
    for memory in (one, other):
        memory.update(drawn(5, 4), drawn(5, 2))
    asked = drawn(7, 4, seed=3)
    one.touch(asked)
    for row in asked.split(1):
        other.touch(row)
    torch.testing.assert_close(one.state.usage, other.state.usage, **EXACT)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_steps_are_those_of_plain_loops(heads):
    """Twelve steps with random gates against numpy loops: w, clearing, write, read of the new memory, usage."""
    memory = LRUAMemory(3, 2, 6, beta=1.5, gamma=0.9, heads=heads, initial=0.01).double()
    state = memory.init_state(())
    rows, usage = np.full((6, 5), 0.01), np.zeros(6)
    reads = np.zeros((heads, 6))
    reads[:, 0] = 1
    for step in range(12):
        gates = memory.interface(2 * drawn(memory.interface_size, seed=step))
        out, state = memory.step(gates, state)
        key, gate = gates.key.numpy(), gates.gate.numpy()
        order = sorted(range(6), key=lambda i: usage[i])[:heads]
        weights = np.array([gate[h] * reads[h] for h in range(heads)])
        for h, slot in enumerate(order):
            weights[h, slot] += 1 - gate[h]
            rows[slot] = 0
        for h in range(heads):
            rows = rows + np.outer(weights[h], key[h])
        lengths = np.linalg.norm(rows, axis=1)
        reads = np.array([np.exp(1.5 * rows @ k / lengths / np.linalg.norm(k)) for k in key])
        reads /= reads.sum(1, keepdims=True)
        usage = 0.9 * usage + reads.sum(0) + weights.sum(0)
        np.testing.assert_allclose(out, reads @ rows, atol=1e-10)
    np.testing.assert_allclose(state.memory, rows, atol=1e-10)
    np.testing.assert_allclose(state.usage, usage, atol=1e-10)


def test_a_driven_write_is_a_step_with_gate_zero():
    """The rows that update leaves are those of steps with gate 0; only the steps' reads are not counted as use."""
    memory = LRUAMemory(3, 2, 6).double()
    state, rows = memory.init_state(()), drawn(5, 5)
    for row in rows:
        stepped = memory.step(LRUAGates(row[None], torch.zeros(1, dtype=torch.float64)), state)[1]
        state = stepped._replace(usage=memory.gamma * state.usage + least_used(state.usage, 1)[0])
    driven = memory.write(memory.init_state(()), rows[:, :3], rows[:, 3:])
    torch.testing.assert_close(driven.memory, state.memory, **EXACT)
    torch.testing.assert_close(driven.usage, state.usage, **EXACT)


def test_an_open_gate_writes_where_it_read():
    """Gate 1 adds to the row that was read, and to no other."""
    memory = LRUAMemory(3, 2, 6, beta=1e4).double()
    state = memory.write(memory.init_state(()), drawn(4, 3), drawn(4, 2, seed=1))
    state = state._replace(read_weights=torch.eye(6, dtype=torch.float64)[2:3])
    row = drawn(1, 5, seed=3)
    after = memory.step(LRUAGates(row, torch.ones(1, dtype=torch.float64)), state)[1]
    torch.testing.assert_close(after.memory[2], state.memory[2] + row[0], **EXACT)
    assert torch.equal(after.memory[[0, 1, 3, 5]], state.memory[[0, 1, 3, 5]])


def test_a_touched_slot_outlives_the_others():
    """LRU, not FIFO: of three full slots the touched first one stays."""
    memory = LRUAMemory(8, 2, 3).double()
    keys, values = torch.eye(8, dtype=torch.float64), drawn(8, 2)
    memory.update(keys[:3], values[:3])
    memory.touch(keys[:1])
    memory.update(keys[3:5], values[3:5])
    torch.testing.assert_close(memory.query(keys[[0, 3, 4]]), values[[0, 3, 4]], **EXACT)


def test_the_order_of_use_is_claimed_where_float32_can_keep_it():
    assert LRUAMemory(4, 2, 128).spec.eviction == "lru"
    assert LRUAMemory(4, 2, 4096, gamma=0.95).spec.eviction == "none"
