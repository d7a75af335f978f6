"""Caches: what is held is answered exactly, what was evicted is not; a cue is answered by the nearest stored key.

(A dictionary that answers only exact keys is ``generic``.)
"""

from __future__ import annotations

import numpy as np

from memspec.theory.family import Family
from memspec.theory.numerics import Floats, sphere_coordinate


def knn_noisy_recall(n: int, key_dim: int, sigma: float) -> float:
    """Probability that the nearest of n random unit keys to ``(k + sigma u)/|k + sigma u|``, u a random unit vector, is k.

    Exact: the query's cosine with k is ``(1 + sigma c)/sqrt(1 + sigma^2 + 2 sigma c)``, c and the cosines with other
    keys being coordinates of a random point on the sphere.
    """
    cosines, chances = sphere_coordinate(key_dim)
    below = np.cumsum(chances) - chances / 2
    length = np.sqrt(np.maximum(1 + sigma**2 + 2 * sigma * cosines, 1e-30))
    hit = np.interp((1 + sigma * cosines) / length, cosines, below)
    return float((hit ** (n - 1) * chances).sum())


def nearest_recall(n: int, key_dim: int, t: Floats, chances: Floats) -> float:
    """Probability that none of n - 1 other random unit keys is nearer to the cue than its own, at cosine t."""
    cosines, density = sphere_coordinate(key_dim)
    below = np.cumsum(density) - density / 2
    return float((np.interp(t, cosines, below) ** (n - 1) * chances).sum())


class Cache(Family):
    """Predictions of a store that answers with the value of the nearest stored key, whatever the distance."""

    recalls_keys = True

    def fits(self, n: int) -> bool:
        """Whether n pairs are within the capacity, so that none is evicted."""
        return n <= self.shape.capacity

    def recall(self, n: int) -> float | None:
        held = None if self.fits(n) else self.held(n)
        return 1.0 if self.fits(n) else None if held is None else float(held.mean())

    def error(self, n: int) -> float | None:
        return 0.0 if self.fits(n) else None

    def lone_error(self, showings: float) -> float | None:
        return 0.0

    def cue_recall(self, n: int, t: Floats, chances: Floats) -> float | None:
        return nearest_recall(n, self.shape.key_dim, t, chances) if self.fits(n) else None

    def correlated_recall(self, n: int, rho: float) -> float | None:
        return 1.0 if self.fits(n) else None

    def distracted_recall(self, signal: int, shows: int, distractors: int) -> float | None:
        return 1.0 if self.fits(signal * shows + distractors) else None

    def reads_what_it_holds(self) -> bool:
        return True
