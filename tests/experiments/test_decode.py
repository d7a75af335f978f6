"""The decoders against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from memspec.experiments import decode
from memspec.functional import all_finite


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("decoder", ["cosine", "euclidean"])
def test_nearest_and_recalled(decoder: str, generator: torch.Generator) -> None:
    """Every answer is compared with every candidate; equal candidates count as the same label."""
    candidates = torch.randn(3, 7, 4, generator=generator)
    candidates[:, 5] = candidates[:, 2]
    answers = candidates + 0.7 * torch.randn(3, 7, 4, generator=generator)
    answers[1, 0, 0], answers[2, 3, 1] = float("nan"), float("inf")
    targets = torch.tensor([0, 1, 2, 3, 4, 5, 6])
    found = decode.nearest(answers, candidates, decoder)
    right = decode.recalled(answers, candidates, targets, decoder)
    for trial in range(3):
        for row in range(7):
            answer, rows = answers[trial, row].double().numpy(), candidates[trial].double().numpy()
            if not np.isfinite(answer).all():
                assert found[trial, row] == -1
                assert not right[trial, row]
                continue
            if decoder == "cosine":
                best = int(np.argmax([answer @ c / math.sqrt(c @ c) for c in rows]))
            else:
                best = int(np.argmin([((answer - c) ** 2).sum() for c in rows]))
            assert found[trial, row] == best
            assert right[trial, row] == bool((rows[best] == rows[row]).all())


def test_cosine_of_what_is_not_finite_is_zero() -> None:
    answers = torch.tensor([[[1.0, 0.0], [float("nan"), 1.0], [0.0, 0.0], [3e38, 3e38]]])
    values = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]])
    assert decode.cosine(answers, values)[0, :3].tolist() == pytest.approx([math.sqrt(0.5), 0, 0])


@pytest.mark.parametrize("count", [1, 5, 80])
def test_chance_counts_equal_candidates(count: int, generator: torch.Generator) -> None:
    """The mean, over the candidate that is always named, of the share of targets that equal it."""
    labels = torch.randint(0, 4, (3, count), generator=generator)
    expected = np.mean([[np.mean([a == b for b in row]) for a in row] for row in labels.tolist()])
    assert decode.chance(torch.eye(4)[labels]) == pytest.approx(expected)
    assert decode.chance(torch.randn(3, count, 6, generator=generator)) == pytest.approx(1 / count)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_all_finite(dtype: torch.dtype) -> None:
    """Huge finite numbers, whose sum overflows, are finite; one NaN or infinity among them is not."""
    rows = torch.full((50, 3), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite(rows)
    assert all_finite(-rows)
    assert all_finite(rows[:0])
    for bad in (float("nan"), float("inf"), -float("inf")):
        for others in (rows, torch.zeros_like(rows)):
            spoilt = others.clone()
            spoilt[17, 1] = bad
            assert not all_finite(spoilt)
    both = rows.clone()
    both[0, 0], both[1, 1] = float("inf"), -float("inf")
    assert not all_finite(both)
