"""Objects that look different, behind the protocol's three methods."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from memspec.errors import PlugError
from memspec.plugs import kinds
from memspec.plugs.kinds import KINDS, Call, Conversion, Kind, Methods
from memspec.plugs.sequences import adapted
from memspec.protocol import MemorySpec
from memspec.randomness import generator_states, set_generator_states

DIMENSIONS = ("key_dim", "value_dim", "capacity")
WIDTH = "dim"
"""The one width of a memory whose keys are as wide as its values."""
DRIVERS: dict[str, Callable[..., Any]] = {
    "index": kinds.Index,
    "estimator": kinds.Estimator,
    "mapping": kinds.Table,
    "recurrent": kinds.Recurrence,
}


def adapt(
    factory: Callable[..., Any],
    update: Call = None,
    query: Call = None,
    reset: Call = None,
    spec: MemorySpec | None = None,
    *,
    kind: Kind = "methods",
    arguments: Mapping[str, str] | None = None,
    batched: bool = False,
    numpy: bool = False,
    dtype: torch.dtype | None = None,
) -> Callable[..., Any]:
    """A factory of protocol memories, from one that builds something else.

    Args:
        factory: builds the object; called with those of key_dim, value_dim, capacity that its signature names.
        update, query: what stores ``(keys, values)`` and what answers keys: the name of a method, or a function that
            takes the object first. None is the kind's own. A tuple answer counts as its first tensor.
        reset: what clears; None rebuilds the object.
        spec: what to declare.
        kind: ``methods`` (as above); ``index``: a vector index that returns ids, such as faiss, hnswlib, usearch, a
            chromadb collection or scikit-learn's neighbours; ``estimator``: fit or partial_fit, and predict;
            ``mapping``: dict-likes; ``recurrent``: torch.nn's recurrent layers and cells, and modules like them, driven
            as a memory of pairs; ``sequence``: the same as what they are, sequence models (``update`` is then what runs
            over ``(module, xs [T, B, Dx], state)``, ``reset`` what makes the first state of ``(module, batch)``, and
            ``arguments`` name sizes such as ``input_size``; see :mod:`memspec.plugs.sequences`).
        arguments: what the factory calls its dimensions: ``{"d_model": "dim", "slots": "capacity"}``; ``dim`` is the one
            width of keys and values, ``row`` the sum of both.
        batched: the object takes a batch dimension first, ``[1, N, D]``.
        numpy: the object takes and answers numpy arrays.
        dtype: the object takes and answers numbers of this type.

    Returns:
        A factory; its memories delegate every other attribute to the object.

    Raises:
        PlugError: for a kind, or a dimension in ``arguments``, that there is not.
    """
    if kind not in KINDS:
        raise PlugError(f"memspec.adapt: kind is {kind!r}; there are {', '.join(KINDS)}")
    if kind == "sequence":
        return adapted(factory, run=update, start=reset, spec=spec, arguments=arguments)
    names = dict(arguments or {})
    unknown = [n for n in names.values() if n not in (*DIMENSIONS, WIDTH, "row")]
    if unknown:
        raise PlugError(
            f"memspec.adapt: arguments name the dimensions {', '.join(unknown)}; there are {', '.join(DIMENSIONS)}, "
            f"{WIDTH} (the one width of keys and values) and row (the sum of both)"
        )

    def make(**given: Any) -> Adapted:
        return Adapted(
            functools.partial(factory, **translated(names, given, taken)),
            (update, query, reset),
            spec,
            kind,
            Conversion(batched, numpy, dtype),
            {name: given[name] for name in DIMENSIONS if name in given},
        )

    taken: frozenset[str] | None = None
    with contextlib.suppress(TypeError, ValueError):
        signature = inspect.signature(factory)
        taken = frozenset(signature.parameters)
        if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            taken = None
        make.__signature__ = _signature(signature, names, kind)  # type: ignore[attr-defined]
    make.__name__ = make.__qualname__ = f"adapt({getattr(factory, '__name__', 'factory')})"
    make.__module__ = getattr(factory, "__module__", __name__)
    return make


def _signature(signature: inspect.Signature, names: Mapping[str, str], kind: Kind) -> inspect.Signature:
    """What the adapted factory takes: the factory's own parameters, with the dimensions by the protocol's names."""
    own = [p for p in signature.parameters.values() if p.name not in names]
    wanted = {name for name in names.values() if name in DIMENSIONS}
    if (names.keys() and {WIDTH, "row"} & set(names.values())) or kind != "methods":
        wanted |= {"key_dim", "value_dim"}  # the adapter needs them, whatever the object takes
    have = {p.name for p in own}
    positional = [p for p in own if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    rest = [p for p in own if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    added = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in DIMENSIONS if n in wanted - have]
    keywords = [p for p in rest if p.kind is p.KEYWORD_ONLY]
    return signature.replace(parameters=[*positional, *keywords, *added, *(p for p in rest if p not in keywords)])


def translated(names: Mapping[str, str], given: Mapping[str, Any], taken: frozenset[str] | None) -> dict[str, Any]:
    """The arguments of the object's own factory.

    Raises:
        ValueError: if it has one width, and keys and values are to have two.
    """
    out = {name: value for name, value in given.items() if name not in DIMENSIONS or taken is None or name in taken}
    for name, dimension in names.items():
        if name in given:  # written behind the plug's name
            continue
        if dimension == WIDTH:
            if given["key_dim"] != given["value_dim"]:
                raise ValueError(
                    f"{name} is the width of keys and of values: they cannot have {given['key_dim']} and {given['value_dim']}"
                )
            out[name] = given["key_dim"]
        elif dimension == "row":
            out[name] = given["key_dim"] + given["value_dim"]
        else:
            out[name] = given[dimension]
    if taken is None:
        out = {name: value for name, value in out.items() if name not in DIMENSIONS or not names}
    return out


class Adapted:
    """An object behind the protocol's three names; made by :func:`adapt`.

    Attributes:
        inner: the object.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        calls: tuple[Call, Call, Call],
        spec: MemorySpec | None,
        kind: Kind,
        convert: Conversion,
        dimensions: Mapping[str, int],
    ) -> None:
        self._build, self._calls, self._kind, self._convert = build, calls, kind, convert
        self._dimensions = dict(dimensions)
        # as bytes: this is no state of the memory
        self._rng = pickle.dumps(generator_states()) if calls[2] is None else b""
        self._start(build())
        if spec is not None:
            self.spec = spec

    def _start(self, inner: Any) -> None:
        self.inner = inner
        update, query, _ = self._calls
        if self._kind == "methods":
            self._driver: Any = Methods(inner, update, query, self._convert)
        else:
            self._driver = DRIVERS[self._kind](inner, update, query, self._dimensions["value_dim"])

    def __getattr__(self, name: str) -> Any:
        # Renamed methods are hidden: an object's own write and read are not the functional form of that name.
        if name.startswith("_") or name == "inner" or name in self._calls or self._kind != "methods":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def reset(self) -> None:
        """Call what clears; without it, build the object anew, from the same random numbers."""
        if self._calls[2] is not None:
            kinds.called(self.inner, self._calls[2])
            self._start(self.inner)
            return
        now = generator_states()
        set_generator_states(pickle.loads(self._rng))
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._start(self._build())
        finally:
            set_generator_states(now)

    def update(self, keys: Tensor, values: Tensor) -> None:
        if self._kind != "methods":
            self._refuse(keys, "key_dim")
            self._refuse(values, "value_dim")
            if len(keys) != len(values):
                raise ValueError(f"{len(keys)} keys and {len(values)} values")
            keys, values = self._typed(keys), self._typed(values)
        if len(keys) or not self._converts:
            self._driver.update(keys, values)

    def query(self, keys: Tensor) -> Tensor:
        if self._converts and not len(keys) and "value_dim" in self._dimensions:
            return keys.new_zeros(0, self._dimensions["value_dim"])
        if self._kind == "methods":
            answer: Tensor = self._driver.query(keys)
            return answer
        self._refuse(keys, "key_dim")
        return self._driver.query(self._typed(keys)).to(keys)

    def _typed(self, rows: Tensor) -> Tensor:
        """Rows in the type of number that the object wants."""
        return rows if self._convert.dtype is None else rows.to(self._convert.dtype)

    @property
    def _converts(self) -> bool:
        """Whether rows are given in a form in which none at all is no matter of course."""
        return self._kind != "methods" or self._convert.numpy

    def _refuse(self, rows: Tensor, name: str) -> None:
        width = self._dimensions[name]
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"got {tuple(rows.shape)}; {name} is {width}, so give [N, {width}]")
