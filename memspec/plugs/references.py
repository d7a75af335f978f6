"""The reference memories and networks that are installed; none of them is imported."""

from __future__ import annotations

import importlib

PACKAGE = "memspec.reference"
NETWORKS = ("memspec.reference.layers", "memspec.reference.models")
"""Packages of networks that carry a memory."""


def reference_names() -> list[str]:
    """The name of each, such as ``DeltaMemory``."""
    return sorted(importlib.import_module(PACKAGE).__all__)


def reference_plugs() -> list[str]:
    """A plug for each, such as ``memspec.reference:DeltaMemory``."""
    return [f"{PACKAGE}:{name}" for name in reference_names()]


def network_plugs() -> list[str]:
    """A plug for each network, such as ``memspec.reference.layers:MemoryLayer``."""
    return [f"{package}:{name}" for package in NETWORKS for name in sorted(importlib.import_module(package).__all__)]
