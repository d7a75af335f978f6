"""Every network that carries a memory keeps the laws of sequences, over memories of every kind."""

from __future__ import annotations

import functools

import pytest

from memspec.plugs.references import network_plugs
from memspec.running.selfcheck import run_plan
from memspec.scorecard.record import Record
from sampling import sampled

LAYER = "memspec.reference.layers:MemoryLayer"
KINDS = ["SoftmaxMemory", "LinearAttentionMemory", "TitansMemory", "NTMMemory", "AttentionMemory"]


@functools.cache
def cards(*plugs: str) -> dict[str, Record]:
    return run_plan({plug: ["sequences/*"] for plug in plugs}, 1, ["--memspec-no-isolate"])


NETWORK = "memspec.reference.models:MemoryAugmentedNetwork"
OPTIONS = (
    "memspec.reference.models:MemoryTransformer(segment=3)",
    "memspec.reference.models:DifferentiableNeuralComputer(read_heads=2, write_heads=2, mask=True, deallocate=True)",
    "memspec.reference.models:NeuralTuringMachine(controller='feedforward', read_heads=2, write_heads=2)",
    f"{NETWORK}(memory='SoftmaxMemory', controller='feedforward', read_heads=2, write_heads=2)",
)
QUICK = (*network_plugs(), *OPTIONS[:1])
EVERY = 4
SLOW = (*OPTIONS[1:], *(f"{LAYER}(memory={kind!r}, num_heads=2)" for kind in KINDS))


def broken(card: Record) -> dict[str, str]:
    """The checks that a card does not pass, with what they say."""
    assert len(card.checks) == 14
    return {check.id: str(check.failure) for check in card.checks if check.status != "pass"}


@pytest.mark.parametrize("plug", sampled(QUICK, EVERY))
def test_laws_of_sequences(plug: str) -> None:
    run = [other for n, other in enumerate(QUICK) if (n % EVERY > 0) == (QUICK.index(plug) % EVERY > 0)]
    assert broken(cards(*run)[plug]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("plug", SLOW)
def test_laws_of_sequences_with_other_memories(plug: str) -> None:
    assert broken(cards(*SLOW)[plug]) == {}
