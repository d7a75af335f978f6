"""GEM and A-GEM against closed forms, the conditions of optimality, other solvers, and what they promise of losses."""

from __future__ import annotations

import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from drawing import EXACT, drawn
from memspec.functional import state_tensors
from memspec.reference import GradientEpisodicMemory, TTTMemory
from memspec.training.projection import project_all, project_gradients, project_one
from variants import INNER, two_tasks

TURNED = [name for name in INNER if name != "episodic-adam"]  # whose steps here go against no average of tasks
every_inner = pytest.mark.parametrize("inner", [INNER[name] for name in TURNED], ids=TURNED)
both_methods = pytest.mark.parametrize("method", ["gem", "a-gem"])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# ---- projections ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_one_constraint_in_closed_form(seed):
    """x = g - min(0, g.m) / m.m m, orthogonal to m to machine precision, the same by both ways."""
    g, m = drawn(50, seed=seed), drawn(50, seed=100 + seed)
    m = m if g @ m < 0 else -m
    expected = g - min(0.0, float(g @ m)) / float(m @ m) * m
    for x in (project_one(g, m), project_all(g, m[None])):
        torch.testing.assert_close(x, expected, **EXACT)
        assert abs(float(x @ m)) < 1e-14 * float(g.norm() * m.norm())


@pytest.mark.parametrize(("margin", "ridge"), [(0.5, 0.0), (0.0, 0.3), (0.5, 1e-3), (0.01, 2.0)])
def test_margin_and_ridge_in_closed_form(margin, ridge):
    """v = max(margin, -g.m / (m.m + ridge))."""
    for seed in range(4):
        g, m = drawn(6, seed=seed), drawn(6, seed=10 + seed)
        m = m if g @ m < 0 else -m
        x = g + max(margin, -float(g @ m) / (float(m @ m) + ridge)) * m
        torch.testing.assert_close(project_one(g, m, margin, ridge), x, **EXACT)
        torch.testing.assert_close(project_all(g, m[None], margin, ridge), x, **EXACT)


def test_what_breaks_no_constraint_is_unchanged_to_the_bit():
    g = drawn(7, 9)
    references = drawn(7, 4, 9, seed=1)
    references = references * torch.sign((references * g[:, None]).sum(-1, keepdim=True))
    for margin in (0.0, 0.5):
        assert torch.equal(project_all(g, references, margin), g)
        assert torch.equal(project_one(g, references[:, 0], margin), g)
    references[3, 2] *= -1  # one memory of seven: the others keep their bits
    x = project_all(g, references)
    assert torch.equal(x[[0, 1, 2, 4, 5, 6]], g[[0, 1, 2, 4, 5, 6]])
    assert not torch.equal(x[3], g[3])
    assert torch.equal(project_all(g, 0 * references), g)  # tasks without examples ask nothing
    assert torch.equal(project_one(g, 0 * g), g)


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_conditions_of_optimality(tasks):
    """x = g + G^T v with v >= 0, G x >= 0 and v (G x) = 0 are necessary and sufficient; v is recovered by least squares."""
    for seed in range(20):
        g, rows = drawn(12, seed=seed), drawn(tasks, 12, seed=50 + seed)
        x = project_all(g, rows).numpy()
        dual = np.linalg.lstsq(rows.numpy().T, x - g.numpy(), rcond=None)[0]
        products = rows.numpy() @ x
        np.testing.assert_allclose(g.numpy() + rows.numpy().T @ dual, x, atol=1e-10)
        assert dual.min() > -1e-10
        assert products.min() > -1e-10
        assert np.abs(dual * products).max() < 1e-10


@pytest.mark.parametrize(("margin", "ridge"), [(0.0, 0.0), (0.5, 0.0), (0.2, 1e-3)])
def test_the_dual_by_trying_every_active_set(margin, ridge):
    """Of the 2^T choices of constraints at their margin one is feasible, and it is the solution."""
    for seed in range(10):
        g, rows = drawn(9, seed=seed).numpy(), drawn(4, 9, seed=50 + seed).numpy()
        if (rows @ g).min() >= 0:
            continue
        square, linear = rows @ rows.T + ridge * np.eye(4), rows @ g
        found = []
        for active in itertools.product((False, True), repeat=4):
            free, v = np.array(active), np.full(4, margin)
            v[free] = np.linalg.solve(
                square[np.ix_(free, free)], -linear[free] - square[np.ix_(free, ~free)] @ v[~free]
            )
            slope = square @ v + linear
            if v.min() >= margin - 1e-12 and slope[~free].min(initial=0) >= -1e-12:
                found.append(g + rows.T @ v)
        x = project_all(torch.from_numpy(g), torch.from_numpy(rows), margin, ridge).numpy()
        np.testing.assert_allclose(x, found[0], atol=1e-10)


