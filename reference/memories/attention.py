"""AttentionMemory: a store of projected pairs that is read by multi-head attention, a KV cache with its own weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn

from memspec.options import Count, Positive, checked
from memspec.reference.memories.slots import RingMemory
from memspec.reference.ops import ring
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.softmax import softmax_weights


class AttentionMemory(RingMemory):
    """``r = concat_h(softmax(beta q_h K_h^T) V_h) W_o`` with ``q = x W_q``; a write appends ``K = k W_k``, ``V = v W_v``.

    The four projections start as identity, so that an untrained memory of one head is attention over the pairs
    themselves. Of several heads, head h starts with the h-th part of keys and values alone, and few dimensions tell
    keys apart less well. Heads are ``ceil(Dk / H)`` and ``ceil(Dv / H)`` wide; where H does not divide, the last ones
    are padded with zeros.

    Args:
        capacity: pairs kept, the oldest making room; None keeps all, and the state grows.
        heads: H. The published layer has 8.
        key_norm: ``unit`` scales keys and queries to length ``sqrt(H)`` before they are projected, ``none`` leaves
            them.
        beta: inverse temperature. Default: the published ``1 / sqrt(d)`` for ``none``, d = width of a head's keys;
            ``sqrt(d)`` for ``unit``, which is the same on rows that a layer norm has brought to length ``sqrt(H d)``.

    Slow weights (Parameter): ``query_map`` and ``key_map [Dk, H d]``, ``value_map [Dv, H e]``, ``answer_map
    [H e, Dv]``, e = width of a head's values.

    Raises:
        ValueError: for an option outside its range.

    Source: AttentionMemory in mwasifanwar/neural_memory_architectures; Vaswani et al. 2017, "Attention Is All You
    Need", section 3.2.
    """

    @checked
    def __init__(
        self,
        key_dim: Count,
        value_dim: Count,
        capacity: Count | None = 128,
        heads: Count = 1,
        key_norm: Literal["unit", "none"] = "unit",
        beta: Positive | None = None,
    ) -> None:
        root = math.sqrt(-(-key_dim // heads))
        super().__init__(key_dim, value_dim, capacity, beta or (root if key_norm == "unit" else 1 / root))
        self.heads, self.key_norm = heads, key_norm
        key_width, value_width = self.widths
        self.query_map = nn.Parameter(torch.eye(key_dim, key_width))
        self.key_map = nn.Parameter(torch.eye(key_dim, key_width))
        self.value_map = nn.Parameter(torch.eye(value_dim, value_width))
        self.answer_map = nn.Parameter(torch.eye(value_width, value_dim))
        if heads > 1:  # the closed forms of the family are for one softmax over whole keys
            self.spec = dataclasses.replace(self.spec, family="generic")
        if capacity is None:
            self.spec = dataclasses.replace(self.spec, eviction="none", constant_state=False)
            self.slot_usage = None  # type: ignore[assignment,method-assign]  # every slot is in use: no statistic

    @property
    def widths(self) -> tuple[int, int]:
        return -(-self.key_dim // self.heads) * self.heads, -(-self.value_dim // self.heads) * self.heads

    def entries(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return self._normed(keys) @ self.key_map, values @ self.value_map

    def queries(self, keys: Tensor) -> Tensor:
        return self._normed(keys) @ self.query_map

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> ring.RingState:
        return ring.empty_ring(batch_shape, self.capacity or 0, *self.widths, self.like)

    def write(self, state: ring.RingState, keys: Tensor, values: Tensor) -> ring.RingState:
        if self.capacity is not None:
            return super().write(state, keys, values)
        return ring.grown(state, *self.entries(keys, values))

    def head_weights(self, state: ring.RingState, keys: Tensor) -> Tensor:
        """``[..., H, Q, S]``: weights of each head; rows sum to 1 (to 0 while empty), slots not in use have exactly 0."""
        used = ring.in_use(state)[..., None, :]
        return softmax_weights(self._split(self.queries(keys)), self._split(state.keys), self.beta, used)

    def read(self, state: ring.RingState, keys: Tensor) -> Tensor:
        parts = self.head_weights(state, keys) @ self._split(state.values)  # [..., H, Q, e]
        return parts.transpose(-2, -3).flatten(-2) @ self.answer_map

    def attention(self, keys: Tensor) -> Tensor:
        """``[..., H, Q, S]``: weights of each head, as the memory is now."""
        return self.head_weights(self.state, self._checked(keys, "keys", self.key_dim))

    def weights(self, state: ring.RingState, keys: Tensor) -> Tensor:
        """``[..., Q, H * S]``: each head's weights over its part of every slot, head after head, divided by H."""
        return self.head_weights(state, keys).transpose(-2, -3).flatten(-2) / self.heads

    def stored_values(self, state: ring.RingState) -> Tensor:
        """``[..., H * S, Dv]``: what each head's part of a slot adds to an answer that attends to nothing else, times H."""
        out = self.answer_map.unflatten(0, (self.heads, -1))
        return (self._split(state.values) @ out * self.heads).flatten(-3, -2)

    def check_state(self, tensors: dict[str, Tensor]) -> str | None:
        if self.capacity is not None:
            return super().check_state(tensors)
        saved = tensors["keys"].shape[-1], tensors["values"].shape[-1]
        if saved != self.widths:
            return f"the saved pairs are {saved} wide, those of this {type(self).__name__} {self.widths}"
        return None

    def _normed(self, keys: Tensor) -> Tensor:
        # Of length 1 in each head, on average over the heads.
        return unit_rows(keys) * math.sqrt(self.heads) if self.key_norm == "unit" else keys

    def _split(self, rows: Tensor) -> Tensor:
        """``[..., N, H * d]`` -> ``[..., H, N, d]``."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
