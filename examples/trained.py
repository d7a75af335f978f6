"""A memory with trained weights: the factory loads a checkpoint.

    memspec score 'examples/trained.py:load(checkpoint="projection.pt")'

The suites build many fresh memories, so the checkpoint is read once and kept. ``weights_only=True`` lets a file hold
tensors and nothing that runs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from memspec import MemorySpec


class Projected(nn.Module):
    """Fast weights behind projections: keys are projected in, answers are projected out."""

    spec = MemorySpec(fidelity="native")  # once trained; declare "trained" where it means nothing without a checkpoint

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.read_in = nn.Linear(key_dim, key_dim, bias=False)
        self.read_out = nn.Linear(value_dim, value_dim, bias=False)
        self.reset()

    def reset(self) -> None:
        self.matrix = torch.zeros(self.read_in.out_features, self.read_out.in_features)

    def update(self, keys: Tensor, values: Tensor) -> None:
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys and {len(values)} values")
        known = normalize(self.read_in(keys), dim=-1)
        self.matrix = (self.matrix + known.T @ values).detach()

    def query(self, keys: Tensor) -> Tensor:
        answers: Tensor = self.read_out(normalize(self.read_in(keys), dim=-1) @ self.matrix)
        return answers


@functools.cache
def weights(checkpoint: str) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, read once."""
    found: Mapping[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return found


def load(checkpoint: str = "projection.pt") -> Projected:
    """A memory with the checkpoint's weights; their shapes say how wide it is."""
    kept = weights(checkpoint)
    memory = Projected(kept["read_in.weight"].shape[1], kept["read_out.weight"].shape[1])
    memory.load_state_dict(kept)
    memory.key_dim, memory.value_dim = memory.read_in.in_features, memory.read_out.out_features
    return memory.requires_grad_(False)
