"""What a family predicts: one class each, with its assumptions, at the widths of one memory.

A prediction is a number (or None where the family says nothing); :mod:`memspec.theory.bands` makes bounds of them.
What all families assume: random unit keys (``key_domain`` real or unit), values of independent components,
``association="hetero"``, and that one showing stores a pair (``presentations=1``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from memspec.plugs.plug import Shape
from memspec.protocol import MemorySpec
from memspec.theory.eviction import cache_survival
from memspec.theory.numerics import Floats

SMALLEST = 16
"""Least key_dim and value_dim for which bands are given; the formulas are for many dimensions."""


@dataclass(frozen=True)
class Family:
    """A memory of no known family: only what its spec says of eviction is predicted.

    Attributes:
        spec: what the memory declares, the family's parameters among it.
        shape: the widths and the capacity it is built with.
    """

    spec: MemorySpec
    shape: Shape

    recalls_keys: ClassVar[bool] = False
    """Whether predictions also hold where the values are the keys themselves."""

    def applies(self) -> bool:
        """Whether the memory and its widths meet the assumptions."""
        spec = self.spec
        return (
            spec.association == "hetero"
            and spec.presentations == 1
            and spec.fidelity != "trained"
            and spec.key_domain in ("real", "unit")
            and spec.value_domain != "onehot"
            and min(self.shape.key_dim, self.shape.value_dim) >= SMALLEST
        )

    @property
    def length_dim(self) -> float:
        """The dimension that the lengths of values vary by; infinite for values of one length."""
        return self.shape.value_dim if self.spec.value_domain == "real" else math.inf

    def recall(self, n: int) -> float | None:
        """Share of n pairs recalled by cosine, each shown once."""
        return None

    def error(self, n: int) -> float | None:
        """Mean ``|answer - v|^2 / |v|^2`` over n pairs, each shown once."""
        return None

    def error_floor(self, n: int) -> float | None:
        """The least such error that the family can reach, where the error itself is not told."""
        return None

    def error_spread(self, n: int) -> float:
        """Standard deviation of one trial's mean error, over the error (of a sum of values with random coefficients).

        For a Gram matrix G of unit keys and ``A = (G - I)^2`` the error is ``tr(V^T A V)``; its relative variance is
        ``2 tr(A^2) / (dv tr(A)^2) = 2 (2 + n/d) / (n dv)`` by the moments of Marchenko and Pastur. To this come the
        n(n-1)/2 squared cosines, and the lengths of the n values.
        """
        d, dv = self.shape.key_dim, self.shape.value_dim
        cosines = 4 / (n * (n - 1)) if n > 1 else 0.0
        return math.sqrt(cosines + 2 * (2 + n / d) / (n * dv) + 2 / (n * max(dv - 4, 1)))

    def lone_error(self, showings: float) -> float | None:
        """``e_n / e_0`` of one pair shown so often to an empty memory."""
        return None

    def older_cosine(self, n: int) -> float | None:
        """Mean cosine of answer and value on the first half of 2n pairs."""
        return None

    def gain(self, ages: Floats) -> float | None:
        """Mean of ``answer . v / |v|^2`` over pairs that so many writes came after."""
        return None

    def cue_recall(self, n: int, t: Floats, chances: Floats) -> float | None:
        """Share of n pairs recalled from cues whose cosine with their key is ``t`` with these chances."""
        return None

    def correlated_recall(self, n: int, rho: float) -> float | None:
        """Share of n pairs recalled whose keys are ``sqrt(rho) c + sqrt(1 - rho) u_i``, normalised."""
        return None

    def distracted_recall(self, signal: int, shows: int, distractors: int) -> float | None:
        """Share of ``signal`` pairs recalled, each shown ``shows`` times among distractors shown once."""
        return None

    def loudness(self, n: int) -> float | None:
        """Chance that a stored key is answered with a longer vector than one never stored."""
        return None

    def reads_what_it_holds(self) -> bool:
        """Whether a full memory answers (nearly) every pair it holds, so that recall shows which pairs those are.

        What is read from a store that mixes depends on more than what it holds.
        """
        return self.spec.exact

    def held(self, n: int) -> Floats | None:
        """``[n]`` chance that a pair is still answered after n writes, by age 0..n-1 (0 = newest)."""
        if not self.reads_what_it_holds():
            return None
        return cache_survival(self.spec.eviction, n, self.shape.capacity)
