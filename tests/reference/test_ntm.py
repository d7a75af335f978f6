"""NTMMemory: its addressing against hand-made numbers, a step against loops over the paper's equations, exact copying."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import NTMMemory
from memspec.reference.memories.ntm import Addressing, NTMGates
from memspec.reference.ops.addressing import content_weights, interpolate, sharpen, shift
from memspec.reference.ops.writes import erase_add


def weighting(*shape, seed=0):
    return drawn(*shape, seed=seed).softmax(-1)


def real(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# ---- addressing -----------------------------------------------------------------------------------------------


def test_content_at_strength_zero_is_uniform():
    weights = content_weights(drawn(2, 5), drawn(7, 5, seed=1), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(weights, torch.full((2, 7), 1 / 7, dtype=torch.float64), **EXACT)


def test_content_is_the_softmax_of_cosines():
    keys, memory, beta = drawn(2, 5), drawn(7, 5, seed=1), real(0.5, 30.0)
    for h in range(2):
        cosines = [float(keys[h] @ m / (keys[h].norm() * m.norm())) for m in memory]
        expected = np.exp(float(beta[h]) * np.array(cosines))
        expected /= expected.sum()
        np.testing.assert_allclose(content_weights(keys, memory, beta)[h], expected, atol=1e-12)


def test_content_at_any_strength_is_finite():
    weights = content_weights(drawn(1, 5), drawn(7, 5, seed=1), real(1e6))
    assert weights.sum() == 1
    assert weights.max() == 1


def test_a_mask_hides_entries():
    """Masked entries do not count, per head; a half-open mask weighs them by its square."""
    keys, memory, mask = drawn(2, 3), drawn(4, 3, seed=1), torch.tensor([[1, 0, 0.5], [0, 1, 1]], dtype=torch.float64)
    beta = real(3.0, 3.0)
    for h in range(2):
        alone = content_weights(keys[h : h + 1] * mask[h], memory * mask[h], beta[:1])
        torch.testing.assert_close(content_weights(keys, memory, beta, mask)[h], alone[0], **EXACT)
    noise = content_weights(keys[1:], memory + 9 * torch.eye(3, dtype=torch.float64)[0], beta[:1], mask[1:])
    torch.testing.assert_close(noise, content_weights(keys[1:], memory, beta[:1], mask[1:]), **EXACT)


def test_a_closed_gate_stays_where_it_was():
    previous = weighting(2, 7)
    assert torch.equal(interpolate(weighting(2, 7, seed=1), previous, real(0, 0)), previous)
    assert torch.equal(interpolate(weighting(2, 7, seed=1), previous, real(1, 1)), weighting(2, 7, seed=1))


@pytest.mark.parametrize("by", [-2, -1, 0, 1, 2])
def test_a_shift_moves_by_so_many_slots_in_its_own_direction(by):
    """All mass on +1 moves weight from slot i to i + 1 (convolution; a cross-correlation would go the other way)."""
    weights, shares = weighting(2, 7), torch.zeros(2, 5, dtype=torch.float64)
    shares[:, by + 2] = 1
    assert torch.equal(shift(weights, shares), torch.roll(weights, by, dims=-1))
    one = torch.eye(7, dtype=torch.float64)[3:4]
    assert shift(one, shares[:1]).argmax() == 3 + by


def test_a_soft_shift_is_a_circular_convolution():
    """Against ``w~(i) = sum_j w(j) s(i - j mod N)`` by two loops."""
    weights, shares = weighting(1, 6)[0].numpy(), weighting(1, 3, seed=1)[0].numpy()
    expected = np.zeros(6)
    for i in range(6):
        for j in range(6):
            for o in (-1, 0, 1):
                expected[i] += weights[j] * shares[o + 1] * ((i - j - o) % 6 == 0)
    moved = shift(torch.tensor(weights)[None], torch.tensor(shares)[None])[0]
    np.testing.assert_allclose(moved, expected, atol=1e-14)


def test_an_even_number_of_shifts_is_refused():
    with pytest.raises(ValueError, match="must be odd"):
        shift(weighting(1, 5), weighting(1, 4))


def test_sharpening():
    """(.5, .3, .2) at gamma 2 is (.25, .09, .04) / .38; gamma 1 changes nothing."""
    weights = real(0.5, 0.3, 0.2)[None]
    torch.testing.assert_close(sharpen(weights, real(2.0))[0], real(25, 9, 4) / 38, **EXACT)
    torch.testing.assert_close(sharpen(weights, real(1.0)), weights, **EXACT)


def test_sharpening_stays_finite():
    """Uniform over many slots at a large gamma (float32 underflows there), all zeros, and gradients at exact zeros."""
    even = torch.full((1, 512), 1 / 512)
    torch.testing.assert_close(sharpen(even, torch.tensor([40.0])), even)
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    gamma = torch.tensor([3.0, 3.0], requires_grad=True)
    out = sharpen(weights, gamma)
    assert torch.equal(out, weights)
    out.sum().backward()
    assert torch.isfinite(weights.grad).all()
    assert torch.isfinite(gamma.grad).all()


def test_sharpening_has_the_right_gradient():
    inputs = (weighting(2, 5).requires_grad_(), real(1.5, 4.0).requires_grad_())
    assert torch.autograd.gradcheck(sharpen, inputs)


def test_a_one_hot_write_replaces_one_row():
    memory, row = drawn(6, 4), drawn(1, 4, seed=1)
    weights = torch.eye(6, dtype=torch.float64)[2:3]
    after = erase_add(memory, weights, torch.ones_like(row), row)
    assert torch.equal(after[2], row[0])
    assert torch.equal(after[[0, 1, 3, 4, 5]], memory[[0, 1, 3, 4, 5]])


def test_two_heads_erase_together_then_add():
    """Erases multiply, adds come after all of them, in whatever order the heads stand."""
    memory, weights, erase, add = drawn(5, 3), weighting(2, 5), drawn(2, 3).sigmoid(), drawn(2, 3, seed=1)
    expected = memory.clone().numpy()
    for i in range(5):
        for d in range(3):
            for h in range(2):
                expected[i, d] *= 1 - float(weights[h, i] * erase[h, d])
            for h in range(2):
                expected[i, d] += float(weights[h, i] * add[h, d])
    np.testing.assert_allclose(erase_add(memory, weights, erase, add), expected, atol=1e-14)
    swapped = erase_add(memory, weights.flip(0), erase.flip(0), add.flip(0))
    torch.testing.assert_close(swapped, torch.tensor(expected), **EXACT)


# ---- a step ---------------------------------------------------------------------------------------------------


def plain_address(key, strength, gate, shares, gamma, memory, previous):
    """Equations 5 to 9 for one head, entry by entry."""
    slots, reach = len(memory), len(shares) // 2
    similarity = [key @ row / (np.linalg.norm(key) * np.linalg.norm(row)) for row in memory]
    content = np.exp(strength * np.array(similarity))
    content /= content.sum()
    mixed = gate * content + (1 - gate) * previous
    moved = [sum(mixed[(i - o) % slots] * shares[o + reach] for o in range(-reach, reach + 1)) for i in range(slots)]
    sharp = np.array(moved) ** gamma
    return sharp / sharp.sum()


@pytest.mark.parametrize("read_first", [False, True], ids=["write-read", "read-write"])
def test_steps_are_those_of_plain_loops(read_first):
    """Ten steps of 2 read and 2 write heads with random gates, both orders, against numpy loops."""
    memory = NTMMemory(3, 2, 6, read_heads=2, write_heads=2, reach=2, initial=0.1, read_first=read_first).double()
    state = memory.init_state(())
    rows = np.full((6, 5), 0.1)
    reads_at, writes_at = [np.eye(6)[5]] * 2, [np.eye(6)[5]] * 2
    for step in range(10):
        gates = memory.interface(2 * drawn(memory.interface_size, seed=step))
        reads, state = memory.step(gates, state)

        def heads(part, before, rows):
            return [plain_address(*(np.asarray(p[h]) for p in part), rows, before[h]) for h in range(2)]

        if read_first:
            reads_at = heads(gates.read, reads_at, rows)
            read = [w @ rows for w in reads_at]
        writes_at = heads(gates.write, writes_at, rows)
        for h in range(2):
            rows = rows * (1 - np.outer(writes_at[h], gates.erase[h]))
        for h in range(2):
            rows = rows + np.outer(writes_at[h], gates.add[h])
        if not read_first:
            reads_at = heads(gates.read, reads_at, rows)
            read = [w @ rows for w in reads_at]
        np.testing.assert_allclose(reads, read, atol=1e-10)
    np.testing.assert_allclose(state.memory, rows, atol=1e-10)
    np.testing.assert_allclose(state.write_weights, writes_at, atol=1e-10)


def copy_gates(memory, write, read, row):
    """Gates of a copying machine: write head moved on and writing ``row`` (or None), read head moved on or held."""

    def placed(on):
        shares = real(0, 0, 1) if on else real(0, 1, 0)
        return Addressing(drawn(1, memory.width), real(5.0), real(0.0), shares[None], real(1.0))

    erase = torch.full((1, memory.width), float(write), dtype=torch.float64)
    return NTMGates(placed(read), placed(write), erase, row[None] * float(write))


@pytest.mark.parametrize("count", [1, 8, 20])
def test_hand_set_gates_copy_exactly(count):
    """Write head on by one each input, read head on by one each output: the sequence comes back with error 0.0."""
    memory = NTMMemory(5, 3, 24).double()
    items, state, out = drawn(count, 8).sign(), memory.init_state(()), []
    for item in items:
        state = memory.step(copy_gates(memory, True, False, item), state)[1]
    for _ in range(count):
        reads, state = memory.step(copy_gates(memory, False, True, torch.zeros(8, dtype=torch.float64)), state)
        out.append(reads[0])
    assert torch.equal(torch.stack(out), items)


@pytest.mark.parametrize(("logit", "error"), [(5.0, 1e-8), (10.0, 1e-10), (20.0, 5e-15)])
def test_finite_logits_copy_as_well_as_they_erase(logit, error):
    """Through sigmoids and softmaxes at +-logit what is left is the unerased share of the initial 1e-6."""
    memory = NTMMemory(5, 3, 48).double()
    items, state, out = drawn(20, 8).sign(), memory.init_state(()), []

    def raw(writing, reading, row):
        still, on = real(-1, 1, -1), real(-1, -1, 1)
        read = torch.cat((drawn(8), logit * torch.cat((real(-1, -1), on if reading else still, real(1)))))
        write = torch.cat((drawn(8), logit * torch.cat((real(-1, -1), on, real(1)))))
        erase = torch.full((8,), logit if writing else -logit, dtype=torch.float64)
        return memory.interface(torch.cat((read, write, erase, row)))

    for item in items:
        state = memory.step(raw(True, False, item), state)[1]
    for _ in items:
        reads, state = memory.step(raw(False, True, torch.zeros(8, dtype=torch.float64)), state)
        out.append(reads[0])
    assert (torch.stack(out) - items).abs().max() < error


# ---- driven ---------------------------------------------------------------------------------------------------


def test_the_pointer_goes_round():
    """Row t is in slot t mod S, bit for bit, in an integer trace over three rounds."""
    memory = NTMMemory(2, 1, 5).double()
    for t in range(15):
        row = drawn(1, 3, seed=t)
        memory.update(row[:, :2], row[:, 2:])
        assert torch.equal(memory.state.memory[t % 5], row[0])
        assert memory.state.write_weights[0].argmax() == t % 5
        assert memory.slot_usage().sum() == min(t + 1, 5)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("count", [1, 4, 7, 20])
def test_the_fast_form_is_the_mechanics(count, heads):
    """One scatter for the whole batch, and the heads moved step by step: the same state, bit for bit."""
    memory = NTMMemory(3, 2, 7, write_heads=heads, read_heads=2).double()
    state = memory.write(memory.init_state((2,)), drawn(2, 3, 3), drawn(2, 3, 2, seed=1))
    keys, values = drawn(2, count, 3, seed=2), drawn(2, count, 2, seed=3)
    fast = memory.write(state, keys, values)
    slow = memory._write_by_steps(state, torch.cat((keys, values), -1))
    assert all(torch.equal(one, other) for one, other in zip(fast, slow))


def test_a_spread_pointer_writes_spread():
    """After a controller has left the pointer between slots, rows go where the mechanics put them."""
    memory = NTMMemory(3, 2, 6).double()
    state = memory.init_state(())._replace(write_weights=weighting(1, 6))
    row = drawn(1, 5)
    after = memory.write(state, row[:, :3], row[:, 3:])
    moved = torch.roll(weighting(1, 6), 1, -1)
    torch.testing.assert_close(after.write_weights, moved, **EXACT)
    expected = 1e-6 * (1 - moved.mT) + moved.mT @ row
    torch.testing.assert_close(after.memory, expected, **EXACT)


def test_head_options_shape_state_and_interface():
    """reach, read_heads and write_heads: each shows in the state or in what a controller must give."""
    base = NTMMemory(3, 2, 6)
    width = 5
    assert base.interface_size == 2 * (width + 3 + 3) + 2 * width
    assert NTMMemory(3, 2, 6, reach=2).interface_size == base.interface_size + 4
    assert NTMMemory(3, 2, 6, read_heads=3).state.read_weights.shape == (3, 6)
    assert NTMMemory(3, 2, 6, write_heads=3).state.write_weights.shape == (3, 6)
    assert NTMMemory(3, 2, 6, initial=0).spec.empty_read == "zeros"
    assert torch.equal(NTMMemory(3, 2, 6, initial=0).query(torch.ones(2, 3)), torch.zeros(2, 2))


def test_interface_ranges():
    """Unconstrained numbers become weights, gates and strengths in their ranges, batched."""
    memory = NTMMemory(3, 2, 6, read_heads=2, write_heads=3, reach=2)
    gates = memory.interface(9 * drawn(4, memory.interface_size).float())
    assert gates.read.key.shape == (4, 2, 5)
    assert gates.write.shift.shape == (4, 3, 5)
    torch.testing.assert_close(gates.write.shift.sum(-1), torch.ones(4, 3))
    for part in (gates.read, gates.write):
        assert part.strength.min() >= 0
        assert part.gamma.min() >= 1
        assert part.gate.min() >= 0
        assert part.gate.max() <= 1
    assert gates.erase.shape == gates.add.shape == (4, 3, 5)
    reads, state = memory.step(gates, memory.init_state((4,)))
    assert reads.shape == (4, 2, 5)
    torch.testing.assert_close(state.read_weights.sum(-1), torch.ones(4, 2))
