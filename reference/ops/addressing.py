"""How the heads of NTM, DNC and kin find rows of a memory: by content, and by where they were.

A weighting is ``[..., H, S]``, nonnegative, with a sum of at most 1 a head. Ties always go to the lowest index.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from memspec.reference.ops.rows import gather_rows, near_unit


def cosine(keys: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cosine of ``keys [..., H, W]`` with the rows of ``memory [..., S, W]`` -> ``[..., H, S]``; 0 for zero rows.

    Args:
        mask: ``[..., H, W]`` in [0, 1], multiplied into key and rows before they are compared (Csordas and
            Schmidhuber 2019, "Improving Differentiable Neural Computers Through Memory Masking, De-allocation, and
            Link Distribution Sharpness Control", section 3.1).
    """
    if mask is not None:
        keys, memory = (keys * mask).unsqueeze(-2), memory.unsqueeze(-3) * mask.unsqueeze(-2)
        return cosine(keys, memory).squeeze(-2)
    keys, key_lengths = near_unit(keys)
    memory, lengths = near_unit(memory)
    return keys @ memory.mT / (key_lengths.unsqueeze(-1) * lengths.unsqueeze(-2))


def content_weights(keys: Tensor, memory: Tensor, strengths: Tensor, mask: Tensor | None = None) -> Tensor:
    """``softmax(strength * cosine)`` over the slots (NTM eq. 5-6); ``strengths [..., H]``."""
    return (strengths.unsqueeze(-1) * cosine(keys, memory, mask)).softmax(-1)


def interpolate(content: Tensor, previous: Tensor, gates: Tensor) -> Tensor:
    """``g w_content + (1 - g) w_previous`` (NTM eq. 7); ``gates [..., H]`` in [0, 1]."""
    return previous.lerp(content, gates.unsqueeze(-1))


def shift(weights: Tensor, shifts: Tensor) -> Tensor:
    """Circular convolution (NTM eq. 8): ``shifts [..., H, 2R + 1]`` are the shares moved by -R, ..., 0, ..., +R slots.

    Raises:
        ValueError: if ``shifts`` is not odd, or reaches further than there are slots.
    """
    reach = shifts.shape[-1] // 2
    if shifts.shape[-1] != 2 * reach + 1 or reach > weights.shape[-1]:
        raise ValueError(
            f"shifts has {shifts.shape[-1]} entries for {weights.shape[-1]} slots; it must be odd, -R, ..., 0, ..., "
            "+R, with R at most the slots"
        )
    around = torch.cat((weights[..., weights.shape[-1] - reach :], weights, weights[..., :reach]), -1)
    # Slot i sees weights i - R, ..., i + R in a row; what comes from i - o moved by +o, hence the flip.
    return (around.unfold(-1, 2 * reach + 1, 1) @ shifts.flip(-1).unsqueeze(-1)).squeeze(-1)


def sharpen(weights: Tensor, gamma: Tensor) -> Tensor:
    """``w^gamma / sum w^gamma`` (NTM eq. 9); ``gamma [..., H]`` >= 1. A weighting that is zero everywhere stays so."""
    # Sharpening does not depend on the scale, so dividing by the largest weight first only prevents underflow; the
    # sum is then at least 1.
    top = weights.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    powered = (weights / top) ** gamma.unsqueeze(-1)
    return powered / powered.sum(-1, keepdim=True).clamp_min(1)


def oneplus(x: Tensor) -> Tensor:
    """``1 + log(1 + e^x)`` (DNC)."""
    return 1 + F.softplus(x)


def located(content: Tensor, previous: Tensor, gates: Tensor, shifts: Tensor, gamma: Tensor) -> Tensor:
    """``[..., H, S]``: interpolation, shift and sharpening in turn (NTM eq. 7-9): by content, or on from where the head was.

    Args:
        content, previous: ``[..., H, S]``.
        gates: ``[..., H]`` in [0, 1], 1 = content.
        shifts: ``[..., H, 2R + 1]``.
        gamma: ``[..., H]``, at least 1.
    """
    return sharpen(shift(interpolate(content, previous, gates), shifts), gamma)


def top_k(scores: Tensor, k: int) -> Tensor:
    """``[..., k]`` indices of the k largest along the last dimension, in ascending order of index.

    Unlike ``torch.topk`` its choice among equal scores is stated: the lowest indices.
    """
    scores = scores.detach().nan_to_num(nan=-torch.inf)
    least = scores.topk(k, dim=-1).values[..., -1:]
    above, level = scores > least, scores == least
    chosen = above | (level & (level.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
    return chosen.nonzero()[:, -1].view(*scores.shape[:-1], k)


def top_k_weights(keys: Tensor, memory: Tensor, strengths: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and weights ``[..., H, K]`` of the K rows of highest cosine, a softmax over them alone (SAM, Rae et al. 2016).

    Gradients reach these rows only.

    Args:
        keys: ``[..., H, W]``.
        memory: ``[..., S, W]``.
        strengths: ``[..., H]``.
        k: K, at most S.
    """
    with torch.no_grad():
        slots = top_k(cosine(keys, memory), k)
    near = cosine(keys.unsqueeze(-2), gather_rows(memory, slots)).squeeze(-2)
    return slots, (strengths.unsqueeze(-1) * near).softmax(-1)


def is_one_hot(weights: Tensor) -> bool:
    """Whether every weighting along the last dimension is exactly one-hot."""
    return bool(((weights == 0) | (weights == 1)).all() and (weights.sum(-1) == 1).all())
