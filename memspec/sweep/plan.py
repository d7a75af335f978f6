"""From a sweep file, or the same as options, to the cells it means; every wrong entry is one clear error."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from memspec.errors import MemspecError
from memspec.experiments import catalog
from memspec.experiments.base import Setting
from memspec.plugs.loading import parsed_name
from memspec.running.process import Bounds
from memspec.sweep.cell import Cell, Memory, Tier
from memspec.sweep.measuring import BOUNDS

TRIALS = {"default": 4, "full": 16}
"""Trials of a cell, unless the plan says otherwise."""
SEEDS = 5


class SweepError(MemspecError):
    """A sweep file, or options, that cannot be meant."""


# ---- what a file says -----------------------------------------------------------------------------------------


class MemoryEntry(msgspec.Struct, forbid_unknown_fields=True):
    """``[[memory]]``: a plug and arguments of its constructor; a list is swept."""

    plug: str
    arguments: dict[str, Any] = {}


class ExperimentEntry(msgspec.Struct, forbid_unknown_fields=True):
    """``[[experiment]]``: its name, the grid, what is computed from the grid, and the metrics that its page shows."""

    name: str
    grid: dict[str, list[Any]] = {}
    set: dict[str, Any] = {}
    metrics: list[str] = []


class Told(msgspec.Struct, forbid_unknown_fields=True):
    """A sweep file."""

    memory: list[MemoryEntry]
    experiment: list[ExperimentEntry]
    trials: int | None = None
    seeds: int | list[int] = SEEDS
    tier: Tier = "default"
    seconds: float | None = None
    memory_gib: float | None = None


# ---- what it means --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One setting of one experiment, and where it lies on the grid."""

    experiment: str
    setting: Setting
    axes: tuple[tuple[str, Any], ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that a sweep is to measure.

    Attributes:
        points: settings of experiments, each with its place on the grid.
        seeds: each is a repetition of everything on other streams.
        bounds: of a cell.
    """

    memories: tuple[Memory, ...]
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    trials: int
    tier: Tier = "default"
    bounds: Bounds = BOUNDS["default"]

    def __len__(self) -> int:
        return len(self.memories) * len(self.points) * len(self.seeds)

    def groups(self, size: int) -> Iterator[list[Cell]]:
        """All cells, those together that differ in the seed alone, at most ``size``; memories take turns."""
        for point in self.points:
            for seeds in _batched(self.seeds, size):
                for memory in self.memories:
                    yield [self.cell(memory, point, seed) for seed in seeds]

    def cell(self, memory: Memory, point: Point, seed: int) -> Cell:
        """One of them."""
        return Cell(memory, point.experiment, point.setting, self.trials, seed, self.tier, point.axes)


def _batched(things: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]


def read(path: Path) -> Told:
    """What a file says.

    Raises:
        SweepError: if it cannot be read, is no TOML, or has entries that mean nothing.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Told)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError, ValueError) as error:
        raise SweepError(f"{path}: {error}") from error


def planned(told: Told) -> Plan:
    """What it means.

    Raises:
        SweepError: naming the entry, what is wrong with it, and what there is.
    """
    memories = tuple(memory for entry in told.memory for memory in _memories(entry))
    points = tuple(point for entry in told.experiment for point in _points(entry))
    seeds = tuple(range(told.seeds)) if isinstance(told.seeds, int) else tuple(told.seeds)
    trials = TRIALS[told.tier] if told.trials is None else told.trials
    for name, things in (("memory", memories), ("experiment", points), ("seed", seeds)):
        if not things:
            raise SweepError(f"there is no {name}")
        if len(set(things)) != len(things):
            raise SweepError(f"the same {name} is named twice: {_twice(things)}")
    for name, number in (("trials", trials), ("seconds", told.seconds), ("memory_gib", told.memory_gib)):
        if number is not None and not number > 0:
            raise SweepError(f"{name} is {number}; it must be above 0")
    if min(seeds) < 0:
        raise SweepError(f"a seed is {min(seeds)}; seeds are numbers from 0")
    known = BOUNDS[told.tier]
    memory_bytes = known.memory_bytes if told.memory_gib is None else int(told.memory_gib * 2**30)
    bounds = Bounds(told.seconds or known.seconds, memory_bytes)
    return Plan(memories, points, seeds, trials, told.tier, bounds)


