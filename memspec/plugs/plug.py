"""Plugs: "mypkg:MyMemory(lr=0.5)" -> something that builds fresh memories, with one clear message for every wrong use.

A plug knows how its factory wants to be called, what the built memory declares and can do, and how to build many
of them. Experiments and suites see memories only through it.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import re
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from memspec.errors import CannotMeasure, PlugError, SaidByMemory
from memspec.failure import plain, raised
from memspec.plugs.meter import METER
from memspec.plugs.misnamed import misnamed
from memspec.plugs.offered import not_offered
from memspec.plugs.sequences import ALIKE, SIZES, first_inputs, is_recurrent, sizes_named, wrong_outputs
from memspec.plugs.widths import Fit, candidates, hints_of
from memspec.protocol import MemoryFactory, MemorySpec, Size, Widths, capabilities_of, spec_of
from memspec.randomness import made_from, unshared
from memspec.world.boundary import cross

METHODS = ("reset", "update", "query")
SYNONYMS = {
    "update": ("write", "store", "add", "insert", "put", "memorize", "learn", "fit", "partial_fit", "append"),
    "query": ("read", "retrieve", "search", "recall", "lookup", "get", "predict"),
    "reset": ("clear", "reset_parameters", "reset_memory", "reset_state", "init_state", "erase"),
}

CLOCK = {"memory": 0.0}
"""Seconds spent in memories' own constructors and methods since the process started."""


DIMENSIONS = frozenset({"key_dim", "value_dim", "capacity"})
"""What a memory is given by the harness."""
SMALL = (6, 5, 16)
"""Widths and capacity of the memories that laws build; tried at loading, as the default ones are."""
ANY = Size()
UNSHARED = unshared(0)


def is_sequence_model(thing: object) -> bool:
    """Whether something is a recurrent model, and no memory of the three methods."""
    return not all(callable(getattr(thing, name, None)) for name in METHODS) and is_recurrent(thing)


def abstract(thing: Any) -> str:
    """What to say of an abstract class."""
    unwritten = ", ".join(sorted(thing.__abstractmethods__))
    return f"{thing.__name__} is abstract, it has no {unwritten}; name a class that inherits from it and has them"


class Refused(PlugError):
    """A factory did not take its arguments."""


@dataclass(frozen=True)
class Shape:
    """The dimensions a memory is built with; ``capacity`` in pairs.

    Attributes:
        given: what is handed to the factory as its capacity, where a memory says that it holds another number of pairs
            than it is given; 0 = the capacity.
    """

    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128
    given: int = 0


