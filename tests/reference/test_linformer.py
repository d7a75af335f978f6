"""LinformerMemory and the layer of a language model: closed forms, loops in numpy, PyTorch's attention, causality."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from drawing import EXACT, drawn
from memspec.reference import LinformerMemory
from memspec.reference.memories.linformer import ImplicitMemory, ImplicitState
from memspec.reference.ops.implicit import summarise

NORMS = pytest.mark.parametrize("norm", ["layer", "l2"])


def normal(row: np.ndarray, norm: str) -> np.ndarray:
    if norm == "layer":
        return (row - row.mean()) / row.std()
    return row / np.linalg.norm(row)


def shares(query: np.ndarray, slots: np.ndarray, temperature: float, norm: str) -> np.ndarray:
    """Softmax over slots of a normed query; the cosine (l2), or the product of layer-normed rows over sqrt(n)."""
    scores = np.array([query @ slot for slot in slots]) / temperature
    e = np.exp(scores / math.sqrt(len(query)) if norm == "layer" else scores)
    return e / e.sum()


# ---- the memory of pairs --------------------------------------------------------------------------------------


@NORMS
def test_pairs_move_slots_as_written_down(norm: str) -> None:
    """Row by row and slot by slot in numpy, W_v away from identity."""
    memory = LinformerMemory(6, 4, slots=3, lr=0.3, temperature=0.5, norm=norm).double()
    with torch.no_grad():
        memory.value_map.copy_(drawn(4, 4, seed=9))
    m, c, n = (part.numpy().copy() for part in memory.state)
    keys, values, queries = drawn(15, 6), drawn(15, 4, seed=1), drawn(5, 6, seed=2)
    memory.update(keys[:4], values[:4])
    memory.update(keys[4:], values[4:])
    for key, value in zip(keys.numpy(), values.numpy()):
        k = normal(key, norm)
        for s, a in enumerate(shares(k, m, 0.5, norm)):
            m[s] = normal(m[s] + 0.3 * a * (k - m[s]), norm)
            c[s] += 0.3 * a * (value - c[s])
            n[s] += 0.3 * a * (1 - n[s])
    expected = [
        shares(normal(q, norm), m, 0.5, norm) @ (c / n[:, None]) @ memory.value_map.detach().numpy()
        for q in queries.numpy()
    ]
    torch.testing.assert_close(memory.query(queries), torch.from_numpy(np.stack(expected)), **EXACT)
    torch.testing.assert_close(memory.slot_usage(), torch.from_numpy(n), **EXACT)


@NORMS
def test_one_slot_is_an_average_with_its_start_corrected(norm: str) -> None:
    """S = 1: every query answers ``sum lr (1-lr)^(t-i) v_i / (1 - (1-lr)^t)``."""
    memory = LinformerMemory(6, 4, slots=1, lr=0.2, norm=norm).double()
    values = drawn(7, 4, seed=1)
    memory.update(drawn(7, 6), values)
    ages = torch.arange(6, -1, -1, dtype=torch.float64)
    expected = (0.2 * 0.8**ages) @ values / (1 - 0.8**7)
    torch.testing.assert_close(memory.query(drawn(3, 6, seed=2)), expected.expand(3, -1), **EXACT)
    assert memory.slot_usage().item() == pytest.approx(1 - 0.8**7)


def test_one_slot_turns_towards_orthonormal_keys_in_closed_form() -> None:
    """S = 1, unit keys orthogonal to each other and to the start: every step shortens by ``c = |(1-lr, lr)|``."""
    places = torch.linalg.qr(drawn(8, 8)).Q
    memory = LinformerMemory(8, 2, slots=1, lr=0.1, norm="l2").double()
    memory.state = memory.state._replace(addresses=places[:1])
    memory.update(places[1:], drawn(7, 2))
    c = math.hypot(0.9, 0.1)
    powers = (0.9 / c) ** torch.arange(7, -1, -1, dtype=torch.float64)
    powers[1:] *= 0.1 / c
    torch.testing.assert_close(memory.state.addresses[0], powers @ places, **EXACT)


@NORMS
def test_one_pair_is_exact_at_once(norm: str) -> None:
    memory = LinformerMemory(6, 4, norm=norm).double()
    value = drawn(1, 4, seed=1)
    memory.update(drawn(1, 6), value)
    torch.testing.assert_close(memory.query(drawn(3, 6, seed=2)), value.expand(3, -1), **EXACT)


def test_slots_are_means_of_values() -> None:
    """Values of one hyperplane stay in it: the contents of every slot are weighted means of what was written."""
    memory = LinformerMemory(6, 4).double()
    values = drawn(50, 4)
    values[:, 0] = 3.0
    memory.update(drawn(50, 6, seed=1), values)
    torch.testing.assert_close(memory.slot_values()[:, 0], torch.full((8,), 3.0, dtype=torch.float64), **EXACT)
    assert (memory.slot_values() <= values.amax(0) + 1e-10).all()


@NORMS
def test_slots_stay_different(norm: str) -> None:
    """After 64 orthogonal keys the addresses' mutual cosines are below .5; the published module reaches .99."""
    for seed in range(5):
        torch.manual_seed(seed)
        memory = LinformerMemory(64, 8, norm=norm).double()
        memory.update(torch.linalg.qr(drawn(64, 64, seed=seed)).Q, drawn(64, 8, seed=seed))
        addresses = F.normalize(memory.state.addresses, dim=-1)
        assert (addresses @ addresses.mT).fill_diagonal_(0).max() < 0.5


