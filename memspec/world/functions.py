"""Functions that code in a hurry replaces for the whole process: whatever can be called in the modules that everything stands on.

What is watched is every name of these modules, not a list of functions. A namespace is compared as a whole with a copy
of it, which where nothing changed takes a fraction of a microsecond for each hundred names.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import torch

# fmt: off
MODULES = frozenset((
    "builtins", "os", "posixpath", "sys", "time", "random", "signal", "json", "json.decoder", "json.encoder",
    "pickle", "copy", "io", "math", "operator", "warnings", "threading", "tempfile", "subprocess", "socket",
    "select", "gc", "contextlib", "functools", "itertools", "collections", "inspect", "types", "dataclasses",
    "faulthandler", "pytest", "multiprocessing", "torch", "torch.nn", "torch.nn.functional", "torch.nn.utils",
    "torch.nn.init", "torch.autograd", "torch.linalg", "torch.random", "torch.serialization", "torch.cuda",
    "torch.testing", "torch.func", "numpy", "numpy.random", "numpy.linalg",
))
"""Watched where they are imported."""
# fmt: on
CLASSES: tuple[type, ...] = (torch.Tensor, torch.nn.Module, torch.Generator)
DATA = {("tempfile", "tempdir")}
"""What is no function and is changed as they are."""
PASSING = ("last_",)
"""How names begin that Python sets as it goes (the last exception)."""
_ABSENT: Any = object()


class Namespace:
    """The names of a module or class at one time."""

    __slots__ = ("names", "owner", "values")

    def __init__(self, owner: Any) -> None:
        self.owner, self.names = owner, dict(vars(owner))
        self.values = tuple(self.names.values())

    def holds(self) -> bool:
        """Whether they are the same now: values in their order are compared several times as fast as keys are looked up."""
        try:
            return tuple(vars(self.owner).values()) == self.values  # what is identical is equal, without being asked
        except Exception:  # two different values of which one cannot be compared
            return False


tempfile.gettempdir()  # is looked up once; from now on a change is one
_owners: tuple[int, list[Any]] = (-1, [])
_known: dict[int, Namespace] = {}


def snapshot() -> list[Namespace]:
    """The namespaces now; the same objects as before where nothing has changed."""
    found = []
    for owner in _watched():
        known = _known.get(id(owner))
        if known is None or not known.holds():
            known = _known[id(owner)] = Namespace(owner)
        found.append(known)
    return found


def replaced(before: list[Namespace]) -> list[tuple[Any, str, Any, Any]]:
    """What can be called and is not what it was: the owner, the name, what it was and what it is."""
    return [
        (space.owner, name, was, vars(space.owner).get(name, _ABSENT))
        for space in before
        if not space.holds()
        for name, was in _differing(space.owner, space.names)
    ]


def restore(owner: Any, name: str, was: Any) -> None:
    """Put one back."""
    if was is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, was)


def by_import(owner: Any, new: Any, imported: set[str]) -> bool:
    """Whether libraries that were imported meanwhile, whose modules those are, have put ``new`` there."""
    code = getattr(new, "__globals__", None) or {}
    module = str(code.get("__name__") or getattr(new, "__module__", None) or "")
    root = module.partition(".")[0]
    return root == _name(owner).partition(".")[0] or root in {name.partition(".")[0] for name in imported}


def shown(owner: Any, name: str) -> str:
    """One of them as code has it."""
    return f"{_name(owner)}.{name}"


def _watched() -> list[Any]:
    global _owners
    if _owners[0] != len(sys.modules):
        modules = [sys.modules[name] for name in MODULES if name in sys.modules]
        _owners = len(sys.modules), [*modules, *CLASSES]
    return _owners[1]


def _differing(owner: Any, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    now = vars(owner)
    for name, was in names.items():
        changed = now.get(name, _ABSENT) is not was
        watched = callable(was) or (_name(owner), name) in DATA
        if changed and watched and not name.startswith(PASSING):
            yield name, was
    if isinstance(owner, type):  # a name of its own hides that of a base class; modules have them by imports
        for name in [name for name, new in now.items() if name not in names and callable(new)]:
            yield name, _ABSENT


def _name(owner: Any) -> str:
    return (
        f"{owner.__module__}.{owner.__qualname__}" if isinstance(owner, type) else str(vars(owner).get("__name__", ""))
    )
