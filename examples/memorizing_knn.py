"""memorizing-transformers-pytorch's KNNMemory under the suite: key-value pairs on disk behind a faiss graph.

    pip install memorizing-transformers-pytorch==0.4.1 einops-exts==0.0.4
    pytest suites --memory=examples/memorizing_knn.py:KNN

Each memory gets a file of its own: all that are made with the library's default share ``./knn.memory.memmap`` and
overwrite each other. Keys and values have one width, because they lie side by side in it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from memorizing_transformers_pytorch.knn_memory import KNNMemory
from torch import Tensor
from torch.nn.functional import normalize

from memspec import MemorySpec, Widths


class KNN:
    """The nearest stored key, by inner product of unit vectors, answers with its value."""

    spec = MemorySpec(key_domain="unit", empty_read="zeros", widths=Widths(square=True))

    def __init__(self, key_dim: int, value_dim: int, capacity: int) -> None:
        if key_dim != value_dim:
            raise ValueError(f"key_dim {key_dim} and value_dim {value_dim} must be equal")
        self.dim, self.capacity = key_dim, capacity
        self.folder = tempfile.TemporaryDirectory()
        file = str(Path(self.folder.name, "memory"))
        self.store = KNNMemory(key_dim, max_memories=capacity, memmap_filename=file, multiprocessing=False)

    def reset(self) -> None:
        self.store.clear()

    def update(self, keys: Tensor, values: Tensor) -> None:
        if keys.ndim != 2 or keys.shape != values.shape or keys.shape[1] != self.dim:
            raise ValueError(f"keys {tuple(keys.shape)} and values {tuple(values.shape)} must both be [N, {self.dim}]")
        if len(keys):
            self.store.add(torch.stack((normalize(keys, dim=-1), values), dim=1)[None])

    def query(self, keys: Tensor) -> Tensor:
        if keys.ndim != 2 or keys.shape[1] != self.dim:
            raise ValueError(f"keys {tuple(keys.shape)} must be [Q, {self.dim}]")
        if not len(keys):
            return keys.new_zeros(0, self.dim)
        pairs, _ = self.store.search(normalize(keys, dim=-1)[None], topk=1)
        answers: Tensor = pairs[0, :, 0, 1]
        return answers.to(keys.dtype)
