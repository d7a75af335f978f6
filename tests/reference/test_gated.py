"""GatedMemory: open and closed gates to the bit, several heads, learned gates against a plain loop."""

from __future__ import annotations

import numpy as np
import torch

from drawing import EXACT, drawn
from memspec.reference import GatedMemory
from memspec.reference.memories.gated import SlotGates
from memspec.reference.ops.writes import gated_write


def ones(*shape):
    return torch.ones(*shape, dtype=torch.float64)


def built(gates="fixed"):
    torch.manual_seed(1)
    return GatedMemory(3, 2, 6, beta=3.0, gates=gates).double()


def test_forget_one_input_zero_keeps_every_bit():
    """Whatever the weights and the candidate."""
    memory = drawn(6, 5)
    after = gated_write(memory, drawn(6).softmax(-1), ones(6, 5), 0 * ones(6, 5), drawn(6, 5, seed=1))
    assert torch.equal(after, memory)


def test_forget_zero_input_one_puts_the_candidate_in_one_slot():
    memory, candidate = drawn(6, 5), drawn(1, 5, seed=1)
    after = gated_write(memory, torch.eye(6, dtype=torch.float64)[2], 0 * ones(1, 1), ones(1, 1), candidate)
    assert torch.equal(after[2], candidate[0])
    assert torch.equal(after[[0, 1, 3, 4, 5]], memory[[0, 1, 3, 4, 5]])


def test_between_open_and_closed():
    """``(1 - w) M + w (f M + i c)``, entry by entry."""
    memory, w, c = drawn(6, 5), drawn(6).softmax(-1), drawn(6, 5, seed=1)
    f, i = drawn(6, 5, seed=2).sigmoid(), drawn(6, 5, seed=3).sigmoid()
    expected = np.empty((6, 5))
    for s in range(6):
        for d in range(5):
            kept = float(f[s, d] * memory[s, d] + i[s, d] * c[s, d])
            expected[s, d] = float(1 - w[s]) * float(memory[s, d]) + float(w[s]) * kept
    np.testing.assert_allclose(gated_write(memory, w, f, i, c), expected, atol=1e-14)


def test_heads_write_one_after_the_other_and_reads_pass_the_output_gate():
    memory = built()
    state = memory.init_state(())
    weights, candidates = drawn(2, 6).softmax(-1), drawn(2, 1, 5, seed=1)
    output = drawn(3, 6, 5, seed=2).sigmoid()
    asked = drawn(3, 6, seed=4).softmax(-1)
    gates = SlotGates(weights, 0.3 * ones(2, 1, 1), 0.6 * ones(2, 1, 1), candidates, asked, output)
    reads, after = memory.step(gates, state)
    rows = state.memory
    for h in range(2):
        rows = (1 - weights[h, :, None]) * rows + weights[h, :, None] * (0.3 * rows + 0.6 * candidates[h])
    torch.testing.assert_close(after.memory, rows, **EXACT)
    for r in range(3):
        torch.testing.assert_close(reads[r], sum(asked[r, s] * output[r, s] * rows[s] for s in range(6)), **EXACT)


def test_the_drive_is_a_step_with_fixed_gates():
    """update = forget 0, input 1, candidate [k; v], one-hot on the next slot; query = content, output 1."""
    memory = built()
    state, row = memory.init_state(()), drawn(1, 5)
    first = torch.eye(6, dtype=torch.float64)[:1]
    whole = ones(1, 1, 1)
    by_key = memory.weights(state._replace(memory=memory.write(state, row[:, :3], row[:, 3:]).memory), row[:, :3])
    reads, after = memory.step(SlotGates(first, 0 * whole, whole, row[None], by_key, whole), state)
    memory.update(row[:, :3], row[:, 3:])
    assert torch.equal(memory.state.memory, after.memory)
    torch.testing.assert_close(memory.query(row[:, :3]), reads[:, 3:], **EXACT)


def test_learned_gates_are_a_linear_layer_on_row_and_slot():
    memory = built("learned")
    with torch.no_grad():
        state = memory.init_state(())
        rows, (row,) = state.memory.numpy().copy(), drawn(1, 5)
        after = memory.write(state, row[None, :3], row[None, 3:])
        weight, bias = memory.layer.weight.numpy(), memory.layer.bias.numpy()
        weights = memory.weights(state, row[None, :3])[0].numpy()
    assert bias[:5].tolist() == [1.0] * 5

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for s in range(6):
        raw = weight @ np.concatenate((row.numpy(), rows[s])) + bias
        forget, entry, candidate = sigmoid(raw[:5]), sigmoid(raw[5:10]), np.tanh(raw[10:15])
        rows[s] = (1 - weights[s]) * rows[s] + weights[s] * (forget * rows[s] + entry * candidate)
    np.testing.assert_allclose(after.memory.detach(), rows, atol=1e-12)
    with torch.no_grad():
        query = drawn(1, 3, seed=2)
        asked, (answer,) = memory.weights(after, query)[0].numpy(), memory.read(after, query)
    expected = 0
    for s in range(6):
        raw = weight @ np.concatenate((query[0].numpy(), np.zeros(2), rows[s])) + bias
        expected = expected + asked[s] * sigmoid(raw[18:20]) * rows[s, 3:]
    np.testing.assert_allclose(answer, expected, atol=1e-12)
    assert memory.spec.fidelity == "trained"


def test_one_training_step_through_the_learned_gates_lowers_the_loss():
    memory = built("learned")
    keys, values = drawn(4, 3), drawn(4, 2, seed=1)
    optimiser, losses = torch.optim.Adam(memory.parameters(), lr=0.01), []
    for _ in range(20):
        answers = memory.read(memory.write(memory.init_state(()), keys, values), keys)
        losses.append((answers - values).square().mean())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0]


def test_content_addresses_whole_rows():
    memory = built()
    state = memory.init_state(())
    weights = memory.content(state.memory[None, 4].detach(), state)
    assert weights.argmax() == 4
    torch.testing.assert_close(weights.sum(), ones(1)[0], **EXACT)
