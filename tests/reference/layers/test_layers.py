"""Layers against what they are without their memory, and their memories against the rules written out row by row."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drawing import EXACT, drawn
from memspec.networks.held import mixed
from memspec.reference import DeltaMemory, GatedDeltaMemory, LinearAttentionMemory, MatrixAssociativeMemory
from memspec.reference.layers import DynamicMemoryLayer, MemoryLayer, RecurrentMemoryLayer, TransformerMemoryLayer
from memspec.reference.layers.held import HeldMemory

Linear = functools.partial(LinearAttentionMemory, feature_map="identity", normalise=False, key_norm="none")


def loud(layer: nn.Module) -> Any:
    """The layer in float64, with what comes out of its memory no longer silent."""
    torch.manual_seed(0)
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.5)
    return layer.double()


def projected(layer: Any, tokens: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys, values ``[T, B, D]``, steps and shares kept ``[T, B, 1]`` of a layer with one head, by its weights."""
    queries, keys, values = (tokens @ layer.interface.rows.weight.T).chunk(3, -1)
    step, left = F.linear(tokens, layer.interface.gates.weight, layer.interface.gates.bias).sigmoid().chunk(2, -1)
    return queries, keys, values, step, left


# ---- silent at first ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["DeltaMemory", "SoftmaxMemory", "NTMMemory", "TTTMemory"])
def test_a_new_memory_layer_is_the_identity_bit_for_bit(memory: str) -> None:
    xs = drawn(5, 3, 6).float()
    ys, _ = MemoryLayer(6, memory)(xs)
    assert torch.equal(ys, xs)


def test_a_new_dynamic_memory_layer_is_the_identity_bit_for_bit() -> None:
    xs = drawn(5, 3, 6).float()
    assert torch.equal(DynamicMemoryLayer(6)(xs)[0], xs)


def test_a_new_recurrent_memory_layer_is_its_cell_bit_for_bit() -> None:
    layer, hidden = RecurrentMemoryLayer(6, 7), torch.zeros(3, 7)
    xs = drawn(5, 3, 6).float()
    ys, _ = layer(xs)
    for x, y in zip(xs, ys):
        hidden = layer.cell(x, hidden)
        assert torch.equal(y, hidden)


@pytest.mark.parametrize("window", [1, 4, 9])
def test_a_new_transformer_memory_layer_is_torchs_layer_with_a_window(window: int) -> None:
    layer = TransformerMemoryLayer(6, 10, num_heads=2, window=window).double()
    torch.manual_seed(0)
    plain = nn.TransformerEncoderLayer(6, 2, 10, dropout=0.0, activation="gelu", norm_first=True, dtype=torch.float64)
    ours = {"norm1": layer.norm, "self_attn.out_proj": layer.mixed}
    ours |= {"norm2": layer.feed[0], "linear1": layer.feed[1], "linear2": layer.feed[3]}
    with torch.no_grad():
        plain.self_attn.in_proj_weight.copy_(layer.attention.weight)
        plain.self_attn.in_proj_bias.zero_()
        for name, module in ours.items():
            plain.get_submodule(name).load_state_dict(module.state_dict())
    t = torch.arange(8)
    hidden = (t > t[:, None]) | (t <= t[:, None] - window)
    xs = drawn(8, 3, 6)
    torch.testing.assert_close(layer(xs)[0], plain(xs, src_mask=hidden), **EXACT)


# ---- what the memory does -------------------------------------------------------------------------------------


def test_over_plain_linear_attention_it_is_masked_attention_without_a_softmax() -> None:
    layer = loud(MemoryLayer(6, Linear, memory_dim=4, gates=False))
    xs = drawn(9, 3, 6)
    tokens = F.layer_norm(xs, (6,), layer.norm.weight, layer.norm.bias).transpose(0, 1)
    q, k, v = (tokens @ layer.interface.rows.weight.T).chunk(3, -1)
    read = (q @ k.mT).tril() @ v
    want = xs + F.linear(read, layer.output.weight, layer.output.bias).transpose(0, 1)
    torch.testing.assert_close(layer(xs)[0], want, **EXACT)


