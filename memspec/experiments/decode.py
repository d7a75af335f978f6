"""Decoders: from a memory's answers to "recalled or not". Every recall score names the one it used.

Hebbian memories look better than delta memories under one decoder and worse under another, so at least two are
reported. ``T`` trials, ``Q`` answers, ``M`` candidate values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memspec.functional import all_finite


def nearest(answers: Tensor, candidates: Tensor, decoder: str = "cosine") -> Tensor:
    """Index of the nearest candidate, ``[T, Q]``; by ``cosine`` or ``euclidean`` distance.

    Args:
        answers: ``[T, Q, Dv]``; rows with NaN or infinity decode to -1, which is never right.
        candidates: ``[T, M, Dv]``.
    """
    clean, finite = _finite(answers)
    if decoder == "cosine":
        scores = clean @ _unit(candidates).mT
    elif decoder == "euclidean":
        scores = clean @ candidates.mT - candidates.square().sum(-1)[..., None, :] / 2
    else:
        raise ValueError(f"no decoder {decoder!r}; it is cosine or euclidean")
    found = scores.argmax(-1)
    return found if finite is None else torch.where(finite, found, -1)


def recalled(answers: Tensor, candidates: Tensor, targets: Tensor, decoder: str = "cosine") -> Tensor:
    """``[T, Q]`` bool: does the answer decode to the target's value?

    Candidates that equal the target (labels shared by several keys) count as right.

    Args:
        targets: ``[Q]`` or ``[T, Q]`` indices into the candidates.
    """
    found = nearest(answers, candidates, decoder)
    targets = targets.expand(found.shape)
    right = found == targets
    others = (~right & (found >= 0)).nonzero(as_tuple=True)
    trial = others[0]
    right[others] = (candidates[trial, found[others]] == candidates[trial, targets[others]]).all(-1)
    return right


def cosine(answers: Tensor, values: Tensor) -> Tensor:
    """Cosine of each answer with its value, ``[T, Q]``; 0 where an answer is zero or not finite."""
    return (_unit(_finite(answers)[0]) * _unit(values)).sum(-1).clamp(-1, 1)


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
    same = torch.ones(len(values), values.shape[1], values.shape[1], dtype=torch.bool)
    for column in values.unbind(-1):
        same &= column[:, :, None] == column[:, None]
        if int(same.sum()) == len(values) * values.shape[1]:
            break  # only the diagonal is left; real vectors differ in their first entry
    return float(same.double().mean())


def _finite(answers: Tensor) -> tuple[Tensor, Tensor | None]:
    """The answers with rows that are not finite set to zero, and which rows are finite; None where all are."""
    if all_finite(answers):
        return answers, None
    finite = torch.isfinite(answers).all(-1)
    return torch.where(finite[..., None], answers, 0.0), finite


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-30)
