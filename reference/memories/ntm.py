"""The Neural Turing Machine's memory: heads that address by content and by position."""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from memspec.options import Count, NotNegative, Positive, Whole, checked
from memspec.reference.memories.rows import RowMemory, as_rows
from memspec.reference.ops.addressing import content_weights, is_one_hot, located
from memspec.reference.ops.rows import place
from memspec.reference.ops.writes import erase_add


class NTMState(NamedTuple):
    """``memory [..., S, W]``, ``read_weights [..., R, S]``, ``write_weights [..., H, S]``, ``usage [..., S]``.

    ``usage`` is how much of each slot has ever been written; no address depends on it.
    """

    memory: Tensor
    read_weights: Tensor
    write_weights: Tensor
    usage: Tensor


class Addressing(NamedTuple):
    """What places H heads: ``key [..., H, W]``, ``strength [..., H]`` >= 0, ``gate [..., H]`` in [0, 1] (1 = content,
    0 = where it was), ``shift [..., H, 2 reach + 1]`` (shares moved by -reach..+reach), ``gamma [..., H]`` >= 1."""

    key: Tensor
    strength: Tensor
    gate: Tensor
    shift: Tensor
    gamma: Tensor


class NTMGates(NamedTuple):
    """One step's head outputs: addressing of the R ``read`` and H ``write`` heads, ``erase``, ``add [..., H, W]``."""

    read: Addressing
    write: Addressing
    erase: Tensor
    add: Tensor


