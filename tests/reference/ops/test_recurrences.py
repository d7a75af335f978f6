"""Hebb, delta, gated delta, linear attention, scans, least squares: against rows in numpy, and against each other.

Gates differ from row to row, and two leading dimensions (memories, heads) each have their own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from memspec.reference.ops.delta import delta, delta_answers
from memspec.reference.ops.hebb import hebb, hebb_answers
from memspec.reference.ops.least_squares import ridge_solution
from memspec.reference.ops.linear_attention import features, linear_attention_answers, normalised
from memspec.reference.ops.scan import constant_log, left_at_end, left_between, linear_scan, momentum_weights

BATCH, N, DK, DV = (2, 3), 11, 5, 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor | np.ndarray, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b), rtol=tolerance, atol=tolerance)


def problem() -> dict[str, Tensor]:
    """A matrix, unit keys, queries, values, and gates a row."""
    keys = torch.nn.functional.normalize(drawn(*BATCH, N, DK), dim=-1)
    return {
        "matrix": drawn(*BATCH, DK, DV, seed=1),
        "queries": drawn(*BATCH, N, DK, seed=2),
        "keys": keys,
        "values": drawn(*BATCH, N, DV, seed=3),
        "step": 1.9 * torch.sigmoid(drawn(*BATCH, N, seed=4)),
        "log_decay": torch.nn.functional.logsigmoid(drawn(*BATCH, N, seed=5)),
    }


def row_by_row(
    p: dict[str, Tensor], corrects: bool, step: bool = True, decay: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """``S <- a S + b k^T (v - a k S)`` (or without the correction), and each query's answer after its row, in numpy."""
    matrix, answers = p["matrix"].numpy().copy(), np.zeros((*BATCH, N, DV))
    q, k, v = (p[name].numpy() for name in ("queries", "keys", "values"))
    for where in np.ndindex(*BATCH):
        s = matrix[where]
        for t in range(N):
            a = np.exp(p["log_decay"].numpy()[where][t]) if decay else 1.0
            b = p["step"].numpy()[where][t] if step else 1.0
            target = v[where][t] - a * (k[where][t] @ s) if corrects else v[where][t]
            s = a * s + b * np.outer(k[where][t], target)
            answers[where][t] = q[where][t] @ s
        matrix[where] = s
    return answers, matrix


GATES = pytest.mark.parametrize(
    ("step", "decay"),
    [(True, True), (True, False), (False, True), (False, False)],
    ids=["both", "step", "decay", "none"],
)
CHUNK = pytest.mark.parametrize("chunk", [1, 4, 64])


def gates(p: dict[str, Tensor], step: bool, decay: bool) -> dict[str, Tensor]:
    return {n: p[n] for n, wanted in (("step", step), ("log_decay", decay)) if wanted}


@GATES
@CHUNK
def test_delta_is_its_rows(chunk: int, step: bool, decay: bool) -> None:
    p = problem()
    answers, matrix = row_by_row(p, corrects=True, step=step, decay=decay)
    own = gates(p, step, decay)
    close(delta(p["matrix"], p["keys"], p["values"], chunk=chunk, **own), matrix)
    got, after = delta_answers(p["matrix"], p["queries"], p["keys"], p["values"], chunk=chunk, **own)
    close(got, answers)
    close(after, matrix)


@GATES
@CHUNK
def test_hebb_is_its_rows(chunk: int, step: bool, decay: bool) -> None:
    p = problem()
    answers, matrix = row_by_row(p, corrects=False, step=step, decay=decay)
    own = gates(p, step, decay)
    close(hebb(p["matrix"], p["keys"], p["values"], **own), matrix)
    got, after = hebb_answers(p["matrix"], p["queries"], p["keys"], p["values"], chunk=chunk, **own)
    close(got, answers)
    close(after, matrix)


