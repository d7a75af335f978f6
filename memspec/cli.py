"""The command line: memspec score | compare | report | list | trial | selfcheck."""

from __future__ import annotations


def reference_names() -> list[str]:
    """Names of the reference memories that are installed."""
    import importlib

    return sorted(importlib.import_module("memspec.reference").__all__)


def main() -> None:
    raise SystemExit("not yet")
