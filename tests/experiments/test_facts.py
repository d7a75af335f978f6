"""The facts axis: what is shown, how it is ranked, and that the controls are at chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pandas import DataFrame
from scipy.stats import rankdata

from memspec.errors import NotAsked
from memspec.experiments import facts as axis
from memspec.experiments.facts import FACTS, Hidden, measure
from memspec.fixtures.data import text
from memspec.fixtures.tasks import facts
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.protocol import MemorySpec
from memspec.reference import ExactMemory

METRICS = tuple(f"{name}{condition}" for condition in axis.CONDITIONS for name in ("accuracy", "two_choice", "rank"))


def means(memory: str, setting: Hidden | None = None, trials: int = 16) -> DataFrame:
    frame = FACTS.run(load_plug(f"memspec.reference:{memory}"), setting or Hidden(), range(trials))
    return frame.groupby("metric").value.mean()


def test_a_dictionary_recalls_every_fact_and_its_controls_are_at_chance() -> None:
    observed = means("ExactMemory", trials=256)
    assert observed["accuracy"] == observed["two_choice"] == observed["rank"] == 1.0
    # 256 trials x 24 facts; the facts of a template share a permutation, so the spread is that of about 1,000 draws
    assert observed["accuracy_shuffled"] == pytest.approx(1 / 6, abs=0.03)
    assert observed["two_choice_shuffled"] == pytest.approx(0.5, abs=0.03)
    assert observed["rank_shuffled"] == pytest.approx(3.5, abs=0.15)


def test_zeros_are_at_chance_exactly() -> None:
    observed = means("NullMemory")
    for condition in axis.CONDITIONS:
        assert observed[f"accuracy{condition}"] == pytest.approx(1 / 6)
        assert observed[f"two_choice{condition}"] == pytest.approx(0.5)
        assert observed[f"rank{condition}"] == pytest.approx(3.5)
    assert observed["gain"] == 0.0


def test_ranks_are_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    answers, rests = torch.randn(3, 8, 5, generator=generator), torch.randn(3, 4, 2, 5, generator=generator)
    rests = torch.nn.functional.normalize(
        torch.cat((rests, rests[:, :, :1]), 2), dim=-1
    )  # the third ties with the first
    answers = torch.cat((answers, answers[:, :4]), 1)
    ranked = axis._ranked(answers, rests, "")
    for trial in range(3):
        expected = []
        for group in range(4):
            for own in range(3):
                cosines = rests[trial, group] @ answers[trial, 3 * group + own]
                expected.append(rankdata(-cosines.numpy().round(6))[own])
        assert float(ranked["rank"][trial]) == pytest.approx(np.mean(expected))
        assert float(ranked["two_choice"][trial]) == pytest.approx(1 - (np.mean(expected) - 1) / 2)


def test_answers_that_are_not_finite_are_wrong() -> None:
    rests = torch.nn.functional.normalize(torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    ranked = axis._ranked(torch.full((2, 24, 8), float("nan")), rests, "")
    assert ranked["accuracy"].tolist() == ranked["two_choice"].tolist() == [0.0, 0.0]
    assert ranked["rank"].tolist() == [6.0, 6.0]


class Recorder:
    """Keeps what it is shown."""

    shown: list[tuple[torch.Tensor, torch.Tensor]]
    every: list[Recorder] = []  # noqa: RUF012

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.value_dim, self.shown, self.asked = value_dim, [], torch.empty(0)
        self.every.append(self)

    def reset(self) -> None:
        pass

    def update(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.shown.append((keys.clone(), values.clone()))

    def query(self, keys: torch.Tensor) -> torch.Tensor:
        self.asked = keys.clone()
        return torch.zeros(len(keys), self.value_dim)


def test_what_is_shown() -> None:
    """Every fact once, among consecutive sentences in their order; the control sees the same keys, permuted endings."""
    Recorder.every.clear()
    setting = Hidden()
    measure(Plug("Recorder", Recorder), setting, [3], 0)
    seen, control = (m for m in Recorder.every if len(m.shown) > 2)  # others were tried by loading
    (keys, values), (again, permuted) = (map(torch.cat, zip(*m.shown)) for m in (seen, control))
    assert keys.shape == (setting.shown, 128)
    assert [len(k) for k, _ in seen.shown] == [8] * 12
    assert torch.equal(keys, again)
    cues = seen.asked
    is_fact = (keys[:, None] == cues).all(-1)
    assert (is_fact.sum(0) == 1).all()
    fact = is_fact.any(1)
    assert torch.equal(values[~fact], permuted[~fact])
    assert not torch.equal(values[fact], permuted[fact])
    assert torch.equal(values[fact].unique(dim=0), permuted[fact].unique(dim=0))
    prose = facts.prose("real", 128)
    start = int((prose == keys[~fact][0]).all(-1).nonzero()[0])
    candidates = [s for s in range(len(prose) - 71) if torch.equal(prose[s : s + 72], keys[~fact])]
    assert candidates, f"the prose is not 72 consecutive sentences (the first is sentence {start})"


def test_no_statement_can_be_known_and_no_cue_is_another() -> None:
    everything = " ".join(text.sentences())
    for index in range(0, 256, 7):
        name = facts.name(index, (index * 5 + 1) % 256)
        assert not any(word in everything for word in name.split())
    assert len({facts.name(i, j) for i in range(256) for j in range(0, 256, 17)}) == 256 * 16
    assert len({facts.place(i) for i in range(facts.PLACES)}) == facts.PLACES
    one = torch.arange(256)
    cues = facts.cues(one, one.flip(0), "unit", 128)
    assert (cues @ cues.mT - torch.eye(256)).max() < 0.9
    assert facts.statement((0, 0), 0, 0, 0) == "Velmora Tindel keeps bees near Orrinsk."


def test_texts_of_one_template_are_matched_and_different() -> None:
    rests = facts.rests("unit", 128)
    assert rests.shape == (4, 8, 64, 128)
    flat = rests.flatten(0, 2)
    assert len(flat.unique(dim=0)) == len(flat)
    within = torch.stack([r.flatten(0, 1).mean(0).square().sum() for r in rests])
    assert (within > flat.mean(0).square().sum()).all()


@pytest.mark.parametrize(
    "spec",
    [{"association": "auto"}, {"fidelity": "trained"}, {"key_domain": "onehot"}, {"value_domain": "onehot"}],
    ids=str,
)
def test_not_asked_of_memories_it_means_nothing_for(spec: dict[str, object]) -> None:
    kind = type("Declared", (ExactMemory,), {"spec": MemorySpec(**spec)})  # type: ignore[arg-type]
    with pytest.raises(NotAsked):
        measure(Plug("Declared", kind), Hidden(), [0], 0)


def test_signs_and_fixed_widths() -> None:
    spec = MemorySpec(exact=True, key_domain="sign", value_domain="sign")
    kind = type("Signs", (ExactMemory,), {"spec": spec})
    frame = FACTS.run(Plug("Signs", kind, {"key_dim": 96, "value_dim": 80}), Hidden(), range(4))
    assert frame[frame.metric == "accuracy"].value.min() == 1.0


def test_shows_as_often_as_the_spec_says() -> None:
    Recorder.every.clear()
    kind = type("Twice", (Recorder,), {"spec": MemorySpec(presentations=2)})
    measure(Plug("Twice", kind), Hidden(), [0], 0)
    assert [len(m.shown) for m in Recorder.every if len(m.shown) > 2] == [24, 24]
