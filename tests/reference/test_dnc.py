"""DNCMemory: allocation, links and steps against closed forms and against loops over the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import DNCMemory
from memspec.reference.memories.dnc import DNCGates
from memspec.reference.ops.addressing import oneplus
from memspec.reference.ops.links import linked
from memspec.reference.ops.usage import allocation


def uniform(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ---- allocation -----------------------------------------------------------------------------------------------


def test_allocation_sums_to_what_is_free():
    """``sum a = 1 - prod u``, exactly, for any usage."""
    for seed in range(5):
        usage = uniform(3, 9, seed=seed)
        torch.testing.assert_close(allocation(usage).sum(-1), 1 - usage.prod(-1), rtol=0, atol=1e-14)


def test_allocation_slot_by_slot():
    """``a[i] = (1 - u[i]) prod of all usages that are smaller``, without sorting."""
    usage = uniform(9)
    for i in range(9):
        below = [float(u) for u in usage if u < usage[i]]
        assert abs(float(allocation(usage)[i]) - float(1 - usage[i]) * np.prod(below)) < 1e-14


def test_ties_go_to_the_lowest_slot():
    """A fresh memory allocates slot 0, whole; then the first free one."""
    assert allocation(torch.zeros(10)).tolist() == [1.0] + 9 * [0.0]
    usage = torch.tensor([1.0, 1, 0, 1, 0, 0])
    assert allocation(usage).tolist() == [0, 0, 1, 0, 0, 0]
    assert allocation(torch.ones(4)).tolist() == [0.0] * 4


def test_allocation_gradient():
    assert torch.autograd.gradcheck(allocation, (uniform(2, 6).requires_grad_(),))
    usage = torch.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    (allocation(usage) * torch.arange(4)).sum().backward()
    assert torch.isfinite(usage.grad).all()


# ---- links ----------------------------------------------------------------------------------------------------


def test_link_sums_are_bounded():
    """Rows, columns and precedence sum to at most 1 and the diagonal is zero, under any write weights."""
    links, precedence = torch.zeros(2, 7, 7, dtype=torch.float64), torch.zeros(2, 7, dtype=torch.float64)
    for seed in range(60):
        weights = drawn(2, 7, seed=seed).mul(4).softmax(-1) * uniform(2, 1, seed=seed)
        links, precedence = linked(links, precedence, weights)
        for sums in (links.sum(-1), links.sum(-2), precedence.sum(-1)):
            assert sums.max() <= 1 + 1e-12
        assert links.min() >= 0
        assert links.diagonal(dim1=-2, dim2=-1).abs().max() == 0


# ---- a step ---------------------------------------------------------------------------------------------------


class PlainDNC:
    """The Methods section of Graves et al. 2016, entry by entry, for one write head."""

    def __init__(self, slots, width, reads, deallocate=False):
        self.n, self.reads, self.deallocate = slots, reads, deallocate
        self.memory = np.zeros((slots, width))
        self.usage, self.write, self.precedence = np.zeros(slots), np.zeros(slots), np.zeros(slots)
        self.links, self.read = np.zeros((slots, slots)), np.zeros((reads, slots))

    @staticmethod
    def content(key, strength, memory, mask=None):
        mask = np.ones_like(key) if mask is None else mask
        scores = []
        for row in memory:
            length = np.linalg.norm(key * mask) * np.linalg.norm(row * mask)
            scores.append(strength * ((key * mask) @ (row * mask) / length if length else 0.0))
        weights = np.exp(np.array(scores))
        return weights / weights.sum()

    def step(self, gates):
        g = {name: None if part is None else part.numpy() for name, part in gates._asdict().items()}
        for i in range(self.n):
            retained = 1.0
            for r in range(self.reads):
                retained *= 1 - g["free"][r] * self.read[r, i]
            self.usage[i] = (self.usage[i] + self.write[i] - self.usage[i] * self.write[i]) * retained
            if self.deallocate:
                g.setdefault("kept", {})[i] = retained
        order = sorted(range(self.n), key=lambda i: self.usage[i])
        allocated, product = np.zeros(self.n), 1.0
        for i in order:
            allocated[i] = (1 - self.usage[i]) * product
            product *= self.usage[i]
        mask = None if g["write_mask"] is None else g["write_mask"][0]
        content = self.content(g["write_key"][0], g["write_strength"][0], self.memory, mask)
        share = g["allocate"][0]
        self.write = g["write"][0] * (share * allocated + (1 - share) * content)
        for i in range(self.n):
            if self.deallocate:
                self.memory[i] *= g["kept"][i]
            self.memory[i] = self.memory[i] * (1 - self.write[i] * g["erase"][0]) + self.write[i] * g["add"][0]
        links = np.zeros_like(self.links)
        for i in range(self.n):
            for j in range(self.n):
                if i != j:
                    links[i, j] = (1 - self.write[i] - self.write[j]) * self.links[i, j]
                    links[i, j] += self.write[i] * self.precedence[j]
        self.links = links
        self.precedence = (1 - self.write.sum()) * self.precedence + self.write
        after = np.zeros_like(self.read)
        for r in range(self.reads):
            mask = None if g["read_mask"] is None else g["read_mask"][r]
            content = self.content(g["read_key"][r], g["read_strength"][r], self.memory, mask)
            back, mid, ahead = g["read_modes"][r]
            for i in range(self.n):
                backward = sum(self.links[j, i] * self.read[r, j] for j in range(self.n))
                forward = sum(self.links[i, j] * self.read[r, j] for j in range(self.n))
                after[r, i] = back * backward + mid * content[i] + ahead * forward
        self.read = after
        return self.read @ self.memory


@pytest.mark.parametrize("deallocate", [False, True], ids=["kept", "deallocated"])
@pytest.mark.parametrize("mask", [False, True], ids=["unmasked", "masked"])
def test_steps_are_those_of_plain_loops(mask, deallocate):
    """Fifteen steps with random gates: reads and the whole state against the loops."""
    memory = DNCMemory(3, 2, 6, read_heads=3, mask=mask, deallocate=deallocate).double()
    plain, state = PlainDNC(6, 5, 3, deallocate), memory.init_state(())
    for step in range(15):
        gates = memory.interface(3 * drawn(memory.interface_size, seed=step))
        reads, state = memory.step(gates, state)
        np.testing.assert_allclose(reads, plain.step(gates), atol=1e-10)
    for name in ("memory", "usage"):
        np.testing.assert_allclose(getattr(state, name), getattr(plain, name), atol=1e-10)
    np.testing.assert_allclose(state.links[0], plain.links, atol=1e-10)
    np.testing.assert_allclose(state.precedence[0], plain.precedence, atol=1e-10)
    np.testing.assert_allclose(state.read_weights, plain.read, atol=1e-10)


def gates_for(memory, row=None, key=None, mode=1, free=0.0, strength=1e3):
    """Hand-set gates of one read and one write head: write ``row`` to a free slot; read by mode 0 back, 1 content, 2 on."""
    width, zero = memory.width, torch.zeros(1, dtype=torch.float64)
    none, one = torch.zeros(1, width, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    writing = zero if row is None else one
    return DNCGates(
        read_key=none if key is None else key[None],
        read_strength=strength * one,
        read_modes=torch.eye(3, dtype=torch.float64)[mode][None],
        write_key=none,
        write_strength=one,
        erase=none + 1,
        add=none if row is None else row[None],
        free=free * one,
        allocate=one,
        write=writing,
    )


def written(count, slots=8):
    memory = DNCMemory(5, 3, slots).double()
    items, state = drawn(count, 8), memory.init_state(())
    for row in items:
        state = memory.step(gates_for(memory, row=row), state)[1]
    return memory, items, state


def test_slots_are_taken_in_turn_and_linked():
    """T <= N writes with allocation: slots 0, 1, 2, ..., ``L[t+1, t] = 1`` and nothing else."""
    memory, items, state = written(6)
    assert torch.equal(state.memory[:6], items)
    assert torch.equal(state.write_weights[0], torch.eye(8, dtype=torch.float64)[5])
    expected = torch.zeros(8, 8, dtype=torch.float64)
    for t in range(5):
        expected[t + 1, t] = 1
    assert torch.equal(state.links[0], expected)
    assert torch.equal(state.precedence[0], torch.eye(8, dtype=torch.float64)[5])
    assert memory.occupied(state).tolist() == [1] * 6 + [0] * 2


@pytest.mark.parametrize("forwards", [True, False], ids=["forwards", "backwards"])
def test_links_replay_the_sequence_exactly(forwards):
    """Content finds one end, then the link modes replay what was written, in order or reversed, with error 0.0."""
    memory, items, state = written(7)
    order = items if forwards else items.flip(0)
    reads, state = memory.step(gates_for(memory, key=order[0]), state)
    out = [reads[0]]
    for _ in range(6):
        reads, state = memory.step(gates_for(memory, mode=2 if forwards else 0), state)
        out.append(reads[0])
    assert torch.equal(torch.stack(out), order)


def test_a_freed_slot_is_taken_first():
    """Free gate open on a one-hot read: that slot is the next to be written, before the untouched ones' turn."""
    memory, items, state = written(8)
    state = memory.step(gates_for(memory, key=items[3]), state)[1]
    row = drawn(8, seed=9)
    state = memory.step(gates_for(memory, row=row, free=1.0), state)[1]
    assert torch.equal(state.memory[3], row)
    assert torch.equal(state.memory[[0, 1, 2, 4, 5, 6, 7]], items[[0, 1, 2, 4, 5, 6, 7]])


