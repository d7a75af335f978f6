"""Decoders: from a memory's answers to "recalled or not". Every recall score names the one it used.

Hebbian memories look better than delta memories under one decoder and worse under another, so at least two are
reported. ``T`` trials, ``Q`` answers, ``M`` candidate values.
"""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(answers: Tensor, candidates: Tensor, decoder: str = "cosine") -> Tensor:
    """Index of the nearest candidate, ``[T, Q]``; by ``cosine`` or ``euclidean`` distance.

    Args:
        answers: ``[T, Q, Dv]``; rows with NaN or infinity decode to -1, which is never right.
        candidates: ``[T, M, Dv]``.
    """
    finite = torch.isfinite(answers).all(-1)
    clean = torch.where(finite[..., None], answers, 0.0)
    if decoder == "cosine":
        scores = clean @ _unit(candidates).mT
    elif decoder == "euclidean":
        scores = clean @ candidates.mT - candidates.square().sum(-1)[..., None, :] / 2
    else:
        raise ValueError(f"no decoder {decoder!r}; it is cosine or euclidean")
    return torch.where(finite, scores.argmax(-1), -1)


def recalled(answers: Tensor, candidates: Tensor, targets: Tensor, decoder: str = "cosine") -> Tensor:
    """``[T, Q]`` bool: does the answer decode to the target's value?

    Candidates that equal the target (labels shared by several keys) count as right.

    Args:
        targets: ``[Q]`` or ``[T, Q]`` indices into the candidates.
    """
    found = nearest(answers, candidates, decoder)
    targets = targets.expand(found.shape)
    width = candidates.shape[-1]
    got = torch.gather(candidates, 1, found.clamp_min(0)[..., None].expand(-1, -1, width))
    want = torch.gather(candidates, 1, targets[..., None].expand(-1, -1, width))
    return (got == want).all(-1) & (found >= 0)


def cosine(answers: Tensor, values: Tensor) -> Tensor:
    """Cosine of each answer with its value, ``[T, Q]``; 0 where an answer is zero or not finite."""
    clean = torch.where(torch.isfinite(answers).all(-1, keepdim=True), answers, 0.0)
    return (_unit(clean) * _unit(values)).sum(-1).clamp(-1, 1)


def relative_error(answers: Tensor, values: Tensor) -> Tensor:
    """``|answer - value|^2 / |value|^2``, ``[T, Q]``; infinite where an answer is not finite."""
    error = (answers - values).square().sum(-1) / values.square().sum(-1).clamp_min(1e-30)
    return torch.where(torch.isfinite(error), error, torch.inf)


def bits(accuracy: Tensor, count: int) -> Tensor:
    """Bits decoded from ``count`` pairs at this accuracy, errors spread evenly (Fano; Wolpaw et al. 2000), per trial."""
    if count < 2:
        return torch.zeros_like(accuracy)
    p = accuracy.double().clamp(0, 1)
    wrong = torch.xlogy(1 - p, 1 - p) - (1 - p) * torch.log(torch.tensor(count - 1.0, dtype=p.dtype))
    nats = torch.log(torch.tensor(float(count), dtype=p.dtype)) + torch.xlogy(p, p) + wrong
    return count * (nats / torch.log(torch.tensor(2.0, dtype=p.dtype))).clamp_min(0.0)


def chance(values: Tensor) -> float:
    """Mean accuracy of a decoder that always names the same candidate: 1/N, more where labels repeat; ``values [T, N, Dv]``."""
    same = (values[:, :, None] == values[:, None]).all(-1) if values.shape[1] <= 64 else None
    return float(same.float().mean()) if same is not None else 1.0 / values.shape[1]


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-30)
