"""The best any matrix memory can do: regularised least squares over all pairs seen."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import PositiveShare, Real, checked
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.hebb import hebb
from memspec.reference.ops.least_squares import ridge_solution
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.scan import constant_log


class MomentState(NamedTuple):
    """``gram [..., Dk, Dk]`` = sum k^T k, ``cross [..., Dk, Dv]`` = sum k^T v."""

    gram: Tensor
    cross: Tensor


class LeastSquaresMemory(FunctionalMemory):
    """``q (K^T K + ridge I)^-1 K^T V``: recursive least squares, the mesa layer's optimum.

    Kept as two moment matrices, so that writes add and their order does not matter; the system is solved in float64
    when reading. Independent keys (N <= Dk) are recalled up to the ridge, and the error never falls below
    ``1 - Dk/N`` for random values beyond. A rewritten key answers the mean of its values.

    Args:
        ridge: regularisation, above 0; the relative error it costs is ``ridge / (ridge + smallest eigenvalue)``.
        decay: factor on the moments before each row, in (0, 1]; below 1 old pairs fade (RLS with a forgetting factor).

    Raises:
        ValueError: for an option outside its range.

    Source: von Oswald et al. 2023, "Uncovering mesa-optimization algorithms in Transformers", section 4 (mesa layer);
    Plackett 1950 for the recursion.
    """

    spec = dataclasses.replace(SMOOTH, family="least_squares", write="set", overwrite="blend")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        ridge: Annotated[float, Real(above=0, why="repeated keys have no solution without it")] = 1e-4,
        decay: PositiveShare = 1.0,
    ) -> None:
        super().__init__(key_dim, value_dim)
        self.ridge, self.decay = ridge, decay
        if decay < 1:
            self.spec = dataclasses.replace(self.spec, family="generic", write="sequential")

    @property
    def like(self) -> dict[str, Any]:
        """Moments are kept in float64 whatever the module's dtype: solving amplifies their rounding by 1 / ridge."""
        return {**super().like, "dtype": torch.float64}

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> MomentState:
        return MomentState(
            torch.zeros(*batch_shape, self.key_dim, self.key_dim, **self.like),
            torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like),
        )

    def write(self, state: MomentState, keys: Tensor, values: Tensor) -> MomentState:
        keys, values = unit_rows(keys.double()), values.double()
        decay = constant_log(self.decay, keys)
        return MomentState(
            hebb(state.gram, keys, keys, log_decay=decay), hebb(state.cross, keys, values, log_decay=decay)
        )

    def read(self, state: MomentState, keys: Tensor) -> Tensor:
        gram, cross = state.gram.double(), state.cross.double()  # a module cast to half has cast its state too
        eps = torch.finfo(self._device_dtype.dtype).eps
        matrix = ridge_solution(gram, cross, self.ridge, eps)
        return (unit_rows(keys.double()) @ matrix).to(keys.dtype)
