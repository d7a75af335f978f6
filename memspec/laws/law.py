"""Laws: statements that one counterexample breaks.

A law drives memories through a :class:`Case`, which draws data from the spec's domains, calls the memory, and writes
down what it did. Laws try the smallest case first (``for case in law.cases(1, 2, 7)``), so the first one that breaks
is the counterexample to show; the message then holds the rule, what came and what should have come, the likeliest
cause, and a program that repeats it.

Memories are built small and with unequal widths (6 and 5, capacity 16), where most mistakes in axes show. What a
memory holds is compared through its answers, to stored keys and to never-stored ones, and where needed through the
tensors that can be reached from it.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, LawBroken, NotAsked
from memspec.fixtures.data.pairs import pairs
from memspec.laws.driven import Driven
from memspec.laws.transcript import Transcript
from memspec.plugs.plug import Plug
from memspec.plugs.reachable import device_of
from memspec.randomness import generator_states, moved_generators, seed_generators, seed_of

KEY_DIM, VALUE_DIM, CAPACITY = 6, 5, 16
NOISE = 16 * torch.finfo(torch.float32).eps
"""Relative size (2e-6) below which a change of a float32 answer may be rounding."""
FLOAT = 1e-5
"""Two float32 computations of the same thing in another order agree to this, relative to the largest number in them."""
OTHERS = 5
"""Never-stored keys in every probe."""
LONGEST = 4096
"""Rows that a law writes at most; a memory whose fixed capacity needs more is not overfilled here."""


class MemspecAdvice(UserWarning):
    """Worth changing, but no broken law: shown among pytest's warnings."""


def advise(plug: Plug, text: str) -> None:
    """Give advice: a warning line, never a failure."""
    with warnings.catch_warnings():
        if any(f[0] == "error" for f in warnings.filters if issubclass(MemspecAdvice, f[2])):
            warnings.simplefilter("default", MemspecAdvice)
        warnings.warn(f"{plug.name}: {text}", MemspecAdvice, stacklevel=3)


class Law:
    """One law about one plug; the ``law`` fixture makes it from the test's docstring.

    Attributes:
        plug, spec: the memory under test and what it declares.
        rule: the sentence the law states.
        check: the id of the check.
        device: where this plug's memories want their inputs.
    """

    def __init__(self, plug: Plug, rule: str, check: str = "law", seed: int = 0) -> None:
        self.plug, self.spec, self.check, self.seed = plug, plug.spec, check, seed
        self.rule = " ".join(rule.split())
        self.device = device_of(plug.probe)

    def cases(
        self, *sizes: int, key_dim: int = KEY_DIM, value_dim: int = VALUE_DIM, capacity: int = CAPACITY
    ) -> Iterator[Case]:
        """A case for each number of pairs, smallest first; each with its own data and transcript."""
        for n in sorted(sizes):
            yield Case(self, n, key_dim, value_dim, capacity)

    def distinct(self, n: int) -> dict[str, int]:
        """Widths at which ``n`` keys and values of this spec's domains are all different, and far from filling it.

        6 and 5 for real vectors. Signs and one-hot rows need more: there an answer has few values to take, and in a
        narrow memory that is full of crosstalk one pair more or less may change none of them.

        Raises:
            CannotMeasure: if the memory's widths are fixed and too small for that.
        """
        wide = {"onehot": n + OTHERS, "sign": 40}
        widths = {
            "key_dim": max(KEY_DIM, wide.get(self.spec.key_domain, 0)),
            "value_dim": max(VALUE_DIM, wide.get(self.spec.value_domain, 0)),
        }
        shape = self.plug.shape(**widths, capacity=CAPACITY)
        if shape.key_dim < widths["key_dim"] or (
            shape.value_dim < widths["value_dim"] and self.spec.association != "auto"
        ):
            raise CannotMeasure(f"{self.plug.name} has fixed widths too small for {n} different pairs of its domains")
        return widths


