"""Memory networks: a store that is attended to several times, what was read becoming part of the next question.

Beside the two memories, the encodings of the end-to-end network as functions: words of a sentence to a vector
(:func:`position_encoding`), and how long ago a slot was written (``ring.slot_ages``).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn

from memspec.options import Count, Positive, checked
from memspec.reference.memories.slots import RingMemory
from memspec.reference.ops import ring
from memspec.reference.ops.ring import slot_ages
from memspec.reference.ops.rows import unit_rows
from memspec.reference.ops.softmax import softmax_weights


class _HoppingMemory(RingMemory):
    """What both networks share: embedded pairs in a ring, and hops of ``o = softmax(beta u m^T) c``.

    Args:
        capacity: pairs kept; the oldest goes first.
        hops: readings of the memory for one answer.
        hop: what a reading is to the next hop: ``keep`` asks the same again, ``replace`` asks with what was read.
        beta: inverse temperature; trained embeddings of any length take its place.
        key_norm: ``unit`` scales keys and queries to length 1 before they are embedded, ``none`` leaves them.
    """

    read_weights = slot_values = None  # type: ignore[assignment]  # an answer is made of several readings

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        hops: Count = 1,
        hop: Literal["keep", "replace"] = "keep",
        beta: Positive = 16.0,
        key_norm: Literal["unit", "none"] = "unit",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        self.hops, self.hop, self.key_norm = hops, hop, key_norm
        if hop == "replace" and hops > 1:
            # It answers what a value leads to, not the value: recall of the pairs themselves is not to be asked.
            self.spec = dataclasses.replace(self.spec, family="generic", overwrite="none", fidelity="trained")
        self._start()

    @property
    def width(self) -> int:
        """d, of the embeddings."""
        return self.key_dim + self.value_dim

    @property
    def widths(self) -> tuple[int, int]:
        return self.width, self.width

    def read(self, state: ring.RingState, keys: Tensor) -> Tensor:
        answers, weights = self._hopped(state, keys)
        # A story of nothing has no answer, whatever the maps have been trained to.
        return answers * weights[-1].sum(-1, keepdim=True)

    def hop_weights(self, keys: Tensor) -> Tensor:
        """``[..., hops, Q, S]``: what each hop attends to; rows sum to 1 (to 0 while the memory is empty)."""
        return torch.stack(self._hopped(self.state, self._checked(keys, "keys", self.key_dim))[1], -3)

    def _hopped(self, state: ring.RingState, keys: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Answers ``[..., Q, Dv]`` and each hop's weights ``[..., Q, S]``."""
        question, weights = self.queries(keys), []
        addresses, contents = self._memories(state)
        used = ring.in_use(state)
        for j in range(self.hops):
            weights.append(softmax_weights(question, addresses, self.beta, used))
            question = self._next(j, question, weights[-1] @ contents)
        return self._answer(question), weights

    def queries(self, keys: Tensor) -> Tensor:
        return self._question(self._normed(keys))

    def _normed(self, keys: Tensor) -> Tensor:
        return unit_rows(keys) if self.key_norm == "unit" else keys

    # ---- what a network says ----------------------------------------------------------------------------------

    def _start(self) -> None:
        """Make the slow weights."""
        raise NotImplementedError

    def _question(self, keys: Tensor) -> Tensor:
        """``u [..., Q, d]`` of (normalised) query keys."""
        raise NotImplementedError

    def _memories(self, state: ring.RingState) -> tuple[Tensor, Tensor]:
        """Addresses m and contents c, both ``[..., S, d]``."""
        return state.keys, state.values

    def _next(self, j: int, question: Tensor, reading: Tensor) -> Tensor:
        """``u`` after hop j."""
        raise NotImplementedError

    def _answer(self, question: Tensor) -> Tensor:
        """``[..., Q, Dv]`` of the last ``u``."""
        raise NotImplementedError