def test_over_the_delta_rule_steps_and_decays_of_each_token_are_those_of_the_rule() -> None:
    """``S <- a S + b k^T (v - a k S)`` with unit keys, one token after another."""
    layer = loud(MemoryLayer(6, memory_dim=4))
    xs = drawn(9, 2, 6)
    q, k, v, step, left = projected(layer, F.layer_norm(xs, (6,), layer.norm.weight, layer.norm.bias))
    matrix, want = torch.zeros(2, 4, 4).double(), []
    for t in range(9):
        key = (k[t] / k[t].norm(dim=-1, keepdim=True)).unsqueeze(1)
        matrix = left[t].unsqueeze(-1) * matrix
        matrix = matrix + step[t].unsqueeze(-1) * key.mT @ (v[t].unsqueeze(1) - key @ matrix)
        query = (q[t] / q[t].norm(dim=-1, keepdim=True)).unsqueeze(1)
        want.append(xs[t] + F.linear((query @ matrix).squeeze(1), layer.output.weight, layer.output.bias))
    torch.testing.assert_close(layer(xs)[0], torch.stack(want), **EXACT)


@pytest.mark.parametrize(
    "memory",
    [
        MatrixAssociativeMemory,
        functools.partial(MatrixAssociativeMemory, key_norm="unit"),
        DeltaMemory,
        functools.partial(DeltaMemory, beta=0.5, key_norm="none"),
        functools.partial(GatedDeltaMemory, alpha=1.0),
        LinearAttentionMemory,
        Linear,
    ],
    ids=["hebb", "hebb-unit", "delta", "delta-half", "gated-delta", "linear-attention", "linear"],
)
@pytest.mark.parametrize("gates", [True, False])
def test_a_scan_is_writing_by_shares_token_by_token(memory: Any, gates: bool) -> None:
    """These rules are linear in their state, so a share of a write is a write with a share of the step."""
    held = HeldMemory(memory, 4, 3, 8, heads=2).double()
    q, k, v = drawn(2, 2, 70, 4) / 2, drawn(2, 2, 70, 4, seed=1) / 2, drawn(2, 2, 70, 3, seed=2)
    step, log_decay = drawn(2, 2, 70, seed=3).sigmoid(), F.logsigmoid(drawn(2, 2, 70, seed=4))
    given = (step, log_decay) if gates else (None, None)
    answers, state = held.scan(held.start(2), q, k, v, *given)
    one, want = held.start(2), []
    for t in range(70):
        rows = slice(t, t + 1)
        shares = (step[..., t], log_decay[..., t]) if gates else (None, None)
        one = held.write(one, k[..., rows, :], v[..., rows, :], *shares)
        want.append(held.read(one, q[..., rows, :]))
    torch.testing.assert_close(answers, torch.cat(want, -2), **EXACT)
    for part, other in zip(state, one):
        torch.testing.assert_close(part, other, **EXACT)


@pytest.mark.parametrize(
    ("decaying", "plain"),
    [
        (functools.partial(GatedDeltaMemory, alpha=0.9), DeltaMemory),
        (functools.partial(MatrixAssociativeMemory, decay=0.9), MatrixAssociativeMemory),
    ],
    ids=["delta", "hebb"],
)
def test_a_decay_of_the_memorys_own_is_one_more_of_every_token(decaying: Any, plain: Any) -> None:
    first, second = (HeldMemory(memory, 4, 3, 8).double() for memory in (decaying, plain))
    q, k, v = (drawn(2, 1, 9, n, seed=n) for n in (4, 4, 3))
    step, log_decay = drawn(2, 1, 9, seed=3).sigmoid(), F.logsigmoid(drawn(2, 1, 9, seed=4))
    got, _ = first.scan(first.start(2), q, k, v, step, log_decay)
    want, _ = second.scan(second.start(2), q, k, v, step, log_decay + math.log(0.9))
    torch.testing.assert_close(got, want, **EXACT)


