"""Associative memories in the classical sense: Hopfield networks, old and new, and the bidirectional memory."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import Count, Positive, checked, refused
from memspec.reference.memories.matrix import MatrixState
from memspec.reference.memories.slots import RingMemory
from memspec.reference.memories.specs import SIGNS
from memspec.reference.ops import ring
from memspec.reference.ops.binding import signs
from memspec.reference.ops.hebb import hebb
from memspec.reference.ops.patterns import bounced, hebb_patterns, projection, settled, storkey
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.softmax import softmax_weights


class AssociativeMemory(RingMemory):
    """The continuous Hopfield network with values of its own: ``xi <- K^T softmax(beta K xi)``, then the values.

    The state is iterated on the keys ``steps`` times, and the weights of the last iteration read the values. Each step
    lowers ``E = -lse(beta, K xi) / beta + |xi|^2 / 2``. One step is attention over the stored pairs. The classical
    forms are :class:`HopfieldMemory` (autoassociative) and :class:`BidirectionalMemory` (pairs).

    Args:
        capacity: patterns kept; the oldest goes first.
        beta: inverse temperature for unit keys. Default ``sqrt(key_dim)``: the published layer's ``1 / sqrt(d)`` on
            patterns that a layer norm has brought to length ``sqrt(d)``.
        steps: iterations on the keys.

    Raises:
        ValueError: for an option outside its range.

    Source: Ramsauer et al. 2020, "Hopfield Networks is All You Need", eqs. 2-3 and appendix A.
    """

    @checked
    def __init__(
        self,
        key_dim: Count,
        value_dim: Count,
        capacity: Count = 128,
        beta: Positive | None = None,
        steps: Count = 1,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, math.sqrt(key_dim) if beta is None else beta)
        self.steps = steps
        if steps > 1:  # the closed forms of the family are for a single step
            self.spec = dataclasses.replace(self.spec, family="generic")

    def entries(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return unit_rows(keys), values

    def weights(self, state: ring.RingState, keys: Tensor) -> Tensor:
        """``[..., Q, S]``: weights of the last iteration."""
        used, xi = ring.in_use(state), unit_rows(keys)
        weights = softmax_weights(xi, state.keys, self.beta, used)
        for _ in range(self.steps - 1):
            xi = weights @ state.keys
            weights = softmax_weights(xi, state.keys, self.beta, used)
        return weights

    def energy(self, keys: Tensor) -> Tensor:
        """``[..., Q]`` energy of the states ``keys``, up to a constant of the stored patterns."""
        xi = unit_rows(self._checked(keys, "keys", self.key_dim))
        return hopfield_energy(xi, self.state.keys, ring.in_use(self.state), self.beta)


def hopfield_energy(xi: Tensor, patterns: Tensor, used: Tensor, beta: float) -> Tensor:
    """``-logsumexp(beta X xi) / beta + |xi|^2 / 2`` over the used patterns ``[..., S, D]`` for states ``[..., Q, D]``."""
    scores = torch.where(used[..., None, :], beta * xi @ patterns.mT, -torch.inf)
    return -scores.logsumexp(-1) / beta + xi.square().sum(-1) / 2


class HopfieldMemory(FunctionalMemory):
    """The classical Hopfield network: ``W`` from patterns of +-1, recall by ``s <- sign(s W)`` until nothing changes.

    Autoassociative: keys and values are the same patterns, a cue is completed to the nearest attractor. A field of
    exactly 0 leaves its unit as it is. Asynchronous updates never raise ``E = -s W s^T / 2``; synchronous ones may
    end in a cycle of two.

    Args:
        rule: ``hebb`` (sum of outer products; about .138 D patterns), ``storkey`` (local, more patterns) or
            ``pinv`` (projection onto the patterns' span, exact for independent ones).
        update_order: ``async`` (unit after unit, in order) or ``sync`` (all at once).
        sweeps: most sweeps over the units.

    Raises:
        ValueError: for an option outside its range, and for ``values`` that are not the keys.

    Source: Hopfield 1982, "Neural networks and physical systems with emergent collective computational abilities";
    Storkey 1997; Personnaz, Guyon, Dreyfus 1986 for the projection rule.
    """

    spec = dataclasses.replace(SIGNS, association="auto", empty_read="none")

    @checked
    def __init__(
        self,
        key_dim: Count,
        value_dim: Count,
        rule: Literal["hebb", "storkey", "pinv"] = "hebb",
        update_order: Literal["async", "sync"] = "async",
        sweeps: Count = 100,
    ) -> None:
        super().__init__(key_dim, value_dim)
        if key_dim != value_dim:
            raise refused(self, "value_dim", value_dim, f"key_dim = {key_dim}", "the patterns are both")
        self.rule, self.update_order, self.sweeps = rule, update_order, sweeps
        if rule != "hebb":
            self.spec = dataclasses.replace(self.spec, write="sequential")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> MatrixState:
        return MatrixState(torch.zeros(*batch_shape, self.key_dim, self.key_dim, **self.like))

    def write(self, state: MatrixState, keys: Tensor, values: Tensor) -> MatrixState:
        x = signs(keys)
        if not torch.equal(x, signs(values)):
            raise ValueError("HopfieldMemory stores values = keys; use BidirectionalMemory for pairs")
        matrix = state.matrix
        if self.rule == "hebb":
            return MatrixState(hebb_patterns(matrix, x))
        rule = storkey if self.rule == "storkey" else projection
        for row in x.split(1, -2):
            matrix = rule(matrix, row)
        return MatrixState(matrix)

    def read(self, state: MatrixState, keys: Tensor) -> Tensor:
        return settled(state.matrix, signs(keys), self.sweeps, at_once=self.update_order == "sync")

    def energy(self, keys: Tensor) -> Tensor:
        """``[..., Q]``: ``-s W s^T / 2`` of the states ``keys`` (for ``hebb`` with W over D)."""
        s = signs(self._checked(keys, "keys", self.key_dim))
        scale = self.key_dim if self.rule == "hebb" else 1
        return -((s @ self.state.matrix) * s).sum(-1) / (2 * scale)


class BidirectionalMemory(FunctionalMemory):
    """BAM: ``W = sum k^T v`` for pairs of +-1 vectors; recall bounces ``v <- sign(k W)``, ``k <- sign(v W^T)`` to a rest.

    A field of exactly 0 leaves its unit as it is (a fresh memory answers zeros).

    Args:
        bounces: most round trips.

    Raises:
        ValueError: for an option outside its range.

    Source: Kosko 1988, "Bidirectional Associative Memories", section II.
    """

    spec = SIGNS

    @checked
    def __init__(self, key_dim: Count, value_dim: Count, bounces: Count = 20) -> None:
        super().__init__(key_dim, value_dim)
        self.bounces = bounces

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> MatrixState:
        return MatrixState(torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like))

    def write(self, state: MatrixState, keys: Tensor, values: Tensor) -> MatrixState:
        return MatrixState(hebb(state.matrix, signs(keys), signs(values)))

    def read(self, state: MatrixState, keys: Tensor) -> Tensor:
        return bounced(state.matrix, signs(keys), self.bounces)
