"""TransformerMemoryLayer: attention to the last few tokens, and a memory for what came before."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked, refused
from memspec.reference.layers.held import HeldMemory, Named
from memspec.reference.layers.interface import Interface, by_head, silent


class WindowState(NamedTuple):
    """``keys``, ``values [B, A, W - 1, Da]`` of the tokens last seen, ``seen [B]`` how many there were (int64), ``memory``."""

    keys: Tensor
    values: Tensor
    seen: Tensor
    memory: Any


class TransformerMemoryLayer(SequenceModel):
    """A transformer layer whose attention sees ``window`` tokens, and whose memory holds the rest.

    ``h = x + attention(LN x) + W_o read(M)``, ``y = h + FF(LN h)``, where M is written by the tokens as they pass. W_o
    starts at zero, and the layer as one without a memory, bit for bit.

    Args:
        input_size: width of tokens and outputs.
        hidden_size: width of the feed-forward part.
        num_heads: attention heads, and independent memories; None = as many of 1, 2, 4 as divide ``input_size``.
        window: tokens that attention sees, with that which asks.
        memory, memory_dim, memory_size, gates: as of :class:`~memspec.reference.layers.memory.MemoryLayer`.

    Raises:
        ValueError: if the heads do not divide the width.

    Source: TransformerMemoryLayer in mwasifanwar/neural_memory_architectures; Vaswani et al. 2017 with the norms before;
    a memory beside a window as in Munkhdalai, Faruqui, Gopal 2024, "Leave No Context Behind".
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        hidden_size: Count,
        num_heads: Count | None = None,
        window: Count = 16,
        memory: Named = "DeltaMemory",
        memory_dim: Count = 32,
        memory_size: Count = 128,
        gates: bool = True,
    ) -> None:
        super().__init__()
        heads = next(n for n in (4, 2, 1) if input_size % n == 0) if num_heads is None else num_heads
        if input_size % heads:
            raise refused(self, "num_heads", heads, f"a divisor of input_size = {input_size}")
        self.input_size = self.output_size = input_size
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(input_size)
        self.attention = nn.Linear(input_size, 3 * input_size, bias=False)
        self.mixed = nn.Linear(input_size, input_size)
        self.interface = Interface(input_size, heads, memory_dim, gates)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size, heads)
        self.output = silent(heads * memory_dim, input_size)
        self.feed = nn.Sequential(
            nn.LayerNorm(input_size), nn.Linear(input_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, input_size)
        )

    def initial_state(self, batch: int) -> WindowState:
        empty = self.mixed.weight.new_zeros(batch, self.heads, self.window - 1, self.input_size // self.heads)
        seen = torch.zeros(batch, dtype=torch.int64, device=empty.device)
        return WindowState(empty, empty.clone(), seen, self.held.start(batch))

    def run(self, xs: Tensor, state: WindowState) -> tuple[Tensor, WindowState]:
        tokens = self.norm(xs)
        attended, keys, values = self._attended(tokens, state)
        answers, memory = self.held.scan(state.memory, *by_head(self.interface(tokens)))
        hidden = xs + attended + self.output(answers.permute(2, 0, 1, 3).flatten(-2))
        return hidden + self.feed(hidden), WindowState(keys, values, state.seen + len(xs), memory)

    def _attended(self, tokens: Tensor, state: WindowState) -> tuple[Tensor, Tensor, Tensor]:
        """What each token attends to ``[T, B, D]``, and the keys and values that later ones may still see."""
        steps, room = len(tokens), self.window - 1
        rows = self.attention(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 1, 3, 0, 4)
        queries, new_keys, new_values = rows.unbind(0)
        keys, values = torch.cat((state.keys, new_keys), -2), torch.cat((state.values, new_values), -2)
        # Row t asks; column c is token c - room of this run, or one before it where that is negative.
        t = torch.arange(steps, device=tokens.device)[:, None]
        at = torch.arange(room + steps, device=tokens.device) - room
        near = (at <= t) & (at > t - self.window)
        there = at >= -state.seen[:, None, None, None]
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=near & there)
        attended: Tensor = self.mixed(seen.permute(2, 0, 1, 3).flatten(-2))
        return attended, keys[..., steps:, :], values[..., steps:, :]
