"""TitansMemory beside titans-pytorch's NeuralMemory: the same rows stored, ending in the same weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from timing import Row, in_turn
from torch import Tensor

SIZES = ((64, 64, 1), (64, 64, 8), (64, 256, 4), (128, 128, 4))
"""Width, rows, batch."""
THETA, ETA, ALPHA = 0.01, 0.9, 0.02


def titans_peer(seconds: float) -> Iterator[Row]:
    """Storing a sequence, all gradients at the initial weights: ours with one chunk, theirs with ``batch_size=None``.

    Theirs gets identity key and value maps, constant gates and our initial weights. It also keeps the weights after
    every row, which a causal read needs and ours does not make: that is part of what the ratio shows.
    """
    from titans_pytorch import MemoryMLP, NeuralMemory

    from memspec.reference import TitansMemory

    for width, rows, batch in SIZES:
        torch.manual_seed(0)
        ours = TitansMemory(
            width, width, depth=2, expansion=4, theta=THETA, eta=ETA, alpha=ALPHA, chunk=rows, max_grad_norm=None
        )
        theirs = NeuralMemory(
            width,
            chunk_size=1,
            model=MemoryMLP(width, depth=2, expansion_factor=4),
            mem_model_norm_add_residual=False,
            pre_rmsnorm=False,
            store_memory_loss_fn=lambda p, t: (p - t).square().sum(-1),
            adaptive_step_transform=lambda step: torch.full_like(step, THETA),
            init_momentum_bias=math.log(ETA / (1 - ETA)),
            init_decay_bias=math.log(ALPHA / (1 - ALPHA)),
        )
        with torch.no_grad():
            for mine, other in zip(ours.initial, theirs.memory_model_parameters):
                other.copy_(mine.expand_as(other))
            theirs.to_keys.weight.copy_(torch.eye(width))
            theirs.to_values.weight.copy_(torch.eye(width))
        # Their keys and values come from one sequence, so the pairs are autoassociative; ours scales keys to length 1.
        sequence = torch.nn.functional.normalize(torch.randn(batch, rows, width), dim=-1)
        start = ours.init_state((batch,))

        def run_ours(ours: Any = ours, start: Any = start, sequence: Tensor = sequence) -> Tensor:
            return ours.write(start, sequence, sequence).now

        def run_theirs(theirs: Any = theirs, sequence: Tensor = sequence) -> Tensor:
            _, state = theirs.store_memories(sequence, return_surprises=False)
            last = state.states[0]
            return torch.cat([last[name].flatten(1) for name in theirs.memory_model_parameter_names], -1)

        with torch.no_grad():
            apart = float((run_ours() - run_theirs()).abs().max())
            seconds_ours, seconds_theirs = in_turn(run_ours, run_theirs, seconds)
        yield Row(
            "titans", f"Titans, {rows} rows of width {width} stored, batch {batch}", seconds_ours, seconds_theirs, apart
        )
