"""Linear attention: Hebb's rule on features of the keys, read with a normaliser.

Shapes: features ``[..., N, Df]``, ``values [..., N, Dv]``, ``matrix [..., Df, Dv]``, ``normaliser [..., Df]``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from memspec.reference.ops.hebb import hebb_answers

FeatureMap = Literal["elu", "relu", "identity", "dpfp"]


def features(rows: Tensor, feature_map: FeatureMap) -> Tensor:
    """``phi(rows)``: ``[..., N, D] -> [..., N, Df]`` with Df = D, or 2 D for ``dpfp``.

    ``elu`` is elu(x) + 1; ``dpfp`` the deterministic parameter-free projection of Schlag et al. 2021 with nu = 1.
    """
    if feature_map == "elu":
        return F.elu(rows) + 1
    if feature_map == "relu":
        return rows.relu()
    if feature_map == "dpfp":
        both = torch.cat((rows.relu(), (-rows).relu()), -1)
        return both * both.roll(1, -1)
    return rows


def normalised(answers: Tensor, mass: Tensor) -> Tensor:
    """``answers [..., Q, Dv]`` over their ``mass [..., Q, 1]``; zeros where nothing with a common feature is stored."""
    stored = mass > torch.finfo(mass.dtype).tiny
    return torch.where(stored, answers / torch.where(stored, mass, 1.0), 0.0)


def linear_attention_answers(
    matrix: Tensor,
    normaliser: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    step: Tensor | None = None,
    log_decay: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal linear attention of features: ``phi(q_t) S_t / (phi(q_t) . z_t)`` at every row, and S, z after them all.

    The normaliser is Hebb's rule on a value of 1, with the same steps and decays.

    Args:
        queries, keys: features ``[..., N, Df]``.
        step, log_decay, chunk: as of :func:`memspec.reference.ops.hebb.hebb_answers`.

    Returns:
        ``(answers [..., N, Dv], matrix, normaliser)``.

    Source: Katharopoulos et al. 2020, "Transformers are RNNs", eqs. 9-12 and 16-20.
    """
    both = torch.cat((matrix, normaliser[..., None]), -1)
    rows = torch.cat((values, torch.ones_like(values[..., :1])), -1)
    answers, both = hebb_answers(both, queries, keys, rows, step, log_decay, chunk)
    return normalised(answers[..., :-1], answers[..., -1:]), both[..., :-1], both[..., -1]
