"""MemoryCell: exact writes, identity, and a step of several heads against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import MemoryCell
from memspec.reference.memories.cell import CellGates


def built(slots=6):
    torch.manual_seed(1)
    return MemoryCell(3, 2, slots).double()


def test_a_sharp_write_replaces_one_row():
    """A key equal to row 2 at a strength that makes w one-hot, e = 1: row 2 is a, the others are bit-equal."""
    memory = built()
    state = memory.init_state(())
    row, sharp = drawn(1, 5), torch.full((1,), 1e5, dtype=torch.float64)
    gates = CellGates(state.memory[2:3], sharp, torch.ones_like(row), row, row, sharp)
    reads, after = memory.step(gates, state)
    assert torch.equal(after.memory[2], row[0])
    assert torch.equal(after.memory[[0, 1, 3, 4, 5]], state.memory[[0, 1, 3, 4, 5]])
    assert torch.equal(reads, row)


def test_nothing_erased_and_nothing_added_is_the_identity():
    memory = built()
    state = memory.init_state(())
    zero = torch.zeros(4, 5, dtype=torch.float64)
    one = torch.ones(4, dtype=torch.float64)
    after = memory.step(CellGates(drawn(4, 5), one, zero, zero, drawn(4, 5), one), state)[1]
    assert torch.equal(after.memory, state.memory)


@pytest.mark.parametrize("heads", [1, 4])
def test_steps_are_those_of_plain_loops(heads):
    memory = built()
    state = memory.init_state(())
    rows = state.memory.detach().numpy().copy()

    def content(key, strength, rows):
        w = np.exp([strength * key @ m / np.linalg.norm(key) / np.linalg.norm(m) for m in rows])
        return w / w.sum()

    for step in range(8):
        g = memory.interface(2 * drawn(heads * 22, seed=step))
        reads, state = memory.step(g, state)
        key, strength, erase, add, read_key, read_strength = (part.numpy() for part in g)
        weights = [content(key[h], strength[h], rows) for h in range(heads)]
        for h in range(heads):
            rows = rows * (1 - np.outer(weights[h], erase[h]))
        for h in range(heads):
            rows = rows + np.outer(weights[h], add[h])
        expected = [content(read_key[h], read_strength[h], rows) @ rows for h in range(heads)]
        np.testing.assert_allclose(reads.detach(), expected, atol=1e-10)
    np.testing.assert_allclose(state.memory.detach(), rows, atol=1e-10)


def test_a_driven_write_is_a_sharp_content_write():
    """update to a matching key = a step whose write key is the slot's own row at a great strength, e = 1, a = [k; v]."""
    memory = built()
    memory.update(drawn(4, 3), drawn(4, 2, seed=1))
    state, row = memory.state, torch.cat((drawn(4, 3)[2], drawn(2, seed=5)))[None]
    sharp = torch.full((1,), 1e6, dtype=torch.float64)
    stepped = memory.step(CellGates(state.memory[2:3], sharp, torch.ones_like(row), row, row, sharp), state)[1]
    memory.update(row[:, :3], row[:, 3:])
    torch.testing.assert_close(memory.state.memory, stepped.memory, **EXACT)


def test_the_initial_memory_is_learned():
    """A fresh state is the Parameter itself, which gets the gradient of what is read from it."""
    memory = built()
    state = memory.init_state((2,))
    assert torch.equal(state.memory[1], memory.initial)
    memory.read(state, drawn(2, 4, 3)).square().sum().backward()
    assert memory.initial.grad.abs().min() > 0
