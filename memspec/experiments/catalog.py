"""Every experiment and every scoring, by name; imported only where all of them are needed."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import memspec.experiments as package
from memspec.experiments.base import Experiment, Scoring, Setting

HELPERS = {"base", "catalog", "decode"}
OF_PYTHON = ("facts",)
"""Axes whose data come with Python: another Python's are not the same."""


@cache
def _modules() -> tuple[object, ...]:
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in HELPERS)
    return tuple(importlib.import_module(f"{package.__name__}.{name}") for name in names)


@cache
def experiments() -> dict[str, Experiment]:
    """All experiments by name."""
    found = (thing for module in _modules() for thing in vars(module).values())
    return {e.name: e for e in found if isinstance(e, Experiment)}


@cache
def scorings() -> tuple[Scoring, ...]:
    """All scorings, in the order of their modules."""
    return tuple(s for module in _modules() for s in getattr(module, "SCORES", ()))


@cache
def settings() -> dict[str, type[Setting]]:
    """The setting class each experiment takes, by experiment name (``Experiment.setting``)."""
    return {name: e.setting for name, e in experiments().items()}
