"""A cache of features and their values with hard retrieval: the memory half of a memory-assisted classifier."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from memspec.options import Cosine, Count, Positive, checked
from memspec.reference.memories.slots import NearestMemory, PairsState
from memspec.reference.memories.specs import CACHE
from memspec.reference.ops.rows import picked, unit_rows

BLOCK = 512
"""Rows of one update whose similarities are held at once: bounds the memory a large update needs."""


class CachedMemory(NearestMemory):
    """Answers with the value of the nearest stored key by cosine; replaces by similarity once it is full.

    Rows, in order: while a slot is free the row is appended. Afterwards, with s the cosines to all stored keys: if
    ``max s < similarity_threshold`` the row replaces the least similar slot of its own class, or, where its class has
    none, the least similar slot of all; otherwise it is ignored. The class of a value is the index of its largest
    entry, so one-hot labels work as labels and values of any width are kept as they are. Among equal cosines the
    lowest slot answers, and goes.

    Args:
        capacity: slots M.
        similarity_threshold: cosine from which a row counts as known.
        temperature: of the contrastive loss.
        known: what happens to a known row: ``ignore`` (the source's rule: appended while there is room, then
            ignored), or ``overwrite``: it takes the place of its nearest slot, full or not, so that a rewritten
            key has its new value.

    Raises:
        ValueError: for an option outside its range.

    Source: CachedMemory in wajihullahbaig/memory-assisted-classifier (memory_assisted_classifier.py), which keeps
    labels; values of any width are this project's.
    """

    spec = dataclasses.replace(CACHE, eviction="similarity")

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 1000,
        similarity_threshold: Cosine = 0.8,
        temperature: Positive = 0.1,
        known: Literal["ignore", "overwrite"] = "ignore",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity)
        self.similarity_threshold, self.temperature, self.known = similarity_threshold, temperature, known
        if known == "overwrite" and similarity_threshold <= 0.999:  # a key's cosine with itself may round below 1
            self.spec = dataclasses.replace(self.spec, overwrite="replace")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> PairsState:
        return PairsState(*self.empty_rows(batch_shape, self.slots), self.counts(*batch_shape, self.slots))

    def write(self, state: PairsState, keys: Tensor, values: Tensor) -> PairsState:
        for k, v in zip(keys.split(BLOCK, -2), values.split(BLOCK, -2)):
            held, writes = self._placed(state, k.detach(), v.detach())
            state = PairsState(picked(state.keys, k, held), picked(state.values, v, held), writes)
        return state

    def _placed(self, state: PairsState, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Which row each slot holds afterwards, ``[..., M]`` (j < M: what slot j held; M + i: new row i), and ``writes``.

        The rule is sequential, but it needs no more than the similarities of all rows, so the loop moves integers only.
        """
        m, n = self.slots, keys.shape[-2]
        slots = torch.arange(m, device=keys.device)
        writes = state.writes
        free = (writes == 0).sum(-1)
        held = slots.expand(writes.shape)
        start = 0
        if self.known == "ignore":  # rows that find a free slot in every memory need no comparison
            start = min(n, int(free.min()))
            begin = (m - free)[..., None]
            appended = (slots >= begin) & (slots < begin + start)
            held = torch.where(appended, m + slots - begin, held)
            writes = writes + appended
            if start == n:
                return held, writes
        similar, classes = self._compared(state, keys, values)
        classes = classes.expand(*writes.shape[:-1], m + n)
        for i in range(start, n):
            used = writes > 0
            row = similar[..., i, :].gather(-1, held)
            row_or_low = torch.where(used, row, -torch.inf)
            best, nearest = row_or_low.max(-1, keepdim=True)
            is_known = best >= self.similarity_threshold
            same = used & (classes.gather(-1, held) == classes[..., m + i, None])
            candidates = torch.where(same.any(-1, keepdim=True), same, used)
            lowest = torch.where(candidates, row, torch.inf).argmin(-1, keepdim=True)
            count = used.sum(-1, keepdim=True)
            target = torch.where(count < m, count, lowest)
            if self.known == "overwrite":
                target = torch.where(is_known, nearest, target)
                accepted = torch.ones_like(is_known)
            else:
                accepted = ~is_known | (count < m)
            chosen = (slots == target) & accepted
            held = torch.where(chosen, m + i, held)
            writes = writes + chosen
        return held, writes

    def _compared(self, state: PairsState, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines ``[..., N, M + N]`` of new rows with stored and new rows, and the classes ``[..., M + N]`` of both."""
        dtype = torch.promote_types(keys.dtype, torch.float32)  # a threshold wants more than three digits
        new, old = unit_rows(keys.to(dtype)), unit_rows(state.keys.detach().to(dtype))
        classes = torch.cat((state.values.detach().argmax(-1), values.argmax(-1)), -1)
        return torch.cat((new @ old.mT, new @ new.mT), -1), classes

    def auxiliary_loss(self, keys: Tensor, values: Tensor) -> Tensor:
        """Contrastive loss of features against the store: near what is of their class, far from the rest.

        The mean, over rows whose class is stored at all, of ``logsumexp_all(s / T) - logsumexp_same_class(s / T)``
        with s the cosines to the stored keys; 0 where there is no such row. Differentiable in ``keys``.

        Args:
            keys: ``[..., N, Dk]`` features.
            values: ``[..., N, Dv]``; the class of a row is the index of its largest entry.
        """
        keys, values = self._checked(keys, "keys", self.key_dim), self._checked(values, "values", self.value_dim)
        cosines = unit_rows(keys) @ unit_rows(self.state.keys).mT
        same = values.argmax(-1)[..., None] == self.state.values.argmax(-1)[..., None, :]
        return contrastive_loss(cosines, same.to(cosines.dtype), self.state.writes > 0, self.temperature)


def contrastive_loss(cosines: Tensor, share: Tensor, used: Tensor, temperature: float) -> Tensor:
    """Multi-positive contrastive loss: the mean of ``logsumexp_all(s / T) - log sum_i share_i exp(s_i / T)``.

    Over the rows that have a share in some slot in use; 0 where there is none. With shares of 0 and 1 the second term is
    the logsumexp over the positives; in general the loss is minus the logarithm of what a softmax read gives the row's
    own class.

    Args:
        cosines: ``[..., N, S]`` s, of features with slots.
        share: ``[..., N, S]`` in [0, 1], how far each slot belongs to the row's class.
        used: ``[..., S]`` bool.
        temperature: T.
    """
    used = used[..., None, :]
    logits = cosines / temperature
    positive = used & (share > torch.finfo(share.dtype).tiny)  # the derivative of the logarithm is finite
    has_positive = positive.any(-1, keepdim=True)
    # Rows without a positive are taken out before the logarithm: masked after it, their gradient would be NaN.
    every = torch.where(used, logits, -torch.inf)
    same = torch.where(positive, logits + torch.where(positive, share, 1.0).log(), -torch.inf)
    every, same = (torch.where(has_positive, part, 0.0).logsumexp(-1) for part in (every, same))
    return (every - same).sum() / has_positive.sum().clamp_min(1)