def test_the_primal_by_a_general_solver():
    g, rows = drawn(5).numpy(), drawn(3, 5, seed=4).numpy()
    solved = minimize(
        lambda x: 0.5 * ((x - g) ** 2).sum(),
        g,
        jac=lambda x: x - g,
        method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda x, r=r: r @ x, "jac": lambda x, r=r: r} for r in rows],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert (rows @ g).min() < 0
    np.testing.assert_allclose(project_all(torch.from_numpy(g), torch.from_numpy(rows)).numpy(), solved.x, atol=1e-6)


def test_equal_and_opposite_constraints():
    """The same task twice is that task once; a task and its opposite leave only what is orthogonal to both."""
    g, m = drawn(8), drawn(8, seed=1)
    m = m if g @ m < 0 else -m
    torch.testing.assert_close(project_all(g, torch.stack((m, m))), project_one(g, m), **EXACT)
    x = project_all(g, torch.stack((m, -m)))
    torch.testing.assert_close(x, g - (g @ m) / (m @ m) * m, **EXACT)


def test_more_constraints_than_dimensions():
    rows = torch.cat((torch.eye(3), -torch.eye(3), torch.ones(1, 3))).double()
    torch.testing.assert_close(project_all(drawn(3), rows), torch.zeros(3).double(), **EXACT)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_leading_dimensions_are_separate_problems(shape):
    g, rows = drawn(*shape, 7), drawn(*shape, 3, 7, seed=1)
    found = project_all(g, rows, 0.1).reshape(-1, 7)
    for x, one, its in zip(found, g.reshape(-1, 7), rows.reshape(-1, 3, 7)):
        torch.testing.assert_close(x, project_all(one, its, 0.1), **EXACT)


@pytest.mark.parametrize(("margin", "ridge"), [(0.0, 0.0), (0.3, 1e-2)])
def test_projections_are_differentiable(margin, ridge):
    g, rows = drawn(4, 6).requires_grad_(), drawn(4, 3, 6, seed=1).requires_grad_()
    assert ((rows @ g[..., None]) < 0).any(1).any()
    assert torch.autograd.gradcheck(lambda g, r: project_all(g, r, margin, ridge), (g, rows))
    assert torch.autograd.gradcheck(lambda g, r: project_one(g, r[:, 0], margin, ridge), (g, rows))


# ---- any module -----------------------------------------------------------------------------------------------


@both_methods
def test_gradients_of_a_module_are_projected(method):
    """The last task contradicts the others: its gradient is turned until no remembered loss (or their mean) grows."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    model[0].bias.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    tasks = [(drawn(20, 4, seed=i), drawn(20, 2, seed=10 + i)) for i in range(3)]
    tasks.append((torch.cat([x for x, _ in tasks]), -9 * torch.cat([y for _, y in tasks])))

    def losses() -> list[torch.Tensor]:
        return [nn.functional.mse_loss(model(x), y) for x, y in tasks]

    losses()[-1].backward()
    g = torch.cat([p.grad.flatten() for p in trained if p.grad is not None])
    old = losses()[:-1]
    rows = torch.stack(
        [torch.cat([s.flatten() for s in torch.autograd.grad(loss, trained, retain_graph=True)]) for loss in old]
    )
    rows = rows.mean(0, keepdim=True) if method == "a-gem" else rows
    assert (rows @ g).min() < 0
    project_gradients(model.parameters(), old, method)
    x = torch.cat([p.grad.flatten() for p in trained if p.grad is not None])
    assert (rows @ x).min() > -1e-12
    torch.testing.assert_close(x, project_all(g, rows), **EXACT)
    assert model[0].bias.grad is None


def test_without_remembered_losses_gradients_stay():
    model = nn.Linear(3, 2)
    model(torch.randn(4, 3)).sum().backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    project_gradients(model.parameters(), [])
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before) if p.grad is not None)
    unused = nn.Linear(3, 2)
    project_gradients(unused.parameters(), [model(torch.randn(4, 3)).sum()])
    assert all(p.grad is None for p in unused.parameters())


# ---- memories -------------------------------------------------------------------------------------------------


@every_inner
def test_references_are_gradients_of_the_mean_loss(inner):
    """One task and one pair at a time through plain autograd; A-GEM: all pairs of all tasks alike."""
    memory = GradientEpisodicMemory(5, 3, inner, tasks=3, examples=4).double()
    averaged = GradientEpisodicMemory(5, 3, inner, tasks=3, examples=4, method="a-gem").double()
    averaged.memory = memory.memory
    state, tasks = memory.init_state(()), []
    for seed, n in enumerate((2, 7)):
        keys, values = drawn(n, 5, seed=seed), drawn(n, 3, seed=10 + seed)
        state = memory.consolidated(memory.write(state, keys, values))
        tasks.append((keys[-4:], values[-4:]))
    state = memory.write(state, drawn(2, 5, seed=7), drawn(2, 3, seed=8))
    expected, everything = torch.zeros(3, memory.weights.count).double(), torch.zeros(memory.weights.count).double()
    for t, (keys, values) in enumerate(tasks):
        for key, value in zip(keys, values):
            own = memory.weights.of(state.inner).detach().requires_grad_()
            answer = memory.memory.read(memory.weights.replace(state.inner, own), key[None])[0]
            (slope,) = torch.autograd.grad(0.5 * (answer - value).square().sum(), own)
            expected[t] += slope / len(keys)
            everything += slope / 6
    torch.testing.assert_close(memory.references(state).detach(), expected, **EXACT)
    torch.testing.assert_close(averaged.references(state)[0].detach(), everything, **EXACT)


@every_inner
@both_methods
def test_no_step_goes_against_a_remembered_task(inner, method):
    """Each step's product with every gradient is 0 or more, and the step is what the projection says."""
    ka, va, kb, vb = two_tasks()
    memory = GradientEpisodicMemory(5, 3, inner, method).double()
    for k, v in ((ka[:3], va[:3]), (ka[3:], va[3:])):
        for _ in range(5):
            memory.update(k, v)
        memory.consolidate()
    turned = 0
    for k, v in memory.rows(torch.cat((ka, kb)), torch.cat((-va, vb))):
        state = memory.state
        before = memory.weights.of(state.inner)
        step = before - memory.weights.of(memory.memory.write(state.inner, k, v))
        rows = memory.references(state)
        memory.update(k, v)
        taken = before - memory.weights.of(memory.state.inner)
        assert (rows @ taken).min() > -1e-12
        torch.testing.assert_close(taken, project_all(step, rows), **EXACT)
        turned += int((rows @ step).min() < 0)
    assert turned > 0


