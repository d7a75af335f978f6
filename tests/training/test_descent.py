"""A few steps of learning: what is moved, what it lowers, and of whom it is not asked."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.learning import network
from memspec.fixtures.plain import PlainSequence
from memspec.fixtures.tasks import courses
from memspec.plugs.loading import as_plug, load_plug
from memspec.training import descent
from memspec.training.descent import descend

TINY = {"hidden_size": 12, "memory_dim": 6, "memory_size": 8}


@pytest.mark.parametrize("name", ["DeltaMemory", "SoftmaxMemory", "FIFOMemory", "LSHMemory", "TitansMemory"])
def test_a_few_steps_lower_the_loss(name: str) -> None:
    came = descend(load_plug(f"memspec.reference:{name}"), courses.small("noisy"), 0)
    assert not came.unreached
    assert came.losses == sorted(came.losses, reverse=True)
    assert len(came.losses) == descent.STEPS + 1


def test_nothing_but_what_is_upstream_is_moved() -> None:
    """Of a memory that claims gradients to values alone, the weights that make them."""
    plug = load_plug("memspec.reference:FIFOMemory")
    model = network(plug, courses.small("copy"), 0, **TINY)
    assert list(descent.upstream(model, plug)) == ["values"]
    model = network(as_plug(PlainSequence), courses.small("copy"), 0, **TINY)
    assert len(descent.upstream(model, as_plug(PlainSequence))) == 6


@pytest.mark.parametrize(
    ("plug", "message"),
    [
        ("memspec.fixtures.plain:PlainStore", "no init_state, write and read"),
        ("memspec.reference:HopfieldMemory", "no values to write"),
        ("memspec.reference:NullMemory", "does not claim to be differentiable"),
        ("tests/helpers/sequences.py:Plain", "no weights to train"),
    ],
)
def test_what_cannot_be_trained_is_not_asked(plug: str, message: str) -> None:
    with pytest.raises(NotAsked, match=message):
        descend(load_plug(plug), courses.small("copy"), 0)
