"""A faiss index under the suite: exact inner-product search over unit keys.

    pip install faiss-cpu==1.15.1
    pytest suites --memory=examples/faiss_index.py:FaissMemory

faiss finds row numbers; the values are kept beside the index.
"""

from __future__ import annotations

import faiss
import torch
from torch import Tensor
from torch.nn.functional import normalize

from memspec import MemorySpec


class FaissMemory:
    """``faiss.IndexFlatIP`` over normalised keys; a query answers the value of the best match."""

    spec = MemorySpec(
        family="cache",  # answers the nearest stored key
        write="sequential",
        empty_read="zeros",
        deterministic=True,
        differentiable=frozenset(),
    )

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.key_dim, self.value_dim = key_dim, value_dim
        self.reset()

    def reset(self) -> None:
        self.index = faiss.IndexFlatIP(self.key_dim)
        self.values = torch.zeros(0, self.value_dim)

    def update(self, keys: Tensor, values: Tensor) -> None:
        if keys.ndim != 2 or values.ndim != 2 or len(keys) != len(values):
            raise ValueError(f"give as many keys as values, not {tuple(keys.shape)} and {tuple(values.shape)}")
        if keys.shape[1] != self.key_dim or values.shape[1] != self.value_dim:
            raise ValueError(f"keys must be [N, {self.key_dim}], values [N, {self.value_dim}]")
        if not (torch.isfinite(keys).all() and torch.isfinite(values).all()):
            raise ValueError("keys and values must be finite")
        if {keys.dtype, values.dtype} != {torch.float32}:
            raise TypeError(f"faiss takes torch.float32, not {keys.dtype} and {values.dtype}")
        self.index.add(normalize(keys.detach(), dim=-1).numpy())
        self.values = torch.cat((self.values, values.detach()))

    def query(self, keys: Tensor) -> Tensor:
        if keys.ndim != 2 or keys.shape[1] != self.key_dim or not torch.isfinite(keys).all():
            raise ValueError(f"keys must be [Q, {self.key_dim}] and finite")
        if keys.dtype != torch.float32:
            raise TypeError(f"faiss takes torch.float32, not {keys.dtype}")
        if not len(self.values) or not len(keys):
            return torch.zeros(len(keys), self.value_dim)
        _, nearest = self.index.search(normalize(keys.detach(), dim=-1).numpy(), 1)
        return self.values[torch.from_numpy(nearest[:, 0])]

    def confidence(self, keys: Tensor) -> Tensor:
        """Cosine with the best match, at least 0."""
        if not len(self.values):
            return torch.zeros(len(keys))
        best, _ = self.index.search(normalize(keys.detach(), dim=-1).numpy(), 1)
        return torch.from_numpy(best[:, 0]).clamp(0, 1)
