"""Oracles that more than one test file needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

BITS = 2**64


def splitmix_number(seed: int, index: int) -> int:
    """Number ``index`` (0 = the first) of SplitMix64 from ``seed``, in Python's own integers."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % BITS
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % BITS
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % BITS
    return z ^ (z >> 31)


@pytest.fixture
def splitmix() -> Callable[[int, int], int]:
    return splitmix_number