def test_addressing_is_not_uniform() -> None:
    """The default tells slots apart: entropy well below log S, where the published one has 1.000000 of it."""
    memory = LinformerMemory(64, 8)
    memory.update(drawn(64, 64).float(), drawn(64, 8, seed=1).float())
    weights = memory.read_weights(drawn(200, 64, seed=2).float())
    entropy = -(weights * weights.log()).sum(-1).mean()
    assert entropy < 0.9 * math.log(8)


# ---- the layer of a language model ----------------------------------------------------------------------------


def layer(width: int = 8, gate: bool = True, **options: object) -> ImplicitMemory:
    """A layer in float64, its gate open (or as it starts) and its value map away from identity."""
    torch.manual_seed(0)
    built = ImplicitMemory(width, **{"chunk": 4, "slots": 3, "lr": 0.3} | options).double()
    with torch.no_grad():
        built.value_map.copy_(drawn(width, width, seed=7))
        if gate:
            built.gate.weight.copy_(drawn(1, width, seed=8))
            built.gate.bias.fill_(0.5)
    return built


def test_a_closed_gate_changes_no_bit() -> None:
    """As it starts, the layer is the identity: the logits of a GPT that carries it are those of the GPT."""
    block = layer(gate=False)
    tokens = drawn(2, 11, 8)
    out, _ = block(tokens)
    assert torch.equal(out, tokens)
    out.sum().backward()
    assert block.gate.weight.grad is not None
    assert block.gate.weight.grad.abs().max() > 0  # and it can open


