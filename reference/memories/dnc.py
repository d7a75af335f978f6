"""The Differentiable Neural Computer's memory: content, allocation by usage, and links in the order of writing."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from memspec.options import Count, Positive, checked
from memspec.reference.memories.rows import RowMemory, as_rows
from memspec.reference.memories.specs import ADDRESSED
from memspec.reference.ops.addressing import content_weights, oneplus
from memspec.reference.ops.links import linked, read_modes
from memspec.reference.ops.rows import place
from memspec.reference.ops.usage import allocated_weights, retention, used_after_write
from memspec.reference.ops.writes import erase_add


class DNCState(NamedTuple):
    """``memory [..., S, W]``, ``usage [..., S]``, ``read_weights [..., R, S]``, ``write_weights [..., H, S]``,
    ``links [..., H, S, S]``, ``precedence [..., H, S]`` (both None without linkage).

    ``usage`` is that of before the last write; ``links[i, j]`` is how far slot i was written right after slot j.
    """

    memory: Tensor
    usage: Tensor
    read_weights: Tensor
    write_weights: Tensor
    links: Tensor | None
    precedence: Tensor | None


class DNCGates(NamedTuple):
    """One step's head outputs, R read and H write heads.

    ``read_key [..., R, W]``, ``read_strength [..., R]``, ``read_modes [..., R, 2H + 1]`` (backward along each head's
    links, content, forward along each head's links; sum 1), ``write_key [..., H, W]``, ``write_strength [..., H]``,
    ``erase [..., H, W]``, ``add [..., H, W]``, ``free [..., R]``, ``allocate [..., H]`` (1 = allocation, 0 =
    content), ``write [..., H]``; optionally ``read_mask [..., R, W]`` and ``write_mask [..., H, W]`` for the keys.
    Gates, erase and masks lie in [0, 1]; strengths are at least 1. Without linkage ``read_modes`` is not looked at.
    """

    read_key: Tensor
    read_strength: Tensor
    read_modes: Tensor
    write_key: Tensor
    write_strength: Tensor
    erase: Tensor
    add: Tensor
    free: Tensor
    allocate: Tensor
    write: Tensor
    read_mask: Tensor | None = None
    write_mask: Tensor | None = None


class DNCMemory(RowMemory):
    """Writes to the least used slot or by content; reads by content, or along the links forwards or backwards.

    A step, in this order (w, r, u, L, p of the step before unless said)::

        u <- (u + w - u w) prod_r (1 - free_r r_r)
        w <- write (allocate a(u) + (1 - allocate) content)
        M <- M (1 - w e^T) + w v^T
        L_ij <- (1 - w_i - w_j) L_ij + w_i p_j, L_ii = 0      with the old p
        p <- (1 - sum w) p + w
        r_r <- modes_r . (L^T r_r, content, L r_r)           on the new M and L

    As a key-value memory it is driven: every row is written with allocation, write gate and erase 1, and queries
    read by content. When no slot is free, the driver frees the one written longest ago, which no link points into
    (a read head placed there with its free gate open); without linkage that is not known, and a full memory takes
    no more. With its own gates it is driven through :meth:`step`.

    Args:
        capacity: slots S.
        beta: key strength of queries.
        read_heads, write_heads: R and H; the key-value drive writes with head 0. Further write heads have links of
            their own, and allocate after those before them.
        linkage: keep temporal links: S^2 numbers a write head, and as much work a step.
        mask: compare the key part of a row only; False compares ``[q; 0]`` with whole rows. In :meth:`interface`,
            whether there are masks.
        deallocate: erase what the free gates free (Csordas and Schmidhuber 2019, section 3.2).
        strength: in :meth:`interface`, ``oneplus`` as the paper has it or ``softplus`` as its published code.
        usage_grad: let gradients pass from usage to the write weights; the published code stops them.

    Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory", Methods.
    """

    spec = dataclasses.replace(ADDRESSED, empty_read="zeros")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        beta: Positive = 50.0,
        read_heads: Count = 1,
        write_heads: Count = 1,
        linkage: bool = True,
        mask: bool = True,
        deallocate: bool = False,
        strength: Literal["oneplus", "softplus"] = "oneplus",
        usage_grad: bool = True,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        self.read_heads, self.write_heads, self.linkage = read_heads, write_heads, linkage
        self.mask, self.deallocate, self.strength, self.usage_grad = mask, deallocate, strength, usage_grad
        if not linkage:
            self.spec = dataclasses.replace(self.spec, eviction="none")
        if not mask:
            self.spec = dataclasses.replace(self.spec, family="generic")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> DNCState:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*batch_shape, *shape, **self.like)

        slots, heads = self.slots, self.write_heads
        return DNCState(
            zeros(slots, self.width),
            zeros(slots),
            zeros(self.read_heads, slots),
            zeros(heads, slots),
            zeros(heads, slots, slots) if self.linkage else None,
            zeros(heads, slots) if self.linkage else None,
        )

    def occupied(self, state: DNCState) -> Tensor:
        return used_after_write(state.usage, state.write_weights)

    # ---- as a key-value memory --------------------------------------------------------------------------------

    def weights(self, state: DNCState, keys: Tensor) -> Tensor:
        if self.mask:
            return super().weights(state, keys)
        whole = as_rows(keys, keys.new_zeros(*keys.shape[:-1], self.value_dim))
        return content_weights(whole, state.memory, self.strengths(keys))

    def write(self, state: DNCState, keys: Tensor, values: Tensor) -> DNCState:
        rows = as_rows(keys, values)
        now = self.occupied(state)
        count = now.sum(-1, keepdim=True).round().long()
        head = state.write_weights[..., 0, :]
        last = torch.where(count > 0, head.argmax(-1, keepdim=True), -1)
        if not self.linkage:
            last = torch.where((count == self.slots) & (head.sum(-1, keepdim=True) == 0), self.slots, last)
        if not same_state(state, self._driven(state, count, last)):
            return self._write_by_steps(state, rows)
        # Slots have been written in turn, so where each row goes and what it leaves behind is known beforehand.
        n = rows.shape[-2]
        steps = torch.arange(1, n + 1, device=rows.device)
        if self.linkage:
            slots = ((last + steps) % self.slots)[..., -self.slots :]
            after = self._driven(state, (count + n).clamp_max(self.slots), slots[..., -1:])
            return after._replace(memory=place(state.memory, rows[..., -self.slots :, :], slots))
        slots = count - 1 + steps  # a full memory takes no more: rows beyond the last slot go nowhere
        aside = F.pad(state.memory, (0, 0, 0, 1))
        memory = place(aside, rows, slots.clamp_max(self.slots))[..., : self.slots, :]
        after = self._driven(state, (count + n).clamp_max(self.slots), slots[..., -1:].clamp_max(self.slots))
        return after._replace(memory=memory)

    def _driven(self, state: DNCState, count: Tensor, last: Tensor) -> DNCState:
        """What the state is, apart from what rows hold, after writes in turn: ``count [..., 1]`` slots are used, and
        the last write went to slot ``last [..., 1]`` (-1: there was none; S: it found no room)."""
        index = torch.arange(self.slots, device=count.device)
        used, newest = index < count, index == last
        like = state.memory.dtype
        head = newest.to(like)
        others = head.new_zeros(*head.shape[:-1], self.write_heads - 1, self.slots)
        write = torch.cat((head.unsqueeze(-2), others), -2)
        links = None
        if self.linkage:
            oldest = torch.where(count < self.slots, 0, (last + 1) % self.slots)
            follows = (index[:, None] - 1) % self.slots == index
            chain = follows & (used & (index != oldest)).unsqueeze(-1)
            links = F.pad(chain.to(like).unsqueeze(-3), (0, 0, 0, 0, 0, self.write_heads - 1))
        usage = (used & ~newest).to(like)
        return DNCState(state.memory, usage, state.read_weights, write, links, write if self.linkage else None)

    def _write_by_steps(self, state: DNCState, rows: Tensor) -> DNCState:
        """The same by the mechanics themselves, for a state that a controller has left."""
        heads = state.read_weights
        for row in rows.unbind(-2):
            used = self.occupied(state)
            placed = heads
            if state.links is not None:
                oldest = used * (1 - state.links[..., 0, :, :].sum(-1))
                placed = torch.cat((oldest.unsqueeze(-2), heads[..., 1:, :]), -2)
            full = used.prod(-1) if self.linkage else torch.zeros_like(used[..., 0])
            state = self.write_step(self._drive(row, full), state._replace(read_weights=placed))
        return state._replace(read_weights=heads)

    def _drive(self, row: Tensor, full: Tensor) -> DNCGates:
        """Gates with which write head 0 writes ``row [..., W]`` to a free slot; read head 0 frees as much as ``full``."""
        batch, reads, writes = row.shape[:-1], self.read_heads, self.write_heads
        first = F.one_hot(torch.tensor(0, device=row.device), writes).to(row.dtype).expand(*batch, writes)
        none = row.new_zeros(*batch, reads, self.width)
        free = F.pad(full.unsqueeze(-1), (0, reads - 1))
        modes = row.new_zeros(*batch, reads, 2 * writes + 1)
        add = first.unsqueeze(-1) * row.unsqueeze(-2)
        one = torch.ones_like(add)
        return DNCGates(none, none[..., 0], modes, torch.zeros_like(add), first, one, add, free, first, first)

    # ---- driven by a controller -------------------------------------------------------------------------------

    def write_step(self, gates: DNCGates, state: DNCState) -> DNCState:
        """The write half of a step: usage, write weights, memory, links and precedence."""
        written = state.write_weights if self.usage_grad else state.write_weights.detach()
        kept = retention(gates.free, state.read_weights)
        usage = used_after_write(state.usage, written) * kept
        memory = state.memory * kept.unsqueeze(-1) if self.deallocate else state.memory
        content = content_weights(gates.write_key, state.memory, gates.write_strength, gates.write_mask)
        w = allocated_weights(usage, content, gates.write, gates.allocate)
        links, precedence = state.links, state.precedence
        if links is not None and precedence is not None:
            links, precedence = linked(links, precedence, w)
        return state._replace(
            memory=erase_add(memory, w, gates.erase, gates.add),
            usage=usage,
            write_weights=w,
            links=links,
            precedence=precedence,
        )

    def read_step(self, gates: DNCGates, state: DNCState) -> tuple[Tensor, DNCState]:
        """The read half of a step: what the R heads read, ``[..., R, W]``, and the state with where they are."""
        weights = content_weights(gates.read_key, state.memory, gates.read_strength, gates.read_mask)
        if state.links is not None:
            weights = read_modes(state.links, state.read_weights, weights, gates.read_modes)
        return weights @ state.memory, state._replace(read_weights=weights)

    def step(self, gates: DNCGates, state: DNCState) -> tuple[Tensor, DNCState]:
        """One step of all heads, write then read: ``(reads [..., R, W], new state)``."""
        return self.read_step(gates, self.write_step(gates, state))

    @property
    def interface_size(self) -> int:
        """Numbers a controller gives a step: for :meth:`interface`."""
        return sum(self._sizes())

    def _sizes(self) -> list[int]:
        reads, writes, width = self.read_heads, self.write_heads, self.width
        masks = [reads * width, writes * width] if self.mask else [0, 0]
        modes = 2 * writes + 1 if self.linkage else 1
        keys = [reads * width, reads, reads * modes, writes * width, writes]
        return [*keys, writes * width, writes * width, reads, writes, writes, *masks]

    def interface(self, raw: Tensor) -> DNCGates:
        """Gates from unconstrained numbers ``[..., interface_size]``, in the order of :class:`DNCGates`.

        Strengths through oneplus (or softplus), modes through softmax, erase, gates and masks through the sigmoid.
        """
        reads, writes = self.read_heads, self.write_heads
        key, beta, modes, key_w, beta_w, erase, add, free, allocate, write, mask, mask_w = raw.split(self._sizes(), -1)
        strength = oneplus if self.strength == "oneplus" else F.softplus

        def by_head(part: Tensor, heads: int) -> Tensor:
            return part.unflatten(-1, (heads, -1))

        return DNCGates(
            by_head(key, reads),
            strength(beta),
            by_head(modes, reads).softmax(-1),
            by_head(key_w, writes),
            strength(beta_w),
            by_head(erase, writes).sigmoid(),
            by_head(add, writes),
            free.sigmoid(),
            allocate.sigmoid(),
            write.sigmoid(),
            by_head(mask, reads).sigmoid() if self.mask else None,
            by_head(mask_w, writes).sigmoid() if self.mask else None,
        )


def same_state(state: DNCState, other: DNCState) -> bool:
    """Whether two states are equal, apart from what the rows hold and where the read heads are."""
    pairs = [(state.usage, other.usage), (state.write_weights, other.write_weights)]
    if state.links is not None and other.links is not None:
        pairs += [(state.links, other.links)]
    if state.precedence is not None and other.precedence is not None:
        pairs += [(state.precedence, other.precedence)]
    return all(torch.equal(a, b) for a, b in pairs)
