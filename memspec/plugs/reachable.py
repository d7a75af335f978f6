"""What can be reached from a memory: its tensors, and where they lie."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from memspec.errors import PlugError
from memspec.failure import raised


def tensors_in(thing: object, depth: int = 6) -> Iterator[Tensor]:
    """Every tensor (and numpy array, as a tensor) reachable from an object's attributes, each once.

    A sparse tensor counts as the dense ones it is made of: its indices and its values.
    """
    seen: set[int] = set()

    def walk(part: Any, level: int) -> Iterator[Tensor]:
        if id(part) in seen or level > depth:
            return
        seen.add(id(part))
        if isinstance(part, Tensor):
            yield from dense_parts(part)
        elif type(part).__module__ == "numpy" and hasattr(part, "dtype") and part.dtype.kind in "fiub":
            yield torch.as_tensor(part)
        elif isinstance(part, dict):
            for value in part.values():
                yield from walk(value, level + 1)
        elif isinstance(part, (list, tuple, set, frozenset)) or type(part).__name__ == "deque":
            for value in part:
                yield from walk(value, level + 1)
        elif not isinstance(part, (type, type(sys))) and not callable_only(part):
            yield from walk(getattr(part, "__dict__", {}), level + 1)
            for kind in type(part).__mro__:
                slots = vars(kind).get("__slots__", ())
                for name in (slots,) if isinstance(slots, str) else slots:
                    yield from walk(getattr(part, name, None), level + 1)

    yield from walk(thing, 0)


def dense_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensor itself; of a sparse one, what it is made of; of one in a device's own layout, its numbers."""
    if tensor.layout == torch.strided:
        return (tensor,)
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor.to_dense(),)


def callable_only(part: object) -> bool:
    """True for functions and methods, whose attributes hold no state."""
    return inspect.isroutine(part)


def device_of(memory: object) -> torch.device:
    """Where a memory expects its inputs: its ``device``, else that of its first tensor, else the CPU.

    Raises:
        PlugError: if its ``device`` cannot be read, or is none.
    """
    try:
        device = getattr(memory, "device", None)
        if isinstance(device, (str, torch.device)):
            return torch.device(device)
    except Exception as error:
        raise PlugError(f"reading {type(memory).__name__}.device raised {raised(error)}") from error
    for tensor in tensors_in(memory):
        return tensor.device
    return torch.device("cpu")
