"""TrainableMemory against its rule in plain Python, CachedMemory's loss, and an outer optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drawing import EXACT, drawn
from memspec.reference import CachedMemory, SoftmaxMemory, TrainableMemory


def labels(*classes: int, of: int = 3) -> torch.Tensor:
    return torch.eye(of, dtype=torch.float64)[list(classes)]


def slots(memory, index=()):
    state = memory.state
    return (memory.keys + state.keys).detach()[index], (memory.values + state.values).detach()[index]


class Plain:
    """The rule, one row and one slot at a time."""

    def __init__(self, keys, values, rate, threshold):
        self.keys, self.values = keys.copy(), values.copy()
        self.rate, self.threshold, self.used = rate, threshold, 0

    def write(self, key, value):
        if self.used < len(self.keys):
            i, keep = self.used, 1 - self.rate
            self.used += 1
        else:
            cosines = [k @ key / np.linalg.norm(k) / np.linalg.norm(key) for k in self.keys]
            if max(cosines) >= self.threshold:
                return
            i, keep = min(range(len(self.keys)), key=lambda j: self.values[j].max()), 0.0
        self.keys[i] = keep * self.keys[i] + self.rate * key
        self.values[i] = keep * self.values[i] + self.rate * value


@pytest.mark.parametrize("rate", [0.25, 1.0])
@pytest.mark.parametrize("threshold", [0.8, 0.3])
def test_the_slots_are_the_plain_rule(rate, threshold):
    """50 random rows into 8 slots, in one update, in unequal ones, row by row; two memories of a batch."""
    keys, values = drawn(2, 50, 3), drawn(2, 50, 4, seed=1)
    memory = TrainableMemory(3, 4, capacity=8, update_rate=rate, similarity_threshold=threshold).double()
    start = memory.keys.detach().numpy(), memory.values.detach().numpy()
    for sizes in ([50], [3, 1, 9, 30, 7], [1] * 50):
        memory.reset((2,))
        for k, v in zip(keys.split(sizes, -2), values.split(sizes, -2)):
            memory.update(k, v)
        for i, (k, v) in enumerate(zip(keys.numpy(), values.numpy())):
            plain = Plain(*start, rate, threshold)
            for row in zip(k, v):
                plain.write(*row)
            got = slots(memory, (i,))
            torch.testing.assert_close(got[0], torch.from_numpy(plain.keys), **EXACT)
            torch.testing.assert_close(got[1], torch.from_numpy(plain.values), **EXACT)


def test_memories_of_a_batch_may_be_full_at_different_times():
    keys, values = drawn(2, 12, 3), drawn(2, 12, 4, seed=1)
    memory = TrainableMemory(3, 4, capacity=5).double()
    starts = [memory.write(memory.init_state(), keys[i, :n], values[i, :n]) for i, n in enumerate((4, 1))]
    alone = [memory.write(s, keys[i, 4:], values[i, 4:]) for i, s in enumerate(starts)]
    together = memory.write(type(starts[0])(*(torch.stack(part) for part in zip(*starts))), keys[:, 4:], values[:, 4:])
    for joint, parts in zip(together, zip(*alone)):
        torch.testing.assert_close(joint, torch.stack(parts), **EXACT)


def test_updates_longer_than_a_block_of_rows(monkeypatch):
    keys, values = drawn(40, 3), drawn(40, 4, seed=1)
    memory = TrainableMemory(3, 4, capacity=5).double()
    whole = memory.write(memory.init_state(), keys, values)
    monkeypatch.setattr("memspec.reference.memories.trainable.BLOCK", 7)
    for one, other in zip(whole, memory.write(memory.init_state(), keys, values)):
        torch.testing.assert_close(one, other, **EXACT)


def test_every_slot_is_filled_before_one_is_replaced():
    """n distinct writes use n slots, in any number of updates (the source stops filling after the first)."""
    memory = TrainableMemory(8, 3, capacity=6).double()
    basis = torch.eye(8, dtype=torch.float64)
    for n in range(1, 7):
        memory.update(basis[n - 1 : n], labels(n % 3))
        assert memory.slot_usage().tolist() == [1] * n + [0] * (6 - n)


def test_a_key_just_written_is_found_the_better_the_less_noise():
    """The cosine with its slot tends to 1 as the slots' first noise tends to 0."""
    gaps = []
    for noise in (1.0, 0.1, 0.01):
        torch.manual_seed(0)
        memory = TrainableMemory(8, 3, capacity=6).double()
        with torch.no_grad():
            memory.keys.mul_(noise)
        memory.update(torch.eye(8, dtype=torch.float64)[:6], labels(0, 1, 2, 0, 1, 2))
        gaps.append(1 - memory.confidence(torch.eye(8, dtype=torch.float64)[:6]).min().item())
    assert gaps[0] < 0.02
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.2)
    assert gaps[2] == pytest.approx(gaps[0] / 10_000, rel=0.2)


