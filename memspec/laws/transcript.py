"""A program that is written down while it runs.

Laws and the stateful test drive memories through it: a line is Python, and running that very text is how it is done,
so what a failure shows is what happened. Nothing is rendered unless a law breaks: then the tensors that were used
without a name are written as draws, slices of draws, or numbers.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Through = Callable[[Callable[[], Any]], Any]
"""How a line is run: something that calls what it is given, and what came."""

SHORT = 40
"""Characters up to which what a tensor is stands in the call itself instead of getting a line and a name."""


def _plain(thing: object) -> bool:
    """Whether a thing is written as what it is, and never by a name."""
    return type(thing) in (bool, int, float, str, type(None)) or (type(thing) is tuple and all(map(_plain, thing)))


@lru_cache(maxsize=8192)
def _compiled(text: str, mode: str) -> CodeType:
    return compile(text, "<law>", mode)


@dataclass
class _Line:
    indent: int
    text: str
    holds: list[tuple[str, Tensor]] = field(default_factory=list)  # named tensors, as they were at this line
    define: bool = False  # text is a name; what it holds has to be written out
    suffix: str = ""  # of what is written out


class Transcript:
    """Lines of Python, and the names that they use."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"torch": torch}
        self._lines: list[_Line] = []
        self._called: dict[int, str] = {}
        self._kept: list[object] = []  # so that ids stay unique
        self._counts: Counter[str] = Counter()
        self._imports = {"import torch", "import memspec"}
        self._indent = 0

    # ---- names ------------------------------------------------------------------------------------------------

    def fresh(self, prefix: str) -> str:
        """A name not used yet: ``a1``, ``a2``, ..."""
        self._counts[prefix] += 1
        return f"{prefix}{self._counts[prefix]}"

    def bind(self, name: str, thing: object) -> None:
        """From now on ``name`` is ``thing``; what it was before has no name any more."""
        old = self.names.get(name)
        if self._called.get(id(old)) == name:
            del self._called[id(old)]
        self.names[name] = thing
        self.alias(thing, name)

    def alias(self, thing: object, name: str) -> None:
        """Where ``thing`` is given to a line, that line says ``name``."""
        if not _plain(thing):
            self._called[id(thing)] = name
            self._kept.append(thing)

    def ref(self, thing: object) -> str:
        """How a line speaks of a thing: by its name, by importing it, as a number, or (a tensor) as what it holds now."""
        name = self._called.get(id(thing))
        if name is not None:
            return name
        if isinstance(thing, torch.device):
            return f"torch.{thing!r}"
        if _plain(thing) or isinstance(thing, torch.dtype):
            return repr(thing)
        if isinstance(thing, Tensor):
            return self._defined(thing)
        if inspect.ismodule(thing):
            self._imports.add(f"import {thing.__name__}")
            self.bind(thing.__name__, thing)
            return thing.__name__
        if inspect.isfunction(thing) or inspect.isclass(thing):
            self._imports.add(f"from {thing.__module__} import {thing.__name__}")
            self.bind(thing.__name__, thing)
            return thing.__name__
        raise KeyError(f"the transcript has no name for a {type(thing).__name__}")

    def _defined(self, tensor: Tensor) -> str:
        name = self.fresh("x")
        moved = "" if tensor.device.type == "cpu" else f".to({str(tensor.device)!r})"
        self._lines.append(_Line(self._indent, name, [(name, tensor.detach().cpu().clone())], True, moved))
        self.bind(name, tensor)
        return name

    # ---- lines ------------------------------------------------------------------------------------------------

    def fill(self, template: str, things: tuple[object, ...]) -> str:
        """The template with the names of these things in its braces."""
        return template.format(*map(self.ref, things)) if things else template

    def given(self, name: str, thing: object, text: str) -> None:
        """``name = text``, which gave ``thing``: the one line that is not run, for what was there before the law."""
        self._lines.append(_Line(self._indent, f"{name} = {text}"))
        self.bind(name, thing)

    def do(self, text: str, through: Through | None = None) -> None:
        """One more statement: write it down and run it."""
        self._lines.append(_Line(self._indent, text))
        code = _compiled(text, "exec")
        if through is None:
            exec(code, self.names)
        else:
            through(lambda: exec(code, self.names))

    def let(self, name: str, text: str, then: str = "", hold: bool = False, through: Through | None = None) -> Any:
        """``name = text``: the value.

        Args:
            then: what is to follow in the same line if the value is a tensor.
            hold: whether later tensors may be written in terms of this one.
            through: how it is run.
        """
        line = _Line(self._indent, f"{name} = {text}")
        self._lines.append(line)
        value = self.value(text, through)
        if then and isinstance(value, Tensor):
            line.text += then
            value = eval(_compiled("_" + then, "eval"), {"_": value})
        self.bind(name, value)
        if hold:
            line.holds.append((name, value.detach().cpu().clone()))
        return value

    def hold(self, name: str, tensor: Tensor) -> None:
        """Later tensors may be written in terms of this one, as it is now."""
        self._lines[-1].holds.append((name, tensor.detach().cpu().clone()))

    def unpack(self, names: str, text: str) -> tuple[Tensor, ...]:
        """``a, b = text``: the tensors; later ones are written in terms of these."""
        self._lines.append(_Line(self._indent, f"{names} = {text}"))
        values = tuple(self.value(text))
        for name, tensor in zip(names.split(", "), values):
            self.bind(name, tensor)
            self._lines[-1].holds.append((name, tensor.detach().cpu().clone()))
        return values

    def value(self, text: str, through: Through | None = None) -> Any:
        """What an expression comes to; nothing is written down."""
        code = _compiled(text, "eval")
        return eval(code, self.names) if through is None else through(lambda: eval(code, self.names))

    def say(self, text: str) -> None:
        """The last line: the assertion that does not hold."""
        self._lines.append(_Line(self._indent, text))

    @contextlib.contextmanager
    def within(self, text: str) -> Iterator[None]:
        """Lines inside stand, and run, under ``with text:``."""
        self.say(f"with {text}:")
        self._indent += 1
        try:
            with self.value(text):
                yield
        finally:
            self._indent -= 1

    def render(self) -> str:
        """The lines as a program."""
        known: dict[str, Tensor] = {}
        inline: dict[str, str] = {}
        body = []
        for line in self._lines:
            text = re.sub(r"\bx\d+\b", lambda match: inline.get(match[0], match[0]), line.text)
            if line.define:
                what = expression(line.holds[0][1], list(known.items())) + line.suffix
                if len(what) <= SHORT and self._uses(line.text) == 1:
                    inline[line.text] = what
                    continue
                text = f"{text} = {what}"
            known.update(line.holds)
            body.append("    " * line.indent + text)
        return "\n".join([*sorted(self._imports, key=lambda s: (s.startswith("from"), s)), "", *body])

    def _uses(self, name: str) -> int:
        """Lines that use a name that was defined for a tensor."""
        return sum(not line.define and re.search(rf"\b{name}\b", line.text) is not None for line in self._lines)


