"""Independent simulations of the families in plain torch: what the experiments ask, of many trials at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Read = Callable[[Tensor], Tensor]
Write = Callable[[Tensor, Tensor], Read]
"""Shown keys ``[T, N, Dk]`` and values ``[T, N, Dv]`` in order, a family answers queries ``[T, Q, Dk]``."""


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def hebbian(keys: Tensor, values: Tensor) -> Read:
    matrix = torch.einsum("tni,tnj->tij", keys, values)
    return lambda queries: torch.einsum("tqi,tij->tqj", queries, matrix)


def delta(beta: float) -> Write:
    def write(keys: Tensor, values: Tensor) -> Read:
        matrix = torch.zeros(len(keys), keys.shape[-1], values.shape[-1])
        for k, v in zip(keys.unbind(1), values.unbind(1)):
            matrix = matrix + beta * k[:, :, None] * (v - torch.einsum("ti,tij->tj", k, matrix))[:, None, :]
        return lambda queries: torch.einsum("tqi,tij->tqj", queries, matrix)

    return write


def least_squares(keys: Tensor, values: Tensor) -> Read:
    matrix = torch.linalg.pinv(keys) @ values
    return lambda queries: queries @ matrix


def cache(keys: Tensor, values: Tensor) -> Read:
    def read(queries: Tensor) -> Tensor:
        nearest = torch.cdist(queries, keys).argmin(-1)
        return torch.stack([v[i] for v, i in zip(values, nearest)])

    return read


def softmax(beta: float) -> Write:
    def write(keys: Tensor, values: Tensor) -> Read:
        return lambda queries: (beta * torch.einsum("tqi,tni->tqn", queries, keys)).softmax(-1) @ values

    return write


def superposition(dim: int) -> Write:
    """Random signs as codes, drawn for every key: multiply, add and permute without a projection of keys."""

    def write(keys: Tensor, values: Tensor) -> Read:
        g = torch.Generator().manual_seed(len(keys))
        frame = torch.linalg.qr(torch.randn(dim, values.shape[-1], generator=g)).Q
        codes = torch.randint(0, 2, (*keys.shape[:2], dim), generator=g) * 2.0 - 1.0
        trace = (codes * (values @ frame.mT)).sum(1)

        def read(queries: Tensor) -> Tensor:
            stored = torch.cdist(queries, keys).argmin(-1)
            return torch.stack([c[i] for c, i in zip(codes, stored)]) * trace[:, None] @ frame

        return read

    return write


def recall(answers: Tensor, values: Tensor, asked: Tensor) -> Tensor:
    """``[T, Q]``: whether the value asked for has the largest cosine with the answer."""
    return ((unit(answers) @ unit(values).mT).argmax(-1) == asked).double()


def error(answers: Tensor, values: Tensor) -> Tensor:
    """``[T, N]`` relative squared error."""
    return (answers - values).square().sum(-1) / values.square().sum(-1)
