"""Stores of every pair ever written, read through the nearest neighbours of the query."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from memspec.options import Count, Positive, Real, checked
from memspec.reference.memories.slots import SlotMemory
from memspec.reference.memories.specs import STORE
from memspec.reference.ops.rows import gather_rows, spread, unit_rows
from memspec.reference.ops.search import nearest

Read = Literal["mean", "softmax", "inverse"]
Metric = Literal["l2", "cosine"]
Softening = Annotated[float, Real(above=0, why="a stored key has infinite weight without it")]


class NeighboursState(NamedTuple):
    """``keys [..., n, Dk]`` (unit rows where they are compared by cosine), ``values [..., n, Dv]``, oldest first.

    ``squares [..., n]``: squared lengths of the keys, float64.
    """

    keys: Tensor
    values: Tensor
    squares: Tensor


class NeighbourStore(SlotMemory):
    """Base of the stores: reads a weighted mean of the values of the neighbours that a subclass finds.

    Weights, of the neighbours at distances d, sum 1: ``mean`` equal, ``softmax`` as ``exp(-beta d^2)``, ``inverse`` as
    ``1 / (eps + d^2)``. With ``metric="cosine"`` keys and queries are scaled to length 1, where ``d^2 = 2 - 2 cos``.

    Args:
        neighbours: k. With 1, the newest pair under a key answers, exactly; with more, pairs blend.
        read: the weights.
        metric: ``l2`` or ``cosine``.
        beta: of ``softmax``.
        eps: of ``inverse``.

    Raises:
        ValueError: for an option outside its range.
    """

    spec = dataclasses.replace(STORE, constant_state=False)
    slot_usage = None  # type: ignore[assignment]  # every slot is in use: no statistic

    def __init__(
        self, key_dim: int, value_dim: int, neighbours: int, read: Read, metric: Metric, beta: float, eps: float
    ) -> None:
        super().__init__(key_dim, value_dim)
        self.neighbours, self.reading, self.metric, self.beta, self.eps = neighbours, read, metric, beta, eps
        if neighbours == 1:
            # By cosine a key and its double are one key, so not every stored pair can be recalled.
            self.spec = dataclasses.replace(self.spec, overwrite="replace", exact=metric == "l2")
        else:
            both = frozenset({"query", "keys"}) if read != "mean" else frozenset()
            self.spec = dataclasses.replace(
                self.spec, overwrite="blend", differentiable=self.spec.differentiable | both
            )

    def find(self, state: Any, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Indices ``[..., Q, k]`` and distances of the neighbours of ``queries``, nearest first; distance inf: none."""
        raise NotImplementedError

    def _scaled(self, keys: Tensor) -> Tensor:
        return unit_rows(keys) if self.metric == "cosine" else keys

    def read(self, state: Any, keys: Tensor) -> Tensor:
        index, weights = self.neighbourhood(state, self._scaled(keys))
        return (weights[..., None] * gather_rows(state.values, index)).sum(-2)

    def neighbourhood(self, state: Any, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Neighbours ``[..., Q, k]`` and their weights, which sum to 1, or are all 0 where there is none."""
        index, distance = self.find(state, queries)
        there = torch.isfinite(distance)
        if self.reading == "mean" or self.neighbours == 1:
            weights = there.to(queries.dtype)
        else:
            # The distances again, now with their gradient.
            squared = (gather_rows(state.keys, index) - queries[..., None, :]).square().sum(-1)
            squared = torch.where(there, squared, 0.0).clamp(max=torch.finfo(squared.dtype).max / 4)
            if self.reading == "softmax":
                # The nearest is subtracted, so that its own term is 1; it carries no gradient that would not cancel.
                scores = -self.beta * (squared - squared.detach()[..., :1])
                weights = torch.where(there, scores.exp(), 0.0)
            else:
                weights = torch.where(there, 1 / (self.eps + squared), 0.0)
        total = weights.sum(-1, keepdim=True)
        return index, weights / torch.where(total > 0, total, 1.0)

    def weights(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q, n]``: the weights of the pairs, in the order of writing; 0 for all but the neighbours."""
        return spread(*self.neighbourhood(state, self._scaled(keys)), state.keys.shape[-2])

    def certainty(self, state: Any, keys: Tensor) -> Tensor:
        """``[..., Q]``: ``1 / (1 + distance to the nearest pair found)``; 0 where none is."""
        _, distance = self.find(state, self._scaled(keys))
        none = keys.new_full((*keys.shape[:-1], 1), torch.inf)
        return 1 / (1 + torch.cat((distance, none), -1).amin(-1))

    def check_state(self, tensors: dict[str, Tensor]) -> str | None:
        if tensors["keys"].shape[-1] != self.key_dim or tensors["values"].shape[-1] != self.value_dim:
            return f"the saved pairs are not [n, {self.key_dim}] and [n, {self.value_dim}]"
        return None


class NearestNeighbourMemory(NeighbourStore):
    """Keeps every pair; answers with the values of the k nearest keys, by exact search.

    With ``neighbours=1`` it is a dictionary that answers unknown keys as the nearest known one. The search goes through
    the store in blocks, so that it needs memory for a block of scores only, however many pairs there are.

    Args:
        neighbours: k. With 1, the newest pair under a key answers, exactly; with more, pairs blend.
        read: how the k values are weighted: ``mean``; ``softmax``, by ``exp(-beta d^2)``; or ``inverse``, by
            ``1 / (eps + d^2)``.
        metric: ``l2``, or ``cosine``: keys and queries are scaled to length 1, where ``d^2 = 2 - 2 cos``.
        beta, eps: see ``read``.
        index: ``exact``: matrix products in torch; ``faiss``: the same neighbours, proposed by a flat faiss index on the
            CPU (``pip install 'memspec[faiss]'``) and ranked here, so that both give the same answers. The index is built from the
            state when it is first asked, and follows it.

    Raises:
        ValueError: for an option outside its range.
        ImportError: for ``index="faiss"`` without faiss.

    Source: Cover and Hart 1967, "Nearest neighbor pattern classification"; as a memory of a network, kNN-LM (Khandelwal
    et al. 2020, eq. 2: ``softmax`` with beta 1), and the kernel of Neural Episodic Control (Pritzel et al. 2017, eq. 5:
    ``inverse``).
    """

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        neighbours: Count = 1,
        read: Read = "mean",
        metric: Metric = "l2",
        beta: Positive = 10.0,
        eps: Softening = 1e-3,
        index: Literal["exact", "faiss"] = "exact",
    ) -> None:
        super().__init__(key_dim, value_dim, neighbours, read, metric, beta, eps)
        if index == "faiss":
            from memspec.reference.memories.faiss_index import FlatIndex

            self._flat: FlatIndex | None = FlatIndex()
        else:
            self._flat = None
        if neighbours == 1:
            self.spec = dataclasses.replace(self.spec, family="cache")

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> NeighboursState:
        return NeighboursState(*self.empty_rows(batch_shape, 0), self.counts(*batch_shape, 0).double())

    def write(self, state: NeighboursState, keys: Tensor, values: Tensor) -> NeighboursState:
        keys = self._scaled(keys)
        after = NeighboursState(
            torch.cat((state.keys, keys), -2),
            torch.cat((state.values, values), -2),
            torch.cat((state.squares, self._squares(keys)), -1),
        )
        if self._flat is not None:
            self._flat.follow(state.keys, after.keys)
        return after

    def find(self, state: NeighboursState, queries: Tensor) -> tuple[Tensor, Tensor]:
        propose = None if self._flat is None else self._flat.of(state.keys)
        return nearest(queries, state.keys, self.neighbours, candidates=propose, squares=state.squares)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if self._state is not None:  # a cast to another precision rounds the keys, and must not cast the squares
            self._state = self._state._replace(squares=self._squares(self._state.keys))
        return self

    def _squares(self, keys: Tensor) -> Tensor:
        return keys.detach().to(self.like["device"]).double().square().sum(-1)
