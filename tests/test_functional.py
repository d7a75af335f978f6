"""FunctionalMemory: what the base class makes out of three pure functions, on a memory small enough to check by hand."""

from __future__ import annotations

import copy
import pickle
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from memspec.functional import FunctionalMemory, map_state, named_tensors, state_tensors
from memspec.protocol import MemorySpec


class Inner(NamedTuple):
    bias: Tensor


class State(NamedTuple):
    matrix: Tensor
    inner: Inner


class Hebb(FunctionalMemory):
    """Outer products on top of a random start, with one slow weight."""

    spec = MemorySpec(nonfinite="reject")

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.scale = nn.Parameter(torch.ones(()))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        bias = torch.randn(*batch_shape, self.value_dim).to(**self.like)
        return State(torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like), Inner(bias))

    def write(self, state: State, keys: Tensor, values: Tensor) -> State:
        return State(state.matrix + self.scale * (keys.mT @ values), state.inner)

    def read(self, state: State, keys: Tensor) -> Tensor:
        return keys @ state.matrix + state.inner.bias[..., None, :]


@pytest.fixture
def memory() -> Hebb:
    torch.manual_seed(0)
    return Hebb(3, 2)


KEYS, VALUES = torch.eye(3), torch.arange(6.0).reshape(3, 2)


def test_update_and_query_are_write_and_read(memory: Hebb) -> None:
    start = memory.state.inner.bias.clone()
    memory.update(KEYS, VALUES)
    assert torch.equal(memory.query(KEYS), VALUES + start)


def test_reset_draws_the_same_start_and_leaves_the_generator_alone(memory: Hebb) -> None:
    start = memory.query(KEYS)
    memory.update(KEYS, VALUES)
    before = torch.get_rng_state()
    memory.reset()
    assert torch.equal(memory.query(KEYS), start)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(Hebb(3, 2).query(KEYS), start)


def test_zero_rows_change_nothing(memory: Hebb) -> None:
    before = memory.state
    memory.update(KEYS[:0], VALUES[:0])
    assert memory.state is before
    assert memory.query(KEYS[:0]).shape == (0, 2)


def test_state_is_detached_unless_gradients_through_writes_are_wanted(memory: Hebb) -> None:
    values = VALUES.clone().requires_grad_()
    memory.update(KEYS, values)
    assert not memory.query(KEYS).requires_grad or memory.state.matrix.grad_fn is None
    memory.reset()
    memory.grad_through_writes = True
    memory.update(KEYS, values)
    memory.query(KEYS).sum().backward()
    assert torch.equal(values.grad, torch.ones(3, 2))
    assert memory.scale.grad is not None


def test_a_batch_of_memories_is_so_many_memories(memory: Hebb) -> None:
    memory.reset((4,))
    keys, values = torch.randn(4, 5, 3), torch.randn(4, 5, 2)
    bias = memory.state.inner.bias.clone()
    memory.update(keys, values)
    answers = memory.query(keys)
    for t in range(4):
        single = Hebb(3, 2)
        single.state = State(torch.zeros(3, 2), Inner(bias[t]))
        single.update(keys[t], values[t])
        torch.testing.assert_close(single.query(keys[t]), answers[t])


@pytest.mark.parametrize(
    ("keys", "values", "said"),
    [
        (torch.ones(2, 4), VALUES[:2], "must be \\[N, 3\\]"),
        (KEYS, torch.ones(3, 5), "must be \\[N, 2\\]"),
        (KEYS, VALUES[:2], "as many keys as values"),
        (torch.ones(3), VALUES, "one row an item"),
        (KEYS * torch.nan, VALUES, "NaN or infinity in row 0"),
        (KEYS, VALUES / 0, "NaN or infinity"),
    ],
    ids=["key-width", "value-width", "rows", "rank", "nan", "inf"],
)
def test_wrong_inputs_are_named_and_nothing_is_stored(memory: Hebb, keys: Tensor, values: Tensor, said: str) -> None:
    before = memory.state
    with pytest.raises(ValueError, match=said):
        memory.update(keys, values)
    assert memory.state is before


def test_wrong_types_are_named(memory: Hebb) -> None:
    with pytest.raises(TypeError, match="floating-point"):
        memory.update(KEYS.long(), VALUES)
    with pytest.raises(TypeError, match="is a list"):
        memory.query([[1.0, 2.0, 3.0]])  # type: ignore[arg-type]
    for wrong in (0, -1, 2.5, "4"):
        with pytest.raises(ValueError, match="integer of at least 1"):
            Hebb(wrong, 2)  # type: ignore[arg-type]


def test_the_module_moves_as_one(memory: Hebb) -> None:
    memory.update(KEYS, VALUES)
    memory.double()
    assert {t.dtype for t in state_tensors(memory.state)} == {torch.float64}
    assert memory.query(KEYS).dtype == torch.float32  # answers come in the dtype of the keys
    memory.reset()
    assert memory.state.matrix.dtype == torch.float64


def test_persistence_carries_state_start_and_slow_weights(memory: Hebb) -> None:
    memory.update(KEYS, VALUES)
    saved = copy.deepcopy(memory.state_dict())
    assert {"scale", "init_seed", "state.matrix", "state.inner.bias"} == set(saved)
    other = Hebb(3, 2)
    other.load_state_dict(saved)
    for twin in (other, copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert torch.equal(twin.query(KEYS), memory.query(KEYS))
    memory.reset()
    other.reset()
    assert torch.equal(other.query(KEYS), memory.query(KEYS))


def test_a_saved_dict_does_not_follow_later_writes(memory: Hebb) -> None:
    saved = memory.state_dict()
    before = saved["state.matrix"].clone()
    memory.update(KEYS, VALUES)
    assert torch.equal(saved["state.matrix"], before)


def test_a_state_that_does_not_fit_is_refused_and_nothing_changes(memory: Hebb) -> None:
    memory.update(KEYS, VALUES)
    before = memory.query(KEYS)
    with pytest.raises(RuntimeError, match="construct it with the dimensions it was saved with"):
        memory.load_state_dict(Hebb(4, 2).state_dict())
    partial = Hebb(3, 2).state_dict()
    del partial["state.inner.bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        memory.load_state_dict(partial)
    assert torch.equal(memory.query(KEYS), before)


def test_rollback_by_assigning_the_state(memory: Hebb) -> None:
    kept = memory.state
    before = memory.query(KEYS)
    memory.update(KEYS, VALUES)
    memory.state = kept
    assert torch.equal(memory.query(KEYS), before)


def test_states_are_walked_in_order() -> None:
    state = State(torch.zeros(2), Inner(torch.ones(3)))
    assert [name for name, _ in named_tensors(state)] == ["matrix", "inner.bias"]
    assert [t.numel() for t in state_tensors({"a": state, "b": [torch.ones(1)]})] == [2, 3, 1]
    doubled = map_state(lambda t: 2 * t, state)
    assert isinstance(doubled, State)
    assert torch.equal(doubled.inner.bias, 2 * torch.ones(3))