def test_a_full_memory_with_closed_free_gates_takes_no_more():
    memory, items, state = written(8)
    after = memory.step(gates_for(memory, row=drawn(8, seed=9)), state)[1]
    assert torch.equal(after.memory, items)


def test_content_on_a_fresh_memory_is_uniform():
    memory = DNCMemory(3, 2, 6).double()
    state = memory.step(gates_for(memory, key=drawn(5)), memory.init_state(()))[1]
    torch.testing.assert_close(state.read_weights, torch.full((1, 6), 1 / 6, dtype=torch.float64), **EXACT)


def test_deallocation_erases_what_is_freed():
    """Freed rows still answer without it (the paper), and are zero with it."""
    for deallocate in (False, True):
        memory = DNCMemory(5, 3, 4, deallocate=deallocate).double()
        state = memory.init_state(())
        items = drawn(3, 8)
        for row in items:
            state = memory.step(gates_for(memory, row=row), state)[1]
        state = memory.step(gates_for(memory, key=items[1]), state)[1]
        state = memory.step(gates_for(memory, free=1.0), state)[1]
        assert bool(state.memory[1].eq(0).all()) == deallocate
        assert torch.equal(state.memory[[0, 2]], items[[0, 2]])


def test_several_write_heads_take_different_slots():
    """Two heads with allocation in one step: each a slot of its own, in order, each with its own links."""
    memory = DNCMemory(3, 2, 6, write_heads=2).double()
    state, rows = memory.init_state(()), drawn(3, 2, 5)
    one = gates_for(memory)
    for pair in rows:
        gates = one._replace(
            write_key=torch.zeros(2, 5, dtype=torch.float64),
            write_strength=torch.ones(2, dtype=torch.float64),
            erase=torch.ones(2, 5, dtype=torch.float64),
            add=pair,
            allocate=torch.ones(2, dtype=torch.float64),
            write=torch.ones(2, dtype=torch.float64),
            read_modes=torch.full((1, 5), 0.2, dtype=torch.float64),
        )
        state = memory.step(gates, state)[1]
    assert torch.equal(state.memory, rows.flatten(0, 1))
    for head, links in enumerate(state.links):
        assert links.nonzero().tolist() == [[head + 2, head], [head + 4, head + 2]]


