"""Selectivity: its statistics against scikit-learn and hand-worked cases, its theory against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score
from torch import Tensor

from memspec.errors import CannotMeasure, MemspecError, NotAsked
from memspec.experiments import selectivity as axis
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.reference import ExactMemory
from memspec.theory.delta import delta_loudness
from memspec.theory.hebbian import hebbian_loudness
from memspec.theory.least_squares import least_squares_loudness

# ---- statistics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [3, 1000])
def test_auroc_is_scikit_learns(levels: int) -> None:
    """With few levels most comparisons are ties."""
    rng = np.random.default_rng(levels)
    positive, negative = rng.integers(0, levels, (20, 13)) + 1, rng.integers(0, levels, (20, 9))
    got = axis.auroc(torch.as_tensor(positive).double(), torch.as_tensor(negative).double())
    truth = np.array([1] * 13 + [0] * 9)
    expected = [roc_auc_score(truth, np.concatenate(row)) for row in zip(positive, negative)]
    assert got.numpy() == pytest.approx(expected, abs=1e-12)


def test_auroc_by_hand() -> None:
    stored = torch.tensor([[2.0, 3.0], [1.0, 1.0], [0.0, 1.0], [math.inf, -math.inf]])
    foils = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0], [0.0, 0.0]])
    assert axis.auroc(stored, foils).tolist() == [1.0, 0.5, 0.0, 0.5]


def test_false_recall_by_hand() -> None:
    stored = torch.arange(1.0, 21.0)[None]  # 95% of twenty are accepted from 2 upwards
    assert axis.false_recall(stored, torch.tensor([[0.0, 1.0, 2.0, 3.0]])).tolist() == [0.5]
    assert axis.false_recall(torch.ones(1, 4), torch.ones(1, 4)).tolist() == [1.0]


def test_brier_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    confidence, right = rng.random((10, 30)), rng.random((10, 30)) < 0.6
    got = axis.brier(torch.as_tensor(confidence), torch.as_tensor(right))
    assert got.numpy() == pytest.approx([brier_score_loss(r, c) for r, c in zip(right, confidence)], abs=1e-12)


def looped_ece(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    order = np.argsort(-confidence, kind="stable")
    parts = np.array_split(order, bins)
    return sum(len(p) / len(order) * abs(right[p].mean() - confidence[p].mean()) for p in parts)


def test_ece_against_loops() -> None:
    rng = np.random.default_rng(1)
    confidence, right = rng.random((8, 100)), rng.random((8, 100)) < 0.5
    got = axis.calibration_error(torch.as_tensor(confidence), torch.as_tensor(right))
    assert got.numpy() == pytest.approx([looped_ece(c, r, 15) for c, r in zip(confidence, right)], abs=1e-12)


def test_ece_does_not_depend_on_the_order_of_ties() -> None:
    confidence = torch.full((1, 40), 0.5)
    right = (torch.arange(40) < 20)[None]
    assert axis.calibration_error(confidence, right).item() == pytest.approx(0, abs=1e-12)
    assert axis.calibration_error(confidence + 0.3, right).item() == pytest.approx(0.3, abs=1e-6)


def test_selective_accuracy_by_hand() -> None:
    confidence = torch.tensor([[0.2, 0.9, 0.5, 0.5]])
    right = torch.tensor([[False, True, True, False]])
    assert axis.selective_accuracy(confidence, right)[0].tolist() == pytest.approx([1, 0.75, 2 / 3, 0.5])
    assert axis.aurc(confidence, right).item() == pytest.approx(1 - (1 + 0.75 + 2 / 3 + 0.5) / 4)
    assert axis.excess_aurc(confidence, right).item() == pytest.approx(
        (1 + 1 + 2 / 3 + 0.5 - 1 - 0.75 - 2 / 3 - 0.5) / 4
    )


def test_a_perfect_ranking_has_no_excess_and_a_constant_one_the_error_rate() -> None:
    right = torch.rand(5, 50, generator=torch.Generator().manual_seed(0)) < 0.4
    assert axis.excess_aurc(right.double() * 0.3 + 0.1, right).abs().max() < 1e-12
    constant = axis.aurc(torch.full((5, 50), 0.7), right)
    assert constant.numpy() == pytest.approx(1 - right.double().mean(-1).numpy())


def test_coverage_at_accuracy_by_hand() -> None:
    confidence = torch.linspace(1, 0, 20)[None].expand(3, -1)
    right = torch.ones(3, 20, dtype=torch.bool)
    right[1, 10:] = False
    right[2] = False
    assert axis.coverage_at(confidence, right, 0.95).tolist() == pytest.approx([1.0, 0.5, 0.0])


# ---- theory ---------------------------------------------------------------------------------------------------


LOUDNESS = {"hebbian": hebbian_loudness, "delta": delta_loudness, "least_squares": least_squares_loudness}


@pytest.mark.parametrize("family", list(LOUDNESS))
@pytest.mark.parametrize(("d", "n", "off"), [(16, 4, 0.035), (64, 16, 0.01), (64, 28, 0.03)])
def test_loudness_is_predicted(family: str, d: int, n: int, off: float) -> None:
    rng, dv = np.random.default_rng(n), d
    found = []
    for _ in range(300):
        k = rng.normal(size=(2 * n, d))
        k /= np.linalg.norm(k, axis=1, keepdims=True)
        v = rng.normal(size=(n, dv))
        matrix = np.zeros((d, dv))
        if family == "hebbian":
            matrix = k[:n].T @ v
        elif family == "least_squares":
            matrix = np.linalg.pinv(k[:n]) @ v
        else:
            for key, value in zip(k[:n], v):
                matrix += np.outer(key, value - key @ matrix)
        norms = np.linalg.norm(k @ matrix, axis=1)
        found.append((norms[:n, None] > norms[None, n:]).mean())
    predicted = LOUDNESS[family](n, d, dv)
    assert predicted == pytest.approx(float(np.mean(found)), abs=off)


# ---- the experiments ------------------------------------------------------------------------------------------


def test_dictionary_knows_what_it_holds() -> None:
    plug = load_plug("memspec.reference:ExactMemory")
    found = axis.FOILS.measure(plug, axis.Foils(), range(8), 0)
    assert found["confidence_auroc"].tolist() == [1.0] * 8  # type: ignore[union-attr]
    assert found["norm_auroc"].mean() == pytest.approx(0.5, abs=0.1)  # type: ignore[union-attr]
    calibrated = axis.CALIBRATION.measure(plug, axis.Foils(), range(8), 0)
    curve = calibrated["accuracy_at_coverage"].values  # type: ignore[union-attr]
    assert torch.equal(curve[:, -1], calibrated["accuracy"])  # type: ignore[arg-type]
    assert (curve[:, 0] == 1).all()


def test_not_confident_is_not_asked() -> None:
    with pytest.raises(NotAsked, match="Confident"):
        axis.CALIBRATION.measure(load_plug("memspec.reference:DeltaMemory"), axis.Foils(), range(1), 0)


class Loud(ExactMemory):
    def confidence(self, keys: Tensor) -> Tensor:
        return super().confidence(keys) + 1


def test_confidence_out_of_range_is_named() -> None:
    with pytest.raises(MemspecError, match=r"answered 2; it must lie in \[0, 1\]"):
        axis.FOILS.measure(Plug("Loud", Loud), axis.Foils(), range(1), 0)


def test_answers_that_are_not_finite_count_against_the_memory() -> None:
    class Broken(ExactMemory):
        confidence = None  # type: ignore[assignment]

        def read(self, state: object, keys: Tensor) -> Tensor:
            return torch.full((*keys.shape[:-1], self.value_dim), math.nan)

    found = axis.FOILS.measure(Plug("Broken", Broken), axis.Foils(), range(2), 0)
    assert found["norm_auroc"].tolist() == [0.0, 0.0]  # type: ignore[union-attr]


def test_too_small_for_foils() -> None:
    plug = Plug("narrow", ExactMemory, {"key_dim": 4})
    with pytest.raises(CannotMeasure, match="too few"):
        axis.FOILS.measure(plug, axis.Foils(), range(1), 0)
