"""A record of what was done to a memory, as Python that does it again.

Laws and the stateful test drive memories through it. Nothing is rendered unless a law breaks: then the tensors that
were used are written as draws, slices of draws, or numbers, and the calls as they were made.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

SHORT = 40
"""Characters up to which what a tensor is stands in the call itself instead of getting a line and a name."""


@dataclass
class _Line:
    indent: int
    text: str
    holds: list[tuple[str, Tensor]] = field(default_factory=list)  # named tensors, as they were at this line
    define: bool = False  # text is a name; what it holds has to be written out
    suffix: str = ""  # of what is written out


class Transcript:
    """Lines of Python, and the names of the things they speak of."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._names: dict[int, str] = {}
        self._kept: list[object] = []  # so that ids stay unique
        self._counts: Counter[str] = Counter()
        self._imports = {"import torch", "import memspec"}
        self._indent = 0

    def fresh(self, prefix: str) -> str:
        """A name not used yet: ``a1``, ``a2``, ..."""
        self._counts[prefix] += 1
        return f"{prefix}{self._counts[prefix]}"

    def bind(self, thing: object, name: str) -> None:
        """From now on ``thing`` is called ``name``."""
        self._names[id(thing)] = name
        self._kept.append(thing)

    def ref(self, thing: object) -> str:
        """The name of a thing; a tensor that has none is given one, and defined by what it holds now."""
        if id(thing) not in self._names:
            if not isinstance(thing, Tensor):
                raise KeyError(f"the transcript has no name for a {type(thing).__name__}")
            name = self.fresh("x")
            moved = "" if thing.device.type == "cpu" else f".to({str(thing.device)!r})"
            self._lines.append(_Line(self._indent, name, [(name, thing.detach().cpu().clone())], True, moved))
            self.bind(thing, name)
        return self._names[id(thing)]

    def say(self, text: str, *imports: str) -> None:
        """One more line (``imports``: what it needs)."""
        self._imports.update(imports)
        self._lines.append(_Line(self._indent, text))

    def needs(self, *imports: str) -> None:
        """Import lines that later lines need."""
        self._imports.update(imports)

    def holds(self, **tensors: Tensor) -> None:
        """The last line gave these names to these tensors."""
        for name, tensor in tensors.items():
            self.bind(tensor, name)
            self._lines[-1].holds.append((name, tensor.detach().cpu().clone()))

    @contextlib.contextmanager
    def within(self, text: str, *imports: str) -> Iterator[None]:
        """Lines inside stand under ``with text:``."""
        self.say(f"with {text}:", *imports)
        self._indent += 1
        try:
            yield
        finally:
            self._indent -= 1

    def render(self) -> str:
        """The lines as a program."""
        known: list[tuple[str, Tensor]] = []
        inline: dict[str, str] = {}
        body = []
        for line in self._lines:
            text = re.sub(r"\bx\d+\b", lambda match: inline.get(match[0], match[0]), line.text)
            if line.define:
                what = expression(line.holds[0][1], known) + line.suffix
                if len(what) <= SHORT:
                    inline[line.text] = what
                    continue
                text = f"{text} = {what}"
            known.extend(line.holds)
            body.append("    " * line.indent + text)
        return "\n".join([*sorted(self._imports, key=lambda s: (s.startswith("from"), s)), "", *body])


def expression(tensor: Tensor, known: list[tuple[str, Tensor]]) -> str:
    """Python for a tensor: a slice or a choice of rows of a known one, a constant, or its numbers."""
    if tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
        return f"torch.full({tuple(tensor.shape)}, {_number(tensor.flatten()[0])})"
    if tensor.ndim == 2 and tensor.dtype == torch.float32:
        for name, other in known:
            if other.shape == tensor.shape and torch.equal(other, tensor):
                return f"{name}.clone()"
            rows = _rows_of(tensor, other)
            if rows is not None:
                first, last = rows[0], rows[-1]
                if rows == list(range(first, last + 1)):
                    return f"{name}[{first}:{last + 1}]"
                return f"{name}[{rows}]"
    if tensor.ndim == 0:
        return f"torch.tensor({_number(tensor)})"
    if tensor.numel() == 0:
        return f"torch.zeros({tuple(tensor.shape)})"
    return f"torch.tensor({_nested(tensor)})"


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