def test_usage_grad_stops_the_gradient_through_usage():
    """With it off, the first step's write gate no longer acts on where the second step allocates."""
    grads = []
    for usage_grad in (True, False):
        memory = DNCMemory(2, 1, 4, usage_grad=usage_grad, linkage=False).double()
        opened = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
        first = gates_for(memory, row=drawn(3))._replace(write=opened)
        start = memory.init_state(())._replace(usage=torch.tensor([0, 0.5, 0.6, 0.7], dtype=torch.float64))
        state = memory.write_step(first, start)
        state = memory.write_step(gates_for(memory, row=drawn(3, seed=1)), state)
        grads.append(torch.autograd.grad(state.write_weights[0, 0], opened, allow_unused=True)[0])
    assert grads[0].abs() > 0.1
    assert grads[1] is None or grads[1].abs() == 0


def test_strength_options():
    """oneplus is ``1 + log(1 + e^x)`` as the paper has it; softplus as its published code."""
    raw = drawn(DNCMemory(2, 1, 4).interface_size)
    one, soft = (DNCMemory(2, 1, 4, strength=s).interface(raw) for s in ("oneplus", "softplus"))
    torch.testing.assert_close(one.read_strength, soft.read_strength + 1, **EXACT)
    torch.testing.assert_close(one.write_strength, soft.write_strength + 1, **EXACT)
    assert float(oneplus(torch.tensor(0.0))) == pytest.approx(1.6931471805599453, abs=1e-6)


