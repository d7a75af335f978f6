"""memspec.reference.layers: a memory inside a network, any Functional memory of the protocol.

Each layer projects what passes through it to keys, values and queries, and predicts for every token how far it is
written and how much of what is held it leaves; what comes out of the memory passes a linear map that starts at zero, so
that adding a layer changes nothing at first.
"""

from __future__ import annotations

from memspec.reference.lazily import lazily

_HOME = {
    "DynamicMemoryLayer": "dynamic",
    "MemoryLayer": "memory",
    "RecurrentMemoryLayer": "recurrent",
    "TransformerMemoryLayer": "transformer",
}
"""Every layer, and the module of this package that holds it."""

__all__ = [*_HOME]

__getattr__, __dir__ = lazily(__name__, _HOME)
