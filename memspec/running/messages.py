"""What may come over the socket: the one place where it is believed, and then only if it fits.

Whoever sits at the other end is a process in which a memory has run, which may have patched anything, or a copy of one.
So every message is held to its shape here, down to what a check reports for the card, before the watching process
looks at it; whatever does not fit is :class:`memspec.running.wire.Damaged`, and costs that memory's process.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import pytest
from msgspec import Meta, Struct

from memspec.errors import RecordError
from memspec.failure import plain
from memspec.judging.check import Check
from memspec.running.wire import Damaged
from memspec.scorecard.schema import reported

Seconds = Annotated[float, Meta(ge=0, le=1e7)]


# ---- from a memory's process ----------------------------------------------------------------------------------


class Loaded(Struct, tag_field="event", tag="loaded"):
    """The memory is loaded, or ``refused``: why it cannot be."""

    refused: str | None = None


class Reported(Struct, tag_field="event", tag="report"):
    """What pytest reports of one phase of a check; ``more``: seconds that the memory's slow calls may take beside the rest."""

    report: dict[str, Any]
    more: Seconds = 0.0


class Warned(Struct, tag_field="event", tag="warning"):
    """A warning that was given meanwhile, as ``pytest_warning_recorded`` has it."""

    message: str
    category: tuple[str, str]
    file: str
    line: int
    when: Literal["config", "collect", "runtest"]
    nodeid: str
    location: tuple[str, int, str] | None = None


class Done(Struct, tag_field="event", tag="done"):
    """The check has ended."""


class Unknown(Struct, tag_field="event", tag="unknown"):
    """The check that was to be run has not been collected there."""


Event = Loaded | Reported | Warned | Done | Unknown


class Report(Struct):
    """What of a serialised report is relied on."""

    nodeid: str
    location: tuple[str, int | None, str]
    keywords: dict[str, Any]
    outcome: Literal["passed", "failed", "skipped"]
    when: Literal["setup", "call", "teardown"]
    sections: list[tuple[str, str]]
    user_properties: list[tuple[str, Any]]
    duration: Seconds
    kind: Literal["TestReport"] = msgspec.field(name="$report_type")


class Sent(Struct):
    """What a check says of itself in a report (the property ``memspec``)."""

    memory: str
    check: dict[str, Any]
    blocks: list[dict[str, Any]]
    about: dict[str, Any] | None
    observed: dict[str, Any] | None = None


# ---- from the waiting process ---------------------------------------------------------------------------------


class Forked(Struct, tag_field="event", tag="forked"):
    """A copy has been made; its id, and that of the process it came from."""

    pid: Annotated[int, Meta(gt=0)]
    server: Annotated[int, Meta(gt=0)]


class Reaped(Struct, tag_field="event", tag="reaped"):
    """A copy has ended."""

    status: int | None


class Collected(Struct, tag_field="event", tag="manifest"):
    """What is planned."""

    manifest: dict[str, Any]


class Pong(Struct, tag_field="event", tag="pong"):
    """It is there."""


T = TypeVar("T")


def read(message: dict[str, Any], kind: Any) -> Any:
    """A message as one of ``kind``, a class or a union of them.

    Raises:
        Damaged: if it is none.
    """
    try:
        return msgspec.convert(message, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Damaged(f"it sent what is no message ({plain(error)}): {plain(message, longest=80)}") from error


def report_of(config: pytest.Config, event: Reported, nodeid: str, memory: str) -> tuple[pytest.TestReport, Any]:
    """A report of the check ``nodeid`` of a memory as pytest has it, and what the check says of itself (None: nothing).

    Raises:
        Damaged: if it is no such report.
    """
    held = read(event.report, Report)
    if held.nodeid != nodeid:
        raise Damaged(f"it sent a report of another check: {plain(held.nodeid, longest=80)}")
    said = None
    for name, value in held.user_properties:
        if name == "memspec":
            said = _said(value, memory)
    try:
        report = config.hook.pytest_report_from_serializable(config=config, data=event.report)
        if not isinstance(report, pytest.TestReport):
            raise Damaged("it sent what is no report of pytest's")
        if isinstance(report.longrepr, list):  # JSON knows no tuples, which skips are made of
            report.longrepr = tuple(report.longrepr)
        str(report.longreprtext)  # what is shown of it can be made
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"it sent a report that pytest cannot read ({type(error).__name__}: {plain(error)})") from error
    return report, said


def _said(value: Any, memory: str) -> Any:
    try:
        data = json.loads(value)
        sent = msgspec.convert(data, Sent)
        if sent.memory != memory:
            raise Damaged(f"it sent what another memory's check is to say: {plain(sent.memory, longest=80)}")
        reported(data)
        Check.from_json(sent.check)
    except (TypeError, ValueError, KeyError, RecursionError, RecordError) as error:
        raise Damaged(f"what its check says of itself fits no card ({plain(error)})") from error
    return data
