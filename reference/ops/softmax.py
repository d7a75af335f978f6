"""Reading by attention: ``r = softmax(beta q K^T) V`` over the slots in use (Vaswani et al. 2017, eq. 1).

Here are the weights; the read is their product with the values.
"""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_weights(queries: Tensor, keys: Tensor, scale: Tensor | float, used: Tensor | None = None) -> Tensor:
    """``softmax(scale * q k^T)`` over the slots in use: ``[..., Q, S]``, rows sum to 1, or to 0 where none is used.

    Args:
        queries: ``[..., Q, D]``.
        keys: ``[..., S, D]``.
        scale: inverse temperature, one for all or ``[..., Q]``.
        used: ``[..., S]`` bool; the others get a weight of exactly 0. None: all are in use.
    """
    if isinstance(scale, Tensor):
        scale = scale[..., None]
    # Products of huge rows may overflow; the largest finite number saturates softmax just as well, without NaN.
    scores = torch.nan_to_num(scale * queries @ keys.mT)
    if used is None:
        return scores.softmax(-1)
    return masked_softmax(scores, used[..., None, :])


def masked_softmax(scores: Tensor, used: Tensor) -> Tensor:
    """Softmax of ``scores [..., S]`` where ``used [..., S]`` (bool), exactly 0 elsewhere; all 0 where none is used."""
    scores = torch.where(used, scores, -torch.inf)
    scores = torch.where(used.any(-1, keepdim=True), scores, 0.0)  # softmax over nothing but -inf is NaN
    return scores.softmax(-1) * used
