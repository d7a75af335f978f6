"""Nearest neighbours against loops in numpy, a dictionary, softmax and MbPA memories; the faiss index against none."""

from __future__ import annotations

import copy
import importlib
import pickle

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import ExactMemory, NearestNeighbourMemory, SoftmaxMemory
from memspec.reference.ops import search

INDICES = ["exact", "faiss"]
each_index = pytest.mark.parametrize("index", INDICES)


@pytest.fixture(autouse=True)
def _faiss(request):
    if "faiss" in request.node.name and "without" not in request.node.name:
        pytest.importorskip("faiss", reason="faiss is not installed (pip install 'memspec[faiss]')")


def plain_read(keys, values, query, k, read, metric, beta=10.0, eps=1e-3):
    """One query, one key at a time."""
    if metric == "cosine":
        keys, query = keys / np.linalg.norm(keys, axis=1, keepdims=True), query / np.linalg.norm(query)
    squared = np.array([((key - query) ** 2).sum() for key in keys])
    near = np.argsort(squared)[:k]
    weights = {
        "mean": np.ones(len(near)),
        "softmax": np.exp(-beta * squared[near]),
        "inverse": 1 / (eps + squared[near]),
    }
    w = weights[read] / weights[read].sum()
    return sum(a * values[i] for a, i in zip(w, near))


@each_index
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("read", ["mean", "softmax", "inverse"])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_read_is_the_plain_rule(index, metric, read, k):
    """Every kernel and metric, fewer pairs than neighbours too, in two unequal updates."""
    memory = NearestNeighbourMemory(
        5, 3, neighbours=k, read=read, metric=metric, beta=2.0, eps=0.1, index=index
    ).double()
    keys, values, asked = drawn(30, 5), drawn(30, 3, seed=1), drawn(12, 5, seed=2)
    memory.update(keys[:11], values[:11])
    memory.update(keys[11:], values[11:])
    expected = [plain_read(keys.numpy(), values.numpy(), q, k, read, metric, 2.0, 0.1) for q in asked.numpy()]
    torch.testing.assert_close(memory.query(asked), torch.from_numpy(np.stack(expected)), **EXACT)
    torch.testing.assert_close(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked), **EXACT)


@each_index
def test_one_neighbour_is_the_dictionary(index):
    """The same answers as ExactMemory, bit for bit: rewritten keys, unknown ones, several memories of a batch."""
    memory, exact = NearestNeighbourMemory(6, 3, index=index).double(), ExactMemory(6, 3).double()
    keys, asked = drawn(2, 50, 6)[:, torch.arange(90) % 50], drawn(2, 40, 6, seed=3)
    values = drawn(2, 90, 3, seed=1)
    for each in (memory, exact):
        each.reset((2,))
        for k, v in zip(keys.split([1, 60, 29], -2), values.split([1, 60, 29], -2)):
            each.update(k, v)
    assert torch.equal(memory.query(keys), exact.query(keys))
    assert torch.equal(memory.query(asked), exact.query(asked))
    torch.testing.assert_close(memory.confidence(asked), exact.confidence(asked), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1e-30, 1e-4, 1e-7, 0.0, 1e15])
def test_near_ties_are_told_apart(dtype, spread):
    """300 keys in 3 clusters so tight that products of rows cannot tell them apart; the truth in exact differences."""
    centres = drawn(3, 8) * (0 if spread in (1e-30, 1e15) else 1)
    keys = (centres[torch.arange(300) % 3] + spread * drawn(300, 8, seed=1)).to(dtype)
    asked = torch.cat((keys[::7], (keys[::11] + spread * drawn(28, 8, seed=2).to(dtype))))
    index, distance = search.nearest(asked, keys, 5)
    scale = max(spread, 1e-30) if spread in (1e-30, 1e15) else 1.0
    truth = np.linalg.norm((asked.double()[:, None] - keys.double()).numpy() / scale, axis=-1) * scale
    order = np.lexsort((-np.arange(300) * np.ones_like(truth), truth.astype(str(dtype)[6:])))[:, :5]
    assert torch.equal(index, torch.from_numpy(order.copy()))
    torch.testing.assert_close(
        distance.double(), torch.from_numpy(np.take_along_axis(truth, order, 1)), rtol=1e-6, atol=0
    )


