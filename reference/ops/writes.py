"""Writing to slots through gates: erase and add, forget and take in."""

from __future__ import annotations

from torch import Tensor


def erase_add(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """``M * prod_h (1 - w_h e_h^T) + sum_h w_h a_h^T`` (NTM eq. 3-4): all erases, then all adds.

    ``weights [..., H, S]``, ``erase [..., H, W]`` in [0, 1], ``add [..., H, W]``.
    """
    for head in range(weights.shape[-2]):
        memory = memory.addcmul(memory, weights[..., head, :, None] * erase[..., head, None, :], value=-1)
    if weights.shape[-2] == 1:
        return memory.addcmul(weights.mT, add)
    return memory + weights.mT @ add


def gated_write(memory: Tensor, weights: Tensor, forget: Tensor, entry: Tensor, candidate: Tensor) -> Tensor:
    """``(1 - w) M + w (f M + i c)``, written so that f = 1, i = 0 leaves every bit as it is; ``weights [..., S]``."""
    weights = weights.unsqueeze(-1)
    return memory * (1 - weights * (1 - forget)) + weights * entry * candidate
