"""MemoryCell: a multi-head memory that is addressed by content alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspec.protocol import MemorySpec
from memspec.reference.memories.rows import AddressedRowMemory, as_rows, assign
from memspec.reference.ops.addressing import content_weights
from memspec.reference.ops.rows import place
from memspec.reference.ops.writes import erase_add


class CellState(NamedTuple):
    """``memory [..., S, W]``, ``written [..., S]`` step of the last driven write (int64; negative = never), ``time
    [..., 1]`` rows driven in so far (int64)."""

    memory: Tensor
    written: Tensor
    time: Tensor


class CellGates(NamedTuple):
    """One step's head outputs, H heads: ``write_key [..., H, W]``, ``write_strength [..., H]``, ``erase [..., H, W]``
    in [0, 1], ``add [..., H, W]``, ``read_key [..., H, W]``, ``read_strength [..., H]``."""

    write_key: Tensor
    write_strength: Tensor
    erase: Tensor
    add: Tensor
    read_key: Tensor
    read_strength: Tensor


class MemoryCell(AddressedRowMemory):
    """``w_h = softmax(beta_h cos(k_h, M))``, ``M <- M prod_h (1 - w_h e_h^T) + sum_h w_h a_h^T``, then read by content.

    The initial memory is learned. Content alone cannot point at a free slot, so as a key-value memory the cell is
    driven: the driver hands the write head a one-hot weighting, on the slot whose key matches, else on the slot
    written longest ago; erase is 1, the row ``[k; v]`` is added. A key written twice has its new value. With gates
    of its own it is driven through :meth:`step`, with any number of heads.

    Args:
        capacity: slots S.
        beta: key strength of queries.
        match: cosine from which the driver takes two keys for the same.

    Attributes:
        initial: Parameter ``[S, W]``, the memory a state starts with (Xavier normal).

    Source: MemoryCell in mwasifanwar/neural_memory_architectures, with the erase and add of Graves et al. 2014, eq.
    3-4, in place of its write, which adds one vector to every slot.
    """

    spec = MemorySpec(
        family="softmax",
        write="sequential",
        overwrite="replace",
        eviction="lru",
        constant_state=True,
        deterministic=True,
        differentiable=frozenset({"query", "keys", "values"}),
        nonfinite="reject",
        inference_mode=True,
        fidelity="driven",
    )

    def __init__(
        self, key_dim: int, value_dim: int, capacity: int = 128, beta: float = 50.0, match: float = 0.999
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        if not 0 < match <= 1:
            raise ValueError(f"match is {match}; it must be above 0 and at most 1")
        self.match = match
        self.initial = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.slots, self.width)))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> CellState:
        never = torch.arange(-self.slots, 0, device=self.initial.device)
        return CellState(
            self.initial.expand(*batch_shape, self.slots, self.width).clone(),
            never.expand(*batch_shape, self.slots).clone(),
            torch.zeros(*batch_shape, 1, dtype=torch.int64, device=self.initial.device),
        )

    def occupied(self, state: CellState) -> Tensor:
        return (state.written >= 0).to(state.memory.dtype)

    def write(self, state: CellState, keys: Tensor, values: Tensor) -> CellState:
        stored = state.memory[..., : self.key_dim]
        slots, written = assign(keys, stored, state.written, state.time, self.match)
        return CellState(place(state.memory, as_rows(keys, values), slots), written, state.time + keys.shape[-2])

    def step(self, gates: CellGates, state: CellState) -> tuple[Tensor, CellState]:
        """One step of all heads, write then read: ``(reads [..., H, W], new state)``."""
        weights = content_weights(gates.write_key, state.memory, gates.write_strength)
        memory = erase_add(state.memory, weights, gates.erase, gates.add)
        return content_weights(gates.read_key, memory, gates.read_strength) @ memory, state._replace(memory=memory)

    def interface(self, raw: Tensor) -> CellGates:
        """Gates from unconstrained numbers ``[..., H (4 W + 2)]``; for each head: write key, write strength
        (softplus), erase (sigmoid), add, read key, read strength (softplus)."""
        width = self.width
        heads = raw.unflatten(-1, (-1, 4 * width + 2))
        key, strength, erase, add, read_key, read_strength = heads.split([width, 1, width, width, width, 1], -1)
        strength, read_strength = F.softplus(strength[..., 0]), F.softplus(read_strength[..., 0])
        return CellGates(key, strength, erase.sigmoid(), add, read_key, read_strength)
