"""What every wrapper keeps around every gradient memory: it is that memory until a task has ended, and then in batches and rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from drawing import EXACT
from memspec.functional import named_tensors, replace_tensors, state_tensors
from memspec.reference.wrappers.weights import GradientWrapper
from variants import INNER, WRAPPERS, two_tasks, wrapped

KA, VA, KB, VB = two_tasks()


def every(test: Callable[..., None]) -> Callable[..., None]:
    """With each wrapper around each memory."""
    return pytest.mark.parametrize("inner", INNER)(pytest.mark.parametrize("wrapper", WRAPPERS)(test))


def after_task_a(memory: GradientWrapper) -> Any:
    """A state in which task A has been learnt and has ended."""
    with torch.no_grad():
        return memory.consolidated(memory.write(memory.init_state(()), KA, VA))


@every
def test_before_a_task_ends_it_is_the_wrapped_memory(wrapper: str, inner: str) -> None:
    """Bit for bit, in answers and in state."""
    memory = wrapped(wrapper, inner)
    plain, state = copy.deepcopy(memory.memory), memory.state.inner
    for keys, values in ((KA, VA), (KB, VB), (KA[:1], VB[:1])):
        memory.update(keys, values)
        state = plain.write(state, keys, values)
        assert torch.equal(memory.query(keys), plain.read(state, keys))
    for ours, its in zip(state_tensors(memory.state.inner), state_tensors(state), strict=True):
        assert torch.equal(ours, its)


@every
def test_the_end_of_a_task_changes_no_answer(wrapper: str, inner: str) -> None:
    memory = wrapped(wrapper, inner)
    memory.update(KA, VA)
    before = memory.query(KA)
    memory.consolidate()
    assert memory.state.tasks == 1
    memory.consolidate()
    assert memory.state.tasks == 1, "nothing new was written"
    assert torch.equal(memory.query(KA), before)


@every
def test_memories_of_a_batch_are_separate(wrapper: str, inner: str) -> None:
    """Two memories, of which one has ended a task: each as it is alone."""
    memory = wrapped(wrapper, inner)
    with torch.no_grad():
        start, ended = memory.init_state(()), after_task_a(memory)
        columns = (torch.stack(pair) for pair in zip(state_tensors(start), state_tensors(ended)))
        batch = memory.init_state((2,))
        batch = replace_tensors(batch, dict(zip([name for name, _ in named_tensors(batch)], columns)))
        after = memory.consolidated(memory.write(batch, KB.expand(2, -1, -1), VB.expand(2, -1, -1)))
        answers = memory.read(after, KA.expand(2, -1, -1))
        alone = [memory.consolidated(memory.write(single, KB, VB)) for single in (start, ended)]
    for b, single in enumerate(alone):
        torch.testing.assert_close(answers[b], memory.read(single, KA), **EXACT)
        for (name, ours), its in zip(named_tensors(after), state_tensors(single), strict=True):
            torch.testing.assert_close(ours[b], its, **EXACT, msg=lambda text, name=name: f"{name}: {text}")
    assert not torch.allclose(answers[0], answers[1])


@every
def test_inference_mode_changes_nothing_and_no_graph_is_kept(wrapper: str, inner: str) -> None:
    answers = []
    for mode in (False, True):
        memory = wrapped(wrapper, inner)
        with torch.inference_mode(mode):
            for keys, values in ((KA, VA), (KB, VB)):
                memory.update(keys, values)
                memory.consolidate()
            answers.append(memory.query(KA).clone())
        assert not any(t.requires_grad for t in state_tensors(memory.state))
    torch.testing.assert_close(answers[0], answers[1], **EXACT)


@pytest.mark.parametrize("inner", ["ttt", "titans"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_rows_one_by_one_are_rows_together(wrapper: str, inner: str) -> None:
    memory = wrapped(wrapper, inner)
    state = alone = after_task_a(memory)
    for k, v in zip(KB.split(1), VB.split(1)):
        alone = memory.write(alone, k, v)
    torch.testing.assert_close(memory.read(memory.write(state, KB, VB), KA), memory.read(alone, KA), **EXACT)


@every
def test_gradients_through_writes_after_a_task(wrapper: str, inner: str) -> None:
    """To pairs written after it ended; what is kept of it is data."""
    memory = wrapped(wrapper, inner)
    state = after_task_a(memory)
    inputs = [t.clone().requires_grad_() for t in (KB[:3], VB[:3], KA[:2])]
    assert torch.autograd.gradcheck(lambda k, v, q: memory.read(memory.write(state, k, v), q), inputs)


@every
def test_a_memory_with_tasks_is_saved_whole(wrapper: str, inner: str) -> None:
    """A loaded copy, of another start, goes on alike, through the end of another task; nothing is saved twice."""
    memory, other = wrapped(wrapper, inner), wrapped(wrapper, inner, seed=1)
    memory.update(KA, VA)
    memory.consolidate()
    memory.update(KB, VB)
    other.load_state_dict(memory.state_dict())
    for each in (memory, other):
        each.update(KA.flip(-1), VB)
        each.consolidate()
        each.update(KB.flip(-1), VA)
    assert torch.equal(other.query(KA), memory.query(KA))
    assert not any(name.startswith("memory.state") for name in memory.state_dict())
    memory.reset()
    assert memory.state.tasks == 0
