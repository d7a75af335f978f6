"""Superpositions: one trace, the sum of codes bound to values, ``T = sum_i phi(k_i) * E v_i``.

Read by ``E^T (phi(q) * T)``, where codes of random keys are unrelated and of modulus 1, and E embeds values
orthonormally in the ``dim`` real numbers of the trace (Plate 1995; multiply-add-permute: Gayler 1998). Each other pair
leaves a vector of random direction whose squared length is a share ``(dv + 2) / (dim + 2)`` of its value's.
``dim`` is the spec's ``trace_dim``; nothing is required of a memory that does not tell it.
"""

from __future__ import annotations

import math

from memspec.theory.family import Family
from memspec.theory.numerics import Floats, decoded, length_factor


def superposition_crosstalk(value_dim: int, dim: int) -> float:
    """Squared length of what another pair leaves in an answer, over that of its value: ``(dv + 2) / (dim + 2)``."""
    return (value_dim + 2) / (dim + 2)


def superposition_relative_mse(n: int, value_dim: int, dim: int, length_dim: float = math.inf) -> float:
    """Mean ``|answer - v|^2 / |v|^2`` over n pairs in a trace of ``dim`` numbers."""
    return (n - 1) * superposition_crosstalk(value_dim, dim) * length_factor(length_dim)


def superposition_cosine(n: int, value_dim: int, dim: int) -> float:
    """Mean cosine of answer and value over n pairs in a trace of ``dim`` numbers."""
    return 1 / math.sqrt(1 + (n - 1) * superposition_crosstalk(value_dim, dim))


def superposition_recall(n: int, value_dim: int, dim: int, shows: int = 1, others: int = 0) -> float:
    """Share of n values recalled by cosine from the sum of n bound pairs, each shown ``shows`` times.

    ``others`` pairs, shown once, take part too. Another value comes back with a coefficient of mean 0 and variance
    ``3 / (dim + 2)``, the rest of what its pair leaves is in random directions.
    """
    noise = (shows**2 * (n - 1) + others) * superposition_crosstalk(value_dim, dim)
    total = shows**2 + noise
    rivals = n - 1 + others
    stray = 0.0 if rivals == 0 else (shows**2 * (n - 1) + others) / rivals * 3 / (dim + 2)
    return float(decoded(shows / math.sqrt(total), stray / total if value_dim < dim else 0.0, n + others, value_dim))


class Superposition(Family):
    """Predictions of a trace of ``spec.trace_dim`` real numbers."""

    def recall(self, n: int) -> float | None:
        dim = self.spec.trace_dim
        return None if dim is None else superposition_recall(n, self.shape.value_dim, dim)

    def error(self, n: int) -> float | None:
        dim = self.spec.trace_dim
        return None if dim is None else superposition_relative_mse(n, self.shape.value_dim, dim, self.length_dim)

    def error_spread(self, n: int) -> float:
        """As of a matrix, but what a pair leaves is spread over ``dv`` components, not one squared cosine."""
        dv = self.shape.value_dim
        load = n * superposition_crosstalk(dv, self.spec.trace_dim or dv)
        pairs = 12 / (n * (n - 1) * dv) if n > 1 else 0.0
        return math.sqrt(pairs + 2 * (2 + load) / (n * dv) + 2 / (n * max(dv - 4, 1)))

    def lone_error(self, showings: float) -> float | None:
        return (showings - 1) ** 2

    def older_cosine(self, n: int) -> float | None:
        dim = self.spec.trace_dim
        return None if dim is None else superposition_cosine(2 * n, self.shape.value_dim, dim)

    def gain(self, ages: Floats) -> float | None:
        return 1.0

    def distracted_recall(self, signal: int, shows: int, distractors: int) -> float | None:
        dim = self.spec.trace_dim
        return None if dim is None else superposition_recall(signal, self.shape.value_dim, dim, shows, distractors)
