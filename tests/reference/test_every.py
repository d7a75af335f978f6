"""What every reference memory must survive: all of them, found through ``memspec.reference.__all__``."""

from __future__ import annotations

import pytest
import torch

import memspec.reference as reference
from memspec.fixtures.data import pairs
from memspec.functional import FunctionalMemory, map_state, named_tensors
from memspec.plugs.plug import Plug, Shape

NAMES = sorted(reference.__all__)


def build(name: str, key_dim: int = 6, value_dim: int = 5, capacity: int = 8, seed: int = 0) -> FunctionalMemory:
    plug = Plug(name, getattr(reference, name))
    shape = plug.shape(key_dim, value_dim, capacity)
    memory = plug.build(Shape(shape.key_dim, shape.value_dim, capacity), seed)
    assert isinstance(memory, FunctionalMemory)
    return memory


def data(memory: FunctionalMemory, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    spec = memory.spec
    return pairs.pairs(spec.key_domain, spec.value_domain, n, memory.key_dim, memory.value_dim, g, spec.association)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_has_a_one_line_summary_and_a_source(name: str) -> None:
    doc = getattr(reference, name).__doc__ or ""
    assert doc.splitlines()[0].strip()
    if name not in ("ExactMemory", "NullMemory"):
        assert "Source:" in doc


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_memories_equals_separate_ones(name: str) -> None:
    """Leading dimensions are independent memories: [2, 3] of them answer as six single ones."""
    memory = build(name).double()
    with torch.no_grad():
        states = [memory.init_state(()) for _ in range(6)]
    streams = [data(memory, 5, seed) for seed in range(6)]
    keys = torch.stack([k for k, _ in streams]).double()
    values = torch.stack([v for _, v in streams]).double()
    singles = [memory.write(s, k, v) for s, k, v in zip(states, keys, values)]
    expected = torch.stack([memory.read(s, k) for s, k in zip(singles, keys)])
    columns = [[dict(named_tensors(s))[field] for s in states] for field, _ in named_tensors(states[0])]
    stacked = iter([torch.stack(c).unflatten(0, (2, 3)) for c in columns])
    batch = map_state(lambda _: next(stacked), states[0])
    written = memory.write(batch, keys.unflatten(0, (2, 3)), values.unflatten(0, (2, 3)))
    got = memory.read(written, keys.unflatten(0, (2, 3)))
    torch.testing.assert_close(got.flatten(0, 1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_declared_gradients_are_right(name: str) -> None:
    """gradcheck through write, then read, in float64, for what the spec says is differentiable."""
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_hard_rows_stay_finite(name: str, dtype: torch.dtype) -> None:
    """Zero, tiny, huge, equal and constant rows, in both precisions."""
    memory = build(name).to(dtype)
    if memory.spec.key_domain in ("sign", "onehot"):
        pytest.skip(f"{name} takes {memory.spec.key_domain} keys only")
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


@pytest.mark.parametrize("name", [n for n in NAMES if build(n).spec.constant_state])
def test_ten_thousand_rows_stay_finite(name: str) -> None:
    """A constant-state memory takes 10,000 rows, in batches of 500 with repeats, and still answers."""
    memory = build(name)
    size = sum(t.numel() for _, t in named_tensors(memory.state))
    for seed in range(20):
        keys, values = data(memory, 500, seed % 3)
        memory.update(keys, values)
    assert torch.isfinite(memory.query(keys[:16])).all()
    assert sum(t.numel() for _, t in named_tensors(memory.state)) == size


@pytest.mark.parametrize("name", NAMES)
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
