"""KnowledgeGraphModel: facts told one after another, kept in embeddings and in a memory, and asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspec.networks.held import OPEN
from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named
from memspec.reference.layers.interface import silent


class KnowledgeGraphModel(SequenceModel):
    """A step tells a fact (head, relation, tail), or asks one without a tail, and scores every entity as its tail.

    ``y_j = -|h + r + W m - e_j|^2``, with the embeddings h and r of head and relation, e_j of the entities, and m what the
    memory answers to the key ``h + r``; the fact is written before, ``h + r -> t``, as far as a gate of h, r and t says.
    W starts at zero, and the model as TransE.

    Args:
        input_size: width of the inputs. Of ``2 entity_size + relation_size`` they are the indicators of head, relation and
            tail, as :meth:`told` makes them; others are mapped to such.
        entity_size, relation_size: how many there are; outputs are ``entity_size`` wide.
        memory_size, memory_dim: capacity, and width of embeddings, keys and values.
        memory: any Functional memory.
        gates: False for memories whose state grows.

    Source: KnowledgeGraphModel in mwasifanwar/neural_memory_architectures; the score is that of Bordes et al. 2013,
    "Translating Embeddings for Modeling Multi-relational Data".
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        entity_size: Count = 14,
        relation_size: Count = 4,
        memory_size: Count = 128,
        memory_dim: Count = 20,
        memory: Named = "DeltaMemory",
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, entity_size
        self.parts = (entity_size, relation_size, entity_size)
        whole = sum(self.parts)
        self.inputs = None if input_size == whole else nn.Linear(input_size, whole)
        self.entities = nn.Parameter(nn.init.xavier_uniform_(torch.empty(entity_size, memory_dim)))
        self.relations = nn.Parameter(nn.init.xavier_uniform_(torch.empty(relation_size, memory_dim)))
        self.gates = nn.Linear(3 * memory_dim, 2) if gates else None
        if self.gates is not None:
            nn.init.constant_(self.gates.bias[1:], OPEN)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size)
        self.remembered = silent(memory_dim, memory_dim)

    def told(self, heads: Tensor, relations: Tensor, tails: Tensor | None = None) -> Tensor:
        """Facts as inputs: numbers ``[...]`` -> ``[..., 2 entity_size + relation_size]``; without tails they are asked for.

        Raises:
            ValueError: if the model takes inputs of another width.
        """
        if self.inputs is not None:
            raise ValueError(f"input_size is {self.input_size}; facts by number need {sum(self.parts)}")
        head, relation = F.one_hot(heads, self.parts[0]), F.one_hot(relations, self.parts[1])
        tail = torch.zeros_like(head) if tails is None else F.one_hot(tails, self.parts[2])
        return torch.cat((head, relation, tail), -1).to(self.entities.dtype)

    def initial_state(self, batch: int) -> Any:
        return self.held.start(batch)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        named = x if self.inputs is None else self.inputs(x)
        head, relation, tail = named.split(self.parts, -1)
        h, r, t = head @ self.entities, relation @ self.relations, tail @ self.entities
        step = left = None
        if self.gates is not None:
            step, left = self.gates(torch.cat((h, r, t), -1)).chunk(2, -1)
            step, left = step.sigmoid(), F.logsigmoid(left)
        key = (h + r)[:, None, None]
        state = self.held.write(state, key, t[:, None, None], step, left)
        found = h + r + self.remembered(self.held.read(state, key).flatten(1))
        return 2 * found @ self.entities.T - found.square().sum(-1, True) - self.entities.square().sum(-1), state
