"""The rules of slot memories against the same rules in plain loops, in batches, and by their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from drawing import EXACT, drawn
from memspec.reference.ops import ring
from memspec.reference.ops.addressing import content_weights, located, top_k_weights
from memspec.reference.ops.links import linked, read_modes
from memspec.reference.ops.rows import gather_rows, one_hot_rows, place, rows_at, spread
from memspec.reference.ops.search import nearest_cosine
from memspec.reference.ops.softmax import masked_softmax, softmax_weights
from memspec.reference.ops.usage import (
    allocated_weights,
    allocation,
    faded_usage,
    least_used,
    retention,
    reuse_weights,
    used_after_write,
)
from memspec.reference.ops.writes import erase_add, gated_write

S, H, R, W = 5, 2, 3, 4


def shares(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in (0, 1)."""
    return drawn(*shape, seed=seed).sigmoid()


def weightings(*shape: int, seed: int = 0) -> Tensor:
    """Weightings over the last dimension."""
    return drawn(*shape, seed=seed).softmax(-1)


RULES: dict[str, tuple[Callable[..., Tensor | tuple[Tensor, ...]], tuple[Tensor, ...]]] = {
    "softmax_weights": (softmax_weights, (drawn(3, W), drawn(S, W, seed=1), shares(3, seed=2))),
    "content_weights": (content_weights, (drawn(H, W), drawn(S, W, seed=1), shares(H, seed=2))),
    "located": (
        located,
        (weightings(H, S), weightings(H, S, seed=1), shares(H), weightings(H, 3, seed=2), 1 + shares(H, seed=3)),
    ),
    "top_k_weights": (
        lambda *arguments: top_k_weights(*arguments, k=2)[1],
        (drawn(H, W), drawn(S, W, seed=1), shares(H, seed=2)),
    ),
    "used_after_write": (used_after_write, (shares(S), weightings(H, S))),
    "retention": (retention, (shares(R), weightings(R, S))),
    "allocation": (allocation, (shares(S),)),
    "allocated_weights": (
        allocated_weights,
        (shares(S), weightings(H, S), shares(H, seed=1), shares(H, seed=2)),
    ),
    "faded_usage": (faded_usage, (shares(S), shares(1, seed=1), weightings(H, S))),
    "reuse_weights": (reuse_weights, (weightings(H, S), weightings(H, S, seed=1), shares(H))),
    "linked": (linked, (shares(H, S, S), weightings(H, S), weightings(H, S, seed=1))),
    "read_modes": (
        read_modes,
        (shares(H, S, S), weightings(R, S), weightings(R, S, seed=1), weightings(R, 2 * H + 1)),
    ),
    "erase_add": (erase_add, (drawn(S, W), weightings(H, S), shares(H, W), drawn(H, W, seed=1))),
    "gated_write": (gated_write, (drawn(S, W), weightings(S), shares(S, W), shares(S, W, seed=1), drawn(S, W, seed=2))),
    "append": (
        lambda k, v, g: ring.append(ring.empty_ring((), S, W, W, {"dtype": k.dtype, "device": k.device}), k, v, g)[:2],
        (drawn(7, W), drawn(7, W, seed=1), shares(7)),
    ),
}
"""Each rule, and arguments for one memory."""


@pytest.mark.parametrize("name", RULES)
def test_gradients_flow_to_every_argument(name: str) -> None:
    rule, arguments = RULES[name]
    asked = tuple(part.clone().requires_grad_() for part in arguments)
    assert torch.autograd.gradcheck(rule, asked)


@pytest.mark.parametrize("name", [name for name in RULES if name != "append"])
def test_a_batch_is_its_memories_alone(name: str) -> None:
    """Leading dimensions are memories of their own: what one is given has no effect on another."""
    rule, arguments = RULES[name]
    together = rule(*(torch.stack((part, part.flip(0))) for part in arguments))
    alone = rule(*arguments), rule(*(part.flip(0) for part in arguments))
    parts = zip(together, *alone) if isinstance(together, tuple) else [(together, *alone)]
    for both, one, other in parts:
        torch.testing.assert_close(both, torch.stack((one, other)), **EXACT)


def test_softmax_takes_a_temperature_for_each_query() -> None:
    queries, keys, scale = drawn(3, W), drawn(S, W, seed=1), torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64)
    expected = [[math.exp(b * float(q @ k)) for k in keys] for q, b in zip(queries, scale.tolist())]
    expected = [[one / sum(row) for one in row] for row in expected]
    torch.testing.assert_close(
        softmax_weights(queries, keys, scale), torch.tensor(expected, dtype=torch.float64), **EXACT
    )


def test_softmax_over_some_and_over_none() -> None:
    used = torch.tensor([[True, False, True], [False, False, False]])
    weights = masked_softmax(torch.tensor([[0.0, 9.0, math.log(3)], [1.0, 2.0, 3.0]]), used)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.0, 0.75], [0.0, 0.0, 0.0]]))


def test_rows_by_index() -> None:
    store, index = drawn(2, S, W), torch.tensor([[4, 0, 4], [1, 1, 2]])
    expected = torch.stack([store[b][index[b]] for b in range(2)])
    assert torch.equal(rows_at(store, index), expected)
    assert torch.equal(gather_rows(store, index[..., None])[..., 0, :], expected)
    used = torch.tensor([[True] * S, [True, False, True, True, True]])
    assert one_hot_rows(index, used, torch.float64)[1].tolist() == [[0] * S, [0] * S, [0, 0, 1, 0, 0]]
    assert spread(torch.tensor([[1, 3, 1]]), torch.tensor([[0.5, 0.25, 0.25]]), 4).tolist() == [[0, 0.75, 0, 0.25]]
    new = drawn(3, W, seed=1)
    placed = place(store[0], new, torch.tensor([2, 0, 2]))
    assert torch.equal(placed[[0, 2]], new[[1, 2]])
    assert torch.equal(placed[[1, 3, 4]], store[0][[1, 3, 4]])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("pieces", [[11], [4, 7], [1] * 11])
