"""The best any matrix memory can do: regularised least squares over all pairs seen."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import PositiveShare, Real, checked
from memspec.protocol import MemorySpec
from memspec.reference.ops.rows import unit_rows


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

    spec = MemorySpec(
        family="least_squares",
        write="set",
        overwrite="blend",
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
        n = keys.shape[-2]
        ages = torch.arange(n - 1, -1, -1, device=keys.device, dtype=keys.dtype)
        weighted = keys if self.decay == 1.0 else keys * (self.decay**ages)[:, None]
        kept = self.decay**n
        return MomentState(kept * state.gram + weighted.mT @ keys, kept * state.cross + weighted.mT @ values)

    def read(self, state: MomentState, keys: Tensor) -> Tensor:
        gram, cross = state.gram.double(), state.cross.double()  # a module cast to half has cast its state too
        eye = torch.eye(self.key_dim, dtype=gram.dtype, device=gram.device)
        # Rounding the moments to a precision moves their eigenvalues by at most eps |gram|_F: with that much more on
        # the diagonal the system stays positive definite.
        rounding = torch.finfo(self._device_dtype.dtype).eps * torch.linalg.matrix_norm(gram.detach(), keepdim=True)
        matrix = torch.cholesky_solve(cross, torch.linalg.cholesky(gram + (self.ridge + rounding) * eye))
        return (unit_rows(keys.double()) @ matrix).to(keys.dtype)
