"""memspec.reference.layers: a memory inside a network, any Functional memory of the protocol.

Each layer projects what passes through it to keys, values and queries, and predicts for every token how far it is
written and how much of what is held it leaves; what comes out of the memory passes a linear map that starts at zero, so
that adding a layer changes nothing at first.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "DynamicMemoryLayer": "dynamic",
    "MemoryLayer": "memory",
    "RecurrentMemoryLayer": "recurrent",
    "TransformerMemoryLayer": "transformer",
}
"""Every layer, and the module of this package that holds it."""

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    layer = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = layer
    return layer


def __dir__() -> list[str]:
    return sorted(__all__)
