"""Embeddings of a knowledge graph, and a memory of what was told beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GraphEmbedding(nn.Module):
    """``score(h, r, t) = Re <h r, conj t>`` with complex vectors for entities and relations.

    Args:
        entities, relations: how many; relations include those that stand for the way back.
        rank: of the vectors.

    Source: Trouillon et al. 2016, "Complex Embeddings for Simple Link Prediction"; learnt as in Lacroix et al. 2018,
    "Canonical Tensor Decomposition for Knowledge Base Completion": all entities are scored at once, relations go both ways,
    and the third powers of what is used are paid for (:meth:`price`).
    """

    def __init__(self, entities: int, relations: int, rank: int) -> None:
        super().__init__()
        self.entities = nn.Parameter(1e-1 * torch.randn(entities, 2, rank))
        self.relations = nn.Parameter(1e-1 * torch.randn(relations, 2, rank))

    def query(self, heads: Tensor, relations: Tensor) -> Tensor:
        """``[B, 2 rank]``: what tails are multiplied with."""
        (hr, hi), (rr, ri) = self.entities[heads].unbind(1), self.relations[relations].unbind(1)
        return torch.cat((hr * rr - hi * ri, hr * ri + hi * rr), -1)

    def forward(self, heads: Tensor, relations: Tensor) -> Tensor:
        """``[B, entities]``: the score of every entity as the tail."""
        return self.query(heads, relations) @ self.entities.flatten(1).T

    def price(self, facts: Tensor) -> Tensor:
        """The nuclear 3-norm of facts ``[B, 3]``: the mean of the third powers of the moduli of all three vectors."""
        used = (
            self.entities[facts[:, 0]],
            self.relations[facts[:, 1]],
            self.entities[facts[:, 2]],
        )
        moduli = [part.square().sum(1).clamp_min(1e-12).sqrt() for part in used]
        return sum((m**3).sum() for m in moduli) / len(facts)  # type: ignore[return-value]
