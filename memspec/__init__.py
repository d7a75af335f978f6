"""memspec: a conformance suite for neural memories.

``pytest suites --memory=mypkg:MyMemory`` tells whether a memory keeps the contract, how fast it adapts, how much it
holds, what it forgets, what order it keeps, how it scales and what it costs.

The public names below are imported on first use, so that ``import memspec`` (and the pytest plugin) stay cheap.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if not os.path.isdir(os.path.join(__path__[0], "reference")):
    # A checkout on the path, as with ``python -m pytest``: what stands in this package once built lies beside it.
    __path__.append(os.path.dirname(__path__[0]))

_HOMES = {
    "MemoryProtocol": "memspec.protocol",
    "MemorySpec": "memspec.protocol",
    "Size": "memspec.protocol",
    "Widths": "memspec.protocol",
    "Confident": "memspec.protocol",
    "Addressable": "memspec.protocol",
    "Slotted": "memspec.protocol",
    "Persistent": "memspec.protocol",
    "Auxiliary": "memspec.protocol",
    "Touching": "memspec.protocol",
    "Forgetting": "memspec.protocol",
    "Consolidating": "memspec.protocol",
    "Functional": "memspec.protocol",
    "Recurrent": "memspec.protocol",
    "FunctionalMemory": "memspec.functional",
    "Plug": "memspec.plugs.plug",
    "adapt": "memspec.plugs.adapting",
    "load_plug": "memspec.plugs.loading",
    "score": "memspec.running.scoring",
    "Card": "memspec.scorecard.card",
    "Bound": "memspec.judging.verdicts",
    "MemspecError": "memspec.errors",
    "PlugError": "memspec.errors",
    "BoundsError": "memspec.errors",
    "NotAsked": "memspec.errors",
    "CannotMeasure": "memspec.errors",
    "RecordError": "memspec.errors",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from memspec.errors import BoundsError as BoundsError
    from memspec.errors import CannotMeasure as CannotMeasure
    from memspec.errors import MemspecError as MemspecError
    from memspec.errors import NotAsked as NotAsked
    from memspec.errors import PlugError as PlugError
    from memspec.errors import RecordError as RecordError
    from memspec.functional import FunctionalMemory as FunctionalMemory
    from memspec.judging.verdicts import Bound as Bound
    from memspec.plugs.adapting import adapt as adapt
    from memspec.plugs.loading import load_plug as load_plug
    from memspec.plugs.plug import Plug as Plug
    from memspec.protocol import Addressable as Addressable
    from memspec.protocol import Auxiliary as Auxiliary
    from memspec.protocol import Confident as Confident
    from memspec.protocol import Consolidating as Consolidating
    from memspec.protocol import Forgetting as Forgetting
    from memspec.protocol import Functional as Functional
    from memspec.protocol import MemoryProtocol as MemoryProtocol
    from memspec.protocol import MemorySpec as MemorySpec
    from memspec.protocol import Persistent as Persistent
    from memspec.protocol import Recurrent as Recurrent
    from memspec.protocol import Size as Size
    from memspec.protocol import Slotted as Slotted
    from memspec.protocol import Touching as Touching
    from memspec.protocol import Widths as Widths
    from memspec.running.scoring import score as score
    from memspec.scorecard.card import Card as Card


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'memspec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
