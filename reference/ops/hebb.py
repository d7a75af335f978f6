"""Hebb's rule: a matrix that sums outer products of keys and values, ``S <- a_t S + b_t k_t^T v_t``.

Shapes: ``matrix [..., Dk, Dv]``, ``keys [..., N, Dk]``, ``values [..., N, Dv]``; gates ``[..., N]``, a number a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memspec.reference.ops.scan import left_at_end, left_between


def hebb(
    matrix: Tensor, keys: Tensor, values: Tensor, step: Tensor | None = None, log_decay: Tensor | None = None
) -> Tensor:
    """The matrix after all rows.

    Args:
        step: b ``[..., N]``; None is 1.
        log_decay: logarithm of a ``[..., N]``; None forgets nothing.

    Source: Kohonen 1972; Anderson 1972; with decay Ba et al. 2016, "Using Fast Weights to Attend to the Recent Past".
    """
    if step is not None:
        keys = keys * step[..., None]
    if log_decay is None:
        return matrix + keys.mT @ values
    left, kept = left_at_end(log_decay)
    keys = keys * left[..., None].to(keys.dtype)  # gates may be more precise than half-precision keys
    return kept[..., None, None].to(matrix.dtype) * matrix + keys.mT @ values


def hebb_answers(
    matrix: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    step: Tensor | None = None,
    log_decay: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """What query t is answered once row t is written, for every row, and the matrix after all of them.

    Causal linear attention with a decay, a chunk at a time: the answers of a chunk are those of the matrix before it
    plus attention inside it.

    Args:
        queries: ``[..., N, Dk]``.
        step, log_decay: as of :func:`hebb`.
        chunk: rows in a chunk; changes the speed only.

    Returns:
        ``(answers [..., N, Dv], matrix [..., Dk, Dv])``.

    Source: Katharopoulos et al. 2020, "Transformers are RNNs"; chunks with decay: Yang et al. 2024, "Gated Linear
    Attention Transformers with Hardware-Efficient Training", section 4.
    """
    if step is not None:
        values = values * step[..., None]
    answers = []
    for q, k, v, g in pieces(chunk, queries, keys, values, log_decay):
        answers.append(chunk_answers(matrix, q, k, v, None if g is None else g[..., None].cumsum(-2)))
        matrix = hebb(matrix, k, v, log_decay=g)
    return torch.cat(answers, -2), matrix


def chunk_answers(matrix: Tensor, queries: Tensor, keys: Tensor, added: Tensor, decay: Tensor | None) -> Tensor:
    """Answers inside one chunk: ``matrix`` is that before it, ``decay [..., N, 1]`` the log decay since it began."""
    scores = queries @ keys.mT
    if decay is None:
        return queries @ matrix + scores.tril() @ added
    return decay.exp() * (queries @ matrix) + (scores * left_between(decay)) @ added


def pieces(
    chunk: int, queries: Tensor, keys: Tensor, values: Tensor, gate: Tensor | None
) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Rows and their gates ``[..., N]``, a chunk at a time."""
    rows = (x.split(chunk, -2) for x in (queries, keys, values))
    count = -(-keys.shape[-2] // chunk)
    gates = [None] * count if gate is None else gate.split(chunk, -1)
    return list(zip(*rows, gates))
