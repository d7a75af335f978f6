"""Associative memories in the classical sense: Hopfield networks, old and new, and the bidirectional memory."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import Count, Positive, checked, refused
from memspec.protocol import MemorySpec
from memspec.reference.memories.matrix import MatrixState
from memspec.reference.memories.slots import RingMemory
from memspec.reference.ops import ring
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
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        beta: Positive | None = None,
        steps: Count = 1,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity)
        self.beta = math.sqrt(key_dim) if beta is None else beta
        self.slots, self.steps = capacity, steps
        self.spec = dataclasses.replace(self.spec, beta=self.beta)
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

    spec = MemorySpec(
        key_domain="sign",
        value_domain="sign",
        association="auto",
        write="set",
        constant_state=True,
        deterministic=True,
        nonfinite="reject",
        inference_mode=True,
    )

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
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
        matrix, d = state.matrix, self.key_dim
        if self.rule == "hebb":
            matrix = matrix + x.mT @ x  # not over D: integers stay exact, and so does a field of 0
            return MatrixState(matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1)))
        for row in x.split(1, -2):
            if self.rule == "storkey":
                field = row @ matrix  # h_i = sum_k W_ik x_k
                # h_ij leaves out i and j: h_ij = h_i - W_ij x_j, for a matrix whose diagonal is zero.
                local = field.mT - matrix * row
                matrix = matrix + (row.mT @ row - row.mT * local.mT - local * row) / d
                matrix = matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))
            else:
                rest = row - row @ matrix
                left = rest @ row.mT  # |rest|^2: what of the pattern lies outside the span
                new = left > 1e-4 * d
                matrix = matrix + torch.where(new, rest.mT @ rest / torch.where(new, left, 1.0), 0.0)
        return MatrixState(matrix)

    def read(self, state: MatrixState, keys: Tensor) -> Tensor:
        s = signs(keys)
        for _ in range(self.sweeps):
            before = s
            if self.update_order == "sync":
                s = keep_ties(s @ state.matrix, s)
            else:
                for i in range(self.key_dim):
                    field = s @ state.matrix[..., i : i + 1]
                    s = torch.cat((s[..., :i], keep_ties(field, s[..., i : i + 1]), s[..., i + 1 :]), -1)
            if torch.equal(before, s):
                break
        return s

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

    spec = MemorySpec(
        key_domain="sign",
        value_domain="sign",
        write="set",
        empty_read="zeros",
        constant_state=True,
        deterministic=True,
        nonfinite="reject",
        inference_mode=True,
    )

    @checked
    def __init__(self, key_dim: int, value_dim: int, bounces: Count = 20) -> None:
        super().__init__(key_dim, value_dim)
        self.bounces = bounces

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> MatrixState:
        return MatrixState(torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like))

    def write(self, state: MatrixState, keys: Tensor, values: Tensor) -> MatrixState:
        return MatrixState(state.matrix + signs(keys).mT @ signs(values))

    def read(self, state: MatrixState, keys: Tensor) -> Tensor:
        k = signs(keys)
        v = (k @ state.matrix).sign()
        for _ in range(self.bounces):
            before = v
            k = keep_ties(v @ state.matrix.mT, k)
            v = keep_ties(k @ state.matrix, v)
            if torch.equal(before, v):
                break
        return v


def signs(rows: Tensor) -> Tensor:
    """+1 where an entry is at least 0, else -1."""
    return torch.where(rows >= 0, 1.0, -1.0).to(rows.dtype)


def keep_ties(field: Tensor, now: Tensor) -> Tensor:
    """The sign of the field, and the present state where the field is exactly 0."""
    return torch.where(field == 0, now, field.sign())
