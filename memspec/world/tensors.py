"""Tensors of the caller that a call must leave alone: those it is given, and those it gave before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memspec.world.disturbance import Disturbance

WHOLE = 1 << 15
"""Numbers up to which a tensor is compared whole; of a larger one every so many, beside torch's own count of writes."""
ANSWERS = 2
"""Answers that are kept to be looked at after later calls."""

Seen = tuple[Tensor, int, Any, Any]
"""A tensor, how often it was written to, how it lies in memory, and its numbers."""


def seen(tensor: Tensor) -> Seen:
    """What a tensor is now."""
    return tensor, version(tensor), (tensor.shape, tensor.stride(), tensor.data_ptr()), numbers(tensor)


def version(tensor: Tensor) -> int:
    """How often it was written to; 0 for those of inference mode, which do not count."""
    return 0 if tensor.is_inference() else tensor._version


def numbers(tensor: Tensor) -> Any:
    """A tensor's numbers, as something that ``==`` compares bit for bit."""
    try:
        array = tensor.numpy()
    except (RuntimeError, TypeError):  # it needs gradients, or numpy has no such numbers
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            return None
        bare = tensor.detach()
        array = (bare.view(torch.int16) if bare.dtype == torch.bfloat16 else bare).numpy(force=True)
    if array.size > WHOLE:
        return array.flat[:: (array.size // WHOLE) | 1].tobytes()
    return array.tobytes()


def touched(given: Sequence[Seen], call: str) -> list[Disturbance]:
    """The tensors given to a call that it wrote to or reshaped; their numbers are left as they are."""
    found = []
    for place, (tensor, writes, lies, held) in enumerate(given):
        what = ""
        if (tensor.shape, tensor.stride(), tensor.data_ptr()) != lies:
            what = f"reshaped, transposed or resized the caller's tensor (argument {place + 1}) in place"
        elif version(tensor) != writes or numbers(tensor) != held:
            what = f"wrote to the caller's tensor (argument {place + 1}, {tuple(tensor.shape)})"
        if what:
            found.append(Disturbance("the caller's tensors", what, call))
    return found


class Answers:
    """The last few answers, as their callers hold them."""

    def __init__(self) -> None:
        self.kept: deque[tuple[str, Seen]] = deque(maxlen=ANSWERS)

    def begin(self) -> None:
        """A call begins: what its callers wrote to meanwhile is theirs."""
        for _ in range(len(self.kept)):
            one = self.kept.popleft()
            if version(one[1][0]) == one[1][1]:
                self.kept.append(one)

    def changed(self, call: str) -> list[Disturbance]:
        """The answers that a call wrote to."""
        found = []
        for said, (alias, writes, _, held) in self.kept:
            if version(alias) != writes or numbers(alias) != held:
                text = f"changed what {said} had answered before (a buffer that is used again: clone it)"
                found.append(Disturbance("earlier answers", text, call))
        if found:
            self.kept.clear()
        return found

    def keep(self, said: str, answer: Any) -> None:
        """Look at this answer again after the next calls."""
        if isinstance(answer, Tensor) and answer.layout == torch.strided and not answer.is_meta:
            alias = answer.detach()
            self.kept.append((said, (alias, version(alias), None, numbers(alias))))
