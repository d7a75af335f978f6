"""Least recently used access: the memory of memory-augmented networks for one-shot learning."""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, NotNegative, OpenShare, Positive, Whole, checked
from memspec.reference.memories.rows import RowMemory, as_rows
from memspec.reference.memories.specs import ADDRESSED
from memspec.reference.ops.addressing import content_weights
from memspec.reference.ops.rows import place
from memspec.reference.ops.usage import faded_usage, least_used, reuse_weights


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
        gamma: decay of usage, in (0, 1); .95 to .99 in the paper. Where ``gamma**capacity`` is below what float32
            tells from 0, the order of the oldest is lost, and least-recently-used eviction is not claimed.
        heads: H, each reads and writes; the key-value drive writes with head 0.
        initial: constant the memory starts with.

    Source: Santoro et al. 2016, "Meta-Learning with Memory-Augmented Neural Networks" (arXiv 1605.06065), section
    3.2. The paper's least-used weighting is several-hot on ties, which writes to every slot of a fresh memory; here
    it never is.
    """

    spec = dataclasses.replace(ADDRESSED, eviction="lru")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        beta: Positive = 50.0,
        gamma: OpenShare = 0.99,
        heads: Annotated[int, Whole(1, "capacity")] = 1,
        initial: NotNegative = 1e-6,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        self.gamma, self.heads, self.initial = gamma, heads, initial
        if gamma**capacity < torch.finfo(torch.float32).tiny:
            self.spec = dataclasses.replace(self.spec, eviction="none")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> LRUAState:
        reads = torch.zeros(*batch_shape, self.heads, self.slots, **self.like)
        reads[..., 0] = 1
        return LRUAState(
            torch.full((*batch_shape, self.slots, self.width), self.initial, **self.like),
            torch.zeros(*batch_shape, self.slots, **self.like),
            reads,
        )

    def occupied(self, state: LRUAState) -> Tensor:
        return (state.usage > 0).to(state.usage.dtype)

    def usage(self, state: LRUAState) -> Tensor:
        """``[..., S]``: decaying count of the writes to and (touched) reads of each slot."""
        return state.usage

    # ---- as a key-value memory --------------------------------------------------------------------------------

    def write(self, state: LRUAState, keys: Tensor, values: Tensor) -> LRUAState:
        # Only the usage must be followed row by row; what the rows hold does not decide where they go.
        usage, slots = state.usage, []
        for _ in range(keys.shape[-2]):
            slots.append(usage.argmin(-1, keepdim=True))
            usage = (self.gamma * usage).scatter_add(-1, slots[-1], torch.ones_like(usage[..., :1]))
        memory = place(state.memory, as_rows(keys, values), torch.cat(slots, -1))
        return state._replace(memory=memory, usage=usage)

    def touch(self, keys: Tensor) -> None:
        """Count a read of each of ``keys [Q, Dk]``, in order: ``u <- gamma u + r``."""
        keys = self._checked(keys, "keys", self.key_dim)
        with torch.no_grad():
            weights = self.weights(self.state, keys)
            later = torch.arange(keys.shape[-2] - 1, -1, -1, device=keys.device, dtype=weights.dtype)
            added = (weights * (self.gamma**later).unsqueeze(-1)).sum(-2)
            self.state = self.state._replace(usage=self.gamma ** keys.shape[-2] * self.state.usage + added)

    # ---- driven by a controller -------------------------------------------------------------------------------

    def step(self, gates: LRUAGates, state: LRUAState) -> tuple[Tensor, LRUAState]:
        """One step of all heads, write then read: ``(reads [..., H, W], new state)``."""
        free = least_used(state.usage, self.heads)
        written = reuse_weights(state.read_weights, free, gates.gate)
        cleared = state.memory * (1 - free.sum(-2)).unsqueeze(-1)
        memory = cleared + written.mT @ gates.key
        weights = content_weights(gates.key, memory, self.strengths(gates.key), gates.mask)
        usage = faded_usage(state.usage, self.gamma, weights + written)
        return weights @ memory, LRUAState(memory, usage, weights)

    @property
    def interface_size(self) -> int:
        """Numbers a controller gives a step: for :meth:`interface`."""
        return self.heads * (self.width + 1)

    def interface(self, raw: Tensor) -> LRUAGates:
        """Gates from unconstrained numbers ``[..., interface_size]``: key through tanh, gate through the sigmoid."""
        key, gate = raw.unflatten(-1, (self.heads, self.width + 1)).split([self.width, 1], -1)
        return LRUAGates(key.tanh(), gate[..., 0].sigmoid())
