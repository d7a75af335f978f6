"""Memories that lay everything over everything: holographic traces and sparse distributed memory."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import Count, Positive, Whole, checked
from memspec.reference.memories.specs import SIGNS, SMOOTH
from memspec.reference.ops.binding import bind, phase_codes, sign_codes, signs, unbind
from memspec.reference.ops.hebb import hebb
from memspec.reference.ops.locations import activated, activation_probability, best_radius
from memspec.reference.ops.rows import unit_rows

SHARP = 3.0
"""Sharpness from which the codes of random unit keys count as unrelated: their similarity is at most exp(-9)."""


class TraceState(NamedTuple):
    """``trace [..., 2, D]``: real and imaginary part of the sum of all bound pairs."""

    trace: Tensor


class HolographicMemory(FunctionalMemory):
    """One trace, the sum of keys bound to values: ``T += phi(k) * E v``, read ``E^T Re(conj(phi(q)) * T)``.

    Fourier holographic reduced representation: a key becomes D phases, ``phi(k) = exp(i s P k)`` with P standard
    Gaussian, so binding is an elementwise product and unbinding by the conjugate is exact. Two keys' codes have
    similarity ``exp(-s^2 |k - k'|^2 / 2)``; the crosstalk of N - 1 other pairs adds noise of variance about (N-1)/D
    relative to the value. ``binding="map"`` uses signs of P k instead (multiply-add-permute).

    Args:
        dim: width D of the trace.
        sharpness: s, how fast codes decorrelate with the distance of keys (``hrr``).
        binding: ``hrr`` or ``map``.

    Fixed random buffers: ``projection [Dk, D]`` and the value embedding ``embedding [D, Dv]`` with orthonormal columns.

    Raises:
        ValueError: for an option outside its range, and for ``dim`` below ``value_dim``.

    Source: Plate 1995, "Holographic Reduced Representations", sections II and IV (frequency domain in its IX); MAP:
    Gayler 1998; phases by random projection: Rahimi and Recht 2007.
    """

    spec = dataclasses.replace(SMOOTH, write="set", overwrite="add")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        dim: Annotated[int, Whole("value_dim")] = 1024,
        sharpness: Positive = 3.0,
        binding: Literal["hrr", "map"] = "hrr",
    ) -> None:
        super().__init__(key_dim, value_dim)
        self.dim, self.sharpness, self.binding = dim, sharpness, binding
        self.projection: Tensor
        self.embedding: Tensor
        self.register_buffer("projection", torch.randn(key_dim, dim))
        self.register_buffer("embedding", torch.linalg.qr(torch.randn(dim, value_dim)).Q)
        if binding == "map":  # signs of alike keys are alike: not the family, whose codes are unrelated
            self.spec = dataclasses.replace(self.spec, differentiable=frozenset({"values"}))
        elif sharpness >= SHARP:
            self.spec = dataclasses.replace(self.spec, family="superposition", trace_dim=2 * dim)

    def codes(self, keys: Tensor) -> Tensor:
        """``phi(keys)``: ``[..., 2, N, D]``, real and imaginary part, of modulus 1."""
        projected = unit_rows(keys) @ self.projection
        if self.binding == "map":
            return sign_codes(projected)
        return phase_codes(self.sharpness * projected)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> TraceState:
        return TraceState(torch.zeros(*batch_shape, 2, self.dim, **self.like))

    def write(self, state: TraceState, keys: Tensor, values: Tensor) -> TraceState:
        return TraceState(bind(state.trace, self.codes(keys), values @ self.embedding.mT))

    def read(self, state: TraceState, keys: Tensor) -> Tensor:
        return unbind(state.trace, self.codes(keys)) @ self.embedding


class CounterState(NamedTuple):
    """``counters [..., H, Dv]``: up for every 1, down for every -1 written to an active location."""

    counters: Tensor


class SparseDistributedMemory(FunctionalMemory):
    """Kanerva's memory: H random hard locations; all within Hamming ``radius`` of an address are written and read.

    Write: active counters ``+= v``; read: sign of the sum of active counters. A bit whose counters cancel, or an
    address that activates nothing written, answers 0.

    Args:
        capacity: writes the default radius is tuned for.
        locations: hard locations H.
        radius: Hamming distance up to which a location is active. Default: the radius whose activation probability is
            nearest to the optimum ``(2 H T)^(-1/3)`` for T = capacity writes.

    Fixed random buffer: ``addresses [H, Dk]`` of +-1.

    Raises:
        ValueError: for an option outside its range.

    Source: Kanerva 1988, "Sparse Distributed Memory"; Kanerva 1993, "Sparse distributed memory and related models",
    for the optimum.
    """

    spec = SIGNS

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        locations: Count = 2048,
        radius: Annotated[int, Whole(0, "key_dim", why="it is a Hamming distance")] | None = None,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity)
        self.locations = locations
        self.radius = best_radius(key_dim, locations, capacity) if radius is None else radius
        self.addresses: Tensor
        self.register_buffer("addresses", signs(torch.randn(locations, key_dim)))

    @property
    def activation_probability(self) -> float:
        """Probability that a random address activates a location: ``P(Binomial(Dk, 1/2) <= radius)``."""
        return activation_probability(self.radius, self.key_dim)

    def activate(self, keys: Tensor) -> Tensor:
        """``[..., N, H]`` in {0, 1}: locations within the radius."""
        return activated(signs(keys), self.addresses, self.radius)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> CounterState:
        return CounterState(torch.zeros(*batch_shape, self.locations, self.value_dim, **self.like))

    def write(self, state: CounterState, keys: Tensor, values: Tensor) -> CounterState:
        return CounterState(hebb(state.counters, self.activate(keys), signs(values)))

    def read(self, state: CounterState, keys: Tensor) -> Tensor:
        return (self.activate(keys) @ state.counters).sign()
