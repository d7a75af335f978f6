"""The dimension sweeps: widths really change, the fit is sane, the PCA floor is where projection puts it."""

from __future__ import annotations

import pytest
import torch

from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments.dimensions import INTERNAL, SCORES, TOKEN, TOKEN_DIMS, Internal, Token
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.reference import DeltaMemory
from memspec.theory import SMALLEST
from memspec.theory.delta import delta_recall


def test_recall_follows_theory_at_every_width():
    found = TOKEN.measure(load_plug("memspec.reference:DeltaMemory"), Token(), range(16), 0)
    for column, dim in enumerate(TOKEN_DIMS):
        if dim >= SMALLEST:
            mean = found["recall_cosine"].values[:, column].mean().item()
            assert mean == pytest.approx(delta_recall(64, dim, dim), abs=0.05)


def test_fit_orders_memories_as_theory_does():
    """Hebbian memories recall 64 pairs in fewer dimensions than delta memories do (by cosine)."""
    d95 = {}
    for name in ("DeltaMemory", "MatrixAssociativeMemory", "ExactMemory", "NullMemory"):
        found = TOKEN.measure(load_plug(f"memspec.reference:{name}"), Token(), range(8), 0)
        assert (found["d50"] <= found["d95"]).all()
        d95[name] = found["d95"].median().item()
    assert d95["ExactMemory"] < 8 < d95["MatrixAssociativeMemory"] < d95["DeltaMemory"] < 128
    assert d95["NullMemory"] == 512


def test_a_fixed_width_cannot_be_varied():
    plug = Plug("fixed", lambda capacity: DeltaMemory(64, 64))
    with pytest.raises(CannotMeasure, match="key_dim"):
        TOKEN.measure(plug, Token(), range(2), 0)


def test_projection_errs_by_the_pca_floor():
    plug = load_plug("memspec.fixtures.mutants.dimensions:Projected")
    found = INTERNAL.measure(plug, Internal(n=32), range(8), 0)
    errors, floor = found["reconstruction_error"].values.mean(0), found["pca_floor"].values[0]
    assert torch.allclose(errors, floor, atol=0.02)
    assert found["live"].tolist() == [1] * 8


def test_a_dead_knob_is_seen():
    plug = load_plug("memspec.fixtures.mutants.dimensions:DeadInternalDimension")
    assert INTERNAL.measure(plug, Internal(), range(4), 0)["live"].tolist() == [0] * 4


def test_memories_without_an_internal_dimension_are_not_asked():
    with pytest.raises(NotAsked, match="memory_dim"):
        INTERNAL.measure(load_plug("memspec.reference:DeltaMemory"), Internal(), range(2), 0)


def test_anchors_of_the_score():
    (score,) = SCORES
    for name, value in (("NullMemory", score.floor), ("ExactMemory", score.ceiling)):
        found = TOKEN.measure(load_plug(f"memspec.reference:{name}"), Token(), range(2), 0)[score.metric]
        assert found.values.flatten().tolist() == pytest.approx([value] * 2 * len(TOKEN_DIMS), abs=1e-6)
