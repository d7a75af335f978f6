"""The rules of the implicit memory module: a few slots that are normed, attended to, and moved towards what is written.

Shapes: ``slots [..., S, n]``, always normed; ``rows [..., Q, n]``.

Source: jio-gl/nanoGPT-imm; the projection of tokens: Wang et al. 2020, "Linformer".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.softmax import softmax_weights

Norm = Literal["layer", "l2"]


def summarise(tokens: Tensor, projection: Tensor) -> Tensor:
    """``[..., chunks, S, n]``: ``E^T X`` of each completed chunk of ``tokens [..., T, n]``, with E = ``projection [C, S]``.

    A last chunk of fewer than C tokens has no summary yet. The projection is along the sequence (Wang et al. 2020,
    "Linformer", section 4).
    """
    chunk = projection.shape[0]
    complete = tokens.shape[-2] // chunk
    return projection.mT @ tokens[..., : complete * chunk, :].unflatten(-2, (complete, chunk))


def normed(rows: Tensor, norm: Norm) -> Tensor:
    """Rows ``[..., n]`` brought to mean 0 and length ``sqrt(n)`` (``layer``), or to length 1 (``l2``); zero rows stay zero."""
    if norm == "l2":
        return unit_rows(rows)
    return unit_rows(rows - rows.mean(-1, keepdim=True)) * math.sqrt(rows.shape[-1])


def address(rows: Tensor, slots: Tensor, temperature: float, norm: Norm) -> Tensor:
    """``[..., Q, S]``: softmax over slots of ``x^ . m / temperature``, over ``sqrt(n)`` too for ``layer``; both normed."""
    width = math.sqrt(rows.shape[-1]) if norm == "layer" else 1.0
    return softmax_weights(rows, slots, 1 / (temperature * width))


def read_slots(rows: Tensor, slots: Tensor, temperature: float, norm: Norm) -> Tensor:
    """``[..., Q, n]``: what ``rows [..., Q, n]``, not yet normed, attend to among normed ``slots [..., S, n]``."""
    return address(normed(rows, norm), slots, temperature, norm) @ slots


def moved(slots: Tensor, rows: Tensor, share: Tensor | float, norm: Norm) -> Tensor:
    """Slots ``[..., S, n]`` moved by ``share`` of the way to normed ``rows`` (one for all, or one for each), and normed."""
    return normed(slots + share * (rows - slots), norm)


def take_in(
    addresses: Tensor,
    contents: Tensor,
    mass: Tensor,
    keys: Tensor,
    values: Tensor,
    share: float | Tensor,
    temperature: float,
    norm: Norm,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs taken in one after the other: each slot goes its attention's part of ``share`` of the way to the pair.

    Args:
        addresses, contents: what slots stand at and hold, ``[..., S, Dk]`` and ``[..., S, Dv]``.
        mass: ``[..., S]`` in [0, 1]: how much of each slot has been written, ``1 - prod (1 - g)`` over its parts g.
        keys, values: ``[..., N, Dk]``, not yet normed, and ``[..., N, Dv]``.
        share: in (0, 1], a number, or ``[..., N]``, one a row.

    Returns:
        The three after all rows.
    """
    keys, count = normed(keys, norm), keys.shape[-2]
    shares: Sequence[Tensor | float] = (
        [share] * count if isinstance(share, (int, float)) else share[..., None, None].unbind(-3)
    )
    for key, value, part in zip(keys.split(1, -2), values.split(1, -2), shares):
        way = part * address(key, addresses, temperature, norm).mT  # [..., S, 1]
        addresses = moved(addresses, key, way, norm)
        contents = contents + way * (value - contents)
        mass = mass + way[..., 0] * (1 - mass)
    return addresses, contents, mass
