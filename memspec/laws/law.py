"""Laws: statements that one counterexample breaks.

A law drives memories through a :class:`~memspec.laws.case.Case`, which draws data from the spec's domains, calls the
memory, and writes down what it did. Laws try the smallest case first (``for case in law.cases(1, 2, 7)``), so the
first one that breaks is the counterexample to show; the message then holds the rule, what came and what should have
come, the likeliest cause, and a program that repeats it.

Memories are built small and with unequal widths (6 and 5, capacity 16), where most mistakes in axes show; a law that
speaks of any number of pairs then climbs a ladder of sizes (:mod:`memspec.laws.ladder`). What a memory holds is compared through its answers, to stored keys and to never-stored ones, and where needed through the
tensors that can be reached from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TypedDict

from memspec.errors import CannotMeasure
from memspec.laws.case import CAPACITY, KEY_DIM, OTHERS, VALUE_DIM, Case, Size
from memspec.laws.ladder import ROWS, Ladder, rungs
from memspec.laws.recorded import Statement
from memspec.plugs.meter import METER, Pace
from memspec.plugs.plug import Plug

LONGEST = 4096
"""Rows that a law writes at most; a memory whose fixed capacity needs more is not overfilled here."""

ALLOWANCE, MEMORIES, CALLS = 0.5, 3, 2
"""Seconds for which a law climbs its ladder, unless the run is a full one, as planned from the memory's pace: so many
memories a rung, so many calls of each."""


class MemspecAdvice(UserWarning):
    """Worth changing, but no broken law: shown among pytest's warnings."""


LARGEST_RUNG = max(n for group in ROWS for n in group)


def advise(plug: Plug, text: str) -> None:
    """Give advice: a warning line, never a failure."""
    with warnings.catch_warnings():
        if any(f[0] == "error" for f in warnings.filters if issubclass(MemspecAdvice, f[2])):
            warnings.simplefilter("default", MemspecAdvice)
        warnings.warn(f"{plug.name}: {text}", MemspecAdvice, stacklevel=3)


def climbed(pace: Pace | None) -> int:
    """Rows of the highest rung that a thin ladder of a memory of this pace reaches; 1000 = all."""
    if pace is None:
        return LARGEST_RUNG
    spent, highest = 0.0, 0
    for size in rungs(Ladder(thin=True), "pace"):
        spent += MEMORIES * (CALLS * pace.call + size.n * pace.row)
        if spent > ALLOWANCE:
            return highest
        highest = size.n
    return LARGEST_RUNG


class Wide(TypedDict, total=False):
    """Widths that a law needs."""

    key_dim: int
    value_dim: int


class Law(Statement):
    """One law about one plug; the ``law`` fixture makes it from the test's docstring.

    Attributes:
        full: whether every rung of a ladder is climbed, however long it takes.
        pace: what the memory's calls take, where that is known: a slow one climbs fewer rungs.
    """

    def __init__(
        self, plug: Plug, rule: str, check: str = "law", seed: int = 0, full: bool = False, pace: Pace | None = None
    ) -> None:
        super().__init__(plug, " ".join(rule.split()), check, seed)
        self.full, self.pace = full, pace

    def cases(
        self,
        *sizes: int | Size,
        key_dim: int = KEY_DIM,
        value_dim: int = VALUE_DIM,
        capacity: int = CAPACITY,
        ladder: Ladder | None = None,
    ) -> Iterator[Case]:
        """A case for each size, smallest first, then those of the ladder; each with its own data and transcript.

        Args:
            sizes: numbers of pairs, at the widths and capacity given by name; or whole sizes, each with its own.
            ladder: how far to go on from there.
        """
        wanted = [n if isinstance(n, Size) else Size(n, key_dim, value_dim, capacity) for n in sizes]
        for number, size in enumerate(sorted(wanted, key=lambda s: (s.n, s.key_dim, s.value_dim, s.capacity))):
            if number and METER.tired:  # a slow memory is asked at fewer sizes
                return
            yield Case(self, size)
        if ladder is not None and not METER.tired:
            yield from self._climb(ladder)

    def _climb(self, ladder: Ladder) -> Iterator[Case]:
        """The cases of a ladder: at the nearest widths that the memory can have, and each once."""
        seen, spent = set(), 0.0
        for size in rungs(ladder, self.check, self.full):
            if ladder.distinct:
                try:
                    size = replace(size, **self.distinct(size.n, size.key_dim, size.value_dim))
                except CannotMeasure:
                    continue
            shape = self.plug.shape(size.key_dim, size.value_dim, size.capacity)
            if (size.n, shape) in seen or (size.n > shape.capacity and not {"over", "wrapped"} & {*ladder.loads}):
                continue
            cost = 0.0 if self.pace is None else MEMORIES * (CALLS * self.pace.call + size.n * self.pace.row)
            beyond = size.n in ladder.beyond  # worth as much by itself as all rungs together
            before, spent = spent, spent + (0.0 if beyond else cost)
            if (cost if beyond else spent) > ALLOWANCE and not self.full:
                if not beyond and before <= ALLOWANCE:
                    advise(self.plug, f"is slow: {self.check} was tried up to {size.n - 1} rows; --full goes on")
                continue
            if METER.tired:
                return
            seen.add((size.n, shape))
            yield Case(self, size)

    def distinct(self, n: int, key_dim: int = KEY_DIM, value_dim: int = VALUE_DIM) -> Wide:
        """Widths, these at least, at which ``n`` keys and values of this spec's domains are all different.

        Signs and one-hot rows need wide ones: there an answer has few values to take, and in a narrow memory that is
        full of crosstalk one pair more or less may change none of them. Many real keys crowd in few dimensions.

        Raises:
            CannotMeasure: if the memory's widths are fixed and too small for that.
        """
        wide = {"onehot": n + OTHERS, "sign": 40}
        crowded = 1 if n < 2 else 3 if n < 4 else KEY_DIM if n < 40 else 16
        widths: Wide = {
            "key_dim": max(key_dim, wide.get(self.spec.key_domain, crowded)),
            "value_dim": max(value_dim, wide.get(self.spec.value_domain, 0)),
        }
        shape = self.plug.shape(**widths, capacity=CAPACITY)
        if shape.key_dim < widths["key_dim"] or (
            shape.value_dim < widths["value_dim"] and self.spec.association != "auto"
        ):
            raise CannotMeasure(f"{self.plug.name} has fixed widths too small for {n} different pairs of its domains")
        return widths