def expression(tensor: Tensor, known: list[tuple[str, Tensor]]) -> str:
    """Python for a tensor: a slice or a choice of rows of a known one, a constant, or its numbers."""
    typed = "" if tensor.dtype in (torch.float32, torch.int64, torch.bool) else f", dtype={tensor.dtype}"
    if tensor.numel() and bool((tensor == tensor.flatten()[0]).all()) and tensor.signbit().unique().numel() == 1:
        return f"torch.full({tuple(tensor.shape)}, {_number(tensor.flatten()[0])}{typed})"
    if tensor.ndim == 2:
        for name, other in known:
            if other.dtype != tensor.dtype:
                continue
            if other.shape == tensor.shape and torch.equal(other, tensor):
                return f"{name}.clone()"
            rows = _rows_of(tensor, other)
            if rows is not None:
                first, last = rows[0], rows[-1]
                if rows == list(range(first, last + 1)):
                    return f"{name}[{first}:{last + 1}]"
                return f"{name}[{rows}]"
    if tensor.ndim == 0:
        return f"torch.tensor({_number(tensor)}{typed})"
    if tensor.numel() == 0:
        return (
            f"torch.zeros({tuple(tensor.shape)}, dtype={tensor.dtype})"
            if typed
            else f"torch.zeros({tuple(tensor.shape)})"
        )
    return f"torch.tensor({_nested(tensor)}{typed})"


def _rows_of(tensor: Tensor, other: Tensor) -> list[int] | None:
    """For each row of ``tensor`` the row of ``other`` that equals it, if all are there."""
    if other.ndim != 2 or other.shape[0] == 0 or tensor.shape[0] == 0 or other.shape[1] != tensor.shape[1]:
        return None
    equal = (tensor[:, None] == other[None]).all(-1)
    if not bool(equal.any(-1).all()):
        return None
    return equal.to(torch.uint8).argmax(-1).tolist()


def _nested(tensor: Tensor) -> str:
    if tensor.ndim == 0:
        return _number(tensor)
    return "[" + ", ".join(_nested(part) for part in tensor) + "]"


def _number(element: Tensor) -> str:
    number = element.item()
    if not np.isfinite(number):
        return f'float("{number}")'
    return str(np.float32(number)) if element.dtype == torch.float32 else repr(number)
