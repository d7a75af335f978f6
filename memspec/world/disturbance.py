"""What a memory did to the world around it, and the ledger in which it is noted until the running check ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

RULE = "A memory leaves the world as it found it: no setting, generator, tensor of the caller or process state is changed for good."


@dataclass(frozen=True)
class Disturbance:
    """One thing that was not as before.

    Attributes:
        kind: what it was, in a few fixed words: ``default dtype``, ``generator of numpy``, ``environment``.
        what: what became of it, to follow the name of the call: ``left the default dtype at torch.float64``.
        call: the call that did it, as it was written; "the check" where only that much is known.
        lasting: it could not be put right.
    """

    kind: str
    what: str
    call: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.what}"


LEDGER: dict[str, Disturbance] = {}
"""The first disturbance of each kind since it was last emptied."""


LASTING: dict[str, dict[str, Disturbance]] = {}
"""By the name of a memory: what it had changed for good before its first check, which no check can see it change."""


def note_lasting(memory: str, found: Iterable[Disturbance]) -> None:
    """Keep of these what could not be put right."""
    for one in found:
        if one.lasting:
            LASTING.setdefault(memory, {}).setdefault(one.kind, one)


def note(found: Iterable[Disturbance]) -> None:
    """Enter disturbances in the ledger."""
    for one in found:
        LEDGER.setdefault(one.kind, one)


def taken() -> list[Disturbance]:
    """What is in the ledger, which is empty then."""
    found = list(LEDGER.values())
    LEDGER.clear()
    return found
