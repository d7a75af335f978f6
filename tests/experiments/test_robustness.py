"""Robustness: its cues and statistics against independent loops, its theory against simulation in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memspec import MemorySpec
from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments import robustness as axis
from memspec.fixtures.data import pairs
from memspec.plugs.loading import as_plug, load_plug
from memspec.theory import band
from memspec.theory.cache import knn_noisy_recall, nearest_recall
from memspec.theory.delta import delta_cue_recall
from memspec.theory.hebbian import correlated_hebbian_recall, distracted_hebbian_recall, hebbian_cue_recall
from memspec.theory.least_squares import least_squares_cue_recall
from memspec.theory.numerics import noisy_cosine, partial_cosine

Rows = NDArray[np.float64]

# ---- cues -----------------------------------------------------------------------------------------------------


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_no_noise_is_the_key_itself() -> None:
    keys = pairs.keys("unit", 5, 16, generator())
    assert torch.equal(axis.noisy(keys, torch.zeros(5, 16), 0.0, "unit"), keys)


def test_noise_has_the_stated_size() -> None:
    keys = pairs.keys("unit", 4000, 64, generator())
    directions = pairs.unit(torch.randn(4000, 64, generator=generator().manual_seed(4)))
    cosines = (axis.noisy(keys, directions, 2.0, "real") * keys).sum(-1)
    assert cosines.mean() == pytest.approx(1 / math.sqrt(5), abs=0.01)


def test_sign_noise_flips_by_the_normal_tail() -> None:
    keys = pairs.keys("sign", 4000, 64, generator())
    directions = pairs.unit(torch.randn(4000, 64, generator=generator().manual_seed(4)))
    cues = axis.noisy(keys, directions, 1.0, "sign")
    assert set(cues.unique().tolist()) == {-1.0, 1.0}
    assert (cues != keys).float().mean() == pytest.approx(0.1587, abs=0.01)  # Phi(-1)


def test_onehot_noise_stays_onehot() -> None:
    keys = pairs.keys("onehot", 8, 8, generator())
    cues = axis.noisy(keys, pairs.unit(torch.randn(8, 8, generator=generator())), 4.0, "onehot")
    assert torch.equal(cues.sum(-1), torch.ones(8))
    assert torch.equal(cues.amax(-1), torch.ones(8))


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.9])
def test_partial_erases_the_stated_share(rho: float) -> None:
    keys = pairs.keys("unit", 50, 64, generator())
    draws = torch.rand(50, 64, generator=generator())
    cut = axis.partial(keys, draws, rho, "real")
    assert ((cut == 0).sum(-1) == round(64 * rho)).all()
    assert ((cut == 0) | (cut == keys)).all()
    assert axis.partial(keys, draws, rho, "unit").norm(dim=-1) == pytest.approx(np.ones(50), abs=1e-6)


def test_partial_sign_entries_become_coins() -> None:
    keys = pairs.keys("sign", 2000, 64, generator())
    cut = axis.partial(keys, torch.rand(2000, 64, generator=generator()), 0.5, "sign")
    assert (cut != keys).float().mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("domain", ["real", "sign"])
def test_correlated_keys_have_the_stated_cosine(domain: str) -> None:
    drawn = torch.randn(200, 33, 256, generator=generator())
    keys = pairs.unit(axis.correlated(drawn[:, :1], drawn[:, 1:], 0.3, domain))
    gram = keys @ keys.mT
    assert gram[:, 0, 1:].mean() == pytest.approx(0.3, abs=0.01)


# ---- statistics -----------------------------------------------------------------------------------------------


def test_discrimination_against_loops() -> None:
    g = generator()
    answers, values = torch.randn(3, 5, 4, generator=g), torch.randn(3, 7, 4, generator=g)
    targets = torch.tensor([0, 3, 6, 2, 2])
    got = axis.discrimination(answers, values, targets)
    for t in range(3):
        for q in range(5):
            answer = answers[t, q].numpy()
            cosine = [float(np.dot(answer, v) / np.linalg.norm(v)) for v in values[t].numpy()]
            own = cosine[int(targets[q])]
            wins = [1.0 if own > c else 0.0 for j, c in enumerate(cosine) if j != targets[q]]
            assert float(got[t, q]) == pytest.approx(np.mean(wins))


def test_discrimination_of_silence_is_a_guess_and_of_nan_a_loss() -> None:
    values = torch.randn(1, 6, 4, generator=generator())
    answers = torch.zeros(1, 2, 4)
    answers[0, 1, 0] = math.nan
    assert axis.discrimination(answers, values, torch.tensor([0, 1])).tolist() == [[0.5, 0.0]]


def test_crossing() -> None:
    at = (0.0, 1.0, 2.0, 4.0)
    curves = torch.tensor(
        [[1.0, 0.75, 0.25, 0.0], [1.0, 1.0, 1.0, 0.6], [0.4, 0.3, 0.9, 0.1], [1.0, 0.5, 0.0, 0.0]], dtype=torch.float64
    )
    assert axis.crossing(curves, at).tolist() == [1.5, 4.0, 0.0, 1.0]


# ---- theory against simulation --------------------------------------------------------------------------------

D, N, TRIALS = 64, 32, 120


def unit(rows: Rows) -> Rows:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def simulated(family: str, cue: str, level: float, dim: int = D, n: int = N, rho: float = 0.0) -> float:
    """Recall by a memory written out in numpy, one trial after the other."""
    rng = np.random.default_rng(0)
    right = []
    for _ in range(TRIALS):
        k = unit(
            math.sqrt(rho) * unit(rng.normal(size=(1, dim))) + math.sqrt(1 - rho) * unit(rng.normal(size=(n, dim)))
        )
        v = rng.normal(size=(n, dim))
        q = k.copy()
        if cue == "noise":
            q = unit(k + level * unit(rng.normal(size=k.shape)))
        elif cue == "partial":
            for row in q:
                row[rng.permutation(dim)[: round(level * dim)]] = 0
        if family == "cache":
            answers = v[(q @ k.T).argmax(1)]
        elif family == "hebbian":
            answers = q @ (k.T @ v)
        elif family == "least_squares":
            answers = q @ (np.linalg.pinv(k) @ v)
        else:
            matrix = np.zeros((dim, dim))
            for key, value in zip(k, v):
                matrix += np.outer(key, value - key @ matrix)
            answers = q @ matrix
        right.append((answers @ unit(v).T).argmax(1) == np.arange(n))
    return float(np.mean(right))


def predicted(family: str, cue: str, level: float) -> float:
    if cue == "noise":
        t, chances = noisy_cosine(D, level)
    else:
        t, chances = partial_cosine(D, D - round(level * D))
    if family == "cache":
        return nearest_recall(N, D, t, chances)
    if family == "hebbian":
        return hebbian_cue_recall(N, D, D, t, chances)
    if family == "delta":
        return delta_cue_recall(N, D, D, 1.0, t, chances)
    found = least_squares_cue_recall(N, D, D, t, chances)
    assert found is not None
    return found


@pytest.mark.parametrize("family", ["cache", "hebbian", "delta", "least_squares"])
@pytest.mark.parametrize(("cue", "level"), [("noise", 0.5), ("noise", 2.0), ("partial", 0.25), ("partial", 0.75)])
def test_recall_from_degraded_cues_is_predicted(family: str, cue: str, level: float) -> None:
    assert predicted(family, cue, level) == pytest.approx(simulated(family, cue, level), abs=0.03)


@pytest.mark.parametrize("rho", [0.1, 0.3, 0.5])
def test_hebbian_recall_of_correlated_keys_is_predicted(rho: float) -> None:
    found = correlated_hebbian_recall(N, D, D, rho)
    assert found == pytest.approx(simulated("hebbian", "none", 0, rho=rho), abs=0.03)


def test_hebbian_recall_among_distractors_is_predicted() -> None:
    rng = np.random.default_rng(1)
    right = []
    for _ in range(200):
        k, v = unit(rng.normal(size=(90, 24))), rng.normal(size=(90, 24))
        weight = np.where(np.arange(90) < 10, 2.0, 1.0)[:, None]
        answers = k[:10] @ (k.T @ (weight * v))
        right.append((answers @ unit(v).T).argmax(1) == np.arange(10))
    found = distracted_hebbian_recall(10, 2, 80, 24, 24)
    assert found == pytest.approx(float(np.mean(right)), abs=0.03)


def test_nearest_recall_agrees_with_the_exact_integral() -> None:
    for sigma in axis.SIGMAS:
        t, chances = noisy_cosine(D, sigma)
        exact = knn_noisy_recall(N, D, sigma)
        assert nearest_recall(N, D, t, chances) == pytest.approx(exact, abs=0.01)


# ---- the experiments ------------------------------------------------------------------------------------------


def test_score_ceiling_is_the_closed_form() -> None:
    (score,) = axis.SCORES
    exact = np.mean([knn_noisy_recall(32, 64, sigma) for sigma in axis.SIGMAS])
    assert score.ceiling == pytest.approx(exact, abs=1e-4)


def test_published_figures_for_correlated_keys() -> None:
    """Hebbian 1, 1, .79, .27 and nearest neighbour 1 throughout at rho 0, .1, .3, .5, d = 64, N = 32."""
    for name, figures in (("MatrixAssociativeMemory", (1, 1, 0.79, 0.27)), ("ExactMemory", (1, 1, 1, 1))):
        measured = axis.CORRELATED.measure(load_plug(f"memspec.reference:{name}"), axis.Cues(), range(64), 0)
        assert measured["recall"].values.mean(0)[:4] == pytest.approx(np.array(figures), abs=0.03)  # type: ignore[union-attr]


def test_distractor_fractions() -> None:
    counts = [axis.distractor_count(axis.Distractors(), f) for f in axis.FRACTIONS]
    assert [m / (m + 20) for m in counts] == pytest.approx(axis.FRACTIONS, abs=0.02)


class Domains:
    """A dictionary over declared domains, in plain Python."""

    spec = MemorySpec(key_domain="onehot", value_domain="sign")

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.value_dim, self.pairs = value_dim, []  # type: ignore[var-annotated]

    def reset(self) -> None:
        self.pairs = []

    def update(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.pairs += list(zip(keys, values))

    def query(self, keys: torch.Tensor) -> torch.Tensor:
        return torch.stack([min(self.pairs, key=lambda p: float((p[0] - q).norm()))[1] for q in keys])


class AutoOnly(Domains):
    spec = MemorySpec(key_domain="sign", value_domain="sign", association="auto")


def test_what_cannot_be_measured_says_so() -> None:
    onehot, auto = as_plug(Domains), as_plug(AutoOnly)
    with pytest.raises(CannotMeasure, match="one-hot"):
        axis.CUE.measure(onehot, axis.Cues(), range(1), 0)
    with pytest.raises(CannotMeasure, match="never correlated"):
        axis.CORRELATED.measure(onehot, axis.Cues(), range(1), 0)
    with pytest.raises(CannotMeasure, match="onehot keys and sign values"):
        axis.ASSOCIATION.measure(onehot, axis.Association(kind="auto"), range(1), 0)
    with pytest.raises(NotAsked, match="association='auto'"):
        axis.ASSOCIATION.measure(auto, axis.Association(), range(1), 0)


def test_autoassociative_memories_are_driven_so_everywhere() -> None:
    auto, few = as_plug(AutoOnly), axis.Cues(n=6, key_dim=32, value_dim=32)
    for experiment in (axis.NOISE, axis.CUE, axis.CORRELATED):
        assert experiment.measure(auto, few, range(2), 0)["recall"].values[:, 0].tolist() == [1, 1]  # type: ignore[union-attr]
    found = axis.ASSOCIATION.measure(auto, axis.Association(kind="auto", n=6, key_dim=32), range(2), 0)
    assert float(found["completion"].mean()) > 0.05  # type: ignore[union-attr]


def test_bands_are_silent_where_the_formulas_do_not_hold() -> None:
    exact, capped = load_plug("memspec.reference:ExactMemory"), as_plug(AutoOnly)
    assert band(exact, axis.NOISE.name, axis.Cues(key_dim=8, value_dim=8), "recall", 0.5) is None
    assert band(exact, axis.NOISE.name, axis.Cues(), "discrimination", 0.5) is None
    assert band(capped, axis.NOISE.name, axis.Cues(), "recall", 0.5) is None
    for capacity, held in ((16, False), (32, True)):  # of 32 pairs
        plug = load_plug(f"memspec.reference:CachedMemory(capacity={capacity})")
        assert (band(plug, axis.NOISE.name, axis.Cues(), "recall", 0.5) is not None) is held
