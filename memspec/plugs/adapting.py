"""Memories whose methods have other names, behind the protocol's three."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memspec.errors import PlugError
from memspec.protocol import MemoryFactory, MemorySpec
from memspec.randomness import generator_states, set_generator_states


def adapt(
    factory: Callable[..., Any],
    update: str = "update",
    query: str = "query",
    reset: str | None = None,
    spec: MemorySpec | None = None,
) -> MemoryFactory:
    """A factory of protocol memories, from one whose methods have other names.

    Args:
        factory: builds the object; called with those of key_dim, value_dim, capacity that its signature names.
        update: name of the method that stores ``(keys, values)``.
        query: name of the method that answers keys; a tuple answer counts as its first tensor.
        reset: name of the method that clears; None rebuilds the object.
        spec: what to declare.

    Returns:
        A factory with the signature of ``factory``; its memories delegate every other attribute to the object.
    """

    def make(**arguments: Any) -> Adapted:
        return Adapted(functools.partial(factory, **arguments), update, query, reset, spec)

    try:
        make.__signature__ = inspect.signature(factory)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        pass
    make.__name__ = make.__qualname__ = f"adapt({getattr(factory, '__name__', 'factory')})"
    make.__module__ = getattr(factory, "__module__", __name__)
    return make


class Adapted:
    """An object behind the protocol's three names; made by :func:`adapt`."""

    def __init__(
        self, build: Callable[[], Any], update: str, query: str, reset: str | None, spec: MemorySpec | None
    ) -> None:
        self._build, self._names = build, (update, query, reset)
        self._rng = generator_states() if reset is None else None
        self.inner = build()
        if spec is not None:
            self.spec = spec

    def __getattr__(self, name: str) -> Any:
        # Renamed methods are hidden: an object's own write and read are not the functional form of that name.
        if name.startswith("_") or name == "inner" or name in self._names:
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _method(self, name: str) -> Callable[..., Any]:
        method = getattr(self.inner, name, None)
        if not callable(method):
            raise PlugError(f"memspec.adapt: {type(self.inner).__name__} has no method {name!r}")
        return method

    def reset(self) -> None:
        if self._names[2] is not None:
            self._method(self._names[2])()
            return
        assert self._rng is not None
        now = generator_states()
        set_generator_states(self._rng)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.inner = self._build()
        finally:
            set_generator_states(now)

    def update(self, keys: Tensor, values: Tensor) -> None:
        self._method(self._names[0])(keys, values)

    def query(self, keys: Tensor) -> Tensor:
        answer = self._method(self._names[1])(keys)
        if isinstance(answer, (tuple, list)):
            tensors = [part for part in answer if isinstance(part, Tensor)]
            if not tensors:
                raise TypeError(
                    f"{type(self.inner).__name__}.{self._names[1]} returned {answer!r}, with no tensor in it"
                )
            answer = tensors[0]
        return torch.as_tensor(answer)