@dataclass(eq=False)
class Plug:
    """A named way to build fresh memories.

    Attributes:
        name: what the user wrote, and what reports show.
        factory: called with those of key_dim, value_dim, capacity that its signature names, and ``kwargs``.
        kwargs: literal keyword arguments written behind the name.
        exact: dimensions and sizes that a setting names: no other is taken in their place; see :meth:`exactly`.
    """

    name: str
    factory: MemoryFactory
    kwargs: dict[str, Any] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    _held: dict[int, int | None] = field(default_factory=dict, init=False, repr=False)

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
        if any(p.kind is p.VAR_KEYWORD for p in parameters) and not sizes_named(self.factory, {}):
            taken |= wanted  # further keywords of a network are its own
        return frozenset(taken - self.kwargs.keys())

    def build(self, shape: Shape | None = None, seed: int = UNSHARED, **extra: Any) -> Any:
        """A fresh memory of this shape, constructed under ``seed``; its prints are swallowed.

        Always constructed, never copied, however long that takes: where a memory starts from depends on the seed alone.

        Raises:
            Refused: if the factory refuses its arguments; shows the call and a three-line factory that would work.
        """
        shape = shape or self.nearest()
        if METER.on:
            METER.count("build")
        sizes = {"key_dim": shape.key_dim, "value_dim": shape.value_dim, "capacity": shape.given or shape.capacity}
        arguments: dict[str, Any] = {name: size for name, size in sizes.items() if name in self.accepts}
        named = sizes_named(self.factory, self.kwargs)
        arguments |= (self.sizes if set(named) - extra.keys() else {}) | self.kwargs | extra
        start = time.perf_counter()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                memory = made_from(seed, lambda: cross("the constructor", lambda: self.factory(**arguments)))
        except (Exception, SystemExit) as error:
            raise Refused(self._refused(arguments, error)) from error
        CLOCK["memory"] += time.perf_counter() - start
        self._check_methods(memory)
        if METER.on:
            METER.attach(memory)
        return memory

    @cached_property
    def sizes(self) -> dict[str, int]:
        """What a sequence model is built with: no two sizes alike, or all alike where it works with nothing else."""
        named = sizes_named(self.factory, self.kwargs)
        unequal = {name: SIZES[name] for name in named}
        if not named or self.refused_sizes(unequal) is None:
            return unequal
        equal = dict.fromkeys(named, ALIKE)
        return equal if self.refused_sizes(equal) is None else unequal

    def refused_sizes(self, sizes: Mapping[str, int]) -> Exception | None:
        """What a sequence model of these sizes raises when it is built, or takes a few steps; None if nothing."""
        try:
            model = self.build(Shape(), **sizes)
            if is_sequence_model(model):
                cross("step and run", lambda: wrong_outputs(model, first_inputs(model)))
        except Exception as error:
            return error
        return None

    @cached_property
    def is_sequence_model(self) -> bool:
        """Whether what it builds has ``initial_state``, ``step`` and ``run`` in place of the three methods."""
        return is_sequence_model(self.probe)

    def shape(self, key_dim: int = 64, value_dim: int = 64, capacity: int = 128) -> Shape:
        """The shape of a setting: the nearest that this plug can be built with, or in :meth:`exactly` the very same.

        Raises:
            CannotMeasure: if the setting names a dimension that it cannot have.
            PlugError: if no shape can be built, written and read; with what was raised first.
        """
        exact = self.exact & DIMENSIONS
        if not exact:
            return self.nearest(key_dim, value_dim, capacity)
        asked = Shape(key_dim, value_dim, capacity)
        shape = self._fit.as_it_is(asked)
        if shape is None:
            if exact == DIMENSIONS:  # nothing else will do, so nothing else is tried
                raise CannotMeasure(self._fit.why_not(asked, exact))
            shape = self.nearest(key_dim, value_dim, capacity)
        if any(getattr(shape, name) != getattr(asked, name) for name in exact):
            raise CannotMeasure(self._fit.why_not(asked, exact))
        return shape

    def nearest(self, key_dim: int = 64, value_dim: int = 64, capacity: int = 128) -> Shape:
        """The nearest shape this plug can be built with, upwards where there is a choice.

        Fixed dimensions win, ``auto`` memories are square, and widths that it refuses are those it can have.

        Raises:
            PlugError: if no shape can be built, written and read; with what was raised first.
        """
        return self._fit.nearest(Shape(key_dim, value_dim, capacity))

    def exactly(self, names: Iterable[str]) -> Plug:
        """The same memory, measured at the very dimensions of these names that settings say, or not at all."""
        other = copy.copy(self)
        other.exact = frozenset(names)
        return other

    def square_shape(self, key_dim: int, value_dim: int, capacity: int = 128) -> Shape:
        """The nearest shape whose keys are as wide as its values, for what is stored under itself or asked again.

        Raises:
            CannotMeasure: if there is none.
        """
        shape = self.shape(key_dim, value_dim, capacity)
        for width in (shape.value_dim, shape.key_dim):
            if shape.key_dim != shape.value_dim and not self.exact & {"key_dim", "value_dim"}:
                shape = self.shape(width, width, capacity)
        if shape.key_dim != shape.value_dim:
            raise CannotMeasure(
                f"{self.name}: keys have {shape.key_dim} entries and values {shape.value_dim}, so no item can be both"
            )
        return shape

    def told(self, shape: Shape) -> Shape:
        """``shape`` with what the memory says of itself: fixed dimensions, its own capacity, values that are its keys."""
        fixed = self._fixed
        key_dim = fixed.get("key_dim", shape.key_dim)
        value_dim = key_dim if self.spec.association == "auto" else fixed.get("value_dim", shape.value_dim)
        if self.spec.capacity is None:
            return Shape(key_dim, value_dim, fixed.get("capacity", shape.capacity))
        return Shape(key_dim, value_dim, *self._room(shape.capacity))

    def _room(self, wanted: int) -> tuple[int, int]:
        """Pairs that a memory with a capacity of its own holds, so many if it can, and what it is given for that (0 = the
        same): it may hold one number whatever it is given, or a part of that."""
        fixed = self.spec.capacity or wanted
        usual, small = (self._says_it_holds(capacity) for capacity in (Shape().capacity, SMALL[2]))
        if fixed != usual or None in (usual, small) or usual == small:
            return fixed, 0
        held, given = self._says_it_holds(wanted), wanted
        if held is not None and held < wanted:
            given = -(-wanted * wanted // held)
            held = self._says_it_holds(given)
        return (fixed, 0) if held is None else (held, given if given != held else 0)

    def _says_it_holds(self, given: int) -> int | None:
        """The capacity in the spec of a memory that was given one; None if it says nothing, or takes none."""
        if "capacity" not in self.accepts:
            return None
        if given not in self._held:
            self._held[given] = None
            with contextlib.suppress(Refused, TypeError, SaidByMemory):
                built = self.probe if given == Shape().capacity else self.build(Shape(capacity=given))
                self._held[given] = cross("spec", lambda: spec_of(built)).capacity
        return self._held[given]

    @cached_property
    def _fit(self) -> Fit:
        return Fit(self, Shape(), Shape(*SMALL))

    def first_problem(self) -> str:
        """What is wrong with the answer to one pair, at the widths that experiments and laws use; empty if nothing is.

        Raises:
            PlugError: if no widths work at all, with what was raised first.
        """
        return next((p for p in self._problems() if p), "")

    def always_wrong(self) -> bool:
        """Whether the answer to one pair is wrong at all those widths, and not at one of them alone."""
        return all(self._problems())

    def _problems(self) -> tuple[str, ...]:
        """What is wrong with the answer to one pair, at each of the widths."""
        return tuple(self._fit.problem(shape) for shape in (self.nearest(), self.nearest(*SMALL)))

    @property
    def arguments(self) -> str:
        """The literal arguments behind the name, as written: ``(lr=0.5)``."""
        return "(" + ", ".join(f"{k}={v!r}" for k, v in self.kwargs.items()) + ")" if self.kwargs else ""

    @property
    def widths(self) -> Widths:
        """The widths and capacities it can have: declared in its spec, else found by trying."""
        return self._fit.widths

    def widths_found(self) -> str:
        """What is known of its widths and why, in one line; "any" where nothing is restricted."""
        return self._fit.describe()

    def needs_widths(self, key_dim: int, value_dim: int | None = None) -> None:
        """Skip with a reason unless a memory can have just these widths (``value_dim`` None: keys of that width).

        Raises:
            CannotMeasure: naming the nearest widths that it can have.
        """
        shape = self.nearest(key_dim, key_dim if value_dim is None else value_dim)
        if shape.key_dim != key_dim or shape.value_dim != (shape.value_dim if value_dim is None else value_dim):
            raise CannotMeasure(
                f"{self.name} cannot have keys of width {key_dim}; the nearest is {shape.key_dim} "
                f"(widths {self.widths_found()})"
            )

    def needs_free(self, *names: str) -> None:
        """Skip with a reason unless the factory takes each of these dimensions from the harness.

        Raises:
            CannotMeasure: naming the dimension that is fixed.
        """
        for name in names:
            if name not in self.accepts:
                raise CannotMeasure(f"{self.name} does not take {name}, so it cannot be varied")
            if getattr(self.widths, name, ANY).fixed:
                raise CannotMeasure(f"{self.name} has one {name} only, so it cannot be varied ({self.widths_found()})")

    @cached_property
    def _fixed(self) -> dict[str, int]:
        """Dimensions the harness cannot choose: given as literals, or read off a built memory."""
        fixed = {}
        probe = self.probe
        for name in ("key_dim", "value_dim", "capacity"):
            if name in self.accepts:
                continue
            number = self.kwargs.get(name, getattr(probe, name, None))
            if isinstance(number, int) and not isinstance(number, bool):
                fixed[name] = number
        return fixed

    @cached_property
    def probe(self) -> Any:
        """A memory to look at and never to write to."""
        try:
            return self.build(Shape())
        except Refused as error:
            hints = hints_of(self.factory, plain(error.__cause__))
            for sizes in candidates(hints) if self.accepts else ():
                with contextlib.suppress(Refused):
                    return self.build(Shape(**sizes))
            raise

    @cached_property
    def spec(self) -> MemorySpec:
        """What the memory declares.

        Raises:
            PlugError: if it is no spec, or cannot be read.
        """
        probe = self.probe
        try:
            return cross("spec", lambda: spec_of(probe))
        except (TypeError, SaidByMemory) as error:
            raise PlugError(f"{self.name}: {error}") from error

    def declaring(self, spec: MemorySpec) -> Plug:
        """The same memory, as if its spec were this one: what would be asked of it then."""
        other = copy.copy(self)
        other.__dict__["spec"] = spec
        shaping = ("association", "capacity", "widths", "key_domain", "value_domain")
        if any(getattr(spec, name) != getattr(self.spec, name) for name in shaping):
            other.__dict__.pop("_fit", None)
        return other

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional capabilities the built memory has: those found, less those it says it does not offer.

        Raises:
            PlugError: if the spec declares a capability that is not there, or helpers look like the functional form.
        """
        probe = self.probe
        try:
            found = cross("its attributes", lambda: capabilities_of(probe))
        except (TypeError, SaidByMemory) as error:
            raise PlugError(f"{self.name}: {error}") from error
        except Exception as error:
            raise PlugError(f"{self.name}: looking for its optional methods raised {raised(error)}") from error
        if self.is_sequence_model:
            return found
        return found - not_offered(self, found - {name for name, has in self.spec.capabilities.items() if has})

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
        inner = getattr(self.probe, "inner", None)  # of an adapted memory
        module = inner if isinstance(inner, torch.nn.Module) else self.probe
        return sum(p.numel() for p in module.parameters()) if isinstance(module, torch.nn.Module) else 0

    # ---- messages ---------------------------------------------------------------------------------------------

    def _refused(self, arguments: dict[str, Any], error: BaseException) -> str:
        if inspect.isabstract(self.factory):
            return f"{self.name}: {abstract(self.factory)}"
        call = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        short = getattr(self.factory, "__name__", "Memory")
        place, _, attribute = self.name.partition("(")[0].rpartition(":")
        if not attribute.isidentifier() or not place:
            place, attribute = getattr(self.factory, "__module__", "mypkg"), short
        module = re.split(r"[/\\]", place.removesuffix(".py"))[-1]
        dimensions = ", ".join(sizes_named(self.factory, self.kwargs)) or "key_dim, value_dim, capacity"
        wrong = "".join(f"{line}\n" for line in misnamed(self.factory, self.kwargs))
        return (
            f"{self.name}: the factory could not be called as {short}({call})\n"
            f"  it raised {raised(error)}\n{wrong}"
            "  A factory that would work, in a file of yours:\n\n"
            f"      def make({dimensions}):\n"
            f"          from {module} import {attribute}\n"
            f"          return {attribute}(...)          # your arguments, made from these\n\n"
            f"  and then --memory=that_file.py:make.{self._fixable(arguments)}"
        )

    def _fixable(self, refused: dict[str, Any]) -> str:
        """That arguments can be written behind the name, shown by one that the factory does take."""
        try:
            parameters = inspect.signature(self.factory).parameters.values()
        except (TypeError, ValueError):
            return ""
        plain = (bool, int, float, str)
        known = [p for p in parameters if p.name not in refused and type(p.default) in plain]
        if not known:
            return ""
        shown = f"{self.name.split('(')[0]}({known[0].name}={known[0].default!r})"
        return f" Fixed arguments can also be written behind the name: --memory={shlex.quote(shown)}"

    def _check_methods(self, memory: Any) -> None:
        missing = [name for name in METHODS if not callable(getattr(memory, name, None))]
        if not missing or is_sequence_model(memory):
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
            "  A memory needs reset(), update(keys [N, Dk], values [N, Dv]) and query(keys [Q, Dk]) -> [Q, Dv],",
            "  a sequence model initial_state(batch), step(x [B, D], state) and run(xs [T, B, D], state).",
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
