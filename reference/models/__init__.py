"""memspec.reference.models: networks that carry a memory, under the names that their sources use.

Those that run over sequences are Recurrent plugs; their constructors take the sources' names (``input_size``,
``hidden_size``, ``output_size``, ``memory_size``, ``memory_dim``), and no two of these need be equal.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "DifferentiableNeuralComputer": "native",
    "MemoryAugmentedNetwork": "augmented",
    "MemoryEnhancedRNN": "stacked",
    "MemoryTransformer": "transformer",
    "NeuralTuringMachine": "native",
    "ReasoningNetwork": "reasoning",
    "TemporalMemoryModel": "temporal",
}
"""Every model, and the module of this package that holds it."""

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    model = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = model
    return model


def __dir__() -> list[str]:
    return sorted(__all__)
