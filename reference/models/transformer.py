"""MemoryTransformer: a window and a memory in every layer, or segments that hand memory tokens on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import Named
from memspec.reference.layers.transformer import TransformerMemoryLayer


class SegmentState(NamedTuple):
    """``tokens [B, m, D]``, the memory; ``pending [B, p, D]``, the p < segment embedded inputs of the present segment."""

    tokens: Tensor
    pending: Tensor


class MemoryTransformer(SequenceModel):
    """A transformer over sequences of any length, in one of two ways.

    Without ``segment``: layers of :class:`~memspec.reference.layers.transformer.TransformerMemoryLayer`, whose attention
    sees a window, and whose memories, silent until they are trained, hold what came before it.

    With ``segment``: the recurrent memory transformer. A segment is read behind ``memory_size`` memory tokens, and at its
    end the same tokens read all of it; what becomes of them is the memory of the next. Memory tokens in front see each
    other alone, inputs see those and what came before them.

    Args:
        input_size, output_size: widths of inputs and outputs.
        hidden_size: D, width of the layers; the feed-forward parts are four times as wide.
        num_layers: at least 1.
        num_heads: of attention; None = as many of 1, 2, 4 as divide ``hidden_size``.
        window, memory, memory_dim, gates: of the layers; not used with ``segment``.
        memory_size: capacity of the layers' memories; with ``segment``, memory tokens m.
        segment: tokens that are read together.

    Source: MemoryTransformer in mwasifanwar/neural_memory_architectures; Bulatov, Kuratov, Burtsev 2022, "Recurrent Memory
    Transformer", section 3.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        output_size: Count,
        hidden_size: Count = 64,
        num_layers: Count = 2,
        num_heads: Count | None = None,
        window: Count = 16,
        memory: Named = "DeltaMemory",
        memory_size: Count = 16,
        memory_dim: Count = 32,
        gates: bool = True,
        segment: Count | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.segment = input_size, output_size, segment
        heads = next(n for n in (4, 2, 1) if hidden_size % n == 0) if num_heads is None else num_heads
        self.embed = nn.Linear(input_size, hidden_size)
        self.layers = nn.ModuleList()
        for _ in range(num_layers):
            if segment is None:
                layer: nn.Module = TransformerMemoryLayer(
                    hidden_size, 4 * hidden_size, heads, window, memory, memory_dim, memory_size, gates
                )
            else:
                layer = nn.TransformerEncoderLayer(
                    hidden_size,
                    heads,
                    4 * hidden_size,
                    dropout=0.0,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
            self.layers.append(layer)
        if segment is not None:
            self.tokens = nn.Parameter(torch.randn(memory_size, hidden_size) * hidden_size**-0.5)
            self.places = nn.Parameter(torch.randn(segment, hidden_size) * hidden_size**-0.5)
        self.output = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, output_size))

    def initial_state(self, batch: int) -> Any:
        if self.segment is None:
            return tuple(layer.initial_state(batch) for layer in self.layers)  # type: ignore[operator]
        tokens = self.tokens.expand(batch, -1, -1)
        return SegmentState(tokens, tokens.new_zeros(batch, 0, tokens.shape[-1]))

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
        xs = self.embed(xs)
        if self.segment is not None:
            ys, state = self._segments(xs.transpose(0, 1), state)
            return self.output(ys.transpose(0, 1)), state
        after = []
        for layer, own in zip(self.layers, state):
            xs, own = layer.run(xs, own)  # type: ignore[operator]
            after.append(own)
        return self.output(xs), tuple(after)

    def _segments(self, xs: Tensor, state: SegmentState) -> tuple[Tensor, SegmentState]:
        """What becomes of embedded inputs ``[B, T, D]``, a segment after another."""
        assert self.segment is not None
        waiting, tokens, ys = state.pending.shape[1], state.tokens, []
        seen = torch.cat((state.pending, xs), 1)
        for part in seen.split(self.segment, 1):
            full = part.shape[1] == self.segment
            read, after = self._segment(tokens, part + self.places[: part.shape[1]], full)
            ys.append(read)
            tokens = after if full else tokens
        left = seen.shape[1] % self.segment
        return torch.cat(ys, 1)[:, waiting:], SegmentState(tokens, seen[:, seen.shape[1] - left :])

    def _segment(self, tokens: Tensor, part: Tensor, full: bool) -> tuple[Tensor, Tensor]:
        """One segment ``[B, n, D]`` behind its memory, and the memory that comes of it where the segment is ``full``."""
        m, n = tokens.shape[1], part.shape[1]
        rows = torch.cat((tokens, part, tokens), 1) if full else torch.cat((tokens, part), 1)
        at = torch.arange(rows.shape[1], device=rows.device)
        group = (at >= m).long() + (at >= m + n).long()  # memory in front, inputs, memory behind
        later = (at > at[:, None]) & (group[:, None] == 1)
        hidden = (group > group[:, None]) | later
        for layer in self.layers:
            rows = layer(rows, src_mask=hidden)
        return rows[:, m : m + n], rows[:, m + n :]
