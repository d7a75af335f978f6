"""GatedMemory: slots that each keep, take in and give out through gates."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from memspec.protocol import MemorySpec
from memspec.reference.memories.rows import AddressedRowMemory, as_rows, assign
from memspec.reference.ops.addressing import content_weights
from memspec.reference.ops.rows import place
from memspec.reference.ops.writes import gated_write


class GatedState(NamedTuple):
    """``memory [..., S, W]``, ``written [..., S]`` step of the last driven write (int64; negative = never), ``time
    [..., 1]`` rows driven in so far (int64)."""

    memory: Tensor
    written: Tensor
    time: Tensor


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


class GatedMemory(AddressedRowMemory):
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

    spec = MemorySpec(
        family="softmax",
        write="sequential",
        overwrite="replace",
        eviction="lru",
        constant_state=True,
        deterministic=True,
        differentiable=frozenset({"query", "keys", "values"}),
        nonfinite="reject",
        inference_mode=True,
        fidelity="driven",
    )

    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        capacity: int = 128,
        beta: float = 50.0,
        match: float = 0.999,
        gates: Literal["fixed", "learned"] = "fixed",
    ) -> None:
        super().__init__(key_dim, value_dim, capacity, beta)
        if not 0 < match <= 1:
            raise ValueError(f"match is {match}; it must be above 0 and at most 1")
        if gates not in ("fixed", "learned"):
            raise ValueError(f"gates is {gates!r}; it is 'fixed' or 'learned'")
        self.match, self.gates = match, gates
        self.initial = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.slots, self.width)))
        if gates == "learned":
            self.layer = nn.Linear(2 * self.width, 4 * self.width)
            with torch.no_grad():
                self.layer.bias[: self.width] = 1
            # With an output gate for each query, answers are not weights times slots: it is not Addressable.
            self.read_weights = self.slot_values = None  # type: ignore[assignment]
            self.spec = dataclasses.replace(
                self.spec, family="generic", overwrite="none", eviction="none", fidelity="trained"
            )

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> GatedState:
        never = torch.arange(-self.slots, 0, device=self.initial.device)
        return GatedState(
            self.initial.expand(*batch_shape, self.slots, self.width).clone(),
            never.expand(*batch_shape, self.slots).clone(),
            torch.zeros(*batch_shape, 1, dtype=torch.int64, device=self.initial.device),
        )

    def occupied(self, state: GatedState) -> Tensor:
        return (state.written >= 0).to(state.memory.dtype)

    # ---- as a key-value memory --------------------------------------------------------------------------------

    def write(self, state: GatedState, keys: Tensor, values: Tensor) -> GatedState:
        rows = as_rows(keys, values)
        if self.gates == "learned":
            return self._write_learned(state, rows)
        stored = state.memory[..., : self.key_dim]
        slots, written = assign(keys, stored, state.written, state.time, self.match)
        return GatedState(place(state.memory, rows, slots), written, state.time + rows.shape[-2])

    def _write_learned(self, state: GatedState, rows: Tensor) -> GatedState:
        memory, written = state.memory, state.written
        for n, row in enumerate(rows.split(1, -2)):
            forget, entry, candidate, _ = self.slot_gates(row, memory, output=False)
            weights = self.weights(GatedState(memory, written, state.time), row[..., : self.key_dim]).squeeze(-2)
            memory = gated_write(memory, weights, forget.squeeze(-3), entry.squeeze(-3), candidate.squeeze(-3))
            most = weights.detach().argmax(-1, keepdim=True)
            written = written.scatter(-1, most, state.time + n)
        return GatedState(memory, written, state.time + rows.shape[-2])

    def read(self, state: GatedState, keys: Tensor) -> Tensor:
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

    def content(self, keys: Tensor, state: GatedState) -> Tensor:
        """Weights ``[..., H, S]`` by content, for whole rows ``keys [..., H, W]``."""
        return content_weights(keys, state.memory, keys.new_full(keys.shape[:-1], self.beta))

    def step(self, gates: SlotGates, state: GatedState) -> tuple[Tensor, GatedState]:
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
