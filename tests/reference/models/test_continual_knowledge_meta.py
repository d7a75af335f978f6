"""ContinualLearningModel, KnowledgeGraphModel and MetaNetwork against plain loops, wired by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memspec.laws.sequences import shaken
from memspec.reference.models import ContinualLearningModel, KnowledgeGraphModel, MetaNetwork

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken_double(model: nn.Module) -> nn.Module:
    return shaken(model.double())


# ---- ContinualLearningModel -----------------------------------------------------------------------------------


def test_banks_are_written_and_read_by_their_shares() -> None:
    """Hebb's rule in numpy, bank by bank: of each outer product the share is added."""
    model = ContinualLearningModel(3, 5, 4, 8, 6, 2, memory="MatrixAssociativeMemory")
    shaken_double(model)
    xs = drawn(7, 1, 3)
    ys = model(xs)[0][:, 0].detach().numpy()
    first, _, second = model.encoder

    def linear(layer: nn.Module, row: np.ndarray) -> np.ndarray:
        bias = 0 if layer.bias is None else layer.bias.detach().numpy()
        return layer.weight.detach().numpy() @ row + bias

    banks = np.zeros((2, 6, 6))
    for x, y in zip(xs[:, 0].numpy(), ys):
        e = linear(second, np.maximum(linear(first, x), 0))
        p = np.exp(linear(model.task_classifier, e))
        p /= p.sum()
        q, k, v = np.split(linear(model.rows, e), 3)
        banks += p[:, None, None] * np.outer(k, v)
        read = sum(share * q @ bank for share, bank in zip(p, banks))
        np.testing.assert_allclose(y, linear(model.output, np.concatenate((e, read))), rtol=1e-9)


def test_a_bank_that_is_not_chosen_stays_as_it_was_bit_for_bit() -> None:
    model = ContinualLearningModel(3, 5, 4, 8, 6, 3)
    with torch.no_grad():
        model.task_classifier.weight.zero_()
        model.task_classifier.bias.copy_(torch.tensor([-1e4, 0.0, -1e4]))
    before = model.initial_state(2)
    after = model.run(drawn(5, 2, 3).float(), before)[1]
    for was, now in zip(before, after):
        assert torch.equal(was[:, ::2], now[:, ::2])
    assert not torch.equal(before.matrix[:, 1], after.matrix[:, 1])


# ---- KnowledgeGraphModel --------------------------------------------------------------------------------------


def test_at_first_it_is_transe() -> None:
    """Minus the squared distance of h + r from every entity, whatever has been told."""
    model = KnowledgeGraphModel(2 * 9 + 3, 9, 3, 8, 6).double()
    heads, relations, tails = (torch.tensor(row) for row in ([0, 4, 8], [2, 0, 1], [3, 3, 1]))
    state = model.initial_state(3)
    for tail in (tails, None):
        scores, state = model.step(model.told(heads, relations, tail), state)
        want = -torch.cdist(model.entities[heads] + model.relations[relations], model.entities).square()
        torch.testing.assert_close(scores, want, **EXACT)


def test_a_fact_that_was_told_is_remembered() -> None:
    """The memory alone: embeddings of heads and relations lie apart from those of the tails, and W is the identity."""
    model = KnowledgeGraphModel(2 * 4 + 2, 4, 2, 8, 10, gates=False).double()
    with torch.no_grad():
        model.entities.copy_(0.01 * torch.eye(10)[:4])
        model.relations.copy_(torch.eye(10)[4:6] * 0.02)
        model.remembered.weight.copy_(100 * torch.eye(10))
    facts = [(0, 0, 1), (1, 0, 2), (0, 1, 3), (2, 1, 0)]
    for n, (head, relation, tail) in enumerate(facts):
        alone = model.told(*(torch.tensor([part]) for part in (head, relation, tail)))
        others = [model.told(*(torch.tensor([part]) for part in fact)) for m, fact in enumerate(facts) if m != n]
        _, state = model.run(torch.stack([*others, alone]), model.initial_state(1))
        scores, _ = model.step(alone, state)
        assert int(scores.argmax()) == tail


def test_facts_by_number_need_the_width_of_their_indicators() -> None:
    model = KnowledgeGraphModel(5, 4, 2)
    with pytest.raises(ValueError, match="facts by number need 10"):
        model.told(torch.tensor([0]), torch.tensor([0]))


# ---- MetaNetwork ----------------------------------------------------------------------------------------------


def test_one_shown_item_is_one_step_of_gradient_descent() -> None:
    """Munkhdalai and Yu with Z = -eta I and one item in the memory: W after one step of SGD at that item, by autograd."""
    model = MetaNetwork(3, 5, 4, 8, 6, rate=0.25).double()
    shown, asked = drawn(1, 3), drawn(1, 3, seed=1)
    _, state = model.step(shown, model.initial_state(1))
    came, _ = model.step(asked, state)
    e = torch.tanh(model.embed(shown)).detach()
    weight = model.slow.weight.detach().clone().requires_grad_()
    loss = (e @ weight.T - model.target(shown).detach()).square().sum() / 2
    stepped = weight - 0.25 * torch.autograd.grad(loss, weight)[0]
    torch.testing.assert_close(came, torch.tanh(model.embed(asked)) @ stepped.T, **EXACT)


def test_the_nearest_of_several_items_gives_its_own_step() -> None:
    """With a memory that looks up the nearest key, and queries made as keys are, each input is answered by its own."""
    model = MetaNetwork(3, 5, 4, 8, 6, memory="FIFOMemory", rate=0.5).double()
    with torch.no_grad():
        model.queries.weight.copy_(model.keys.weight)
    items = drawn(4, 1, 3)
    _, state = model.run(items, model.initial_state(1))
    for item in items:
        alone = model.step(item, model.step(item, model.initial_state(1))[1])[0]
        torch.testing.assert_close(model.step(item, state)[0], alone, **EXACT)


def test_a_step_is_answered_by_what_came_before_it() -> None:
    model = MetaNetwork(3, 5, 4).double()
    x = drawn(2, 3)
    torch.testing.assert_close(
        model.step(x, model.initial_state(2))[0], model.slow(torch.tanh(model.embed(x))), **EXACT
    )
