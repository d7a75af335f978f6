"""TTT, Titans, MbPA: memories that train a model as they are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad
from torch.nn import functional as F

from memspec.fixtures.data.pairs import unit
from memspec.reference import DeltaMemory, MatrixAssociativeMemory, MbPAMemory, TitansMemory, TTTMemory
from memspec.reference.memories.ttt import ttt_mlp
from memspec.reference.ops import inner
from memspec.reference.ops.scan import momentum_weights


def pairs(n: int, dk: int = 6, dv: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    keys = unit(torch.randn(n, dk, generator=g, dtype=torch.float64))
    return keys, torch.randn(n, dv, generator=g, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def stored(memory, keys: Tensor, values: Tensor):  # type: ignore[no-untyped-def]
    memory = memory.double()
    memory.update(keys, values)
    return memory


# ---- the inner model ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_closed_gradient_equals_autograd(depth: int, bias: bool) -> None:
    keys, values = pairs(7)
    torch.manual_seed(0)
    widths = [6, *[9] * (depth - 1), 5]
    layers = [w.double() for w in inner.initial_layers(widths, bias, deviation=0.5)]

    def loss(*layers: Tensor) -> Tensor:
        x = keys
        for i, w in enumerate(layers):
            x = x @ w[: x.shape[1]] + (w[-1] if bias else 0)
            x = F.gelu(x) if i < depth - 1 else x
        return (x - values).square().sum() / 2

    expected = torch.func.grad(loss, argnums=tuple(range(depth)))(*layers)
    out, trace = inner.forward(layers, keys, bias)
    got = [x.mT @ e for x, e in inner.backward(layers, trace, out - values, bias)]
    for a, b in zip(got, expected):
        close(a, b)


# ---- TTT ------------------------------------------------------------------------------------------------------


def test_ttt_linear_with_a_single_batch_is_hebb() -> None:
    """Theorem 1 of the paper: W0 = 0 and one gradient for all rows give the sum of outer products (times the step)."""
    keys, values = pairs(8)
    ttt = stored(TTTMemory(6, 5, minibatch=8, bias=False), keys, values)
    hebb = stored(MatrixAssociativeMemory(6, 5), keys, values)
    close(ttt.query(keys), hebb.query(keys) / 8)


def test_ttt_linear_with_minibatches_of_one_is_the_delta_rule() -> None:
    keys, values = pairs(20)
    ttt = stored(TTTMemory(6, 5, minibatch=1, lr=0.7, bias=False), keys, values)
    delta = stored(DeltaMemory(6, 5, beta=0.7), keys, values)
    close(ttt.query(keys), delta.query(keys))


@pytest.mark.parametrize("mode", ["bare", "full"])
@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_ttt_dual_form_equals_autograd_step_by_step(model: str, mode: str) -> None:
    """Row after row, each gradient by autograd at the weights its minibatch began with."""
    keys, values = pairs(11, 6, 6)
    torch.manual_seed(0)
    memory = TTTMemory(6, 6, model=model, mode=mode, minibatch=4, hidden=9).double()  # type: ignore[arg-type]
    if mode == "full":
        with torch.no_grad():
            memory.norm_scale.mul_(1.3)
            memory.norm_shift.add_(0.2)

    def loss(layers: tuple[Tensor, ...], k: Tensor, v: Tensor) -> Tensor:
        x = k
        for i, w in enumerate(layers):
            x = x @ w[:-1] + w[-1]
            x = F.gelu(x) if i < len(layers) - 1 else x
        if mode == "full":
            x = k + F.layer_norm(x, (6,), memory.norm_scale, memory.norm_shift, eps=1e-6)
        return (x - v).square().sum() / 2

    now = tuple(p.detach().clone() for p in memory.initial)
    begun = now
    for t, (k, v) in enumerate(zip(keys, values)):
        begun = now if t % 4 == 0 else begun
        gradient = grad(loss)(begun, k, v)
        now = tuple(w - memory.step * d for w, d in zip(now, gradient))
    memory.update(keys[:3], values[:3])  # splits inside a minibatch must change nothing
    memory.update(keys[3:], values[3:])
    close(memory.state.now, torch.cat([w.flatten() for w in now]), 1e-9)


def test_ttt_of_different_phase_run_as_one_batch() -> None:
    """Memories at different places of their minibatches, stacked, take the row-by-row path and agree."""
    keys, values = pairs(9)
    memory = TTTMemory(6, 5, minibatch=4).double()
    with torch.no_grad():
        a = memory.write(memory.init_state(()), keys[:1], values[:1])
        b = memory.write(memory.init_state(()), keys[:3], values[:3])
        both = type(a)(*(torch.stack(parts) for parts in zip(a, b)))
        together = memory.write(both, keys[3:].expand(2, -1, -1), values[3:].expand(2, -1, -1))
        for i, one in enumerate((a, b)):
            alone = memory.write(one, keys[3:], values[3:])
            close(together.now[i], alone.now)


def test_ttt_contracts_on_equal_rows() -> None:
    """The step is the largest that equal unit keys bear: sixteen copies, many times, converge to the value."""
    keys, values = pairs(1)
    memory = TTTMemory(6, 5, lr=1.0).double()
    for _ in range(20):
        memory.update(keys.expand(16, -1), values.expand(16, -1))
    close(memory.query(keys), values, 1e-8)


# ---- Titans ---------------------------------------------------------------------------------------------------


def test_titans_linear_without_gates_is_the_delta_rule() -> None:
    """depth 1, eta = alpha = 0: delta with beta = 2 theta."""
    keys, values = pairs(20)
    titans = TitansMemory(6, 5, depth=1, theta=0.5, eta=0, chunk=1, max_grad_norm=None)
    close(stored(titans, keys, values).query(keys), stored(DeltaMemory(6, 5), keys, values).query(keys))


def test_titans_with_frozen_gradients_at_zero_is_weighted_hebb() -> None:
    """One chunk from zero: M = 2 theta sum_j c_j k_j^T v_j with the closed weights c_j."""
    keys, values = pairs(6)
    eta, alpha, theta = 0.6, 0.1, 0.05
    memory = TitansMemory(6, 5, depth=1, theta=theta, eta=eta, alpha=alpha, chunk=6, max_grad_norm=None)
    c = [sum((1 - alpha) ** (5 - i) * eta ** (i - j) for i in range(j, 6)) for j in range(6)]
    expected = sum(2 * theta * c[j] * torch.outer(keys[j], values[j]) for j in range(6))
    close(stored(memory, keys, values).query(keys), keys @ expected)


@pytest.mark.parametrize(
    ("depth", "chunk", "clip"), [(1, 4, None), (2, 4, None), (2, 1, None), (3, 5, None), (1, 4, 0.7)]
)
def test_titans_chunks_equal_autograd_step_by_step(depth: int, chunk: int, clip: float | None) -> None:
    keys, values = pairs(11)
    torch.manual_seed(0)
    memory = TitansMemory(
        6, 5, depth=depth, expansion=2, theta=0.03, eta=0.8, alpha=0.05, chunk=chunk, max_grad_norm=clip
    ).double()

    def loss(layers: tuple[Tensor, ...], k: Tensor, v: Tensor) -> Tensor:
        x = k
        for i, w in enumerate(layers):
            x = F.gelu(x @ w) if i < len(layers) - 1 else x @ w
        return (x - v).square().sum()

    now = tuple(p.detach().clone() for p in memory.initial)
    momentum = tuple(torch.zeros_like(w) for w in now)
    for t, (k, v) in enumerate(zip(keys, values)):
        begun = now if t % chunk == 0 else begun  # noqa: F821
        g = grad(loss)(begun, k, v)
        if clip is not None:
            g = tuple(d * min(1.0, clip / float(d.norm())) for d in g)
        momentum = tuple(0.8 * s - 0.03 * d for s, d in zip(momentum, g))
        now = tuple(0.95 * w + s for w, s in zip(now, momentum))
    memory.update(keys[:2], values[:2])
    memory.update(keys[2:], values[2:])
    close(memory.state.now, torch.cat([w.flatten() for w in now]), 1e-9)
    close(memory.state.momentum, torch.cat([s.flatten() for s in momentum]), 1e-9)


def test_titans_without_steps_only_decays() -> None:
    keys, values = pairs(7)
    memory = TitansMemory(6, 5, theta=0, alpha=0.1).double()
    before = memory.state.now.clone()
    memory.update(keys, values)
    close(memory.state.now, 0.9**7 * before)


def test_titans_that_forgets_all_is_zero() -> None:
    keys, values = pairs(7)
    memory = stored(TitansMemory(6, 5, theta=0, alpha=1.0), keys, values)
    assert not memory.state.now.any()


def test_titans_impulse_rings_out_geometrically() -> None:
    """One write, then steps of no gradient: M - M0 = S_1 (1 - eta^T) / (1 - eta)."""
    eta, steps = 0.7, 9
    weights = momentum_weights(
        torch.zeros(steps, dtype=torch.float64), torch.full((steps,), np.log(eta), dtype=torch.float64)
    )
    expected = (1 - eta**steps) / (1 - eta)
    assert weights.gradient_to_weights[0].item() == pytest.approx(expected, rel=1e-12)
    assert weights.momentum_kept.item() == pytest.approx(eta**steps, rel=1e-12)


def test_momentum_weights_do_not_underflow() -> None:
    weights = momentum_weights(torch.full((512,), np.log(0.5)), torch.full((512,), np.log(0.5)))
    assert torch.isfinite(weights.gradient_to_weights).all()
    assert weights.gradient_to_weights[-1].item() == pytest.approx(1.0)


def test_titans_default_is_stable_on_equal_rows() -> None:
    keys, values = pairs(1)
    memory = TitansMemory(6, 5, depth=1).double()
    for _ in range(100):
        memory.update(keys.expand(16, -1), values.expand(16, -1))
    close(memory.query(keys), values, 1e-6)


@pytest.mark.parametrize("memory", [TitansMemory, ttt_mlp], ids=["titans", "ttt-mlp"])
def test_default_mlps_learn_values_of_length_eight(memory) -> None:  # type: ignore[no-untyped-def]
    """N(0, 1) values of width 64: their pull on the lower layer must not make the steps diverge."""
    keys, values = pairs(4, 64, 64)
    torch.manual_seed(0)
    one = memory(64, 64).double()
    for _ in range(400):
        one.update(keys, values)
    close(one.query(keys), values, 1e-3)


def test_hidden_square_is_the_expected_one() -> None:
    z, w = np.polynomial.hermite_e.hermegauss(60)
    x = torch.from_numpy(z * inner.HIDDEN_DEVIATION)
    expected = float((torch.from_numpy(w) * F.gelu(x).square()).sum() / w.sum())
    assert pytest.approx(expected, rel=1e-3) == inner.GELU_SQUARE


def test_ttt_step_is_that_of_its_output_layer() -> None:
    assert TTTMemory(6, 5, minibatch=1, lr=0.7, bias=False).step == pytest.approx(0.7)
    assert TTTMemory(6, 5).step == pytest.approx(1 / 32)
    assert TTTMemory(6, 5, model="mlp", hidden=100).step == pytest.approx(1 / (16 * (100 * inner.GELU_SQUARE + 1)))


# ---- MbPA -----------------------------------------------------------------------------------------------------


def test_mbpa_weights_follow_the_inverse_distance_kernel() -> None:
    """Squared distances 1 and 3 weigh 3 to 1 (eps -> 0)."""
    q = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    at_1 = torch.tensor([0.5, 3**0.5 / 2, 0.0], dtype=torch.float64)
    at_3 = torch.tensor([-0.5, 0.0, 3**0.5 / 2], dtype=torch.float64)
    memory = MbPAMemory(3, 2, capacity=4, eps=1e-12).double()
    memory.update(torch.stack((at_1, at_3)), torch.eye(2, dtype=torch.float64))
    _, _, weights = memory._neighbours(memory.state, q)
    close(weights[0, :2], torch.tensor([0.75, 0.25], dtype=torch.float64))
    assert not weights[0, 2:].any()


def test_mbpa_converges_to_ridge_regression_around_theta() -> None:
    keys, values = pairs(5)
    memory = MbPAMemory(6, 5, capacity=5, neighbours=5, steps=20000, lr=0.9, beta=0.05).double()
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        memory.theta.copy_(torch.randn(6, 5, generator=g, dtype=torch.float64))
    memory.update(keys, values)
    q = pairs(3, seed=2)[0]
    for one, got in zip(q.numpy(), memory.query(q)):
        k, v, theta = keys.numpy(), values.numpy(), memory.theta.detach().numpy()
        w = 1 / (((k - one) ** 2).sum(1) + memory.eps)
        w = np.diag(w / w.sum())
        change = np.linalg.solve(k.T @ w @ k + 0.05 * np.eye(6), k.T @ w @ (v - k @ theta))
        close(got.detach(), torch.from_numpy(one @ (theta + change)), 1e-8)


def test_mbpa_adaptation_equals_gradient_descent_on_a_copy() -> None:
    """The steps in the span of the neighbours are the steps of the paper on a full copy of theta."""
    keys, values = pairs(4)
    memory = MbPAMemory(6, 5, capacity=4, neighbours=4, steps=7, lr=0.4, beta=0.1).double()
    memory.update(keys, values)
    q = pairs(1, seed=3)[0]
    near, v, w = (x[0] for x in memory._neighbours(memory.state, q))
    copy = torch.zeros(6, 5, dtype=torch.float64)
    for _ in range(7):
        copy = copy - 0.4 * (near.mT @ (w[:, None] * (near @ copy - v)) + 0.1 * copy)
    close(memory.query(q).detach(), q @ copy)
    assert not memory.theta.any()


def test_mbpa_keeps_the_newest() -> None:
    keys, values = pairs(10)
    whole = stored(MbPAMemory(6, 5, capacity=4), keys, values)
    newest = stored(MbPAMemory(6, 5, capacity=4), keys[6:], values[6:])
    close(whole.query(keys).detach(), newest.query(keys).detach())


def test_functional_call_reaches_the_initial_weights() -> None:
    """Outer training: a loss after writes has a gradient to the learned initial memory."""
    keys, values = pairs(5)
    memory = TitansMemory(6, 5, depth=2).double()
    parameters = {k: v.detach().clone().requires_grad_() for k, v in memory.named_parameters()}

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = memory

        def forward(self) -> Tensor:
            return (memory.read(memory.write(memory.init_state(()), keys, values), keys) - values).square().mean()

    loss = functional_call(Loss(), {f"memory.{k}": v for k, v in parameters.items()}, ())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in parameters.values())
