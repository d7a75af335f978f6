"""The delta rule, with or without a forget gate: ``S <- a_t S + b_t k_t^T (v_t - a_t k_t S)``.

The state decays before it predicts. A chunk of rows is one triangular system (the WY form): what each row adds along
its key, its correction, solves ``(I + b tril(K K^T, -1)) U = b (V - K S)``; from there on a chunk is Hebb's rule with
the corrections as values. Shapes as in :mod:`memspec.reference.ops.hebb`; computed in the dtype given, float32 or wider.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memspec.reference.ops.hebb import chunk_answers
from memspec.reference.ops.scan import left_between


def delta(
    matrix: Tensor,
    keys: Tensor,
    values: Tensor,
    step: Tensor | float = 1.0,
    log_decay: Tensor | None = None,
    chunk: int = 64,
) -> Tensor:
    """The matrix after all rows.

    Args:
        step: b, a number or ``[..., N]``; stable for ``0 < b |k|^2 < 2``.
        log_decay: logarithm of a ``[..., N]``; None forgets nothing.
        chunk: rows in a chunk; 1 is the recurrent form. Changes the speed only.

    Source: Schlag, Irie, Schmidhuber 2021, "Linear Transformers Are Secretly Fast Weight Programmers", section 4.2;
    chunks: Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over Sequence Length"; the gate:
    Yang, Kautz, Hatamizadeh 2024, "Gated Delta Networks", eq. 10 and section 3.3.
    """
    for k, v, b, g in _pieces(chunk, keys, values, step, log_decay):
        _, _, matrix = _advance(matrix, k, v, b, g)
    return matrix


def delta_answers(
    matrix: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    step: Tensor | float = 1.0,
    log_decay: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """What query t ``[..., N, Dk]`` is answered once row t is written, ``[..., N, Dv]``, and the matrix after all rows.

    Arguments as of :func:`delta`.
    """
    answers = []
    split = queries.split(chunk, -2)
    for q, (k, v, b, g) in zip(split, _pieces(chunk, keys, values, step, log_decay)):
        corrections, decay, after = _advance(matrix, k, v, b, g)
        answers.append(chunk_answers(matrix, q, k, corrections, decay))
        matrix = after
    return torch.cat(answers, -2), matrix


Piece = tuple[Tensor, Tensor, Tensor | float, Tensor | None]


def _pieces(chunk: int, keys: Tensor, values: Tensor, step: Tensor | float, log_decay: Tensor | None) -> list[Piece]:
    """Keys, values, steps and log decays a chunk at a time; gates as columns ``[..., C, 1]``."""
    count = -(-keys.shape[-2] // chunk)
    steps = step[..., None].split(chunk, -2) if isinstance(step, Tensor) else [step] * count
    decays = [None] * count if log_decay is None else log_decay[..., None].split(chunk, -2)
    return list(zip(keys.split(chunk, -2), values.split(chunk, -2), steps, decays))


def _advance(
    matrix: Tensor, keys: Tensor, values: Tensor, step: Tensor | float, log_decay: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """One chunk: its corrections ``[..., C, Dv]``, the log decay since it began ``[..., C, 1]``, the matrix after it."""
    if log_decay is None:
        errors = step * (values - keys @ matrix)
        if keys.shape[-2] > 1:
            mixing = (step * keys @ keys.mT).tril(-1)  # the solver takes the diagonal to be ones
            errors = torch.linalg.solve_triangular(mixing, errors, upper=False, unitriangular=True)
        return errors, None, matrix + keys.mT @ errors
    decay = log_decay.cumsum(-2)
    errors = step * (values - decay.exp() * (keys @ matrix))
    if keys.shape[-2] > 1:
        mixing = step * (keys @ keys.mT) * left_between(decay, strict=True)
        errors = torch.linalg.solve_triangular(mixing, errors, upper=False, unitriangular=True)
    left = decay[..., -1:, :]
    return errors, decay, left.exp() * matrix + (keys * (left - decay).exp()).mT @ errors
