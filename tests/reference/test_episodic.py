"""EpisodicMemory and ProjectingEpisodicMemory against autograd, torch's optimisers and analytic learning curves."""

from __future__ import annotations

import math

import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import EpisodicMemory, MatrixAssociativeMemory, ProjectingEpisodicMemory, SoftmaxMemory


def error(memory: EpisodicMemory, state, keys, values) -> float:
    return (memory.read(state, keys) - values).square().mean().item()


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("reduction", ["mean", "items", "sum"])
@pytest.mark.parametrize("scale", [1.0, None, 3.0])
def test_updates_are_those_of_autograd_and_torch_optim(scale, reduction, optimiser):
    """The closed-form gradient, three updates of two steps, against torch.optim on the loss as it is written down."""
    memory = EpisodicMemory(6, 4, 9, 0.05, 2, optimiser, scale, reduction).double()
    keys, values = memory.state.keys.clone().requires_grad_(), memory.state.values.clone().requires_grad_()
    kind = torch.optim.SGD if optimiser == "sgd" else torch.optim.Adam
    outer = kind([keys, values], lr=0.05)
    for n in range(3):
        k, v = drawn(5, 6, seed=n), drawn(5, 4, seed=10 + n)
        memory.update(k, v)
        for _ in range(2):
            weights = torch.softmax((1 / math.sqrt(6) if scale is None else scale) * k @ keys.mT, -1)
            squares = (weights @ values - v) ** 2
            loss = {"mean": squares.mean(), "items": squares.sum(-1).mean(), "sum": squares.sum()}[reduction]
            outer.zero_grad()
            loss.backward()
            outer.step()
    torch.testing.assert_close(memory.state.keys, keys.detach(), **EXACT)
    torch.testing.assert_close(memory.state.values, values.detach(), **EXACT)


@pytest.mark.parametrize("width", [4, 64])
@pytest.mark.parametrize("lr", [0.01, 0.5])
def test_one_slot_learns_along_the_analytic_curve(lr, width):
    """S = 1: ``error_n = error_0 (1 - 2 lr / Dv)^{2n}``, and the slot's key never moves."""
    memory = EpisodicMemory(8, width, memory_size=1, lr=lr).double()
    key, value, fresh = drawn(1, 8), drawn(1, width, seed=1), memory.state
    start = error(memory, fresh, key, value)
    for n in range(1, 21):
        memory.update(key, value)
        expected = start * (1 - 2 * lr / width) ** (2 * n)
        assert error(memory, memory.state, key, value) == pytest.approx(expected, abs=1e-10)
    assert torch.equal(memory.state.keys, fresh.keys)


def test_one_slot_does_not_converge_once_lr_reaches_the_width():
    key, value = drawn(1, 8), drawn(1, 4, seed=1)
    for lr, grows in ((3.9, False), (4.0, None), (4.1, True)):
        memory = EpisodicMemory(8, 4, memory_size=1, lr=lr).double()
        before = error(memory, memory.state, key, value)
        memory.update(key, value)
        after = error(memory, memory.state, key, value)
        assert after == pytest.approx(before) if grows is None else (after > before) is grows


def test_one_slot_and_many_pairs_end_in_the_mean():
    memory = EpisodicMemory(8, 4, memory_size=1, lr=1.0).double()
    keys, values = drawn(6, 8), drawn(6, 4, seed=1)
    for _ in range(60):
        memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys), values.mean(0).expand(6, 4), **EXACT)


def test_saturated_slots_learn_independently():
    """Keys far apart make the weights one-hot: each slot's value contracts by itself, the keys stay."""
    memory = EpisodicMemory(5, 3, memory_size=5, lr=0.3, reduction="sum").double()
    basis = 100 * torch.eye(5, dtype=torch.float64)
    memory.state = memory.state._replace(keys=basis)
    values, start = drawn(3, 3, seed=1), memory.state.values
    for n in range(1, 6):
        memory.update(basis[:3], values)
        torch.testing.assert_close(memory.state.values[:3], values + (1 - 0.6) ** n * (start[:3] - values), **EXACT)
    torch.testing.assert_close(memory.state.values[3:], start[3:], **EXACT)
    torch.testing.assert_close(memory.state.keys, basis, **EXACT)


def test_read_is_the_softmax_store_with_the_same_contents():
    """Orthonormal slot keys: the closed form; any slot keys: SoftmaxMemory holding the same pairs."""
    memory = EpisodicMemory(8, 3, memory_size=6, scale=2.0).double()
    keys, values = torch.linalg.qr(drawn(8, 8)).Q[:6], drawn(6, 3, seed=1)
    memory.state = memory.state._replace(keys=keys, values=values)
    share = 1 / (math.exp(2) + 5)
    expected = (math.exp(2) * share - share) * values + share * values.sum(0)
    torch.testing.assert_close(memory.query(keys), expected, **EXACT)
    store = SoftmaxMemory(8, 3, capacity=6, beta=2.0, key_norm="none").double()
    keys = drawn(6, 8, seed=2)
    memory.state = memory.state._replace(keys=keys)
    store.update(keys, values)
    torch.testing.assert_close(memory.query(drawn(4, 8)), store.query(drawn(4, 8)), **EXACT)
    torch.testing.assert_close(memory.read_weights(drawn(4, 8)) @ memory.slot_values(), memory.query(drawn(4, 8)))


