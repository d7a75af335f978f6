"""The delta rule: matrix memories that correct what they would have answered."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from memspec.options import Count, Step, checked
from memspec.protocol import Overwrite
from memspec.reference.memories.matrix import Gate, MatrixMemory, MatrixState
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.delta import delta, delta_answers


class DeltaMemory(MatrixMemory):
    """``S <- S + beta k^T (v - k S)`` with unit keys, row after row (Widrow and Hoff 1960; Schlag et al. 2021).

    With beta = 1 the last pair written is always exact and a rewritten key has its new value; repeated sweeps
    over independent keys converge to the least-squares solution (Kaczmarz 1937).

    Args:
        beta: step, in (0, 2) for stability; below 1 a rewrite only moves towards the new value, above 1 it overshoots.
        form: ``chunked`` solves a triangular system for each chunk (Yang et al. 2024, the WY form), ``rows`` goes
            row by row; both give the same state.
        chunk: rows in a chunk; more cost less overhead and more arithmetic. Not used by ``rows``.
        key_norm: ``unit`` scales keys to length 1; ``none`` leaves them, which is stable only while
            ``beta |k|^2 < 2`` for every key, and then nothing is claimed about overwriting.

    Half-precision memories (bfloat16, float16) compute each write in float32 and round the state once at its end.

    Raises:
        ValueError: for an option outside its range.

    Source: Schlag, Irie, Schmidhuber 2021, "Linear Transformers Are Secretly Fast Weight Programmers", section 4.2;
    chunks as in Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over Sequence Length".
    """

    spec = dataclasses.replace(SMOOTH, family="delta", overwrite="replace")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        beta: Step = 1.0,
        form: Literal["chunked", "rows"] = "chunked",
        chunk: Count = 64,
        key_norm: Literal["unit", "none"] = "unit",
    ) -> None:
        super().__init__(key_dim, value_dim)
        self.beta, self.form, self.chunk, self.key_norm = beta, form, chunk, key_norm
        self.spec = dataclasses.replace(self.spec, beta=beta)
        if beta != 1 or key_norm != "unit":  # exact overwriting takes beta |k|^2 = 1
            overwrite: Overwrite = "blend" if beta < 1 and key_norm == "unit" else "none"
            self.spec = dataclasses.replace(self.spec, overwrite=overwrite)
        if key_norm != "unit":  # the closed forms of the family are for keys of length one
            self.spec = dataclasses.replace(self.spec, family="generic")

    def write(self, state: MatrixState, keys: Tensor, values: Tensor) -> MatrixState:
        # Triangular solves exist from float32 on.
        dtype = torch.promote_types(state.matrix.dtype, torch.float32)
        matrix, keys, values = state.matrix.to(dtype), self._normed(keys.to(dtype)), values.to(dtype)
        matrix = delta(matrix, keys, values, self.beta, chunk=self.chunk if self.form == "chunked" else 1)
        return MatrixState(matrix.to(state.matrix.dtype))

    def sweep(
        self, matrix: Tensor, queries: Tensor, keys: Tensor, values: Tensor, step: Gate, log_decay: Gate
    ) -> tuple[Tensor, Tensor]:
        beta = self.beta if step is None else self.beta * step
        return delta_answers(matrix, queries, keys, values, beta, log_decay, self.chunk)
