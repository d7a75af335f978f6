"""Prose and the text embedding, against an independent count of n-grams."""

from __future__ import annotations

import math

import pytest
import torch

from memspec.fixtures.data import text


def embedded_by_hand(string: str, dim: int) -> list[float]:
    """The documented embedding in plain Python integers."""
    mask = 2**64 - 1
    raw = f" {' '.join(string.lower().split())} ".encode()
    row = [0.0] * dim
    for n in (3, 4, 5):
        for i in range(len(raw) - n + 1):
            h = ((n << 8 * n) | int.from_bytes(raw[i : i + n], "big")) & mask
            h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & mask
            h = (h ^ (h >> 27)) * 0x94D049BB133111EB & mask
            h ^= h >> 31
            row[h % dim] += 1.0 if h >> 63 else -1.0
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm for x in row]


@pytest.mark.parametrize("dim", [7, 64, 128])
def test_embedding_is_the_documented_one(dim: int) -> None:
    texts = ["Velmora Tindel", "ab", "the  Café near\tOrrinsk.", "x"]
    expected = torch.tensor([embedded_by_hand(t, dim) for t in texts])
    torch.testing.assert_close(text.embed(texts, dim), expected, atol=1e-6, rtol=0)


def test_embedding_of_a_text_does_not_depend_on_its_company() -> None:
    texts = list(text.sentences()[:5])
    together = text.embed(texts, 64)
    for row, one in zip(together, texts):
        assert torch.equal(row, text.embed([one], 64)[0])


def test_embedding_of_nothing_is_zeros() -> None:
    assert not text.embed(["", "  "], 16).any()
    assert text.embed([], 16).shape == (0, 16)


def test_alike_texts_are_nearer_than_others() -> None:
    a, b, c = text.embed(["the grey cat sleeps", "a grey cat slept", "import statements bind names"], 256)
    assert a @ b > 0.3 > a @ c


def test_sentences_are_prose() -> None:
    found = text.sentences()
    assert len(found) > 500
    assert len(set(found)) == len(found)
    for sentence in found:
        assert 6 <= len(sentence.split()) <= 40
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert "::=" not in sentence
        assert ">>>" not in sentence


def test_cue_is_the_first_two_words() -> None:
    assert text.cue_and_rest("Velmora Tindel keeps bees.") == ("Velmora Tindel", "keeps bees.")
