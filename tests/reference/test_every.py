"""What every reference memory must survive, in all the forms of the table in :mod:`variants`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import memspec.reference as reference
from drawing import EXACT, drawn
from memspec.functional import FunctionalMemory, map_state, named_tensors
from variants import VARIANTS, data

NAMES = sorted(reference.__all__)
every = pytest.mark.parametrize("name", VARIANTS)


def build(name: str, *widths: int, **more: int) -> FunctionalMemory:
    return VARIANTS[name].build(*widths, **more)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_has_a_one_line_summary_and_a_source(name: str) -> None:
    doc = getattr(reference, name).__doc__ or ""
    assert doc.splitlines()[0].strip()
    if name not in ("ExactMemory", "NullMemory"):
        assert "Source:" in doc


@every
def test_a_batch_of_memories_equals_separate_ones(name: str) -> None:
    """Leading dimensions are independent memories: [2, 3] of them, written past their capacity, answer as six single ones."""
    memory = build(name).double()
    with torch.no_grad():
        states = [memory.init_state(()) for _ in range(6)]
    streams = [data(memory, 11, seed) for seed in range(6)]
    keys = torch.stack([k for k, _ in streams]).double()
    values = torch.stack([v for _, v in streams]).double()

    def twice(state: Any, keys: torch.Tensor, values: torch.Tensor) -> Any:
        return memory.write(memory.write(state, keys, values), keys.flip(-2), values.flip(-2))

    singles = [twice(*each) for each in zip(states, keys, values)]
    expected = torch.stack([memory.read(s, k) for s, k in zip(singles, keys)])
    columns = [[dict(named_tensors(s))[field] for s in states] for field, _ in named_tensors(states[0])]
    stacked = iter([torch.stack(c).unflatten(0, (2, 3)) for c in columns])
    batch = map_state(lambda _: next(stacked), states[0])
    written = twice(batch, keys.unflatten(0, (2, 3)), values.unflatten(0, (2, 3)))
    got = memory.read(written, keys.unflatten(0, (2, 3)))
    torch.testing.assert_close(got.flatten(0, 1), expected, rtol=1e-10, atol=1e-10)


@every
def test_nan_in_one_memory_of_a_batch_leaves_the_others(name: str) -> None:
    """Bit for bit, after two writes that are longer than its capacity."""
    memory = build(name).double()
    streams = [data(memory, 11, seed) for seed in range(6)]
    keys = torch.stack([k for k, _ in streams]).unflatten(0, (2, 3)).double()
    values = torch.stack([v for _, v in streams]).unflatten(0, (2, 3)).double()
    spoilt = keys.clone()
    spoilt[0, 1, 4] = torch.nan
    fresh = memory.init_state((2, 3))
    auto = memory.spec.association == "auto"  # then a value is its key

    def answers(keys: torch.Tensor) -> torch.Tensor:
        state = fresh
        for k in (keys, keys.flip(-2)):
            state = memory.write(state, k, k if auto else values)
        return memory.read(state, keys)

    clean, other = answers(keys), answers(spoilt)
    others = torch.ones(2, 3, dtype=torch.bool)
    others[0, 1] = False
    assert torch.equal(other[others], clean[others])


@every
def test_update_and_query_are_write_and_read(name: str) -> None:
    """On the memory's own state, over calls of several lengths."""
    memory = build(name)
    keys, values = data(memory, 9)
    state = memory.state
    for rows in (slice(0, 4), slice(4, 5), slice(5, 9)):
        memory.update(keys[rows], values[rows])
        state = memory.write(state, keys[rows], values[rows])
    assert torch.equal(memory.query(keys), memory.read(state, keys))


@pytest.mark.parametrize("name", [n for n in VARIANTS if build(n).spec.write in ("sequential", "set")])
def test_an_update_may_be_split(name: str) -> None:
    """Rows in one call, in several or one by one answer alike, past the capacity too, known keys among them."""
    memory = build(name).double()
    if not memory.spec.deterministic:
        pytest.skip(f"{name} draws as it writes")
    keys, values = (t.double() for t in data(memory, 20))
    keys[9] = keys[3]
    if memory.spec.association == "auto":
        values[9] = values[3]
    elif memory.spec.key_domain == "real":
        keys[14] = -2 * keys[13]
    fresh = memory.init_state(())
    whole = memory.read(memory.write(fresh, keys, values), keys)
    for cuts in ([2, 1, 17], [1, 4, 3, 12], [5, 15], [1] * 20):
        state = fresh
        for k, v in zip(keys.split(cuts), values.split(cuts)):
            state = memory.write(state, k, v)
        torch.testing.assert_close(memory.read(state, keys), whole, rtol=1e-10, atol=1e-10)


