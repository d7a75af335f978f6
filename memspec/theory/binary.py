"""Memories of bits: share of right bits in a sparse distributed memory and in a Hopfield net; no family of their own."""

from __future__ import annotations

import math

from memspec.theory.numerics import normal_cdf


def sdm_bit_accuracy(writes: int, locations: int, activation: float) -> float:
    """Share of bits a sparse distributed memory reads back rightly at the written address (Kanerva 1988).

    ``Phi(p L / sqrt((T-1)(p^2 L + p^4 L^2)))`` for T writes, L hard locations, each activated with probability p.
    """
    if writes < 2:
        return 1.0
    p, size = activation, locations
    return float(normal_cdf(p * size / math.sqrt((writes - 1) * (p**2 * size + p**4 * size**2))))


def hopfield_bit_accuracy(patterns: int, dim: int) -> float:
    """Share of right bits after one step from a stored +-1 pattern: ``1 - erfc(sqrt(D / 2p)) / 2`` (Hopfield 1982)."""
    return 1 - 0.5 * math.erfc(math.sqrt(dim / (2 * patterns)))
