"""Laws: statements that one counterexample breaks.

A law drives memories through a :class:`~memspec.laws.case.Case`, which draws data from the spec's domains, calls the
memory, and writes down what it did. Laws try the smallest case first (``for case in law.cases(1, 2, 7)``), so the
first one that breaks is the counterexample to show; the message then holds the rule, what came and what should have
come, the likeliest cause, and a program that repeats it.

Memories are built small and with unequal widths (6 and 5, capacity 16), where most mistakes in axes show. What a
memory holds is compared through its answers, to stored keys and to never-stored ones, and where needed through the
tensors that can be reached from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from memspec.errors import CannotMeasure
from memspec.laws.case import CAPACITY, KEY_DIM, OTHERS, VALUE_DIM, Case, Size
from memspec.laws.recorded import Statement
from memspec.plugs.plug import Plug

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


class Law(Statement):
    """One law about one plug; the ``law`` fixture makes it from the test's docstring."""

    def __init__(self, plug: Plug, rule: str, check: str = "law", seed: int = 0) -> None:
        super().__init__(plug, " ".join(rule.split()), check, seed)

    def cases(
        self, *sizes: int | Size, key_dim: int = KEY_DIM, value_dim: int = VALUE_DIM, capacity: int = CAPACITY
    ) -> Iterator[Case]:
        """A case for each size, smallest first; each with its own data and transcript.

        Args:
            sizes: numbers of pairs, at the widths and capacity given by name; or whole sizes, each with its own.
        """
        wanted = [n if isinstance(n, Size) else Size(n, key_dim, value_dim, capacity) for n in sizes]
        for size in sorted(wanted, key=lambda size: (size.n, size.key_dim, size.value_dim, size.capacity)):
            yield Case(self, size)

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