def test_without_links_only_content_is_read():
    memory = DNCMemory(3, 2, 6, linkage=False, mask=False).double()
    assert memory.state.links is None
    assert memory.spec.eviction == "none"
    linked_size = DNCMemory(3, 2, 6, mask=False).interface_size
    assert memory.interface_size == linked_size - 2
    state = memory.init_state(())
    for step in range(4):
        reads, state = memory.step(memory.interface(drawn(memory.interface_size, seed=step)), state)
    torch.testing.assert_close(state.read_weights.sum(-1), torch.ones(1, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(reads, state.read_weights @ state.memory, **EXACT)


# ---- driven ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 7, 8, 9, 30])
@pytest.mark.parametrize("before", [0, 4, 7, 11])
@pytest.mark.parametrize("linkage", [True, False], ids=["linked", "unlinked"])
def test_the_fast_form_is_the_mechanics(linkage, before, count):
    """One scatter for the whole batch, and the steps one by one: the same state bit for bit, full or not."""
    memory = DNCMemory(3, 2, 7, write_heads=2, read_heads=2, linkage=linkage).double()
    state = memory._write_by_steps(memory.init_state((2,)), drawn(2, before, 5))
    keys, values = drawn(2, count, 3, seed=2), drawn(2, count, 2, seed=3)
    fast = memory.write(state, keys, values)
    slow = memory._write_by_steps(state, torch.cat((keys, values), -1))
    for one, other in zip(fast, slow):
        assert one is other is None or torch.equal(one, other)


def test_a_state_left_by_a_controller_is_written_by_the_mechanics():
    """After soft steps, rows go by allocation to what is free; the newest is read back."""
    memory = DNCMemory(4, 3, 6, read_heads=2).double()
    state = memory.init_state(())
    for step in range(5):
        state = memory.step(memory.interface(drawn(memory.interface_size, seed=step)), state)[1]
    keys, values = drawn(2, 4, seed=7), drawn(2, 3, seed=8)
    after = memory.write(state, keys, values)
    assert torch.equal(after.read_weights, state.read_weights)
    by_hand = memory._write_by_steps(state, torch.cat((keys, values), -1))
    assert torch.equal(after.memory, by_hand.memory)
    assert after.write_weights.sum() <= 1 + 1e-12


def test_an_unlinked_memory_keeps_what_came_first():
    memory = DNCMemory(16, 2, 4, linkage=False).double()
    keys, values = torch.eye(16, dtype=torch.float64)[:6], drawn(6, 2)
    memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys[:4]), values[:4], **EXACT)
    memory.update(keys[4:], values[4:])
    torch.testing.assert_close(memory.query(keys[:4]), values[:4], **EXACT)
    assert memory.slot_usage().tolist() == [1] * 4


def test_the_key_mask_is_what_keeps_values_out_of_the_address():
    """8 orthonormal keys at beta 20, value lengths tenfold apart: exact masked, useless unmasked."""
    keys = torch.eye(8, dtype=torch.float64)
    values = drawn(8, 4) * torch.logspace(0, 1, 8, dtype=torch.float64)[:, None]
    errors = []
    for mask in (True, False):
        memory = DNCMemory(8, 4, 8, beta=20.0, mask=mask).double()
        memory.update(keys, values)
        errors.append(float((memory.query(keys) - values).norm() / values.norm()))
    assert errors[0] < 1e-7
    assert errors[1] > 0.05
