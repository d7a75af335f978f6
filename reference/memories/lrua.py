"""Least recently used access: the memory of memory-augmented networks for one-shot learning."""

from __future__ import annotations

from typing import NamedTuple

import torch
from memspec.reference.memories.heads import content_weights, least_used, place
from memspec.reference.memories.rows import RowMemory, as_rows
from torch import Tensor

from memspec.protocol import MemorySpec


class LRUAState(NamedTuple):
    """``memory [..., S, W]``, ``usage [..., S]``, ``read_weights [..., H, S]``."""

    memory: Tensor
    usage: Tensor
    read_weights: Tensor


class LRUAGates(NamedTuple):
    """One step's head outputs: ``key [..., H, W]`` (compared, and written), ``gate [..., H]`` in [0, 1] (1 = write
    where it read, 0 = write to the least used slot), optionally ``mask [..., H, W]`` for the comparison."""

    key: Tensor
    gate: Tensor
    mask: Tensor | None = None


class LRUAMemory(RowMemory):
    """Writes where it read last, or to the least used slot, which is cleared first; reads by content.

    A step: ``w = g r + (1 - g) l`` with the read weights r and the least used slot l of before; the slot l is
    zeroed; ``M += w k^T``; ``r = softmax(beta cos(k, M))``; ``u <- gamma u + r + w``. With several heads, head h
    takes the h-th least used slot, and all their slots are zeroed. Ties go to the lowest index.

    As a key-value memory it is driven with gate 0: each row goes to the least used slot. Queries change nothing;
    :meth:`touch` counts a read.

    Args:
        capacity: slots S.
        beta: key strength; the paper has none (1), which over 128 slots reads nearly uniformly.
        gamma: decay of usage, in (0, 1); .95 to .99 in the paper.
        heads: H, each reads and writes; the key-value drive writes with head 0.
        initial: constant the memory starts with.

    Source: Santoro et al. 2016, "Meta-Learning with Memory-Augmented Neural Networks" (arXiv 1605.06065), section
    3.2. The paper's least-used weighting is several-hot on ties, which writes to every slot of a fresh memory; here
    it never is.
    """

    spec = MemorySpec(
        family="softmax",
        write="sequential",
        overwrite="blend",
        eviction="lru",
        constant_state=True,
        deterministic=True,
        differentiable=frozenset({"query", "keys", "values"}),
        nonfinite="reject",
        inference_mode=True,
        fidelity="driven",
    )

    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: int = 128,
        beta: float = 50.0,
        gamma: float = 0.95,
        heads: int = 1,
        initial: float = 1e-6,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        if not 0 < gamma < 1:
            raise ValueError(f"gamma is {gamma}; it must be between 0 and 1")
        if not 1 <= heads <= capacity:
            raise ValueError(f"heads is {heads}; it must be from 1 to capacity = {capacity}")
        self.gamma, self.heads, self.initial = gamma, heads, initial
