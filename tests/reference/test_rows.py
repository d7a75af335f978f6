"""What all memories addressed by heads keep: softmax recall, forms that agree, gradients, isolation, hard numbers."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from drawing import EXACT, drawn
from memspec.protocol import capabilities_of
from memspec.reference import (
    AdaptiveMemory,
    DNCMemory,
    GatedMemory,
    LRUAMemory,
    MemoryCell,
    NTMMemory,
    SparseMemory,
)
from memspec.reference.ops.assign import assign

KINDS = {
    "ntm": NTMMemory,
    "dnc": DNCMemory,
    "dnc-unlinked": lambda *a, **k: DNCMemory(*a, **k, linkage=False),
    "lrua": LRUAMemory,
    "sparse": SparseMemory,
    "cell": MemoryCell,
    "gated": GatedMemory,
    "gated-learned": lambda *a, **k: GatedMemory(*a, **k, gates="learned"),
    "adaptive": AdaptiveMemory,
}
DRIVEN = [kind for kind in KINDS if kind != "gated-learned"]
RINGS = [kind for kind in DRIVEN if kind != "dnc-unlinked"]


def built(kind, key_dim=6, value_dim=4, capacity=8, **options):
    torch.manual_seed(3)
    return KINDS[kind](key_dim, value_dim, capacity, **options).double()


def orthonormal(count, dim, seed=0):
    return torch.linalg.qr(drawn(dim, count, seed=seed)).Q.mT.contiguous()


@pytest.mark.parametrize("kind", DRIVEN)
def test_a_full_memory_reads_by_the_closed_form_of_softmax(kind):
    """S orthonormal keys in S slots: ``(p - c) v_j + c sum_i v_i``, p = e^b / (e^b + S - 1), c = 1 / (e^b + S - 1)."""
    size, beta = 7, 2.5
    options = {"k": size} if kind == "sparse" else {}
    memory = built(kind, 9, 4, size, beta=beta, **options)
    keys, values = orthonormal(size, 9), drawn(size, 4, seed=1)
    memory.update(keys, values)
    whole = math.exp(beta) + size - 1
    expected = (math.exp(beta) - 1) / whole * values + values.sum(0) / whole
    torch.testing.assert_close(memory.query(keys), expected, **EXACT)


@pytest.mark.parametrize("kind", DRIVEN)
def test_values_do_not_disturb_the_address(kind):
    """Cosine of the key part only: values a thousand times larger leave the relative error where it was."""
    memory = built(kind, 8, 4, 8, beta=40.0)
    keys, values = orthonormal(8, 8), 1000 * drawn(8, 4, seed=1) * torch.arange(1, 9)[:, None]
    memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys), values, rtol=0, atol=1e-10 * float(values.abs().max()))


@pytest.mark.parametrize("kind", DRIVEN)
def test_a_full_memory_has_no_preferred_direction(kind):
    """Stored with rotated keys and asked with rotated keys, a full memory answers the same."""
    keys, values, asked = drawn(8, 6), drawn(8, 4, seed=1), drawn(5, 6, seed=2)
    rotation = torch.linalg.qr(drawn(6, 6, seed=3)).Q
    plain, turned = built(kind, beta=3.0), built(kind, beta=3.0)
    plain.update(keys, values)
    turned.update(keys @ rotation, values)
    torch.testing.assert_close(turned.query(asked @ rotation), plain.query(asked), **EXACT)


@pytest.mark.parametrize("kind", RINGS)
def test_the_oldest_pairs_make_room(kind):
    """Of 3 S distinct pairs the newest S are held and no other."""
    memory = built(kind, 32, 4, 8)
    keys, values = orthonormal(24, 32), drawn(24, 4, seed=1)
    memory.update(keys, values)
    torch.testing.assert_close(memory.query(keys[-8:]), values[-8:], rtol=0, atol=1e-8)
    assert (memory.query(keys[:16]) - values[:16]).abs().amax(-1).min() > 0.01
    assert memory.confidence(keys).gt(0.5).nonzero()[:, 0].tolist() == list(range(16, 24))


@pytest.mark.parametrize("kind", [kind for kind in DRIVEN if kind != "adaptive"])
def test_a_query_is_its_weights_times_the_slots(kind):
    memory = built(kind, beta=3.0)
    memory.update(drawn(5, 6), drawn(5, 4, seed=1))
    asked = drawn(9, 6, seed=2)
    torch.testing.assert_close(memory.read_weights(asked) @ memory.slot_values(), memory.query(asked), **EXACT)
    torch.testing.assert_close(memory.read_weights(asked).sum(-1), torch.ones(9, dtype=torch.float64), **EXACT)
    assert memory.slot_usage().gt(0).sum() == 5
    assert built(kind).confidence(asked).eq(0).all()


@pytest.mark.parametrize("kind", ["adaptive", "gated-learned"])
def test_what_is_modulated_for_each_query_is_not_addressable(kind):
    assert "Addressable" not in capabilities_of(built(kind))
    assert {"Confident", "Slotted"} <= capabilities_of(built(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_through_write_and_read(kind):
    """gradcheck of the answers in queries, written keys and written values, with a key written twice and an eviction."""
    memory = built(kind, 3, 2, 4, beta=2.0)
    keys, values, asked = drawn(6, 3), drawn(6, 2, seed=1), drawn(3, 3, seed=2)

    def answers(k, v, q):
        return memory.read(memory.write(memory.init_state(()), torch.cat((k, k[-1:])), torch.cat((v, v[:1]))), q)

    inputs = tuple(t.requires_grad_() for t in (keys, values, asked))
    assert torch.autograd.gradcheck(answers, inputs, atol=1e-6)
    grads = torch.autograd.grad(answers(*inputs).square().sum(), inputs)
    assert all(g.abs().max() > 1e-4 for g in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_hard_rows_stay_finite(kind, dtype):
    """Zero, tiny, huge and equal rows: finite answers, and finite gradients to what was written and asked."""
    torch.manual_seed(0)
    memory = KINDS[kind](6, 4, 8).to(dtype)
    scales = torch.tensor([0, 1e-30, 1e-12, 1, 1e4, 1e15, 1, 1])[:, None]
    keys = (torch.ones(8, 6) * scales).to(dtype).requires_grad_()
    values = (torch.ones(8, 4) * scales.flip(0)).to(dtype).requires_grad_()
    state = memory.init_state(())
    for _ in range(3):
        state = memory.write(state, keys, values)
    answers = memory.read(state, keys)
    assert answers.dtype == dtype
    assert torch.isfinite(answers).all()
    answers.clamp(-1, 1).sum().backward()
    assert torch.isfinite(keys.grad).all()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_steps(kind):
    """10,000 pairs (1,000 through learned gates), in calls of many sizes: the state has its first size, is finite, and still learns."""
    memory = KINDS[kind](3, 2, 4)
    total = 1000 if kind == "gated-learned" else 10_000  # it has no form but row by row
    bytes_of = lambda: sum(t.numel() * t.element_size() for t in memory.state if t is not None)  # noqa: E731
    before = bytes_of()
    keys, values = drawn(total, 3).float(), drawn(total, 2, seed=1).float()
    done = 0
    while done < total:
        step = 1 + done % 97
        memory.update(keys[done : done + step], values[done : done + step])
        done += step
    assert bytes_of() == before
    assert all(torch.isfinite(t).all() for t in memory.state if t is not None)
    if kind in RINGS:
        torch.testing.assert_close(memory.query(keys[-1:]).sign(), values[-1:].sign())
        assert memory.confidence(keys[-1:]) > 0.99


@pytest.mark.parametrize("kind", ["cell", "gated"])
def test_a_known_key_is_overwritten_in_place(kind):
    """Rewriting keeps one pair a key: the newest value answers, the others stay, no slot is spent."""
    memory = built(kind, 16, 3, 8)
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


LIVE = [
    ("ntm", {"beta": 3.0}),
    ("ntm", {"initial": 0.5}),
    ("dnc", {"beta": 3.0}),
    ("dnc", {"linkage": False}),
    ("dnc", {"mask": False}),
    ("lrua", {"beta": 3.0}),
    ("lrua", {"initial": 0.5}),
    ("sparse", {"beta": 3.0}),
    ("sparse", {"k": 1}),
    ("sparse", {"initial": 0.5}),
    ("cell", {"beta": 3.0}),
    ("cell", {"match": 0.2}),
    ("gated", {"beta": 3.0}),
    ("gated", {"match": 0.2}),
    ("gated", {"gates": "learned"}),
    ("adaptive", {"beta": 3.0}),
]


@pytest.mark.parametrize(("kind", "options"), LIVE, ids=[f"{k}-{next(iter(o))}" for k, o in LIVE])
def test_every_option_changes_answers(kind, options):
    """What an option says it changes, it changes (those of the heads alone are tested with their mechanics)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = []
        for chosen in ({}, options):
            memory = built(kind, 6, 4, 8, **{"beta": 8.0, **chosen})
            for count in (3, 2) if "initial" in options else (5, 7):
                memory.update(drawn(count, 6, seed=count), drawn(count, 4, seed=1))
            answers.append(memory.query(drawn(5, 6, seed=2)))
    assert (answers[0] - answers[1]).abs().max() > 1e-4