@NORMS
def test_no_token_sees_those_after_it(norm: str) -> None:
    """Another token at t leaves all outputs before t as they were, bit for bit; later chunks see it."""
    block, tokens = layer(norm=norm), drawn(1, 15, 8)
    before, _ = block(tokens)
    for t in range(15):
        changed = tokens.clone()
        changed[:, t] = drawn(8, seed=100 + t)
        after, _ = block(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        seen = (after[0, t + 1 :] != before[0, t + 1 :]).any(-1)
        first = (t // 4 + 1) * 4  # the start of the next chunk
        assert not seen[: first - t - 1].any()
        assert seen[first - t - 1 :].all()


def test_sequences_of_a_batch_are_apart() -> None:
    """NaN in one sequence reaches no other; each is answered as it would be alone."""
    block, tokens = layer(), drawn(3, 14, 8)
    clean, _ = block(tokens)
    broken = tokens.clone()
    broken[1] = torch.nan
    spoiled, _ = block(broken)
    assert torch.equal(spoiled[[0, 2]], clean[[0, 2]])
    for sequence, answer in zip(tokens.split(1), clean.split(1)):
        torch.testing.assert_close(block(sequence)[0], answer, **EXACT)


@pytest.mark.parametrize("cuts", [[1] * 14, [5, 4, 5], [4, 8, 2], [3, 0, 11], [0, 14]], ids=str)
def test_pieces_with_their_state_are_the_whole(cuts: list[int]) -> None:
    block, tokens = layer(), drawn(2, 14, 8)
    whole, last = block(tokens)
    state, pieces = block.initial_state(2), []
    for piece in tokens.split(cuts, 1):
        answer, state = block(piece, state)
        pieces.append(answer)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, **EXACT)
    for one, other in zip(state, last):
        torch.testing.assert_close(one, other, **EXACT)


@NORMS
def test_the_layer_as_written_down(norm: str) -> None:
    """Token by token in numpy: summaries of completed chunks alone move slots, the gated read is added."""
    block, tokens = layer(norm=norm), drawn(1, 14, 8)
    w = {name: p.detach().numpy() for name, p in block.named_parameters()}
    slots = np.stack([normal(row, norm) for row in w["start"]])
    expected = []
    for t, x in enumerate(tokens[0].numpy()):
        if t and t % 4 == 0:
            for s, row in enumerate(w["projection"].T @ tokens[0, t - 4 : t].numpy()):
                slots[s] = normal(slots[s] + 0.3 * (normal(row, norm) - slots[s]), norm)
        read = shares(normal(x, norm), slots, 0.8, norm) @ slots @ w["value_map"]
        read = (read - read.mean()) / np.sqrt(read.var() + 1e-5) * w["read_norm.weight"] + w["read_norm.bias"]
        expected.append(x + np.tanh(x @ w["gate.weight"][0] + w["gate.bias"]) * read)
    torch.testing.assert_close(block(tokens)[0][0], torch.from_numpy(np.stack(expected)), **EXACT)


@pytest.mark.parametrize(("norm", "scale"), [("layer", 1 / (0.8 * math.sqrt(8))), ("l2", 1 / 0.8)])
def test_without_compression_it_is_exact_attention(norm: str, scale: float) -> None:
    """E = identity, S = C, lr = 1: a chunk attends to the tokens of the chunk before, by PyTorch's attention."""
    block, tokens = layer(slots=4, lr=1.0, norm=norm), drawn(2, 12, 8)
    with torch.no_grad():
        block.projection.copy_(torch.eye(4))
    answers, _ = block(tokens)
    rows = F.layer_norm(tokens, (8,), eps=0) if norm == "layer" else F.normalize(tokens, dim=-1)
    for start in (4, 8):
        now, past = rows[:, start : start + 4], rows[:, start - 4 : start]
        read = F.scaled_dot_product_attention(now, past, past, scale=scale) @ block.value_map
        x = tokens[:, start : start + 4]
        expected = x + torch.tanh(x @ block.gate.weight.mT + block.gate.bias) * F.layer_norm(read, (8,))
        torch.testing.assert_close(answers[:, start : start + 4], expected, **EXACT)


def test_summaries_are_low_rank_products_of_completed_chunks() -> None:
    tokens, projection = drawn(2, 11, 5), drawn(4, 3, seed=1)
    got = summarise(tokens, projection)
    expected = torch.einsum("bcti,ts->bcsi", tokens[:, :8].reshape(2, 2, 4, 5), projection)
    torch.testing.assert_close(got, expected, **EXACT)
    assert summarise(tokens[:, :3], projection).shape == (2, 0, 3, 5)


@NORMS
def test_slots_of_the_layer_stay_different(norm: str) -> None:
    """Two chunks of orthogonal tokens, taken over at once: mutual cosines below .5."""
    block = layer(64, chunk=32, slots=8, lr=1.0, norm=norm)
    _, state = block(torch.linalg.qr(drawn(64, 64)).Q[None])
    slots = F.normalize(state.slots[0], dim=-1)
    assert (slots @ slots.mT).fill_diagonal_(0).max() < 0.5


def test_one_slot_of_the_layer_is_an_average() -> None:
    """S = C = 1, orthonormal tokens: the slot is the closed form of repeated steps of the same shortening."""
    places = torch.linalg.qr(drawn(8, 8)).Q
    block = layer(chunk=1, slots=1, lr=0.1, norm="l2")
    with torch.no_grad():
        block.projection.fill_(1.0)
    _, state = block(places[None, 1:], ImplicitState(places[None, :1], places.new_zeros(1, 0, 8)))
    c = math.hypot(0.9, 0.1)
    powers = (0.9 / c) ** torch.arange(7, -1, -1, dtype=torch.float64)
    powers[1:] *= 0.1 / c
    torch.testing.assert_close(state.slots[0, 0], powers @ places, **EXACT)


def test_gradients_reach_every_weight_and_earlier_chunks() -> None:
    block = layer()
    tokens = drawn(2, 14, 8).requires_grad_()
    out, _ = block(tokens)
    out[:, 12:].square().sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[:, :4].abs().max() > 0
    dead = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not dead


def test_the_state_stays_small_and_finite() -> None:
    """3,000 tokens in pieces, in bfloat16: the same slots, less than a chunk waiting, all finite."""
    block = layer().to(torch.bfloat16)
    state = block.initial_state(2)
    for seed in range(30):
        out, state = block(drawn(2, 100, 8, seed=seed).to(torch.bfloat16), state)
        state = ImplicitState(*(part.detach() for part in state))
        assert out.isfinite().all()
        assert state.slots.isfinite().all()
        assert state.slots.shape == (2, 3, 8)
        assert state.pending.shape[1] < 4
