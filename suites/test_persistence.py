"""Persistence: what is saved and copied answers the same, and goes on learning the same."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from memspec.laws.law import CAPACITY, Case, Driven, Law, advise
from memspec.plugs.adapting import Adapted

FURTHER = 3
"""Updates after loading: what is not saved (pointers, moments, flags) shows in what the memory does next."""


class TestPersistence:
    """Persistence: what is saved and copied answers the same, and goes on learning the same."""

    pytestmark = pytest.mark.law

    @pytest.mark.parametrize("into", ["fresh", "used"])
    def test_state_dict(self, law: Law, into: str) -> None:
        """A state dict, loaded into another memory, carries all that answers and later learning depend on."""
        law.plug.needs("Persistent")
        for case in law.cases(0, 1, 7, CAPACITY + 4):  # past the capacity a write pointer is no longer the count
            case.script.needs("import copy")
            memory = case.stored()
            other = loaded(case, saved_state(case, memory), "saved", used=into == "used")
            agree(
                case, memory, other, cause="the store is a plain attribute, not a registered buffer, so it is not saved"
            )

    def test_loaded_is_separate(self, law: Law) -> None:
        """A memory that loaded another's state dict shares nothing with it."""
        law.plug.needs("Persistent")
        for case in law.cases(1, 5):
            memory = case.stored()
            before = memory.answers()
            other = loaded(case, memory.memory.state_dict(), f"{memory.name}.state_dict()")
            other.store(case.others, case.spare)
            case.same(
                memory.answers(),
                before,
                cause="load_state_dict keeps the saved tensors themselves and update writes into them; copy on load",
            )

    def test_saved_file(self, law: Law) -> None:
        """A state dict of tensors survives torch.save and torch.load(weights_only=True)."""
        law.plug.needs("Persistent")
        for case in law.cases(1, 7):
            memory = case.stored()
            state = memory.memory.state_dict()
            file = io.BytesIO()
            if not isinstance(state, dict) or not all(isinstance(part, Tensor) for part in state.values()):
                advise(law.plug, "its state_dict holds more than tensors; torch.load(weights_only=True) may refuse it")
                return
            case.script.say("file = io.BytesIO()", "import io")
            case.script.say(f"torch.save({memory.name}.state_dict(), file)")
            case.script.say("file.seek(0)")
            torch.save(state, file)
            file.seek(0)
            load = partial(torch.load, weights_only=True)
            read = case.run("saved = torch.load(file, weights_only=True)", load, file)
            agree(case, memory, loaded(case, read, "saved"), cause="saving changes a dtype or drops an entry")

    @pytest.mark.parametrize("way", ["deepcopy", "pickle"])
    def test_copies(self, law: Law, way: str) -> None:
        """A deep copy, and a pickled memory, answer the same, go on learning the same, and share nothing with the original.

        A memory that cannot be copied at all breaks the law only if it claims to be persistent; objects from
        memspec.adapt hold functions, which no pickle takes, and get advice.
        """
        module = {"deepcopy": "copy", "pickle": "pickle"}[way]
        text = {"deepcopy": "copy.deepcopy({})", "pickle": "pickle.loads(pickle.dumps({}))"}[way]
        copied: Callable[[Any], Any] = copy.deepcopy if way == "deepcopy" else lambda m: pickle.loads(pickle.dumps(m))
        for case in law.cases(0, 1, 7, CAPACITY + 4):
            case.script.needs(f"import {module}")
            memory = case.stored()
            before = memory.answers()
            if not _claims_copies(law, way):
                try:
                    copied(memory.memory)
                except Exception as error:
                    advise(law.plug, f"cannot be copied by {way} ({type(error).__name__}: {error})")
                    return
            twins = []
            for _ in range(2):
                name = case.script.fresh("m")
                cause = "a tensor with an autograd graph, a lambda, or an open handle is kept as an attribute"
                call = f"{name} = {text.format(memory.name)}"
                twins.append(case.drive(case.run(call, copied, memory.memory, cause=cause), name))
            twins[0].store(case.others, case.spare)
            case.same(memory.answers(), before, cause="the copy shares tensors with the original, and writes into them")
            agree(case, memory, twins[1], cause=f"__getstate__, __deepcopy__ or __reduce__ leaves state out of a {way}")


def loaded(case: Case, saved: object, name: str, used: bool = False) -> Driven:
    """Another memory, built under another seed, into which ``saved`` (called ``name``) was loaded."""
    other = case.build(seed=1)
    if used:
        other.store(case.others, case.spare)
    case.run(
        f"{other.name}.load_state_dict({name})",
        other.memory.load_state_dict,
        saved,
        cause="state that grows or is absent when fresh has to be sized by load_state_dict from what was saved",
    )
    return other


def saved_state(case: Case, memory: Driven) -> object:
    """A copy of ``state_dict()``, called ``saved`` in the transcript."""
    text = f"saved = copy.deepcopy({memory.name}.state_dict())"
    return case.run(text, lambda: copy.deepcopy(memory.memory.state_dict()))


def agree(case: Case, memory: Driven, other: Driven, cause: str) -> None:
    """Break the law unless both answer alike now, and after further updates."""
    case.same(other.answers(), memory.answers(), cause=cause)
    for turn in range(FURTHER):
        keys, values = case.pairs(min(case.n, 7))  # fewer than the capacity: more would hide where they begin
        for each in (memory, other):
            case.seed(turn)
            each.store(keys, values)
        case.same(
            other.answers(),
            memory.answers(),
            cause="a write pointer, a counter, a full flag or an optimiser's moments are not carried over",
            expected=f"the same answers after {turn + 1} further update{'s' * (turn > 0)}, bit for bit",
        )


def _claims_copies(law: Law, way: str) -> bool:
    """Whether failing to copy breaks the law: for persistent memories, if their class can be pickled at all."""
    local = "<locals>" in type(law.plug.probe).__qualname__ or isinstance(law.plug.probe, Adapted)
    return "Persistent" in law.plug.capabilities and not (way == "pickle" and local)
