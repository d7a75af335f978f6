"""Plugs: "mypkg:MyMemory(lr=0.5)" -> something that builds fresh memories, with one clear message for every wrong use.

A plug knows how its factory wants to be called, what the built memory declares and can do, and how to build many
of them. Experiments and suites see memories only through it.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import functools
import importlib
import importlib.util
import inspect
import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memspec.errors import CannotMeasure, PlugError
from memspec.fixtures.streams import generator_states, seed_of, seeded, set_generator_states
from memspec.protocol import MemoryFactory, MemorySpec, capabilities_of, spec_of

METHODS = ("reset", "update", "query")
SYNONYMS = {
    "update": ("write", "store", "add", "insert", "put", "memorize", "learn", "fit", "partial_fit", "append"),
    "query": ("read", "retrieve", "search", "recall", "lookup", "get", "predict"),
    "reset": ("clear", "reset_parameters", "reset_memory", "reset_state", "init_state", "erase"),
}
SLOW_BUILD = 0.02
"""Seconds of construction above which fresh memories are copied from a pristine one instead of built."""

CLOCK = {"memory": 0.0}
"""Seconds spent in memories' own constructors and methods since the process started."""


@dataclass(frozen=True)
class Shape:
    """The dimensions a memory is built with; ``capacity`` in pairs."""

    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128


