"""The digits axis against scikit-learn's own loader and classifier, and the two anchors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memspec import randomness
from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments.digits import DIGITS, Digits, measure
from memspec.fixtures.data import digits, features
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.protocol import MemorySpec
from memspec.reference import ExactMemory, MatrixAssociativeMemory

SMALL = Digits(stored=(50, 200), held_out=100)


def curve(plug: Plug, metric: str, setting: Digits = SMALL, trials: int = 4) -> np.ndarray:
    frame = DIGITS.run(plug, setting, range(trials))
    return frame[frame.metric == metric].pivot(index="trial", columns="at", values="value").to_numpy()


def declared(**fields: object) -> Plug:
    """An exact memory that declares something else about itself."""
    kind = type("Declared", (ExactMemory,), {"spec": MemorySpec(**fields)})  # type: ignore[arg-type]
    return Plug("Declared", kind)


def test_images_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    ours, named = digits.images()
    np.testing.assert_array_equal(ours.numpy() * 16, pixels.astype(np.float32))
    np.testing.assert_array_equal(named.numpy(), labels)


def test_nearest_neighbour_is_scikit_learns() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    keys, labels = (t.double().numpy() for t in digits.keys("unit", 64))
    observed = curve(load_plug("memspec.reference:NullMemory"), "nearest_neighbour_accuracy")
    for trial in range(4):
        (order,) = randomness.stacked(
            lambda g: (torch.randperm(len(keys), generator=g)[: 200 + 100],), [trial], 0, "digits"
        )
        index = order[0].numpy()
        for column, n in enumerate(SMALL.stored):
            model = KNeighborsClassifier(1).fit(keys[index[:n]], labels[index[:n]])
            assert observed[trial, column] == pytest.approx(model.score(keys[index[200:]], labels[index[200:]]))


def test_anchors() -> None:
    """A dictionary scores exactly 1, a memory of zeros about 0."""
    exact, null = load_plug("memspec.reference:ExactMemory"), load_plug("memspec.reference:NullMemory")
    np.testing.assert_array_equal(curve(exact, "relative_accuracy"), 1.0)
    np.testing.assert_array_equal(curve(exact, "stored_accuracy"), 1.0)
    assert abs(curve(null, "relative_accuracy", trials=16).mean()) < 0.02


def test_correlation_matrix_is_the_class_of_the_largest_sum() -> None:
    """A Hebbian memory names the class whose stored keys have the largest summed inner product with the query."""
    keys, labels = digits.keys("unit", 64)
    (order,) = randomness.stacked(lambda g: (torch.randperm(len(keys), generator=g)[:300],), [0], 0, "digits")
    rows, named = keys[order[0]].double().numpy(), labels[order[0]].numpy()
    observed = curve(Plug("Hebb", MatrixAssociativeMemory), "accuracy", trials=1)[0]
    for column, n in enumerate(SMALL.stored):
        right = 0
        for query, label in zip(rows[200:], named[200:]):
            sums = [sum(query @ k for k, c in zip(rows[:n], named[:n]) if c == digit) for digit in range(10)]
            right += int(np.argmax(sums)) == label
        assert observed[column] == pytest.approx(right / 100)


@pytest.mark.parametrize(
    ("kwargs", "spec"),
    [
        ({"key_dim": 16}, {"exact": True}),
        ({"key_dim": 100, "value_dim": 6}, {"exact": True}),
        ({"value_dim": 64}, {"exact": True, "key_domain": "sign", "value_domain": "sign"}),
        ({}, {"exact": True, "value_domain": "onehot"}),
    ],
    ids=["narrow-keys", "wide-keys-narrow-values", "signs", "onehot-values"],
)
def test_fits_the_memorys_widths_and_domains(kwargs: dict[str, int], spec: dict[str, object]) -> None:
    plug = declared(**spec)
    plug.kwargs.update(kwargs)
    np.testing.assert_array_equal(curve(plug, "stored_accuracy"), 1.0)
    ties = 0.15 if plug.spec.key_domain == "sign" else 0.0  # several stored signs are often equally near
    np.testing.assert_allclose(curve(plug, "relative_accuracy"), 1.0, atol=ties)


@pytest.mark.parametrize("spec", [{"association": "auto"}, {"fidelity": "trained"}, {"key_domain": "onehot"}], ids=str)
def test_not_asked_of_memories_it_means_nothing_for(spec: dict[str, object]) -> None:
    with pytest.raises(NotAsked):
        measure(declared(**spec), SMALL, [0], 0)


def test_says_what_cannot_be_carried_out() -> None:
    narrow = declared(value_domain="onehot")
    narrow.kwargs["value_dim"] = 4
    with pytest.raises(CannotMeasure, match="10 classes"):
        measure(narrow, SMALL, [0], 0)
    coarse = declared(key_domain="sign")
    coarse.kwargs["key_dim"] = 4
    with pytest.raises(CannotMeasure, match="width 4"):
        measure(coarse, SMALL, [0], 0)


@pytest.mark.parametrize("dim", [8, 64, 100])
def test_features_keep_their_geometry(dim: int) -> None:
    """Wider widths keep every angle; narrower ones are a projection; signs estimate the angle."""
    pixels = digits.images()[0][:300]
    rows = features.into(pixels, "unit", dim)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(300))
    if dim >= 64:
        unit = torch.nn.functional.normalize(pixels, dim=-1)
        torch.testing.assert_close(rows @ rows.mT, unit @ unit.mT, atol=1e-5, rtol=0)


def test_label_codes_are_distinct() -> None:
    for domain, dim in (("real", 10), ("unit", 3), ("sign", 4), ("sign", 64), ("onehot", 12)):
        codes = features.label_codes(domain, 10, dim)
        assert codes.shape == (10, dim)
        assert len(codes.unique(dim=0)) == 10
