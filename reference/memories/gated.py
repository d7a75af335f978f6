"""GatedMemory: slots that each keep, take in and give out through gates."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from memspec.options import Count, Positive, PositiveCosine, checked
from memspec.reference.memories.rows import MatchedState, MatchingRowMemory, as_rows
from memspec.reference.ops.addressing import content_weights
from memspec.reference.ops.writes import gated_write


class SlotGates(NamedTuple):
    """One step's gates, for H write and R read heads: ``write_weights [..., H, S]``; ``forget``, ``input`` and
    ``candidate``, each ``[..., H, S or 1, W or 1]``; ``read_weights [..., R, S]``, ``output [..., R, S or 1, W or 1]``.
    Weights and gates lie in [0, 1]."""

    write_weights: Tensor
    forget: Tensor
    input: Tensor
    candidate: Tensor
    read_weights: Tensor
    output: Tensor


class GatedMemory(MatchingRowMemory):
    """``M_i <- (1 - w_i) M_i + w_i (f_i M_i + i_i c_i)``, ``r = sum_i w_i o_i M_i``, with w by content.

    As a key-value memory it is driven: forget 0, input and output 1, the candidate is the row ``[k; v]``, and w is
    one-hot on the slot whose key matches, else on the slot written longest ago. So a key written twice has its new
    value. With ``gates="learned"`` the gates and the candidate of every slot come from a linear layer on
    ``[row; M_i]`` and w is by content; that means something only after training.

    Args:
        capacity: slots S.
        beta: key strength.
        match: cosine from which the driver takes two keys for the same.
        gates: ``fixed`` or ``learned``.

    Attributes:
        initial: Parameter ``[S, W]``, the memory a state starts with (Xavier normal).
        layer: with learned gates, Linear ``2 W -> 4 W``: forget (bias 1), input, candidate (tanh), output.

    Source: GatedMemory in mwasifanwar/neural_memory_architectures, with addressed writes; compare the recurrent
    entity network, Henaff et al. 2017, eq. 2-5.
    """

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: Count = 128,
        beta: Positive = 50.0,
        match: PositiveCosine = 0.999,
        gates: Literal["fixed", "learned"] = "fixed",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta, match)
        self.gates = gates
        if gates == "learned":
            self.layer = nn.Linear(2 * self.width, 4 * self.width)
            with torch.no_grad():
                self.layer.bias[: self.width] = 1
            # With an output gate for each query, answers are not weights times slots: it is not Addressable.
            self.read_weights = self.slot_values = None  # type: ignore[assignment]
            self.spec = dataclasses.replace(
                self.spec, family="generic", overwrite="none", eviction="none", fidelity="trained"
            )

    # ---- as a key-value memory --------------------------------------------------------------------------------

    def write(self, state: MatchedState, keys: Tensor, values: Tensor) -> MatchedState:
        if self.gates == "learned":
            return self._write_learned(state, as_rows(keys, values))
        return super().write(state, keys, values)

    def _write_learned(self, state: MatchedState, rows: Tensor) -> MatchedState:
        memory, written = state.memory, state.written
        for n, row in enumerate(rows.split(1, -2)):
            forget, entry, candidate, _ = self.slot_gates(row, memory, output=False)
            weights = self.weights(MatchedState(memory, written, state.time), row[..., : self.key_dim]).squeeze(-2)
            memory = gated_write(memory, weights, forget.squeeze(-3), entry.squeeze(-3), candidate.squeeze(-3))
            most = weights.detach().argmax(-1, keepdim=True)
            written = written.scatter(-1, most, state.time + n)
        return MatchedState(memory, written, state.time + rows.shape[-2])

    def read(self, state: MatchedState, keys: Tensor) -> Tensor:
        if self.gates == "fixed":
            return super().read(state, keys)
        rows = as_rows(keys, keys.new_zeros(*keys.shape[:-1], self.value_dim))
        output = self.slot_gates(rows, state.memory, writing=False)[3]
        given = (output * state.memory.unsqueeze(-3))[..., self.key_dim :]
        return (self.weights(state, keys).unsqueeze(-2) @ given).squeeze(-2)

    # ---- driven by a controller -------------------------------------------------------------------------------

    def slot_gates(
        self, rows: Tensor, memory: Tensor, writing: bool = True, output: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Learned forget and input gates, candidate and output gate of every slot, for each of ``rows [..., N, W]``.

        Each ``[..., N, S, W]``; without ``writing`` the first three, without ``output`` the last are of width 0.
        """
        wanted = slice(0 if writing else 3 * self.width, None if output else 3 * self.width)
        weight, bias = self.layer.weight[wanted], self.layer.bias[wanted]
        # The layer on [row; M_i], taken apart: its share of the row and that of the slot are worked out once each.
        of_rows = rows @ weight[:, : self.width].mT + bias
        raw = of_rows.unsqueeze(-2) + (memory @ weight[:, self.width :].mT).unsqueeze(-3)
        sizes = [*([self.width] * 3 if writing else [0] * 3), self.width if output else 0]
        forget, entry, candidate, given = raw.split(sizes, -1)
        return forget.sigmoid(), entry.sigmoid(), candidate.tanh(), given.sigmoid()

    def content(self, keys: Tensor, state: MatchedState) -> Tensor:
        """Weights ``[..., H, S]`` by content, for whole rows ``keys [..., H, W]``."""
        return content_weights(keys, state.memory, self.strengths(keys))

    def step(self, gates: SlotGates, state: MatchedState) -> tuple[Tensor, MatchedState]:
        """One step of all heads, the writes in order of the heads, then the reads: ``(reads [..., R, W], new state)``."""
        memory = state.memory
        parts = (
            gates.write_weights.unbind(-2),
            gates.forget.unbind(-3),
            gates.input.unbind(-3),
            gates.candidate.unbind(-3),
        )
        for weights, forget, entry, candidate in zip(*parts, strict=True):
            memory = gated_write(memory, weights, forget, entry, candidate)
        given = gates.output * memory.unsqueeze(-3)
        return (gates.read_weights.unsqueeze(-2) @ given).squeeze(-2), state._replace(memory=memory)
