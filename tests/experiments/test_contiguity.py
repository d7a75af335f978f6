"""The contiguity axis: chains on paper, lag measures against psifr, people's figures from psifr's data, the driver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments.base import Curve, Measured
from memspec.experiments.contiguity import CHAIN, Chain, into, joint_domain
from memspec.experiments.free_recall import (
    EXACT_TEMPORAL_FACTOR,
    FREE_RECALL,
    HUMAN_CRP,
    HUMAN_TEMPORAL_FACTOR,
    LAGS,
    FreeRecall,
    drifted,
    lag_crp,
    study,
    temporal_factor,
)
from memspec.fixtures.data import pairs
from memspec.plugs.loading import as_plug
from memspec.plugs.plug import Plug
from memspec.protocol import MemorySpec
from memspec.reference import DeltaMemory, ExactMemory, MatrixAssociativeMemory, NullMemory

# ---- chains ---------------------------------------------------------------------------------------------------


def means(measured: Measured) -> dict[str, float]:
    return {name: float(x.mean()) for name, x in measured.items() if isinstance(x, Tensor)}


def test_the_chain_cannot_tell_a_matrix_from_a_store() -> None:
    """A Hebbian matrix answers ``C + (A . B) B``, a dictionary C: the same within that crosstalk."""
    store, matrix = (CHAIN.measure(as_plug(m), Chain(), range(64), 0) for m in (ExactMemory, MatrixAssociativeMemory))
    assert float((store["to_c"] - matrix["to_c"]).abs().max()) < 0.1  # type: ignore[operator]
    assert means(store)["to_c"] == pytest.approx(1, abs=1e-6)
    assert abs(means(matrix)["to_a"] - means(store)["to_a"]) < 0.02


def test_chain_of_a_hebbian_matrix_on_paper() -> None:
    """``query(B) = (B . A) B + C``, ``query(C) = (C . A) B + (C . B) C``, from the items alone."""
    kept: dict[str, Tensor] = {}

    class Watched(MatrixAssociativeMemory):
        def read(self, state: Any, keys: Tensor) -> Tensor:
            if keys.ndim == 3:  # the trials of the experiment, not the one pair that is tried at loading
                kept.setdefault("items", keys)
            return super().read(state, keys)

    found = CHAIN.measure(as_plug(Watched), Chain(), range(8), 0)
    a, b, c = kept["items"].double().unbind(1)
    inner = lambda x, y: (x * y).sum(-1, keepdim=True)  # noqa: E731
    from_b, from_c = inner(b, a) * b + c, inner(c, a) * b + inner(c, b) * c
    for name, answer, to in (("to_a", from_b, a), ("to_b", from_b, b), ("to_c", from_b, c), ("backward", from_c, b)):
        torch.testing.assert_close(found[name], torch.cosine_similarity(answer, to), atol=1e-5, rtol=0)


@pytest.mark.parametrize("memory", [ExactMemory, MatrixAssociativeMemory, DeltaMemory])
def test_good_memories_lead_forwards_in_two_steps_and_not_back(memory: type) -> None:
    found = means(CHAIN.measure(as_plug(memory), Chain(chains=4), range(256), 0))
    assert found["forward"] > 0.9
    assert found["chained"] > 0.9
    assert abs(found["backward_excess"]) < 0.1


class Bidirectional:
    """A plain list of pairs that can be asked from either end."""

    spec = MemorySpec()

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.reset()

    def reset(self) -> None:
        self.rows: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor) -> None:
        self.rows += zip(keys, values)

    def query(self, keys: Tensor) -> Tensor:
        a, b = map(torch.stack, zip(*self.rows))
        return torch.cat((b, a))[(keys @ torch.cat((a, b)).mT).argmax(-1)]


def test_backward_probe_sees_backward_associations() -> None:
    assert means(CHAIN.measure(as_plug(Bidirectional), Chain(chains=4), range(64), 0))["backward_excess"] > 0.9


@pytest.mark.parametrize(
    ("key", "value", "both"),
    [
        ("real", "real", "real"),
        ("real", "sign", "sign"),
        ("unit", "real", "unit"),
        ("onehot", "unit", "onehot"),
        ("unit", "onehot", "onehot"),
        ("sign", "unit", None),
        ("onehot", "sign", None),
    ],
)
def test_joint_domain(key: str, value: str, both: str | None) -> None:
    assert joint_domain(key, value) == both


def test_answers_are_brought_into_the_domain_of_keys() -> None:
    rows = torch.tensor([[3.0, -4.0], [float("nan"), 1.0]])
    assert into("unit", rows).tolist() == [[pytest.approx(0.6), pytest.approx(-0.8)], [0, 0]]
    assert into("sign", rows).tolist() == [[1, -1], [1, 1]]
    assert into("onehot", rows).tolist() == [[1, 0], [1, 0]]
    assert into("real", rows).tolist() == [[3, -4], [0, 0]]


def store(key_domain: str = "real", value_domain: str = "real", **claims: Any) -> type[ExactMemory]:
    class Declared(ExactMemory):
        spec = MemorySpec(key_domain=key_domain, value_domain=value_domain, **claims)  # type: ignore[arg-type]

    return Declared


@pytest.mark.parametrize("domain", ["unit", "sign", "onehot"])
def test_chains_in_every_domain(domain: str) -> None:
    found = means(CHAIN.measure(as_plug(store(domain, domain)), Chain(chains=4), range(4), 0))
    assert found["to_c"] == pytest.approx(1, abs=1e-6)
    assert found["chained"] == pytest.approx(1, abs=1e-6)


def test_what_cannot_be_chained_says_why() -> None:
    for experiment, setting in ((CHAIN, Chain()), (FREE_RECALL, FreeRecall())):
        with pytest.raises(NotAsked, match="recalls the key itself"):
            experiment.measure(as_plug(store(association="auto")), setting, range(2), 0)
        with pytest.raises(CannotMeasure, match="no item is a sign key and a unit value"):
            experiment.measure(as_plug(store("sign", "unit")), setting, range(2), 0)
        with pytest.raises(CannotMeasure, match="keys have 32 entries and values 20"):
            experiment.measure(Plug("m", ExactMemory, {"key_dim": 32, "value_dim": 20}), setting, range(2), 0)
        with pytest.raises(CannotMeasure, match="items of 4 entries"):
            experiment.measure(Plug("m", ExactMemory, {"value_dim": 4}), setting, range(2), 0)
    with pytest.raises(CannotMeasure, match="no mixture is a sign vector"):
        FREE_RECALL.measure(as_plug(store("sign", "sign")), FreeRecall(), range(2), 0)


def test_one_fixed_width_sets_the_other() -> None:
    for name in ("key_dim", "value_dim"):
        assert means(CHAIN.measure(Plug("m", ExactMemory, {name: 32}), Chain(), range(2), 0))["to_c"] > 0.99


# ---- lag measures against psifr -------------------------------------------------------------------------------


def merged(recalls: Tensor, length: int) -> pd.DataFrame:
    """The same recalls as psifr takes them: item names, every subject's lists studied in order."""
    from psifr import fr

    rows = []
    for subject, lists in enumerate(recalls.tolist()):
        for number, positions in enumerate(lists):
            common = {"subject": subject, "list": number}
            rows += [common | {"trial_type": "study", "position": p + 1, "item": str(p)} for p in range(length)]
            said = [p for p in positions if p >= 0]
            rows += [common | {"trial_type": "recall", "position": i + 1, "item": str(p)} for i, p in enumerate(said)]
    return fr.merge_free_recall(pd.DataFrame(rows))


