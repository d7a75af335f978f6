"""The delta rule with a forget gate."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import Count, PositiveShare, Step, checked
from memspec.protocol import MemorySpec
from memspec.reference.memories.matrix import MatrixState
from memspec.reference.ops.rows import unit_rows


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

    spec = MemorySpec(
        write="sequential",
        overwrite="replace",
        empty_read="zeros",
        constant_state=True,
        deterministic=True,
        differentiable=frozenset({"query", "keys", "values"}),
        nonfinite="reject",
        inference_mode=True,
    )

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
        rows = keys.shape[:-1]
        log_alpha = keys.new_full(rows, math.log(self.alpha))
        beta = keys.new_full(rows, self.beta)
        matrix = gated_delta(matrix, keys, values, log_alpha, beta, self.chunk if self.form == "chunked" else 1)
        return MatrixState(matrix.to(state.matrix.dtype))

    def read(self, state: MatrixState, keys: Tensor) -> Tensor:
        return unit_rows(keys) @ state.matrix


def gated_delta(matrix: Tensor, keys: Tensor, values: Tensor, log_alpha: Tensor, beta: Tensor, chunk: int) -> Tensor:
    """The state after rows with their own gates, a triangular solve a chunk.

    Args:
        matrix: ``[..., Dk, Dv]`` before.
        keys, values: ``[..., N, Dk]``, ``[..., N, Dv]``.
        log_alpha, beta: ``[..., N]`` logarithm of the decay and step of each row.
        chunk: rows in a chunk; 1 is the recurrent form.

    Returns:
        ``[..., Dk, Dv]`` after. Differentiable in all arguments.
    """
    pieces = (x.split(chunk, -2) for x in (keys, values, log_alpha[..., None], beta[..., None]))
    for k, v, g, b in zip(*pieces):
        decay = g.cumsum(-2)  # [..., C, 1], log of the decay since the chunk began, this row included
        errors = b * (v - decay.exp() * (k @ matrix))
        n = k.shape[-2]
        if n > 1:
            # Masked before the exponential: above the diagonal the exponent is positive and would overflow.
            below = torch.ones(n, n, dtype=torch.bool, device=k.device).tril(-1)
            between = torch.where(below, decay - decay.mT, -torch.inf).exp()
            errors = torch.linalg.solve_triangular(b * (k @ k.mT) * between, errors, upper=False, unitriangular=True)
        left = decay[..., -1:, :]
        matrix = left.exp() * matrix + (k * (left - decay).exp()).mT @ errors
    return matrix
