"""A memory that a layer or model holds, from whatever names one."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from memspec.networks import held
from memspec.protocol import Functional

Named = str | Callable[..., Any]
"""A memory by its name in :mod:`memspec.reference`, or what builds one from those of key_dim, value_dim and capacity that it names."""


def built(memory: Named, key_dim: int, value_dim: int, capacity: int) -> Functional:
    """A memory of these dimensions.

    Raises:
        ValueError: for a name that :mod:`memspec.reference` does not have, or what has no functional form.
    """
    factory = memory
    if isinstance(memory, str):
        reference = importlib.import_module("memspec.reference")
        if memory not in reference.__all__:
            raise ValueError(f"memory is {memory!r}; memspec.reference has {', '.join(sorted(reference.__all__))}")
        factory = getattr(reference, memory)
    assert callable(factory)
    given = {"key_dim": key_dim, "value_dim": value_dim, "capacity": capacity}
    named = inspect.signature(factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in named.values()):
        given = {name: number for name, number in given.items() if name in named}
    made = factory(**given)
    if not isinstance(made, Functional):
        raise ValueError(
            f"{type(made).__name__} has no functional form (init_state, write, read), which a network needs"
        )
    return made


class HeldMemory(held.HeldMemory):
    """``heads`` independent memories of one kind, for a batch of sequences.

    Args:
        memory: which; see :data:`Named`.
        key_dim, value_dim, capacity: of each.
        heads: H.
    """

    def __init__(self, memory: Named, key_dim: int, value_dim: int, capacity: int, heads: int = 1) -> None:
        super().__init__(built(memory, key_dim, value_dim, capacity), heads)
