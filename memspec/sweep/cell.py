"""What a sweep consists of: cells, each one experiment on one memory under one setting with one seed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from memspec.running.process import Bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memspec.experiments.base import Setting

Tier = Literal["default", "full"]
Status = Literal["ok", "skip", "fail"]

KEY = 12
"""Bytes of a cell's key."""


@dataclass(frozen=True)
class Memory:
    """A memory of a sweep.

    Attributes:
        plug: ``module:attribute`` or ``path/to/file.py:attribute``, without arguments.
        arguments: of its constructor, sorted by name.
        folder: where a plug that is a file is looked for; the working folder where empty. No part of its identity.
    """

    plug: str
    arguments: tuple[tuple[str, Any], ...] = ()
    folder: str = dataclasses.field(default="", compare=False)

    def __hash__(self) -> int:
        return hash(self.name)  # an argument may be a list

    @property
    def name(self) -> str:
        """What loads it, and what it is called: ``mypkg:MyMemory(lr=0.5)``."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments)
        return f"{self.plug}({given})" if given else self.plug


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement that can be made anywhere, by itself.

    Attributes:
        experiment: its name in the catalogue.
        setting: what is done; ``trials`` independent ones, numbered from 0.
        seed: of all random streams.
        tier: ``default`` or ``full``; stands in the signature, as on a card.
        axes: where the cell lies on the grid of its plan, ``(name, value)`` each: fields of the setting, or names that
            these were computed from. No part of its identity.
    """

    memory: Memory
    experiment: str
    setting: Setting
    trials: int
    seed: int
    tier: Tier = "default"
    axes: tuple[tuple[str, Any], ...] = ()

    @property
    def id(self) -> str:
        """Explicit, and the same wherever and whenever the cell is planned: every field that differs from its default."""
        fields = [(f.name, getattr(self.setting, f.name), f.default) for f in dataclasses.fields(self.setting)]
        setting = ",".join(f"{name}={_said(value)}" for name, value, default in fields if value != default)
        tier = "" if self.tier == "default" else f"/{self.tier}"
        return f"{self.memory.name}/{self.experiment}/{setting or 'default'}/t{self.trials}/s{self.seed}{tier}"

    @property
    def key(self) -> str:
        """The id in 24 hexadecimal digits, for names of files and sets of what is done."""
        return hashlib.blake2b(self.id.encode(), digest_size=KEY).hexdigest()


def _said(value: Any) -> str:
    return format(value, "g") if isinstance(value, float) and format(value, "g") == str(value) else str(value)


@dataclass(frozen=True)
class Group:
    """Cells that are handed to a worker together, because they share a memory, and so what it takes to load it.

    Attributes:
        cells: of one memory, one experiment and one setting.
        signature: what the worker's own must equal.
        bounds: of each cell.
        share: seconds after which the worker begins no further cell and hands back what is left.
        folder: the working folder of the sweep.
    """

    cells: tuple[Cell, ...]
    signature: dict[str, Any]
    bounds: Bounds
    share: float = 2.0
    folder: str = "."

    def of(self, cells: Sequence[Cell]) -> Group:
        """The same with other cells."""
        return dataclasses.replace(self, cells=tuple(cells))


@dataclass(frozen=True)
class Outcome:
    """What came of one cell.

    Attributes:
        status: ``ok``; ``skip``: it cannot be measured on this memory; ``fail``.
        why: of a failure: ``raised``, ``time``, ``memory``, ``death``, ``refused``, ``signature`` or ``worker``; of a skip ``not asked``
            or ``cannot measure``.
        cause: in words, one line; ``stack``: where it was, if that is known.
        measured: metric -> values ``[T]`` or ``[T, K]`` and the points ``[K]`` of a curve; empty unless ``ok``.
        seconds: that measuring took, without loading.
        where: host and process.
    """

    cell: Cell
    status: Status
    why: str = ""
    cause: str = ""
    stack: str = ""
    measured: dict[str, tuple[NDArray[np.float64], tuple[float, ...] | None]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    where: str = ""
    attempts: int = 1


@dataclass(frozen=True)
class Unloaded:
    """Why a memory could not be loaded: what becomes of each of its cells; see :class:`Outcome`."""

    status: Status
    why: str
    cause: str
    stack: str = ""
    attempts: int = 1

    def of(self, cell: Cell) -> Outcome:
        """What comes of a cell."""
        return Outcome(cell, self.status, self.why, self.cause, self.stack, attempts=self.attempts)


@dataclass(frozen=True)
class Done:
    """What a worker hands back: outcomes of a group, and the cells it had no time for."""

    outcomes: tuple[Outcome, ...]
    left: tuple[Cell, ...] = ()
