"""Elastic weight consolidation against quadratics in closed form, enumerated Fisher matrices, and its own limits."""

from __future__ import annotations

import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from drawing import EXACT, drawn
from memspec.functional import state_tensors
from memspec.reference import ElasticWeightConsolidation, EpisodicMemory, ExactMemory, TTTMemory
from memspec.reference.ops.ring import append, empty_ring
from memspec.reference.wrappers.consolidation import memory_fisher
from memspec.training.elastic import (
    ElasticPenalty,
    anchored,
    fisher_diagonal,
    flat_parameters,
    no_anchor,
    penalty,
    pulled,
)
from variants import INNER, two_tasks

every_inner = pytest.mark.parametrize("inner", INNER.values(), ids=list(INNER))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


# ---- the Fisher matrix ----------------------------------------------------------------------------------------


def test_logistic_fisher_is_p_one_minus_p_x_squared():
    model, x = nn.Linear(4, 1).double(), drawn(100, 4)
    weight, bias = (p.detach().numpy() for p in model.parameters())
    p = sigmoid(x.numpy() @ weight[0] + bias)
    expected = [*((p * (1 - p))[:, None] * x.numpy() ** 2).mean(0), (p * (1 - p)).mean()]
    torch.testing.assert_close(fisher_diagonal(model, x, "bernoulli"), torch.tensor(expected).double(), **EXACT)


