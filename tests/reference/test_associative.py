"""Hopfield networks old and new, the bidirectional memory, holographic traces and sparse distributed memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from torch import Tensor
from torch.nn import functional as F

from memspec.fixtures.data.pairs import unit
from memspec.reference import (
    AssociativeMemory,
    BidirectionalMemory,
    HolographicMemory,
    HopfieldMemory,
    SparseDistributedMemory,
)
from memspec.reference.ops.locations import best_radius


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def patterns(n: int, d: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(n, d, generator=g) < 0.5, -1.0, 1.0).double()


def flipped(rows: Tensor, count: int, seed: int = 1) -> Tensor:
    """``rows`` with ``count`` random signs turned in each."""
    g = torch.Generator().manual_seed(seed)
    where = torch.rand(rows.shape, generator=g).argsort(-1)[:, :count]
    return rows.scatter(-1, where, -rows.gather(-1, where))


# ---- modern Hopfield ------------------------------------------------------------------------------------------


def test_one_pattern_is_recalled_in_one_step() -> None:
    g = torch.Generator().manual_seed(0)
    key, value = torch.randn(1, 8, generator=g).double(), torch.randn(1, 5, generator=g).double()
    memory = AssociativeMemory(8, 5).double()
    memory.update(key, value)
    close(memory.query(torch.randn(3, 8, generator=g).double()), value.expand(3, -1))


@pytest.mark.parametrize("beta", [0.5, 4.0, 20.0])
def test_orthonormal_keys_follow_the_closed_form(beta: float) -> None:
    """r = (p - c) v_j + c sum v with p = e^beta / (e^beta + S - 1)."""
    keys, values = torch.eye(9, dtype=torch.float64)[:6], torch.randn(6, 5, dtype=torch.float64)
    memory = AssociativeMemory(9, 5, capacity=6, beta=beta).double()
    memory.update(keys, values)
    p, c = math.exp(beta) / (math.exp(beta) + 5), 1 / (math.exp(beta) + 5)
    close(memory.query(keys), (p - c) * values + c * values.sum(0))


def test_one_step_is_attention() -> None:
    g = torch.Generator().manual_seed(0)
    keys, values = unit(torch.randn(7, 16, generator=g).double()), torch.randn(7, 5, generator=g).double()
    queries = unit(torch.randn(3, 16, generator=g).double())
    memory = AssociativeMemory(16, 5, capacity=7).double()
    memory.update(keys, values)
    # The default beta is 1 / sqrt(d) on keys of length sqrt(d).
    expected = F.scaled_dot_product_attention(4 * queries[None], 4 * keys[None], values[None])[0]
    close(memory.query(queries), expected)


def test_every_step_lowers_the_energy() -> None:
    g = torch.Generator().manual_seed(0)
    keys = unit(torch.randn(12, 16, generator=g).double())
    memory = AssociativeMemory(16, 16, capacity=12, beta=8.0).double()
    memory.update(keys, keys)
    state = unit(torch.randn(20, 16, generator=g).double())
    scores = 8.0 * state @ keys.T
    for _ in range(6):
        energy = -torch.logsumexp(scores, -1) / 8 + state.square().sum(-1) / 2
        state = scores.softmax(-1) @ keys
        scores = 8.0 * state @ keys.T
        after = -torch.logsumexp(scores, -1) / 8 + state.square().sum(-1) / 2
        assert (after <= energy + 1e-12).all()
    close(memory.energy(keys), -torch.logsumexp(8.0 * keys @ keys.T, -1) / 8 + 0.5)


def test_steps_iterate_on_the_keys() -> None:
    g = torch.Generator().manual_seed(0)
    keys, values = unit(torch.randn(7, 16, generator=g).double()), torch.randn(7, 5, generator=g).double()
    queries = unit(torch.randn(3, 16, generator=g).double())
    memory = AssociativeMemory(16, 5, capacity=7, steps=3, beta=6.0).double()
    memory.update(keys, values)
    xi = queries.numpy()
    for _ in range(3):
        weights = np.exp(6 * xi @ keys.numpy().T)
        weights /= weights.sum(1, keepdims=True)
        xi = weights @ keys.numpy()
    close(memory.query(queries), torch.from_numpy(weights @ values.numpy()))


def test_large_beta_is_the_nearest_neighbour() -> None:
    g = torch.Generator().manual_seed(0)
    keys, values = unit(torch.randn(20, 16, generator=g).double()), torch.randn(20, 5, generator=g).double()
    queries = torch.randn(9, 16, generator=g).double()
    memory = AssociativeMemory(16, 5, capacity=20, beta=1e6).double()
    memory.update(keys, values)
    close(memory.query(queries), values[(queries @ keys.T).argmax(-1)])


# ---- classical Hopfield ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["async", "sync"])
def test_orthogonal_patterns_and_their_negatives_are_fixed_points(order: str) -> None:
    hadamard = torch.from_numpy(linalg.hadamard(16)).double()[1:8]
    memory = HopfieldMemory(16, 16, update_order=order).double()  # type: ignore[arg-type]
    memory.update(hadamard, hadamard)
    close(memory.query(hadamard), hadamard)
    close(memory.query(-hadamard), -hadamard)


@pytest.mark.parametrize("order", ["async", "sync"])
def test_one_pattern_corrects_fewer_than_half_its_bits(order: str) -> None:
    x = patterns(1, 21)
    memory = HopfieldMemory(21, 21, update_order=order, sweeps=1).double()  # type: ignore[arg-type]
    memory.update(x, x)
    close(memory.query(flipped(x, 9)), x)


def test_asynchronous_recall_never_raises_the_energy() -> None:
    x = patterns(10, 32)
    memory = HopfieldMemory(32, 32, sweeps=1).double()
    memory.update(x, x)
    state = patterns(20, 32, seed=5)
    for _ in range(5):
        after = memory.query(state)
        assert (memory.energy(after) <= memory.energy(state) + 1e-12).all()
        state = after


def test_asynchronous_recall_equals_a_plain_loop() -> None:
    x = patterns(4, 12)
    memory = HopfieldMemory(12, 12).double()
    memory.update(x, x)
    w = (x.T @ x / 12).numpy()
    np.fill_diagonal(w, 0)
    for cue in patterns(10, 12, seed=3):
        s = cue.numpy().copy()
        for _ in range(100):
            old = s.copy()
            for i in range(12):
                field = w[i] @ s
                s[i] = s[i] if abs(field) < 1e-12 else np.sign(field)
            if (old == s).all():
                break
        close(memory.query(cue[None])[0], torch.from_numpy(s))


def test_one_step_bit_error_is_gaussian() -> None:
    """1/2 erfc(sqrt(D / 2p)) at p/D = .138 is .0036; the simulation lies below it (zero diagonal, finite D)."""
    x = patterns(55, 400)
    memory = HopfieldMemory(400, 400, update_order="sync", sweeps=1).double()
    memory.update(x, x)
    errors = (memory.query(x) != x).double().mean().item()
    assert errors == pytest.approx(0.5 * math.erfc(math.sqrt(400 / (2 * 55))), abs=0.0015)


@pytest.mark.parametrize("rule", ["storkey", "pinv"])
def test_better_rules_hold_more(rule: str) -> None:
    """Random patterns at p/D = .25, hopeless for Hebb, are fixed points."""
    x = patterns(16, 64)
    memory = HopfieldMemory(64, 64, rule=rule, update_order="sync", sweeps=1).double()  # type: ignore[arg-type]
    hebb = HopfieldMemory(64, 64, update_order="sync", sweeps=1).double()
    for one in (memory, hebb):
        one.update(x, x)
    errors, hebb_errors = ((one.query(x) != x).double().mean().item() for one in (memory, hebb))
    assert errors < 0.2 * hebb_errors


def test_projection_rule_is_the_projection() -> None:
    x = patterns(10, 24)
    memory = HopfieldMemory(24, 24, rule="pinv").double()
    memory.update(x, x)
    close(memory.state.matrix, torch.from_numpy(np.linalg.pinv(x.numpy()) @ x.numpy()))


def test_storkey_rule_equals_its_definition() -> None:
    x = patterns(5, 9)
    memory = HopfieldMemory(9, 9, rule="storkey").double()
    memory.update(x, x)
    w = np.zeros((9, 9))
    for p in x.numpy():
        new = w.copy()
        for i in range(9):
            for j in range(9):
                h_ij = sum(w[i, k] * p[k] for k in range(9) if k not in (i, j))
                h_ji = sum(w[j, k] * p[k] for k in range(9) if k not in (i, j))
                new[i, j] += 0.0 if i == j else (p[i] * p[j] - p[i] * h_ji - h_ij * p[j]) / 9
        w = new
    close(memory.state.matrix, torch.from_numpy(w))


def test_hopfield_refuses_values_that_are_not_the_keys() -> None:
    memory = HopfieldMemory(9, 9)
    with pytest.raises(ValueError, match="BidirectionalMemory"):
        memory.update(patterns(2, 9).float(), patterns(2, 9, seed=1).float())


# ---- BAM ------------------------------------------------------------------------------------------------------


def test_bam_recalls_orthogonal_pairs_from_both_noisy_and_clean_keys() -> None:
    keys = torch.from_numpy(linalg.hadamard(32)).double()[1:5]
    values = torch.from_numpy(linalg.hadamard(16)).double()[1:5]
    memory = BidirectionalMemory(32, 16).double()
    memory.update(keys, values)
    close(memory.query(keys), values)
    close(memory.query(flipped(keys, 4)), values)


# ---- holographic ----------------------------------------------------------------------------------------------


def test_a_single_bound_pair_is_unbound_exactly() -> None:
    """Codes of modulus 1: one pair in the trace is recalled to machine precision."""
    g = torch.Generator().manual_seed(0)
    for binding in ("hrr", "map"):
        torch.manual_seed(0)
        memory = HolographicMemory(6, 5, dim=64, binding=binding).double()  # type: ignore[arg-type]
        memory.embedding = torch.linalg.qr(torch.randn(64, 5, dtype=torch.float64)).Q
        key, value = torch.randn(1, 6, generator=g).double(), torch.randn(1, 5, generator=g).double()
        memory.update(key, value)
        close(memory.query(key), value)


def test_code_similarity_is_the_gaussian_kernel() -> None:
    """mean_d cos(s p_d . (k - k')) tends to exp(-s^2 |k - k'|^2 / 2)."""
    torch.manual_seed(0)
    memory = HolographicMemory(6, 5, dim=200_000, sharpness=1.5)
    keys = unit(torch.randn(4, 6))
    codes = memory.codes(keys)
    similarity = (codes[:, :, None] * codes[:, None]).sum(0).mean(-1)
    expected = torch.exp(-(1.5**2) * torch.cdist(keys, keys).square() / 2)
    torch.testing.assert_close(similarity, expected, atol=0.01, rtol=0)


def test_holographic_crosstalk_is_n_over_d() -> None:
    """Relative error of N pairs in a trace of width D is (N - 1) / D: the noise seen in the Dv embedded directions."""
    torch.manual_seed(0)
    n, dim = 64, 1024
    memory = HolographicMemory(64, 64, dim=dim, sharpness=6.0)
    keys, values = unit(torch.randn(n, 64)), torch.randn(n, 64)
    memory.update(keys, values)
    error = ((memory.query(keys) - values).square().sum(-1) / values.square().sum(-1)).mean().item()
    # Re(conj(phi) phi') has variance 1/2, spread over the D directions of which Dv are read.
    assert error == pytest.approx((n - 1) / dim * 64 / 2, rel=0.15)


# ---- sparse distributed memory --------------------------------------------------------------------------------


def test_one_write_is_exact_wherever_an_activation_is_shared() -> None:
    torch.manual_seed(0)
    memory = SparseDistributedMemory(20, 7, locations=300, radius=6).double()
    key, value = patterns(1, 20), patterns(1, 7, seed=2)
    memory.update(key, value)
    queries = torch.cat((key, flipped(key.expand(40, -1), 5), patterns(40, 20, seed=9)))
    shared = ((memory.activate(queries) * memory.activate(key)).sum(-1) > 0)[:, None]
    close(memory.query(queries), torch.where(shared, value, 0.0))
    assert shared.any()
    assert not shared.all()


def test_a_radius_of_the_width_answers_the_majority() -> None:
    memory = SparseDistributedMemory(12, 7, locations=50, radius=12).double()
    values = patterns(9, 7)
    memory.update(patterns(9, 12, seed=1), values)
    close(memory.query(patterns(5, 12, seed=3)), values.sum(0).sign().expand(5, -1))


def test_radius_zero_at_hard_addresses_is_a_dictionary() -> None:
    memory = SparseDistributedMemory(12, 7, locations=50, radius=0).double()
    memory.addresses = patterns(200, 12).unique(dim=0)[:50]
    values = patterns(50, 7, seed=4)
    memory.update(memory.addresses, values)
    close(memory.query(memory.addresses), values)
    elsewhere = patterns(200, 12).unique(dim=0)[50:60]
    assert not memory.query(elsewhere).any()


def test_activation_probability_is_binomial() -> None:
    """n = 1000: r = 451 activates 1.07e-3; n = 256: r = 103 activates 1.07e-3; and the counts agree."""
    assert stats.binom.cdf(451, 1000, 0.5) == pytest.approx(1.07e-3, rel=0.01)
    assert stats.binom.cdf(103, 256, 0.5) == pytest.approx(1.07e-3, rel=0.01)
    torch.manual_seed(0)
    memory = SparseDistributedMemory(64, 4, locations=20_000, radius=26)
    share = memory.activate(patterns(20, 64).float()).mean().item()
    assert share == pytest.approx(memory.activation_probability, rel=0.05)


def test_default_radius_is_nearest_to_the_optimum() -> None:
    target = (2 * 2048 * 128) ** (-1 / 3)
    ratios = [abs(math.log(stats.binom.cdf(r, 64, 0.5) / target)) for r in range(65)]
    assert best_radius(64, 2048, 128) == int(np.argmin(ratios))