def test_the_least_confident_slot_goes():
    basis = torch.eye(6, dtype=torch.float64)
    memory = TrainableMemory(6, 3, capacity=3, update_rate=1.0).double()
    scores = torch.tensor([[0.9, 0.1, 0], [0.4, 0.3, 0.3], [0, 0.8, 0.2]]).double()
    memory.update(basis[:3], scores)
    memory.update(basis[3:4], labels(2))
    assert memory.slot_usage().tolist() == [1, 2, 1]
    torch.testing.assert_close(slots(memory)[0][1], basis[3], **EXACT)
    memory.update(basis[3:4], labels(0))  # known: ignored
    assert memory.slot_usage().tolist() == [1, 2, 1]
    memory.update(basis[4:6], 0.5 * labels(2, 0))  # 0.8 goes; then 0.5 is the lowest
    assert memory.slot_usage().tolist() == [1, 2, 3]


def test_nearest_read():
    memory = TrainableMemory(5, 3, capacity=20).double()
    keys, values, asked = drawn(9, 5), drawn(9, 3, seed=1), drawn(30, 5, seed=2)
    assert memory.query(asked).eq(0).all()
    assert memory.confidence(asked).eq(0).all()
    memory.update(keys, values)
    slot_keys, slot_values = (part[:9].numpy() for part in slots(memory))
    cosines = asked.numpy() @ slot_keys.T / np.linalg.norm(slot_keys, axis=1)
    cosines /= np.linalg.norm(asked.numpy(), axis=1)[:, None]
    torch.testing.assert_close(memory.query(asked), torch.from_numpy(slot_values[cosines.argmax(1)]), **EXACT)
    torch.testing.assert_close(memory.confidence(asked), torch.from_numpy(cosines.max(1).clip(0)), **EXACT)
    torch.testing.assert_close(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked), **EXACT)


def test_softmax_read_is_the_softmax_memory():
    """Where slots hold the pairs themselves (update_rate 1), beta = 1 / temperature; free slots have no weight."""
    memory = TrainableMemory(6, 3, capacity=20, temperature=0.25, update_rate=1.0, read="softmax").double()
    other = SoftmaxMemory(6, 3, capacity=20, beta=4.0).double()
    keys, values, asked = drawn(15, 6), drawn(15, 3, seed=1), drawn(9, 6, seed=2)
    assert memory.query(asked).eq(0).all()
    memory.update(keys, values)
    other.update(keys, values)
    torch.testing.assert_close(memory.query(asked), other.query(asked), **EXACT)


def test_loss_is_that_of_the_cache_where_slots_are_one_hot():
    memory = TrainableMemory(5, 4, capacity=10, update_rate=1.0).double()
    cache = CachedMemory(5, 4, capacity=10).double()
    for each in (memory, cache):
        each.update(drawn(6, 5), labels(0, 0, 1, 2, 1, 0, of=4))
    features, classes = drawn(4, 5, seed=1), labels(0, 3, 1, 2, of=4)
    torch.testing.assert_close(
        memory.auxiliary_loss(features, classes), cache.auxiliary_loss(features, classes), **EXACT
    )


@pytest.mark.parametrize("negatives", [1, 4])
def test_contrastive_loss_closed_forms(negatives):
    """A positive at cosine 1 and n negatives at 0: log(1 + n e^{-1/T}); a positive with share p: that minus log p."""
    basis = torch.eye(6, dtype=torch.float64)
    memory = TrainableMemory(6, 3, update_rate=1.0, capacity=6).double()
    memory.update(basis[: 1 + negatives], labels(0, *[1] * negatives))
    expected = math.log(1 + negatives * math.exp(-10))
    assert memory.auxiliary_loss(3 * basis[:1], labels(0)).item() == pytest.approx(expected, abs=1e-10)
    memory.reset()
    memory.update(
        basis[: 1 + negatives],
        torch.cat((torch.tensor([[0.3, -2, 0.9]], dtype=torch.float64), labels(*[1] * negatives))),
    )
    assert memory.auxiliary_loss(basis[:1], labels(0)).item() == pytest.approx(expected - math.log(0.25), abs=1e-10)


def test_loss_is_minus_the_log_of_the_softmax_read():
    """With slots that are distributions over classes."""
    memory = TrainableMemory(5, 3, capacity=6, update_rate=1.0, read="softmax").double()
    memory.update(drawn(6, 5), drawn(6, 3, seed=1).softmax(-1))
    features = drawn(4, 5, seed=2)
    expected = -memory.query(features)[torch.arange(4), torch.tensor([0, 2, 1, 0])].log().mean()
    torch.testing.assert_close(memory.auxiliary_loss(features, labels(0, 2, 1, 0)), expected.detach(), **EXACT)