def test_joint_write_order_free_but_not_split_free():
    keys, values, order = drawn(6, 5), drawn(6, 4, seed=1), [4, 0, 5, 2, 1, 3]
    memory = EpisodicMemory(5, 4, lr=1.0).double()
    state, fresh = memory.write(memory.state, keys, values), memory.state
    permuted = memory.write(fresh, keys[order], values[order])
    torch.testing.assert_close(memory.read(state, keys), memory.read(permuted, keys), **EXACT)
    split = memory.write(memory.write(fresh, keys[:3], values[:3]), keys[3:], values[3:])
    assert not torch.allclose(memory.read(state, keys), memory.read(split, keys))


def test_rotating_slots_and_keys_changes_nothing():
    """Rotated slots, keys and queries give the same answers; permuted slots too."""
    rotation, order = torch.linalg.qr(drawn(5, 5, seed=9)).Q, torch.randperm(100)
    keys, values, memory = drawn(6, 5), drawn(6, 4, seed=1), EpisodicMemory(5, 4, lr=5.0).double()
    fresh = memory.state
    plain = memory.read(memory.write(fresh, keys, values), keys)
    turned = fresh._replace(keys=(fresh.keys @ rotation)[order], values=fresh.values[order])
    turned = memory.write(turned, keys @ rotation, values)
    torch.testing.assert_close(memory.read(turned, keys @ rotation), plain, **EXACT)


def published(optimiser: str, pairs: int, updates: int) -> tuple[list[float], float]:
    """Mean error after each update and recall at the end, 20 seeds, dim 64, 100 slots, slots drawn before pairs."""
    memory = EpisodicMemory(64, 64, optimiser=optimiser)
    errors, right = torch.zeros(updates + 1), 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        state = memory.init_state()
        keys, values = torch.randn(pairs, 64), torch.randn(pairs, 64)
        errors[0] += error(memory, state, keys, values) / 20
        for n in range(updates):
            state = memory.write(state, keys, values)
            errors[n + 1] += error(memory, state, keys, values) / 20
        answers = torch.nn.functional.cosine_similarity(memory.read(state, keys)[:, None], values, dim=-1)
        right += (answers.argmax(-1) == torch.arange(pairs)).float().mean().item() / 20
    return errors.tolist(), right


def test_published_defaults_hardly_learn():
    """One pair: MSE 1.707, 1.686 after one update, 1.518 after 20; 20 pairs, 5 updates: recall .058, Adam .148."""
    errors, _ = published("sgd", 1, 20)
    assert [errors[0], errors[1], errors[20]] == pytest.approx([1.707, 1.686, 1.518], abs=6e-4)
    assert published("sgd", 20, 5)[1] == pytest.approx(0.058, abs=6e-4)
    assert published("adam", 20, 5)[1] == pytest.approx(0.148, abs=6e-4)


@pytest.mark.parametrize("kind", [EpisodicMemory, ProjectingEpisodicMemory])
def test_the_learning_preset_learns(kind):
    """What its docstring says: 64 pairs at d = 64, all recalled, and at most a fifth of the squared error left."""
    torch.manual_seed(0)
    memory = kind.learning(64, 64)
    keys, values = torch.nn.functional.normalize(drawn(64, 64).float(), dim=-1), drawn(64, 64, seed=1).float()
    for _ in range(memory.spec.presentations):
        memory.update(keys, values)
    answers = memory.query(keys)
    recalled = torch.nn.functional.cosine_similarity(answers[:, None], values, dim=-1).argmax(-1)
    assert torch.equal(recalled, torch.arange(64))
    assert (answers - values).square().mean() < 0.2 * values.square().mean()


def test_a_step_that_would_overflow_is_not_taken():
    """Rows of 1e30 beside an ordinary memory: the state stays finite, and the ordinary one is as if alone."""
    memory = EpisodicMemory(4, 3, lr=1.0, optimiser="adam")
    memory.reset((2,))
    keys, values = drawn(2, 5, 4).float(), drawn(2, 5, 3, seed=1).float()
    scale = torch.tensor([1.0, 1e30])[:, None, None]
    fresh = memory.state
    memory.update(keys * scale, values * scale)
    memory.update(keys * scale, values * scale)
    assert torch.isfinite(memory.query(keys * scale)).all()
    usual = memory.write(memory.write(fresh, keys, values), keys, values)
    assert torch.equal(memory.state.keys[0], usual.keys[0])
    assert torch.equal(memory.state.adam.steps, torch.tensor([2, 0]))


