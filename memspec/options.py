"""Options say in their annotation what they may be; one place checks them, and refuses in one form of words.

A constructor (or a function) declares its options where it lists them::

    @checked
    def __init__(self, key_dim: int, value_dim: int, beta: Step = 1.0, form: Literal["chunked", "rows"] = "chunked"):

and ``DeltaMemory(6, 5, beta=3.0)`` raises ``ValueError: DeltaMemory: beta is 3.0; it must be a number above 0 and below
2 (steps are stable only there)``. ``Literal``, ``bool``, ``int`` and ``float`` are checked as they stand; a range is an
``Annotated[float, Real(...)]`` or ``Annotated[int, Whole(...)]``, the common ones of which have names here; ``| None``
lets None pass. Other annotations are left alone. Tests of the references are made from the same declarations
(:func:`declared`). What one option demands of another beyond a bound stays in the constructor, which raises
:func:`refused`.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import reprlib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Bound = float | str | None
"""A number, the name of another option of the same constructor, or nothing."""


# ---- what an option may be ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Real:
    """A finite number within bounds.

    Attributes:
        above, below: bounds that are themselves excluded.
        least, most: bounds that are included.
        why: said behind the range when a number is refused.
    """

    above: Bound = None
    least: Bound = None
    below: Bound = None
    most: Bound = None
    why: str = ""

    def accepts(self, value: Any, others: Mapping[str, Any]) -> bool:
        """Whether it may be that, beside these values of all options."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            return False
        value = float(value)
        above, least, below, most = (_number(b, others) for b in (self.above, self.least, self.below, self.most))
        return (
            (above is None or value > above)
            and (least is None or value >= least)
            and (below is None or value < below)
            and (most is None or value <= most)
        )

    def describe(self, others: Mapping[str, Any]) -> str:
        """What it must be, in words."""
        lower = [(" above ", self.above), (" of at least ", self.least)]
        upper = [(" below ", self.below), (" at most ", self.most)]
        said = [[word + _shown(b, others) for word, b in side if b is not None] for side in (lower, upper)]
        finite = "" if all(said) else "finite "
        return f"a {finite}number" + " and".join(said[0] + said[1])


@dataclass(frozen=True)
class Whole:
    """An integer within bounds, both included; ``why`` as of :class:`Real`."""

    least: int | str | None = None
    most: int | str | None = None
    why: str = ""

    def accepts(self, value: Any, others: Mapping[str, Any]) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            return False
        least, most = _number(self.least, others), _number(self.most, others)
        return (least is None or int(value) >= least) and (most is None or int(value) <= most)

    def describe(self, others: Mapping[str, Any]) -> str:
        lower = [] if self.least is None else [" of at least " + _shown(self.least, others)]
        upper = [] if self.most is None else [" at most " + _shown(self.most, others)]
        return "an integer" + " and".join(lower + upper)


@dataclass(frozen=True)
class Choice:
    """One of a few values (``Literal``, and ``bool`` as True or False)."""

    values: tuple[Any, ...]
    why: str = ""

    def accepts(self, value: Any, others: Mapping[str, Any]) -> bool:
        return any(type(value) is type(v) and value == v for v in self.values)

    def describe(self, others: Mapping[str, Any]) -> str:
        *first, last = (repr(v) for v in self.values)
        return f"{', '.join(first)} or {last}" if first else last


Count = Annotated[int, Whole(1)]
Positive = Annotated[float, Real(above=0)]
NotNegative = Annotated[float, Real(least=0)]
Share = Annotated[float, Real(least=0, most=1)]
PositiveShare = Annotated[float, Real(above=0, most=1)]
OpenShare = Annotated[float, Real(above=0, below=1)]
Cosine = Annotated[float, Real(least=-1, most=1, why="it is a cosine")]
PositiveCosine = Annotated[float, Real(above=0, most=1, why="it is a cosine")]
Step = Annotated[float, Real(above=0, below=2, why="steps are stable only there")]


# ---- declarations ---------------------------------------------------------------------------------------------


class Option(NamedTuple):
    """One option as its constructor declares it.

    Attributes:
        kind: what it may be.
        nothing: None is allowed too.
        default: its default, or ``inspect.Parameter.empty``.
    """

    kind: Real | Whole | Choice
    nothing: bool
    default: Any


def declared(function: Callable[..., Any]) -> dict[str, Option]:
    """Every option of a class or function whose annotation says what it may be, in the order of the signature."""
    if isinstance(function, type):
        function = function.__init__  # type: ignore[misc]
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind, nothing = _read(hints.get(name))
        if kind is not None:
            found[name] = Option(kind, nothing, parameter.default)
    return found


def _read(hint: Any) -> tuple[Real | Whole | Choice | None, bool]:
    """What an annotation allows (None: anything), and whether it allows None."""
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        return (_read(parts[0])[0], True) if len(parts) == 1 else (None, False)
    if get_origin(hint) is Annotated:
        return next((x for x in get_args(hint)[1:] if isinstance(x, (Real, Whole, Choice))), None), False
    if get_origin(hint) is Literal:
        return Choice(get_args(hint)), False
    plain: dict[Any, Real | Whole | Choice] = {bool: Choice((True, False)), int: Whole(), float: Real()}
    return plain.get(hint), False


# ---- checking -------------------------------------------------------------------------------------------------


def checked(function: F) -> F:
    """A constructor or function that refuses options its annotations do not allow.

    Options may be given by name or by place. Scalars of numpy become Python's own numbers. A subclass that passes
    options on to ``super().__init__`` need not declare them again.

    Raises:
        ValueError: from the call, for the first option that is refused.
    """
    signature = inspect.signature(function)
    method = next(iter(signature.parameters), "") == "self"

    @functools.cache
    def options() -> dict[str, Option]:
        return declared(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says what is missing or unknown
        given.apply_defaults()
        values = given.arguments
        for name, option in options().items():
            value = values[name]
            if isinstance(value, np.generic):
                value = values[name] = value.item()
            if not (value is None and option.nothing) and not option.kind.accepts(value, values):
                must = option.kind.describe(values) + (", or None" if option.nothing else "")
                raise refused(args[0] if method else function.__name__, name, value, must, option.kind.why)
        return function(*given.args, **given.kwargs)

    return call  # type: ignore[return-value]


def refused(owner: Any, name: str, value: Any, must: str, why: str = "") -> ValueError:
    """The error for an option: ``<owner>: <name> is <value>; it must be <must> (<why>)``.

    Args:
        owner: what was to be built, or its name.
    """
    who = owner if isinstance(owner, str) else type(owner).__name__
    return ValueError(f"{who}: {name} is {reprlib.repr(value)}; it must be {must}" + (f" ({why})" if why else ""))


def _number(bound: Bound, others: Mapping[str, Any]) -> float | None:
    """The number a bound stands for; None where there is none, or none that can be compared with."""
    value = others.get(bound) if isinstance(bound, str) else bound
    return float(value) if isinstance(value, numbers.Real) else None


def _shown(bound: Bound, others: Mapping[str, Any]) -> str:
    return f"{bound} = {others.get(bound)!r}" if isinstance(bound, str) else f"{bound:g}"
