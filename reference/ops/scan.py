"""Recurrences that are linear in their state, unrolled: what n rows with gates of their own do at once.

Decays come as logarithms, because products of many underflow where differences of cumulated logarithms do not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


def log_share(share: float) -> float:
    """Logarithm of a share in [0, 1], with a very negative number for 0 (whose differences stay finite)."""
    return math.log(share) if share > 0 else -1e4


def constant_log(share: float, rows: Tensor) -> Tensor | None:
    """The same log decay for each of ``rows [..., N, D]``, ``[N]``, in float32 at least; None for a share of 1."""
    if share == 1:
        return None
    # Half-precision numbers could not hold the sums over many rows.
    dtype = torch.promote_types(rows.dtype, torch.float32)
    return torch.full(rows.shape[-2:-1], log_share(share), dtype=dtype, device=rows.device)


def both_logs(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Log decays of two kinds that act at once; None forgets nothing."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def linear_scan(log_decay: Tensor, inputs: Tensor, start: Tensor | None = None) -> Tensor:
    """Every ``x_t = exp(log_decay_t) x_{t-1} + inputs_t``, in log2(N) steps of doubling.

    Args:
        log_decay: ``[..., N]``.
        inputs: ``[..., N, D]``.
        start: ``x_0 [..., D]``; None is zero.

    Returns:
        ``[..., N, D]``: x after each row.

    Source: Blelloch 1990, "Prefix Sums and Their Applications"; Hillis and Steele 1986 for the doubling.
    """
    decay, x = log_decay[..., None], inputs
    if start is not None:
        x = torch.cat((decay[..., :1, :].exp() * start[..., None, :] + x[..., :1, :], x[..., 1:, :]), -2)
    reach = 1
    while reach < x.shape[-2]:
        x = torch.cat((x[..., :reach, :], x[..., reach:, :] + decay[..., reach:, :].exp() * x[..., :-reach, :]), -2)
        decay = torch.cat((decay[..., :reach, :], decay[..., reach:, :] + decay[..., :-reach, :]), -2)
        reach *= 2
    return x


def left_at_end(log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """What the decays of all rows leave in the end: of what each row added ``[..., N]``, and of the state before ``[...]``.

    A row decays what was there before it, not what it adds.
    """
    later = torch.cat((log_decay[..., 1:], torch.zeros_like(log_decay[..., :1])), -1)
    # Summed from the end: the newest rows count most, and a long sum would have rounded their small ages away.
    return later.flip(-1).cumsum(-1).flip(-1).exp(), log_decay.sum(-1).exp()


def left_between(decay: Tensor, strict: bool = False) -> Tensor:
    """``[..., N, N]``: at i, what is left once row i has decayed it of what row j added (j <= i, or j < i); else 0.

    Args:
        decay: ``[..., N, 1]`` logarithms of the decay since a common start, each row's own included.
    """
    n = decay.shape[-2]
    below = torch.ones(n, n, dtype=torch.bool, device=decay.device).tril(-1 if strict else 0)
    # Masked before the exponential: above the diagonal the exponent is positive and would overflow.
    return torch.where(below, decay - decay.mT, -torch.inf).exp()


class MomentumWeights(NamedTuple):
    """How n steps of ``S <- eta S - g``, ``M <- keep M + S`` act at once, for gradients g taken in advance.

    ``M_n = weights_kept M_0 + momentum_to_weights S_0 - sum_j gradient_to_weights[j] g_j`` and
    ``S_n = momentum_kept S_0 - sum_j gradient_to_momentum[j] g_j``; ``[...]`` and ``[..., N]``.
    """

    weights_kept: Tensor
    momentum_to_weights: Tensor
    momentum_kept: Tensor
    gradient_to_weights: Tensor
    gradient_to_momentum: Tensor


def momentum_weights(log_keep: Tensor, log_eta: Tensor) -> MomentumWeights:
    """The closed weights of both recurrences, from each row's log keep (1 - alpha) and log momentum, ``[..., N]``."""
    keep, eta = log_keep.cumsum(-1), log_eta.cumsum(-1)
    carried = left_between(eta[..., None])  # of g_j left in S_i
    reach = (keep[..., -1:] - keep).exp()  # of S_i left in M_n
    return MomentumWeights(
        keep[..., -1].exp(),
        (reach * eta.exp()).sum(-1),
        eta[..., -1].exp(),
        (reach[..., None, :] @ carried)[..., 0, :],
        carried[..., -1, :],
    )
