"""The plain models: what they say by hand, which freedom they leave, and what they find in broken memories."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memspec.errors import LawBroken
from memspec.fixtures.data.crowded import apart, crowded, spread
from memspec.fixtures.data.pairs import keys as made_keys
from memspec.fixtures.plain import PlainStore, PlainSums, check
from memspec.laws import stateful
from memspec.laws.histories import SETTINGS, Act, Setting
from memspec.laws.law import Law
from memspec.laws.models import DrawnStore, Sizes, model_of, takes_rows_in_order
from memspec.plugs.loading import load_plug
from memspec.protocol import MemorySpec

EYE = np.eye(4)
EPS = float(torch.finfo(torch.float32).eps)


def sizes(capacity: float = 2) -> Sizes:
    return Sizes(4, 1, capacity, EPS)


def column(*numbers: float) -> Any:
    return np.array(numbers)[:, None]


def spec(**fields: Any) -> MemorySpec:
    return MemorySpec(empty_read="zeros", **fields)


STORE = spec(exact=True, overwrite="replace", write="sequential", eviction="fifo")


# ---- what models say ------------------------------------------------------------------------------------------


def test_fifo_leaves_open_whether_a_rewrite_moves() -> None:
    """Of two pairs, a rewritten one stays or goes next; once a memory has shown which, it has to go on so."""
    for answers, other in ((column(0, 2, 3), column(4, 0, 3)), (column(4, 0, 3), column(0, 2, 3))):
        model = model_of(STORE, sizes())
        assert model is not None
        model.write(EYE[[0, 1, 0, 2]], column(1, 2, 4, 3))
        assert model.refute(EYE[:3], answers) is None
        wrong = model.refute(EYE[:3], other)
        assert wrong is not None
        assert "oldest goes" in wrong.why


def test_lru_drops_what_was_not_touched() -> None:
    """Writing and touching are uses."""
    model = model_of(dataclasses.replace(STORE, eviction="lru"), sizes())
    assert model is not None
    model.write(EYE[:2], column(1, 2))
    model.touch(EYE[:1])
    model.write(EYE[2:3], column(3))
    assert model.refute(EYE[:3], column(1, 0, 3)) is None
    assert model.refute(EYE[:3], column(0, 2, 3)) is not None


@pytest.mark.parametrize(
    ("answers", "right"), [((1, 2, 0), True), ((0, 2, 3), True), ((1, 2, 3), False), ((1, 0, 0), False)]
)
def test_drawn_stores_keep_as_many_as_fit(answers: tuple[float, ...], right: bool) -> None:
    """Any two of three pairs may be left, and no other number."""
    model = DrawnStore(sizes(), True, "reservoir")
    model.write(EYE[:3], column(1, 2, 3))
    assert (model.refute(EYE[:3], column(*answers)) is None) == right


def test_drawn_stores_find_nothing_again() -> None:
    """What was dropped stays away, and a pair that is left has its newest value."""
    model = DrawnStore(sizes(), True, "random")
    model.write(EYE[:3], column(1, 2, 3))
    assert model.refute(EYE[:3], column(0, 2, 3)) is None
    assert model.refute(EYE[:3], column(1, 0, 3)) is not None
    model.write(EYE[1:2], column(5))
    assert model.refute(EYE[:3], column(0, 2, 3)) is not None
    assert model.refute(EYE[:3], column(0, 5, 3)) is None


def test_matrix_models_by_hand() -> None:
    """Hebb adds, the delta rule replaces by its step, least squares takes the mean of a rewritten key."""
    asked, keys, values = EYE[:1], EYE[[0, 0]], column(1, 4)
    for fields, answer in (
        ({"family": "hebbian", "overwrite": "add"}, 5.0),
        ({"family": "delta", "beta": 1.0}, 4.0),
        ({"family": "delta", "beta": 0.5}, 2.25),
        ({"family": "least_squares", "overwrite": "blend"}, 2.5),
        ({"family": "softmax", "beta": 8.0, "eviction": "fifo"}, 2.5),
    ):
        model = model_of(spec(**fields), sizes(9))
        assert model is not None
        model.write(keys, values)
        assert model.refute(asked, column(answer)) is None, fields
        assert model.refute(asked, column(answer + 0.02)) is not None, fields


def test_nothing_is_said_where_nothing_is_promised() -> None:
    """A bare spec has no model, nor has a family whose constant is not told, or whose rows start as something."""
    assert model_of(MemorySpec(), sizes()) is None
    assert model_of(spec(family="delta"), sizes()) is None
    assert model_of(MemorySpec(family="delta", beta=1.0), sizes()) is None
    assert model_of(spec(family="softmax", beta=50.0, eviction="fifo", fidelity="driven"), sizes()) is None
    assert takes_rows_in_order(STORE)
    assert not takes_rows_in_order(dataclasses.replace(STORE, write="set"))


# ---- histories ------------------------------------------------------------------------------------------------


def test_settings_cover_what_they_promise() -> None:
    """Every capacity and crowd, width 1 of both kinds, and both orders of unequal widths."""
    assert {1, 2, 3, 7, 16, 33, 100} <= {s.capacity for s in SETTINGS}
    assert {s.crowd for s in SETTINGS} == {"plain", "near", "common", "lengths"}
    assert {1} <= {s.key_dim for s in SETTINGS} & {1}
    assert any(s.value_dim == 1 for s in SETTINGS)
    assert any(s.key_dim > s.value_dim > 1 for s in SETTINGS)
    assert any(1 < s.key_dim < s.value_dim for s in SETTINGS)


def test_acts_name_rows() -> None:
    """Runs go round the pool; pairs and twice repeat keys within one call."""
    assert Act("update", 2, 3).rows(4) == [2, 3, 0]
    assert Act("update", 2, 3, "back").rows(4) == [0, 3, 2]
    assert Act("update", 0, 4, "pairs").rows(9) == [0, 0, 1, 1]
    assert Act("update", 1, 4, "twice").rows(9) == [1, 2, 1, 2]


def test_crowds() -> None:
    """Near-duplicates have the cosines promised, keys of a common mean are alike, and lengths differ."""
    plain = made_keys("unit", 9, 16, torch.Generator().manual_seed(0))
    near = crowded(plain, "near")
    assert torch.allclose((near[0] * near[1:3]).sum(-1), torch.tensor([0.905, 0.991]), atol=1e-5)
    common = crowded(plain, "common")
    assert (common @ common.T).min() > 0.6
    lengths = crowded(plain, "lengths").norm(dim=-1)
    assert (lengths.min(), lengths.max()) == (pytest.approx(0.5), pytest.approx(2))
    assert apart(torch.cat((plain[:2], 2 * plain[:1]))) == [0, 1]
    assert len(spread(plain)[:, 0].unique()) == 9


# ---- what is spared, and how failures are told ----------------------------------------------------------------


def law_of(factory: Any) -> Law:
    name = factory if isinstance(factory, str) else f"{__name__}:{factory.__name__}"
    return Law(load_plug(name), "a rule", "stateful/any-sequence")


class ClipsLongKeys(PlainSums):
    """The delta rule for keys of length one; longer ones are clipped to that, shorter ones left."""

    spec = spec(family="delta", beta=1.0, write="sequential", overwrite="replace", deterministic=True)

    def learn(self, keys: Tensor, values: Tensor) -> None:
        for key, value in zip(self.clipped(keys), values):
            self.matrix = self.matrix + torch.outer(key, value - key @ self.matrix)

    def recall(self, keys: Tensor) -> Tensor:
        return self.clipped(keys) @ self.matrix

    def clipped(self, keys: Tensor) -> Tensor:
        return keys / keys.norm(dim=-1, keepdim=True).clamp_min(1)


class MeetsHalfway(PlainStore):
    """A softmax under which a rewritten value moves half way."""

    spec = spec(family="softmax", beta=16.0, write="sequential", overwrite="blend", eviction="fifo", deterministic=True)

    def put(self, key: Tensor, value: Tensor) -> None:
        for i, (known, old) in enumerate(self.pairs):
            if torch.equal(known, key):
                self.pairs[i] = key, (old + value) / 2
                return
        super().put(key, value)

    def recall(self, keys: Tensor) -> Tensor:
        stored, values = (torch.stack(part) for part in zip(*self.pairs))
        cosines = torch.nn.functional.normalize(keys, dim=-1) @ torch.nn.functional.normalize(stored, dim=-1).T
        return torch.softmax(16 * cosines, -1) @ values


class Draws(PlainStore):
    """Drops any pair, by the global generator."""

    spec = dataclasses.replace(PlainStore.spec, eviction="random", deterministic=False)

    def put(self, key: Tensor, value: Tensor) -> None:
        check(key[None], self.key_dim)
        self.forget(key[None])
        if len(self.pairs) == self.capacity:
            self.pairs.pop(int(torch.randint(self.capacity, ())))
        self.pairs.append((key, value))


@pytest.mark.parametrize(
    "factory",
    [ClipsLongKeys, pytest.param(MeetsHalfway, marks=pytest.mark.slow), pytest.param(Draws, marks=pytest.mark.ci)],
)
def test_models_spare(factory: type) -> None:
    """What the spec leaves free: another rule for lengths, another blend, another draw."""
    stateful.run(law_of(factory))


def test_counterexample_is_a_short_program() -> None:
    """A store that saves its order wrongly is told in a few steps: fill, reload, evict."""
    law = law_of("memspec.fixtures.mutants.stateful:SavesBackwards")
    history = stateful.History(stateful.Told(law), Setting(3, 7, 2))
    with pytest.raises(LawBroken) as broken:
        history.play([Act("update", 0, 2), Act("reload"), Act("update", 2, 1)])
    failure = broken.value.failure
    assert failure.cause.endswith("update(2); reload; update(1)")
    assert "a plain dict of the pairs last written or touched that fit" in failure.expected
    with pytest.raises(AssertionError):
        exec(failure.repeat, {})
