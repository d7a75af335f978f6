"""A ring of pairs: what memories share that keep the newest ``capacity`` pairs and overwrite the oldest."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from memspec.reference.ops.rows import rows_at


class RingState(NamedTuple):
    """``keys [..., S, Dk]``, ``values [..., S, Dv]``, ``written [...]`` rows ever written (int64)."""

    keys: Tensor
    values: Tensor
    written: Tensor


def empty_ring(
    batch_shape: tuple[int, ...], slots: int, key_dim: int, value_dim: int, like: dict[str, Any]
) -> RingState:
    """A ring with nothing in it; ``like`` = device and dtype."""
    return RingState(
        torch.zeros(*batch_shape, slots, key_dim, **like),
        torch.zeros(*batch_shape, slots, value_dim, **like),
        torch.zeros(batch_shape, dtype=torch.int64, device=like["device"]),
    )


def append(state: RingState, keys: Tensor, values: Tensor, gates: Tensor | None = None) -> RingState:
    """The ring after rows in order; one scatter for all rows.

    Args:
        keys: ``[..., N, Dk]``.
        values: ``[..., N, Dv]``.
        gates: ``[..., N]`` in [0, 1], how far each row takes the place of what its slot held; a row of gate 0 leaves the
            slot as it is, which then counts as written. None: all 1.
    """
    slots, n = state.keys.shape[-2], keys.shape[-2]
    if gates is not None and n > slots:  # every round of the ring blends with what the one before left
        for k, v, g in zip(keys.split(slots, -2), values.split(slots, -2), gates.split(slots, -1)):
            state = append(state, k, v, g)
        return state
    kept = min(n, slots)  # earlier rows would be overwritten by these
    rows = torch.arange(n - kept, n, device=keys.device)
    slot = (state.written[..., None] + rows) % slots
    keys, values = keys[..., n - kept :, :], values[..., n - kept :, :]
    if gates is not None:
        share = gates[..., None]
        keys, values = rows_at(state.keys, slot).lerp(keys, share), rows_at(state.values, slot).lerp(values, share)
    slot = slot[..., None]
    return RingState(
        state.keys.scatter(-2, slot.expand(*slot.shape[:-1], keys.shape[-1]), keys),
        state.values.scatter(-2, slot.expand(*slot.shape[:-1], values.shape[-1]), values),
        state.written + n,
    )


def grown(state: RingState, keys: Tensor, values: Tensor) -> RingState:
    """A store without bound after ``keys [..., N, Dk]``, ``values [..., N, Dv]``: N slots more, all in use."""
    return RingState(
        torch.cat((state.keys, keys), -2), torch.cat((state.values, values), -2), state.written + keys.shape[-2]
    )


def in_use(state: RingState) -> Tensor:
    """``[..., S]`` bool: which slots hold a pair."""
    return torch.arange(state.keys.shape[-2], device=state.keys.device) < state.written[..., None]


def times_written(state: RingState) -> Tensor:
    """``[..., S]`` int64: how often each slot has been written."""
    slots = state.keys.shape[-2]
    return (state.written[..., None] + slots - 1 - torch.arange(slots, device=state.keys.device)) // slots


def slot_ages(written: Tensor, slots: int) -> Tensor:
    """``[..., S]`` int64: writes since each slot of a ring was written, 0 for the newest; ``written [...]`` rows ever.

    The index of the temporal encoding (Sukhbaatar et al. 2015, section 4.1: sentences in reverse order). Slots that
    were never written have ages beyond those of all others.
    """
    return (written[..., None] - 1 - torch.arange(slots, device=written.device)) % slots