@every
def test_inference_mode_changes_no_bit(name: str) -> None:
    """Two of one seed answer alike, inside it and outside, and keep no graph."""
    answers = []
    for mode in (False, True):
        memory = build(name)
        with torch.inference_mode(mode):
            for seed, n in ((0, 11), (1, 3)):
                memory.update(*data(memory, n, seed))
            answers.append(memory.query(data(memory, 5, 2)[0]).clone())
        assert not any(tensor.requires_grad for _, tensor in named_tensors(memory.state))
    assert torch.equal(*answers)


@every
def test_saved_memories_go_on_alike(name: str) -> None:
    """A loaded copy, of another start, answers the same bits, and does after further updates past the capacity too."""
    memory, other = build(name), build(name, seed=1)
    memory.update(*data(memory, 11))
    other.load_state_dict(memory.state_dict())
    for seed in range(3):
        for one in (memory, other):
            torch.manual_seed(seed)  # where an update draws, both draw alike
            one.update(*data(memory, 5, seed + 1))
        asked = data(memory, 5, seed + 9)[0]
        assert torch.equal(memory.query(asked), other.query(asked))


@every
def test_write_and_read_change_nothing_they_are_given(name: str) -> None:
    memory = build(name)
    keys, values = data(memory, 4)
    state = memory.write(memory.init_state(()), keys, values)
    before = map_state(torch.clone, state)
    kept = keys.clone(), values.clone()
    memory.write(state, *data(memory, 4, seed=1))
    memory.read(state, keys)
    for (field, old), (_, new) in zip(named_tensors(before), named_tensors(state)):
        assert torch.equal(old, new), field
    assert torch.equal(kept[0], keys)
    assert torch.equal(kept[1], values)


@every
def test_declared_gradients_are_right(name: str) -> None:
    """gradcheck through write, then read, in float64, for what the spec says is differentiable; nothing flows to the rest."""
    memory = build(name, key_dim=4, value_dim=3, capacity=4).double()
    declared = memory.spec.differentiable
    if not declared:
        pytest.skip(f"{name} declares nothing differentiable")
    keys, values = (t.double() for t in data(memory, 3))
    g = torch.Generator().manual_seed(1)
    query = keys + 0.1 * torch.randn(keys.shape, generator=g, dtype=torch.float64)
    fresh = memory.init_state(())
    inputs = {"keys": keys, "values": values, "query": query}
    for part, tensor in inputs.items():
        tensor.requires_grad_(part in declared)

    def run(keys: torch.Tensor, values: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        state = memory.write(fresh, keys, values)
        return memory.read(memory.write(state, keys.flip(0), values.flip(0) * 0.5), query)

    assert torch.autograd.gradcheck(run, tuple(inputs.values()), eps=1e-6, atol=1e-5, rtol=1e-4)
    for tensor in inputs.values():
        tensor.requires_grad_()
    loss = run(**inputs).square().sum()
    for part, grad in zip(inputs, torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)):
        flows = grad is not None and bool(grad.any())
        assert flows == (part in declared), part


TWICE = [n for n, v in VARIANTS.items() if build(n).spec.differentiable == {"query", "keys", "values"} and not v.twice]


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_through_the_writes(name: str) -> None:
    """An outer optimiser may differentiate what an inner step did."""
    memory = build(name, key_dim=4, value_dim=3, capacity=4).double()
    keys, values = (t.double().requires_grad_() for t in data(memory, 3))
    query = data(memory, 2, seed=2)[0].double().requires_grad_()
    fresh = memory.init_state(())
    assert torch.autograd.gradgradcheck(
        lambda k, v, q: memory.read(memory.write(fresh, k, v), q), (keys, values, query)
    )


@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if not v.directions])
def test_turning_keys_and_queries_changes_no_answer(name: str) -> None:
    """No direction is preferred, past the capacity too."""
    memory = build(name).double()
    (keys, values), asked = (tuple(t.double() for t in data(memory, 11, seed)) for seed in (0, 1))
    rotation = torch.linalg.qr(drawn(memory.key_dim, memory.key_dim, seed=9)).Q
    fresh = memory.init_state(())
    plain, turned = (
        memory.read(memory.write(fresh, keys @ r, values), asked[0] @ r) for r in (rotation @ rotation.mT, rotation)
    )
    torch.testing.assert_close(turned, plain, **EXACT)


