"""The capacity experiments: what they count, against plain Python stores and information theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.capacity import LOAD, LOADS, OVERFILL, PRESENTATION, SCORES, Load, Overfill, Presentation
from memspec.experiments.curves import n95
from memspec.fixtures.mutants.capacity import Ring
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.protocol import MemorySpec
from memspec.theory import band


class Store(Ring):
    """An exact store with a policy; the seed of its generator is drawn from torch's."""

    policy = "random"

    def reset(self):
        super().reset()
        self.rng = np.random.default_rng(int(torch.randint(2**31, ())))
        self.seen = 0

    def update(self, keys, values):
        for k, v in zip(keys, values):
            self.seen += 1
            if len(self.keys) < self.capacity:
                self.keys, self.values = torch.cat((self.keys, k[None])), torch.cat((self.values, v[None]))
                continue
            place = self.rng.integers(self.capacity if self.policy == "random" else self.seen)
            if place < self.capacity:
                self.keys[place], self.values[place] = k, v


class RandomStore(Store):
    spec = MemorySpec(family="cache", exact=True, eviction="random")


class ReservoirStore(Store):
    spec = MemorySpec(family="cache", exact=True, eviction="reservoir")
    policy = "reservoir"


@pytest.mark.parametrize("store", [Ring, RandomStore, ReservoirStore])
def test_overfilled_stores_lie_in_their_bands(store):
    plug, setting = Plug(store.__name__, store), Overfill()
    found = OVERFILL.measure(plug, setting, range(48), 0)
    for metric in ("recall_all", "recall_newest", "recall_older"):
        bound = band(plug, OVERFILL.name, setting, metric)
        assert bound.met(np.array([found[metric].mean().item()])).all(), metric
    curve = found["recall"]
    for column, age in enumerate(curve.at):
        bound = band(plug, OVERFILL.name, setting, "recall", at=age)
        assert bound is None or bound.met(np.array([curve.values[:, column].mean().item()])).all(), age
    assert found["recall_all"].mean().item() == pytest.approx(0.25, abs=0.01)


def test_bands_tell_evictions_apart():
    declared = {s.spec.eviction: Plug(s.__name__, s) for s in (Ring, RandomStore, ReservoirStore)}
    for claimed, plug in declared.items():
        for other, real in declared.items():
            found = OVERFILL.measure(real, Overfill(), range(32), 0)
            met = [
                band(plug, OVERFILL.name, Overfill(), m).met(np.array([found[m].mean().item()])).all()
                for m in ("recall_all", "recall_newest", "recall_older")
            ]
            assert all(met) == (claimed == other)


def test_overfilling_needs_a_capacity():
    with pytest.raises(CannotMeasure, match="no capacity"):
        OVERFILL.measure(load_plug("memspec.reference:DeltaMemory"), Overfill(), range(2), 0)
    with pytest.raises(CannotMeasure, match="holds 1000"):
        OVERFILL.measure(load_plug("memspec.reference:CachedMemory(capacity=1000)"), Overfill(), range(2), 0)


def test_bits():
    found = LOAD.measure(load_plug("memspec.reference:ExactMemory"), Load(n=32), range(3), 0)
    assert found["bits"].tolist() == [32 * 5] * 3
    assert found["bits_per_state_byte"].tolist() == pytest.approx([32 * 5 / (32 * 128 * 4)] * 3)
    assert found["bits_per_parameter"].tolist() == pytest.approx([32 * 5 / (32 * 128)] * 3)
    assert "bits_per_slot" not in found
    ring = LOAD.measure(Plug("ring", Ring), Load(n=32), range(3), 0)
    assert ring["bits_per_slot"].tolist() == [32 * 5 / 128] * 3
    null = LOAD.measure(load_plug("memspec.reference:NullMemory"), Load(n=32), range(3), 0)
    assert null["bits"].abs().max() < 1e-6
    assert null["recall_above_chance"].abs().max() < 1e-6