class NTMMemory(RowMemory):
    """``M <- M (1 - w e^T) + w a^T``, ``r = w M``, with w from content, interpolation, shift and sharpening.

    As a key-value memory it is driven: the write head steps to the next slot (gate 0, shift +1), erases all of it
    and adds ``[k; v]``; a query reads by content. So it is a ring: the oldest pair goes first, and a key written
    twice answers the mean of both values. With its own gates it is driven through :meth:`step`.

    Args:
        capacity: slots.
        beta: key strength of queries.
        read_heads, write_heads: R and H; the key-value drive moves write head 0.
        reach: how far a shift may go, at least 1.
        initial: constant the memory starts with (1e-6 trains best: Collier and Beel 2018).
        read_first: in :meth:`step`, read before the write instead of after it.

    Source: Graves, Wayne, Danihelka 2014, "Neural Turing Machines", eq. 2-9. Both heads start on the last slot,
    one-hot.
    """

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        beta: Positive = 50.0,
        read_heads: Count = 1,
        write_heads: Count = 1,
        reach: Annotated[int, Whole(1, "capacity")] = 1,
        initial: NotNegative = 1e-6,
        read_first: bool = False,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        self.read_heads, self.write_heads, self.reach = read_heads, write_heads, reach
        self.initial, self.read_first = initial, read_first
        if initial == 0:
            self.spec = dataclasses.replace(self.spec, empty_read="zeros")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> NTMState:
        last = F.one_hot(torch.tensor(self.slots - 1, device=self.like["device"]), self.slots).to(**self.like)
        return NTMState(
            torch.full((*batch_shape, self.slots, self.width), self.initial, **self.like),
            last.expand(*batch_shape, self.read_heads, self.slots).clone(),
            last.expand(*batch_shape, self.write_heads, self.slots).clone(),
            torch.zeros(*batch_shape, self.slots, **self.like),
        )

    def occupied(self, state: NTMState) -> Tensor:
        return state.usage

    # ---- as a key-value memory --------------------------------------------------------------------------------

    def write(self, state: NTMState, keys: Tensor, values: Tensor) -> NTMState:
        rows = as_rows(keys, values)
        if not is_one_hot(state.write_weights[..., 0, :]):
            return self._write_by_steps(state, rows)
        # The pointer is on one slot, so where each row goes is known beforehand, and the last S rows are what stays.
        here = state.write_weights[..., 0, :].argmax(-1, keepdim=True)
        steps = torch.arange(1, rows.shape[-2] + 1, device=rows.device)
        slots = ((here + steps) % self.slots)[..., -self.slots :]
        heads = state.write_weights.clone()
        heads[..., 0, :] = F.one_hot(slots[..., -1], self.slots).to(heads.dtype)
        return state._replace(
            memory=place(state.memory, rows[..., -self.slots :, :], slots),
            write_weights=heads,
            usage=state.usage.scatter(-1, slots, 1.0),
        )

    def _write_by_steps(self, state: NTMState, rows: Tensor) -> NTMState:
        """The same by the heads' own mechanics, for a pointer that is spread over slots."""
        for row in rows.unbind(-2):
            state = self.write_step(self._drive(row), state)
        return state

    def _drive(self, row: Tensor) -> NTMGates:
        """Gates that move write head 0 on by one slot, let it write ``row [..., W]``, and keep all others still."""

        def addressing(heads: int) -> Addressing:
            batch = (*row.shape[:-1], heads)
            stay = F.one_hot(torch.tensor(self.reach, device=row.device), 2 * self.reach + 1).to(row.dtype)
            zero, one = row.new_zeros(batch), row.new_ones(batch)
            return Addressing(row.new_zeros(*batch, self.width), zero, zero, stay.expand(*batch, -1), one)

        first = F.one_hot(torch.tensor(0, device=row.device), self.write_heads).to(row.dtype).unsqueeze(-1)
        write = addressing(self.write_heads)
        write = write._replace(shift=torch.where(first > 0, write.shift.roll(1, -1), write.shift))
        erase = first.expand(*row.shape[:-1], self.write_heads, self.width)
        return NTMGates(addressing(self.read_heads), write, erase, first * row.unsqueeze(-2))

    # ---- driven by a controller -------------------------------------------------------------------------------

    @staticmethod
    def address(head: Addressing, memory: Tensor, previous: Tensor) -> Tensor:
        """The weighting ``[..., H, S]`` of heads that were at ``previous`` (eq. 5-9)."""
        content = content_weights(head.key, memory, head.strength)
        return located(content, previous, head.gate, head.shift, head.gamma)

    def write_step(self, gates: NTMGates, state: NTMState) -> NTMState:
        """The write half of a step."""
        weights = self.address(gates.write, state.memory, state.write_weights)
        writes = ((gates.erase != 0) | (gates.add != 0)).any(-1, keepdim=True)
        untouched = (1 - writes * weights.detach()).prod(-2)
        return state._replace(
            memory=erase_add(state.memory, weights, gates.erase, gates.add),
            write_weights=weights,
            usage=1 - (1 - state.usage) * untouched,
        )

    def read_step(self, gates: NTMGates, state: NTMState) -> tuple[Tensor, NTMState]:
        """The read half of a step: what the R heads read, ``[..., R, W]``, and the state with where they are."""
        weights = self.address(gates.read, state.memory, state.read_weights)
        return weights @ state.memory, state._replace(read_weights=weights)

    def step(self, gates: NTMGates, state: NTMState) -> tuple[Tensor, NTMState]:
        """One step of all heads: ``(reads [..., R, W], new state)``; each half addresses the memory as it finds it."""
        if self.read_first:
            reads, state = self.read_step(gates, state)
            return reads, self.write_step(gates, state)
        return self.read_step(gates, self.write_step(gates, state))

    @property
    def interface_size(self) -> int:
        """Numbers a controller gives a step: for :meth:`interface`."""
        head = self.width + 3 + 2 * self.reach + 1
        return (self.read_heads + self.write_heads) * head + 2 * self.write_heads * self.width

    def interface(self, raw: Tensor) -> NTMGates:
        """Gates from unconstrained numbers ``[..., interface_size]``.

        For each read head, then each write head: key, strength (softplus), gate (sigmoid), shift (softmax), gamma
        (1 + softplus); then all erase vectors (sigmoid), then all add vectors.
        """
        width, shifts = self.width, 2 * self.reach + 1
        heads = self.read_heads + self.write_heads
        placed, rest = raw.split([heads * (width + 3 + shifts), 2 * self.write_heads * width], -1)
        key, strength, gate, moved, gamma = placed.unflatten(-1, (heads, -1)).split([width, 1, 1, shifts, 1], -1)
        both = Addressing(
            key, F.softplus(strength[..., 0]), gate[..., 0].sigmoid(), moved.softmax(-1), 1 + F.softplus(gamma[..., 0])
        )
        read = Addressing(*(part.narrow(raw.ndim - 1, 0, self.read_heads) for part in both))
        write = Addressing(*(part.narrow(raw.ndim - 1, self.read_heads, self.write_heads) for part in both))
        erase, add = rest.unflatten(-1, (2, self.write_heads, width)).unbind(-3)
        return NTMGates(read, write, erase.sigmoid(), add)
