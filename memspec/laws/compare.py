"""Tolerances, and the small tools that laws and their programs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

NOISE = 16 * torch.finfo(torch.float32).eps
"""Relative size (2e-6) below which a change of a float32 answer may be rounding."""
FLOAT = 1e-5
"""Two float32 computations of the same thing in another order agree to this, relative to the largest number in them."""

NAMES_A_DTYPE = r"(?i)dtype|float|double|half|precision|scalar ?type"
"""What an error says that refuses a precision in so many words, its own or torch's."""


def rounding(*dtypes: torch.dtype) -> float:
    """What two computations in the coarsest of these dtypes may differ by: :data:`FLOAT`, scaled by their epsilon."""
    coarsest = max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)
    return FLOAT * coarsest / torch.finfo(torch.float32).eps


def graph_nodes(tensors: Iterable[Tensor], limit: int = 20_000) -> int:
    """Nodes of the autograd graph that hangs on these tensors (counting stops at ``limit``)."""
    waiting = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(waiting)
    while waiting and len(seen) < limit:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return len(seen)


def describe_difference(got: Tensor, want: Tensor, equal: Tensor) -> str:
    """How much and where two tensors differ."""
    where = (~equal).nonzero()
    gap = torch.where(equal, 0.0, (got - want).abs())
    worst = int(gap.nan_to_num(nan=torch.inf, posinf=torch.inf).argmax())
    place: Sequence[int] = [int(i) for i in np.unravel_index(worst, tuple(got.shape))]
    g, w = got[tuple(place)].item(), want[tuple(place)].item()
    return (
        f"largest difference {abs(g - w):.3g} at {list(place)}: {g:.6g} instead of {w:.6g} "
        f"({len(where)} of {got.numel()} numbers differ)"
    )


def refusal(method: Callable[..., Any], *arguments: Any) -> Exception | None:
    """What a call raised, or None if it went through."""
    try:
        method(*arguments)
    except Exception as error:
        return error
    return None


def ratio(now: Tensor, before: Tensor) -> float:
    """Length of one change relative to another; NaN where there was none."""
    return (now.norm() / before.norm()).item() if before.norm() > 0 else float("nan")
