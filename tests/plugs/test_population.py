"""Populations: one batch of memories and a loop over memories give the same numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from memspec.errors import CannotMeasure
from memspec.functional import FunctionalMemory
from memspec.judging.statistics import confidence_interval, sign_p_value
from memspec.laws.law import Law
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import CLOCK, Plug, Shape
from memspec.plugs.population import Batched, Looped, Stacked, checked_answer, initial_states, populate, state_bytes
from memspec.plugs.reachable import tensors_in
from memspec.reference import DeltaMemory, ExactMemory

SHAPE = Shape(16, 12, 16)
DRAWN = [
    "AdaptiveMemory",
    "HolographicMemory",
    "ProductKeyMemory",
    "SparseDistributedMemory",
    "TitansMemory",
    "TrainableMemory",
]
REFERENCES = [
    "DeltaMemory",
    "MatrixAssociativeMemory",
    "SoftmaxMemory",
    "EpisodicMemory",
    "CachedMemory",
    "ExactMemory",
    "NullMemory",
]


class Matrix(NamedTuple):
    matrix: Tensor


def pairs(trials: int = 3, n: int = 10) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(trials, n, 16, generator=g), dim=-1)
    return keys, torch.randn(trials, n, 12, generator=g)


@pytest.mark.parametrize("name", REFERENCES)
def test_batched_equals_looped(name: str) -> None:
    """Answers, across resets, and bytes, for trials that are not the first ones."""
    plug = load_plug(f"memspec.reference:{name}")
    shape = plug.shape(16, 12, 16)
    keys, values = pairs()
    values = values[..., : shape.value_dim]
    both = [populate(plug, shape, [4, 9, 2], 5, looped=looped) for looped in (False, True)]
    assert isinstance(both[0], Batched)
    assert isinstance(both[1], Looped)
    for act in (
        lambda p: p.store(keys, values),
        lambda p: p.reset(),
        lambda p: p.store_rows(keys[:, :4], values[:, :4]),
    ):
        for population in both:
            act(population)
        torch.testing.assert_close(both[0].query(keys), both[1].query(keys), rtol=1e-4, atol=1e-5)
    assert torch.equal(both[0].state_bytes(), both[1].state_bytes())


def test_a_trial_is_the_same_whatever_it_is_run_with() -> None:
    plug = load_plug("memspec.reference:EpisodicMemory")
    keys, values = pairs()
    together = populate(plug, SHAPE, [0, 1, 2], 0)
    alone = populate(plug, SHAPE, [2], 0)
    together.store(keys, values)
    alone.store(keys[2:], values[2:])
    torch.testing.assert_close(together.query(keys)[2:], alone.query(keys[2:]))


def test_capabilities_are_called_for_every_memory() -> None:
    plug = load_plug("memspec.reference:ExactMemory")
    keys, values = pairs()
    answers = []
    for looped in (False, True):
        population = populate(plug, SHAPE, [0, 1, 2], 0, looped=looped, needs=("confidence",))
        population.store(keys, values)
        answers.append(population.call("confidence", keys))
    assert answers[0].shape == (3, 10)
    torch.testing.assert_close(*answers)


class Foreign:
    """Someone else's functional memory: its optional methods know only a single state."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.dims = key_dim, value_dim
        self.reset()

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> dict[str, Tensor]:
        return {"matrix": torch.zeros(*batch_shape, *self.dims)}

    def write(self, state: dict[str, Tensor], keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        return {"matrix": state["matrix"] + keys.mT @ values}

    def read(self, state: dict[str, Tensor], keys: Tensor) -> Tensor:
        return keys @ state["matrix"]

    def reset(self) -> None:
        self.state = self.init_state()

    def update(self, keys: Tensor, values: Tensor) -> None:
        self.state = self.write(self.state, keys, values)

    def query(self, keys: Tensor) -> Tensor:
        return self.read(self.state, keys)

    def confidence(self, keys: Tensor) -> Tensor:
        return torch.full((len(keys),), 0.5)


def test_a_foreign_functional_memory_is_batched_unless_its_optional_methods_are_needed() -> None:
    plug = Plug("foreign", Foreign)
    keys, values = pairs()
    batched, looped = populate(plug, SHAPE, [0, 1, 2], 0), populate(plug, SHAPE, [0, 1, 2], 0, needs=("confidence",))
    assert isinstance(batched, Batched)
    assert isinstance(looped, Looped)
    for population in (batched, looped):
        population.update(keys, values)
        population.update(keys[:, :0], values[:, :0])
    torch.testing.assert_close(batched.query(keys), looped.query(keys))
    assert looped.call("confidence", keys).shape == (3, 10)
    assert state_bytes(looped.memories[0]) == 4 * 16 * 12


def test_presentations_are_the_specs_affair() -> None:
    from memspec import MemorySpec

    class Thrice(Foreign):
        spec = MemorySpec(presentations=3)

    keys, values = pairs()
    once, thrice = populate(Plug("a", Foreign), SHAPE, [0, 1, 2], 0), populate(Plug("b", Thrice), SHAPE, [0, 1, 2], 0)
    for population in (once, thrice):
        population.store(keys, values)
    torch.testing.assert_close(thrice.query(keys), 3 * once.query(keys))
    thrice.reset()
    thrice.store_rows(keys, values)
    torch.testing.assert_close(thrice.query(keys), 3 * once.query(keys))


def test_an_answer_of_the_wrong_shape_is_named() -> None:
    class Flat(Foreign):
        def read(self, state: Any, keys: Tensor) -> Tensor:
            return super().read(state, keys)[..., 0]

    population = populate(Plug("flat", Flat), SHAPE, [0], 0)
    with pytest.raises(
        ValueError, match=r"flat: query returned shape \(1, 10\); it must be a tensor of shape \(1, 10, 12\)"
    ):
        population.query(pairs(1)[0])
    with pytest.raises(ValueError, match="returned a list"):
        checked_answer([1.0], (1,), "m")


def test_different_answers_to_equal_loads_cannot_be_stacked() -> None:
    class Ragged(Foreign):
        made = 0

        def __init__(self, key_dim: int, value_dim: int) -> None:
            super().__init__(key_dim, value_dim)
            Ragged.made += 1
            self.size = Ragged.made

        def slot_usage(self) -> Tensor:
            return torch.ones(self.size)

    population = populate(Plug("ragged", Ragged), SHAPE, [0, 1], 0, looped=True)
    with pytest.raises(CannotMeasure, match="different shapes"):
        population.call("slot_usage")


def test_random_starts_are_drawn_for_each_trial_and_fixed_ones_once() -> None:
    class Random(DeltaMemory):
        def init_state(self, batch_shape: tuple[int, ...] = ()) -> Any:
            state = super().init_state(batch_shape)
            return type(state)(torch.randn_like(state.matrix))

    states = initial_states(Random(4, 3), [1, 2, 1]).matrix
    assert torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[1])
    assert initial_states(ExactMemory(4, 3), [1, 2]).keys.shape == (2, 0, 4)


