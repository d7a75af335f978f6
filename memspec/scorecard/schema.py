"""The schema of a scorecard file: one description for writing, for reading and for documentation.

Every card is held to it before it is written and after it is read; ``docs/scorecard.schema.json`` is made from it. A card of
another schema is refused, and so is a field that is not named here: what is not understood cannot be compared. Where a part
may hold more (a memory's spec, its signature, the machine, a metric), it is kept as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from memspec.errors import RecordError
from memspec.judging.check import Kind, Status

SCHEMA = "memspec-scorecard/2"

Number = float | Literal["inf", "-inf", "nan"]
"""JSON has no infinities: they are written as text."""
Limit = float | Literal["inf", "-inf"]
Count = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1, max_length=2000)]


class SpecPart(Struct, kw_only=True):
    """What a memory declares; see ``memspec.MemorySpec``."""

    family: str


class Shape(Struct, kw_only=True):
    """The dimensions it was built with; ``given`` where it was handed another capacity than it says it holds."""

    key_dim: Annotated[int, Meta(ge=1)]
    value_dim: Annotated[int, Meta(ge=1)]
    capacity: Annotated[int, Meta(ge=1)]
    given: Annotated[int, Meta(ge=1)] | None = None


class Memory(Struct, kw_only=True):
    """What was under test."""

    plug: Name
    package: str | None = None
    version: str | None = None
    spec: SpecPart | None = None
    capabilities: list[str] = []
    widths: str | None = None
    parameters: Count | None = None
    shape: Shape | None = None
    sizes: dict[str, Count] | None = None
    state_bytes: Count | None = None
    device: str | None = None
    refused: str = ""


class Signature(Struct, kw_only=True):
    """What the numbers depend on beside the memory."""

    memspec: str
    seed: int
    tier: str
    dtype: str
    torch: str
    device: str | None


class Machine(Struct, kw_only=True):
    """Where it ran."""

    processor: str
    cores: int | None


class Bound(Struct, kw_only=True, forbid_unknown_fields=True):
    """What was required, and by whom."""

    source: str
    at_least: Limit | None = None
    at_most: Limit | None = None
    share: Annotated[float, Meta(ge=0, le=1)] | None = None


class Failure(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a check did not pass; see ``memspec.failure.Failure``."""

    check: str
    memory: str
    rule: str
    got: str
    expected: str
    cause: str
    repeat: str
    done: str = ""
    meaning: str = ""
    raised: str = ""
    stack: str = ""


class Check(Struct, kw_only=True, forbid_unknown_fields=True):
    """One check; see ``memspec.judging.check.Check``."""

    id: Name
    kind: Kind
    axis: str
    status: Status
    metric: str | None = None
    estimate: Number | None = None
    interval: tuple[Number, Number] | None = None
    alpha: float | None = None
    bound: Bound | None = None
    trials: Count | None = None
    seconds: float | None = None
    experiment: str | None = None
    setting: str | None = None
    failure: Failure | None = None
    reason: str = ""
    message: str = ""
    blind: Number | None = None
    required: bool = True


class Score(Struct, kw_only=True, forbid_unknown_fields=True):
    """An axis as one number, with its anchors."""

    score: Number
    raw: Number
    floor: Number
    ceiling: Number
    experiment: str
    metric: str
    interval: tuple[Number, Number]
    trials: Count
    description: str = ""
    settings: list[str] = []
    confidence: float = 0.95


class Metric(Struct, kw_only=True):
    """One metric of an experiment at one setting: a number a trial, or a curve a trial where ``at`` gives its points."""

    values: list[Number | list[Number]]
    at: list[Number] | None
    description: str = ""
    low: Number = 0.0
    high: Number = 1.0
    better: Literal["up", "down", "none"] = "up"


class Block(Struct, kw_only=True, forbid_unknown_fields=True):
    """The raw measurements of an experiment at one setting."""

    experiment: Name
    setting: str
    first_trial: Count
    metrics: dict[str, Metric]
    fields: dict[str, Any] = {}
    done: str = ""
    showing: dict[str, Any] = {}


class Observation(Struct, kw_only=True, forbid_unknown_fields=True):
    """What was seen of one promise; see ``memspec.inference``."""

    name: Name
    seen: Any
    promise: bool
    declared: bool
    evidence: str