def some_recalls(seed: int, subjects: int = 4, lists: int = 5, length: int = 8) -> Tensor:
    """Recalls of 0 to ``length`` items, in any order; -1 after the last."""
    rng = np.random.default_rng(seed)
    out = np.full((subjects, lists, length), -1)
    for row in out.reshape(-1, length):
        said = rng.integers(0, length + 1)
        row[:said] = rng.permutation(length)[:said]
    return torch.from_numpy(out)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_lag_measures_agree_with_psifr(seed: int) -> None:
    from psifr import fr

    length, recalls = 8, some_recalls(seed)
    lags = [lag for lag in range(1 - length, length) if lag]
    data = merged(recalls, length)
    theirs = fr.lag_crp(data).reset_index().pivot_table(index="subject", columns="lag", values="prob", dropna=False)
    ours = lag_crp(recalls, length, lags)
    np.testing.assert_allclose(ours, theirs[[float(lag) for lag in lags]].to_numpy(), atol=1e-12)
    ranks = fr.lag_rank(data)["rank"]
    np.testing.assert_allclose(temporal_factor(recalls, length), ranks.to_numpy(), atol=1e-12)


def by_hand(positions: list[int], length: int) -> Iterator[tuple[int, list[int]]]:
    """For each transition its lag and the lags that were possible; plain loops."""
    for i in range(len(positions) - 1):
        left = [p for p in range(length) if p not in positions[: i + 1]]
        yield positions[i + 1] - positions[i], [p - positions[i] for p in left]


def test_lag_measures_on_paper() -> None:
    sequence = [2, 3, 1, 4]
    recalls = torch.tensor([[sequence]])
    made = [lag for lag, _ in by_hand(sequence, 5)]
    possible = [lag for _, lags in by_hand(sequence, 5) for lag in lags]
    lags = [-2, -1, 1, 2, 3]
    expected = [made.count(lag) / possible.count(lag) for lag in lags]
    assert lag_crp(recalls, 5, lags)[0].tolist() == pytest.approx(expected)
    # 2->3: |lags| 2 1 1 2, made 1, rank 1.5 of 4; 3->1: 3 2 1, rank 2 of 3; 1->4: 1 3, made 3, rank 2 of 2.
    assert float(temporal_factor(recalls, 5)) == pytest.approx(((1 - 0.5 / 3) + (1 - 1 / 2) + 0) / 3)


