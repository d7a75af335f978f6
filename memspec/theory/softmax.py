"""The softmax family: the answer is the softmax-weighted mean of the stored values, with scores ``beta q . k``.

``beta`` is the spec's; nothing is required of a memory that does not tell it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from memspec.theory.family import Family
from memspec.theory.numerics import NORMAL, NORMAL_WEIGHTS, normal_cdf, sphere_coordinate


def softmax_weight(n: int, key_dim: int, beta: float) -> float:
    """Mean weight of a softmax read on the pair asked for, among n random unit keys: ``1/(1+(n-1)exp(-b+b^2/2d))``; b << d."""
    return 1 / (1 + (n - 1) * math.exp(-beta + beta**2 / (2 * key_dim)))


@lru_cache(maxsize=256)
def softmax_recall(n: int, key_dim: int, value_dim: int, beta: float) -> float:
    """Share of n values recalled by cosine from a softmax read with scores ``beta q . k`` over random unit keys."""
    cosines, chances = sphere_coordinate(key_dim)
    others = np.exp(beta * (cosines - 1))  # coefficients relative to that of the pair asked for
    norm = math.sqrt(1 + (n - 1) * float((others**2 * chances).sum()))
    s = 1 / math.sqrt(max(value_dim - 2, 1))
    target = math.atanh(min(1 / norm, 1 - 1e-12)) + s * NORMAL
    rivals = np.arctanh(np.minimum(others / norm, 1 - 1e-12))
    beaten = (normal_cdf((target[:, None] - rivals) / s) * chances).sum(-1)
    return float((np.minimum(beaten, 1.0) ** (n - 1) * NORMAL_WEIGHTS).sum())


def softmax_cosine(n: int, key_dim: int, beta: float) -> float:
    """Mean cosine of answer and value for a softmax read, ``1 / sqrt(1 + (n-1) E exp(2 beta (c - 1)))``."""
    cosines, chances = sphere_coordinate(key_dim)
    return 1 / math.sqrt(1 + (n - 1) * float((np.exp(2 * beta * (cosines - 1)) * chances).sum()))


class Softmax(Family):
    """Predictions of a softmax read over what fits the capacity, with inverse temperature ``spec.beta``."""

    def recall(self, n: int) -> float | None:
        if self.spec.beta is None or n > self.shape.capacity:
            return None
        return softmax_recall(n, self.shape.key_dim, self.shape.value_dim, self.spec.beta)

    def lone_error(self, showings: float) -> float | None:
        """The mean of one value is that value, however often it was stored."""
        return 0.0

    def older_cosine(self, n: int) -> float | None:
        """The load alone counts; what a store that overflows has left is a matter of its eviction."""
        if self.spec.beta is None or 2 * n > self.shape.capacity:
            return None
        return softmax_cosine(2 * n, self.shape.key_dim, self.spec.beta)

    def reads_what_it_holds(self) -> bool:
        if self.spec.beta is None:
            return self.spec.exact
        full = softmax_recall(self.shape.capacity, self.shape.key_dim, self.shape.value_dim, self.spec.beta)
        return full >= 0.99
