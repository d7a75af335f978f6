"""The two anchors of every score: a dictionary that forgets nothing, and a memory that answers zeros."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.reference.memories.specs import CACHE, SOUND


class ExactState(NamedTuple):
    """``keys [..., n, Dk]``, ``values [..., n, Dv]``, oldest first."""

    keys: Tensor
    values: Tensor


class ExactMemory(FunctionalMemory):
    """A dictionary: the newest value written under a key; an unknown key answers as the nearest known one (Euclidean).

    The score-1 anchor. It grows by every write and never forgets.
    """

    spec = dataclasses.replace(CACHE, overwrite="replace", exact=True, constant_state=False)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> ExactState:
        return ExactState(
            torch.zeros(*batch_shape, 0, self.key_dim, **self.like),
            torch.zeros(*batch_shape, 0, self.value_dim, **self.like),
        )

    def write(self, state: ExactState, keys: Tensor, values: Tensor) -> ExactState:
        return ExactState(torch.cat((state.keys, keys), -2), torch.cat((state.values, values), -2))

    def read(self, state: ExactState, keys: Tensor) -> Tensor:
        return self._nearest(state, keys)[0]

    def confidence(self, keys: Tensor) -> Tensor:
        """``1 / (1 + distance to the nearest stored key)``; 0 when empty."""
        _, distance = self._nearest(self.state, self._checked(keys, "keys", self.key_dim))
        return 1 / (1 + distance)

    def _nearest(self, state: ExactState, keys: Tensor) -> tuple[Tensor, Tensor]:
        n = state.keys.shape[-2]
        if n == 0:
            return keys.new_zeros(*keys.shape[:-1], self.value_dim), keys.new_full(keys.shape[:-1], torch.inf)
        dtype = torch.promote_types(keys.dtype, torch.float32)  # cdist has no half or bfloat16
        asked, stored = keys.detach().to(dtype), state.keys.detach().to(dtype)
        # Not by matrix multiplication: the distance of a stored key to itself must be exactly 0. And as squares of
        # tiny differences vanish too, only rows whose largest difference is 0 count as equal.
        distances = torch.cdist(asked, stored, compute_mode="donot_use_mm_for_euclid_dist")
        differ = torch.cdist(asked, stored, p=torch.inf) > 0
        distances = torch.where(differ, distances.clamp_min(torch.finfo(dtype).tiny), 0.0)
        least = distances.amin(-1, keepdim=True)
        ages = torch.arange(n, device=keys.device)
        newest = torch.where(distances == least, ages, -1).amax(-1)
        index = newest[..., None].expand(*newest.shape, self.value_dim)
        return torch.gather(state.values, -2, index), least[..., 0].to(keys.dtype)

    def check_state(self, tensors: dict[str, Tensor]) -> str | None:
        if tensors["keys"].shape[-1] != self.key_dim or tensors["values"].shape[-1] != self.value_dim:
            return f"the saved pairs are not [n, {self.key_dim}] and [n, {self.value_dim}]"
        return None


class NullState(NamedTuple):
    """Nothing."""


class NullMemory(FunctionalMemory):
    """Answers zeros to everything: the score-0 anchor. It fails the liveness laws, as it must."""

    spec = dataclasses.replace(SOUND, write="set")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> NullState:
        return NullState()

    def write(self, state: NullState, keys: Tensor, values: Tensor) -> NullState:
        return state

    def read(self, state: NullState, keys: Tensor) -> Tensor:
        return keys.new_zeros(*keys.shape[:-1], self.value_dim)