def test_forward_serial_recall_is_all_plus_one() -> None:
    recalls = torch.arange(16).expand(2, 3, 16)
    expected = torch.tensor([[torch.nan] * 5 + [1.0, 0, 0, 0, 0]] * 2, dtype=torch.float64)  # back is never possible
    torch.testing.assert_close(lag_crp(recalls, 16, LAGS), expected, equal_nan=True)
    assert temporal_factor(recalls, 16).tolist() == [1, 1]


def test_random_recall_is_chance() -> None:
    g = torch.Generator().manual_seed(0)
    recalls = torch.stack([torch.randperm(16, generator=g)[:10] for _ in range(4000)])[None]
    assert float(temporal_factor(recalls, 16)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("recalls", [torch.zeros(3, 4), torch.full((1, 1, 3), 9), torch.full((1, 1, 3), -2)])
def test_what_are_no_recalls_is_refused(recalls: Tensor) -> None:
    with pytest.raises(ValueError, match="recalls"):
        lag_crp(recalls.long(), 8, LAGS)


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore")
def test_people_are_as_stated() -> None:
    """HUMAN_CRP and HUMAN_TEMPORAL_FACTOR from the data that ship with psifr."""
    from psifr import fr

    data = fr.merge_free_recall(fr.sample_data("peers_notask"))
    assert data["subject"].nunique() == 126
    assert set(data.groupby("subject")["list"].nunique()) == {28}
    crp = fr.lag_crp(data).reset_index().pivot_table(index="subject", columns="lag", values="prob")
    for lag, (mean, spread) in HUMAN_CRP.items():
        assert crp[lag].mean() == pytest.approx(mean, abs=5.1e-4)
        assert crp[lag].std() == pytest.approx(spread, abs=5.1e-4)
    assert (crp[1] > crp[-1]).mean() == pytest.approx(0.90, abs=0.01)
    factor = fr.lag_rank(data)["rank"]
    assert (factor.mean(), factor.std()) == pytest.approx(HUMAN_TEMPORAL_FACTOR, abs=5.1e-4)


# ---- the driver -----------------------------------------------------------------------------------------------


def curve(measured: Measured) -> dict[float, float]:
    crp = measured["crp"]
    assert isinstance(crp, Curve)
    return dict(zip(crp.at, crp.values.mean(0).tolist()))


@pytest.mark.parametrize(
    ("memory", "back", "on", "factor"),
    [
        (MatrixAssociativeMemory, 0.177, 0.375, 0.723),
        (DeltaMemory, 0.062, 0.265, 0.586),
        (NullMemory, None, None, 0.505),
    ],
    ids=["hebb", "delta", "null"],
)
def test_published_figures_of_the_driver(memory: type, back: float | None, on: float | None, factor: float) -> None:
    found = FREE_RECALL.measure(as_plug(memory), FreeRecall(), range(200), 0)
    assert means(found)["temporal_factor"] == pytest.approx(factor, abs=0.015)
    if back is not None:
        assert curve(found)[-1] == pytest.approx(back, abs=0.03)
        assert curve(found)[1] == pytest.approx(on, abs=0.03)


def test_ceiling_of_the_score_is_what_the_dictionary_reaches() -> None:
    found = means(FREE_RECALL.measure(as_plug(ExactMemory), FreeRecall(), range(300), 0))
    assert found["temporal_factor"] == pytest.approx(EXACT_TEMPORAL_FACTOR, abs=0.01)


def test_contexts_are_unit_vectors_that_drift() -> None:
    g = torch.Generator().manual_seed(0)
    items, start = pairs.vectors("unit", 16, 512, g), pairs.vectors("unit", 1, 512, g)[0]
    contexts, last = study(items, start, 0.6)
    assert torch.equal(contexts[0], start)
    torch.testing.assert_close(contexts[1], drifted(start, items[0], 0.6))
    torch.testing.assert_close(torch.cat((contexts, last[None])).norm(dim=-1), torch.ones(17))
    near, far = (contexts[:-1] * contexts[1:]).sum(-1).mean(), (contexts[:-5] * contexts[5:]).sum(-1).mean()
    assert float(near) == pytest.approx(0.8, abs=0.05)
    assert float(far) == pytest.approx(0.8**5, abs=0.1)


class Diverged(ExactMemory):
    """Answers NaN."""

    def read(self, state: Any, keys: Tensor) -> Tensor:
        return super().read(state, keys) * float("nan")


class Huge(MatrixAssociativeMemory):
    """Answers near the largest float."""

    def read(self, state: Any, keys: Tensor) -> Tensor:
        return super().read(state, keys) * 3e38


@pytest.mark.parametrize("memory", [Diverged, Huge])
def test_useless_answers_give_numbers(memory: type) -> None:
    for experiment, setting in ((CHAIN, Chain(chains=2)), (FREE_RECALL, FreeRecall())):
        for name, found in experiment.measure(as_plug(memory), setting, range(4), 0).items():
            assert torch.isfinite(found.values if isinstance(found, Curve) else found).all(), name
