"""Hard locations: random places of a space of signs, of which those near an address are written and read together.

Source: Kanerva 1988, "Sparse Distributed Memory"; Kanerva 1993, "Sparse distributed memory and related models".
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special
from torch import Tensor


def activated(rows: Tensor, addresses: Tensor, radius: float | Tensor) -> Tensor:
    """``[..., N, H]`` in {0, 1}: which of ``addresses [..., H, D]`` lie within a Hamming distance of ``rows [..., N, D]``.

    Both are +-1, so that the distance is ``(D - a . k) / 2``. No gradient flows.

    Args:
        radius: a number, or ``[..., N, 1]``, one a row.
    """
    distance = (rows.shape[-1] - rows @ addresses.mT) / 2
    return (distance <= radius).to(rows.dtype)


def activation_probability(radius: int, width: int) -> float:
    """Probability that a random address activates a location: ``P(Binomial(D, 1/2) <= radius)``."""
    return float(special.bdtr(radius, width, 0.5))


def best_radius(key_dim: int, locations: int, writes: int) -> int:
    """The radius whose activation probability is nearest (as a ratio) to ``(2 H T)^(-1/3)``."""
    target = (2 * locations * writes) ** (-1 / 3)
    log_p = np.log(special.bdtr(np.arange(key_dim + 1), key_dim, 0.5))
    return int(abs(log_p - math.log(target)).argmin())