class Case:
    """Data of one size, the memories driven with it, and the transcript.

    Attributes:
        n: pairs in ``keys [n, Dk]``, ``values [n, Dv]``.
        others, spare: 5 further keys and values, not stored unless a law does so.
        suspect: the likeliest cause of an exception, where a law knows one.
        shape: what memories are built with.
    """

    def __init__(self, law: Law, n: int, key_dim: int, value_dim: int, capacity: int) -> None:
        self.law, self.plug, self.spec, self.n = law, law.plug, law.spec, n
        self.device, self.suspect = law.device, ""
        self.shape = self.plug.shape(key_dim, value_dim, capacity)
        self.script = Transcript()
        self._draws = 0
        self.script.say(f"plug = memspec.load_plug({self.plug.name!r})")
        self.script.say(f"shape = plug.shape(key_dim={key_dim}, value_dim={value_dim}, capacity={capacity})")
        keys, values = self._drawn(n + OTHERS)
        cut = ["keys, values, others, spare = (part.clone() for part in (k[:{n}], v[:{n}], k[{n}:], v[{n}:]))"]
        self.script.say(cut[0].format(n=n))
        self.keys, self.values = keys[:n].clone(), values[:n].clone()
        self.others, self.spare = keys[n:].clone(), values[n:].clone()
        self.script.holds(keys=self.keys, values=self.values, others=self.others, spare=self.spare)

    # ---- data -------------------------------------------------------------------------------------------------

    def _drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` pairs from the spec's domains, recorded as ``k, v = pairs(...)``."""
        self._draws += 1
        seed = seed_of(self.law.seed, self.law.check, self.n, self._draws) % 10**6
        arguments = (self.spec.key_domain, self.spec.value_domain, count, self.shape.key_dim, self.shape.value_dim)
        listed = ", ".join(map(repr, arguments))
        self.script.say(
            f"k, v = pairs({listed}, torch.Generator().manual_seed({seed}), {self.spec.association!r})",
            "from memspec.fixtures.data.pairs import pairs",
        )
        keys, values = pairs(*arguments, torch.Generator().manual_seed(seed), self.spec.association)
        if self.device.type != "cpu":
            self.script.say(f"k, v = k.to({str(self.device)!r}), v.to({str(self.device)!r})")
        return keys.to(self.device), values.to(self.device)

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` further pairs, independent of the others."""
        keys, values = self._drawn(count)
        names = self.script.fresh("k"), self.script.fresh("v")
        self.script.say(f"{names[0]}, {names[1]} = k, v")
        self.script.holds(**{names[0]: keys, names[1]: values})
        return keys, values

    def changed(self, rows: Tensor, domain: str) -> Tensor:
        """Other rows of the same domain, each different from the one it replaces (and from its negative)."""
        if domain == "onehot":
            return rows.roll(1, -1)
        sign = torch.ones(rows.shape[-1], device=rows.device)
        sign[: (rows.shape[-1] + 1) // 2] = -1
        return rows * sign

    def changed_pairs(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same keys with other values; for a memory that recalls keys themselves, other keys."""
        if self.spec.association == "auto":
            other = self.changed(keys, self.spec.key_domain)
            return other, other.clone()
        return keys, self.changed(values, self.spec.value_domain)

    @property
    def probe(self) -> Tensor:
        """The stored keys and the never-stored ones ``[n + 5, Dk]``."""
        if not hasattr(self, "_probe"):
            self.script.say("probe = torch.cat((keys, others))")
            self._probe = torch.cat((self.keys, self.others))
            self.script.holds(probe=self._probe)
        return self._probe

    # ---- driving ----------------------------------------------------------------------------------------------

    def build(self, seed: int = 0, **extra: Any) -> Driven:
        """A fresh memory, constructed under ``seed``."""
        name = self.script.fresh("m")
        more = "".join(f", {k}={v!r}" for k, v in extra.items())
        self.script.say(f"{name} = plug.build(shape, seed={seed}{more})")
        return self.drive(self.plug.build(self.shape, seed, **extra), name)

    def drive(self, memory: Any, name: str) -> Driven:
        """A memory that the transcript's last line called ``name``."""
        self.script.bind(memory, name)
        return Driven(self, memory, name)

    def stored(self, seed: int = 0) -> Driven:
        """A memory that holds the case's pairs."""
        memory = self.build(seed)
        if self.n:
            memory.store(self.keys, self.values)
        return memory

    def seed(self, number: int) -> None:
        """Seed every global generator in use (the test's end puts them back)."""
        self.script.say(f"seed_generators({number})", "from memspec.randomness import seed_generators")
        seed_generators(number)

    def generators(self) -> Any:
        """The states of the global generators, to compare with :meth:`same_generators`."""
        name = self.script.fresh("g")
        self.script.say(f"{name} = generator_states()", "from memspec.randomness import generator_states")
        states = generator_states()
        self.script.bind(states, name)
        return states

    @contextlib.contextmanager
    def within(self, text: str, manager: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
        """Calls inside happen in a context, ``text`` in Python: ``case.within("torch.no_grad()", torch.no_grad())``."""
        with self.script.within(text), manager:
            yield

    def run(self, text: str, call: Callable[..., Any], *arguments: Any, cause: str = "") -> Any:
        """Say ``text``, do ``call(*arguments)``; an exception breaks the law."""
        self.script.say(text)
        try:
            return call(*arguments)
        except (NotAsked, CannotMeasure, LawBroken):
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise self.broken(
                got=f"{text} raised {type(error).__name__}: {error} (at {frame.filename}:{frame.lineno})",
                expected="no exception",
                cause=cause or self.suspect or "the exception's own words; the program below raises it again",
            ) from error

    # ---- judging ----------------------------------------------------------------------------------------------

    def broken(self, got: str, expected: str, cause: str) -> LawBroken:
        """The exception that says all of it."""
        shape = self.shape
        pairs = f"{self.n} pair{'s' * (self.n != 1)}"
        return LawBroken(
            rule=self.law.rule,
            got=got,
            expected=expected,
            cause=cause,
            snippet=self.script.render(),
            check=self.law.check,
            memory=self.plug.name,
            smallest=f"{pairs}, key_dim {shape.key_dim}, value_dim {shape.value_dim}, capacity {shape.capacity}",
        )

    def check(self, holds: bool | Tensor, assertion: str, *, got: str, expected: str, cause: str) -> None:
        """Break the law unless ``holds``; ``assertion`` says the same in the transcript's names."""
        __tracebackhide__ = True
        if not bool(holds):
            self.script.say(assertion)
            raise self.broken(got, expected, cause)

    def same(self, got: Tensor, want: Tensor, *, cause: str, expected: str = "the same answers, bit for bit") -> None:
        """Break the law unless both are equal bit for bit (NaN equals NaN)."""
        __tracebackhide__ = True
        self._compare(got, want, 0.0, cause, expected)

    def close(self, got: Tensor, want: Tensor, *, cause: str, expected: str, tolerance: float = FLOAT) -> None:
        """Break the law unless both agree to float32 rounding, relative to the largest value written or answered."""
        __tracebackhide__ = True
        largest = [t.detach().abs().max().item() for t in (want, self.values) if t.numel()]
        scale = max([1.0, *(x for x in largest if np.isfinite(x))])
        self._compare(got, want, tolerance * scale, cause, f"{expected}, to {tolerance * scale:.1g}")

    def _compare(self, got: Tensor, want: Tensor, atol: float, cause: str, expected: str) -> None:
        __tracebackhide__ = True
        g, w = got.detach().cpu().double(), want.detach().cpu().double()
        if g.shape != w.shape:
            difference = f"shape {tuple(g.shape)} instead of {tuple(w.shape)}"
        else:
            equal = (g == w) | (g.isnan() & w.isnan()) | ((g - w).abs() <= atol)
            if bool(equal.all()):
                return
            difference = describe_difference(g, w, equal)
        self.check(
            False,
            f"torch.testing.assert_close({self.script.ref(got)}, {self.script.ref(want)}, "
            f"rtol=0, atol={atol:.3g}, equal_nan=True)",
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
            self.check(
                False,
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
            difference > NOISE * scale,
            f"assert ({self.script.ref(got)} - {self.script.ref(was)}).abs().max() > {NOISE * scale:.3g}",
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
        changed = sum(not (g.shape == w.shape and torch.equal(g, w)) for g, w in zip(got, want))
        self.check(
            same,
            f"torch.testing.assert_close({self.script.ref(got)}, {self.script.ref(want)}, "
            "rtol=0, atol=0, equal_nan=True)",
            got=f"{changed} of {len(want)} tensors changed"
            if len(got) == len(want)
            else f"{len(got)} tensors instead of {len(want)}",
            expected="every tensor reachable from the memory as it was",
            cause=cause,
        )

    def same_generators(self, was: Any, *, cause: str) -> None:
        """Break the law if a global generator has moved since ``was``."""
        __tracebackhide__ = True
        moved = moved_generators(was, generator_states())
        self.script.needs("from memspec.randomness import moved_generators")
        self.check(
            not moved,
            f"assert not moved_generators({self.script.ref(was)}, generator_states())",
            got=f"the global generator of {' and '.join(moved)} moved",
            expected="all global generators as they were",
            cause=cause,
        )


# ---- small tools that snippets use too ------------------------------------------------------------------------


def graph_nodes(tensors: Iterable[Tensor], limit: int = 20_000) -> int:
    """Nodes of the autograd graph that hangs on these tensors (counting stops at ``limit``)."""
    waiting = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(waiting)
    while waiting and len(seen) < limit:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return len(seen)


def describe_difference(got: Tensor, want: Tensor, equal: Tensor) -> str:
    """How much and where two tensors differ."""
    where = (~equal).nonzero()
    gap = torch.where(equal, 0.0, (got - want).abs())
    worst = int(gap.nan_to_num(nan=torch.inf, posinf=torch.inf).argmax())
    place: Sequence[int] = [int(i) for i in np.unravel_index(worst, tuple(got.shape))]
    g, w = got[tuple(place)].item(), want[tuple(place)].item()
    return (
        f"largest difference {abs(g - w):.3g} at {list(place)}: {g:.6g} instead of {w:.6g} "
        f"({len(where)} of {got.numel()} numbers differ)"
    )