@pytest.mark.parametrize("memory", ["NTMMemory", "DNCMemory", "AttentionMemory", "TitansMemory", "LRUMemory"])
def test_a_closed_gate_leaves_every_bit_and_an_open_one_writes_in_full(memory: str) -> None:
    held = HeldMemory(memory, 4, 3, 8, heads=2)
    k, v = drawn(2, 2, 1, 4).float(), drawn(2, 2, 1, 3).float()
    before = held.write(held.start(2), k, v, None, None)
    whole = held.write(before, v.new_ones(2, 2, 1, 4), v, None, None)
    shut = held.write(before, v.new_ones(2, 2, 1, 4), v, torch.zeros(2, 2), None)
    full = held.write(before, v.new_ones(2, 2, 1, 4), v, torch.ones(2, 2), None)
    parts = [[t for t in state if t is not None] for state in (before, shut, whole, full)]
    assert all(torch.equal(a, b) for a, b in zip(parts[0], parts[1]))
    assert all(torch.equal(a, b) for a, b in zip(parts[2], parts[3]))


def test_half_a_share_is_half_way() -> None:
    old, new = (torch.zeros(1, 1, 2), torch.tensor([[3]])), (torch.ones(1, 1, 2), torch.tensor([[4]]))
    numbers, counts = mixed(old, new, torch.full((1, 1), 0.5))
    assert numbers.tolist() == [[[0.5, 0.5]]]
    assert counts.tolist() == [[4]]


def test_heads_are_memories_of_their_own() -> None:
    held = HeldMemory("DeltaMemory", 4, 3, 8, heads=2)
    k, v, q = (drawn(1, 2, 5, n, seed=n).float() for n in (4, 3, 4))
    both, _ = held.scan(held.start(1), q, k, v)
    for head in range(2):
        one = HeldMemory("DeltaMemory", 4, 3, 8)
        alone, _ = one.scan(one.start(1), *(part[:, head : head + 1] for part in (q, k, v)))
        torch.testing.assert_close(both[:, head : head + 1], alone)


def test_beyond_the_window_only_the_memory_remembers() -> None:
    silent = TransformerMemoryLayer(6, 10, window=3)
    speaking = loud(TransformerMemoryLayer(6, 10, window=3)).float()
    xs = drawn(8, 1, 6).float()
    other = torch.cat((drawn(1, 1, 6, seed=5).float(), xs[1:]))
    assert torch.equal(silent(xs)[0][3:], silent(other)[0][3:])
    assert not torch.allclose(speaking(xs)[0][-1], speaking(other)[0][-1])


# ---- a store that grows and frees -----------------------------------------------------------------------------


def test_a_store_grows_by_doubling_whatever_the_tokens_are() -> None:
    layer = DynamicMemoryLayer(6, memory_size=20, initial_size=4, collect=1000)
    state, sizes = layer.initial_state(2), []
    for x in drawn(24, 2, 6).float():
        _, state = layer.step(torch.stack((x[0], torch.ones(6))), state)
        sizes.append(state.keys.shape[-2])
    assert sizes == [4] * 4 + [8] * 4 + [16] * 8 + [20] * 8


def test_slots_that_nobody_uses_are_freed() -> None:
    """At .95 a token, usage is below .1 once 45 have passed: of 64 alike after 3 others, one slot is left."""
    layer = DynamicMemoryLayer(6, memory_size=16, collect=16)
    strangers = drawn(3, 1, 6).float()
    _, state = layer.run(torch.cat((strangers, torch.arange(6.0).expand(15, 1, 6))), layer.initial_state(1))
    assert int((state.writes > 0).sum()) == 4
    _, state = layer.run(torch.arange(6.0).expand(46, 1, 6), state)
    assert int((state.writes > 0).sum()) == 1


# ---- what is refused ------------------------------------------------------------------------------------------


def test_a_name_that_is_no_reference_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"memspec\.reference has Ad"):
        MemoryLayer(6, "DletaMemory")


def test_a_memory_without_a_functional_form_is_refused() -> None:
    with pytest.raises(ValueError, match="no functional form"):
        MemoryLayer(6, lambda key_dim, value_dim: object())


def test_a_memory_that_grows_cannot_be_written_by_shares() -> None:
    layer = MemoryLayer(6, "DynamicMemory", memory_size=64)
    with pytest.raises(ValueError, match="build the layer with gates=False"):
        layer(drawn(40, 1, 6).float())
    MemoryLayer(6, "DynamicMemory", memory_size=64, gates=False)(drawn(40, 1, 6).float())


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="divisor of input_size = 6"):
        TransformerMemoryLayer(6, 10, num_heads=4)
