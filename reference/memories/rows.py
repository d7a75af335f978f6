"""RowMemory: what memories have in common that keep rows ``[key; value]`` and find them again by the key alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.reference.ops.addressing import content_weights, cosine
from memspec.reference.ops.rows import place


class RowMemory(FunctionalMemory):
    """Rows ``[k; v]`` of width ``W = key_dim + value_dim``, read by ``softmax(beta cos(q, k))`` over the slots.

    Only the key part of a row is compared (a key mask): compared with the whole row, the cosine of a stored key
    would sink as its value grows.

    A subclass has a state with a field ``memory [..., S, W]``, writes it by its own policy, and says in
    :meth:`occupied` which slots hold something.

    Args:
        capacity: slots S.
        beta: key strength of the read; at 50 a competitor at cosine .5 weighs 1e-11 of an exact match.

    Raises:
        ValueError: for a beta that is not positive.
    """

    def __init__(self, key_dim: int, value_dim: int, capacity: int, beta: float) -> None:
        super().__init__(key_dim, value_dim, capacity)
        if not 0 < beta < float("inf"):
            raise ValueError(f"{type(self).__name__}: beta is {beta}; it must be positive and finite")
        self.slots = capacity
        self.beta = beta
        self.spec = dataclasses.replace(self.spec, beta=beta)

    @property
    def width(self) -> int:
        """Row width W."""
        return self.key_dim + self.value_dim

    # ---- what a subclass says ---------------------------------------------------------------------------------

    def occupied(self, state: Any) -> Tensor:
        """``[..., S]`` in [0, 1]: how much of each slot has been written."""
        raise NotImplementedError

    # ---- reading ----------------------------------------------------------------------------------------------

    def weights(self, state: Any, keys: Tensor) -> Tensor:
        """Read weights ``[..., Q, S]`` for ``keys [..., Q, Dk]``."""
        strengths = keys.new_full(keys.shape[:-1], self.beta)
        return content_weights(keys, state.memory[..., : self.key_dim], strengths)

    def read(self, state: Any, keys: Tensor) -> Tensor:
        return self.weights(state, keys) @ state.memory[..., self.key_dim :]

    def slot_usage(self) -> Tensor:
        """``[S]`` in [0, 1]: how much of each slot has been written."""
        return self.occupied(self.state).clone()

    def confidence(self, keys: Tensor) -> Tensor:
        """``[Q]``: cosine with the nearest written key, at least 0; 0 where nothing is stored."""
        keys = self._checked(keys, "keys", self.key_dim)
        near = cosine(keys, self.state.memory[..., : self.key_dim])
        return (near * self.occupied(self.state).unsqueeze(-2)).amax(-1).clamp(0, 1)


class AddressedRowMemory(RowMemory):
    """A :class:`RowMemory` whose answers are its read weights times what its slots hold, and so Addressable."""

    def read_weights(self, keys: Tensor) -> Tensor:
        """``[Q, S]``, rows sum to 1."""
        return self.weights(self.state, self._checked(keys, "keys", self.key_dim))

    def slot_values(self) -> Tensor:
        """``[S, Dv]``."""
        return self.state.memory[..., self.key_dim :].clone()


def as_rows(keys: Tensor, values: Tensor) -> Tensor:
    """``[..., N, Dk]`` and ``[..., N, Dv]`` side by side: ``[..., N, W]``."""
    return torch.cat((keys, values), -1)


def assign(keys: Tensor, stored: Tensor, written: Tensor, time: Tensor, match: float) -> tuple[Tensor, Tensor]:
    """Which slot each of some rows goes to, in order: the one whose key matches, else the one written longest ago.

    Args:
        keys: ``[..., N, Dk]``.
        stored: ``[..., S, Dk]``, the keys in the slots.
        written: ``[..., S]`` int64, step of the last write; negative = never, the least first in line.
        time: ``[..., 1]`` int64, step of the first of these rows.
        match: cosine from which a key counts as the stored one.

    Returns:
        ``slots [..., N]`` and the new ``written``.
    """
    with torch.no_grad():
        parts = []
        for part in keys.split(ASSIGNED_AT_ONCE, -2):
            slots, written = _assign(part, stored, written, time, match)
            stored, time = place(stored, part, slots), time + part.shape[-2]
            parts.append(slots)
        return torch.cat(parts, -1), written


ASSIGNED_AT_ONCE = 256
"""Rows compared at once with every slot and with each other, which bounds what that takes in memory."""


def _assign(keys: Tensor, stored: Tensor, written: Tensor, time: Tensor, match: float) -> tuple[Tensor, Tensor]:
    count, size = keys.shape[-2], stored.shape[-2]
    near = torch.where(written.unsqueeze(-2) >= 0, cosine(keys, stored), -1.0)
    among = cosine(keys, keys)
    if bool((near < match).all()) and bool((among.tril(-1) < match).all()):
        # All keys are new, so the line is known beforehand: a slot just written is the last in it.
        steps = torch.arange(count, device=keys.device)
        slots = written.argsort(dim=-1, stable=True)[..., steps % size]
        return slots, written.scatter(-1, slots[..., -size:], (time + steps)[..., -size:])
    chosen = []
    for n in range(count):
        best, slot = near[..., n, :].max(-1, keepdim=True)
        slot = torch.where(best >= match, slot, written.argmin(-1, keepdim=True))
        written = written.scatter(-1, slot, time + n)
        column = slot.unsqueeze(-2).expand(*slot.shape[:-1], count, 1)
        near = near.scatter(-1, column, among[..., n].unsqueeze(-1))
        chosen.append(slot)
    return torch.cat(chosen, -1), written
