"""Erasure: what `forget` takes, and what it leaves; asked only of memories that have it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, NotAsked
from memspec.laws.case import Case, Size
from memspec.laws.driven import Driven
from memspec.laws.ladder import Ladder
from memspec.laws.law import LONGEST, Law

APART = 1e-3
"""How near a memory's answers to two keys come to their values, relative to the largest, for it to have told them apart."""
LEFT = 2
"""Pairs that are left where most are forgotten."""
NEIGHBOURS = {"beside": "1.05 * {0} + 0.05 * {1}", "longer": "3 * {0} + 0.1 * {1}", "shorter": "0.3 * {0} + 0.02 * {1}"}
"""Real keys near a key or its direction, and not the same."""


class TestErasure:
    """Erasure: what `forget` takes, and what it leaves; asked only of memories that have it."""

    pytestmark = pytest.mark.law

    def test_whole(self, law: Law) -> None:
        """A key that was written twice is forgotten whole: no older value comes back."""
        law.plug.needs("Forgetting")
        for case in law.cases(1, 2, 5, **law.distinct(5)):
            if case.n + 2 > case.shape.capacity:  # each showing may take a place of its own
                continue
            first, after = [], []
            for value in (case.values[:1], case.changed(case.values[:1], law.spec.value_domain)):
                memory = case.build()
                memory.store(case.keys, torch.cat((value, case.values[1:])))
                first.append(memory.query(case.keys[:1]))
                memory.store(case.keys[:1], case.spare[:1])
                memory.call("forget", case.keys[:1])
                after.append(memory.query(case.keys[:1]))
            before, now = ((b - a).norm().item() for a, b in (first, after))
            case.check(
                "({} - {}).norm() <= 0.5 * ({} - {}).norm()",
                *(*after, *first),
                got=f"{now / before if before else float('nan'):.2%} of the older value's influence is there after forget",
                expected="less than half of it: what is forgotten is every value of the key",
                cause="every showing of a key is an entry of its own, and forget removes the newest alone",
            )

    @pytest.mark.parametrize("near", NEIGHBOURS)
    def test_neighbours(self, law: Law, near: str) -> None:
        """Where a memory tells a key from its neighbour, forgetting the one leaves the other's value."""
        law.plug.needs("Forgetting")
        if law.spec.key_domain != "real" or law.spec.association == "auto":
            raise NotAsked(f"its keys are declared to be {law.spec.key_domain}, or are what it recalls")
        told = False
        for case in law.cases(2, 5):
            if case.shape.capacity < 2:
                continue
            beside = case.let("beside", NEIGHBOURS[near].format("keys[:1]", "keys[1:2]"))
            both = case.let("both", "torch.cat((keys[:1], {}))", beside)
            memory = case.build()
            memory.store(both, case.values[:2])
            if not _answers(memory, both, case.values[:2]):
                continue
            told = True
            memory.call("forget", case.keys[:1])
            case.close(
                memory.query(beside),
                case.values[1:2],
                cause="forget takes what is near the key (a threshold of similarity, a norm left out) and not the key alone",
                expected="the value of a neighbour that was told apart before",
                tolerance=APART,
            )
        if not told:
            raise CannotMeasure("it does not tell such neighbours apart, so one has to change with the other")

    def test_most(self, law: Law) -> None:
        """A memory that forgot most of what it held goes on as one that never held it: what is left is answered, rewritten and joined by more."""
        law.plug.needs("Forgetting")
        if law.spec.association == "auto":
            raise NotAsked("it recalls the key itself")
        asked = False
        for case in law.cases(
            5, 9, **law.distinct(9), ladder=Ladder(least=4, most=65, loads=("room", "full"), distinct=True)
        ):
            if case.n > case.shape.capacity:
                continue
            asked |= _goes_on(case)
        if not asked:
            raise CannotMeasure("a memory that was never given more does not answer so many pairs exactly either")

    def test_order(self, law: Law) -> None:
        """A full memory that forgot a pair still drops the others in the order that its spec says."""
        law.plug.needs("Forgetting")
        spec = law.spec
        if spec.eviction not in ("fifo", "lru") or not spec.exact or spec.fidelity == "trained":
            raise NotAsked("it does not declare fifo or lru eviction with exact recall")
        if law.plug.shape(capacity=16).capacity > LONGEST:
            raise CannotMeasure("its capacity is fixed and too large to be filled here")
        for capacity in (3, 4, 8, 9):
            for case in law.cases(Size(2 * capacity, **law.distinct(2 * capacity), capacity=capacity)):
                room = case.shape.capacity
                for place in sorted({0, room // 2, room - 1}) if case.n >= room + 3 else ():
                    memory = case.build()
                    memory.update_rows(case.keys[:room], case.values[:room])
                    memory.call("forget", case.keys[place : place + 1])
                    held = [row for row in range(room) if row != place]
                    for row in range(room, room + 3):
                        memory.store(case.keys[row : row + 1], case.values[row : row + 1])
                        held = [*held, row][-room:]
                        case.close(
                            memory.query(case.keys[held]),
                            case.values[held],
                            cause="forgetting moves another pair into the free place (the last, say), or leaves the write "
                            "pointer where it was: the order of age is lost",
                            expected=f"eviction={spec.eviction!r}: the {room} newest of the pairs that were not forgotten",
                        )


def _answers(memory: Driven, keys: Tensor, values: Tensor) -> bool:
    """Whether a memory answers these keys with these values, nearly."""
    far = (memory.query(keys) - values).abs().max().item()
    return far <= APART * max(1.0, values.abs().max().item())


def _goes_on(case: Case) -> bool:
    """Break the law unless a memory that forgot all but two pairs, and was then given more, answers as one that never held
    the others; False where that one does not answer exactly, so that nothing can be said."""
    held = slice(case.n - LEFT, case.n)
    other = case.changed(case.values[-1:], case.spec.value_domain)
    rewritten = case.spec.overwrite == "replace"
    want = torch.cat((case.values[-2:-1], other if rewritten else case.values[-1:], case.spare[:1]))
    asked = torch.cat((case.keys[held], case.others[:1]))
    usual, memory = case.build(), case.build()
    usual.store(case.keys[held], case.values[held])
    memory.store(case.keys, case.values)
    memory.call("forget", case.keys[: case.n - LEFT])
    for each in (usual, memory):
        if rewritten:
            each.store(case.keys[-1:], other)
        each.store(case.others[:1], case.spare[:1])
    if not _answers(usual, asked, want):
        return False
    case.close(
        memory.query(asked),
        want,
        cause="the places that entries are looked up at are not moved with them when the forgotten ones are swept out",
        expected="the values of what was left, of a pair written again, and of a new one",
        tolerance=APART,
    )
    return True
