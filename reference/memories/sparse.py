"""Sparse access memory: reads and writes that touch K slots of many."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from memspec.options import Count, NotNegative, Positive, Real, Whole, checked
from memspec.reference.memories.rows import RowMemory, as_rows
from memspec.reference.memories.specs import ADDRESSED
from memspec.reference.ops.addressing import top_k_weights
from memspec.reference.ops.rows import gather_rows, place, spread
from memspec.reference.ops.usage import reuse_weights


class SparseState(NamedTuple):
    """``memory [..., S, W]``, ``accessed [..., S]`` step of the last access (int64; negative = never, the least
    first in line), ``time [..., 1]`` steps done (int64), ``read_weights [..., H, S]``."""

    memory: Tensor
    accessed: Tensor
    time: Tensor
    read_weights: Tensor


class SparseGates(NamedTuple):
    """One step's head outputs: ``key [..., H, W]``, ``strength [..., H]``, ``add [..., H, W]``, ``write [..., H]`` in
    [0, 1], ``reuse [..., H]`` in [0, 1] (1 = write where it read, 0 = write to the slot accessed longest ago)."""

    key: Tensor
    strength: Tensor
    add: Tensor
    write: Tensor
    reuse: Tensor


class SparseMemory(RowMemory):
    """Reads the K best matching slots by a softmax over them alone; writes where it read or to the slot accessed
    longest ago, which is erased first (SAM).

    A step, with r the read weights and l the one-hot of the slot accessed longest ago, both of before:
    ``w = write (reuse r + (1 - reuse) l)``; ``M <- (1 - e) M + w a^T``; read; slots with ``w + r > delta`` count as
    accessed. With several heads, head h takes the h-th such slot. Gradients flow to the K slots read, and no other.

    As a key-value memory it is driven with write gate 1 and reuse 0: each row goes to the slot accessed longest ago.
    Queries change nothing; :meth:`touch` counts a read as an access.

    Args:
        capacity: slots S.
        k: slots a read mixes; capped at S. With 1 the best match is the answer.
        beta: key strength of queries.
        delta: weight from which a slot counts as accessed.
        heads: H, each reads and writes; the key-value drive writes with head 0.
        erase: ``gated`` erases ``e = write (1 - reuse) l``, so that a closed gate changes nothing; ``always`` erases
            ``e = l`` in every step, as the paper's equation has it.
        initial: constant the memory starts with.

    Source: Rae et al. 2016, "Scaling Memory-Augmented Neural Networks with Sparse Reads and Writes", eq. 4-6. Its
    eq. 6 takes the least time since access, which would be the slot used last; text and name mean the longest, and
    so it is here.
    """

    spec = dataclasses.replace(ADDRESSED, eviction="lru")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        k: Count = 4,
        beta: Positive = 50.0,
        delta: Annotated[float, Real(least=0, below=1)] = 0.005,
        heads: Annotated[int, Whole(1, "capacity")] = 1,
        erase: Literal["gated", "always"] = "gated",
        initial: NotNegative = 1e-6,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        self.k, self.delta, self.heads, self.erase, self.initial = min(k, capacity), delta, heads, erase, initial
        if self.k == 1:
            # One slot is read as it is, whatever beta: exact, but no longer a function of the query or of the keys.
            self.spec = dataclasses.replace(
                self.spec,
                family="cache",
                beta=None,
                key_domain="unit",
                exact=True,
                overwrite="none",
                differentiable=frozenset({"values"}),
            )

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> SparseState:
        device = self.like["device"]
        never = torch.arange(-self.slots, 0, device=device)
        return SparseState(
            torch.full((*batch_shape, self.slots, self.width), self.initial, **self.like),
            never.expand(*batch_shape, self.slots).clone(),
            torch.zeros(*batch_shape, 1, dtype=torch.int64, device=device),
            torch.zeros(*batch_shape, self.heads, self.slots, **self.like),
        )

    def occupied(self, state: SparseState) -> Tensor:
        return (state.accessed >= 0).to(state.memory.dtype)

    # ---- as a key-value memory --------------------------------------------------------------------------------

    def write(self, state: SparseState, keys: Tensor, values: Tensor) -> SparseState:
        # A slot just accessed is the last in line, so the line is known for all rows beforehand.
        line = state.accessed.argsort(dim=-1, stable=True)
        steps = torch.arange(keys.shape[-2], device=keys.device)
        slots = line[..., steps % self.slots][..., -self.slots :]
        when = (state.time + steps)[..., -self.slots :]
        rows = as_rows(keys, values)[..., -self.slots :, :]
        return state._replace(
            memory=place(state.memory, rows, slots),
            accessed=state.accessed.scatter(-1, slots, when),
            time=state.time + keys.shape[-2],
        )

    def read(self, state: SparseState, keys: Tensor) -> Tensor:
        slots, weights = top_k_weights(keys, self.stored_keys(state), self.strengths(keys), self.k)
        return (weights.unsqueeze(-2) @ gather_rows(self.stored_values(state), slots)).squeeze(-2)

    def weights(self, state: SparseState, keys: Tensor) -> Tensor:
        slots, weights = top_k_weights(keys, self.stored_keys(state), self.strengths(keys), self.k)
        return spread(slots, weights, self.slots)

    def touch(self, keys: Tensor) -> None:
        """Count a read of each of ``keys [Q, Dk]``, in order, as an access to the slots it reads."""
        keys = self._checked(keys, "keys", self.key_dim)
        with torch.no_grad():
            state = self.state
            steps = state.time.unsqueeze(-1) + torch.arange(keys.shape[-2], device=keys.device).unsqueeze(-1)
            reads = torch.where(self.weights(state, keys) > self.delta, steps, state.accessed.unsqueeze(-2))
            accessed = torch.where((state.accessed >= 0), reads.amax(-2), state.accessed)
            self.state = state._replace(accessed=accessed, time=state.time + keys.shape[-2])

    # ---- driven by a controller -------------------------------------------------------------------------------

    def step(self, gates: SparseGates, state: SparseState) -> tuple[Tensor, SparseState]:
        """One step of all heads, write then read: ``(reads [..., H, W], new state)``."""
        line = state.accessed.argsort(dim=-1, stable=True)[..., : self.heads]
        oldest = F.one_hot(line, self.slots).to(state.memory.dtype)
        write, reuse = gates.write.unsqueeze(-1), gates.reuse.unsqueeze(-1)
        written = write * reuse_weights(state.read_weights, oldest, gates.reuse)
        erased = oldest if self.erase == "always" else write * (1 - reuse) * oldest
        memory = state.memory * (1 - erased.sum(-2)).unsqueeze(-1) + written.mT @ gates.add
        slots, weights = top_k_weights(gates.key, memory, gates.strength, self.k)
        reads = (weights.unsqueeze(-2) @ gather_rows(memory, slots)).squeeze(-2)
        dense = spread(slots, weights, self.slots)
        access = (written + dense).sum(-2) > self.delta
        accessed = torch.where(access, state.time, state.accessed)
        return reads, SparseState(memory, accessed, state.time + 1, dense)

    @property
    def interface_size(self) -> int:
        """Numbers a controller gives a step: for :meth:`interface`."""
        return self.heads * (2 * self.width + 3)

    def interface(self, raw: Tensor) -> SparseGates:
        """Gates from unconstrained numbers ``[..., interface_size]``; for each head: key, strength (softplus), add,
        write and reuse (sigmoid)."""
        width = self.width
        key, strength, add, write, reuse = raw.unflatten(-1, (self.heads, -1)).split([width, 1, width, 1, 1], -1)
        return SparseGates(key, F.softplus(strength[..., 0]), add, write[..., 0].sigmoid(), reuse[..., 0].sigmoid())
