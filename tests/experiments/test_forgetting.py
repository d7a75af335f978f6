"""The forgetting axis: scores of R on paper, fits against scipy, theory against simulation, published figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit
from torch import Tensor

from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments import continual
from memspec.experiments.base import Curve, Measured
from memspec.experiments.continual import SEQUENCE, TaskSequence
from memspec.experiments.forgetting import OVERWRITE, TWO_TASKS, Overwrite, TwoTasks, near
from memspec.experiments.retention import LONGEST, RETENTION, Writes, age_bins, age_of, fit_decay
from memspec.fixtures.data import pairs
from memspec.plugs.loading import as_plug, load_plug
from memspec.plugs.plug import Plug
from memspec.protocol import MemorySpec
from memspec.reference import DeltaMemory, ExactMemory, MatrixAssociativeMemory, NullMemory
from memspec.theory import band
from memspec.theory.bands import SHOWABLE
from memspec.theory.delta import delta_cosine_by_age, delta_half_life, delta_retention

# ---- the scores of R ------------------------------------------------------------------------------------------

R = torch.tensor([[0.9, 0.1, 0.2], [0.6, 0.8, 0.3], [0.5, 0.9, 0.7]], dtype=torch.float64)
BEFORE = torch.tensor([0.1, 0.2, 0.1], dtype=torch.float64)
IDEAL = torch.tensor(0.8, dtype=torch.float64)


@pytest.mark.parametrize(
    ("score", "by_hand"),
    [
        (continual.average_accuracy(R), (0.5 + 0.9 + 0.7) / 3),
        (continual.backward_transfer(R), ((0.5 - 0.9) + (0.9 - 0.8)) / 2),
        (continual.forward_transfer(R, BEFORE), ((0.1 - 0.2) + (0.3 - 0.1)) / 2),
        (continual.forgetting_max(R), ((0.9 - 0.5) + (0.8 - 0.9)) / 2),
        (continual.forgetting_first(R), ((0.9 - 0.5) + (0.8 - 0.9)) / 2),
        (continual.omega_base(R, IDEAL), (0.6 + 0.5) / 2 / 0.8),
        (continual.omega_new(R), (0.8 + 0.7) / 2),
        (continual.omega_all(R, IDEAL), ((0.6 + 0.8) / 2 + (0.5 + 0.9 + 0.7) / 3) / 2 / 0.8),
    ],
    ids=["acc", "bwt", "fwt", "max", "first", "base", "new", "all"],
)
def test_scores_of_r_on_paper(score: Tensor, by_hand: float) -> None:
    assert float(score) == pytest.approx(by_hand, abs=1e-12)


def test_the_two_conventions_of_forgetting_differ_where_a_task_gets_better_first() -> None:
    r = torch.tensor([[0.5, 0.0, 0.0], [0.8, 0.5, 0.0], [0.4, 0.5, 0.5]])
    assert float(continual.forgetting_max(r)) == pytest.approx((0.8 - 0.4) / 2)
    assert float(continual.forgetting_first(r)) == pytest.approx((0.5 - 0.4) / 2)


def test_scores_of_r_take_leading_dimensions() -> None:
    stacked = torch.stack([R, R.flip(-1)])
    for score in (continual.average_accuracy, continual.backward_transfer, continual.forgetting_max):
        assert score(stacked)[0] == score(R)
        assert score(stacked)[1] == score(R.flip(-1))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 1)])
def test_what_is_no_r_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least two tasks"):
        continual.average_accuracy(torch.zeros(shape))


# ---- fits -----------------------------------------------------------------------------------------------------

AGES = np.arange(100, dtype=np.float64)


@pytest.mark.parametrize("tau", [3.0, 20.0, 80.0])
def test_exponential_fit_agrees_with_scipy(tau: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, AGES.size)
    y = 0.8 * np.exp(-AGES / tau) + noise
    found = fit_decay(AGES, y[None])
    (g0, fitted), _ = curve_fit(lambda a, g, t: g * np.exp(-a / t), AGES, y, p0=(1.0, 10.0))
    assert found.exponential[0]
    assert found.start[0] == pytest.approx(g0, rel=0.01)
    assert found.half_life[0] == pytest.approx(fitted * np.log(2), rel=0.02)


@pytest.mark.parametrize("b", [0.3, 1.0])
def test_power_law_fit_agrees_with_scipy(b: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, AGES.size)
    y = 0.9 * (1 + AGES) ** -b + noise
    found = fit_decay(AGES, y[None])
    (g0, fitted), _ = curve_fit(lambda a, g, x: g * (1 + a) ** -x, AGES, y, p0=(1.0, 0.5))
    assert not found.exponential[0]
    assert found.start[0] == pytest.approx(g0, rel=0.01)
    assert found.half_life[0] == pytest.approx(2 ** (1 / fitted) - 1, rel=0.05)


@pytest.mark.parametrize(
    ("values", "half_life"),
    [
        (np.zeros(100), 0.0),
        (-np.ones(100), 0.0),
        (np.ones(100), np.inf),
        (np.linspace(0.1, 1.0, 100), np.inf),
        (np.where(np.arange(100) % 2, 1.0, -1.0), 0.0),
    ],
    ids=["nothing", "below-zero", "flat", "rising", "noise"],
)
def test_fit_of_curves_that_do_not_decay_is_a_number(values: np.ndarray, half_life: float) -> None:
    assert fit_decay(AGES, values[None]).half_life[0] == half_life


def test_fit_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        fit_decay(AGES, np.full((1, 100), np.nan))


@pytest.mark.parametrize("writes", [1, 2, 8, 100, 128])
def test_age_bins_cover_every_age_once(writes: int) -> None:
    bins = age_bins(writes)
    assert [age for ages in bins for age in ages] == list(range(writes))
    assert len({age_of(ages) for ages in bins}) == len(bins)


# ---- figures --------------------------------------------------------------------------------------------------


def means(measured: Measured) -> dict[str, float]:
    return {name: float(x.mean()) for name, x in measured.items() if isinstance(x, Tensor)}


def curve(measured: Measured, name: str) -> np.ndarray:
    found = measured[name]
    assert isinstance(found, Curve)
    return found.values.mean(0).numpy()


@pytest.mark.parametrize(
    ("memory", "accuracy", "cosine"),
    [(MatrixAssociativeMemory, 0.014, 0.134), (DeltaMemory, 0.562, 0.421)],
    ids=["hebb", "delta"],
)
def test_published_forgetting_at_64_pairs(memory: type, accuracy: float, cosine: float) -> None:
    """The figures of docs: forgetting of A by B, 64 random pairs each in 64 dimensions."""
    found = means(TWO_TASKS.measure(as_plug(memory), TwoTasks(n=64), range(64), 0))
    assert found["forgetting"] == pytest.approx(accuracy, abs=0.03)
    assert found["forgetting_similarity"] == pytest.approx(cosine, abs=0.02)


@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("dim", [32, 64])
def test_delta_forgets_as_predicted(beta: float, dim: int) -> None:
    plug = Plug("delta", DeltaMemory, {"beta": beta})
    setting = Writes(key_dim=dim, value_dim=dim)
    found = RETENTION.measure(plug, setting, range(64), 0)
    predicted = [delta_retention(np.array(list(ages)), dim, beta).mean() for ages in age_bins(128)]
    assert curve(found, "gain") == pytest.approx(np.array(predicted), abs=0.05)
    assert float(found["half_life"].median()) == pytest.approx(delta_half_life(dim, beta), rel=0.1)
    cosine = means(TWO_TASKS.measure(plug, TwoTasks(n=dim, key_dim=dim, value_dim=dim), range(64), 0))["a2_similarity"]
    assert cosine == pytest.approx(delta_cosine_by_age(2 * dim, dim, beta)[dim:].mean(), abs=0.03)


def test_hebbian_keeps_every_age_alike() -> None:
    found = RETENTION.measure(as_plug(MatrixAssociativeMemory), Writes(), range(64), 0)
    assert curve(found, "gain") == pytest.approx(1.0, abs=0.08)
    assert float(found["half_life"].median()) == LONGEST * 128


class Fifo:
    """A plain first-in first-out list, nothing shared with the references."""

    spec = MemorySpec(family="cache", eviction="fifo")

    def __init__(self, key_dim: int, value_dim: int, capacity: int) -> None:
        self.value_dim, self.capacity = value_dim, capacity
        self.reset()

    def reset(self) -> None:
        self.rows: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor) -> None:
        self.rows = (self.rows + list(zip(keys, values)))[-self.capacity :]

    def query(self, keys: Tensor) -> Tensor:
        if not self.rows:
            return torch.zeros(len(keys), self.value_dim)
        stored, values = map(torch.stack, zip(*self.rows))
        return values[(keys @ stored.mT).argmax(-1)]


def test_fifo_retains_the_newest_and_the_band_says_so() -> None:
    plug, setting = as_plug(Fifo), Writes(capacity=64)
    recall = RETENTION.measure(plug, setting, range(4), 0)["recall"]
    assert isinstance(recall, Curve)
    assert recall.values[:, :-1].min() == 1
    assert recall.values[:, -1].max() == 0
    young, old = (band(plug, RETENTION.name, setting, "recall", at) for at in (recall.at[-2], recall.at[-1]))
    assert young is not None
    assert old is not None
    assert young.at_least == SHOWABLE
    assert old.at_most == 1 - SHOWABLE


# ---- the experiments ------------------------------------------------------------------------------------------


def test_dictionary_generalises_forgets_nothing_and_answers_the_newest() -> None:
    plug = as_plug(ExactMemory)
    two = means(TWO_TASKS.measure(plug, TwoTasks(n=8, kind="clusters"), range(16), 0))
    assert two["a2"] == two["b"] == two["a2_train"] == two["b_among_both_train"] == 1
    assert means(OVERWRITE.measure(plug, Overwrite(), range(16), 0)) == {"newest": 1, "stale": 0}
    many = means(SEQUENCE.measure(plug, TaskSequence(), range(16), 0))
    assert many["acc"] == many["ideal"] == many["omega_base"] == many["omega_all"] == 1
    assert many["bwt"] == many["forgetting_max"] == 0


def test_silence_is_chance_everywhere() -> None:
    plug = as_plug(NullMemory)
    for kind in ("random", "clusters"):
        two = means(TWO_TASKS.measure(plug, TwoTasks(n=8, kind=kind), range(512), 0))
        assert two["a1"] == two["a2"] == two["b"] == 1 / 8
        assert two["b_among_both"] == pytest.approx(1 / 16, abs=0.03)
    retention = RETENTION.measure(plug, Writes(), range(128), 0)
    assert curve(retention, "recall") == pytest.approx(1 / 128, abs=0.03)
    assert retention["half_life"].max() == 0  # type: ignore[union-attr]
    many = means(SEQUENCE.measure(plug, TaskSequence(), range(16), 0))
    assert many["acc"] == 1 / 12
    assert many["fwt"] == 0
    assert many["unseen"] == pytest.approx(0, abs=1e-6)


class Diverged(Fifo):
    """Answers NaN once something is stored."""

    spec = MemorySpec()

    def query(self, keys: Tensor) -> Tensor:
        return torch.full((len(keys), self.value_dim), float("nan") if self.rows else 0.0)


def test_nan_answers_are_wrong_answers_not_nan_scores() -> None:
    plug = as_plug(Diverged)
    for experiment, setting in (
        (TWO_TASKS, TwoTasks(n=8, kind="clusters")),
        (OVERWRITE, Overwrite()),
        (RETENTION, Writes()),
        (SEQUENCE, TaskSequence()),
    ):
        for name, found in experiment.measure(plug, setting, range(2), 0).items():
            assert torch.isfinite(found.values if isinstance(found, Curve) else found).all(), name


def labels(domain: str, association: str = "hetero") -> Plug:
    class Labelled(Fifo):
        spec = MemorySpec(key_domain=domain, value_domain=domain, association=association)  # type: ignore[arg-type]

    return as_plug(Labelled)


@pytest.mark.parametrize("domain", ["unit", "sign", "onehot"])
def test_every_domain_is_measured_or_says_why_not(domain: str) -> None:
    plug = labels(domain)
    assert means(TWO_TASKS.measure(plug, TwoTasks(), range(2), 0))["b"] == 1
    assert means(OVERWRITE.measure(plug, Overwrite(), range(2), 0))["stale"] == 1
    assert means(SEQUENCE.measure(plug, TaskSequence(), range(2), 0))["acc"] == 1
    if domain == "onehot":
        with pytest.raises(CannotMeasure, match="one-hot keys have no neighbours"):
            TWO_TASKS.measure(plug, TwoTasks(kind="clusters", n=4), range(2), 0)
        with pytest.raises(CannotMeasure, match="64 one-hot ones"):
            RETENTION.measure(plug, Writes(), range(2), 0)
    else:
        assert means(TWO_TASKS.measure(plug, TwoTasks(kind="clusters", n=4), range(2), 0))["b"] == 1


def test_autoassociative_memories_are_not_asked_what_makes_no_sense() -> None:
    plug = labels("sign", "auto")
    assert means(TWO_TASKS.measure(plug, TwoTasks(), range(2), 0))["b"] == 1
    for experiment, setting in ((TWO_TASKS, TwoTasks(kind="clusters")), (OVERWRITE, Overwrite())):
        with pytest.raises(NotAsked, match="recalls the key itself"):
            experiment.measure(plug, setting, range(2), 0)


@pytest.mark.parametrize("domain", ["unit", "sign"])
def test_members_of_a_cluster_have_the_stated_cosine_with_its_centre(domain: str) -> None:
    g = torch.Generator().manual_seed(0)
    centres = pairs.keys(domain, 400, 256, g)
    cosines = torch.cosine_similarity(centres, near(domain, centres, 0.5, g))
    assert float(cosines.mean()) == pytest.approx(1 / 1.25**0.5, abs=0.01)


def test_a_softmax_store_is_held_to_its_first_task_only_if_both_fit() -> None:
    setting = TwoTasks()
    for capacity, held in ((setting.stored - 1, False), (setting.stored, True)):
        plug = load_plug(f"memspec.reference:SoftmaxMemory(capacity={capacity})")
        assert (band(plug, TWO_TASKS.name, setting, "a2_similarity") is not None) is held