@dataclass(eq=False)
class Plug:
    """A named way to build fresh memories.

    Attributes:
        name: what the user wrote, and what reports show.
        factory: called with those of key_dim, value_dim, capacity that its signature names, and ``kwargs``.
        kwargs: literal keyword arguments written behind the name.
    """

    name: str
    factory: MemoryFactory
    kwargs: dict[str, Any] = field(default_factory=dict)
    _pristine: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)
    _slow: bool = field(default=False, repr=False)
    _built: int = field(default=0, repr=False)

    # ---- building ---------------------------------------------------------------------------------------------

    @cached_property
    def accepts(self) -> frozenset[str]:
        """Those of key_dim, value_dim, capacity (and memory_dim) that the factory takes from the harness."""
        try:
            parameters = inspect.signature(self.factory).parameters.values()
        except (TypeError, ValueError):
            return frozenset({"key_dim", "value_dim", "capacity"} - self.kwargs.keys())
        wanted = {"key_dim", "value_dim", "capacity"}
        taken = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} & {
            *wanted,
            "memory_dim",
        }
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            taken |= wanted
        return frozenset(taken - self.kwargs.keys())

    def build(self, shape: Shape | None = None, seed: int = 0, **extra: Any) -> Any:
        """A fresh memory of this shape, constructed under ``seed``; its prints are swallowed.

        Where construction is slow (above ``SLOW_BUILD`` seconds), a deep copy of a pristine one built under seed 0.

        Raises:
            PlugError: if the factory refuses its arguments; shows the call and a three-line factory that would work.
        """
        shape = shape or self.shape()
        key = (shape, tuple(sorted(extra.items())))
        if self._slow and key in self._pristine:
            with contextlib.suppress(Exception):
                return copy.deepcopy(self._pristine[key])
        arguments: dict[str, Any] = {
            name: getattr(shape, name) for name in ("key_dim", "value_dim", "capacity") if name in self.accepts
        }
        arguments |= self.kwargs | extra
        start = time.perf_counter()
        try:
            with seeded(seed), contextlib.redirect_stdout(io.StringIO()):
                memory = self.factory(**arguments)
        except (Exception, SystemExit) as error:
            raise PlugError(self._refused(arguments, error)) from error
        took = time.perf_counter() - start
        CLOCK["memory"] += took
        self._built += 1
        # The first construction may pay for imports and warm-up, so only later ones are judged slow.
        self._slow = self._slow or (self._built > 1 and took > SLOW_BUILD)
        if self._slow:
            with contextlib.suppress(Exception):
                self._pristine[key] = copy.deepcopy(memory)
        self._check_methods(memory)
        return memory

    def shape(self, key_dim: int = 64, value_dim: int = 64, capacity: int = 128) -> Shape:
        """The nearest shape this plug can be built with: fixed dimensions win, ``auto`` memories are square.

        Raises:
            CannotMeasure: if a dimension is neither taken by the factory nor told by the memory.
        """
        spec = self.spec
        fixed = self._fixed
        key_dim, value_dim = fixed.get("key_dim", key_dim), fixed.get("value_dim", value_dim)
        if spec.association == "auto":
            value_dim = key_dim
        capacity = spec.capacity or fixed.get("capacity", capacity)
        return Shape(key_dim, value_dim, capacity)

    def needs_free(self, *names: str) -> None:
        """Skip with a reason unless the factory takes each of these dimensions from the harness.

        Raises:
            CannotMeasure: naming the dimension that is fixed.
        """
        for name in names:
            if name not in self.accepts:
                raise CannotMeasure(f"{self.name} does not take {name}, so it cannot be varied")

    @cached_property
    def _fixed(self) -> dict[str, int]:
        """Dimensions the harness cannot choose: given as literals, or read off a built memory."""
        fixed = {}
        probe = self._probe
        for name in ("key_dim", "value_dim", "capacity"):
            if name in self.accepts:
                continue
            number = self.kwargs.get(name, getattr(probe, name, None))
            if isinstance(number, int) and not isinstance(number, bool):
                fixed[name] = number
        return fixed

    @cached_property
    def _probe(self) -> Any:
        return self.build(Shape())

    @cached_property
    def spec(self) -> MemorySpec:
        """What the memory declares."""
        try:
            return spec_of(self._probe)
        except TypeError as error:
            raise PlugError(f"{self.name}: {error}") from error

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional capabilities the built memory has."""
        return capabilities_of(self._probe)

    def needs(self, *capabilities: str) -> None:
        """Raise :class:`~memspec.errors.NotAsked` unless the memory has all of these capabilities."""
        from memspec.errors import NotAsked

        for name in capabilities:
            if name not in self.capabilities:
                raise NotAsked(f"{self.name} is not {name}")

    def needs_free_values(self) -> None:
        """Raise :class:`~memspec.errors.NotAsked` where nobody can choose what is recalled.

        That is so for memories that recall the key itself, and for those that mean nothing before outer training.
        """
        from memspec.errors import NotAsked

        if self.spec.association == "auto":
            raise NotAsked(f"{self.name} recalls the key itself, so no other value can be stored under it")
        if self.spec.fidelity == "trained":
            raise NotAsked(f"{self.name} recalls only after outer training")

    @cached_property
    def parameter_count(self) -> int:
        """Elements of slow weights (``nn.Module`` parameters); 0 for a plain object."""
        memory = self._probe
        return sum(p.numel() for p in memory.parameters()) if isinstance(memory, torch.nn.Module) else 0

    # ---- messages ---------------------------------------------------------------------------------------------

    def _refused(self, arguments: dict[str, Any], error: BaseException) -> str:
        call = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        short = getattr(self.factory, "__name__", "Memory")
        return (
            f"{self.name}: the factory could not be called as {short}({call})\n"
            f"  it raised {type(error).__name__}: {error}\n"
            "  A factory that would work, in a file of yours:\n\n"
            "      def make(key_dim, value_dim, capacity):\n"
            f"          from {getattr(self.factory, '__module__', 'mypkg')} import {short}\n"
            f"          return {short}(...)          # your arguments, made from these three\n\n"
            "  and then --memory=that_file.py:make. Fixed arguments can also be written behind the name: "
            f"--memory='{self.name.split('(')[0]}(lr=0.5)'"
        )

    def _check_methods(self, memory: Any) -> None:
        missing = [name for name in METHODS if not callable(getattr(memory, name, None))]
        if not missing:
            return
        has = sorted(
            name
            for name in dir(memory)
            if not name.startswith("_") and name not in dir(torch.nn.Module) and callable(getattr(memory, name, None))
        )
        wanted = {}
        for name in sorted(missing, key=("update", "query", "reset").index):
            like = [s for s in SYNONYMS[name] if s in has]
            if name == "query" and not like and callable(memory):
                is_module = isinstance(memory, torch.nn.Module)
                if not is_module or type(memory).forward is not torch.nn.Module.forward:
                    like = ["forward" if is_module else "__call__"]
            if like:
                wanted[name] = like[0]
        lines = [
            f"{self.name}: {type(memory).__name__} has no {' and no '.join(missing)}.",
            "  A memory needs reset(), update(keys [N, Dk], values [N, Dv]) and query(keys [Q, Dk]) -> [Q, Dv].",
            f"  Methods found: {', '.join(has) or 'none'}.",
        ]
        arguments = ", ".join(f'{k}="{v}"' for k, v in wanted.items())
        if set(missing) - {"reset"} <= wanted.keys():
            adapt = f"memspec.adapt({type(memory).__name__}{', ' + arguments if arguments else ''})"
            lines.append(
                f"  Adapt it in a file of yours, then use --memory=that_file.py:Adapted :\n\n      Adapted = {adapt}\n"
            )
            if "reset" in missing and "reset" not in wanted:
                lines.append("  Without a reset method, adapt() rebuilds the memory instead.")
        else:
            lines.append(
                "  Name the methods that write and read: "
                f'memspec.adapt({type(memory).__name__}, update="...", query="...")'
            )
        raise PlugError("\n".join(lines))


# ---- loading --------------------------------------------------------------------------------------------------


def load_plug(text: str) -> Plug:
    """The plug that ``--memory=text`` names.

    Args:
        text: ``module:attribute`` or ``path/to/file.py:attribute``, either with literal keyword arguments behind it.

    Raises:
        PlugError: if it cannot be parsed, imported, found, called, or lacks a method.
    """
    module_name, attribute, kwargs = _parse(text)
    module = _import(module_name, text)
    factory: Any = module
    for part in attribute.split("."):
        owner = factory
        try:
            factory = getattr(owner, part)
        except AttributeError:
            public = [n for n in dir(owner) if not n.startswith("_")]
            near = difflib.get_close_matches(part, public, n=3, cutoff=0.5)
            listing = ", ".join(near) if near else ", ".join(public[:20]) or "nothing public"
            raise PlugError(
                f"--memory={text}: module {module_name} has no attribute {part!r}.\n"
                f"  {'Close matches' if near else 'It has'}: {listing}"
            ) from None
    if not callable(factory):
        raise PlugError(
            f"--memory={text}: {attribute} is a {type(factory).__name__}, not something that builds memories.\n"
            "  Name a class, or a function that returns a memory:\n\n"
            "      def make(key_dim, value_dim, capacity):\n          return MyMemory(key_dim, value_dim)\n"
        )
    return checked(Plug(text, factory, kwargs))


def as_plug(memory: Any) -> Plug:
    """A plug from whatever a user's own ``memory`` fixture returns: a plug, a ``module:name`` string, a class or factory.

    Raises:
        PlugError: for anything else; an instance is refused, because fresh memories have to be built.
    """
    if isinstance(memory, Plug):
        return memory
    if isinstance(memory, str):
        return load_plug(memory)
    if callable(memory) and not all(hasattr(memory, m) and not isinstance(memory, type) for m in METHODS):
        module = getattr(memory, "__module__", "")
        return checked(Plug(f"{module}:{getattr(memory, '__qualname__', type(memory).__name__)}", memory))
    raise PlugError(
        f"the memory fixture returned a {type(memory).__name__}. Return the class, a function that builds one, or a "
        "'module:name' string: memspec builds many fresh memories from it"
    )


def checked(plug: Plug) -> Plug:
    """``plug``, after building one memory from it; where its widths cannot be told, one pair is tried.

    Raises:
        PlugError: at the first thing that does not work.
    """
    shape, probe = plug.shape(), plug._probe
    unknown = {"key_dim", "value_dim"} - plug.accepts - plug._fixed.keys()
    if unknown:
        device = device_of(probe)
        keys = torch.nn.functional.normalize(torch.ones(1, shape.key_dim), dim=-1).to(device)
        try:
            probe.update(keys, torch.ones(1, shape.value_dim, device=device))
            probe.query(keys)
            probe.reset()
        except Exception as error:
            raise PlugError(
                f"{plug.name}: the factory takes no {' and no '.join(sorted(unknown))}, and the memory it built does "
                f"not work at width {shape.key_dim}: {type(error).__name__}: {error}\n"
                "  Let the factory take key_dim and value_dim, or give the memory key_dim and value_dim attributes "
                "that say its fixed widths"
            ) from error
    return plug


PLUG_TEXT = re.compile(r"(?P<module>.+?):(?P<attribute>[A-Za-z_][\w.]*)\s*(?P<call>\(.*)?", re.DOTALL)


def _parse(text: str) -> tuple[str, str, dict[str, Any]]:
    """Module (or file), attribute, and literal keyword arguments."""
    match = PLUG_TEXT.fullmatch(text.strip())
    if match is None:
        module, _, attribute = text.partition("(")[0].rpartition(".")
        near = f"{module}:{attribute}" if module and ":" not in text else "memspec.reference:DeltaMemory"
        raise PlugError(
            f"--memory={text}: write module:attribute or path/to/file.py:attribute, for example --memory={near}"
        )
    head = f"{match['module']}:{match['attribute']}"
    if not match["call"]:
        return match["module"], match["attribute"], {}
    try:
        call = ast.parse(f"f{match['call']}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("that is not one call")
        if call.args or any(k.arg is None for k in call.keywords):
            raise PlugError(f"--memory={text}: give arguments by name, for example {head}(lr=0.5)")
        kwargs = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise PlugError(
            f"--memory={text}: cannot read the arguments ({error}); write literals by name, "
            f"for example {head}(lr=0.5, steps=3)"
        ) from error
    return match["module"], match["attribute"], kwargs


def _import(name: str, text: str) -> Any:
    cwd = str(Path.cwd())
    if cwd not in sys.path and "" not in sys.path:
        sys.path.insert(0, cwd)
    with contextlib.redirect_stdout(io.StringIO()):
        if name.endswith(".py"):
            return _import_file(Path(name), text)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                raise PlugError(
                    f"--memory={text}: there is no module {error.name!r}. Looked in {cwd} and on sys.path.\n"
                    "  Is the package installed in this environment, or did you mean path/to/file.py:attribute?"
                ) from error
            raise PlugError(f"--memory={text}: importing {name} failed: {type(error).__name__}: {error}") from error
        except (Exception, SystemExit) as error:
            raise PlugError(f"--memory={text}: importing {name} failed: {type(error).__name__}: {error}") from error


def _import_file(path: Path, text: str) -> Any:
    if not path.is_file():
        raise PlugError(f"--memory={text}: there is no file {path} (looked from {Path.cwd()})")
    path = path.resolve()
    name = f"memspec_plug_{path.stem}_{seed_of(path):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that classes defined there can be pickled
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # a factory there may import its neighbours, now or when it is called
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PlugError(f"--memory={text}: running {path} failed: {type(error).__name__}: {error}") from error
    return module


# ---- adapting -------------------------------------------------------------------------------------------------


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


# ---- looking inside -------------------------------------------------------------------------------------------


def tensors_in(thing: object, depth: int = 6) -> Iterator[Tensor]:
    """Every tensor (and numpy array, as a tensor) reachable from an object's attributes, each once."""
    seen: set[int] = set()

    def walk(part: Any, level: int) -> Iterator[Tensor]:
        if id(part) in seen or level > depth:
            return
        seen.add(id(part))
        if isinstance(part, Tensor):
            yield part
        elif type(part).__module__ == "numpy" and hasattr(part, "dtype") and part.dtype.kind in "fiub":
            yield torch.as_tensor(part)
        elif isinstance(part, dict):
            for value in part.values():
                yield from walk(value, level + 1)
        elif isinstance(part, (list, tuple, set, frozenset)) or type(part).__name__ == "deque":
            for value in part:
                yield from walk(value, level + 1)
        elif hasattr(part, "__dict__") and not isinstance(part, (type, type(sys))) and not callable_only(part):
            yield from walk(vars(part), level + 1)

    yield from walk(thing, 0)


def callable_only(part: object) -> bool:
    """True for functions and methods, whose attributes hold no state."""
    return inspect.isroutine(part)


def device_of(memory: object) -> torch.device:
    """Where a memory expects its inputs: its ``device``, else that of its first tensor, else the CPU."""
    device = getattr(memory, "device", None)
    if isinstance(device, (str, torch.device)):
        return torch.device(device)
    for tensor in tensors_in(memory):
        return tensor.device
    return torch.device("cpu")
