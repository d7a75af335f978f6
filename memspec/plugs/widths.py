"""Which widths and capacities a memory can have, found out by trying.

A layer of one ``d_model`` needs keys as wide as values; heads, blocks and kernels need multiples of something; a
pretrained memory has one width only. Some say so in the constructor, others fail at the first pair. So a trial builds
a memory and writes and reads one pair. Nothing is tried beyond what is asked for as long as that works.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memspec.errors import PlugError
from memspec.failure import plain, raised
from memspec.fixtures.data.pairs import pairs
from memspec.plugs.reachable import device_of
from memspec.plugs.sequences import first_inputs, listed, wrong_outputs
from memspec.protocol import MemorySpec, Size, Widths
from memspec.randomness import made_from, unshared
from memspec.world.boundary import call, cross

if TYPE_CHECKING:
    from memspec.plugs.plug import Plug, Shape

Works = Callable[[int, int, int], bool]
"""Whether a memory of (key_dim, value_dim, capacity) can be built, written and read."""

POWERS = tuple(2**n for n in range(3, 11))
OTHERS = (6, 12, 24, 48, 96, 192, 384, 768, 10, 20, 50, 100, 200, 300, 7)
"""Widths that are tried where neither powers of two nor what the factory says are of use."""
LARGEST, HINTS = 8192, 8
"""A number above this is not taken for a width, and so many numbers of a message at most."""


class Fit:
    """Which shapes a plug's memories can have, and what was found out about it.

    Attributes:
        asked: the shapes that are tried when it is loaded, those of the experiments and of the laws.
    """

    def __init__(self, plug: Plug, *asked: Shape) -> None:
        self.plug, self.asked = plug, asked
        self._refusals: dict[Shape, Exception | None] = {}
        self._wrong: dict[Shape, str] = {}
        self._nearest: dict[Shape, Shape] = {}

    def refusal(self, shape: Shape) -> Exception | None:
        """What a memory of this shape raises when it is built, or given one pair and asked for it; None if nothing."""
        if shape not in self._refusals:
            error = None
            try:
                made_from(unshared(0), lambda: self._try(shape))
            except Exception as refusal:
                error = refusal.with_traceback(None)
            self._refusals[shape] = error
        return self._refusals[shape]

    def _try(self, shape: Shape) -> None:
        memory = self.plug.build(shape)
        if self.plug.is_sequence_model:
            with contextlib.redirect_stdout(io.StringIO()):
                self._wrong[shape] = cross("step and run", lambda: wrong_outputs(memory, first_inputs(memory)))
            return
        keys, values = one_pair(self.plug.spec, shape, device_of(memory))
        with contextlib.redirect_stdout(io.StringIO()):
            call(memory, "update", keys, values)
            answer = call(memory, "query", keys)
        self._wrong[shape] = wrong_answer(answer, keys, values)
        untold = {"key_dim", "value_dim"} - self.plug.accepts
        if untold and isinstance(answer, Tensor) and answer.shape != values.shape:
            raise ValueError(f"query answered {tuple(answer.shape)} to one pair of values {tuple(values.shape)}")

    def problem(self, shape: Shape) -> str:
        """What is wrong with what a memory of this shape answers to one pair; empty if nothing is."""
        wrong = "" if self.refusal(shape) is not None else self._wrong[shape]
        if wrong and self.plug.is_sequence_model:
            return f"{self.plug.name}: {wrong}"
        return wrong and (
            f"{self.plug.name}: one pair was stored and asked for ({shape.key_dim} -> {shape.value_dim}), and query "
            f"{wrong}"
        )

    def _works(self, key_dim: int, value_dim: int, capacity: int) -> bool:
        shape = replace(self.asked[0], key_dim=key_dim, value_dim=value_dim, capacity=capacity)
        return self.refusal(self.plug.told(shape)) is None

    @cached_property
    def refused(self) -> Shape | None:
        """The first of the shapes asked for that does not work, or None."""
        return next((s for s in map(self.plug.told, self.asked) if self.refusal(s) is not None), None)

    @cached_property
    def widths(self) -> Widths:
        """What is declared, else found.

        Raises:
            PlugError: if nothing works, with what was raised first.
        """
        declared = self.plug.spec.widths
        if declared is not None:
            return declared
        if self.refused is None:
            return Widths()
        error = self.refusal(self.refused)
        result = found(self._works, self.refused, self.asked[0], hints_of(self.plug.factory, plain(error)))
        if result is None:
            assert error is not None
            raise error if isinstance(error, PlugError) else PlugError(self._unusable(error))
        return result

    def nearest(self, shape: Shape) -> Shape:
        """The nearest shape that works: by the rule, else by trying; the rule's where nothing near does."""
        if shape not in self._nearest:
            told, widths = self.plug.told(shape), self.widths
            key_dim, value_dim = widths.nearest(told.key_dim, told.value_dim)
            sized = replace(told, key_dim=key_dim, value_dim=value_dim, capacity=widths.capacity.nearest(told.capacity))
            first = self.plug.told(sized)
            self._nearest[shape] = first
            if self.refusal(first) is not None:
                others = (self.plug.told(replace(first, **sizes)) for sizes in near(first))
                self._nearest[shape] = next((s for s in others if self.refusal(s) is None), first)
        return self._nearest[shape]

    def as_it_is(self, shape: Shape) -> Shape | None:
        """This very shape, if a memory can have it; None if it cannot, and no other is tried then."""
        told = self.plug.told(shape)
        if self._other(told, shape) or self._against_rule(told) or self.refusal(told) is not None:
            return None
        return told

    def why_not(self, shape: Shape, names: Collection[str]) -> str:
        """Why a memory cannot have this very shape, in words.

        Args:
            names: the dimensions that matter.

        Raises:
            MemoryError, RuntimeError: if there was no memory for it, which says nothing of what it can have.
        """
        told = self.plug.told(shape)
        other = [name for name in self._other(told, shape) if name in names]
        if other:
            said = " and ".join(f"its {name} is {getattr(told, name)}" for name in other)
            square = " (values are its keys)" if self.plug.spec.association == "auto" and "value_dim" in other else ""
            wanted = ", ".join(f"{name} = {getattr(shape, name)}" for name in other)
            return f"{self.plug.name} cannot have {wanted}: {said} whatever is asked for{square}"
        asked = f"{shape.key_dim} -> {shape.value_dim}, capacity {shape.capacity}"
        if self._against_rule(told):
            return f"{self.plug.name} cannot have {asked}: {self.describe()}"
        error = self.refusal(told)
        cause = error.__cause__ or error if isinstance(error, PlugError) else error
        if cause is None:
            return f"{self.plug.name} cannot have {asked}"
        if isinstance(cause, MemoryError) or "can't allocate memory" in str(cause):
            raise cause
        return f"{self.plug.name} cannot have {asked}: storing one pair and asking for it raised {raised(cause)}"

    def _other(self, told: Shape, shape: Shape) -> list[str]:
        """The dimensions that a memory has otherwise, whatever it is asked for."""
        return [n for n in ("key_dim", "value_dim", "capacity") if getattr(told, n) != getattr(shape, n)]

    def _against_rule(self, shape: Shape) -> bool:
        """Whether the widths that a memory declares are others."""
        declared = self.plug.spec.widths
        if declared is None:
            return False
        return declared.nearest(shape.key_dim, shape.value_dim) != (shape.key_dim, shape.value_dim) or (
            declared.capacity.nearest(shape.capacity) != shape.capacity
        )

    def describe(self) -> str:
        """What is known of the widths, in one line: "any", or what was found and why, or what is declared."""
        if self.plug.spec.widths is not None:
            return f"declared: {self.widths}"
        if self.refused is None:
            return "any"
        error = self.refusal(self.refused)
        cause = error.__cause__ or error if isinstance(error, PlugError) else error
        return (
            f"found: {self.widths} ({self.refused.key_dim} -> {self.refused.value_dim}, capacity "
            f"{self.refused.capacity} raised {cause and raised(cause)})"
        )

    def _unusable(self, error: Exception) -> str:
        if self.plug.is_sequence_model:
            return (
                f"{self.plug.name}: a sequence model was built ({listed(self.plug.sizes)}), but its first steps raised "
                f"{raised(error)}"
            )
        tried = ", ".join(dict.fromkeys(f"{s.key_dim} -> {s.value_dim}" for s in list(self._refusals)[:4]))
        untold = sorted({"key_dim", "value_dim"} - self.plug.accepts)
        advice = (
            f"\n  The factory takes no {' and no '.join(untold)}: let it take them, or give the memory key_dim and "
            "value_dim attributes that say its fixed widths"
            if untold
            else ""
        )
        return (
            f"{self.plug.name}: a memory was built, but storing one pair and asking for it raised "
            f"{raised(error)}\n"
            f"  It does so whatever the widths ({tried}, ...), so widths are not the cause.{advice}"
        )