def test_one_step_for_all_rows_is_that_step_for_each() -> None:
    p = problem()
    given = p["matrix"], p["keys"], p["values"]
    each = torch.full((*BATCH, N), 0.7, dtype=torch.float64)
    close(delta(*given, 0.7), delta(*given, each))
    decay = constant_log(0.9, p["keys"])
    assert decay is not None
    close(delta(*given, 0.7, decay), delta(*given, each, decay.expand(*BATCH, N)))
    assert constant_log(1.0, p["keys"]) is None


@GATES
def test_gradients_reach_rows_and_gates(step: bool, decay: bool) -> None:
    p = {name: x[0, 0].clone().requires_grad_() for name, x in problem().items()}
    names = ["matrix", "queries", "keys", "values", *gates(p, step, decay)]

    for rule in (delta_answers, hebb_answers):

        def run(*given: Tensor, rule=rule) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
            return rule(**dict(zip(names, given)), chunk=4)

        assert torch.autograd.gradcheck(run, tuple(p[n] for n in names))


def test_a_shut_gate_forgets_all_and_writes_nothing() -> None:
    """Decay 0 (its logarithm far below) before row 5 and step 0 at row 7: as if the rows had not been."""
    p = problem()
    p["log_decay"][..., 5], p["step"][..., 7] = -1e4, 0.0
    given = {name: x[..., 5:, :] for name, x in p.items() if name in ("keys", "values")}
    later = {name: p[name][..., 5:] for name in ("step", "log_decay")}
    for rule in (delta, hebb):
        whole = rule(p["matrix"], p["keys"], p["values"], p["step"], p["log_decay"])
        close(whole, rule(torch.zeros_like(p["matrix"]), **given, **later))
        changed = p["values"].clone()
        changed[..., 7, :] += 100
        close(whole, rule(p["matrix"], p["keys"], changed, p["step"], p["log_decay"]))


# ---- identities -----------------------------------------------------------------------------------------------


def test_delta_with_orthonormal_keys_is_hebb() -> None:
    keys = torch.linalg.qr(drawn(6, 6)).Q
    values, zero = drawn(6, DV, seed=1), torch.zeros(6, DV, dtype=torch.float64)
    close(delta(zero, keys, values, 0.8), 0.8 * hebb(zero, keys, values))
    decay = torch.nn.functional.logsigmoid(drawn(6, seed=2))
    close(delta(zero, keys, values, 1.0, decay), hebb(zero, keys, values, log_decay=decay))


def test_gated_delta_with_open_gates_is_delta() -> None:
    p = problem()
    given = p["matrix"], p["keys"], p["values"], p["step"]
    close(delta(*given, torch.zeros_like(p["log_decay"]), chunk=4), delta(*given, chunk=4))


def test_hebb_answers_are_causal_attention_without_softmax() -> None:
    p = problem()
    zero = torch.zeros_like(p["matrix"])
    got, _ = hebb_answers(zero, p["queries"], p["keys"], p["values"], chunk=3)
    close(got, (p["queries"] @ p["keys"].mT).tril() @ p["values"])


def test_linear_attention_is_attention_with_features() -> None:
    """Without gates: rows of ``tril(phi phi^T)`` scaled to sum 1, times the values."""
    p = problem()
    q, k = features(p["queries"], "elu"), features(p["keys"], "elu")
    scores = (q @ k.mT).tril()
    expected = scores / scores.sum(-1, keepdim=True) @ p["values"]
    zero = torch.zeros(*BATCH, DK, DV, dtype=torch.float64)
    got, matrix, normaliser = linear_attention_answers(zero, zero[..., 0], q, k, p["values"], chunk=3)
    close(got, expected)
    close(matrix, k.mT @ p["values"])
    close(normaliser, k.sum(-2))