def test_bits_of_labels_count_classes_not_pairs():
    class Labels(Ring):
        spec = MemorySpec(value_domain="onehot")

    found = LOAD.measure(Plug("labels", Labels), Load(n=64, value_dim=8), range(2), 0)
    assert found["bits"].tolist() == pytest.approx([64 * math.log2(8)] * 2)


def test_a_matrix_stays_below_the_linear_optimum_per_parameter():
    """No d x d map holds more than 1/(2 ln 2) = .721 bits a parameter with all pairs recalled."""
    found = LOAD.measure(load_plug("memspec.reference:MatrixAssociativeMemory"), Load(n=128), range(8), 0)
    assert 0.1 < found["bits_per_parameter"].mean().item() < 0.721


def test_rows_and_batches_see_the_same_pairs():
    plug = load_plug("memspec.reference:DeltaMemory")
    rows = LOAD.measure(plug, Load(n=64, presented="rows"), range(4), 0)
    batch = LOAD.measure(plug, Load(n=64), range(4), 0)
    assert torch.equal(rows["recall_cosine"], batch["recall_cosine"])
    apart = PRESENTATION.measure(plug, Presentation(), range(4), 0)
    assert apart["answers_apart"].max() < 1e-9
    assert apart["recall_apart"].max() == 0


def test_n95_needs_every_smaller_load():
    perfect, poor = np.ones(16), np.full(16, 0.6)
    assert n95(LOADS, [perfect] * 6).estimate == 256
    found = n95(LOADS, [perfect, perfect, poor, perfect, perfect, perfect])
    assert (found.estimate, found.low, found.high) == (16, 16, 16)
    assert n95(LOADS, [poor] * 6).estimate == 0


def test_n95_interval_holds_the_estimate():
    close = np.full(4, 0.9375)  # 15 of 16: 60 of 64 may well be .95
    found = n95((8, 16, 32), [np.ones(4), close, np.ones(4)])
    assert found.low <= found.estimate <= found.high
    assert (found.estimate, found.high) == (8, 32)


def test_trained_memories_are_not_asked():
    class Trained(Ring):
        spec = MemorySpec(fidelity="trained")

    with pytest.raises(NotAsked, match="outer training"):
        LOAD.measure(Plug("trained", Trained), Load(n=8), range(2), 0)


def test_one_hot_keys_run_out():
    class OneHot(Ring):
        spec = MemorySpec(key_domain="onehot")

    with pytest.raises(CannotMeasure, match="one-hot"):
        LOAD.measure(Plug("onehot", OneHot), Load(n=128), range(2), 0)


def test_anchors_of_the_score():
    (score,) = SCORES
    for name, value in (("NullMemory", score.floor), ("ExactMemory", score.ceiling)):
        plug = load_plug(f"memspec.reference:{name}")
        for n in LOADS:
            assert Load(n=n).label in score.labels
            found = LOAD.measure(plug, Load(n=n), range(2), 0)[score.metric]
            assert found.tolist() == pytest.approx([value] * 2, abs=1e-6)


@pytest.mark.parametrize(("right", "items"), [(0, 5), (5, 5), (3, 10), (950, 1000)])
def test_wilson_interval(right, items):
    from scipy import stats

    from memspec.judging.statistics import wilson_interval

    expected = stats.binomtest(right, items).proportion_ci(0.95, method="wilson")
    found = wilson_interval(right, items)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_trials_of_large_memories_run_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """And measure what they do all at once, to rounding."""
    plug = load_plug("memspec.reference:TrainableMemory")
    whole = Runner(plug).values(LOAD, Load(n=8), "relative_mse", 16)
    monkeypatch.setattr("memspec.experiments.base.AT_ONCE", 4 * max(1, plug.parameter_count) * 5)
    runner = Runner(plug)
    assert [len(part) for part in runner._fitting(range(16))] == [5, 5, 5, 1]
    np.testing.assert_allclose(runner.values(LOAD, Load(n=8), "relative_mse", 16), whole, atol=1e-5)
