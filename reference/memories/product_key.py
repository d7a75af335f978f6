"""ProductKeyMemory: very many slots, found by two short searches, written by a normalised step on the slots that answer."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspec.options import Count, Step, Whole, checked, refused
from memspec.protocol import Overwrite
from memspec.reference.memories.slots import SlotMemory
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.rows import spread, unit_rows


class ProductKeyState(NamedTuple):
    """``values [..., n^2, Dv]``; ``usage [..., n^2]``, the read weight that each slot had in all writes."""

    values: Tensor
    usage: Tensor


class ProductKeyMemory(SlotMemory):
    """``r = sum_I w_I V_I``: each head keeps the k best of the n^2 sums of two half scores, and weights them by softmax.

    A head's query ``[q1; q2] = LN(W_q x)`` is scored against two codebooks of n keys each; slot (i, j) has the score
    ``q1 . c1_i + q2 . c2_j``. The k best of each codebook contain the k best of all n^2 sums, so 2n products and
    about k ln k sums find what n^2 would. Heads are averaged (the published layer adds them; the values take up the scale).

    A write moves the slots that answer the key, and no others: ``V_I <- V_I + eta w_I (v - r) / |w|^2`` (``nlms``),
    after which, for eta = 1, the key just written answers with its value exactly. Queries, codebooks and layer norm
    are slow weights, so rows in a chunk are solved for together, as in a delta rule whose keys are the w.

    Args:
        codebook: n, keys in each codebook; n^2 slots. The published layer has 512, the default here is for seconds.
        heads: the published layer has 4.
        top: k, slots that answer in each head; at most n. The published layer has 32.
        query_dim: width of a head's query, even. Default: key_dim, or one more; the published layer has 256.
        rule: ``nlms`` as above, ``sgd`` without the division by ``|w|^2`` (plain gradient of ``|v - r|^2 / 2``).
        eta: step; in (0, 2) for ``nlms``.
        chunk: rows that are solved for together.

    Slow weights (Parameter): ``query_map [heads, Dk, query_dim]`` (orthonormal columns or rows), ``codebooks
    [2, heads, n, query_dim / 2]`` (uniform in +-1/sqrt(query_dim / 2)), and the layer norm of the queries. The paper's
    BatchNorm would let one row of a batch see the others.

    Raises:
        ValueError: for an option outside its range.

    Source: Lample et al. 2019, "Large Memory Layers with Product Keys", sections 3.1-3.2 and 4.3; the write is ours
    (normalised least mean squares, Widrow and Hoff 1960), in the place of training by gradient.
    """

    spec = dataclasses.replace(SMOOTH, overwrite="replace")
    confidence = None  # type: ignore[assignment]  # a slot keeps no key

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        codebook: Count = 32,
        heads: Count = 4,
        top: Annotated[int, Whole(1, "codebook")] = 8,
        query_dim: Annotated[int, Whole(2)] | None = None,
        rule: Literal["nlms", "sgd"] = "nlms",
        eta: Step = 1.0,
        chunk: Count = 64,
    ) -> None:
        super().__init__(key_dim, value_dim)
        query_dim = key_dim + key_dim % 2 if query_dim is None else query_dim
        if query_dim % 2:
            raise refused(self, "query_dim", query_dim, "even", "each half has a codebook")
        if eta != 1 or rule == "sgd":
            overwrite: Overwrite = "blend" if eta < 1 and rule == "nlms" else "none"
            self.spec = dataclasses.replace(self.spec, overwrite=overwrite)
        self.codebook, self.heads, self.top, self.rule, self.eta, self.chunk = codebook, heads, top, rule, eta, chunk
        self.slots = codebook**2
        self.query_map = nn.Parameter(torch.stack([_orthogonal(key_dim, query_dim) for _ in range(heads)]))
        self.query_norm = nn.LayerNorm(query_dim)
        half = query_dim // 2
        self.codebooks = nn.Parameter((2 * torch.rand(2, heads, codebook, half) - 1) / math.sqrt(half))

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> ProductKeyState:
        return ProductKeyState(
            torch.zeros(*batch_shape, self.slots, self.value_dim, **self.like),
            torch.zeros(*batch_shape, self.slots, **self.like),
        )

    def write(self, state: ProductKeyState, keys: Tensor, values: Tensor) -> ProductKeyState:
        dtype = torch.promote_types(state.values.dtype, torch.float32)  # triangular solves exist from float32 on
        table, usage = state.values.to(dtype), state.usage
        for k, v in zip(keys.split(self.chunk, -2), values.split(self.chunk, -2)):
            w = self.weights(state, k).to(dtype)
            overlap = w @ w.mT
            size = overlap.diagonal(dim1=-2, dim2=-1) if self.rule == "nlms" else torch.ones_like(overlap[..., 0])
            # u_i |w_i|^2 / eta = v_i - w_i (V + sum_{j<i} w_j^T u_j): what each row adds along its weights.
            system = overlap.tril(-1) + torch.diag_embed(size / self.eta)
            u = torch.linalg.solve_triangular(system, v.to(dtype) - w @ table, upper=False)
            table = table + w.mT @ u
            usage = usage + w.detach().sum(-2).to(usage.dtype)
        return ProductKeyState(table.to(state.values.dtype), usage)

    def read(self, state: ProductKeyState, keys: Tensor) -> Tensor:
        slots, weights = self.select(keys)
        batch = torch.broadcast_shapes(state.values.shape[:-2], slots.shape[:-2])
        tables = state.values.expand(*batch, -1, -1).reshape(-1, self.value_dim)
        first = torch.arange(batch.numel(), device=slots.device).reshape(*batch, 1, 1) * self.slots
        # One bag a query: its rows are weighted and summed without being copied out first.
        bags, shares = (slots + first).flatten(0, -2), weights.expand(*batch, -1, -1).flatten(0, -2)
        answers = F.embedding_bag(bags, tables, per_sample_weights=shares, mode="sum")
        return answers.unflatten(0, (*batch, keys.shape[-2]))

    def select(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The slots that answer ``keys [..., Q, Dk]``, and their weights.

        Returns:
            ``slots [..., Q, heads * k]`` (int64; two heads may name the same one) and ``weights`` of the same shape,
            which sum to 1 in each row.
        """
        rows = unit_rows(keys) * math.sqrt(
            self.key_dim
        )  # as long as layer-normed ones, so that its epsilon is small beside
        queries = self.query_norm(rows.unsqueeze(-3) @ self.query_map)  # [..., heads, Q, query_dim]
        halves = torch.stack([q @ codes.mT for q, codes in zip(queries.chunk(2, -1), self.codebooks)])
        best, codes = _best(halves, self.top)
        # The pair of ranks a and b (from 1) is beaten by the a b - 1 others of ranks up to those: k cover a b <= k.
        ranks = torch.arange(1, self.top + 1, device=best.device)
        left, right = (ranks[:, None] * ranks <= self.top).nonzero().T
        scores, pair = _best(best[0][..., left] + best[1][..., right], self.top)
        slots = (codes[0][..., left] * self.codebook + codes[1][..., right]).gather(-1, pair)
        weights = scores.softmax(-1) / self.heads
        return slots.transpose(-2, -3).flatten(-2), weights.transpose(-2, -3).flatten(-2)

    def weights(self, state: ProductKeyState, keys: Tensor) -> Tensor:
        """``[..., Q, n^2]``: the weights of :meth:`select` over all slots, summed where heads agree."""
        return spread(*self.select(keys), self.slots)

    def usage(self, state: ProductKeyState) -> Tensor:
        """``[..., n^2]``: the read weight each slot had, summed over all rows written."""
        return state.usage


def slots_used(weights: Tensor) -> Tensor:
    """``[...]``: share of the slots with any weight over the queries of ``weights [..., Q, S]`` (Lample 2019, section 4.3)."""
    return (weights.sum(-2) > 0).to(weights.dtype).mean(-1)


def kl_from_uniform(weights: Tensor) -> Tensor:
    """``[...]``: ``log S + sum z log z`` in nats, z = mean of ``weights [..., Q, S]`` over queries, scaled to sum 1.

    0 where all slots are used alike, log S where one slot answers everything (Lample et al. 2019, section 4.3).
    """
    z = weights.sum(-2)
    z = z / z.sum(-1, keepdim=True)
    return torch.special.xlogy(z, z).sum(-1) + math.log(z.shape[-1])


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` highest scores and where they are; of equal ones the first, which topk does not promise."""
    ordered, index = scores.sort(dim=-1, descending=True, stable=True)
    return ordered[..., :count], index[..., :count]


def _orthogonal(rows: int, columns: int) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer."""
    return nn.init.orthogonal_(torch.empty(rows, columns))
