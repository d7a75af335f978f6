"""What a store that overflows still holds."""

from __future__ import annotations

import numpy as np

from memspec.theory.numerics import Floats


def cache_survival(eviction: str, n: int, capacity: int) -> Floats | None:
    """``[n]`` probability that a pair is still held after n distinct writes, by age 0..n-1 (0 = newest).

    ``fifo`` and ``lru`` (without reads): the newest C. ``random``: a pair that meets e evictions survives with
    ``(1 - 1/C)^e``. ``reservoir`` (Vitter 1985): C/n at every age. None for other policies.
    """
    ages = np.arange(n)
    if n <= capacity and eviction in ("fifo", "lru", "random", "reservoir"):
        return np.ones(n)
    if eviction in ("fifo", "lru"):
        return (ages < capacity).astype(float)
    if eviction == "random":
        return (1 - 1 / capacity) ** np.minimum(ages, n - capacity).astype(float)
    if eviction == "reservoir":
        return np.full(n, capacity / n)
    return None
