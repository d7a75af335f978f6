"""The delta rule with a forget gate."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import Count, PositiveShare, Step, checked
from memspec.reference.memories.matrix import MatrixState
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.delta import delta, delta_answers
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.scan import both_logs, constant_log


class GatedDeltaMemory(FunctionalMemory):
    """``S <- alpha S + beta k^T (v - alpha k S)`` with unit keys: the state decays *before* it predicts.

    In a network the gates depend on the token; driven here they are constants. alpha = 1 is the delta rule,
    beta = 0 leaves pure decay.

    Args:
        alpha: share of the state kept at each row, in (0, 1]; 1 forgets nothing.
        beta: step, in (0, 2).
        form: ``chunked`` solves a triangular system for each chunk, ``rows`` goes row by row; both give the same state.
        chunk: rows in a chunk. Not used by ``rows``.

    Raises:
        ValueError: for an option outside its range.

    Source: Yang, Kautz, Hatamizadeh 2024, "Gated Delta Networks: Improving Mamba2 with Delta Rule", eq. 10; chunks as
    in its section 3.3.
    """

    spec = dataclasses.replace(SMOOTH, overwrite="replace")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        alpha: PositiveShare = 0.99,
        beta: Step = 1.0,
        form: Literal["chunked", "rows"] = "chunked",
        chunk: Count = 64,
    ) -> None:
        super().__init__(key_dim, value_dim)
        self.alpha, self.beta, self.form, self.chunk = alpha, beta, form, chunk
        if beta != 1:
            self.spec = dataclasses.replace(self.spec, overwrite="none")
        if alpha == 1:
            self.spec = dataclasses.replace(self.spec, family="delta", beta=beta)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> MatrixState:
        return MatrixState(torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like))

    def write(self, state: MatrixState, keys: Tensor, values: Tensor) -> MatrixState:
        dtype = torch.promote_types(state.matrix.dtype, torch.float32)
        matrix, keys, values = state.matrix.to(dtype), unit_rows(keys.to(dtype)), values.to(dtype)
        chunk = self.chunk if self.form == "chunked" else 1
        matrix = delta(matrix, keys, values, self.beta, constant_log(self.alpha, keys), chunk)
        return MatrixState(matrix.to(state.matrix.dtype))

    def read(self, state: MatrixState, keys: Tensor) -> Tensor:
        return unit_rows(keys) @ state.matrix

    def scan(
        self,
        state: MatrixState,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        step: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> tuple[Tensor, MatrixState]:
        """What query t is answered once row t is written, and the state after all rows; see :class:`~memspec.reference.layers.held.Scans`."""
        beta = self.beta if step is None else self.beta * step
        queries, keys = unit_rows(queries), unit_rows(keys)
        log_decay = both_logs(constant_log(self.alpha, keys), log_decay)
        answers, matrix = delta_answers(state.matrix, queries, keys, values, beta, log_decay, self.chunk)
        return answers, MatrixState(matrix)