def wrong_answer(answer: object, keys: Tensor, values: Tensor) -> str:
    """What came instead of a tensor of the values' shape and the keys' type of number; empty if that is what came."""
    wanted = f"a tensor {list(values.shape)} of {keys.dtype}"
    if not isinstance(answer, Tensor):
        shape = (
            f" {list(answer.shape)} of {answer.dtype}" if hasattr(answer, "shape") and hasattr(answer, "dtype") else ""
        )
        kind = f"{type(answer).__module__}.{type(answer).__qualname__}".removeprefix("builtins.")
        return f"answered a {kind}{shape}; it must be {wanted}"
    if answer.shape != values.shape or answer.dtype != keys.dtype:
        return f"answered a tensor {list(answer.shape)} of {answer.dtype}; it must be {wanted}"
    return ""


def one_pair(spec: MemorySpec, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """``keys [1, Dk]``, ``values [1, Dv]`` of the spec's domains."""
    generator = torch.Generator().manual_seed(0)
    keys, values = pairs(
        spec.key_domain, spec.value_domain, 1, shape.key_dim, shape.value_dim, generator, spec.association
    )
    return keys.to(device), values.to(device)


def candidates(hints: tuple[int, ...]) -> Iterator[dict[str, int]]:
    """Shapes to try where that of the experiments cannot even be built."""
    for width in dict.fromkeys((*hints, *POWERS, *OTHERS)):
        yield {"key_dim": width, "value_dim": width}
    for capacity in dict.fromkeys((*hints, *POWERS)):
        yield {"capacity": capacity}


def found(works: Works, refused: Shape, usual: Shape, hints: tuple[int, ...]) -> Widths | None:
    """What a memory can have that cannot have the shape ``refused``; None if nothing works that was tried.

    Args:
        usual: the shape of the experiments, whose capacity is tried first.
        hints: numbers to try first, from the factory's defaults and from what it said when it refused.
    """
    key_dim, value_dim, capacity, room = refused.key_dim, refused.value_dim, refused.capacity, usual.capacity
    if works(key_dim, value_dim, room):
        return Widths(capacity=scanned(lambda n: works(key_dim, value_dim, n), room))
    key, value = usual.key_dim, usual.value_dim
    base = _base(works, key, room, hints)
    if base is not None:
        key, value = base
    elif (other := next((n for n in (*hints, *POWERS) if works(key, value, n)), None)) is not None:
        room = other
    else:
        return None
    wider, longer = works(2 * key, value, room), works(key, 2 * value, room)
    if key == value and not wider and not longer and works(2 * key, 2 * key, room):
        both = scanned(lambda n: works(n, n, room), key)
        widths = Widths(key_dim=both, value_dim=both, square=True)
    else:
        widths = Widths(
            key_dim=scanned(lambda n: works(n, value, room), key),
            value_dim=scanned(lambda n: works(key, n, room), value),
        )
    sizes = widths.nearest(key_dim, value_dim)
    if not works(*sizes, capacity) and works(*sizes, room):
        widths = replace(widths, capacity=scanned(lambda n: works(*sizes, n), room))
    return widths


def _base(works: Works, usual: int, room: int, hints: tuple[int, ...]) -> tuple[int, int] | None:
    """Some widths that work with this capacity: those of the experiments, else the first that do."""
    for width in dict.fromkeys((usual, *hints, *POWERS, *OTHERS)):
        if works(width, width, room):
            return width, width
    unequal = ((key, value) for key in hints for value in hints if key != value)
    return next((pair for pair in unequal if works(*pair, room)), None)


def scanned(works: Callable[[int], bool], base: int) -> Size:
    """The sizes that work, from one that does: their step, their smallest, and whether there are others at all."""
    if not works(2 * base):
        top = base + _last(lambda n: works(base + n), base)
        least = base - _last(lambda n: works(base - n), base)
        return Size(at_least=least, at_most=top)
    step = next(d for d in range(1, base + 1) if base % d == 0 and works(base + d))
    if step == base and base & (base - 1) == 0 and not works(3 * base):
        while base > 1 and works(base // 2):
            base //= 2
        return Size(power_of_two=True, at_least=base)
    least = base - step * _last(lambda n: works(base - step * n), base // step)
    return Size(multiple_of=step, at_least=1 if least == step else least)


def _last(works: Callable[[int], bool], end: int) -> int:
    """The largest n below ``end`` up to which all work, by bisection; 0 works."""
    if end < 2 or not works(1):
        return 0
    low, high = 1, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low


def near(shape: Shape) -> Iterator[dict[str, int]]:
    """Shapes to try where a rule that was found does not hold: nearest widths first, never smaller, then capacities."""
    steps = (1, 2, 3, 4, 6, *POWERS)
    rounded = {(-(-shape.key_dim // d) * d, -(-shape.value_dim // d) * d) for d in steps}
    square = {(max(pair), max(pair)) for pair in rounded}
    for key_dim, value_dim in sorted(rounded | square, key=lambda pair: (sum(pair), pair[0] != pair[1], pair)):
        yield {"key_dim": key_dim, "value_dim": value_dim}
    for capacity in sorted({-(-shape.capacity // d) * d for d in steps}):
        yield {"capacity": capacity}


def hints_of(factory: Any, message: str) -> tuple[int, ...]:
    """Numbers that may be widths: the integer defaults of a factory, and those in what it said when it refused."""
    try:
        defaults = [p.default for p in inspect.signature(factory).parameters.values()]
    except (TypeError, ValueError):
        defaults = []
    numbers = [int(text) for text in re.findall(r"\d+", message)[:HINTS]]
    plain = [n for n in (*defaults, *numbers) if isinstance(n, int) and not isinstance(n, bool)]
    return tuple(sorted({n for n in plain if 1 < n <= LARGEST}))
