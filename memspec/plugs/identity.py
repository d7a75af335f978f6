"""When two factories are one, and what a factory is called: results must never land on another memory's card."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

import torch


def same_factory(a: Any, b: Any) -> bool:
    """Whether two factories build the same memories: one object, or made of the same parts.

    A partial is its function and arguments; a function made anew by the same lines is its code, its defaults and what
    it closes over. Anything else is only itself.
    """
    a, b = _bare(a), _bare(b)
    if a is b:
        return True
    if isinstance(a, functools.partial) and isinstance(b, functools.partial):
        return same_factory(a.func, b.func) and _same((a.args, a.keywords), (b.args, b.keywords))
    if isinstance(a, types.FunctionType) and isinstance(b, types.FunctionType):
        return a.__code__ is b.__code__ and _same(_parts(a), _parts(b))
    if isinstance(a, types.MethodType) and isinstance(b, types.MethodType):
        return a.__self__ is b.__self__ and a.__func__ is b.__func__
    return False


def name_of(factory: Any) -> str:
    """``module:name``, with the arguments of a partial behind it: ``mypkg:MyMemory(lr=0.5)``."""
    factory = _bare(factory)
    arguments = ""
    if isinstance(factory, functools.partial):
        given = [_shown(x) for x in factory.args] + [f"{name}={_shown(x)}" for name, x in factory.keywords.items()]
        arguments, factory = f"({', '.join(given)})", factory.func
    return f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', type(factory).__name__)}{arguments}"


def whereabouts(factory: Any) -> str:
    """What a factory is and where it was written, to tell two of one name apart."""
    factory = _bare(factory)
    inner = factory.func if isinstance(factory, functools.partial) else factory
    kind = "a class" if isinstance(inner, type) else f"a {type(inner).__name__}"
    if isinstance(factory, functools.partial):
        kind = f"a partial of {kind}"
    try:
        return f"{kind} at {inspect.getsourcefile(inner)}:{inspect.getsourcelines(inner)[1]}"
    except (TypeError, OSError):
        return kind


def _bare(factory: Any) -> Any:
    """A partial without arguments is its function."""
    while isinstance(factory, functools.partial) and not factory.args and not factory.keywords:
        factory = factory.func
    return factory


def _parts(function: types.FunctionType) -> tuple[Any, ...]:
    closure = tuple(_content(cell) for cell in function.__closure__ or ())
    return function.__defaults__, function.__kwdefaults__, closure


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return cell


def _same(a: Any, b: Any) -> bool:
    """Whether two arguments are equal; what cannot be compared is equal only to itself."""
    if a is b:
        return True
    if callable(a) and callable(b):
        return same_factory(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(value, b[name]) for name, value in a.items())
    try:
        return bool(a == b)
    except Exception:
        return False


def _shown(value: Any) -> str:
    """An argument in a name: a literal as it is written, anything else by its kind (never an address)."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if type(value) in (tuple, list):
        inner = ", ".join(map(_shown, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    return str(getattr(value, "__qualname__", type(value).__qualname__))
