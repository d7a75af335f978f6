"""Patterns of +-1 in a matrix: the rules that store them, and the rests that recall ends in.

Shapes: ``matrix [..., D, D]`` (or ``[..., Dk, Dv]`` for pairs), patterns ``[..., N, D]``. No gradient flows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memspec.reference.ops.hebb import hebb


def without_diagonal(matrix: Tensor) -> Tensor:
    """The matrix with zeros on its diagonal."""
    return matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))


def hebb_patterns(matrix: Tensor, patterns: Tensor) -> Tensor:
    """Sum of outer products with a zero diagonal; not over D: integers stay exact, and so does a field of 0.

    Source: Hopfield 1982.
    """
    return without_diagonal(hebb(matrix, patterns, patterns))


def storkey(matrix: Tensor, pattern: Tensor) -> Tensor:
    """Storkey's local rule for one pattern ``[..., 1, D]`` and a matrix whose diagonal is zero. Source: Storkey 1997."""
    field = pattern @ matrix  # h_i = sum_k W_ik x_k
    # h_ij leaves out i and j: h_ij = h_i - W_ij x_j.
    local = field.mT - matrix * pattern
    change = pattern.mT @ pattern - pattern.mT * local.mT - local * pattern
    return without_diagonal(matrix + change / pattern.shape[-1])


def projection(matrix: Tensor, pattern: Tensor) -> Tensor:
    """The projection onto the span of the patterns so far and this one ``[..., 1, D]``; unchanged where it lies inside.

    Source: Personnaz, Guyon, Dreyfus 1986.
    """
    rest = pattern - pattern @ matrix
    left = rest @ pattern.mT  # |rest|^2: what of the pattern lies outside the span
    new = left > 1e-4 * pattern.shape[-1]
    return matrix + torch.where(new, rest.mT @ rest / torch.where(new, left, 1.0), 0.0)


def settled(matrix: Tensor, state: Tensor, sweeps: int, at_once: bool) -> Tensor:
    """States ``[..., Q, D]`` after sweeps of ``s <- sign(s W)`` until nothing changes, at most so many.

    Args:
        at_once: all units together, else unit after unit in order.
    """
    for _ in range(sweeps):
        before = state
        if at_once:
            state = keep_ties(state @ matrix, state)
        else:
            for i in range(matrix.shape[-1]):
                field = state @ matrix[..., i : i + 1]
                state = torch.cat((state[..., :i], keep_ties(field, state[..., i : i + 1]), state[..., i + 1 :]), -1)
        if torch.equal(before, state):
            break
    return state


def bounced(matrix: Tensor, keys: Tensor, bounces: int) -> Tensor:
    """Values that keys ``[..., Q, Dk]`` of +-1 come to rest with, between ``v = sign(k W)`` and ``k = sign(v W^T)``.

    Source: Kosko 1988, "Bidirectional Associative Memories", section II.
    """
    values = (keys @ matrix).sign()
    for _ in range(bounces):
        before = values
        keys = keep_ties(values @ matrix.mT, keys)
        values = keep_ties(keys @ matrix, values)
        if torch.equal(before, values):
            break
    return values


def keep_ties(field: Tensor, now: Tensor) -> Tensor:
    """Sign of the field; where it is exactly 0, the state ``now``."""
    return torch.where(field == 0, now, field.sign())
