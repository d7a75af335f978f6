"""What all memories addressed by heads keep: softmax recall, forms that agree, gradients, isolation, hard numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from drawing import EXACT, drawn
from memspec.protocol import capabilities_of
from memspec.reference.ops.assign import assign
from variants import VARIANTS

DRIVEN = [
    "NTMMemory",
    "DNCMemory",
    "DNCMemory-unlinked",
    "LRUAMemory",
    "SparseMemory",
    "MemoryCell",
    "GatedMemory",
    "AdaptiveMemory",
]
RINGS = [name for name in DRIVEN if name != "DNCMemory-unlinked"]


def built(name: str, key_dim: int = 6, value_dim: int = 4, capacity: int = 8, **options: Any) -> Any:
    """A variant of the table, with further options."""
    variant = VARIANTS[name]
    variant = dataclasses.replace(variant, options={**variant.options, **options})
    return variant.build(key_dim, value_dim, capacity, seed=3).double()


def orthonormal(count, dim, seed=0):
    return torch.linalg.qr(drawn(dim, count, seed=seed)).Q.mT.contiguous()


@pytest.mark.parametrize("name", DRIVEN)
def test_a_full_memory_reads_by_the_closed_form_of_softmax(name):
    """S orthonormal keys in S slots: ``(p - c) v_j + c sum_i v_i``, p = e^b / (e^b + S - 1), c = 1 / (e^b + S - 1)."""
    size, beta = 7, 2.5
    options = {"k": size} if name == "SparseMemory" else {}
    memory = built(name, 9, 4, size, beta=beta, **options)
    keys, values = orthonormal(size, 9), drawn(size, 4, seed=1)
    memory.update(keys, values)
    whole = math.exp(beta) + size - 1
    expected = (math.exp(beta) - 1) / whole * values + values.sum(0) / whole
    torch.testing.assert_close(memory.query(keys), expected, **EXACT)


@pytest.mark.parametrize("name", DRIVEN)
def test_values_do_not_disturb_the_address(name):
    """Cosine of the key part only: values a thousand times larger leave the relative error where it was."""
    memory = built(name, 8, 4, 8, beta=40.0)
    keys, values = orthonormal(8, 8), 1000 * drawn(8, 4, seed=1) * torch.arange(1, 9)[:, None]
    memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys), values, rtol=0, atol=1e-10 * float(values.abs().max()))


@pytest.mark.parametrize("name", RINGS)
def test_the_oldest_pairs_make_room(name):
    """Of 3 S distinct pairs the newest S are held and no other."""
    memory = built(name, 32, 4, 8)
    keys, values = orthonormal(24, 32), drawn(24, 4, seed=1)
    memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys[-8:]), values[-8:], rtol=0, atol=1e-8)
    assert (memory.query(keys[:16]) - values[:16]).abs().amax(-1).min() > 0.01
    assert memory.confidence(keys).gt(0.5).nonzero()[:, 0].tolist() == list(range(16, 24))


@pytest.mark.parametrize("name", [name for name in DRIVEN if name != "AdaptiveMemory"])
def test_a_query_is_its_weights_times_the_slots(name):
    memory = built(name, beta=3.0)
    memory.update(drawn(5, 6), drawn(5, 4, seed=1))
    asked = drawn(9, 6, seed=2)
    torch.testing.assert_close(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked), **EXACT)
    torch.testing.assert_close(memory.read_weights(asked).sum(-1), torch.ones(9, dtype=torch.float64), **EXACT)
    assert memory.slot_usage().gt(0).sum() == 5
    assert built(name).confidence(asked).eq(0).all()


@pytest.mark.parametrize("name", ["AdaptiveMemory", "GatedMemory-learned"])
def test_what_is_modulated_for_each_query_is_not_addressable(name):
    assert "Addressable" not in capabilities_of(built(name))
    assert {"Confident", "Slotted"} <= capabilities_of(built(name))


@pytest.mark.parametrize("name", RINGS)
def test_after_thousands_of_rows_the_newest_is_known(name: str) -> None:
    """In calls of many sizes, in float32."""
    memory = built(name, 3, 2, 4).float()
    keys, values = drawn(5000, 3).float(), drawn(5000, 2, seed=1).float()
    done = 0
    while done < 5000:
        step = 1 + done % 97
        memory.update(keys[done : done + step], values[done : done + step])
        done += step
    torch.testing.assert_close(memory.query(keys[-1:]).sign(), values[-1:].sign())
    assert memory.confidence(keys[-1:]) > 0.99


@pytest.mark.parametrize("name", ["MemoryCell", "GatedMemory"])
def test_a_known_key_is_overwritten_in_place(name):
    """Rewriting keeps one pair a key: the newest value answers, the others stay, no slot is spent."""
    memory = built(name, 16, 3, 8)
    keys, values = orthonormal(6, 16), drawn(6, 3, seed=1)
    memory.update(keys, values)
    memory.update(torch.cat((3 * keys[2:3], keys[4:5], keys[4:5])), drawn(3, 3, seed=2))
    expected = values.clone()
    expected[[2, 4]] = drawn(3, 3, seed=2)[[0, 2]]
    torch.testing.assert_close(memory.query(keys), expected, rtol=0, atol=1e-6)
    assert memory.slot_usage().tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("at_once", [256, 7], ids=["whole", "parts"])
def test_assignment_is_that_of_plain_python(monkeypatch, at_once):
    """In one part or several: integer traces of 'the slot that matches, else the one written longest ago' on basis keys, against a list."""
    monkeypatch.setattr("memspec.reference.ops.assign.ASSIGNED_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(1)
    for size, kinds in ((3, 5), (4, 4), (1, 2), (5, 9)):
        drawn_keys = torch.randint(kinds, (40,), generator=generator).tolist()
        held: list[int | None] = [None] * size
        last = list(range(-size, 0))
        trace = []
        for time, key in enumerate(drawn_keys):
            slot = held.index(key) if key in held else last.index(min(last))
            held[slot], last[slot] = key, time
            trace.append(slot)
        keys = torch.eye(kinds)[drawn_keys]
        start = torch.arange(-size, 0)
        slots, written = assign(keys, torch.ones(size, kinds), start, torch.zeros(1, dtype=torch.int64), 0.999)
        assert slots.tolist() == trace
        assert written.tolist() == last
