"""Questions hop after hop: an exact store never errs, zeros know nothing, and a chain breaks where it first goes wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memspec import randomness
from memspec.experiments.reasoning import CHAINED, Chained, measure
from memspec.fixtures.tasks import by_hand, chains
from memspec.plugs.loading import as_plug, load_plug


def curve(memory: str, world: str, metric: str, trials: int = 8) -> list[float]:
    measured = measure(load_plug(f"memspec.reference:{memory}"), Chained(world), range(trials), 0)
    return measured[metric].values.mean(0).tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("world", chains.WORLDS)
def test_an_exact_store_answers_all_and_zeros_are_at_chance(world: str) -> None:
    hops = chains.WORLDS[world].hops
    assert curve("ExactMemory", world, "accuracy") == curve("ExactMemory", world, "two_choice") == [1.0] * hops
    assert curve("NullMemory", world, "two_choice") == pytest.approx([0.5] * hops)


def test_chains_are_those_of_a_plain_loop() -> None:
    """The delta rule in double precision, a question at a time, named and asked on."""
    world, setting = chains.WORLDS["family"], Chained("family")
    measured = measure(load_plug("memspec.reference:DeltaMemory"), setting, range(3), 0)
    told = chains.Told(*randomness.stacked(world.draw, range(3), 0, "reasoning", "family"))
    names, keys = (by_hand.codes("value", 32, "real", 64).double(), by_hand.codes("key", 96, "real", 64).double())
    for trial in range(3):
        matrix = torch.zeros(64, 64, dtype=torch.float64)
        for head, relation, tail in zip(*(part[trial].tolist() for part in told[:3])):
            key = keys[relation * 32 + head]
            matrix += torch.outer(key, names[tail] - key @ matrix)
        for hops in (1, 2, 3):
            right = 0
            for at, path, answer in zip(*(part[trial, hops - 1].tolist() for part in told[3:])):
                for relation in path[:hops]:
                    at = int((keys[relation * 32 + at] @ matrix @ names.T).argmax())
                right += at == answer
            assert float(measured["accuracy"].values[trial, hops - 1]) == right / 16  # type: ignore[union-attr]


def test_what_follows_an_answer_that_is_not_finite_is_wrong() -> None:
    class Infinite:
        def __init__(self, key_dim: int, value_dim: int) -> None:
            self.value_dim = value_dim

        def reset(self) -> None: ...
        def update(self, keys: Tensor, values: Tensor) -> None: ...
        def query(self, keys: Tensor) -> Tensor:
            return torch.full((len(keys), self.value_dim), torch.nan)

    frame = CHAINED.run(as_plug(Infinite), Chained("events"), [0])
    assert frame.value.tolist() == [0.0] * 6
