"""What a law does and finds: each step is Python text that is run and written down, and one that fails breaks the law."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, LawBroken, NotAsked, SaidByMemory
from memspec.failure import Failure, place, raised
from memspec.laws.compare import NOISE, describe_difference, rounding
from memspec.laws.transcript import Through, Transcript
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.reachable import device_of
from memspec.protocol import MemorySpec
from memspec.randomness import generator_states, moved_generators, seed_generators, unshared
from memspec.world.boundary import cross


@dataclass
class Statement:
    """What is stated of which memory.

    Attributes:
        plug: the memory under test.
        rule: the sentence.
        check: the id of the check.
        seed: of the suite; it decides the data together with the check.
    """

    plug: Plug
    rule: str
    check: str = "law"
    seed: int = 0

    @cached_property
    def spec(self) -> MemorySpec:
        """What the memory declares."""
        return self.plug.spec

    @cached_property
    def device(self) -> torch.device:
        """Where the plug's memories want their inputs."""
        return device_of(self.plug.probe)


class Subject:
    """A memory, as steps are given it: what a step does to one goes through the boundary."""


class Recorded:
    """Steps and comparisons of one case of a law.

    Steps are templates: ``case.let("mixed", "{} @ {}", weights, slots)`` runs, and writes down, ``mixed = a1 @ a2``.
    What stands in a brace is a value of an earlier step, a memory, a function or module (which the program then
    imports), a number, or any tensor (which the program then defines). Names given by ``let`` can be used as they are.

    Attributes:
        law: what is stated.
        shape: what memories are built with.
        n: pairs in the case.
        values: the case's values; the largest of them sets the scale of tolerances.
        suspect: the likeliest cause of an exception, where a law knows one.
    """

    values: Tensor

    def __init__(self, law: Statement, shape: Shape, n: int) -> None:
        self.law, self.plug, self.spec, self.device = law, law.plug, law.spec, law.device
        self.shape, self.n, self.suspect = shape, n, ""
        self.script = Transcript()

    # ---- steps ------------------------------------------------------------------------------------------------

    def do(self, template: str, *things: object, cause: str = "") -> None:
        """Run a statement; an exception breaks the law."""
        text = self.script.fill(template, things)
        with self._breaking(text, cause):
            self.script.do(text, _through(text, things))

    def let(self, name: str, template: str, *things: object, then: str = "", cause: str = "") -> Any:
        """The value of an expression, called ``name`` from now on (``then``: see :meth:`Transcript.let`)."""
        text = self.script.fill(template, things)
        with self._breaking(f"{name} = {text}", cause):
            return self.script.let(name, text, then, through=_through(text, things))

    def new(self, prefix: str, template: str, *things: object, then: str = "", cause: str = "") -> Any:
        """The value of an expression, called by a name of its own: ``a1``, ``a2``, ..."""
        return self.let(self.script.fresh(prefix), template, *things, then=then, cause=cause)

    @contextlib.contextmanager
    def within(self, text: str) -> Iterator[None]:
        """Steps inside happen in a context: ``case.within("torch.no_grad()")``."""
        with self.script.within(text):
            yield

    @contextlib.contextmanager
    def _breaking(self, text: str, cause: str) -> Iterator[None]:
        try:
            yield
        except (NotAsked, CannotMeasure, LawBroken):
            raise
        except SaidByMemory as error:
            came = error.__cause__ or error
            raise self.broken(
                got=f"{text}: {error} (at {place(came)})",
                expected="no exception, or one of the memory's own",
                exception=raised(came),
                cause="only the harness may say that; raise ValueError, or whatever says what is wrong",
            ) from error
        except Exception as error:
            raise self.broken(
                got=f"{text} raised {raised(error)} (at {place(error)})",
                expected="no exception",
                exception=raised(error),
                cause=cause or self.suspect or "the exception's own words; the program below raises it again",
            ) from error

    def ref(self, thing: object) -> str:
        """What a step calls a thing."""
        return self.script.ref(thing)

    def seed(self, number: int) -> None:
        """Seed every global generator in use (the test's end puts them back)."""
        self.do("{}({})", seed_generators, unshared(number))

    def generators(self) -> Any:
        """The states of the global generators, to compare with :meth:`same_generators`."""
        return self.new("g", "{}()", generator_states)

    # ---- judging ----------------------------------------------------------------------------------------------

    def broken(self, got: str, expected: str, cause: str, exception: str = "") -> LawBroken:
        """The failure, with its program (``exception``: the memory's own, where that broke the law)."""
        failure = Failure(
            check=self.law.check,
            memory=self.plug.name,
            rule=self.law.rule,
            got=got,
            expected=expected,
            cause=cause,
            repeat=self.script.render(),
            done=f"{self.described()} (the first of ascending sizes that breaks it)",
            raised=exception,
        )
        return LawBroken(failure)

    def described(self) -> str:
        """The case in a few words."""
        shape = self.shape
        pairs = f"{self.n} pair{'s' * (self.n != 1)}"
        return f"{pairs}, key_dim {shape.key_dim}, value_dim {shape.value_dim}, capacity {shape.capacity}"

    def check(self, template: str, *things: object, got: str, expected: str, cause: str) -> None:
        """Break the law unless this expression is true."""
        __tracebackhide__ = True
        text = self.script.fill(template, things)
        with self._breaking(text, cause):
            holds = bool(self.script.value(text, _through(text, things)))
        if not holds:
            self._fail(f"assert {text}", got, expected, cause)

    def _fail(self, assertion: str, got: str, expected: str, cause: str) -> None:
        __tracebackhide__ = True
        self.script.say(assertion)
        raise self.broken(got, expected, cause)

    def same(
        self,
        got: Tensor,
        want: Tensor,
        *,
        cause: str,
        expected: str = "the same answers, bit for bit",
        repeatable: bool = True,
    ) -> None:
        """Break the law unless both are equal bit for bit (NaN equals NaN).

        Args:
            repeatable: it is taken for granted that memories that are built and written alike answer alike, so that where
                they do not, that is the cause; False where this is what the law asks.
        """
        __tracebackhide__ = True
        self._compare(got, want, 0.0, cause, expected, repeatable)

    def unrepeatable(self, atol: float) -> str:
        """How memories of these data differ that are built and written alike; empty if they do not, or nobody can tell."""
        return ""

    def close(
        self,
        got: Tensor,
        want: Tensor,
        *,
        cause: str,
        expected: str,
        tolerance: float | None = None,
    ) -> None:
        """Break the law unless both agree to rounding, relative to the largest value written or answered.

        Args:
            tolerance: relative; None = what the coarsest dtype among answers and values allows (:func:`rounding`).
        """
        __tracebackhide__ = True
        largest = [t.detach().abs().max().item() for t in (want, self.values) if t.numel()]
        scale = max([1.0, *(x for x in largest if np.isfinite(x))])
        if tolerance is None:
            tolerance = rounding(got.dtype, want.dtype, self.values.dtype)
        self._compare(got, want, tolerance * scale, cause, f"{expected}, to {tolerance * scale:.1g}")

    def _compare(
        self, got: Tensor, want: Tensor, atol: float, cause: str, expected: str, repeatable: bool = True
    ) -> None:
        __tracebackhide__ = True
        g, w = got.detach().cpu().double(), want.detach().cpu().double()
        if g.shape != w.shape:
            difference = f"shape {tuple(g.shape)} instead of {tuple(w.shape)}"
        else:
            equal = (g == w) | (g.isnan() & w.isnan()) | ((g - w).abs() <= atol)
            if bool(equal.all()):
                return
            difference = describe_difference(g, w, equal)
            if repeatable and (unlike := self.unrepeatable(atol)):
                cause = f"answers are not repeatable: {unlike}; so nothing is known of what this law changes"
        self._fail(
            f"torch.testing.assert_close({self.script.ref(got)}, {self.script.ref(want)}, "
            f"rtol=0, atol={atol!r}, equal_nan=True)",
            got=difference,
            expected=expected,
            cause=cause,
        )

    def finite(self, answer: Tensor, *, cause: str, expected: str = "finite numbers") -> None:
        """Break the law if there is NaN or infinity in ``answer``."""
        __tracebackhide__ = True
        bad = ~answer.isfinite()
        if bool(bad.any()):
            where = bad.nonzero()[0].tolist()
            self._fail(
                f"assert {self.script.ref(answer)}.isfinite().all()",
                got=f"{answer[tuple(where)].item()} at {where} ({int(bad.sum())} of {bad.numel()} numbers)",
                expected=expected,
                cause=cause,
            )

    def moved(self, got: Tensor, was: Tensor, *, cause: str, expected: str) -> None:
        """Break the law unless ``got`` differs from ``was`` by more than rounding."""
        __tracebackhide__ = True
        scale = max(was.abs().max().item(), got.abs().max().item())
        difference = (got - was).abs().max().item()
        self.check(
            "({} - {}).abs().max() > {}",
            got,
            was,
            NOISE * scale,
            got=f"largest difference {difference:.3g}, where answers are as large as {scale:.3g}",
            expected=expected,
            cause=cause,
        )

    def same_state(self, got: list[Tensor], want: list[Tensor], *, cause: str) -> None:
        """Break the law unless the tensors reachable from a memory are what they were."""
        __tracebackhide__ = True
        same = len(got) == len(want) and all(
            g.shape == w.shape and torch.equal(g.isnan(), w.isnan()) and torch.equal(g.nan_to_num(), w.nan_to_num())
            for g, w in zip(got, want)
        )
        if same:
            return
        changed = sum(not (g.shape == w.shape and torch.equal(g, w)) for g, w in zip(got, want))
        alike = len(got) == len(want)
        self._fail(
            f"torch.testing.assert_close({self.script.ref(got)}, {self.script.ref(want)}, "
            "rtol=0, atol=0, equal_nan=True)",
            got=f"{changed} of {len(want)} tensors changed" if alike else f"{len(got)} tensors instead of {len(want)}",
            expected="every tensor reachable from the memory as it was",
            cause=cause,
        )

    def same_generators(self, was: Any, *, cause: str) -> None:
        """Break the law if a global generator has moved since ``was``."""
        __tracebackhide__ = True
        moved = self.let("moved", "{}({}, {}())", moved_generators, was, generator_states)
        self.check(
            "not moved",
            got=f"the global generator of {' and '.join(moved)} moved",
            expected="all global generators as they were",
            cause=cause,
        )


def _through(text: str, things: tuple[object, ...]) -> Through | None:
    """The boundary, for a step that is given a memory; None for others."""
    if not any(isinstance(thing, Subject) for thing in things):
        return None
    given = [thing for thing in things if isinstance(thing, Tensor)]
    answers = ".query(" in text or ".read(" in text
    return lambda use: cross(text, use, given, answers)
