"""MemN2N and the key-value network against the papers' equations in numpy, closed forms, and chains of pairs."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import KeyValueMemoryNetwork, MemoryNetwork, SoftmaxMemory
from memspec.reference.memories.memory_network import position_encoding, sentence_vectors
from memspec.reference.ops.ring import slot_ages

BOTH = pytest.mark.parametrize("kind", [MemoryNetwork, KeyValueMemoryNetwork])


def trained(kind, *args, **options):
    """A network in float64 whose every slow weight is away from where it starts."""
    network = kind(*args, **options).double()
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            parameter.add_(0.3 * drawn(*parameter.shape, seed=50 + i))
    return network


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max())
    return e / e.sum()


# ---- encodings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "width"), [(1, 1), (1, 7), (5, 3), (6, 20)])
def test_position_encoding_is_the_published_one(words: int, width: int) -> None:
    got = position_encoding(words, width)
    assert got.shape == (words, width)
    for j in range(1, words + 1):
        for k in range(1, width + 1):
            assert got[j - 1, k - 1].item() == pytest.approx(
                (1 - j / words) - k / width * (1 - 2 * j / words), abs=1e-6
            )


def test_position_encoding_sums_to_its_closed_form() -> None:
    """Over the words: sum_j (1 - j/J) = (J - 1)/2 and sum_j (1 - 2j/J) = -1, so (J - 1)/2 + k/d."""
    expected = (9 - 1) / 2 + torch.arange(1, 5) / 4
    torch.testing.assert_close(position_encoding(9, 4).sum(0), expected)


def test_positions_show_the_order_of_words() -> None:
    words = drawn(2, 5, 6)
    plain, placed = sentence_vectors(words, encode_positions=False), sentence_vectors(words)
    torch.testing.assert_close(sentence_vectors(words.flip(-2), encode_positions=False), plain, **EXACT)
    assert (sentence_vectors(words.flip(-2)) - placed).abs().max() > 0.1
    loop = sum(words[:, j] * position_encoding(5, 6)[j].double() for j in range(5))
    torch.testing.assert_close(placed, loop, **EXACT)


@pytest.mark.parametrize("slots", [1, 3, 4])
def test_ages_count_from_the_newest(slots: int) -> None:
    """Beside a deque of the written rows."""
    newest_first: deque[int] = deque(maxlen=slots)
    for row in range(3 * slots + 2):
        ages = slot_ages(torch.tensor(row), slots)
        for age, written in enumerate(newest_first):
            assert ages[written % slots] == age
        assert sorted(ages.tolist()) == list(range(slots))
        newest_first.appendleft(row)


# ---- the papers' equations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hop", ["keep", "replace"])
@pytest.mark.parametrize("hops", [1, 3])
def test_memory_network_is_the_published_one(hop: str, hops: int) -> None:
    """Every weight trained, a ring gone round: sentence by sentence in numpy, the newest first in time."""
    dk, dv = 4, 3
    network = trained(MemoryNetwork, dk, dv, 5, hops=hops, hop=hop, beta=1.5, key_norm="none")
    keys, values, queries = drawn(8, dk), drawn(8, dv, seed=1), drawn(3, dk, seed=2)
    network.update(keys[:6], values[:6])
    network.update(keys[6:], values[6:])
    w = {name: p.detach().numpy() for name, p in network.named_parameters()}
    m, c = [], []
    for age in range(5):
        x = np.concatenate([keys[7 - age].numpy(), values[7 - age].numpy()])
        m.append(x @ w["address_map"] + w["address_times"][age])
        c.append(x @ w["content_map"] + w["content_times"][age])
    expected = []
    for q in queries.numpy():
        u = q @ w["question_map"]
        for _ in range(hops):
            p = softmax(np.array([1.5 * u @ row for row in m]))
            u = u @ w["hop_map"] + sum(share * row for share, row in zip(p, c))
        expected.append(u @ w["answer_map"])
    torch.testing.assert_close(network.query(queries), torch.from_numpy(np.stack(expected)), **EXACT)


@pytest.mark.parametrize("hop", ["keep", "replace"])
@pytest.mark.parametrize("hops", [1, 3])
def test_key_value_network_is_the_published_one(hop: str, hops: int) -> None:
    """One embedding of the features of keys and values, one map a hop; in numpy."""
    dk, dv = 4, 3
    network = trained(KeyValueMemoryNetwork, dk, dv, 5, hops=hops, hop=hop, beta=1.5, key_norm="none")
    keys, values, queries = drawn(8, dk), drawn(8, dv, seed=1), drawn(3, dk, seed=2)
    network.update(keys, values)
    w = {name: p.detach().numpy() for name, p in network.named_parameters()}
    pairs = [
        (np.r_[k, np.zeros(dv)] @ w["embedding"], np.r_[np.zeros(dk), v] @ w["embedding"])
        for k, v in zip(keys[-5:].numpy(), values[-5:].numpy())
    ]
    expected = []
    for q in queries.numpy():
        u = np.r_[q, np.zeros(dv)] @ w["embedding"]
        for j in range(hops):
            p = softmax(np.array([1.5 * u @ k for k, _ in pairs]))
            u = (u + sum(share * v for share, (_, v) in zip(p, pairs))) @ w["hop_maps"][j]
        expected.append(u @ w["answer_map"])
    torch.testing.assert_close(network.query(queries), torch.from_numpy(np.stack(expected)), **EXACT)


# ---- untrained ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("hops", [1, 2, 5])
def test_orthonormal_keys_have_the_closed_form(kind, hops: int) -> None:
    """Untrained and asking again at every hop: (p - c) v_j + c sum v with p, c of e^beta, at any number of hops."""
    network = kind(8, 3, 10, hops=hops, beta=4.0).double()
    keys, values = torch.linalg.qr(drawn(8, 8)).Q[:6], drawn(6, 3, seed=1)
    network.update(keys * torch.arange(1, 7)[:, None], values)
    share = 1 / (math.exp(4) + 5)
    expected = (math.exp(4) - 1) * share * values + share * values.sum(0)
    torch.testing.assert_close(network.query(3 * keys), expected, **EXACT)


@BOTH
def test_one_hop_untrained_is_softmax_memory(kind) -> None:
    keys, values, queries = drawn(20, 9), drawn(20, 4, seed=1), drawn(5, 9, seed=2)
    answers = []
    for memory in (kind(9, 4, 16, beta=3.0).double(), SoftmaxMemory(9, 4, 16, beta=3.0).double()):
        memory.update(keys, values)
        answers.append(memory.query(queries))
    torch.testing.assert_close(*answers, **EXACT)


@BOTH
@pytest.mark.parametrize("hops", [1, 2, 3, 7])
def test_hops_follow_a_chain(kind, hops: int) -> None:
    """Pairs A -> B -> C -> ... round a ring of orthonormal vectors: h hops lead h pairs on."""
    places = torch.linalg.qr(drawn(5, 5)).Q
    network = kind(5, 5, hops=hops, hop="replace", beta=60.0).double()
    network.update(places, places.roll(-1, 0))
    torch.testing.assert_close(network.query(places), places.roll(-hops, 0), **EXACT)
    walked = network.hop_weights(places).argmax(-1)
    expected = [[(start + h) % 5 for h in range(hops)] for start in range(5)]
    assert walked.mT.tolist() == expected


@BOTH
@pytest.mark.parametrize("hop", ["keep", "replace"])
def test_an_empty_story_has_no_answer(kind, hop: str) -> None:
    """Zeros, whatever the weights have been trained to; and no weight on any slot."""
    network = trained(kind, 4, 4, 6, hops=2, hop=hop)
    assert network.query(drawn(3, 4)).eq(0).all()
    assert network.hop_weights(drawn(3, 4)).eq(0).all()
    assert network.confidence(drawn(3, 4)).eq(0).all()
    network.update(drawn(2, 4), drawn(2, 4, seed=1))
    assert network.hop_weights(drawn(3, 4))[..., 2:].eq(0).all()


def test_time_moves_with_the_stories() -> None:
    """A temporal encoding that speaks for the newest sentence answers with it, and with the next once that comes."""
    network = MemoryNetwork(3, 2, capacity=4).double()
    keys, values = torch.eye(3, dtype=torch.float64)[:1].expand(6, -1), drawn(6, 2)
    with torch.no_grad():
        network.address_times[0] = 100 * network.question_map[0]
    for row in range(6):
        network.update(keys[row : row + 1], values[row : row + 1])
        torch.testing.assert_close(network.query(keys[:1]), values[row : row + 1], **EXACT)


@BOTH
def test_statistics(kind) -> None:
    """Usage counts the writes of a slot; confidence is the cosine of the nearest key, at least 0."""
    network = kind(3, 2, capacity=4).double()
    network.update(torch.eye(3, dtype=torch.float64)[:2] * 4, torch.ones(2, 2, dtype=torch.float64))
    assert network.slot_usage().tolist() == [1, 1, 0, 0]
    asked = torch.tensor([[3.0, 4, 0], [0, 0, 1], [-1, -1, 0], [2, 0, 0]], dtype=torch.float64)
    expected = torch.tensor([0.8, 0, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(network.confidence(asked), expected, **EXACT)


@BOTH
def test_claims_follow_the_options(kind) -> None:
    assert kind(4, 4, hops=3).spec.family == "softmax"
    chained = kind(4, 4, hops=2, hop="replace").spec
    assert (chained.family, chained.overwrite, chained.fidelity) == ("generic", "none", "trained")
