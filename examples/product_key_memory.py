"""product-key-memory's layer under the suite: a table of values behind product keys, written by gradient descent.

    pip install product-key-memory==0.3.0
    pytest suites --memory=examples/product_key_memory.py:ProductKeys

The layer is meant to be trained with the network around it. Here only its values are, on the pairs of each call, for so
many steps of Adam; where a key looks is left as it is drawn.
"""

from __future__ import annotations

import torch
from product_key_memory import PKM
from torch import Tensor, nn

from memspec import MemorySpec, Widths

STEPS, RATE = 4, 0.3


class ProductKeys(nn.Module):
    """``PKM`` with 16 x 16 slots; an update fits the values of the slots that its keys look at."""

    spec = MemorySpec(widths=Widths(square=True))

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__()
        if key_dim != value_dim:
            raise ValueError(f"key_dim {key_dim} and value_dim {value_dim} must be equal")
        self.dim = key_dim
        self.layer = PKM(key_dim, heads=1, num_keys=16, topk=8, dim_head=key_dim)
        self.layer.requires_grad_(False)
        self.reset()

    def reset(self) -> None:
        with torch.no_grad():
            self.layer.values.weight.zero_()

    def update(self, keys: Tensor, values: Tensor) -> None:
        if keys.ndim != 2 or keys.shape != values.shape or keys.shape[1] != self.dim:
            raise ValueError(f"keys {tuple(keys.shape)} and values {tuple(values.shape)} must both be [N, {self.dim}]")
        if not len(keys):
            return
        table = self.layer.values.weight
        table.requires_grad_(True)
        optimizer = torch.optim.Adam([table], lr=RATE, eps=1e-4)  # which half precision can hold
        with torch.enable_grad():
            for _ in range(STEPS):
                (gradient,) = torch.autograd.grad(self._loss(keys.detach(), values.detach()), [table])
                table.grad = gradient
                optimizer.step()
        table.grad = None
        table.requires_grad_(False)

    def query(self, keys: Tensor) -> Tensor:
        if keys.ndim != 2 or keys.shape[1] != self.dim:
            raise ValueError(f"keys {tuple(keys.shape)} must be [Q, {self.dim}]")
        answers: Tensor = self.layer(keys[None])[0]
        return answers

    def _loss(self, keys: Tensor, values: Tensor) -> Tensor:
        return (self.layer(keys[None])[0] - values).square().sum()
