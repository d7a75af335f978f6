"""What holds for every option of the core's reference memories: derivatives, hard rows, long runs, symmetries.

A variant is a class with options that change how it works; every option of every class is in some variant.
"""

from __future__ import annotations

import functools

import pytest
import torch

from memspec.functional import state_tensors
from memspec.reference import (
    CachedMemory,
    DeltaMemory,
    EpisodicMemory,
    ExactMemory,
    MatrixAssociativeMemory,
    NullMemory,
    ProjectingEpisodicMemory,
    SoftmaxMemory,
)

EXACT = {"rtol": 0, "atol": 1e-10}
DK, DV = 5, 3

VARIANTS = {
    "matrix": MatrixAssociativeMemory,
    "matrix-unit-decay": functools.partial(MatrixAssociativeMemory, key_norm="unit", decay=0.9),
    "delta-chunked": functools.partial(DeltaMemory, chunk=3),
    "delta-rows": functools.partial(DeltaMemory, form="rows", beta=0.5),
    "delta-raw": functools.partial(DeltaMemory, key_norm="none", beta=0.02),
    "episodic": functools.partial(EpisodicMemory, memory_size=7, lr=0.5),
    "episodic-adam": functools.partial(EpisodicMemory, memory_size=7, optimiser="adam", update_steps=2, scale=None),
    "episodic-items": functools.partial(EpisodicMemory, memory_size=7, reduction="items", lr=0.3),
    "projecting": functools.partial(ProjectingEpisodicMemory, memory_size=7, memory_dim=4, lr=0.5),
    "projecting-learned": functools.partial(
        ProjectingEpisodicMemory, memory_size=7, memory_dim=4, lr=0.5, projection="learned"
    ),
    "softmax": functools.partial(SoftmaxMemory, capacity=4, beta=3.0),
    "softmax-dot": functools.partial(SoftmaxMemory, capacity=16, beta=1.0, key_norm="none"),
    "cached": functools.partial(CachedMemory, capacity=4),
    "cached-overwrite": functools.partial(CachedMemory, capacity=4, known="overwrite", similarity_threshold=0.5),
    "exact": ExactMemory,
    "null": NullMemory,
}

every = pytest.mark.parametrize("variant", VARIANTS)


def built(variant: str, dtype: torch.dtype = torch.float64):
    torch.manual_seed(0)
    return VARIANTS[variant](DK, DV).to(dtype)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@every
def test_gradients_through_write_then_read(variant):
    """gradcheck with respect to everything the spec calls differentiable; nothing flows to the rest."""
    memory = built(variant)
    wanted = memory.spec.differentiable
    tensors = {"keys": drawn(6, DK), "values": drawn(6, DV, seed=1), "query": drawn(2, DK, seed=2)}

    def answer(*given: torch.Tensor) -> torch.Tensor:
        rows = tensors | dict(zip(sorted(wanted), given))
        state = memory.write(
            memory.write(memory.state, rows["keys"][:2], rows["values"][:2]), rows["keys"][2:], rows["values"][2:]
        )
        return memory.read(state, rows["query"])

    inputs = [tensors[name].clone().requires_grad_() for name in sorted(wanted)]
    if wanted:
        assert torch.autograd.gradcheck(answer, inputs)
        flowing = torch.autograd.grad(answer(*inputs).square().sum(), inputs)
        assert all(g.ne(0).any() for g in flowing)
    others = {name: tensors[name].clone().requires_grad_() for name in tensors.keys() - wanted}
    tensors |= others
    result = answer(*inputs)
    if others and result.requires_grad:
        assert all(
            g is None or g.eq(0).all() for g in torch.autograd.grad(result.sum(), others.values(), allow_unused=True)
        )