def test_a_ring_is_a_ring(pieces: list[int], gated: bool) -> None:
    """Row t goes to slot t mod S, by its gate; a call of N rows is N calls."""
    keys, values, gates = drawn(11, W), drawn(11, 2, seed=1), shares(11) if gated else torch.ones(11).double()
    state = ring.empty_ring((), S, W, 2, {"dtype": torch.float64, "device": keys.device})
    expected = torch.zeros(S, W + 2, dtype=torch.float64)
    for t in range(11):
        row = torch.cat((keys[t], values[t]))
        expected[t % S] = (1 - gates[t]) * expected[t % S] + gates[t] * row
    parts = zip(keys.split(pieces), values.split(pieces), gates.split(pieces))
    for k, v, g in parts:
        state = ring.append(state, k, v, g if gated else None)
    torch.testing.assert_close(torch.cat(state[:2], -1), expected, **EXACT)
    assert ring.times_written(state).tolist() == [3, 2, 2, 2, 2]
    assert ring.slot_ages(state.written, S).tolist() == [0, 4, 3, 2, 1]


def test_usage_by_hand() -> None:
    """Slot 1 is freed by a head that reads it, and the write goes there first, then to what is left."""
    usage = torch.tensor([1.0, 1.0, 0.0, 0.5])
    kept = retention(torch.tensor([1.0, 0.5]), torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0.0]]))
    assert kept.tolist() == [0.5, 0, 1, 1]
    left = used_after_write(usage, torch.tensor([[0, 0, 0.5, 0]])) * kept
    assert left.tolist() == [0.5, 0, 0.5, 0.5]
    assert allocation(left).tolist() == [0, 1, 0, 0]
    content = torch.tensor([[0, 0, 0, 1.0], [0, 0, 0, 1.0]])
    both = allocated_weights(left, content, torch.tensor([1.0, 0.5]), torch.tensor([1.0, 1.0]))
    assert both.tolist() == [[0, 1, 0, 0], [0.25, 0, 0.125, 0.0625]]
    assert least_used(left, 2).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert reuse_weights(both, least_used(left, 2), torch.tensor([1.0, 0.0])).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_faded_usage_is_a_decaying_count() -> None:
    usage, accesses = torch.zeros(S, dtype=torch.float64), weightings(6, H, S)
    for step in accesses:
        usage = faded_usage(usage, 0.9, step)
    counted = sum(0.9 ** (5 - t) * accesses[t].sum(0) for t in range(6))
    torch.testing.assert_close(usage, counted, **EXACT)


def test_links_by_loops() -> None:
    """The equations of the DNC, entry by entry; hard writes make a chain that is read forwards and backwards."""
    links, precedence = np.zeros((S, S)), np.zeros(S)
    state = torch.zeros(1, S, S, dtype=torch.float64), torch.zeros(1, S, dtype=torch.float64)
    for weights in weightings(4, S):
        w = weights.numpy() * 0.9
        for i in range(S):
            for j in range(S):
                links[i, j] = 0 if i == j else (1 - w[i] - w[j]) * links[i, j] + w[i] * precedence[j]
        precedence = (1 - w.sum()) * precedence + w
        state = linked(*state, torch.from_numpy(w)[None])
    torch.testing.assert_close(state[0][0], torch.from_numpy(links), **EXACT)
    torch.testing.assert_close(state[1][0], torch.from_numpy(precedence), **EXACT)
    chain = torch.zeros(1, S, S), torch.zeros(1, S)
    slots = torch.eye(S)
    for slot in (3, 0, 4):
        chain = linked(*chain, slots[None, slot])
    modes = torch.eye(3)[:, None]  # backward, content, forward
    content = slots[None, 1]
    assert [read_modes(chain[0], slots[None, 0], content, m).argmax().item() for m in modes] == [3, 1, 4]


@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "batch"])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e30], ids=["tiny", "plain", "huge"])
def test_nearest_cosine_is_the_highest_of_the_slots_in_use(batch: tuple[int, ...], scale: float) -> None:
    keys, used = drawn(*batch, 30, W).float(), shares(*batch, 30, seed=1) > 0.4
    keys[..., 3, :] = 0
    queries = torch.cat((drawn(*batch, 9, W, seed=2).float(), -keys[..., :2, :]), -2)
    exact = torch.cosine_similarity(queries[..., :, None, :].double(), keys[..., None, :, :].double(), -1)
    expected = torch.where(used[..., None, :], exact, -math.inf).amax(-1)
    torch.testing.assert_close(nearest_cosine(queries, scale * keys, used).double(), expected, rtol=0, atol=1e-6)


def test_nearest_cosine_of_a_stored_row_is_1_and_of_nothing_0() -> None:
    keys = drawn(50, 64).float()
    every = torch.ones(50, dtype=torch.bool)
    stored = nearest_cosine(3 * keys[:-1], keys, every)  # three is no power of two: the rows are scaled anew
    assert (stored >= 1 - 2e-7).all()
    assert (nearest_cosine(keys, keys, every) == 1).all()
    assert (nearest_cosine(torch.zeros(2, 64), keys, every) == 0).all()
    assert (nearest_cosine(keys, keys, ~every) == 0).all()
    assert (nearest_cosine(keys, keys[:0], every[:0]) == 0).all()
