"""What a run is to decide: every check that was collected, of every memory. What of it is not reported was not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memspec.judging.check import Check
from memspec.running.checks import identify, is_suite, plug_of, suites_folder


@dataclass(frozen=True)
class Planned:
    """One check of one memory, by pytest's own id and by ours."""

    nodeid: str
    memory: str
    check: Check


@dataclass(frozen=True)
class Manifest:
    """The checks of a run whose memories ``--memory`` names.

    Attributes:
        planned: what is to be decided.
        suites: the axes of memspec's own that were collected; empty if none was.
        deselected: checks that were collected and left out.
    """

    planned: tuple[Planned, ...] = ()
    suites: tuple[str, ...] = ()
    deselected: int = 0

    @property
    def missing(self) -> list[str]:
        """Axes of memspec's own that were not collected, where others were."""
        every = sorted(p.stem.removeprefix("test_") for p in Path(suites_folder()).glob("test_*.py"))
        return [axis for axis in every if axis not in self.suites] if self.suites else []

    def to_json(self) -> dict[str, Any]:
        planned = [[p.nodeid, p.memory, p.check.id, p.check.kind, p.check.axis] for p in self.planned]
        return {"planned": planned, "suites": list(self.suites), "deselected": self.deselected}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        planned = tuple(Planned(n, memory, Check(i, kind, axis)) for n, memory, i, kind, axis in data["planned"])
        return cls(planned, tuple(data["suites"]), int(data["deselected"]))


def manifest_of(items: Iterable[pytest.Item], deselected: Sequence[pytest.Item] = ()) -> Manifest:
    """What a list of collected items plans; ``deselected``: those that were left out of it."""
    mine = [item for item in items if plug_of(item)]
    planned = tuple(Planned(item.nodeid, plug_of(item), identify(item)) for item in mine)
    axes = {p.check.axis for p, item in zip(planned, mine) if is_suite(item.function)}  # type: ignore[attr-defined]
    return Manifest(planned, tuple(sorted(axes)), sum(bool(plug_of(item)) for item in deselected))
