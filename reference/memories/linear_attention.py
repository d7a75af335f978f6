"""Linear attention as a memory: a feature map, a matrix, a normaliser."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.options import checked, refused
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.hebb import hebb, hebb_answers
from memspec.reference.ops.linear_attention import FeatureMap, features, linear_attention_answers, normalised
from memspec.reference.ops.rows import unit_rows


class LinearAttentionState(NamedTuple):
    """``matrix [..., Df, Dv]`` = sum phi(k)^T v, ``normaliser [..., Df]`` = sum phi(k)."""

    matrix: Tensor
    normaliser: Tensor


class LinearAttentionMemory(FunctionalMemory):
    """``phi(q) S / (phi(q) . z)``, ``S += phi(k)^T v``, ``z += phi(k)``.

    With the published map elu + 1 all features are positive, every stored value gets weight, and the answer is close
    to the mean of all values: weak by nature, and left so.

    Args:
        feature_map: ``elu`` (elu(x) + 1), ``relu``, ``identity``, ``dpfp`` (deterministic parameter-free projection
            of Schlag et al. 2021, nu = 1, width 2 Dk).
        normalise: divide by ``phi(q) . z``; refused for ``identity``, whose sums may be zero or negative.
        key_norm: ``unit`` scales keys to length 1 first.

    Raises:
        ValueError: for an option outside its range.

    Source: Katharopoulos et al. 2020, "Transformers are RNNs", eqs. 9-12 and 16-20.
    """

    spec = dataclasses.replace(SMOOTH, write="set", overwrite="blend")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        feature_map: FeatureMap = "elu",
        normalise: bool = True,
        key_norm: Literal["unit", "none"] = "unit",
    ) -> None:
        super().__init__(key_dim, value_dim)
        if feature_map == "identity" and normalise:
            why = "q . z may be zero or negative"
            raise refused(self, "normalise", normalise, "False with feature_map 'identity'", why)
        self.feature_map, self.normalise, self.key_norm = feature_map, normalise, key_norm
        if not normalise:
            family: Literal["hebbian", "generic"] = "hebbian" if feature_map == "identity" else "generic"
            self.spec = dataclasses.replace(self.spec, overwrite="add", family=family)

    @property
    def feature_dim(self) -> int:
        """Width of the features."""
        return 2 * self.key_dim if self.feature_map == "dpfp" else self.key_dim

    def features(self, keys: Tensor) -> Tensor:
        """``phi(keys)``: ``[..., N, Dk] -> [..., N, Df]``."""
        if self.key_norm == "unit":
            keys = unit_rows(keys)
        return features(keys, self.feature_map)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> LinearAttentionState:
        return LinearAttentionState(
            torch.zeros(*batch_shape, self.feature_dim, self.value_dim, **self.like),
            torch.zeros(*batch_shape, self.feature_dim, **self.like),
        )

    def write(self, state: LinearAttentionState, keys: Tensor, values: Tensor) -> LinearAttentionState:
        phi = self.features(keys)
        return LinearAttentionState(hebb(state.matrix, phi, values), state.normaliser + phi.sum(-2))

    def read(self, state: LinearAttentionState, keys: Tensor) -> Tensor:
        phi = self.features(keys)
        answers = phi @ state.matrix
        if not self.normalise:
            return answers
        return normalised(answers, phi @ state.normaliser[..., None])

    def scan(
        self,
        state: LinearAttentionState,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        step: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> tuple[Tensor, LinearAttentionState]:
        """What query t is answered once row t is written, and the state after all rows; see :class:`~memspec.networks.held.Scans`."""
        queries, keys = self.features(queries), self.features(keys)
        if self.normalise:
            answers, *after = linear_attention_answers(*state, queries, keys, values, step, log_decay)
            return answers, LinearAttentionState(*after)
        answers, matrix = hebb_answers(state.matrix, queries, keys, values, step, log_decay)
        mass = hebb(state.normaliser[..., None], keys, torch.ones_like(values[..., :1]), step, log_decay)
        return answers, LinearAttentionState(matrix, mass[..., 0])
