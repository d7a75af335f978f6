"""Regularised least squares from two moment matrices: the best that a matrix memory can do (the mesa layer's optimum)."""

from __future__ import annotations

import torch
from torch import Tensor


def ridge_solution(gram: Tensor, cross: Tensor, ridge: Tensor | float, eps: float = 0.0) -> Tensor:
    """``(gram + ridge I)^-1 cross [..., Dk, Dv]`` for ``gram [..., Dk, Dk]``, ``cross [..., Dk, Dv]``.

    Args:
        ridge: above 0; a number, or ``[...]``, one a memory or head.
        eps: relative precision the moments were ever rounded to. Rounding moves their eigenvalues by at most eps
            |gram|_F; with that much more on the diagonal the system stays positive definite.
    """
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    rounding = eps * torch.linalg.matrix_norm(gram.detach(), keepdim=True)
    ridge = ridge[..., None, None] if isinstance(ridge, Tensor) else ridge
    return torch.cholesky_solve(cross, torch.linalg.cholesky(gram + (ridge + rounding) * eye))
