"""ProductKeyMemory against brute force over all slots, row-by-row steps in numpy, and closed forms of its statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import ProductKeyMemory
from memspec.reference.memories.product_key import kl_from_uniform, slots_used


def built(*args: int, **options: object) -> ProductKeyMemory:
    """A memory in float64 whose layer norm is away from identity."""
    torch.manual_seed(0)
    memory = ProductKeyMemory(*args, **options).double()
    with torch.no_grad():
        for i, parameter in enumerate(memory.query_norm.parameters()):
            parameter.add_(0.3 * drawn(*parameter.shape, seed=20 + i))
    return memory


def brute_force(memory: ProductKeyMemory, key: np.ndarray) -> np.ndarray:
    """Weights over all n^2 slots: every sum of two scores, the best ``top`` of each head, softmax, mean of the heads."""
    n, total = memory.codebook, np.zeros(memory.slots)
    gain, bias = (p.detach().numpy() for p in memory.query_norm.parameters())
    for h in range(memory.heads):
        q = (key / np.linalg.norm(key) * math.sqrt(len(key))) @ memory.query_map[h].detach().numpy()
        q = (q - q.mean()) / np.sqrt(q.var() + 1e-5) * gain + bias
        first, second = (
            codes[h].detach().numpy() @ half for codes, half in zip(memory.codebooks, np.split(q, 2), strict=True)
        )
        scores = np.array([first[i] + second[j] for i in range(n) for j in range(n)])
        best = np.argsort(-scores)[: memory.top]
        e = np.exp(scores[best] - scores[best].max())
        total[best] += e / e.sum() / memory.heads
    return total


@pytest.mark.parametrize("top", [1, 2, 3, 8, 12])
@pytest.mark.parametrize("heads", [1, 3])
def test_selection_is_brute_force(top: int, heads: int) -> None:
    """The k best of two codebooks hold the k best of all 144 slots, for each of 100 queries."""
    memory = built(7, 4, codebook=12, heads=heads, top=top)
    keys = drawn(100, 7, seed=1)
    expected = np.stack([brute_force(memory, key) for key in keys.numpy()])
    torch.testing.assert_close(memory.weights(memory.state, keys), torch.from_numpy(expected), **EXACT)


def test_read_is_the_weighted_sum_of_all_slots() -> None:
    memory = built(6, 4, codebook=8, heads=2, top=3)
    values = drawn(64, 4)
    memory.state = memory.state._replace(values=values)
    keys = drawn(9, 6, seed=1)
    expected = np.stack([brute_force(memory, key) for key in keys.numpy()]) @ values.numpy()
    torch.testing.assert_close(memory.query(keys), torch.from_numpy(expected), **EXACT)


@pytest.mark.parametrize("rule", ["nlms", "sgd"])
@pytest.mark.parametrize(("eta", "chunk"), [(1.0, 64), (0.5, 5), (1.6, 1)])
def test_chunks_are_steps_row_by_row(rule: str, eta: float, chunk: int) -> None:
    """V <- V + eta w^T (v - w V) / |w|^2 (or without the division), a row at a time in numpy; keys come back."""
    memory = built(6, 4, codebook=5, heads=2, top=4, rule=rule, eta=eta, chunk=chunk)
    keys, values = drawn(17, 6), drawn(17, 4, seed=1)
    keys[9:12] = keys[2:5]
    memory.update(keys[:13], values[:13])
    memory.update(keys[13:], values[13:])
    table, usage = np.zeros((25, 4)), np.zeros(25)
    for key, value in zip(keys.numpy(), values.numpy()):
        w = brute_force(memory, key)
        table += eta * np.outer(w, value - w @ table) / (w @ w if rule == "nlms" else 1)
        usage += w
    torch.testing.assert_close(memory.slot_values(), torch.from_numpy(table), **EXACT)
    torch.testing.assert_close(memory.slot_usage(), torch.from_numpy(usage), **EXACT)


def test_the_pair_just_written_is_exact() -> None:
    """eta = 1: after every row, also one that rewrites a key; the others move, in the slots they share alone."""
    memory = built(6, 4, codebook=4, heads=2, top=3)
    keys, values = drawn(30, 6), drawn(30, 4, seed=1)
    keys[20] = keys[3]
    for key, value in zip(keys.split(1), values.split(1)):
        memory.update(key, value)
        torch.testing.assert_close(memory.query(key), value, **EXACT)
        torch.testing.assert_close(memory.query(7 * key), value, **EXACT)


def test_a_write_moves_the_slots_it_selects_and_no_others() -> None:
    memory = built(6, 4, codebook=8, heads=2, top=3)
    memory.update(drawn(20, 6), drawn(20, 4, seed=1))
    key = drawn(1, 6, seed=2)
    before = memory.slot_values().clone()
    memory.update(key, drawn(1, 4, seed=3))
    moved = (memory.slot_values() != before).any(-1).nonzero().flatten().tolist()
    assert moved == sorted(set(memory.select(key)[0].flatten().tolist()))
    assert len(moved) <= 6


def test_sweeps_converge_to_least_squares() -> None:
    """Kaczmarz: repeated writes of the same pairs end at the pseudo-inverse of their weights."""
    memory = built(6, 4, codebook=6, heads=2, top=3)
    keys, values = drawn(8, 6), drawn(8, 4, seed=1)
    for _ in range(600):
        memory.update(keys, values)
    expected = torch.linalg.pinv(memory.weights(memory.state, keys)) @ values
    torch.testing.assert_close(memory.slot_values(), expected, rtol=0, atol=1e-8)


def test_ties_go_to_the_first_codes() -> None:
    """A zero key scores every code alike (layer norm without bias): ranks, and so slots, are the first ones."""
    torch.manual_seed(0)
    memory = ProductKeyMemory(6, 4, codebook=9, heads=2, top=4).double()
    slots, weights = memory.select(torch.zeros(1, 6, dtype=torch.float64))
    assert sorted(slots[0, :4].tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 8), **EXACT)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    """Layer norm, not batch norm: each query answers as it would alone, also in training mode."""
    memory = built(6, 4, codebook=8, heads=2, top=3).train()
    memory.update(drawn(20, 6), drawn(20, 4, seed=1))
    keys = drawn(10, 6, seed=2)
    alone = torch.cat([memory.query(key) for key in keys.split(1)])
    torch.testing.assert_close(memory.query(keys), alone, **EXACT)


def test_one_state_answers_many_batches_of_queries() -> None:
    memory = built(6, 4, codebook=8, heads=2, top=3)
    memory.update(drawn(20, 6), drawn(20, 4, seed=1))
    keys = drawn(3, 2, 5, 6, seed=2)
    torch.testing.assert_close(memory.query(keys), memory.query(keys.flatten(0, 2)).reshape(3, 2, 5, 4), **EXACT)


def test_usage_and_divergence_have_their_closed_forms() -> None:
    """All slots alike: 1 and 0. One slot: 1/S and log S. Half of the slots alike: 1/2 and log 2."""
    eye = torch.eye(8, dtype=torch.float64)
    for weights, used, divergence in (
        (eye, 1.0, 0.0),
        (eye[:1].expand(5, -1), 1 / 8, math.log(8)),
        (eye[:4], 1 / 2, math.log(2)),
        (3 * eye[:4], 1 / 2, math.log(2)),
    ):
        assert slots_used(weights).item() == pytest.approx(used)
        assert kl_from_uniform(weights).item() == pytest.approx(divergence, abs=1e-12)
    assert slots_used(torch.stack([eye, eye[:1].expand(8, -1)])).tolist() == [1.0, 1 / 8]


def test_random_keys_use_most_slots() -> None:
    """Untrained, 2,000 random keys reach nearly all slots, unevenly: the statistics are alive."""
    memory = built(64, 4)
    weights = memory.weights(memory.state, drawn(2000, 64))
    assert slots_used(weights) > 0.9
    assert 0.01 < kl_from_uniform(weights) < 2


def test_published_size() -> None:
    """512^2 slots, 4 heads, k 32, queries of 256: written and read like the small ones."""
    torch.manual_seed(0)
    memory = ProductKeyMemory(64, 4, codebook=512, heads=4, top=32, query_dim=256)
    keys, values = drawn(3, 64).float(), drawn(3, 4, seed=1).float()
    memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys[-1:]), values[-1:], rtol=1e-4, atol=1e-4)
    assert memory.read_weights(keys).count_nonzero(-1).max() <= 128


def test_claims_follow_the_options() -> None:
    assert ProductKeyMemory(4, 3).spec.overwrite == "replace"
    assert ProductKeyMemory(4, 3, eta=0.5).spec.overwrite == "blend"
    assert ProductKeyMemory(4, 3, eta=1.5).spec.overwrite == "none"
    assert ProductKeyMemory(4, 3, rule="sgd").spec.overwrite == "none"
