"""A memory that a network holds: started for a batch, written and read through gates.

A network gives every token a step (how far it is written) and a decay (how much of what is held is left before it). The
rules of matrix memories take both as arguments, and run over a whole segment at once (``scan``). Any other memory is
written token by token: what a write makes of the state counts by the step, ``s + step (write(s) - s)``, and what is held
moves towards a fresh state as it decays.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from memspec.functional import map_state, state_tensors
from memspec.protocol import Functional
from memspec.randomness import made_from

OPEN = 4.0
"""Bias of the decay gates: at first a token leaves .98 of what is held."""


@runtime_checkable
class Scans(Protocol):
    """A Functional memory whose rule takes gates and a whole segment.

    ``queries``, ``keys [..., N, Dk]``, ``values [..., N, Dv]``; ``step [..., N]`` multiplies the memory's own step, and the
    logarithm ``log_decay [..., N]`` adds to that of its own decay; None = 1 and 0. Query t is answered once row t is
    written.
    """

    def scan(
        self, state: Any, queries: Tensor, keys: Tensor, values: Tensor, step: Tensor | None, log_decay: Tensor | None
    ) -> tuple[Tensor, Any]: ...


class HeldMemory(nn.Module):
    """``heads`` independent memories of one kind, for a batch of sequences.

    Args:
        memory: what is held; its slow weights are weights of the network.
        heads: H.
    """

    start_seed: Tensor

    def __init__(self, memory: Functional, heads: int = 1) -> None:
        super().__init__()
        self.memory = memory
        self.heads = heads
        self.register_buffer("start_seed", torch.randint(2**62, ()))  # of memories that start from random numbers

    def start(self, batch: int) -> Any:
        """Fresh states with leading dimensions ``[B, H]``, the same for each sequence."""
        seed = int(self.start_seed)
        heads = made_from(seed, lambda: self.memory.init_state((self.heads,)))
        return map_state(lambda part: part.expand(batch, *part.shape), heads)

    def scan(
        self,
        state: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        step: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Answers ``[B, H, N, Dv]``, that to query t as soon as row t is written, and the state after all rows.

        Args:
            state: ``[B, H]`` states.
            queries, keys, values: ``[B, H, N, D]``.
            step, log_decay: ``[B, H, N]``; step in [0, 1], log_decay at most 0.
        """
        if isinstance(self.memory, Scans):
            return self.memory.scan(state, queries, keys, values, step, log_decay)
        answers = []
        for t in range(keys.shape[-2]):
            rows = slice(t, t + 1)
            state = self.write(
                state,
                keys[..., rows, :],
                values[..., rows, :],
                None if step is None else step[..., t],
                None if log_decay is None else log_decay[..., t],
            )
            answers.append(self.memory.read(state, queries[..., rows, :]))
        return torch.cat(answers, -2), state

    def write(self, state: Any, keys: Tensor, values: Tensor, step: Tensor | None, log_decay: Tensor | None) -> Any:
        """The state after one call of ``write`` that counts by ``step [B, H]``, on what ``log_decay [B, H]`` leaves."""
        if log_decay is not None:
            state = mixed(self.start(len(keys)), state, log_decay.exp())
        after = self.memory.write(state, keys, values)
        return after if step is None else mixed(state, after, step)

    def read(self, state: Any, queries: Tensor) -> Tensor:
        """``[B, H, N, Dv]``."""
        return self.memory.read(state, queries)


def mixed(old: Any, new: Any, share: Tensor) -> Any:
    """``old + share (new - old)`` for every tensor of a state; what is counted in integers is the new where the share is not 0.

    Args:
        share: ``[B, H]`` in [0, 1]; at 0 every bit is the old one's, at 1 the new one's.

    Raises:
        ValueError: if the state has grown, so that old and new have no common shape.
    """

    def mix(was: Tensor, now: Tensor) -> Tensor:
        if was.shape != now.shape:
            raise ValueError(
                f"a state of {tuple(was.shape)} has become one of {tuple(now.shape)}: a memory that grows cannot be "
                "written by shares; build the layer with gates=False"
            )
        part = share.to(was.dtype if was.is_floating_point() else share.dtype)
        part = part.reshape(*share.shape, *(1,) * (was.ndim - share.ndim))
        if was.is_floating_point():
            return torch.lerp(was, now, part)
        return torch.where(part > 0, now, was)

    waiting = iter(state_tensors(new))
    return map_state(lambda was: mix(was, next(waiting)), old)