def test_categorical_fisher_is_the_expectation_over_the_models_own_answers():
    """Every class of every example through plain autograd, weighted by its probability; frozen parameters are left out."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    model[0].bias.requires_grad_(False)
    x, trained = drawn(7, 3), [p for p in model.parameters() if p.requires_grad]
    expected = torch.zeros(sum(p.numel() for p in trained)).double()
    for row, c in itertools.product(x, range(4)):
        log_p = model(row[None]).log_softmax(-1)[0, c]
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(log_p, trained)])
        expected += log_p.detach().exp() * slope**2 / len(x)
    for chunk in (1, 3, 64):
        torch.testing.assert_close(fisher_diagonal(model, x, chunk=chunk), expected, **EXACT)


def test_gaussian_fisher_of_a_linear_model_is_the_mean_square_of_its_inputs():
    model, x = nn.Linear(3, 2).double(), drawn(11, 3)
    square = (x**2).mean(0)
    expected = torch.cat((square, square, torch.ones(2).double()))
    torch.testing.assert_close(fisher_diagonal(model, x, "gaussian"), expected, **EXACT)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
def test_true_and_empirical_fisher(likelihood):
    """The empirical one squares the gradient at the targets; over targets as the model draws them it is the true one."""
    model, x = nn.Linear(3, 2).double(), drawn(5, 3)
    weight, bias = (p.detach().numpy() for p in model.parameters())
    z, rows = x.numpy() @ weight.T + bias, np.c_[x.numpy(), np.ones(5)]
    if likelihood == "categorical":
        p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        outcomes = [(torch.full((5,), c), np.eye(2)[c] - p, p[:, c]) for c in (0, 1)]
    elif likelihood == "bernoulli":
        p = sigmoid(z)
        outcomes = [
            (torch.tensor([y] * 5).double(), np.array(y) - p, np.where(np.array(y) == 1, p, 1 - p).prod(-1))
            for y in itertools.product((0, 1), repeat=2)
        ]
    else:  # values one deviation off on either side have the variance of a normal
        outcomes = [
            (torch.from_numpy(z + np.array(s)), np.broadcast_to(np.array(s), z.shape), np.full(5, 0.25))
            for s in itertools.product((-1, 1), repeat=2)
        ]
    total = np.zeros((2, 4))
    for targets, score, chance in outcomes:
        squares = (score[:, :, None] * rows[:, None, :]) ** 2  # [n, C, inputs + bias]
        expected = squares.mean(0)
        flat = torch.from_numpy(np.concatenate((expected[:, :3].ravel(), expected[:, 3])))
        torch.testing.assert_close(fisher_diagonal(model, x, likelihood, targets), flat, **EXACT)
        total += (chance[:, None, None] * squares).mean(0)
    flat = torch.from_numpy(np.concatenate((total[:, :3].ravel(), total[:, 3])))
    torch.testing.assert_close(fisher_diagonal(model, x, likelihood), flat, **EXACT)


def test_squares_are_of_single_examples():
    """At a fitted model the mean gradient is near 0, and so is its square; the Fisher matrix is not."""
    model, x = nn.Linear(2, 1).double(), drawn(2000, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    y = (torch.arange(2000) % 2).double()[:, None]
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
    mean = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    found = fisher_diagonal(model, x, "bernoulli", y)
    assert (mean**2).max() < 1e-3
    torch.testing.assert_close(found, torch.cat((0.25 * (x**2).mean(0), torch.tensor([0.25]).double())), **EXACT)


def test_batch_normalisation_does_not_mix_examples_and_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    model(drawn(20, 3))
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    x = drawn(6, 3, seed=1)
    together = fisher_diagonal(model, x)
    torch.testing.assert_close(together, sum(fisher_diagonal(model, row[None]) for row in x) / 6, **EXACT)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes == [True, True, True, False, True]
    assert all(p.grad is None for p in model.parameters())


@every_inner
@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_fisher_of_a_memory_is_that_of_plain_autograd(inner, kind):
    """One pair and one output at a time, by moving the weights of the state."""
    wrapper = ElasticWeightConsolidation(4, 3, inner).double()
    memory, weights = wrapper.memory, wrapper.weights
    keys, values = drawn(5, 4), drawn(5, 3, seed=1)
    state = memory.write(memory.init_state(()), keys, values)
    seen = append(empty_ring((), 8, 4, 3, wrapper.like), keys, values)
    expected = torch.zeros(weights.count).double()
    for key, value in zip(keys, values):
        own = weights.of(state).detach().requires_grad_()
        answer = memory.read(weights.replace(state, own), key[None])[0]
        scores = answer if kind == "true" else [0.5 * (answer - value).square().sum()]
        for score in scores:
            (slope,) = torch.autograd.grad(score, own, retain_graph=True)
            expected += slope**2 / 5
    found = memory_fisher(memory, weights, state, seen, kind)
    torch.testing.assert_close(found, expected, **EXACT)
    assert found.max() > 0


def test_fisher_in_pieces_and_of_batches(monkeypatch):
    wrapper = ElasticWeightConsolidation(4, 3, INNER["ttt-mlp"], examples=6).double()
    memory, weights = wrapper.memory, wrapper.weights
    keys, values = drawn(2, 9, 4), drawn(2, 9, 3, seed=1)
    states = memory.write(memory.init_state((2,)), keys, values)
    seen = append(empty_ring((2,), 6, 4, 3, wrapper.like), keys, values)
    whole = memory_fisher(memory, weights, states, seen)
    monkeypatch.setattr("memspec.reference.wrappers.consolidation.NUMBERS", 2 * 2 * weights.count)
    torch.testing.assert_close(memory_fisher(memory, weights, states, seen), whole, **EXACT)
    single = append(empty_ring((), 6, 4, 3, wrapper.like), keys[1, 3:], values[1, 3:])  # the newest six
    state = memory.write(memory.init_state(()), keys[1], values[1])
    torch.testing.assert_close(memory_fisher(memory, weights, state, single), whole[1], **EXACT)


# ---- the penalty ----------------------------------------------------------------------------------------------


def test_two_quadratic_tasks_settle_where_algebra_says():
    """Minimum of L_B + lambda/2 sum F (theta - theta_A)^2 is (H_B + lambda F)^-1 (H_B theta_B + lambda F theta_A)."""
    xa, xb, ya, yb = drawn(30, 4), drawn(30, 4, seed=1), drawn(30, 1, seed=2), drawn(30, 1, seed=3)
    model, strength = nn.Linear(4, 1, bias=False).double(), 0.7
    elastic = ElasticPenalty(model, strength).double()
    assert elastic(model) == 0
    theta_a, theta_b = (np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0] for x, y in ((xa, ya), (xb, yb)))
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta_a.T))
    elastic.consolidate(model, xa, "gaussian")
    fisher, curvature = np.diag((xa.numpy() ** 2).mean(0)), xb.numpy().T @ xb.numpy() / 30
    expected = np.linalg.solve(curvature + strength * fisher, curvature @ theta_b + strength * fisher @ theta_a)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(expected.T))
    loss = 0.5 * (model(xb) - yb).square().sum(-1).mean() + elastic(model)
    (gradient,) = torch.autograd.grad(loss, model.parameters())
    assert gradient.abs().max() < 1e-10
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta_a.T))

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = 0.5 * (model(xb) - yb).square().sum(-1).mean() + elastic(model)
        loss.backward()
        return loss

    optimiser.step(closure)
    np.testing.assert_allclose(model.weight.detach().numpy().T, expected, atol=1e-8)


def test_the_penalty_has_the_one_half():
    anchor = anchored(no_anchor(torch.zeros(2)), torch.tensor([3.0, 0.5]), torch.tensor([1.0, 2.0]))
    assert penalty(anchor, torch.tensor([2.0, 0.0]), 4.0).item() == pytest.approx(4 / 2 * (3 * 1 + 0.5 * 4))


@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_sum_of_penalties_is_one_a_task(decay):
    """Value and gradient, with Fisher entries of 0 among them."""
    fishers, centres = drawn(4, 6).square(), drawn(4, 6, seed=1)
    fishers[:, 2], fishers[0, 3], fishers[3, 4] = 0, 0, 0
    anchor = no_anchor(centres[0])
    for fisher, centre in zip(fishers, centres):
        anchor = anchored(anchor, fisher, centre, "sum", decay)
    theta = drawn(6, seed=2).requires_grad_()
    found = penalty(anchor, theta, 1.7)
    parts = (decay ** (3 - t) * (fishers[t] * (theta - centres[t]) ** 2).sum() for t in range(4))
    expected = 1.7 / 2 * sum(parts)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(*(torch.autograd.grad(p, theta)[0] for p in (found, expected)), **EXACT)


def test_online_consolidation_has_one_centre():
    fishers, centres, theta = drawn(3, 6).square(), drawn(3, 6, seed=1), drawn(6, seed=2)
    anchor = no_anchor(centres[0])
    for fisher, centre in zip(fishers, centres):
        anchor = anchored(anchor, fisher, centre, "online", 0.5)
    precision = 0.25 * fishers[0] + 0.5 * fishers[1] + fishers[2]
    expected = 1.5 * (precision * (theta - centres[2]) ** 2).sum()
    torch.testing.assert_close(penalty(anchor, theta, 3.0), expected, **EXACT)


def test_the_implicit_step_solves_its_problem_and_has_its_limits():
    anchor = anchored(no_anchor(drawn(5)), torch.tensor([0.0, 1.0, 2.0, 50.0, 1e6]).double(), drawn(5, seed=1))
    theta = drawn(5, seed=2)
    x = pulled(anchor, theta, 0.3).requires_grad_()
    objective = 0.5 * (x - theta).square().sum() + penalty(anchor, x, 0.3)
    # relative to the largest curvature
    assert torch.autograd.grad(objective, x)[0].abs().max() < 1e-10 * (1 + 0.3 * 1e6)
    assert torch.equal(pulled(anchor, theta, 0.0), theta)
    held = pulled(anchor, theta, float("inf"))
    assert torch.equal(held[1:], anchor.centre[1:])
    assert held[0] == theta[0]


def test_buffers_of_the_penalty_are_saved():
    model = nn.Linear(3, 2)
    elastic, other = ElasticPenalty(model, 2.0), ElasticPenalty(model, 2.0)
    elastic.consolidate(model, torch.randn(9, 3))
    other.load_state_dict(elastic.state_dict())
    with torch.no_grad():
        model.weight.add_(1.0)
    assert other(model) == elastic(model) > 0
    assert flat_parameters(model).shape == elastic.precision.shape == (8,)


# ---- memories -------------------------------------------------------------------------------------------------


@every_inner
def test_before_a_task_ends_and_at_strength_0_it_is_the_wrapped_memory(inner):
    ka, va, kb, vb = two_tasks()
    wrapper = ElasticWeightConsolidation(5, 3, inner, strength=0.0).double()
    plain = copy.deepcopy(wrapper.memory)
    state = wrapper.state.inner
    wrapper.update(ka, va)
    state = plain.write(state, ka, va)
    assert torch.equal(wrapper.query(ka), plain.read(state, ka))
    wrapper.consolidate()
    for k, v in wrapper.rows(kb, vb):
        wrapper.update(k, v)
        state = plain.write(state, k, v)
    for ours, its in zip(state_tensors(wrapper.state.inner), state_tensors(state)):
        assert torch.equal(ours, its)


@every_inner
def test_a_huge_strength_holds_every_weight_that_matters(inner):
    ka, va, kb, vb = two_tasks()
    wrapper = ElasticWeightConsolidation(5, 3, inner, strength=1e30).double()
    for _ in range(5):
        wrapper.update(ka, va)
    before = wrapper.query(ka)
    wrapper.consolidate()
    assert torch.equal(wrapper.query(ka), before)
    precision, weights = wrapper.state.anchor.precision, wrapper.weights.of(wrapper.state.inner)
    wrapper.update(kb, vb)
    moved = (wrapper.weights.of(wrapper.state.inner) - weights).abs()
    assert moved[precision > 1e-12].max() < 1e-10
    torch.testing.assert_close(wrapper.query(ka), before, rtol=0, atol=1e-8)


@pytest.mark.parametrize("strength", [0.1, 3.0])
def test_one_slot_settles_between_its_tasks(strength):
    """EpisodicMemory with S = 1 answers its value V: F = 1, H = 2 / Dv, and V ends where algebra says."""
    ka, va, kb, vb = two_tasks()
    inner = functools.partial(EpisodicMemory, memory_size=1, lr=0.5)
    wrapper = ElasticWeightConsolidation(5, 3, inner, strength=strength).double()
    for _ in range(100):
        wrapper.update(ka, va)
    wrapper.consolidate()
    torch.testing.assert_close(wrapper.query(ka), va.mean(0).expand(6, 3), **EXACT)
    for _ in range(400):
        wrapper.update(kb, vb)
    h = 2 / 3
    expected = (h * vb.mean(0) + strength * va.mean(0)) / (h + strength)
    torch.testing.assert_close(wrapper.query(kb), expected.expand(6, 3), **EXACT)


def test_a_linear_model_settles_where_algebra_says():
    """TTT-Linear, task B one pair x -> v: (x x^T + lambda F)^-1 (x v^T + lambda F Theta_A), F = mean x_A^2."""
    ka, va, kb, vb = two_tasks()
    inner = functools.partial(TTTMemory, bias=False, minibatch=1, lr=1.0)
    wrapper = ElasticWeightConsolidation(5, 3, inner, strength=0.8).double()
    wrapper.update(ka, va)
    theta_a = wrapper.state.inner.now.reshape(5, 3).numpy()
    wrapper.consolidate()
    for _ in range(600):
        wrapper.update(kb[:1], vb[:1])
    unit = ka.numpy() / np.linalg.norm(ka.numpy(), axis=1, keepdims=True)
    x = kb[0].numpy() / np.linalg.norm(kb[0].numpy())
    fisher = 0.8 * np.diag((unit**2).mean(0))
    expected = np.linalg.solve(np.outer(x, x) + fisher, np.outer(x, vb[0].numpy()) + fisher @ theta_a)
    np.testing.assert_allclose(wrapper.state.inner.now.reshape(5, 3).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("merge", ["sum", "online"])
def test_old_tasks_are_forgotten_less(merge):
    """Tasks whose keys share little: protected, task A keeps most of what a bare memory loses, and B is learnt too."""
    ka, kb = drawn(8, 16), drawn(8, 16, seed=1)
    ka[:, 8:] *= 0.3
    kb[:, :8] *= 0.3
    va, vb = drawn(8, 4, seed=2), drawn(8, 4, seed=3)
    lost, learnt = {}, {}
    for strength in (0.0, 0.3):
        memory = ElasticWeightConsolidation(16, 4, "TTTMemory", strength=strength, merge=merge).double()
        for _ in range(400):
            memory.update(ka, va)
        at_first = (memory.query(ka) - va).square().mean()
        memory.consolidate()
        for _ in range(400):
            memory.update(kb, vb)
        lost[strength] = ((memory.query(ka) - va).square().mean() - at_first).item()
        learnt[strength] = (memory.query(kb) - vb).square().mean().item()
    assert lost[0.3] < 0.5 * lost[0.0]
    assert learnt[0.3] < 0.5 * vb.square().mean()


def test_the_loss_is_that_of_the_pairs_and_the_penalty():
    ka, va, kb, vb = two_tasks()
    memory = ElasticWeightConsolidation(5, 3, strength=2.0).double()
    memory.update(ka, va)
    memory.consolidate()
    theta = memory.weights.of(memory.state.inner)
    memory.update(kb, vb)
    fisher, moved = memory.state.anchor.precision, memory.weights.of(memory.state.inner)
    recall = 0.5 * (memory.query(kb) - vb).square().sum(-1).mean()
    expected = recall + 2.0 / 2 * (fisher * (moved - theta) ** 2).sum()
    torch.testing.assert_close(memory.auxiliary_loss(kb, vb), expected, **EXACT)
    assert expected > recall


@pytest.mark.parametrize(
    "option",
    [{"strength": 2.0}, {"merge": "online"}, {"decay": 0.5}, {"fisher": "empirical"}, {"examples": 3}, {"step": 1.0}],
    ids=str,
)
def test_every_option_makes_a_difference(option):
    ka, va, kb, vb = two_tasks()
    answers = []
    for options in ({}, option):
        memory = ElasticWeightConsolidation(5, 3, **options).double()
        for k, v in ((ka, va), (kb, vb), (ka.flip(-1), va.flip(-1))):
            memory.update(k, v)
            memory.consolidate()
        answers.append(memory.query(ka))
    assert (answers[0] - answers[1]).abs().max() > 1e-4


def test_what_cannot_be_wrapped_is_refused():
    with pytest.raises(ValueError, match="memory is 'NoSuchMemory'; it must be the name of a memory"):
        ElasticWeightConsolidation(4, 4, "NoSuchMemory")
    with pytest.raises(ValueError, match="no gradient memory"):
        ElasticWeightConsolidation(4, 4, ExactMemory)
    with pytest.raises(ValueError, match="class or function"):
        ElasticWeightConsolidation(4, 4, TTTMemory(4, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it must be what builds a FunctionalMemory; it built a dict"):
        ElasticWeightConsolidation(4, 4, dict)  # type: ignore[arg-type]
