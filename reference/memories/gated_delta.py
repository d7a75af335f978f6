"""The delta rule with a forget gate."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from memspec.options import Count, PositiveShare, Step, checked
from memspec.reference.memories.matrix import Gate, MatrixMemory, MatrixState
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.delta import delta, delta_answers
from memspec.reference.ops.scan import both_logs, constant_log


class GatedDeltaMemory(MatrixMemory):
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

    def write(self, state: MatrixState, keys: Tensor, values: Tensor) -> MatrixState:
        dtype = torch.promote_types(state.matrix.dtype, torch.float32)
        matrix, keys, values = state.matrix.to(dtype), self._normed(keys.to(dtype)), values.to(dtype)
        chunk = self.chunk if self.form == "chunked" else 1
        matrix = delta(matrix, keys, values, self.beta, constant_log(self.alpha, keys), chunk)
        return MatrixState(matrix.to(state.matrix.dtype))

    def sweep(
        self, matrix: Tensor, queries: Tensor, keys: Tensor, values: Tensor, step: Gate, log_decay: Gate
    ) -> tuple[Tensor, Tensor]:
        beta = self.beta if step is None else self.beta * step
        log_decay = both_logs(constant_log(self.alpha, keys), log_decay)
        return delta_answers(matrix, queries, keys, values, beta, log_decay, self.chunk)
