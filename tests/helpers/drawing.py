"""Random rows in float64, and the tolerance of what is the same arithmetic in another order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-10}
"""For ``torch.testing.assert_close`` of float64."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers of this shape, in float64; the same ones for the same seed and shape."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
