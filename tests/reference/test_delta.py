"""DeltaMemory against the rule written out in numpy, the pseudo-inverse, and the update it must not be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import DeltaMemory


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def row_by_row(keys: torch.Tensor, values: torch.Tensor, beta: float, normed: bool = True) -> np.ndarray:
    """``S <- S + beta k^T (v - k S)`` in numpy."""
    matrix = np.zeros((keys.shape[-1], values.shape[-1]))
    for k, v in zip(keys.numpy(), values.numpy()):
        k = k / np.linalg.norm(k) if normed else k
        matrix = matrix + beta * np.outer(k, v - k @ matrix)
    return matrix


@pytest.mark.parametrize("key_norm", ["unit", "none"])
@pytest.mark.parametrize("beta", [1.0, 0.3, 1.7])
@pytest.mark.parametrize("form", [{"form": "rows"}, {"chunk": 64}, {"chunk": 5}, {"chunk": 1}], ids=str)
def test_every_form_is_the_rule_row_by_row(form, beta, key_norm):
    """Chunked with any chunk (13 rows: a remainder too) and rows give the numpy state, from an old state on."""
    memory = DeltaMemory(6, 4, beta=beta, key_norm=key_norm, **form).double()
    keys, values = drawn(26, 6) / 3, drawn(26, 4, seed=1)
    memory.update(keys[:13], values[:13])
    memory.update(keys[13:], values[13:])
    expected = row_by_row(keys, values, beta, normed=key_norm == "unit")
    torch.testing.assert_close(memory.state.matrix, torch.from_numpy(expected), **EXACT)


def test_chain_orthonormal_exact_last_exact_rewrite_replaces():
    """Orthonormal keys are exact; the last pair is exact whatever the keys; a rewritten key has its new value."""
    memory = DeltaMemory(8, 3).double()
    basis, values = torch.linalg.qr(drawn(8, 8)).Q, drawn(8, 3, seed=1)
    memory.update(basis, values)
    torch.testing.assert_close(memory.query(basis), values, **EXACT)
    keys, others = drawn(30, 8, seed=2), drawn(30, 3, seed=3)
    memory.update(keys, others)
    torch.testing.assert_close(memory.query(keys[-1:]), others[-1:], **EXACT)
    memory.update(keys[4:5], values[:1])
    torch.testing.assert_close(memory.query(keys[4:5] * 100), values[:1], **EXACT)


@pytest.mark.parametrize("count", [5, 8])
def test_repeated_sweeps_converge_to_the_pseudo_inverse(count):
    """Kaczmarz: sweeps over independent keys end in ``pinv(K) V``."""
    memory = DeltaMemory(8, 3).double()
    keys, values = unit(torch.linalg.qr(drawn(8, 8)).Q[:count] + 0.1 * drawn(count, 8, seed=5)), drawn(count, 3, seed=1)
    for _ in range(300):
        memory.update(keys, values)
    torch.testing.assert_close(memory.state.matrix, torch.from_numpy(np.linalg.pinv(keys.numpy())) @ values, **EXACT)


def test_duplicates_in_one_update_take_the_last_value_and_do_not_diverge():
    """Four copies of a key: the last value; applied all at once (the mutant to catch) the answer is the sum of all."""
    key, values = unit(drawn(1, 6)).expand(4, 6), drawn(4, 3, seed=1)
    memory = DeltaMemory(6, 3).double()
    memory.update(key, values)
    torch.testing.assert_close(memory.query(key[:1]), values[-1:], **EXACT)
    simultaneous = key.mT @ (values - key @ torch.zeros(6, 3, dtype=torch.float64))
    torch.testing.assert_close(key[:1] @ simultaneous, values.sum(0, keepdim=True), **EXACT)
    for _ in range(10):  # the eigenvalue of K^T K is 4 > 2 / beta: at once it diverges, in order it stays
        memory.update(key, values)
        simultaneous = simultaneous + key.mT @ (values - key @ simultaneous)
    torch.testing.assert_close(memory.query(key[:1]), values[-1:], **EXACT)
    assert simultaneous.norm() > 1e3 * values.norm()


@pytest.mark.parametrize("beta", [0.25, 1.0, 1.5])
def test_error_on_one_pair_is_the_closed_form(beta):
    """After n writes of one pair what is missing is ``(1 - beta)^n v``."""
    memory = DeltaMemory(6, 3, beta=beta).double()
    key, value = drawn(1, 6), drawn(1, 3, seed=1)
    for n in range(1, 9):
        memory.update(key, value)
        torch.testing.assert_close(value - memory.query(key), (1 - beta) ** n * value, **EXACT)


def test_forgetting_follows_the_closed_form():
    """d = 64: the gain on an item after a later writes is near ``(1 - 1/d)^a`` (a = d: .37)."""
    trials, dim, age = 200, 64, 64
    keys, values = unit(drawn(trials, age + 1, dim)), drawn(trials, age + 1, dim, seed=1)
    memory = DeltaMemory(dim, dim).double()
    answer = memory.read(memory.write(memory.init_state((trials,)), keys, values), keys[:, :1])[:, 0]
    gain = ((answer * values[:, 0]).sum(-1) / values[:, 0].square().sum(-1)).mean().item()
    assert gain == pytest.approx((1 - 1 / dim) ** age, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_solved_in_float32(dtype):
    """The state is the float32 one, rounded once."""
    low, high = DeltaMemory(16, 4).to(dtype), DeltaMemory(16, 4)
    keys, values = drawn(50, 16).to(dtype), drawn(50, 4, seed=1).to(dtype)
    low.update(keys, values)
    high.update(keys.float(), values.float())
    assert low.state.matrix.dtype == dtype
    torch.testing.assert_close(low.state.matrix, high.state.matrix.to(dtype), rtol=0, atol=0)


def test_only_what_the_options_keep_is_claimed():
    assert DeltaMemory(4, 4).spec.overwrite == "replace"
    assert DeltaMemory(4, 4).spec.family == "delta"
    for options, family, overwrite in (
        ({"beta": 0.5}, "delta", "blend"),
        ({"beta": 1.5}, "delta", "none"),
        ({"key_norm": "none"}, "generic", "none"),
    ):
        spec = DeltaMemory(4, 4, **options).spec
        assert (spec.family, spec.overwrite) == (family, overwrite)
        assert spec.beta == options.get("beta", 1.0)