def test_loss_trains_features_keys_and_values():
    """gradcheck in all three; slots not in use, and rows whose class is nowhere, have a gradient of exactly 0."""
    memory = TrainableMemory(5, 4, capacity=8, temperature=0.5).double()
    memory.update(
        drawn(6, 5), labels(0, 0, 1, 2, 1, 0, of=4) + 0.1 * drawn(6, 4, seed=3).abs() * labels(*[0] * 6, of=4)
    )
    with torch.no_grad():
        memory.values.copy_(memory.values.abs() * labels(*[0] * 8, of=4))
    classes = labels(0, 3, 1, 2, of=4)

    def loss(features, keys, values):
        both = {"keys": keys, "values": values}
        return torch.func.functional_call(
            _Loss(memory), {f"memory.{n}": p for n, p in both.items()}, (features, classes)
        )

    inputs = [drawn(4, 5, seed=1), memory.keys.detach().clone(), memory.values.detach().clone() + 1e-3]
    inputs = [part.requires_grad_() for part in inputs]
    assert torch.autograd.gradcheck(loss, inputs)
    gradients = torch.autograd.grad(loss(*inputs), inputs)
    assert all(g.isfinite().all() for g in gradients)
    assert all(g[:6].ne(0).any() and g[6:].eq(0).all() for g in gradients[1:])


class _Loss(torch.nn.Module):
    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def forward(self, features, classes):
        return self.memory.auxiliary_loss(features, classes)


def test_an_outer_optimiser_trains_the_slots_between_writes():
    """Adam on the loss lowers it, and moves the slots; what is written afterwards is stored as ever."""
    torch.manual_seed(0)
    memory = TrainableMemory(8, 3, capacity=12).double()
    optimiser = torch.optim.Adam(memory.parameters(), lr=0.01)
    classes = [i % 3 for i in range(9)]
    memory.update(drawn(9, 8), labels(*classes))
    features, wanted = drawn(30, 8, seed=1), labels(*[i % 3 for i in range(30)])
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        loss = memory.auxiliary_loss(features, wanted)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    key = drawn(1, 8, seed=5)
    memory.update(key, labels(2))
    assert memory.confidence(key).item() > 0.99
    assert memory.query(key).argmax().item() == 2


def test_moments_of_written_slots_are_cleared():
    memory = TrainableMemory(8, 3, capacity=4).double()
    optimiser = torch.optim.Adam([*memory.parameters(), torch.nn.Parameter(torch.ones(2))], lr=0.01)
    memory.update(drawn(4, 8), labels(0, 1, 2, 0))
    memory.auxiliary_loss(drawn(5, 8, seed=1), labels(0, 1, 2, 0, 1)).backward()
    optimiser.step()
    before = memory.state
    memory.update(drawn(1, 8, seed=2), labels(1))
    written = memory.slot_usage() > before.writes
    assert written.sum() == 1
    kept = optimiser.state[memory.keys]["exp_avg"].clone()
    memory.clear_moments(optimiser, before)
    for name in ("exp_avg", "exp_avg_sq"):
        assert optimiser.state[memory.keys][name][written].eq(0).all()
        assert optimiser.state[memory.values][name][written].eq(0).all()
    assert torch.equal(optimiser.state[memory.keys]["exp_avg"][~written], kept[~written])
    assert optimiser.state[memory.keys]["step"] == 1


@pytest.mark.parametrize("read", ["nearest", "softmax"])
def test_gradients_of_the_read(read):
    """In what the spec declares; and answers train the slots' values."""
    memory = TrainableMemory(4, 3, capacity=5, read=read, temperature=0.5).double()
    inputs = {"keys": drawn(9, 4), "values": drawn(9, 3, seed=1), "query": drawn(6, 4, seed=2)}
    for name, tensor in inputs.items():
        tensor.requires_grad_(name in memory.spec.differentiable)

    def run(keys, values, asked):
        return memory.read(memory.write(memory.init_state(), keys, values), asked)

    assert torch.autograd.gradcheck(run, tuple(inputs.values()))
    memory.update(drawn(4, 4), drawn(4, 3, seed=1))
    memory.query(drawn(6, 4, seed=2)).sum().backward()
    assert memory.values.grad[:4].ne(0).any()
    assert memory.values.grad[4:].eq(0).all()


def test_claims_follow_the_options():
    assert TrainableMemory(4, 4).spec.differentiable == {"values"}
    assert TrainableMemory(4, 4).spec.family == "generic"  # a quarter of the value, at first
    assert TrainableMemory(4, 4, update_rate=1.0).spec.family == "cache"
    assert TrainableMemory(4, 4, read="softmax").spec.differentiable == {"query", "keys", "values"}
