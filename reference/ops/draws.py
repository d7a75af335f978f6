"""Random numbers that come from state: the i-th number of a stream, computed from the stream's seed and i alone.

A memory that draws so is deterministic, gives the same state whether rows come in one call or in many, and works for
any batch of memories, each with its own seed. Source: SplitMix64, Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators" (the constants are those of Java's SplittableRandom).
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEP, _FIRST, _SECOND = (
    c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)  # as signed numbers: products wrap around alike


def new_seeds(batch_shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A seed for each memory, int64 ``batch_shape``, from torch's global generator on the CPU."""
    return torch.randint(2**62, batch_shape).to(device)


def splitmix(seed: Tensor, index: Tensor) -> Tensor:
    """Numbers ``index [..., n]`` (0 = the first) of the streams ``seed [...]``, as int64 whose 64 bits are uniform."""
    z = seed[..., None] + (index + 1) * _STEP
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def integers(seed: Tensor, index: Tensor, below: Tensor | int) -> Tensor:
    """Uniform on ``0 .. below - 1``; ``below`` is at most some millions, next to 2^63, so the bias is nothing."""
    return _shifted(splitmix(seed, index), 1) % below


def uniforms(seed: Tensor, index: Tensor) -> Tensor:
    """Uniform on [0, 1), float64."""
    return _shifted(splitmix(seed, index), 11).double() * 2.0**-53


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: torch's own carries the sign along."""
    return (z >> bits) & (2 ** (64 - bits) - 1)
