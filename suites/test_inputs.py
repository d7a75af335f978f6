"""Bad inputs: refused with a clear exception, or treated as declared, and what was stored before still answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, NotAsked
from memspec.laws.case import Case
from memspec.laws.compare import refusal
from memspec.laws.driven import Driven
from memspec.laws.law import Law
from memspec.plugs.plug import Shape

Bad = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
UPDATES: dict[str, Bad] = {
    "wide-keys": lambda k, v: (wider(k), v),
    "narrow-keys": lambda k, v: (k[:, :-1], v),
    "wide-values": lambda k, v: (k, wider(v)),
    "narrow-values": lambda k, v: (k, v[:, :-1]),
    "values-of-width-1": lambda k, v: (k, v[:, :1]),
    "fewer-values": lambda k, v: (k, v[:-1]),
    "fewer-keys": lambda k, v: (k[:-1], v),
    "one-value": lambda k, v: (k, v[:1]),
    "one-key": lambda k, v: (k[:1], v),
}
RANKS: dict[str, Callable[[Tensor], Tensor]] = {
    "one-row-flat": lambda rows: rows[0],
    "batched": lambda rows: rows[None],
}
NONFINITE = {"nan": float("nan"), "inf": float("inf")}


class TestInputs:
    """Bad inputs: refused with a clear exception, or treated as declared, and what was stored before still answers."""

    pytestmark = pytest.mark.law

    @pytest.mark.parametrize("kind", UPDATES)
    def test_update_refuses(self, law: Law, kind: str) -> None:
        """`update` refuses pairs of the wrong width or of unequal number, and what was stored answers as before, bit for bit."""
        for case in law.cases(1, 4):
            good = case.others[:3], case.spare[:3]
            keys, values = UPDATES[kind](*good)
            if 0 in keys.shape or 0 in values.shape or (keys.shape == good[0].shape and values.shape == good[1].shape):
                raise CannotMeasure("its vectors are too narrow for this")
            memory = case.stored()
            before = memory.answers()
            memory.refused("update", keys, values)
            _refused(case, f"update with keys {tuple(keys.shape)} and values {tuple(values.shape)}")
            case.same(memory.answers(), before, cause="state is changed before the inputs are checked; check first")

    def test_unequal_widths(self, law: Law) -> None:
        """A memory that is built for keys and values of unequal widths takes them so: it neither takes the one width for the other, nor breaks on what its own check lets pass."""
        plug = law.plug
        if not plug.widths.square or law.spec.widths is not None or not {"key_dim", "value_dim"} <= plug.accepts:
            raise NotAsked("it takes unequal widths, says in its spec that it does not, or is not given any")
        for case in law.cases(3):
            case.let("build", "lambda: {}.build({}(6, 5, 16))", plug, Shape)
            if case.let("error", "{}(build)", refusal) is not None:
                raise NotAsked("its constructor refuses unequal widths")
            sizes = {"k6": (3, 6), "v5": (3, 5), "k5": (3, 5), "v6": (3, 6)}
            rows = {name: case.let(name, f"torch.ones({size}) / 4") for name, size in sizes.items()}
            came = {}
            for keys, values in (("k6", "v5"), ("k5", "v6")):
                memory = case.drive("build()")
                error = memory.refused("update", rows[keys], rows[values])
                came[keys] = error if error is not None else memory.refused("query", rows[keys])
            right, turned = came["k6"], came["k5"]
            case.let("taken", f"{right is not None!r} and {turned is None!r}")
            case.check(
                "not taken",
                got=f"built for keys of 6 and values of 5 numbers, it takes keys of 5 and values of 6, and not the others ({right})",
                expected="keys and values of the widths it was built for",
                cause="key_dim and value_dim are passed on in the wrong order",
            )
            clean = (ValueError, TypeError)
            case.let("breaks", f"{isinstance(turned, clean) and right is not None and not isinstance(right, clean)!r}")
            case.check(
                "not breaks",
                got=f"built for keys of 6 and values of 5 numbers, it refuses others by name ({turned}), and breaks on these: "
                f"{type(right).__name__}: {right}",
                expected="that it takes them; or, if its widths must be equal, that its constructor or its spec says so",
                cause="a state of the wrong shape: key_dim and value_dim in the wrong order, or one of them twice",
            )

    @pytest.mark.parametrize("kind", ["wide", "narrow"])
    def test_query_refuses(self, law: Law, kind: str) -> None:
        """`query` refuses keys of the wrong width, and answers good ones as before, bit for bit."""
        for case in law.cases(1, 4):
            keys = wider(case.others) if kind == "wide" else case.others[:, :-1]
            if 0 in keys.shape:
                raise CannotMeasure("its keys are too narrow for this")
            memory = case.stored()
            before = memory.answers()
            memory.refused("query", keys)
            _refused(case, f"query with keys {tuple(keys.shape)}")
            case.same(memory.answers(), before, cause="query changes the state before it checks its input")

    @pytest.mark.parametrize("kind", RANKS)
    def test_rank_of_update(self, law: Law, kind: str) -> None:
        """`update` with vectors [D] or batches [1, N, D] is refused, or does what the same rows as [N, D] do."""
        for case in law.cases(1, 4):
            keys, values = case.others[:2], case.spare[:2]
            odd = RANKS[kind](keys), RANKS[kind](values)
            memory, plain = case.stored(), case.stored()
            before = memory.answers()
            error = memory.refused("update", *odd)
            if error is None:
                plain.update(odd[0].reshape(-1, keys.shape[-1]), odd[1].reshape(-1, values.shape[-1]))
                before = plain.answers()
            case.close(
                memory.answers(),
                before,
                cause="a tensor of the wrong rank is broadcast into the state; check keys.ndim == 2",
                expected="the answers before" if error else "what the same rows do as [N, D]",
            )

    @pytest.mark.parametrize("kind", RANKS)
    def test_rank_of_query(self, law: Law, kind: str) -> None:
        """`query` of a vector [D] or a batch [1, Q, D] is refused, or gives the numbers that its rows get."""
        for case in law.cases(1, 4):
            memory = case.stored()
            before = memory.answers()
            odd = RANKS[kind](case.others)
            if memory.refused("query", odd) is None:
                answer, want = memory.live(odd), memory.query(case.others[:1] if odd.ndim == 1 else case.others)
                shape = want.shape if answer.numel() == want.numel() else answer.shape
                flat = case.let("flat", "{}.detach().reshape({})", answer, tuple(shape))
                case.close(
                    flat,
                    want,
                    cause="the answer to a tensor of the wrong rank means nothing; check keys.ndim == 2",
                    expected="an exception, or the rows' own answers",
                )
            case.same(memory.answers(), before, cause="query changes the state before it checks its input")

    @pytest.mark.parametrize("what", ["keys", "values"])
    @pytest.mark.parametrize("kind", NONFINITE)
    def test_nonfinite_update(self, law: Law, kind: str, what: str) -> None:
        """NaN or infinity in a written row is refused without a trace, or harms that row alone, as the spec says."""
        claim = law.spec.nonfinite
        for case in law.cases(1, 4):
            spoilt = [case.others[:3].clone(), case.spare[:3].clone()]
            spoilt[what == "values"][1, 0] = NONFINITE[kind]
            if law.spec.association == "auto":
                spoilt = [spoilt[what == "values"]] * 2
            memory = case.stored()
            before = memory.answers()
            error = memory.refused("update", spoilt[0], spoilt[1])
            cause = "the state is changed before the inputs are checked; check first"
            if error is not None:
                case.same(memory.answers(), before, cause=cause)
            if claim == "reject":
                case.check(
                    "error is not None",
                    got=f"update took {kind} in {what}",
                    expected="nonfinite='reject': an exception",
                    cause="the check is missing; raise ValueError where not torch.isfinite(rows).all()",
                )
            elif claim == "isolate" and error is None:
                _isolated(case, memory, spoilt)
        if claim == "none":
            raise NotAsked("it promises nothing about NaN and infinity")

    @pytest.mark.parametrize("kind", NONFINITE)
    def test_nonfinite_query(self, law: Law, kind: str) -> None:
        """Asking with NaN or infinity leaves no trace: good keys are answered as before, bit for bit."""
        for case in law.cases(1, 4):
            memory = case.stored()
            before = memory.answers()
            asked = case.others.clone()
            asked[0, 0] = NONFINITE[kind]
            memory.refused("query", asked)
            case.same(memory.answers(), before, cause="query writes to the state (a running norm, a cache)")


def wider(rows: Tensor) -> Tensor:
    return torch.cat((rows, rows[:, :1]), -1)


def _refused(case: Case, what: str) -> None:
    case.check(
        "error is not None",
        got=f"{what} went through",
        expected=f"an exception; this memory has key_dim {case.shape.key_dim}, value_dim {case.shape.value_dim}",
        cause="broadcasting, zip, or slicing hides the mistake; compare shapes and raise ValueError",
    )


def _isolated(case: Case, memory: Driven, spoilt: list[Tensor]) -> None:
    """The rows beside the bad one act as if it were not there."""
    clean = case.stored()
    good = [torch.cat((rows[:1], rows[2:])) for rows in spoilt]
    clean.update(good[0], good[1])
    asked = torch.cat((case.keys, good[0]))
    answers = memory.query(asked)
    cause = "the bad row reaches a sum over all rows or slots; mask it with torch.where before it is used"
    case.finite(answers, cause=cause)
    case.close(answers, clean.query(asked), cause=cause, expected="nonfinite='isolate': as without the bad row")
