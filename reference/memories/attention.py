"""AttentionMemory: a store of projected pairs that is read by multi-head attention, a KV cache with its own weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn

from memspec.functional import FunctionalMemory
from memspec.protocol import MemorySpec
from memspec.reference.ops import ring
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.search import nearest_slot
from memspec.reference.ops.softmax import softmax_weights


class AttentionMemory(FunctionalMemory):
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

    spec = MemorySpec(
        family="softmax",
        write="sequential",
        overwrite="blend",
        eviction="fifo",
        empty_read="zeros",
        constant_state=True,
        deterministic=True,
        differentiable=frozenset({"query", "keys", "values"}),
        nonfinite="reject",
        inference_mode=True,
    )

    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: int | None = 128,
        heads: int = 1,
        key_norm: Literal["unit", "none"] = "unit",
        beta: float | None = None,
    ) -> None:
        super().__init__(key_dim, value_dim, capacity)
        if heads < 1:
            raise ValueError(f"heads is {heads}; it must be at least 1")
        if key_norm not in ("unit", "none"):
            raise ValueError(f"key_norm is {key_norm!r}; it is 'unit' or 'none'")
        if beta is not None and not 0 < beta < math.inf:
            raise ValueError(f"beta is {beta}; it must be above 0 and finite")
        root = math.sqrt(-(-key_dim // heads))
        self.beta = beta or (root if key_norm == "unit" else 1 / root)
        self.heads, self.key_norm = heads, key_norm
        self.widths = (-(-key_dim // heads) * heads, -(-value_dim // heads) * heads)
        self.query_map = nn.Parameter(torch.eye(key_dim, self.widths[0]))
        self.key_map = nn.Parameter(torch.eye(key_dim, self.widths[0]))
        self.value_map = nn.Parameter(torch.eye(value_dim, self.widths[1]))
        self.answer_map = nn.Parameter(torch.eye(self.widths[1], value_dim))
        self.spec = dataclasses.replace(self.spec, beta=self.beta)
        if heads > 1:  # the closed forms of the family are for one softmax over whole keys
            self.spec = dataclasses.replace(self.spec, family="generic")
        if capacity is None:
            self.spec = dataclasses.replace(self.spec, eviction="none", constant_state=False)
            self.slot_usage = None  # type: ignore[assignment,method-assign]  # every slot is in use: no statistic

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> ring.RingState:
        return ring.empty_ring(batch_shape, self.capacity or 0, *self.widths, self.like)

    def write(self, state: ring.RingState, keys: Tensor, values: Tensor) -> ring.RingState:
        keys, values = self._normed(keys) @ self.key_map, values @ self.value_map
        if self.capacity is not None:
            return ring.append(state, keys, values)
        return ring.RingState(
            torch.cat((state.keys, keys), -2),
            torch.cat((state.values, values), -2),
            state.written + keys.shape[-2],
        )

    def read(self, state: ring.RingState, keys: Tensor) -> Tensor:
        parts = self._weights(state, keys) @ self._split(state.values)  # [..., H, Q, e]
        return parts.transpose(-2, -3).flatten(-2) @ self.answer_map

    def attention(self, keys: Tensor) -> Tensor:
        """``[..., H, Q, S]``: weights of each head; rows sum to 1 (to 0 while empty), slots not in use have exactly 0."""
        return self._weights(self.state, self._checked(keys, "keys", self.key_dim))

    def read_weights(self, keys: Tensor) -> Tensor:
        """``[..., Q, H * S]``: each head's weights over its part of every slot, head after head, divided by H."""
        return self.attention(keys).transpose(-2, -3).flatten(-2) / self.heads

    def slot_values(self) -> Tensor:
        """``[..., H * S, Dv]``: what each head's part of a slot adds to an answer that attends to nothing else, times H."""
        out = self.answer_map.unflatten(0, (self.heads, -1))
        return (self._split(self.state.values) @ out * self.heads).flatten(-3, -2)

    def slot_usage(self) -> Tensor:
        """``[..., S]``: how often each slot of the ring has been written; a memory that grows has no such statistic."""
        return ring.times_written(self.state)

    def confidence(self, keys: Tensor) -> Tensor:
        """``[..., Q]``: cosine with the nearest stored key, negative ones as 0; 0 while the memory is empty."""
        queries = self._normed(self._checked(keys, "keys", self.key_dim)) @ self.query_map
        if self.state.keys.shape[-2] == 0:
            return queries.new_zeros(queries.shape[:-1])
        _, cosine = nearest_slot(queries, self.state.keys, ring.in_use(self.state))
        return cosine.clamp(0, 1).to(queries.dtype)

    def check_state(self, tensors: dict[str, Tensor]) -> str | None:
        if self.capacity is not None:
            return super().check_state(tensors)
        saved = tensors["keys"].shape[-1], tensors["values"].shape[-1]
        if saved != self.widths:
            return f"the saved pairs are {saved} wide, those of this {type(self).__name__} {self.widths}"
        return None

    def _weights(self, state: ring.RingState, keys: Tensor) -> Tensor:
        queries = self._split(self._normed(keys) @ self.query_map)
        return softmax_weights(queries, self._split(state.keys), self.beta, ring.in_use(state)[..., None, :])

    def _normed(self, keys: Tensor) -> Tensor:
        # Of length 1 in each head, on average over the heads.
        return unit_rows(keys) * math.sqrt(self.heads) if self.key_norm == "unit" else keys

    def _split(self, rows: Tensor) -> Tensor:
        """``[..., N, H * d]`` -> ``[..., H, N, d]``."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