class Observed(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the memory was seen to do."""

    spec: str
    observations: list[Observation]
    offers: list[str]
    advice: list[str]


class Gate(Struct, kw_only=True, forbid_unknown_fields=True):
    """What came of the comparison with a baseline."""

    baseline: str
    verdict: str
    policy: str = ""
    losses: list[str] = []
    warnings: list[str] = []


class Made(Struct, kw_only=True, forbid_unknown_fields=True):
    """When a card was made, and of which commit; times as of ISO 8601."""

    at: datetime
    commit: str = ""
    committed: datetime | None = None
    changed: bool = False


class Card(Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything one run found out about one memory."""

    schema: Literal["memspec-scorecard/2"]
    memory: Memory
    signature: Signature
    machine: Machine
    checks: list[Check]
    not_asked: dict[str, str]
    scores: dict[str, Score]
    cost: dict[str, Any]
    measurements: list[Block]
    verdict: str = ""
    notes: list[str] = []
    stopped: str = ""
    observed: dict[str, Any] = {}
    gate: dict[str, Any] = {}
    made: dict[str, Any] = {}
    counts: dict[str, int] = {}


def checked(data: Any) -> Any:
    """``data`` itself, if it is a card.

    Raises:
        RecordError: naming the first field that is wrong, and how.
    """
    if not isinstance(data, dict):
        raise RecordError(f"holds a {type(data).__name__}, not a scorecard")
    if data.get("schema") != SCHEMA:
        raise RecordError(f"schema is {data.get('schema')!r}, this memspec reads {SCHEMA!r}")
    card: Card = _converted(data, Card)
    for name, value, kind in (
        ("observed", card.observed, Observed),
        ("gate", card.gate, Gate),
        ("made", card.made, Made),
    ):
        if value:
            _converted(value, kind, name)
    _even(card.measurements)
    repeated = {c.id for c in card.checks if c.id in card.not_asked}
    if len({c.id for c in card.checks}) < len(card.checks) or repeated:
        raise RecordError("checks: an id stands there twice")
    for status, count in card.counts.items() if card.schema == SCHEMA else ():
        held = sum(check.status == status for check in card.checks)
        if held != count:
            raise RecordError(f"counts.{status}: it says {count}, and checks has {held}")
    return data


def reported(sent: Mapping[str, Any]) -> None:
    """Hold what one check reports for a card to what a card may hold.

    Args:
        sent: ``check`` (whose status may be open), ``blocks``, ``about`` and ``observed``, as JSON.

    Raises:
        RecordError: naming the first field that is wrong, and how.
    """
    check = {**sent["check"], "status": sent["check"].get("status") or "not_run"}
    parts = (
        ("check", check, Check),
        ("measurements", sent["blocks"], list[Block]),
        ("memory", sent["about"], Memory | None),
        ("observed", sent.get("observed"), Observed | None),
    )
    for name, value, kind in parts:
        held = _converted(value, kind, name)
        if name == "measurements":
            _even(held)


def _converted(value: Any, kind: Any, name: str = "") -> Any:
    """A part of a card as what it is to be.

    Raises:
        RecordError: naming the field, below ``name``, and what is wrong with it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        field = f"{name}{where.strip('`').removeprefix('$')}".removeprefix(".")
        raise RecordError(f"{field or 'the card'}: {what}") from error


def _even(blocks: Sequence[Block]) -> None:
    for number, block in enumerate(blocks):
        for name, metric in block.metrics.items():
            problem = _uneven(metric)
            if problem:
                raise RecordError(f"measurements[{number}].metrics.{name}.values: {problem}")


def _uneven(metric: Metric) -> str:
    """What is wrong with a metric's table of values; empty if nothing is."""
    points = None if metric.at is None else len(metric.at)
    if not metric.values:
        return "no trial at all"
    for values in metric.values:
        if isinstance(values, list) != (points is not None):
            return "numbers where there should be curves, or curves where there should be numbers"
        if isinstance(values, list) and len(values) != points:
            return f"a curve of {len(values)} numbers at {points} points"
    return "" if float(metric.low) < float(metric.high) else "the metric's range is empty"


def as_json_schema() -> dict[str, Any]:
    """The same as a JSON Schema (2020-12), for other readers."""
    schema: dict[str, Any] = msgspec.json.schema(Card)
    return {"title": f"memspec scorecard, {SCHEMA}", **schema}


if __name__ == "__main__":
    print(json.dumps(as_json_schema(), indent=1))
