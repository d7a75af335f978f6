"""What was observed of a memory: each promise that a spec can make, whether it was seen to hold, and the evidence."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memspec.protocol import MemorySpec, Size, Widths


@dataclass(frozen=True)
class Observation:
    """One field of a spec, or another thing worth knowing.

    Attributes:
        name: the field, or what was looked at (``growth``, ``draws``).
        seen: the strongest choice that held, as JSON has it; None where none did, or nothing could be told.
        evidence: what was done and what came, in one line.
        declared: the spec says so already.
        promise: ``seen`` is a value of that field; else it is there to be read.
    """

    name: str
    seen: Any
    evidence: str
    declared: bool = False
    promise: bool = True


@dataclass(frozen=True)
class Observed:
    """All that was observed of one memory.

    Attributes:
        observations: in the order in which they were made.
        spec: what to declare: the memory's own spec and every promise that was seen to hold beyond it.
        advice: what no sane spec describes.
    """

    observations: Sequence[Observation]
    spec: MemorySpec
    advice: list[str] = field(default_factory=list)

    @property
    def offers(self) -> list[Observation]:
        """Promises that hold and are not declared."""
        return [o for o in self.observations if o.promise and o.seen is not None and not o.declared]

    @property
    def code(self) -> str:
        """``MemorySpec(...)``, to be pasted."""
        return written(self.spec)

    def to_json(self) -> dict[str, Any]:
        """As the card has it."""
        return {
            "spec": self.code,
            "observations": [dataclasses.asdict(o) for o in self.observations],
            "offers": [o.name for o in self.offers],
            "advice": list(self.advice),
        }


def written(spec: MemorySpec) -> str:
    """The expression that makes this spec, with what differs from the weakest one."""
    parts = []
    for one in dataclasses.fields(MemorySpec):
        value, weakest = getattr(spec, one.name), getattr(MemorySpec(), one.name)
        if value == weakest:
            continue
        if isinstance(value, frozenset):
            text = f"{{{', '.join(repr(v) for v in sorted(value))}}}"
        elif isinstance(value, Mapping):
            text = repr(dict(value))
        else:
            text = repr(value)
        parts.append(f"{one.name}={text}")
    return f"MemorySpec({', '.join(parts)})"


NAMES: dict[str, Callable[..., Any]] = {
    "MemorySpec": MemorySpec,
    "Widths": Widths,
    "Size": Size,
    "frozenset": frozenset,
}
"""What a written spec is made of, beside literals."""


def read(text: str) -> MemorySpec:
    """The spec that :func:`written` wrote, or a person did; nothing is executed but what makes specs.

    Raises:
        ValueError: if it is no such expression, or the spec refuses a value.
    """
    try:
        spec = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"not a MemorySpec(...): {error}") from None
    if not isinstance(spec, MemorySpec):
        raise ValueError("not a MemorySpec(...)")
    return spec


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        arguments = {str(k.arg): _value(k.value) for k in node.keywords}
        return NAMES[node.func.id](*map(_value, node.args), **arguments)
    return ast.literal_eval(node)
