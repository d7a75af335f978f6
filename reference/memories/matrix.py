"""Matrix memories that only add: the correlation matrix and its options."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import PositiveShare, checked
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.hebb import hebb, hebb_answers
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.scan import both_logs, constant_log

Gate = Tensor | None
"""``[..., N]``, a number a row; None = the memory's own constant."""


class MatrixState(NamedTuple):
    """``matrix [..., Dk, Dv]``."""

    matrix: Tensor


class MatrixMemory(FunctionalMemory):
    """A matrix S ``[Dk, Dv]`` that is read as ``q S``; a subclass says by which rule it is written, in :meth:`write` and :meth:`sweep`.

    Attributes:
        key_norm: ``unit`` = keys and queries are scaled to length 1.
    """

    key_norm: Literal["unit", "none"] = "unit"

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> MatrixState:
        return MatrixState(torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like))

    def read(self, state: MatrixState, keys: Tensor) -> Tensor:
        return self._normed(keys) @ state.matrix

    def scan(
        self,
        state: MatrixState,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        step: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> tuple[Tensor, MatrixState]:
        """What query t is answered once row t is written, and the state after all rows; see :class:`~memspec.networks.held.Scans`."""
        queries, keys = self._normed(queries), self._normed(keys)
        answers, matrix = self.sweep(state.matrix, queries, keys, values, step, log_decay)
        return answers, MatrixState(matrix)

    def sweep(
        self, matrix: Tensor, queries: Tensor, keys: Tensor, values: Tensor, step: Gate, log_decay: Gate
    ) -> tuple[Tensor, Tensor]:
        """Answers and matrix of a :meth:`scan` of rows that are normed already."""
        raise NotImplementedError

    def _normed(self, keys: Tensor) -> Tensor:
        return unit_rows(keys) if self.key_norm == "unit" else keys


class MatrixAssociativeMemory(MatrixMemory):
    """Sum of outer products, ``S += k^T v``, read ``q S`` (Hebb; Kohonen 1972; Anderson 1972).

    Additive, free of order, linear in the values: an update with ``-v`` deletes. With orthonormal keys recall is
    exact; with random unit keys the expected relative error is (N-1)/Dk.

    Args:
        key_norm: ``unit`` scales keys to length 1 when writing and reading, ``none`` leaves them (then the answer
            to a stored key has gain |k|^2).
        decay: factor on the old matrix before each row is added, in (0, 1]; 1 forgets nothing.

    Source: MatrixAssociativeMemory in erlebach/memory_experiments; fast weights with decay as in Ba et al. 2016,
    "Using Fast Weights to Attend to the Recent Past", eq. 1.
    """

    spec = dataclasses.replace(SMOOTH, family="hebbian", write="set", overwrite="add")

    @checked
    def __init__(
        self, key_dim: int, value_dim: int, key_norm: Literal["none", "unit"] = "none", decay: PositiveShare = 1.0
    ) -> None:
        super().__init__(key_dim, value_dim)
        self.key_norm, self.decay = key_norm, decay
        if decay < 1:
            # An old value fades with every row written, so the sum that "add" promises is not what is read.
            self.spec = dataclasses.replace(self.spec, family="generic", write="sequential", overwrite="none")

    def write(self, state: MatrixState, keys: Tensor, values: Tensor) -> MatrixState:
        keys = self._normed(keys)
        return MatrixState(hebb(state.matrix, keys, values, log_decay=constant_log(self.decay, keys)))

    def sweep(
        self, matrix: Tensor, queries: Tensor, keys: Tensor, values: Tensor, step: Gate, log_decay: Gate
    ) -> tuple[Tensor, Tensor]:
        log_decay = both_logs(constant_log(self.decay, keys), log_decay)
        return hebb_answers(matrix, queries, keys, values, step, log_decay)