@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if not v.linear])
def test_answers_are_linear_in_the_values(name: str) -> None:
    """Past the capacity too: where a row goes is decided by keys."""
    memory = build(name).double()
    (keys, one), (asked, other) = (tuple(t.double() for t in data(memory, 11, seed)) for seed in (0, 1))
    fresh = memory.init_state(())

    def read(values: torch.Tensor) -> torch.Tensor:
        return memory.read(memory.write(fresh, keys, values), asked)

    torch.testing.assert_close(read(2 * one - 3 * other), 2 * read(one) - 3 * read(other), **EXACT)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_hard_rows_stay_finite(name: str, dtype: torch.dtype) -> None:
    """Zero, tiny, huge, equal and constant rows, in both precisions: finite answers, and finite gradients of them."""
    memory = build(name).to(dtype)
    if memory.spec.key_domain in ("sign", "onehot"):
        pytest.skip(f"{name} takes {memory.spec.key_domain} keys only")
    if VARIANTS[name].hard:
        pytest.skip(VARIANTS[name].hard)
    keys, values = data(memory, 6)
    for hard in (keys * 0, keys * 1e-30, keys * 1e15, keys[:1].expand(6, -1), torch.ones_like(keys)):
        memory.reset()
        for _ in range(3):
            memory.update(hard.to(dtype), values.to(dtype))
        assert torch.isfinite(memory.query(hard.to(dtype))).all()
        assert torch.isfinite(memory.query(keys.to(dtype))).all()
        # Single constant-state memories also bear huge values.
        memory.update(keys.to(dtype), (values * 1e10).to(dtype))
        assert torch.isfinite(memory.query(keys.to(dtype))).all()
    size = torch.tensor([0, 1e-30, 1e-12, 1, 1e4, 1e15])[:, None]
    hard, values = (keys * size).to(dtype).requires_grad_(), (values * size.flip(0)).to(dtype).requires_grad_()
    state = memory.init_state(())
    for _ in range(3):
        state = memory.write(state, hard, hard if memory.spec.association == "auto" else values)
    answers = memory.read(state, hard)
    assert answers.dtype == dtype
    assert torch.isfinite(answers).all()
    if answers.requires_grad:
        answers.clamp(-1, 1).sum().backward()
        for rows in (hard, values):
            assert rows.grad is None or torch.isfinite(rows.grad).all()


@pytest.mark.parametrize("name", [n for n in VARIANTS if build(n).spec.constant_state])
def test_ten_thousand_rows_stay_finite(name: str) -> None:
    """A constant-state memory takes 10,000 rows, in batches of 500 with repeats, grows by nothing, and has learnt."""
    memory = build(name)
    size = sum(t.numel() for _, t in named_tensors(memory.state))
    for seed in range(VARIANTS[name].steps // 500):
        keys, values = data(memory, 500, seed % 3)
        memory.update(keys, values)
    answers = memory.query(keys)
    assert torch.isfinite(answers).all()
    assert sum(t.numel() for _, t in named_tensors(memory.state)) == size
    assert name == "NullMemory" or not torch.equal(answers, build(name).query(keys))


@every
def test_every_slow_weight_reaches_an_answer(name: str) -> None:
    """Liveness of Parameters: each has a gradient that is not zero, from an answer or from the auxiliary loss."""
    memory = build(name).double()
    parameters = {n: p for n, p in memory.named_parameters() if p.requires_grad}
    if not parameters:
        pytest.skip(f"{name} has no slow weights")
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():  # zero-initialised layers would hide the ones before them
        for p in parameters.values():
            p.add_(0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    keys, values = (t.double() for t in data(memory, 6))
    state = memory.write(memory.init_state(()), keys, values)
    loss = memory.read(state, keys).square().sum()
    if hasattr(memory, "auxiliary_loss"):
        memory.update(keys, values)
        loss = loss + memory.auxiliary_loss(keys, values)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    dead = [n for n, grad in zip(parameters, gradients) if grad is None or not grad.abs().max() > 0]
    assert not dead, f"{name}: no answer depends on {dead}"
