"""titans-pytorch's NeuralMemory under the suite: an MLP whose weights are the memory, written by gradient steps.

    pip install titans-pytorch==0.5.5
    pytest suites --memory=examples/titans_memory.py:TitansMemory

Untrained projections would hide what is stored, so that they are the identity here; keys and values come in as views of
their own, gates are set to "store, and forget nothing". The library normalises what it stores, and that is taken back. The pairs
of one call are stored by gradients at the weights that the call finds.
"""

from __future__ import annotations

from typing import Any

import torch
from titans_pytorch import NeuralMemory
from torch import Tensor, nn

from memspec import MemorySpec, Widths

OPEN, SHUT = 2.0, -12.0
"""Biases of a sigmoid that is nearly 1, or nearly 0."""
RATE = 0.3
"""Largest step: the library's loss is a mean over the entries of a value."""


def build(dim: int) -> NeuralMemory:
    """A memory of one head, with a step for every pair."""
    memory = NeuralMemory(
        dim,
        chunk_size=1,
        default_step_transform_max_lr=RATE,
        qkv_receives_diff_views=True,
        init_adaptive_step_bias=OPEN,
        init_momentum_bias=SHUT,
        init_decay_bias=SHUT,
    )
    for projection in (memory.to_queries, memory.to_keys, memory.to_values):
        nn.init.eye_(projection.weight)
    return memory.requires_grad_(False)


class TitansMemory:
    """The store of one sequence: ``update`` goes on with it, ``query`` reads it and stores nothing."""

    spec = MemorySpec(widths=Widths(square=True))

    def __init__(self, key_dim: int, value_dim: int) -> None:
        if key_dim != value_dim:
            raise ValueError(f"key_dim {key_dim} and value_dim {value_dim} must be equal")
        self.dim = key_dim
        self.inner = build(key_dim)
        self.reset()

    def reset(self) -> None:
        self.weights = self.inner.init_weights(1)
        self.past: Any = None

    def update(self, keys: Tensor, values: Tensor) -> None:
        if keys.ndim != 2 or keys.shape != values.shape or keys.shape[1] != self.dim:
            raise ValueError(f"keys {tuple(keys.shape)} and values {tuple(values.shape)} must both be [N, {self.dim}]")
        if len(keys):
            pairs = torch.stack((keys, values))[:, None]  # [2, batch of one, N, dim]
            _, state = self.inner.store_memories(pairs, self.weights, self.past, return_surprises=False)
            self.past = state.states
            self.weights = self.past[0]

    def query(self, keys: Tensor) -> Tensor:
        if keys.ndim != 2 or keys.shape[1] != self.dim:
            raise ValueError(f"keys {tuple(keys.shape)} must be [Q, {self.dim}]")
        if not len(keys):
            return keys.new_zeros(0, self.dim)
        answers: Tensor = self.inner.retrieve_memories(keys[None], self.weights)[0]
        return answers / self.dim**0.5
