"""Memory-based parameter adaptation: neighbours in an episodic store fine-tune the output model for one query."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from memspec.functional import FunctionalMemory
from memspec.options import Count, NotNegative, Positive, checked, refused
from memspec.reference.memories.neighbours import Softening
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops import ring
from memspec.reference.ops.inner import adapted_answers
from memspec.reference.ops.rows import gather_rows, smallest, unit_rows


class MbPAMemory(FunctionalMemory):
    """A FIFO store whose neighbours of a query train a linear output model for that query alone.

    The ``neighbours`` stored keys nearest to the query get weights ``w_k ~ 1 / (eps + |h_k - q|^2)`` (sum 1); from the
    slow weights theta, ``steps`` of ``theta_x <- theta_x - lr (sum_k w_k grad |h_k theta_x - v_k|^2 / 2 + beta
    (theta_x - theta))`` are taken, ``q theta_x`` is the answer, and theta_x is thrown away. The steps run in the span
    of the neighbours, so no per-query copy of theta is made.

    Args:
        capacity: pairs kept; the oldest goes first.
        neighbours: stored pairs that take part.
        lr, steps: inner steps; with unit keys and weights that sum to 1 they contract for lr (1 + beta) < 2.
        beta: pull towards theta; with many steps the answer is ridge regression around theta.
        eps: kernel floor.

    Slow weights (Parameter): ``theta [Dk, Dv]``, zero until something outside trains it.

    Raises:
        ValueError: for an option outside its range.

    Source: Sprechmann et al. 2018, "Memory-based Parameter Adaptation", eqs. 2-6; the kernel is that of Neural Episodic
    Control (Pritzel et al. 2017, eq. 5).
    """

    spec = dataclasses.replace(SMOOTH, eviction="fifo")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        neighbours: Count = 8,
        lr: Positive = 0.5,
        steps: Count = 10,
        beta: NotNegative = 1e-3,
        eps: Softening = 1e-3,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity)
        if not lr * (1 + beta) < 2:
            raise refused(self, "lr", lr, f"below 2 / (1 + beta) = {2 / (1 + beta):g}", "steps contract only there")
        self.slots = capacity
        self.neighbours, self.lr, self.steps, self.beta, self.eps = neighbours, lr, steps, beta, eps
        self.theta = nn.Parameter(torch.zeros(key_dim, value_dim))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> ring.RingState:
        return ring.empty_ring(batch_shape, self.slots, self.key_dim, self.value_dim, self.like)

    def write(self, state: ring.RingState, keys: Tensor, values: Tensor) -> ring.RingState:
        return ring.append(state, unit_rows(keys), values)

    def read(self, state: ring.RingState, keys: Tensor) -> Tensor:
        q = unit_rows(keys)
        near, v, weights = self._neighbours(state, q)  # [..., Q, k, Dk], [..., Q, k, Dv], [..., Q, k]
        return adapted_answers(q, self.theta, near, v, weights, self.lr, self.steps, self.beta)

    def _neighbours(self, state: ring.RingState, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest stored keys and values of each query, and their kernel weights (0 for empty slots)."""
        used = ring.in_use(state)
        # Unit rows: |h - q|^2 = 2 - 2 h.q, clamped because rounding may take it below 0.
        squared = torch.where(used[..., None, :], (2 - 2 * q @ state.keys.mT).clamp_min(0), torch.inf)
        # Stable, so that ties go to the lower slot on every device.
        squared, index = squared.sort(dim=-1, stable=True)
        squared, index = squared[..., : self.neighbours], index[..., : self.neighbours]
        near = gather_rows(state.keys, index)
        # The distance again, from the rows themselves: exact for a stored key, and differentiable.
        exact = (near - q[..., None, :]).square().sum(-1)
        weights = torch.where(torch.isfinite(squared), 1 / (exact + self.eps), 0.0)
        return (
            near,
            gather_rows(state.values, index),
            weights / weights.sum(-1, keepdim=True).clamp_min(smallest(weights.dtype, 1e-30)),
        )