# ---- projections ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_dim", [6, 10])
def test_with_room_for_all_it_is_the_base_memory(memory_dim):
    """memory_dim >= width, orthonormal P: the plain memory in other coordinates, update after update."""
    options = {"memory_size": 12, "lr": 0.5, "reduction": "sum"}
    projecting = ProjectingEpisodicMemory(6, 6, memory_dim, **options).double()
    for seed, projection in enumerate((projecting.key_projection, projecting.value_projection)):
        projection.copy_(torch.linalg.qr(drawn(memory_dim, 6, seed=seed)).Q)  # orthonormal to float64, not float32
    p_k, p_v, fresh = projecting.key_projection, projecting.value_projection, projecting.state
    projecting.state = fresh._replace(values=fresh.values @ p_v @ p_v.mT)  # what P_v cannot reach is no value
    base = EpisodicMemory(6, 6, **options).double()
    base.state = base.state._replace(keys=fresh.keys @ p_k, values=fresh.values @ p_v)
    for n in range(5):
        keys, values = drawn(4, 6, seed=n), drawn(4, 6, seed=10 + n)
        projecting.update(keys, values)
        base.update(keys, values)
        torch.testing.assert_close(projecting.query(keys), base.query(keys), **EXACT)
    torch.testing.assert_close(projecting.slot_values(), base.slot_values(), **EXACT)


@pytest.mark.parametrize("memory_dim", [1, 4, 12])
def test_the_error_floor_of_a_narrow_memory(memory_dim):
    """No answer is nearer than ``|v - P^T P v|^2``; learned to the end, the answers reach it; on average 1 - Dm/Dt."""
    torch.manual_seed(0)
    memory = ProjectingEpisodicMemory(16, 16, memory_dim, 8, lr=0.2, reduction="sum", scale=20.0).double()
    keys, values = torch.nn.functional.normalize(drawn(1, 16), dim=-1), drawn(1, 16, seed=1)
    project = memory.value_projection.detach()
    floor = (values - values @ project.mT @ project).square().sum().item()
    for _ in range(400):
        memory.update(keys, values)
        assert (memory.query(keys) - values).square().sum().item() >= floor - 1e-10
    assert (memory.query(keys) - values).square().sum().item() == pytest.approx(floor, abs=1e-8)
    many = drawn(20_000, 16, seed=2)
    left = (many - many @ project.mT @ project).square().sum(-1).mean().item() / 16
    assert left == pytest.approx(1 - memory_dim / 16, abs=0.01)


def test_no_projection_beats_principal_components():
    """Over a set of values, the answers' summed error is at least what their best linear code leaves."""
    torch.manual_seed(0)
    memory = ProjectingEpisodicMemory.learning(10, 10, memory_dim=4).double()
    keys, values = drawn(20, 10), drawn(20, 10, seed=1) * torch.linspace(0.1, 3, 10, dtype=torch.float64)
    for _ in range(40):
        memory.update(keys, values)
    left = torch.linalg.svdvals(values)[4:].square().sum()
    assert (memory.query(keys) - values).square().sum() >= left


def test_updates_never_move_the_projections():
    """The source's inner optimiser moves them, and its projected values collapse; here they stay, bit for bit."""
    for projection in ("orthonormal", "learned"):
        memory = ProjectingEpisodicMemory(6, 5, 4, projection=projection, lr=1.0)
        before = [memory.key_projection.clone(), memory.value_projection.clone(), memory.decoder.clone()]
        for n in range(20):
            memory.update(drawn(4, 6, seed=n).float(), drawn(4, 5, seed=n).float())
        after = [memory.key_projection, memory.value_projection, memory.decoder]
        assert all(torch.equal(a, b) for a, b in zip(before, after))
        assert all(p.grad is None for p in memory.parameters())


def test_an_outer_loss_trains_learned_projections():
    """Values on a line in 6 dimensions, one memory dimension: training finds the line, frozen projections cannot."""
    line, keys = torch.nn.functional.normalize(drawn(1, 6, seed=3), dim=-1), drawn(8, 6)
    values = drawn(8, 1, seed=1) * line
    torch.manual_seed(0)
    memory = ProjectingEpisodicMemory(6, 6, 1, projection="learned", lr=0.5).double()
    assert {name for name, _ in memory.named_parameters()} == {"key_projection", "value_projection", "own_decoder"}
    outer = torch.optim.Adam(memory.parameters(), lr=0.05)
    for _ in range(300):
        outer.zero_grad()
        memory.auxiliary_loss(keys, values).backward()
        assert all(p.grad is not None and p.grad.ne(0).any() for p in memory.parameters())
        outer.step()
    coded = values @ memory.value_projection.mT @ memory.decoder.mT
    assert (coded - values).square().mean() < 1e-3 * values.square().mean()


def test_frozen_projections_take_no_gradient_and_have_orthonormal_rows():
    memory = ProjectingEpisodicMemory(9, 7, 5).double()
    for projection in (memory.key_projection, memory.value_projection):
        torch.testing.assert_close(projection @ projection.mT, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert not list(memory.parameters())
    assert not memory.query(drawn(2, 9)).requires_grad


def test_defaults_are_the_sources():
    memory = EpisodicMemory(4, 4)
    shown = (memory.slots, memory.lr, memory.update_steps, memory.optimiser, memory.scale, memory.reduction)
    assert shown == (100, 0.01, 1, "sgd", 1.0, "mean")
    assert memory.spec.presentations == 20
    assert MatrixAssociativeMemory(4, 4).key_norm == "none"