class MemoryNetwork(_HoppingMemory):
    """MemN2N: ``m_i = x_i A + T_A(i)``, ``c_i = x_i C + T_C(i)``, ``p = softmax(beta u m^T)``, ``u <- u H + p c``, answer ``u W``.

    A pair is a sentence ``x = [k; v]``, a query the question ``u = q B``. Layer-wise tying: A, C and H are the same at
    every hop. The temporal encodings T count from the newest sentence back, so they move as sentences come; they
    start at zero. A starts by picking the key of a sentence and C its value, so an untrained network answers pairs.

    Args:
        capacity: sentences kept; the oldest goes first.
        hops: readings of the memory for one answer. The published network has 3.
        hop: what a reading is to the next hop. ``keep``: H starts by keeping the key's coordinates, so every hop asks
            the same and pairs are recalled at any number of hops. ``replace``: H starts at zero and keys and values
            share one space (the narrower ones padded with zeros), so that with pairs A -> B and B -> C two hops
            answer A with C.
        beta: inverse temperature; the published network has 1 and leaves the scale to the trained embeddings.
        key_norm: ``unit`` scales keys and queries to length 1 before they are embedded, ``none`` leaves them.

    Slow weights (Parameter): ``address_map`` A and ``content_map`` C ``[Dk + Dv, d]``, ``question_map`` B
    ``[Dk, d]``, ``hop_map`` H ``[d, d]``, ``answer_map`` W ``[d, Dv]``, ``address_times`` T_A and ``content_times``
    T_C ``[capacity, d]``; d = Dk + Dv (``replace``: the larger of the two).

    Raises:
        ValueError: for an option outside its range.

    Source: Sukhbaatar et al. 2015, "End-To-End Memory Networks", eqs. 1-4 and section 4.1; one hop with the argmax for
    the softmax is the lookup of Weston et al. 2014, "Memory Networks". The random time noise, the start without softmax
    and the zeroed null word of its training are left to a trainer.
    """

    def _start(self) -> None:
        width = self.width
        keys = torch.eye(self.key_dim, width)
        values = torch.eye(self.value_dim, width) if self.hop == "replace" else torch.eye(width)[self.key_dim :]
        self.address_map = nn.Parameter(torch.cat((keys, 0 * values)))
        self.content_map = nn.Parameter(torch.cat((0 * keys, values)))
        self.question_map = nn.Parameter(keys.clone())
        self.hop_map = nn.Parameter(keys.mT @ keys if self.hop == "keep" else torch.zeros(width, width))
        self.answer_map = nn.Parameter(values.mT.clone())
        self.address_times = nn.Parameter(torch.zeros(self.slots, width))
        self.content_times = nn.Parameter(torch.zeros(self.slots, width))

    @property
    def width(self) -> int:
        return max(self.key_dim, self.value_dim) if self.hop == "replace" else self.key_dim + self.value_dim

    def entries(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        sentences = torch.cat((self._normed(keys), values), -1)
        return sentences @ self.address_map, sentences @ self.content_map

    def _question(self, keys: Tensor) -> Tensor:
        return keys @ self.question_map

    def _memories(self, state: ring.RingState) -> tuple[Tensor, Tensor]:
        ages = slot_ages(state.written, self.slots)
        return state.keys + self.address_times[ages], state.values + self.content_times[ages]

    def _next(self, j: int, question: Tensor, reading: Tensor) -> Tensor:
        return question @ self.hop_map + reading

    def _answer(self, question: Tensor) -> Tensor:
        return question @ self.answer_map


class KeyValueMemoryNetwork(_HoppingMemory):
    """KV-MemNN: ``p = softmax(beta u (A Phi_K(k))^T)``, ``o = p A Phi_V(v)``, ``u <- (u + o) R_j``, answer ``u B``.

    Keys and values are features of one vocabulary, ``Phi_X(q) = [q; 0]``, ``Phi_K(k) = [k; 0]``, ``Phi_V(v) = [0; v]``,
    and share the embedding A. Every hop has an R_j of its own; the last starts as identity, and B by picking the
    value's coordinates, so an untrained network answers pairs. Of the published steps, key hashing (candidates by
    shared words) is left out: every stored pair is a candidate.

    Args:
        capacity: pairs kept; the oldest goes first.
        hops: readings of the memory for one answer. The published network has 2 or 3.
        hop: what a reading is to the next hop. ``keep``: R_j starts by keeping the key's coordinates, so every hop
            asks the same and pairs are recalled at any number of hops. ``replace``: R_j starts by moving the value
            that was read to the key's coordinates (as many as there are), so that with pairs A -> B and B -> C two
            hops answer A with C.
        beta: inverse temperature; the published network has 1 and leaves the scale to the trained embedding.
        key_norm: ``unit`` scales keys and queries to length 1 before they are embedded, ``none`` leaves them.

    Slow weights (Parameter): ``embedding`` A ``[d, d]``, ``hop_maps`` R ``[hops, d, d]``, ``answer_map`` B ``[d, Dv]``;
    d = Dk + Dv.

    Raises:
        ValueError: for an option outside its range.

    Source: Miller et al. 2016, "Key-Value Memory Networks for Directly Reading Documents", section 3.
    """

    def _start(self) -> None:
        keys, values = torch.eye(self.width).split([self.key_dim, self.value_dim])
        moved = keys if self.hop == "keep" else torch.eye(self.value_dim, self.key_dim) @ keys
        between = (keys if self.hop == "keep" else values).mT @ moved
        self.embedding = nn.Parameter(torch.eye(self.width))
        self.hop_maps = nn.Parameter(torch.stack([*[between] * (self.hops - 1), torch.eye(self.width)]))
        self.answer_map = nn.Parameter(values.mT.clone())

    def entries(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        # The zero features of a key or a value touch no row of the embedding.
        return self.queries(keys), values @ self.embedding[self.key_dim :]

    def _question(self, keys: Tensor) -> Tensor:
        return keys @ self.embedding[: self.key_dim]

    def _next(self, j: int, question: Tensor, reading: Tensor) -> Tensor:
        return (question + reading) @ self.hop_maps[j]

    def _answer(self, question: Tensor) -> Tensor:
        return question @ self.answer_map


def position_encoding(words: int, width: int) -> Tensor:
    """``[J, d]``: ``l_jk = (1 - j/J) - (k/d)(1 - 2 j/J)``, j and k from 1, for J ``words`` and d = ``width``.

    Weights with which the word vectors of a sentence are summed, so that their order shows (Sukhbaatar et al. 2015,
    section 4.1; the authors' Matlab code has about twice these weights).
    """
    j = torch.arange(1, words + 1)[:, None] / words
    return (1 - j) - torch.arange(1, width + 1) / width * (1 - 2 * j)


def sentence_vectors(words: Tensor, encode_positions: bool = True) -> Tensor:
    """``[..., d]`` of embedded words ``[..., J, d]``: their sum (bag of words), weighted by :func:`position_encoding`."""
    if not encode_positions:
        return words.sum(-2)
    return (words * position_encoding(*words.shape[-2:]).to(words)).sum(-2)
