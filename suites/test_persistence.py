"""Persistence: what is saved and copied answers the same, and goes on learning the same."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from torch import Tensor

from memspec.laws.case import CAPACITY, Case
from memspec.laws.driven import Driven
from memspec.laws.ladder import Ladder
from memspec.laws.law import Law, advise
from memspec.laws.salted import salted
from memspec.world.boundary import cross

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda memory: pickle.loads(pickle.dumps(memory)),
}
FURTHER = 3
"""Updates after loading: what is not saved (pointers, moments, flags) shows in what the memory does next."""


class TestPersistence:
    """Persistence: what is saved and copied answers the same, and goes on learning the same."""

    pytestmark = pytest.mark.law

    @pytest.mark.parametrize("into", ["fresh", "used"])
    def test_state_dict(self, law: Law, into: str) -> None:
        """A state dict, loaded into another memory, carries all that answers and later learning depend on."""
        law.plug.needs("Persistent")
        for case in law.cases(
            0, 1, 7, CAPACITY + 4, ladder=Ladder()
        ):  # past the capacity a write pointer is no longer the count
            memory = case.stored()
            saved = case.let("saved", "{}.deepcopy({}.state_dict())", copy, memory)
            other = loaded(case, saved, used=into == "used")
            agree(
                case, memory, other, cause="the store is a plain attribute, not a registered buffer, so it is not saved"
            )

    def test_loaded_is_separate(self, law: Law) -> None:
        """A memory that loaded another's state dict shares nothing with it."""
        law.plug.needs("Persistent")
        for case in law.cases(1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            before = memory.answers()
            other = loaded(case, case.let("saved", "{}.state_dict()", memory))
            other.store(case.others, case.spare)
            case.same(
                memory.answers(),
                before,
                cause="load_state_dict keeps the saved tensors themselves and update writes into them; copy on load",
            )

    def test_other_process(self, law: Law) -> None:
        """A state dict answers the same in another process, in which Python's hashes of text and bytes are others."""
        law.plug.needs("Persistent")
        for case in law.cases(1, 7, CAPACITY + 4):
            memory = case.stored()
            want = memory.answers()
            saved = case.let("saved", "{}.deepcopy({}.state_dict())", copy, memory)
            with case.within(f"{case.ref(salted)}()"):
                got = loaded(case, saved).answers()
            case.same(
                got,
                want,
                cause="hash() of text or bytes addresses what is saved, and is salted anew in every process: use hashlib or zlib",
                expected="the answers in the process that saved it",
            )

    def test_saved_file(self, law: Law) -> None:
        """A state dict of tensors and plain numbers survives torch.save and torch.load(weights_only=True)."""
        law.plug.needs("Persistent")
        for case in law.cases(1, 7, ladder=Ladder(thin=True)):
            memory = case.stored()
            state = case.let("state", "{}.state_dict()", memory)
            if not isinstance(state, dict):
                advise(
                    law.plug, f"its state_dict is a {type(state).__name__}; torch.load(weights_only=True) may refuse it"
                )
                return
            refused = [str(name) for name, part in state.items() if not _loads(part)]
            if refused:
                named = ", ".join(f"{name} ({type(state[name]).__name__})" for name in refused[:3])
                advise(law.plug, f"of its state_dict torch.load(weights_only=True) may refuse {named}")
                return
            case.let("file", "{}.BytesIO()", io)
            case.do("torch.save(state, file)")
            case.do("file.seek(0)")
            saved = case.let("saved", "torch.load(file, weights_only=True)")
            agree(case, memory, loaded(case, saved), cause="saving changes a dtype or drops an entry")

    @pytest.mark.parametrize("way", ["deepcopy", "pickle"])
    def test_copies(self, law: Law, way: str) -> None:
        """A deep copy, and a pickled memory, answer the same, go on learning the same, and share nothing with the original.

        A memory that cannot be copied even when it is fresh gets advice: what it is saved by is its state dict. One that can,
        and cannot any more once it is used, breaks the law if it is persistent.
        """
        template, module = {
            "deepcopy": ("{0}.deepcopy({1})", copy),
            "pickle": ("{0}.loads({0}.dumps({1}))", pickle),
        }[way]
        for case in law.cases(0, 1, 7, CAPACITY + 4, ladder=Ladder(thin=True)):
            memory = case.stored()
            before = memory.answers()
            if (error := _uncopied(way, case.build() if "Persistent" in law.plug.capabilities else memory)) is not None:
                saved = "; its state_dict works" if "Persistent" in law.plug.capabilities else ""
                advise(law.plug, f"cannot be copied by {way} ({type(error).__name__}: {error}){saved}")
                return
            cause = "a tensor with an autograd graph, a lambda, or an open handle is kept as an attribute"
            twins = [case.drive(template, module, memory, cause=cause) for _ in range(2)]
            twins[0].store(case.others, case.spare)
            case.same(memory.answers(), before, cause="the copy shares tensors with the original, and writes into them")
            agree(case, memory, twins[1], cause=f"__getstate__, __deepcopy__ or __reduce__ leaves state out of a {way}")


def _loads(part: object) -> bool:
    """Whether ``torch.load(weights_only=True)`` takes this: tensors, numbers, text, and plain collections of them."""
    if isinstance(part, dict):
        return all(_loads(inner) for pair in part.items() for inner in pair)
    if isinstance(part, (list, tuple, set)):
        return type(part) in (list, tuple, set) and all(_loads(inner) for inner in part)
    return isinstance(part, Tensor) or part is None or type(part) in (bool, int, float, complex, str, bytes)


def loaded(case: Case, saved: object, used: bool = False) -> Driven:
    """Another memory, built under another seed, into which ``saved`` was loaded."""
    other = case.build(seed=1)
    if used:
        other.store(case.others, case.spare)
    case.do(
        "{}.load_state_dict({})",
        *(other, saved),
        cause="state that grows or is absent when fresh has to be sized by load_state_dict from what was saved",
    )
    return other


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


def _uncopied(way: str, memory: Driven) -> Exception | None:
    """What a copy raised, or None if it was made."""
    try:
        cross(way, partial(COPIES[way], memory.memory))
    except Exception as error:
        return error
    return None
