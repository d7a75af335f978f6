"""Plain memories with a spec made of one field and what it needs beside it; run as memories under test, by file."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from memspec.fixtures.plain import PlainLRU, PlainModule, PlainStore, PlainSums, check
from memspec.protocol import MemorySpec, Size, Widths


class Everything(PlainLRU):
    """The least recently used go first; it has the methods of every optional capability, though not all as they should be."""

    def read_weights(self, keys: Tensor) -> Tensor:
        check(keys, self.key_dim)
        return torch.ones(len(keys), self.capacity) / self.capacity

    def slot_values(self) -> Tensor:
        return torch.zeros(self.capacity, self.value_dim)

    def auxiliary_loss(self, keys: Tensor, values: Tensor) -> Tensor:
        return (keys.sum() - values.sum()).square()

    def consolidate(self) -> None:
        pass

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> dict[str, Tensor]:
        return {"sum": torch.zeros(*batch_shape, self.key_dim, self.value_dim)}

    def write(self, state: dict[str, Tensor], keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        return {"sum": state["sum"] + keys.mT @ values}

    def read(self, state: dict[str, Tensor], keys: Tensor) -> Tensor:
        return keys @ state["sum"]

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.key_dim)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, state + x

    def run(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return xs, state + xs.sum(0)


KINDS: dict[str, type] = {"store": PlainStore, "sums": PlainSums, "module": PlainModule, "all": Everything}


def memory(kind: str, declared: dict[str, Any]) -> type:
    """The class of this kind with ``MemorySpec(**declared)``; ``widths`` are given as nested dictionaries."""
    fields = dict(declared)
    if "widths" in fields:
        given = {name: Size(**v) if isinstance(v, dict) else v for name, v in fields["widths"].items()}
        fields["widths"] = Widths(**given)
    base = KINDS[kind]
    spec = dataclasses.replace(MemorySpec(), **fields)
    return type(base.__name__, (base,), {"spec": spec, "__module__": __name__})


def make(key_dim: int, value_dim: int, capacity: int, kind: str, declared: dict[str, Any]) -> Any:
    """The factory: ``declared.py:make(kind='store', declared={...})``."""
    cls = memory(kind, declared)
    sized = (key_dim, value_dim, capacity) if issubclass(cls, PlainStore) else (key_dim, value_dim)
    return cls(*sized)