def test_time_inside_the_memory_is_counted() -> None:
    before = CLOCK["memory"]
    keys, values = pairs()
    population = populate(load_plug("memspec.reference:DeltaMemory"), SHAPE, [0, 1, 2], 0)
    population.store(keys, values)
    population.query(keys)
    assert CLOCK["memory"] > before


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc", "to_mkldnn"])
def test_a_sparse_tensor_in_the_state_is_looked_at_by_its_parts(layout: str) -> None:
    class Holder:
        def __init__(self) -> None:
            dense = torch.eye(4)
            self.state = dense.to_mkldnn() if layout == "to_mkldnn" else getattr(dense, layout)()

    parts = list(tensors_in(Holder()))
    assert sum(part.numel() * part.element_size() for part in parts) == state_bytes(Holder())
    assert sum(part.sum().item() for part in parts if part.is_floating_point()) == 4
    assert all(torch.equal(part, part.clone()) for part in parts)


# ---- slow weights ---------------------------------------------------------------------------------------------


class DrawnStep(FunctionalMemory):
    """A delta rule whose step is drawn at construction, as a weight."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.step = torch.nn.Parameter(0.2 + 0.8 * torch.rand(()))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> Matrix:
        return Matrix(torch.zeros(*batch_shape, self.key_dim, self.value_dim))

    def write(self, state: Matrix, keys: Tensor, values: Tensor) -> Matrix:
        return Matrix(state.matrix + self.step * keys.mT @ (values - keys @ state.matrix))

    def read(self, state: Matrix, keys: Tensor) -> Tensor:
        return keys @ state.matrix


class DrawnStart(DrawnStep):
    """What is drawn reaches the state as it starts, and is not used again."""

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> Matrix:
        return Matrix(self.step.detach() * torch.ones(*batch_shape, self.key_dim, self.value_dim))

    def write(self, state: Matrix, keys: Tensor, values: Tensor) -> Matrix:
        return Matrix(state.matrix + keys.mT @ values)


class Branching(DrawnStep):
    """Takes a number out of a tensor, which vmap does not allow."""

    def write(self, state: Matrix, keys: Tensor, values: Tensor) -> Matrix:
        return super().write(state, keys, values) if float(keys.abs().max()) > 0 else state


class PlainStep(DrawnStep):
    """The step is a plain number."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.number = float(torch.rand(()))

    def write(self, state: Matrix, keys: Tensor, values: Tensor) -> Matrix:
        return Matrix(state.matrix + self.number * keys.mT @ (values - keys @ state.matrix))


DRAWING = {"step": (DrawnStep, 1), "start": (DrawnStart, 0), "branching": (Branching, 2), "plain": (PlainStep, None)}


