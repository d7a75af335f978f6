"""AttentionMemory against PyTorch's own attention, a loop in numpy, and the closed form for orthonormal keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from drawing import EXACT, drawn
from memspec.reference import AttentionMemory, SoftmaxMemory


def built(*args: int, moved: bool = True, **options: object) -> AttentionMemory:
    """A memory in float64, its projections away from identity."""
    memory = AttentionMemory(*args, **options).double()
    if moved:
        with torch.no_grad():
            for i, parameter in enumerate(memory.parameters()):
                parameter.copy_(drawn(*parameter.shape, seed=10 + i) / math.sqrt(parameter.shape[0]))
    return memory


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_read_is_scaled_dot_product_attention(heads: int) -> None:
    """Published form (dot products over sqrt(d)), random projections, a ring that has gone round twice."""
    memory = built(8, 12, 5, heads=heads, key_norm="none")
    keys, values, queries = drawn(13, 8), drawn(13, 12, seed=1), drawn(4, 8, seed=2)
    for part in (slice(0, 3), slice(3, 4), slice(4, 13)):
        memory.update(keys[part], values[part])
    q, k, v = (
        (rows @ weight).reshape(len(rows), heads, -1).transpose(0, 1)
        for rows, weight in (
            (queries, memory.query_map),
            (keys[-5:], memory.key_map),
            (values[-5:], memory.value_map),
        )
    )
    expected = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(4, 12) @ memory.answer_map
    torch.testing.assert_close(memory.query(queries), expected, **EXACT)


def test_read_is_that_of_the_multihead_module() -> None:
    """torch.nn.MultiheadAttention with the same projections gives the same answers."""
    module = torch.nn.MultiheadAttention(8, 4, bias=False, batch_first=True, dtype=torch.float64)
    memory = AttentionMemory(8, 8, heads=4, key_norm="none").double()
    with torch.no_grad():
        for mine, theirs in zip(
            (memory.query_map, memory.key_map, memory.value_map), module.in_proj_weight.split(8), strict=True
        ):
            mine.copy_(theirs.mT)
        memory.answer_map.copy_(module.out_proj.weight.mT)
    keys, values, queries = drawn(6, 8), drawn(6, 8, seed=1), drawn(3, 8, seed=2)
    memory.update(keys, values)
    expected, _ = module(queries[None], keys[None], values[None])
    torch.testing.assert_close(memory.query(queries), expected[0], **EXACT)


@pytest.mark.parametrize("key_norm", ["unit", "none"])
def test_orthonormal_keys_have_the_closed_form(key_norm: str) -> None:
    """One head, identity: asking for key j gives (p - c) v_j + c sum v with p, c of e^beta."""
    memory = built(8, 3, 10, key_norm=key_norm, beta=3.0, moved=False)
    keys, values = torch.linalg.qr(drawn(8, 8)).Q[:6], drawn(6, 3, seed=1)
    memory.update(keys, values)
    share = 1 / (math.exp(3) + 5)
    torch.testing.assert_close(memory.query(keys), (math.exp(3) - 1) * share * values + share * values.sum(0), **EXACT)


def test_defaults_of_beta() -> None:
    """1 / sqrt(d) on rows as they are equals sqrt(d) on unit rows, for rows of length sqrt(Dk) (layer-normed)."""
    keys, queries = (F.normalize(drawn(5, 12, seed=s), dim=-1) * math.sqrt(12) for s in (0, 2))
    values = drawn(5, 6, seed=1)
    for heads in (1, 3):
        answers = []
        for key_norm in ("unit", "none"):
            memory = built(12, 6, heads=heads, key_norm=key_norm, moved=False)
            memory.update(keys, values)
            answers.append(memory.query(queries))
        torch.testing.assert_close(*answers, **EXACT)


@pytest.mark.parametrize(("key_dim", "value_dim", "heads"), [(6, 5, 4), (3, 2, 5), (7, 7, 3)])
def test_heads_that_do_not_divide_are_padded(key_dim: int, value_dim: int, heads: int) -> None:
    """Untrained: head h compares and answers the h-th part of ceil(D / H) dimensions alone; in numpy."""
    memory = built(key_dim, value_dim, heads=heads, key_norm="none", moved=False)
    keys, values, queries = drawn(4, key_dim), drawn(4, value_dim, seed=1), drawn(3, key_dim, seed=2)
    memory.update(keys, values)
    d, e = math.ceil(key_dim / heads), math.ceil(value_dim / heads)
    expected = np.zeros((3, value_dim))
    for row, q in zip(expected, queries.numpy()):
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            scores = np.array([q[part] @ k[part] for k in keys.numpy()]) / math.sqrt(d)
            weights = np.exp(scores) / np.exp(scores).sum()
            row[h * e : (h + 1) * e] = (weights @ values.numpy())[h * e : (h + 1) * e]
    torch.testing.assert_close(memory.query(queries), torch.from_numpy(expected), **EXACT)


def test_one_head_untrained_is_softmax_memory() -> None:
    keys, values, queries = drawn(20, 9), drawn(20, 4, seed=1), drawn(5, 9, seed=2)
    answers = []
    for memory in (built(9, 4, 16, moved=False), SoftmaxMemory(9, 4, 16, beta=3.0).double()):
        memory.update(keys, values)
        answers.append(memory.query(queries))
    torch.testing.assert_close(*answers, **EXACT)


@pytest.mark.parametrize("heads", [1, 3])
def test_slots_not_in_use_have_exactly_no_weight(heads: int) -> None:
    memory = built(6, 3, 5, heads=heads)
    asked = drawn(4, 6, seed=3)
    assert memory.query(asked).eq(0).all()
    assert memory.attention(asked).eq(0).all()
    memory.update(drawn(2, 6), drawn(2, 3))
    weights = memory.attention(asked)
    assert weights.shape == (heads, 4, 5)
    assert weights[..., 2:].eq(0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(heads, 4, dtype=torch.float64), **EXACT)
    mixed = memory.read_weights(asked) @ memory.slot_values()
    torch.testing.assert_close(mixed, memory.query(asked), **EXACT)


def test_growing_is_a_ring_that_is_large_enough() -> None:
    growing, large = built(6, 4, capacity=None, heads=2), built(6, 4, capacity=40, heads=2)
    asked = drawn(5, 6, seed=9)
    assert growing.query(asked).eq(0).all()
    assert growing.confidence(asked).eq(0).all()
    for seed in range(5):
        for memory in (growing, large):
            memory.update(drawn(7, 6, seed=seed), drawn(7, 4, seed=100 + seed))
        torch.testing.assert_close(growing.query(asked), large.query(asked), **EXACT)
        torch.testing.assert_close(growing.confidence(asked), large.confidence(asked), **EXACT)
    assert growing.state.keys.shape[-2] == 35
    assert (growing.spec.constant_state, growing.spec.eviction) == (False, "none")
    loaded = built(6, 4, capacity=None, heads=2, moved=False)
    loaded.load_state_dict(growing.state_dict())
    assert torch.equal(loaded.query(asked), growing.query(asked))
    with pytest.raises(RuntimeError, match="wide"):
        built(6, 4, capacity=None, heads=5).load_state_dict(growing.state_dict(), strict=False)


def test_what_writes_carry_to_the_projections() -> None:
    """Detached by default: a loss trains W_q and W_o alone; with grad_through_writes also W_k and W_v."""
    for through in (False, True):
        memory = built(6, 4, heads=2)
        memory.grad_through_writes = through
        memory.update(drawn(3, 6), drawn(3, 4, seed=1))
        memory.query(drawn(2, 6, seed=2)).square().sum().backward()
        got = {name for name, p in memory.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        assert got == {"query_map", "answer_map"} | ({"key_map", "value_map"} if through else set())


def test_second_derivatives() -> None:
    memory = built(4, 4, 3, heads=2)
    inputs = [t.requires_grad_() for t in (drawn(3, 4), drawn(3, 4, seed=1), drawn(2, 4, seed=2))]
    assert torch.autograd.gradgradcheck(lambda k, v, q: memory.read(memory.write(memory.state, k, v), q), inputs)
