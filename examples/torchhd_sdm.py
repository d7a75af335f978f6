"""torch-hd's sparse distributed memory under the suite, plugged in two ways.

    pip install torch-hd==5.8.4
    pytest suites --memory=examples/torchhd_sdm.py:Adapted
    pytest suites --memory=examples/torchhd_sdm.py:TorchhdMemory

``Adapted`` only gives its methods the protocol's names. ``TorchhdMemory`` also makes the answers signs, clears the
store by hand and refuses bad input.
"""

from __future__ import annotations

from typing import Any

import torch
import torchhd
from torch import Tensor

from memspec import MemorySpec, adapt

LOCATIONS = 2048
SPEC = MemorySpec(key_domain="sign", value_domain="sign", write="set")


def build(key_dim: int, value_dim: int) -> Any:
    """A store of 2048 locations, about 1% of them active for a key."""
    return torchhd.memory.SparseDistributed(LOCATIONS, key_dim, value_dim, p=0.01)


Adapted = adapt(build, update="write", query="read", spec=SPEC)


class TorchhdMemory:
    """The same store, with the protocol written out."""

    spec = SPEC

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.key_dim, self.value_dim = key_dim, value_dim
        self.store = build(key_dim, value_dim)

    def reset(self) -> None:
        self.store.values.data.zero_()

    def update(self, keys: Tensor, values: Tensor) -> None:
        self._check(keys, self.key_dim)
        self._check(values, self.value_dim)
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys against {len(values)} values")
        if len(keys):
            with torch.no_grad():
                self.store.write(keys, values)

    def query(self, keys: Tensor) -> Tensor:
        self._check(keys, self.key_dim)
        if not len(keys):
            return keys.new_zeros(0, self.value_dim)
        return torch.as_tensor(self.store.read(keys)).sign().detach()

    def _check(self, rows: Tensor, width: int) -> None:
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"got {tuple(rows.shape)}; give [N, {width}]")
        if not torch.isfinite(rows).all():
            raise ValueError("rows must be finite")