@pytest.mark.parametrize("kind", DRAWING)
def test_every_trial_has_weights_of_its_own_and_the_same_in_a_batch_and_in_a_loop(kind: str) -> None:
    factory, way = DRAWING[kind]
    plug = Plug(kind, factory)
    keys, values = pairs()
    batch, loop = (populate(plug, SHAPE, [4, 9, 2], 5, looped=looped) for looped in (False, True))
    assert isinstance(batch, Looped if way is None else Stacked)
    for population in (batch, loop):
        population.store_rows(keys[:1].expand(3, -1, -1), values[:1].expand(3, -1, -1))
    answers = batch.query(keys[:1].expand(3, -1, -1))
    torch.testing.assert_close(answers, loop.query(keys[:1].expand(3, -1, -1)))
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2])
    assert torch.equal(batch.state_bytes(), loop.state_bytes())
    if isinstance(batch, Stacked):
        assert batch.weighted.ways["write"] == way
    alone = populate(plug, SHAPE, [9], 5)
    alone.store_rows(keys[:1], values[:1])
    torch.testing.assert_close(alone.query(keys[:1])[0], answers[1])


def test_an_error_of_the_memory_itself_is_raised() -> None:
    class Failing(DrawnStep):
        def write(self, state: Matrix, keys: Tensor, values: Tensor) -> Matrix:
            if keys.shape[-2] > 5:
                raise RuntimeError("out of slots")
            return super().write(state, keys, values)

    with pytest.raises(RuntimeError, match="out of slots"):
        populate(Plug("failing", Failing), SHAPE, [0, 1], 0).update(*pairs(2))


@pytest.mark.parametrize("name", DRAWN)
def test_references_that_draw_weights_are_the_same_in_a_batch_and_in_a_loop(name: str) -> None:
    plug = load_plug(f"memspec.reference:{name}")
    shape = plug.shape(16, 12, 16)
    keys, values = pairs()
    values = keys if plug.spec.association == "auto" else torch.randn(3, 10, shape.value_dim)
    keys = torch.nn.functional.normalize(torch.randn(3, 10, shape.key_dim), dim=-1)
    batch, loop = (populate(plug, shape, [4, 9, 2], 5, looped=looped) for looped in (False, True))
    assert isinstance(batch, Stacked)
    for population in (batch, loop):
        population.store(keys, values)
        population.store_rows(keys[:, :3], values[:, :3])
    torch.testing.assert_close(batch.query(keys), loop.query(keys), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factory", [DrawnStep, PlainStep])
def test_a_memory_does_not_differ_from_itself_over_constructions(factory: type[FunctionalMemory]) -> None:
    """A/A: two suite seeds draw two lots of steps, which one draw for all trials would make two different memories."""
    plug, wrong = Plug("step", factory), 0
    keys, values = (rows[:1].expand(32, -1, -1) for rows in pairs())
    errors = []
    for seed in range(12):
        population = populate(plug, SHAPE, range(32), seed)
        population.store_rows(keys[:, :1], values[:, :1])
        errors.append((population.query(keys[:, :1]) - values[:, :1]).square().mean((1, 2)).double())
    for a, b in zip(errors[::2], errors[1::2]):
        wrong += sign_p_value((a - b).numpy()) < 0.05
    assert wrong <= 1
    every = torch.cat(errors)
    spread = every.max().item()
    inside = [confidence_interval(e.numpy(), 0, spread) for e in errors]
    assert all(i.low <= every.mean().item() <= i.high for i in inside)


# ---- writes that draw -----------------------------------------------------------------------------------------


class Noisy:
    """Honest noise on every written row, from the global generator."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.dims = key_dim, value_dim
        self.reset()

    def reset(self) -> None:
        self.matrix = torch.zeros(self.dims)

    def update(self, keys: Tensor, values: Tensor) -> None:
        self.matrix = self.matrix + keys.mT @ (values + 0.1 * torch.randn_like(values))

    def query(self, keys: Tensor) -> Tensor:
        return keys @ self.matrix


def test_writes_that_draw_do_so_alike_in_every_run_and_in_a_trial_alone() -> None:
    plug = Plug("noisy", Noisy)
    keys, values = pairs()
    answers = []
    for number in (1, 2):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        population = populate(plug, SHAPE, [4, 9, 2], 5)
        population.store_rows(keys, values)
        answers.append(population.query(keys))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*answers)
    alone = populate(plug, SHAPE, [9], 5)
    alone.store_rows(keys[1:2], values[1:2])
    assert torch.equal(alone.query(keys[1:2])[0], answers[0][1])
    other = populate(plug, SHAPE, [4, 9, 2], 6)
    other.store_rows(keys, values)
    assert not torch.allclose(other.query(keys), answers[0])


def test_a_functional_memory_whose_writes_draw_is_driven_in_a_loop() -> None:
    class Drawing(DrawnStep):
        def write(self, state: Matrix, keys: Tensor, values: Tensor) -> Matrix:
            return super().write(state, keys, values + torch.randn_like(values))

    assert isinstance(populate(Plug("drawing", Drawing), SHAPE, [0, 1], 0), Looped)


def test_two_memories_of_a_law_that_are_written_alike_draw_alike() -> None:
    case = next(Law(Plug("noisy", Noisy), "A rule.").cases(3))
    assert torch.equal(case.stored().answers(), case.stored().answers())
