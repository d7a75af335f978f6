"""The implicit memory module: a few slots that are moved a little by every write, as a memory of pairs and inside a GPT.

:class:`LinformerMemory` takes pairs. :class:`ImplicitMemory` is the layer of a language model: it writes low-rank
summaries of completed chunks to its slots, and adds what tokens read from them to the residual stream, through a gate
that starts closed. Both normalise, address and move slots by :mod:`memspec.reference.ops.implicit`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspec.options import Count, Positive, PositiveShare, checked
from memspec.reference.memories.slots import SlotMemory
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.implicit import Norm, address, moved, normed, read_slots, summarise, take_in
from memspec.reference.ops.rows import smallest


class LinformerState(NamedTuple):
    """``addresses [..., S, Dk]``, ``contents [..., S, Dv]``, ``mass [..., S]`` in [0, 1], how much of a slot is written."""

    addresses: Tensor
    contents: Tensor
    mass: Tensor


class LinformerMemory(SlotMemory):
    """Slots ``(m_s, c_s)``; a pair moves each by its share ``g_s = lr a_s``, ``a = softmax(k^ . m_s / temperature)``.

    ``m_s <- norm(m_s + g_s (k^ - m_s))`` for the addresses, ``c_s <- c_s + g_s (v - c_s)`` and the mass
    ``n_s <- n_s + g_s (1 - n_s)`` for the contents; a query reads ``sum_s a_s(q) c_s / n_s`` through W_v. Dividing by
    the mass makes each slot the weighted mean of the values that came to it (the correction of an average that starts
    at zero), so one pair is exact at once; many pairs share few slots, and answers are blends.

    k^ is the key by ``norm``: ``layer`` takes out the mean and scales to length ``sqrt(Dk)``, and scores are divided
    by ``sqrt(Dk)``, as in attention over layer-normed rows; ``l2`` scales to length 1, and scores are cosines. With
    ``l2`` the scores lie in +-1/temperature, so slots are hardly told apart.

    Args:
        slots: S.
        lr: step of the slots, in (0, 1].
        temperature: of the softmax over slots.
        norm: ``layer`` or ``l2``.

    Slow weights (Parameter): ``value_map`` W_v ``[Dv, Dv]``, starting at identity.

    Raises:
        ValueError: for an option outside its range.

    Source: LinformerMemory in jio-gl/nanoGPT-imm (slots 8, lr .04, temperature .8, layer norm), whose slots take no
    values, move alike for every key and share one state among the sequences of a batch; low-rank summaries as in Wang
    et al. 2020, "Linformer", section 4.
    """

    spec = dataclasses.replace(SMOOTH, overwrite="blend", fidelity="driven")
    confidence = None  # type: ignore[assignment]  # slots move to where keys are, and say nothing of one

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        slots: Count = 8,
        lr: PositiveShare = 0.04,
        temperature: Positive = 0.8,
        norm: Norm = "layer",
    ) -> None:
        super().__init__(key_dim, value_dim)
        self.slots, self.lr, self.temperature, self.norm = slots, lr, temperature, norm
        self.value_map = nn.Parameter(torch.eye(value_dim))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> LinformerState:
        drawn = torch.randn(*batch_shape, self.slots, self.key_dim, device="cpu", dtype=torch.float32)
        return LinformerState(
            normed(drawn.to(**self.like), self.norm),
            torch.zeros(*batch_shape, self.slots, self.value_dim, **self.like),
            torch.zeros(*batch_shape, self.slots, **self.like),
        )

    def write(self, state: LinformerState, keys: Tensor, values: Tensor) -> LinformerState:
        return LinformerState(*take_in(*state, keys, values, self.lr, self.temperature, self.norm))

    def weights(self, state: LinformerState, keys: Tensor) -> Tensor:
        return address(normed(keys, self.norm), state.addresses, self.temperature, self.norm)

    def stored_values(self, state: LinformerState) -> Tensor:
        # A slot so far from every key that its mass has all but vanished answers nearly nothing.
        return state.contents / state.mass[..., None].clamp_min(smallest(state.mass.dtype, 1e-30)) @ self.value_map

    def usage(self, state: LinformerState) -> Tensor:
        """``[..., S]`` in [0, 1]: the mass of each slot, ``1 - prod (1 - g_s)`` over all pairs written."""
        return state.mass


class ImplicitState(NamedTuple):
    """``slots [B, S, n]``; ``pending [B, p, n]``, the p < chunk tokens since the last completed chunk."""

    slots: Tensor
    pending: Tensor


class ImplicitMemory(nn.Module):
    """``x + g LN(W_v read(x))`` over ``tokens [B, T, n]``; slots are written once a chunk, from ``Z = E^T X`` of its tokens.

    A token reads the slots as the chunks before its own have left them: ``softmax(x^ . m / temperature) m``. When a
    chunk of C tokens is complete, summary row s moves slot s: ``m_s <- norm(m_s + lr (z^_s - m_s))``. So no answer
    depends on a later token, nor on another sequence of the batch. The gate ``g = tanh(x w + b)`` starts at exactly 0,
    and the layer as the identity.

    Args:
        width: n.
        chunk: C, tokens a summary is made of.
        slots, lr, temperature, norm: as in :class:`LinformerMemory`.

    Slow weights (Parameter): ``start [S, n]``, where the slots begin; ``projection`` E ``[C, S]``, orthonormal rows or
    columns; ``value_map`` W_v ``[n, n]``; ``gate``, a linear map to one number; ``read_norm``, the layer norm LN.

    Raises:
        ValueError: for an option outside its range.

    Source: as :class:`LinformerMemory`; the published module pools the whole sequence before it reads, so that tokens
    see those after them.
    """

    @checked
    def __init__(
        self,
        width: Count,
        chunk: Count = 32,
        slots: Count = 8,
        lr: PositiveShare = 0.04,
        temperature: Positive = 0.8,
        norm: Norm = "layer",
    ) -> None:
        super().__init__()
        self.chunk, self.lr, self.temperature, self.norm = chunk, lr, temperature, norm
        self.start = nn.Parameter(torch.randn(slots, width))
        self.projection = nn.Parameter(nn.init.orthogonal_(torch.empty(chunk, slots)))
        self.value_map = nn.Parameter(torch.eye(width))
        self.read_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def initial_state(self, batch: int) -> ImplicitState:
        """The state before the first token of ``batch`` sequences."""
        slots = normed(self.start, self.norm).expand(batch, -1, -1)
        return ImplicitState(slots, slots.new_zeros(batch, 0, slots.shape[-1]))

    def forward(self, tokens: Tensor, state: ImplicitState | None = None) -> tuple[Tensor, ImplicitState]:
        """``tokens [B, T, n]`` with what they read added, and the state after them; state None = before any token."""
        state = self.initial_state(tokens.shape[0]) if state is None else state
        waiting = state.pending.shape[-2]
        seen = torch.cat((state.pending, tokens), -2)
        complete = seen.shape[-2] // self.chunk
        after = [state.slots]
        for summary in summarise(seen[..., : complete * self.chunk, :], self.projection).unbind(-3):
            after.append(moved(after[-1], normed(summary, self.norm), self.lr, self.norm))
        # Chunk by chunk against the slots before it; the last chunk is filled up with zeros, whose reads are dropped.
        chunks = -(-seen.shape[-2] // self.chunk)
        filled = F.pad(seen, (0, 0, 0, chunks * self.chunk - seen.shape[-2])).unflatten(-2, (chunks, self.chunk))
        before = torch.stack(after, -3)[..., :chunks, :, :]
        read = read_slots(filled, before, self.temperature, self.norm).flatten(-3, -2)
        read = read[..., waiting : seen.shape[-2], :] @ self.value_map
        answer = tokens + torch.tanh(self.gate(tokens)) * self.read_norm(read)
        return answer, ImplicitState(after[-1], seen[..., complete * self.chunk :, :])