@every
def test_second_derivatives_through_the_writes(variant):
    """An outer optimiser may differentiate what an inner step did: gradgradcheck where all three are differentiable."""
    memory = built(variant)
    if memory.spec.differentiable != {"query", "keys", "values"}:
        pytest.skip("no gradient to all three")
    inputs = [t.requires_grad_() for t in (drawn(3, DK), drawn(3, DV, seed=1), drawn(2, DK, seed=2))]
    assert torch.autograd.gradgradcheck(lambda k, v, q: memory.read(memory.write(memory.state, k, v), q), inputs)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_hard_rows_stay_finite(variant, dtype):
    """Zero, tiny, large, equal and constant rows, in every pair of keys and values; and gradients at zero rows."""
    memory = built(variant, dtype)
    hard = torch.stack([torch.zeros(5), torch.full((5,), 1e-30), torch.full((5,), 100.0), torch.ones(5), torch.ones(5)])
    for shift in range(5):
        memory.update(hard.to(dtype), hard.roll(shift, 0)[:, :DV].to(dtype))
        answers = memory.query(hard.to(dtype))
        assert torch.isfinite(answers).all()
        assert answers.dtype == dtype
    rows = hard.to(dtype).requires_grad_()
    answers = memory.read(memory.write(memory.init_state(), rows, rows[:, :DV]), rows)
    if answers.requires_grad:
        answers.float().sum().backward()
        assert rows.grad is None or torch.isfinite(rows.grad).all()


@every
def test_ten_thousand_steps(variant):
    """10,000 of them: finite answers, no more bytes where a constant state is claimed."""
    memory = built(variant, torch.float32)
    size = sum(t.numel() for t in state_tensors(memory.state))
    keys = torch.nn.functional.normalize(drawn(10_000, DK), dim=-1).float()
    values = drawn(10_000, DV, seed=1).float()
    rows = 10  # in order: every row is a step
    if memory.spec.write == "joint":  # every call is a step; the plain one goes all the way
        rows, keys = 1, keys if variant == "episodic" else keys[:1000]
    with torch.inference_mode():
        for k, v in zip(keys.split(rows), values.split(rows)):
            memory.update(k, v)
        answers, before = memory.query(keys[-50:]), built(variant, torch.float32).query(keys[-50:])
    assert torch.isfinite(answers).all()
    assert variant == "null" or not torch.equal(answers, before)
    if memory.spec.constant_state:
        assert sum(t.numel() for t in state_tensors(memory.state)) == size


ISOTROPIC = [v for v in VARIANTS if not v.startswith(("episodic", "projecting"))]  # those start from random slots


@pytest.mark.parametrize("variant", ISOTROPIC)
def test_rotating_keys_and_queries_changes_nothing(variant):
    memory = built(variant)
    rotation = torch.linalg.qr(drawn(DK, DK, seed=9)).Q
    keys, values, queries = drawn(9, DK), drawn(9, DV, seed=1), drawn(6, DK, seed=2)
    plain = memory.read(memory.write(memory.state, keys, values), queries)
    turned = memory.read(memory.write(memory.state, keys @ rotation, values), queries @ rotation)
    torch.testing.assert_close(turned, plain, **EXACT)


LINEAR = [v for v in ISOTROPIC if not v.startswith("cached")]  # a full cache looks at the values to place them


@pytest.mark.parametrize("variant", LINEAR)
def test_reads_are_linear_in_the_values(variant):
    memory = built(variant)
    keys, one, other, queries = drawn(9, DK), drawn(9, DV, seed=1), drawn(9, DV, seed=2), drawn(6, DK, seed=3)

    def read(values: torch.Tensor) -> torch.Tensor:
        return memory.read(memory.write(memory.state, keys, values), queries)

    torch.testing.assert_close(read(2 * one - 3 * other), 2 * read(one) - 3 * read(other), **EXACT)


def test_options_that_show_elsewhere():
    """presentations in the spec; the cache's threshold once it is full, its temperature in the loss; projections train."""
    assert EpisodicMemory(DK, DV, presentations=3).spec.presentations == 3
    assert ProjectingEpisodicMemory(DK, DV, presentations=3).spec.presentations == 3
    caches = [CachedMemory(DK, DV, capacity=3, similarity_threshold=t, temperature=t) for t in (0.01, 0.99)]
    for cache in caches:
        cache.update(drawn(9, DK).float(), drawn(9, DV, seed=1).float())
    assert not torch.equal(caches[0].state.keys, caches[1].state.keys)
    for cache in caches:
        cache.state = caches[0].state
    losses = [cache.auxiliary_loss(drawn(9, DK).float(), drawn(9, DV, seed=1).float()) for cache in caches]
    assert losses[0] != losses[1]
    assert ProjectingEpisodicMemory(DK, DV, projection="learned").value_projection.requires_grad
