"""Which slot a row goes to that may be known already: the one that matches, else the one written longest ago."""

from __future__ import annotations

import torch
from torch import Tensor

from memspec.reference.ops.addressing import cosine
from memspec.reference.ops.rows import place


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