def test_blocks_change_nothing(monkeypatch):
    """Blocks of 20 keys and 7 queries give the answers of one block, with unused rows and duplicates."""
    keys, asked = drawn(2, 200, 6)[:, torch.arange(230) % 200], drawn(2, 50, 6, seed=1)
    used = torch.rand(2, 230, generator=torch.Generator().manual_seed(0)) < 0.8
    whole = search.nearest(asked, keys, 4, used), search.nearest(keys, keys, 4)
    monkeypatch.setattr(search, "SCORES", 280)
    monkeypatch.setattr(search, "QUERIES", 7)
    for one, other in zip(whole, (search.nearest(asked, keys, 4, used), search.nearest(keys, keys, 4))):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_memory_stays_bounded(monkeypatch):
    """No more scores are held than a block has."""
    seen = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, *a: (seen.append(self.numel()), topk(self, *a))[1])
    monkeypatch.setattr(search, "SCORES", 10_000)
    search.nearest(drawn(100, 4), drawn(5000, 4, seed=1), 3)
    assert len(seen) > 50
    assert max(seen) <= 10_000


def test_unused_rows_are_never_found():
    keys = drawn(10, 4)
    used = torch.zeros(10, dtype=torch.bool)
    index, distance = search.nearest(keys, keys, 3, used)
    assert torch.isinf(distance).all()
    used[[2, 7]] = True
    index, distance = search.nearest(keys, keys, 3, used)
    assert torch.isin(index[:, :2], torch.tensor([2, 7])).all()
    assert torch.isinf(distance[:, 2]).all()
    assert torch.isfinite(distance[:, :2]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_rows_is_equality(dtype):
    """Against a loop: stored rows and earlier ones of the call; 0 equals -0; one-hot rows, whose bits look alike."""
    g = torch.Generator().manual_seed(0)
    pool = torch.cat((torch.eye(4), torch.zeros(1, 4), -torch.zeros(1, 4), torch.randn(4, 4, generator=g))).to(dtype)
    stored, rows = (pool[torch.randint(10, (2, n), generator=g)] for n in (7, 9))
    got = search.equal_rows(stored, rows)
    for b in range(2):
        for i in range(9):
            for j in range(16):
                other = stored[b, j] if j < 7 else rows[b, j - 7]
                assert got[b, i, j] == (bool((rows[b, i] == other).all()) and j < 7 + i)


def test_softmax_over_all_pairs_is_the_softmax_memory():
    """By cosine ``-beta d^2 = 2 beta cos - 2 beta``, so beta is half of attention's."""
    memory = NearestNeighbourMemory(6, 3, neighbours=20, read="softmax", metric="cosine", beta=2.0).double()
    other = SoftmaxMemory(6, 3, capacity=20, beta=4.0).double()
    keys, values, asked = drawn(20, 6), drawn(20, 3, seed=1), drawn(9, 6, seed=2)
    memory.update(keys, values)
    other.update(keys, values)
    torch.testing.assert_close(memory.query(asked), other.query(asked), **EXACT)


def test_inverse_distance_closed_form():
    """Squared distances 1 and 3 have weights 3 : 1."""
    memory = NearestNeighbourMemory(2, 1, neighbours=2, read="inverse", eps=1e-15).double()
    memory.update(torch.tensor([[1.0, 0], [0, 3**0.5]], dtype=torch.float64), torch.tensor([[1.0], [0]]).double())
    assert memory.query(torch.zeros(1, 2).double()).item() == pytest.approx(0.75, abs=1e-10)


@pytest.mark.parametrize("read", ["mean", "softmax", "inverse"])
def test_order_and_rotation_make_no_difference(read):
    memory = NearestNeighbourMemory(6, 3, neighbours=4, read=read).double()
    keys, values, asked = drawn(20, 6), drawn(20, 3, seed=1), drawn(9, 6, seed=2)
    turn, order = torch.linalg.qr(drawn(6, 6, seed=3)).Q, torch.randperm(20)
    memory.update(keys, values)
    plain = memory.query(asked)
    memory.reset()
    memory.update(keys[order] @ turn, values[order])
    torch.testing.assert_close(memory.query(asked @ turn), plain, **EXACT)


@pytest.mark.parametrize("read", ["softmax", "inverse"])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_gradients_of_the_kernels(read, metric):
    """gradcheck, and finite where the query is a stored key, a zero row or a rewritten one."""
    memory = NearestNeighbourMemory(4, 2, neighbours=3, read=read, metric=metric, beta=1.0, eps=0.1).double()

    def run(keys, values, asked):
        return memory.read(memory.write(memory.init_state(), keys, values), asked)

    inputs = [t.requires_grad_() for t in (drawn(6, 4), drawn(6, 2, seed=1), drawn(5, 4, seed=2))]
    assert torch.autograd.gradcheck(run, inputs)
    keys = torch.cat((drawn(2, 4), drawn(1, 4), drawn(2, 4)[:1], torch.zeros(1, 4).double())).requires_grad_()
    asked = keys.detach().clone().requires_grad_()
    run(keys, drawn(5, 2, seed=1), asked).square().sum().backward()
    assert torch.isfinite(keys.grad).all()
    assert torch.isfinite(asked.grad).all()


def test_squares_follow_casts():
    """Squared lengths kept beside the keys are those of the keys, also after the module was rounded and went on."""
    memory = NearestNeighbourMemory(5, 3)
    memory.update(drawn(20, 5).float(), drawn(20, 3).float())
    memory.bfloat16().double().float()
    memory.update(drawn(20, 5, seed=1).float(), drawn(20, 3, seed=1).float())
    torch.testing.assert_close(memory.state.squares, memory.state.keys.double().square().sum(-1))
    assert torch.equal(memory.query(memory.state.keys), memory.state.values)


def test_claims_follow_the_options():
    one, four = NearestNeighbourMemory(4, 2).spec, NearestNeighbourMemory(4, 2, neighbours=4, read="softmax").spec
    assert (one.exact, one.overwrite, one.family, one.differentiable) == (True, "replace", "cache", {"values"})
    assert (four.exact, four.overwrite, four.family) == (False, "blend", "generic")
    assert four.differentiable == {"query", "keys", "values"}
    assert not NearestNeighbourMemory(4, 2, metric="cosine").spec.exact
    assert NearestNeighbourMemory(4, 2, neighbours=4).spec.differentiable == {"values"}


def test_the_faiss_index_follows_the_state():
    """Growing, rolling back, a batch, reset, a changed tensor: always the neighbours of the state at hand."""
    memory, plain = (
        NearestNeighbourMemory(5, 3, neighbours=2, index="faiss"),
        NearestNeighbourMemory(5, 3, neighbours=2),
    )
    keys, values, asked = drawn(80, 5).float(), drawn(80, 3, seed=1).float(), drawn(20, 5, seed=2).float()

    def same():
        return torch.equal(memory.query(asked), plain.query(asked))

    assert same()
    states = []
    for part in (slice(0, 20), slice(20, 21), slice(21, 40)):
        memory.update(keys[part], values[part])
        plain.update(keys[part], values[part])
        states.append(plain.state)
        assert same()
    for state in (states[0], states[2], states[1]):
        memory.state = plain.state = state
        assert same()
        memory.update(keys[40:], values[40:])
        plain.update(keys[40:], values[40:])
        assert same()
    plain.state.keys.mul_(0.5).add_(1.0)
    plain.state.squares.copy_(plain.state.keys.double().square().sum(-1))
    memory.state = plain.state
    assert same()
    plain.state.keys.neg_()
    assert same()
    memory.reset((2,))
    plain.reset((2,))
    assert torch.equal(memory.query(asked.expand(2, -1, -1)), plain.query(asked.expand(2, -1, -1)))
    memory.update(keys.view(2, 40, 5), values.view(2, 40, 3))
    plain.update(keys.view(2, 40, 5), values.view(2, 40, 3))
    assert torch.equal(memory.query(asked.expand(2, -1, -1)), plain.query(asked.expand(2, -1, -1)))


def test_a_memory_with_a_faiss_index_can_be_copied_and_pickled():
    memory = NearestNeighbourMemory(5, 3, index="faiss")
    keys, values = drawn(30, 5).float(), drawn(30, 3, seed=1).float()
    memory.update(keys, values)
    before = memory.query(keys)
    for other in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert torch.equal(other.query(keys), before)
        other.update(keys, values.flip(0))
        assert torch.equal(other.query(keys), values.flip(0))
    assert torch.equal(memory.query(keys), before)
    with torch.inference_mode():
        memory.update(keys, values.flip(0))
        assert torch.equal(memory.query(keys), values.flip(0))


def test_without_faiss_the_message_says_what_to_install(monkeypatch):
    def missing(name, *args):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'memspec\[faiss\]'"):
        NearestNeighbourMemory(4, 4, index="faiss")
