"""Gradient steps on inner models, and bindings, with a step size a row: against autograd and complex numbers in numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad
from torch.nn import functional as F

from memspec.reference.ops import inner
from memspec.reference.ops.binding import bind, phase_codes, sign_codes, unbind
from memspec.reference.ops.delta import delta
from memspec.reference.ops.patterns import projection, storkey

BATCH, N, D, H = 2, 6, 4, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor | np.ndarray, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b), rtol=tolerance, atol=tolerance)


def flat(layers: list[Tensor]) -> Tensor:
    return torch.cat([w.flatten(-2) for w in layers], -1)


def model(layers: tuple[Tensor, ...], x: Tensor) -> Tensor:
    for i, w in enumerate(layers):
        x = x @ w
        x = F.gelu(x) if i < len(layers) - 1 else x
    return x


WIDTHS = pytest.mark.parametrize("widths", [(D, D), (D, H, D)], ids=["linear", "mlp"])


@WIDTHS
@pytest.mark.parametrize("full", [False, True], ids=["bare", "full"])
def test_descend_with_a_step_a_row(widths: tuple[int, ...], full: bool) -> None:
    """Every row's gradient by autograd at the start, times the row's own step; two memories with their own weights."""
    now, start = ([drawn(BATCH, i, o, seed=s + i) for i, o in itertools.pairwise(widths)] for s in (0, 10))
    keys, values, step = drawn(BATCH, N, D, seed=20), drawn(BATCH, N, D, seed=21), drawn(BATCH, N, seed=22).abs()
    norm = inner.Norm(1 + drawn(D, seed=23), drawn(D, seed=24)) if full else None

    def loss(layers: tuple[Tensor, ...], k: Tensor, v: Tensor) -> Tensor:
        out = model(layers, k)
        if norm is not None:
            out = k + F.layer_norm(out, (D,), norm.scale, norm.shift, eps=1e-6)
        return (out - v).square().sum() / 2

    got = inner.descend(flat(now), flat(start), [w[0] for w in now], keys, values, step, norm=norm)
    for b in range(BATCH):
        expected = tuple(w[b] for w in now)
        for n in range(N):
            slopes = grad(loss)(tuple(w[b] for w in start), keys[b, n], values[b, n])
            expected = tuple(w - step[b, n] * s for w, s in zip(expected, slopes))
        close(got[b], torch.cat([w.flatten() for w in expected]))


@WIDTHS
@pytest.mark.parametrize("most", [None, 0.8])
def test_momentum_with_gates_a_row(widths: tuple[int, ...], most: float | None) -> None:
    """Titans with theta, eta and alpha of each row's own, against autograd and two loops."""
    now, start, momentum = (
        [drawn(BATCH, i, o, seed=s + i) for i, o in itertools.pairwise(widths)] for s in (0, 10, 30)
    )
    keys, values = drawn(BATCH, N, D, seed=20), drawn(BATCH, N, D, seed=21)
    theta, keep, eta = (torch.sigmoid(drawn(BATCH, N, seed=s)) for s in (40, 41, 42))

    def loss(layers: tuple[Tensor, ...], k: Tensor, v: Tensor) -> Tensor:
        return (model(layers, k) - v).square().sum()

    got, left = inner.descend_with_momentum(
        flat(now), flat(start), flat(momentum), [w[0] for w in now], keys, values, theta, keep.log(), eta.log(), most
    )
    for b in range(BATCH):
        m, s = tuple(w[b] for w in now), tuple(w[b] for w in momentum)
        for n in range(N):
            slopes = grad(loss)(tuple(w[b] for w in start), keys[b, n], values[b, n])
            if most is not None:
                # A layer's gradient is an outer product; the largest layer's norm, times the root of their number.
                norm = max(float(x.norm()) for x in slopes) * len(slopes) ** 0.5
                slopes = tuple(x * min(1.0, most / norm) for x in slopes)
            s = tuple(eta[b, n] * old - theta[b, n] * x for old, x in zip(s, slopes))
            m = tuple(keep[b, n] * old + x for old, x in zip(m, s))
        close(got[b], torch.cat([w.flatten() for w in m]))
        close(left[b], torch.cat([w.flatten() for w in s]))


def test_steps_have_gradients_in_every_gate() -> None:
    widths = (D, H, D)
    like = [drawn(i, o, seed=i) for i, o in itertools.pairwise(widths)]
    weights = flat(like)
    rows = [drawn(3, D, seed=1), drawn(3, D, seed=2)]
    gates = [torch.sigmoid(drawn(3, seed=s)).requires_grad_() for s in (3, 4, 5)]

    def run(theta: Tensor, keep: Tensor, eta: Tensor) -> tuple[Tensor, ...]:
        zero = torch.zeros_like(weights)
        moved = inner.descend_with_momentum(weights, weights, zero, like, *rows, theta, keep.log(), eta.log())
        return (*moved, inner.descend(weights, weights, like, *rows, theta))

    assert torch.autograd.gradcheck(run, gates)


def test_a_linear_model_row_by_row_is_the_delta_rule() -> None:
    matrix, keys, values = drawn(D, D), drawn(N, D, seed=1) / 3, drawn(N, D, seed=2)
    step = torch.sigmoid(drawn(N, seed=3))
    now = matrix.flatten()
    for k, v, b in zip(keys.split(1), values.split(1), step.split(1)):
        now = inner.descend(now, now, [matrix], k, v, b)
    close(now.unflatten(0, (D, D)), delta(matrix, keys, values, step))


# ---- bindings -------------------------------------------------------------------------------------------------


def test_binding_is_a_product_of_complex_numbers() -> None:
    phases, values, step = drawn(BATCH, N, 64), drawn(BATCH, N, 64, seed=1), drawn(BATCH, N, seed=2)
    trace = bind(torch.zeros(BATCH, 2, 64, dtype=torch.float64), phase_codes(phases), values, step)
    z = np.exp(1j * phases.numpy())
    expected = (step.numpy()[..., None] * z * values.numpy()).sum(-2)
    close(trace[:, 0], expected.real)
    close(trace[:, 1], expected.imag)
    close(unbind(trace, phase_codes(phases)), (np.conj(z) * expected[:, None]).real)


def test_one_pair_is_unbound_exactly_by_phases_and_by_signs() -> None:
    values = drawn(1, 32)
    for codes in (phase_codes(drawn(1, 32, seed=1)), sign_codes(drawn(1, 32, seed=1))):
        close(unbind(bind(torch.zeros(2, 32, dtype=torch.float64), codes, values), codes), values)


# ---- patterns -------------------------------------------------------------------------------------------------


def test_pattern_rules_against_their_sums() -> None:
    """Storkey's rule entry by entry; projections against the pseudo-inverse."""
    patterns = drawn(3, 7).sign()
    w = np.zeros((7, 7))
    matrix = span = torch.zeros(7, 7, dtype=torch.float64)
    for row in patterns.split(1):
        x = row[0].numpy()
        h = np.array([[sum(w[i, k] * x[k] for k in range(7) if k not in (i, j)) for j in range(7)] for i in range(7)])
        new = w + (np.outer(x, x) - x[:, None] * h.T - h * x[None, :]) / 7
        w = new - np.diag(np.diag(new))
        matrix, span = storkey(matrix, row), projection(span, row)
    close(matrix, w)
    close(span, np.linalg.pinv(patterns.numpy()) @ patterns.numpy())
