"""A memory that stores pairs in a list, and does what the number of pairs says: raise, hang, end its process, take all memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from memspec.errors import MemspecError

SOUND, RAISES, HANGS, EXITS, CRASHES, FILLS, INTERRUPTS = 16, 17, 18, 19, 20, 21, 22


class Faulty:
    """Answers the value of the nearest key; ``slow`` seconds a write."""

    def __init__(self, key_dim: int, value_dim: int, slow: float = 0.0) -> None:
        self.key_dim, self.value_dim, self.slow = key_dim, value_dim, slow
        self.reset()

    def reset(self) -> None:
        self.keys = torch.zeros(0, self.key_dim)
        self.values = torch.zeros(0, self.value_dim)

    def update(self, keys: Tensor, values: Tensor) -> None:
        time.sleep(self.slow)
        if len(keys) == RAISES:
            raise RuntimeError("no room left")
        while len(keys) == HANGS:
            pass
        if len(keys) == EXITS:
            os._exit(7)
        if len(keys) == CRASHES:
            os.kill(os.getpid(), signal.SIGSEGV)
        if len(keys) == INTERRUPTS:
            raise KeyboardInterrupt
        if len(keys) == FILLS:
            self.held = [torch.ones(1 << 26) for _ in range(1000)]
        self.keys = torch.cat([self.keys, keys])
        self.values = torch.cat([self.values, values])

    def query(self, keys: Tensor) -> Tensor:
        if not len(self.keys):
            return torch.zeros(len(keys), self.value_dim)
        return self.values[torch.cdist(keys, self.keys).argmin(-1)]


def counted(until: int, then: str, pipe: int) -> Iterator[int]:
    """So many numbers, and then something else; what a process is asked for."""
    yield from range(until)
    if then == "die":
        os._exit(4)
    if then == "raise":
        raise MemspecError("enough")
    if then == "hang":
        time.sleep(60)