def test_a_step_that_hurts_nobody_is_the_memorys_own():
    """Tasks on orthogonal keys: the state is that of the bare memory, bit for bit."""
    keys, values = torch.eye(8).double(), drawn(8, 3)
    memory = GradientEpisodicMemory(8, 3, functools.partial(TTTMemory, bias=False)).double()
    plain, state = copy.deepcopy(memory.memory), memory.state.inner
    memory.update(keys[:4], values[:4])
    state = plain.write(state, keys[:4], values[:4])
    memory.consolidate()
    for row in range(4, 8):
        memory.update(keys[row : row + 1], values[row : row + 1])
        state = plain.write(state, keys[row : row + 1], values[row : row + 1])
    assert all(torch.equal(a, b) for a, b in zip(state_tensors(memory.state.inner), state_tensors(state)))


def test_a_linear_memory_never_loses_what_it_remembers():
    """The loss of a linear model is convex, so small projected steps leave that of task A where it was, or below."""
    ka, va, kb, vb = two_tasks()
    lost = {}
    for wrapped in (False, True):
        memory = GradientEpisodicMemory(5, 3, functools.partial(TTTMemory, lr=0.05)).double()
        for _ in range(60):
            memory.update(ka, va)
        before = (memory.query(ka) - va).square().mean().item()
        if wrapped:
            memory.consolidate()
        start_b = (memory.query(kb) - vb).square().mean().item()
        for _ in range(40):
            memory.update(kb, vb)
        lost[wrapped] = (memory.query(ka) - va).square().mean().item() - before
        assert (memory.query(kb) - vb).square().mean().item() < start_b
    assert lost[True] < 0.05 * lost[False]


def test_tasks_and_pairs_kept_are_an_integer_trace():
    """The newest two tasks, the newest three pairs of each; ending a task twice is ending it once."""
    memory = GradientEpisodicMemory(9, 1, tasks=2, examples=3)
    key = torch.eye(9)

    def kept() -> list[list[int]]:
        held, keys = memory.state.held.tolist(), memory.state.keys.argmax(-1).tolist()
        return [sorted(k[:h]) for k, h in zip(keys, held)]

    def task(*which: int) -> None:
        memory.update(key[list(which)], torch.ones(len(which), 1))
        memory.consolidate()

    task(0, 1)
    assert kept() == [[0, 1], []]
    memory.consolidate()
    assert (kept(), memory.state.tasks.item()) == ([[0, 1], []], 1)
    task(1, 2, 3, 4)
    assert kept() == [[0, 1], [2, 3, 4]]
    task(8)
    assert kept() == [[8], [2, 3, 4]]
    memory.reset()
    assert kept() == [[], []]


@pytest.mark.parametrize(
    "option", [{"method": "a-gem"}, {"tasks": 1}, {"examples": 2}, {"margin": 0.5}, {"ridge": 1.0}], ids=str
)
def test_every_option_makes_a_difference(option):
    ka, va, kb, vb = two_tasks()
    answers = []
    for options in ({}, option):
        memory = GradientEpisodicMemory(5, 3, **options).double()
        for k, v in ((ka, va), (kb, vb), (ka.flip(-1), va.flip(-1))):
            for _ in range(10):
                memory.update(k, v)
            memory.consolidate()
        answers.append(memory.query(ka))
    assert (answers[0] - answers[1]).abs().max() > 1e-4