def _twice(things: Sequence[Any]) -> Any:
    found = next(thing for thing in things if things.count(thing) > 1)
    return getattr(found, "name", found)


def _memories(entry: MemoryEntry) -> Iterator[Memory]:
    plug, given = parsed_name(entry.plug)
    swept = {name: value if isinstance(value, list) else [value] for name, value in sorted(entry.arguments.items())}
    both = sorted(given.keys() & swept.keys())
    if both:
        raise SweepError(f"{entry.plug}: {', '.join(both)} is given behind the name and under arguments")
    for values in itertools.product(*swept.values()):
        yield Memory(plug, tuple(sorted({**given, **dict(zip(swept, values))}.items())))


def _points(entry: ExperimentEntry) -> Iterator[Point]:
    known = catalog.experiments()
    if entry.name not in known:
        raise SweepError(f"there is no experiment {entry.name!r}; there are {', '.join(sorted(known))}")
    experiment = known[entry.name]
    unknown = [name for name in entry.metrics if name not in experiment.metrics]
    if unknown:
        raise SweepError(f"{entry.name} does not measure {unknown[0]!r}; it measures {', '.join(experiment.metrics)}")
    fields = {field.name for field in dataclasses.fields(experiment.setting)}
    used = {name for text in entry.set.values() if isinstance(text, str) for name in _names(text)}
    for name in [*entry.grid, *entry.set]:
        if name not in fields and (name in entry.set or name not in used):
            raise SweepError(
                f"{entry.name} has no setting {name!r}, and nothing is computed from it; it has {', '.join(sorted(fields))}"
            )
        if name in entry.grid and name in entry.set:
            raise SweepError(f"{entry.name}: {name} is on the grid and is set")
    for name, values in entry.grid.items():
        if not values:
            raise SweepError(f"{entry.name}: grid.{name} is empty")
    seen: dict[Setting, Mapping[str, Any]] = {}
    for point in itertools.product(*entry.grid.values()):
        at = dict(zip(entry.grid, point))
        setting = _setting(experiment.setting, entry, at, fields)
        if setting in seen:
            raise SweepError(f"{entry.name}: {at} and {seen[setting]} come to the same setting, {setting}")
        seen[setting] = at
        axes = tuple((name, value) for name, value in at.items())
        yield Point(entry.name, setting, axes, tuple(entry.metrics))


def _setting(kind: type[Setting], entry: ExperimentEntry, at: Mapping[str, Any], fields: set[str]) -> Setting:
    chosen = {name: value for name, value in at.items() if name in fields}
    kinds = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    for name, value in entry.set.items():
        if isinstance(value, str) and kinds[name] in ("int", "float"):
            try:
                number = computed(value, {**_defaults(kind), **chosen, **at})
            except (ValueError, ArithmeticError) as error:
                raise SweepError(f"{entry.name}: set.{name} = {value!r}: {error}") from None
            value = round(number) if kinds[name] == "int" else float(number)
        chosen[name] = value
    try:
        return msgspec.convert(chosen, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise SweepError(f"{entry.name}: {chosen}: {error}") from None


def _defaults(kind: type[Setting]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind)}


# ---- what is computed from the grid ---------------------------------------------------------------------------

OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Any] = {"min": min, "max": max, "round": round}


def computed(text: str, names: Mapping[str, Any]) -> float:
    """The value of a formula of numbers, names, ``+ - * / // **``, ``min``, ``max`` and ``round``.

    Raises:
        ValueError: if it is none, or names something unknown.
        ArithmeticError: if it has no value.
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in names:
                raise ValueError(f"there is no {node.id}; there are {', '.join(sorted(names))}")
            return names[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Pow) and abs(right) > 64:
                raise ValueError("a power above 64")
            return OPERATORS[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value(node.operand))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            return FUNCTIONS[node.func.id](*map(value, node.args))
        raise ValueError(f"{ast.unparse(node)} is no formula; write numbers, names, + - * / // **, min, max, round")

    number = value(_parsed(text))
    if not isinstance(number, (int, float)):
        raise ValueError(f"it comes to {number!r}, which is no number")
    return number


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(str(error)) from None


def _names(text: str) -> set[str]:
    try:
        return {node.id for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)}
    except ValueError:
        return set()
