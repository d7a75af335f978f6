"""Rules of slots, locations and inner steps with a number for each row, against plain loops."""

from __future__ import annotations

import pytest
import torch

from drawing import drawn
from memspec.reference.ops import implicit
from memspec.reference.ops.inner import adapted_answers
from memspec.reference.ops.locations import activated

EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.mark.parametrize("norm", ["layer", "l2"])
def test_slots_take_in_each_pair_by_its_own_share(norm: implicit.Norm) -> None:
    """As one pair after the other; and a share of 0 leaves contents and masses as they are."""
    slots, keys, values = implicit.normed(drawn(2, 3, 5, seed=1), norm), drawn(2, 4, 5, seed=2), drawn(2, 4, 6, seed=3)
    contents, mass = torch.zeros(2, 3, 6, dtype=slots.dtype), torch.zeros(2, 3, dtype=slots.dtype)
    shares = torch.tensor([[0.1, 0.0, 0.9, 0.4], [1.0, 0.3, 0.0, 0.2]], dtype=slots.dtype)
    got = implicit.take_in(slots, contents, mass, keys, values, shares, 0.8, norm)
    for b in range(2):
        state = slots[b], contents[b], mass[b]
        for n in range(4):
            row, before = (keys[b, n : n + 1], values[b, n : n + 1]), state[2]
            state = implicit.take_in(*state, *row, float(shares[b, n]), 0.8, norm)
            if shares[b, n] == 0:
                assert torch.equal(state[2], before)
        for ours, theirs in zip(got, state):
            torch.testing.assert_close(ours[b], theirs, **EXACT)


def test_locations_within_the_radius_of_each_row() -> None:
    rows, addresses = drawn(2, 4, 9, seed=1).sign(), drawn(7, 9, seed=2).sign()
    radius = torch.tensor([[0], [3], [4], [9]])
    near = activated(rows, addresses, radius)
    apart = (rows[:, :, None] != addresses).sum(-1)
    assert torch.equal(near, (apart <= radius).to(rows.dtype))
    assert 0 < near.sum() < near.numel()


def test_answers_of_models_adapted_to_each_query() -> None:
    """Against a copy of theta for each query, trained by autograd, with a step and a pull of its own."""
    theta, queries = drawn(5, 3, seed=1), drawn(4, 5, seed=2)
    near, values, weights = drawn(4, 2, 5, seed=3), drawn(4, 2, 3, seed=4), drawn(4, 2, seed=5).softmax(-1)
    step, pull = drawn(4, 1, 1, seed=6).sigmoid() / 9, drawn(4, 1, 1, seed=7).sigmoid()
    got = adapted_answers(queries, theta, near, values, weights, step, 6, pull)
    for q in range(4):
        own = theta.clone()
        for _ in range(6):
            own.requires_grad_()
            losses = (near[q] @ own - values[q]).square().sum(-1) / 2
            loss = (weights[q] * losses).sum() + pull[q].squeeze() * (own - theta).square().sum() / 2
            own = (own - step[q].squeeze() * torch.autograd.grad(loss, own)[0]).detach()
        torch.testing.assert_close(got[q], queries[q] @ own, **EXACT)
