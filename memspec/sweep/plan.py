"""From a sweep file, or the same as options, to the cells it means; every wrong entry is one clear error."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from memspec.errors import MemspecError
from memspec.experiments import catalog
from memspec.experiments.base import Setting, check_choices, types_of
from memspec.failure import plain
from memspec.plugs.loading import parsed_name
from memspec.running.process import Bounds
from memspec.sweep.cell import Cell, Memory, Tier
from memspec.sweep.measuring import BOUNDS

TRIALS = {"default": 4, "full": 16}
"""Trials of a cell, unless the plan says otherwise."""
SEEDS = 5
MOST = 10_000_000
"""Cells of a plan at the most."""
LARGEST = 1e9
"""Trials, seconds and GiB at the most."""
LARGEST_SEED = 2**63 - 1
LONGEST_FORMULA = 1000
"""Characters."""


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

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.experiment}, {self.setting.label}"


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

    def group_count(self, size: int) -> int:
        """How many :meth:`groups` there are."""
        return len(self.memories) * len(self.points) * -(-len(self.seeds) // size)

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
        return msgspec.toml.decode(path.read_text(encoding="utf-8-sig"), type=Told)  # some editors begin with a mark
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError, ValueError) as error:
        raise SweepError(f"{path}: {error}") from error


def planned(told: Told, folder: Path | None = None) -> Plan:
    """What it means.

    Args:
        folder: that of the file, where plugs that are files are looked for first.

    Raises:
        SweepError: naming the entry, what is wrong with it, and what there is.
    """
    trials = TRIALS[told.tier] if told.trials is None else told.trials
    for name, number in (("trials", trials), ("seconds", told.seconds), ("memory_gib", told.memory_gib)):
        if number is not None and not 0 < number < LARGEST:
            raise SweepError(f"{name} is {number:g}; it must be above 0 and below {LARGEST:g}")
    seeds = _seeds(told.seeds)
    repeated = len(told.memory) * len(seeds)
    settings = sum(math.prod(len(values) for values in entry.grid.values()) for entry in told.experiment)
    if settings * repeated > MOST:
        raise SweepError(f"{settings * repeated:,} cells; a sweep has {MOST:,} at the most")
    memories = tuple(memory for entry in told.memory for memory in _memories(entry, folder))
    points = _apart(told.experiment)
    for name, things in (("memory", memories), ("experiment", points), ("seed", seeds)):
        if not things:
            raise SweepError(f"there is no {name}")
    for name, called in (("memory", [memory.name for memory in memories]), ("seed", list(map(str, seeds)))):
        if len(set(called)) != len(called):
            raise SweepError(f"the same {name} is named twice: {_twice(called)}")
    known = BOUNDS[told.tier]
    memory_bytes = known.memory_bytes if told.memory_gib is None else int(told.memory_gib * 2**30)
    plan = Plan(memories, points, seeds, trials, told.tier, Bounds(told.seconds or known.seconds, max(memory_bytes, 1)))
    if len(plan) > MOST:
        raise SweepError(f"{len(plan):,} cells; a sweep has {MOST:,} at the most")
    return plan


def _seeds(told: int | list[int]) -> tuple[int, ...]:
    if isinstance(told, int):
        if not 0 < told <= MOST:
            raise SweepError(f"seeds is {told}; it must be a number from 1 to {MOST:,}, or a list of seeds")
        return tuple(range(told))
    for seed in told:
        if not 0 <= seed <= LARGEST_SEED:
            raise SweepError(f"a seed is {seed}; seeds are numbers from 0 to {LARGEST_SEED}")
    return tuple(told)


def _twice(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _apart(entries: Sequence[ExperimentEntry]) -> tuple[Point, ...]:
    """The settings of all entries; one that several lead to is there once."""
    found: dict[tuple[str, Setting], Point] = {}
    for entry in entries:
        new = {(point.experiment, point.setting): point for point in _points(entry)}
        if new.keys() <= found.keys():
            raise SweepError(f"the same experiment is named twice: {next(iter(new.values())).name}")
        found = new | found
    return tuple(found.values())


def _memories(entry: MemoryEntry, folder: Path | None) -> Iterator[Memory]:
    plug, given = parsed_name(entry.plug)
    swept = {name: value if isinstance(value, list) else [value] for name, value in sorted(entry.arguments.items())}
    both = sorted(given.keys() & swept.keys())
    if both:
        raise SweepError(f"{entry.plug}: {', '.join(both)} is given behind the name and under arguments")
    for name, listed in swept.items():
        if not listed:
            raise SweepError(f"{entry.plug}: arguments.{name} is an empty list, of which there is no value to take")
        for value in listed:
            if not name.isidentifier() or not _is_literal(value):
                raise SweepError(
                    f"{entry.plug}: arguments.{name} = {value}: arguments are finite numbers, text, true, false, and lists "
                    "and tables of these"
                )
    path = plug.rpartition(":")[0]
    home = str(folder.resolve()) if folder is not None and path.endswith(".py") and (folder / path).is_file() else ""
    for values in itertools.product(*swept.values()):
        yield Memory(plug, tuple(sorted({**given, **dict(zip(swept, values))}.items())), home)


def _is_literal(value: Any) -> bool:
    """Whether a value can be written behind a plug's name."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_literal, value))
    if isinstance(value, dict):
        return all(map(_is_literal, value.values()))
    return isinstance(value, (bool, int, str))


