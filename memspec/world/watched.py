"""Both watches together, the cheap and the dear one, around a few lines: for laws, and for the programs they print."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor

from memspec.world import seeding
from memspec.world.disturbance import Disturbance, note, taken
from memspec.world.guard import Guard
from memspec.world.tensors import seen, touched


class Disturbed(AssertionError):
    """The world was not left as it was found.

    Attributes:
        found: what was changed; it has been put right.
    """

    def __init__(self, found: list[Disturbance]) -> None:
        super().__init__("; ".join(map(str, found)))
        self.found = found


@contextlib.contextmanager
def watched(*given: Tensor) -> Iterator[None]:
    """Inside, nothing of the world and none of these tensors is changed for good.

    Raises:
        Disturbed: if something is.
    """
    held = taken()
    guard, tensors, seeds = Guard(), [seen(tensor) for tensor in given], seeding.snapshot()
    try:
        yield
    finally:
        said = "the line"
        found = {one.kind: one for one in taken()}
        for one in (*guard.changed(said, alive=True), *seeding.changed(seeds, said), *touched(tensors, said)):
            found.setdefault(one.kind, one)
        note(held)
    if found:
        raise Disturbed(list(found.values()))
