"""MemoryAnalyzer against plain sums, MemoryVisualizer by what its figures hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from memspec.analysis import MemoryAnalyzer, MemoryVisualizer
from memspec.plugs.loading import load_plug

ANALYZER = MemoryAnalyzer()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_efficiency_is_that_of_counted_use() -> None:
    """Four slots, used 2, 1, 1 and 0 times; of several moments the last counts."""
    came = ANALYZER.memory_efficiency(torch.tensor([[9.0, 9, 9, 9], [2, 1, 1, 0]]))
    entropy = 1.5 * math.log(2)
    assert came["entropy"] == pytest.approx(entropy / math.log(4))
    assert came["perplexity"] == pytest.approx(math.exp(entropy) / 4)
    assert came["dead"] == 0.25
    even = ANALYZER.memory_efficiency(torch.ones(5))
    assert (even["entropy"], even["dead"], even["gini"]) == pytest.approx((1, 0, 0))


@pytest.mark.parametrize(("usage", "message"), [([1.0, -1], "negative"), ([1.0, math.nan], "NaN")])
def test_usage_that_is_none(usage: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ANALYZER.memory_efficiency(torch.tensor(usage))


def test_stability_is_what_moved_over_what_was_held() -> None:
    contents = drawn(4, 3, 5)
    contents[2] = contents[1]
    contents[3, :2] = contents[2, :2]
    came = ANALYZER.memory_stability(list(contents))
    rows = contents.double().numpy()
    want = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in itertools.pairwise(rows)]
    assert came["change"].tolist() == pytest.approx(want)
    assert came["slots"].tolist() == pytest.approx([1, 0, 1 / 3])
    assert came.index.tolist() == [1, 2, 3]


def test_retrieval_is_decoded_both_ways() -> None:
    """The second answer points to its own value, but lies nearer to another."""
    candidates = torch.tensor([[1.0, 0], [0, 4]])
    answers = torch.tensor([[2.0, 0.1], [0, 0.5]])
    came = ANALYZER.retrieval_accuracy(answers, candidates, torch.tensor([0, 1]))
    assert came["cosine"] == 1
    assert came["euclidean"] == 0.5
    assert came["chance"] == 0.5
    assert came["similarity"] == pytest.approx((2 / math.hypot(2, 0.1) + 1) / 2)


def test_dynamics() -> None:
    contents = drawn(3, 4, 2)
    came = ANALYZER.memory_dynamics(contents, [{"type": "write"}, {"type": "read"}, {"type": "write"}, {}])
    rows = contents.double().numpy()
    assert came["variance"] == pytest.approx(rows.reshape(12, 2).var(0).mean())
    steps = [np.linalg.norm(b - a) for a, b in itertools.pairwise(rows)]
    assert came["stability"] == pytest.approx(1 / (1 + np.mean(steps)))
    last = rows[-1]
    assert came["spread"] == pytest.approx(((last - last.mean(0)) ** 2).sum() / (last**2).sum())
    assert [came[f"{name} operations"] for name in ("write", "read", "unknown")] == [2, 1, 1]
    assert ANALYZER.memory_dynamics(contents[:1])["stability"] == 1


def test_a_slotted_memory_seen_as_it_is_written() -> None:
    """Usage of a reference over time, in a figure: a column a moment, a row a slot."""
    memory = load_plug("memspec.reference:NTMMemory").build()
    seen = []
    for key, value in zip(drawn(6, 64), drawn(6, 64, seed=1)):
        memory.update(key[None], value[None])
        seen.append(memory.slot_usage())
    figure = MemoryVisualizer().plot_memory_usage(seen, "Usage")
    axes = figure.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown, torch.stack(seen).T.numpy(), rtol=1e-6)
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Usage", "time step", "memory slot")


def test_attention_and_content_are_drawn_as_they_are() -> None:
    weights, content = drawn(5, 3).softmax(-1), drawn(2, 3, 4)
    attention = MemoryVisualizer((4, 3)).plot_attention_patterns(weights)
    assert attention.get_size_inches().tolist() == [4, 3]
    np.testing.assert_allclose(np.asarray(attention.axes[0].images[0].get_array()), weights.numpy(), rtol=1e-6)
    image = MemoryVisualizer().plot_memory_content(content).axes[0].images[0]
    np.testing.assert_allclose(np.asarray(image.get_array()), content.reshape(6, 4).numpy(), rtol=1e-6)
    low, high = image.get_clim()
    assert low == -high == pytest.approx(-float(content.abs().max()))
    with pytest.raises(ValueError, match="there are 3 dimensions"):
        MemoryVisualizer().plot_memory_usage(content)