def _points(entry: ExperimentEntry) -> Iterator[Point]:
    known = catalog.experiments()
    if entry.name not in known:
        raise SweepError(f"there is no experiment {entry.name!r}; there are {', '.join(sorted(known))}")
    experiment = known[entry.name]
    unknown = [name for name in entry.metrics if name not in experiment.metrics]
    if unknown:
        raise SweepError(f"{entry.name} does not measure {unknown[0]!r}; it measures {', '.join(experiment.metrics)}")
    fields = {field.name for field in dataclasses.fields(experiment.setting)}
    read = _reads(experiment.setting, entry)
    used = {name for names in read.values() for name in names}
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
    order = _in_order(entry.name, read)
    seen: dict[Setting, Mapping[str, Any]] = {}
    for point in itertools.product(*entry.grid.values()):
        at = dict(zip(entry.grid, point))
        setting = _setting(experiment.setting, entry, at, order)
        if setting in seen:
            both = f"{_spelled(at)} and {_spelled(seen[setting])}"
            raise SweepError(f"{entry.name}: {both} come to the same setting, {_spelled(dataclasses.asdict(setting))}")
        seen[setting] = at
        axes = tuple((name, value) for name, value in at.items())
        yield Point(entry.name, setting, axes, tuple(entry.metrics))


def _spelled(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _reads(kind: type[Setting], entry: ExperimentEntry) -> dict[str, set[str]]:
    """The names that each formula of ``set`` reads; text for a field that is no number is no formula."""
    kinds = types_of(kind)
    formulas = {name: text for name, text in entry.set.items() if isinstance(text, str)}
    return {name: _names(text) for name, text in formulas.items() if kinds.get(name) in (int, float)}


def _in_order(experiment: str, read: Mapping[str, set[str]]) -> list[str]:
    """The formulas, each behind those that it reads.

    Raises:
        SweepError: if some are computed from each other.
    """
    try:
        within = {name: names & read.keys() for name, names in read.items()}
        return list(graphlib.TopologicalSorter(within).static_order())
    except graphlib.CycleError as error:
        ring = " from ".join(error.args[1][::-1])
        raise SweepError(f"{experiment}: set computes {ring}, so none of them has a value") from None


def _setting(kind: type[Setting], entry: ExperimentEntry, at: Mapping[str, Any], formulas: Sequence[str]) -> Setting:
    """The setting at a place on the grid; ``formulas`` of ``set`` are computed in this order."""
    kinds = types_of(kind)
    chosen = {name: value for name, value in {**at, **entry.set}.items() if name in kinds and name not in formulas}
    for name in formulas:
        try:
            number = computed(entry.set[name], {**_defaults(kind), **at, **chosen})
            chosen[name] = round(number) if kinds[name] is int else float(number)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise SweepError(f"{entry.name}: set.{name} = {plain(repr(entry.set[name]), 80)}: {error}") from None
    try:
        check_choices(kind, chosen)  # whose message says what there is
        return msgspec.convert(chosen, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise SweepError(f"{entry.name}: {plain(chosen, 200)}: {error}") from None


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
            if isinstance(node.op, ast.Pow) and (abs(right) > 64 or abs(left) > 1e64):
                raise ValueError("a power above 64, or of a number above 1e64")
            return OPERATORS[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value(node.operand))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            return FUNCTIONS[node.func.id](*map(value, node.args))
        raise ValueError(f"{ast.unparse(node)} is no formula; write numbers, names, + - * / // **, min, max, round")

    try:
        number = value(_parsed(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(number, (int, float)):
        raise ValueError(f"it comes to {number!r}, which is no number")
    return number


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST_FORMULA:
        raise ValueError(f"a formula of {len(text):,} characters; it has {LONGEST_FORMULA:,} at the most")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or "it is nested too deeply") from None


def _names(text: str) -> set[str]:
    try:
        return {node.id for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)}
    except ValueError:
        return set()