def test_linear_attention_with_gates_is_its_rows() -> None:
    p = problem()
    q, k = features(p["queries"], "relu"), features(p["keys"], "relu")
    rows = p | {"queries": q, "keys": k}
    above, matrix = row_by_row(rows, corrects=False)
    ones = rows | {"values": torch.ones_like(p["values"]), "matrix": torch.ones_like(p["matrix"])}
    below, _ = row_by_row(ones, corrects=False)
    start = torch.ones(*BATCH, DK, dtype=torch.float64)
    got, after, _ = linear_attention_answers(p["matrix"], start, q, k, p["values"], p["step"], p["log_decay"], chunk=4)
    mass = torch.from_numpy(below)[..., :1]
    close(got, torch.where(mass > 0, torch.from_numpy(above) / mass.clamp_min(1e-300), 0.0))
    close(after, matrix)
    assert not normalised(drawn(2, DV), torch.zeros(2, 1, dtype=torch.float64)).any()


# ---- scans ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 8, 33])
def test_linear_scan_is_its_rows(n: int) -> None:
    log_decay = torch.nn.functional.logsigmoid(drawn(*BATCH, n))
    inputs, start = drawn(*BATCH, n, 3, seed=1), drawn(*BATCH, 3, seed=2)
    x, expected = start.numpy(), []
    for t in range(n):
        x = np.exp(log_decay[..., t, None].numpy()) * x + inputs[..., t, :].numpy()
        expected.append(x)
    close(linear_scan(log_decay, inputs, start), np.stack(expected, -2))
    close(linear_scan(log_decay, inputs), linear_scan(log_decay, inputs, torch.zeros_like(start)))


def test_linear_scan_has_gradients() -> None:
    given = [t.requires_grad_() for t in (-drawn(5).abs(), drawn(5, 2, seed=1), drawn(2, seed=2))]
    assert torch.autograd.gradcheck(linear_scan, given)


def test_what_decays_leave() -> None:
    decay = torch.tensor([0.5, 0.25, 0.1], dtype=torch.float64)
    left, kept = left_at_end(decay.log())
    close(left, torch.tensor([0.025, 0.1, 1.0], dtype=torch.float64))
    close(kept, torch.tensor(0.0125, dtype=torch.float64))
    between = left_between(decay.log().cumsum(0)[:, None])
    close(between, torch.tensor([[1.0, 0, 0], [0.25, 1, 0], [0.025, 0.1, 1]], dtype=torch.float64))
    assert torch.equal(left_between(decay.log()[:, None], strict=True).diagonal(), torch.zeros(3, dtype=torch.float64))


def test_momentum_weights_are_the_two_recurrences() -> None:
    """Each head with gates of its own; both recurrences by loops, with gradients of one number."""
    log_keep, log_eta = (torch.nn.functional.logsigmoid(drawn(*BATCH, N, seed=s)) for s in (0, 1))
    g, first = drawn(*BATCH, N, seed=2), drawn(2, *BATCH, seed=3)
    m, s = first[0].numpy(), first[1].numpy()
    for t in range(N):
        s = np.exp(log_eta[..., t].numpy()) * s - g[..., t].numpy()
        m = np.exp(log_keep[..., t].numpy()) * m + s
    w = momentum_weights(log_keep, log_eta)
    close(
        w.weights_kept * first[0] + w.momentum_to_weights * first[1] - (w.gradient_to_weights * g).sum(-1),
        m,
    )
    close(w.momentum_kept * first[1] - (w.gradient_to_momentum * g).sum(-1), s)


# ---- least squares --------------------------------------------------------------------------------------------


def test_ridge_solution_with_a_ridge_a_head() -> None:
    keys, values = drawn(*BATCH, N, DK), drawn(*BATCH, N, DV, seed=1)
    ridge = 0.1 + torch.rand(BATCH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got = ridge_solution(keys.mT @ keys, keys.mT @ values, ridge)
    for where in np.ndindex(*BATCH):
        k, v = keys[where].numpy(), values[where].numpy()
        stacked = np.concatenate([k, np.sqrt(ridge[where].item()) * np.eye(DK)])
        expected = np.linalg.lstsq(stacked, np.concatenate([v, np.zeros((DK, DV))]), rcond=None)[0]
        close(got[where], expected)
