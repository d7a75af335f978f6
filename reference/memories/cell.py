"""MemoryCell: a multi-head memory that is addressed by content alone."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from memspec.options import Count, Positive, PositiveCosine, checked
from memspec.reference.memories.rows import MatchedState, MatchingRowMemory
from memspec.reference.ops.addressing import content_weights
from memspec.reference.ops.writes import erase_add


class CellGates(NamedTuple):
    """One step's head outputs, H heads: ``write_key [..., H, W]``, ``write_strength [..., H]``, ``erase [..., H, W]``
    in [0, 1], ``add [..., H, W]``, ``read_key [..., H, W]``, ``read_strength [..., H]``."""

    write_key: Tensor
    write_strength: Tensor
    erase: Tensor
    add: Tensor
    read_key: Tensor
    read_strength: Tensor


class MemoryCell(MatchingRowMemory):
    """``w_h = softmax(beta_h cos(k_h, M))``, ``M <- M prod_h (1 - w_h e_h^T) + sum_h w_h a_h^T``, then read by content.

    The initial memory is learned. Content alone cannot point at a free slot, so as a key-value memory the cell is
    driven: the driver hands the write head a one-hot weighting, on the slot whose key matches, else on the slot
    written longest ago; erase is 1, the row ``[k; v]`` is added. A key written twice has its new value. With gates
    of its own it is driven through :meth:`step`, with any number of heads.

    Args:
        capacity: slots S.
        beta: key strength of queries.
        match: cosine from which the driver takes two keys for the same.

    Attributes:
        initial: Parameter ``[S, W]``, the memory a state starts with (Xavier normal).

    Source: MemoryCell in mwasifanwar/neural_memory_architectures, with the erase and add of Graves et al. 2014, eq.
    3-4, in place of its write, which adds one vector to every slot.
    """

    @checked
    def __init__(
        self, key_dim: int, value_dim: int, capacity: Count = 128, beta: Positive = 50.0, match: PositiveCosine = 0.999
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta, match)

    def step(self, gates: CellGates, state: MatchedState) -> tuple[Tensor, MatchedState]:
        """One step of all heads, write then read: ``(reads [..., H, W], new state)``."""
        weights = content_weights(gates.write_key, state.memory, gates.write_strength)
        memory = erase_add(state.memory, weights, gates.erase, gates.add)
        return content_weights(gates.read_key, memory, gates.read_strength) @ memory, state._replace(memory=memory)

    def interface(self, raw: Tensor) -> CellGates:
        """Gates from unconstrained numbers ``[..., H (4 W + 2)]``; for each head: write key, write strength
        (softplus), erase (sigmoid), add, read key, read strength (softplus)."""
        width = self.width
        heads = raw.unflatten(-1, (-1, 4 * width + 2))
        key, strength, erase, add, read_key, read_strength = heads.split([width, 1, width, width, width, 1], -1)
        strength, read_strength = F.softplus(strength[..., 0]), F.softplus(read_strength[..., 0])
        return CellGates(key, strength, erase.sigmoid(), add, read_key, read_strength)
