"""The reference memories that are installed; none of them is imported."""

from __future__ import annotations

import importlib

PACKAGE = "memspec.reference"


def reference_names() -> list[str]:
    """The name of each, such as ``DeltaMemory``."""
    return sorted(importlib.import_module(PACKAGE).__all__)


def reference_plugs() -> list[str]:
    """A plug for each, such as ``memspec.reference:DeltaMemory``."""
    return [f"{PACKAGE}:{name}" for name in reference_names()]
