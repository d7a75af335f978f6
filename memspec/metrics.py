"""What a metric is, and how an experiment is to be shown: declared beside the experiment, read by whatever shows it.

Nothing here draws, prints or judges. A record carries these declarations with its numbers, so that a saved card is
shown, compared and summed up without the experiments that made it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Direction = Literal["up", "down", "none"]


@dataclass(frozen=True)
class Metric:
    """What an experiment measures.

    Attributes:
        description: one line, with the unit.
        low, high: the known range; infinite where there is none (then the share of trials that meet a bound is judged).
        better: direction of improvement, ``up`` or ``down``; ``none`` where neither is.
        unit: ``s``, ``B`` (bytes), ``bit``, ``writes``, ...; empty for shares, cosines and other pure numbers. Seconds
            and bytes are shown with a prefix that suits their size.
        label: what stands at an axis; empty for the metric's name in words.
        timing: made of times, so that it belongs to the machine: shown, never compared.
        resolution: differences below this are none, and values of a metric without a range below ten times this are as
            good as 0: an error of 4e-15 that becomes 8e-15 has not doubled.
        measure: metrics of one experiment that name the same measure differ in their denominator alone: where one
            moves, the others do.
    """

    description: str
    low: float = 0.0
    high: float = 1.0
    better: Direction = "up"
    unit: str = ""
    label: str = ""
    timing: bool = False
    resolution: float = 1e-7
    measure: str = ""

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def axis(self, name: str) -> str:
        """The label of an axis that shows this metric, called ``name``; seconds and bytes have their unit at the ticks."""
        said = self.label or name.replace("_", " ")
        return f"{said} ({self.unit})" if self.unit and self.unit not in ("s", "B") else said


@dataclass(frozen=True)
class Axis:
    """What an experiment's curves, or its main sweep, run along.

    Attributes:
        label: what stands at the axis, such as ``pairs stored``.
        field: the setting's field that is swept; empty where the metrics are curves.
        scale: ``auto`` is logarithmic for positive points that span a factor of 16.
    """

    label: str
    field: str = ""
    scale: Literal["auto", "linear", "log"] = "auto"


@dataclass(frozen=True)
class View:
    """How metrics of one experiment are drawn; a metric that no view names has a panel of its own.

    Attributes:
        metrics: one or more that share a panel (and so an axis and a unit).
        title: of the panel; empty for the metric's name.
        form: ``matrix`` for a flattened square matrix (row i: after task i), of which each column is a line.
        axis: of this panel, where it is not the experiment's.
        caption: for readers, where a metric's own description is for readers of formulas.
        people: what people do, ``(at, low, high)`` each; empty where nobody measured it.
    """

    metrics: tuple[str, ...]
    title: str = ""
    form: Literal["line", "matrix"] = "line"
    axis: Axis | None = None
    caption: str = ""
    people: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class KeyFigure:
    """One of the handful of numbers that papers quote: a column of the table of memories.

    Attributes:
        name: the column.
        metric: what it is computed from.
        description: one line, with what was done.
        of: ``mean`` over trials with its interval; ``median`` over trials; ``best``: the largest mean over settings;
            ``reach``: the largest ``along`` up to which the mean is at least ``level``.
        setting: the label of the setting, with ``{field}`` places for its fields (``reach`` takes all that fit); empty
            for the first that was measured (for ``best``, all).
        at: a point of the metric's curve; None for the mean over the curve.
        along, level: of ``reach``: the setting's field, and the level.
        factor: what the number is multiplied by, where a column has a unit of its own.
        place: columns are ordered by it.
        price: ``bytes`` or ``time`` where it is paid for what a memory recalls, in ``B`` or ``s`` before ``factor``; what
            is paid in one kind adds up.
    """

    name: str
    metric: str
    description: str
    of: Literal["mean", "median", "best", "reach"] = "mean"
    setting: str = ""
    at: float | None = None
    along: str = ""
    level: float = 0.95
    factor: float = 1.0
    place: int = 100
    price: Literal["", "bytes", "time"] = ""


@dataclass(frozen=True)
class Showing:
    """All that an experiment says about how it is shown.

    Attributes:
        axis: of its curves, or of its main sweep.
        views: panels that differ from one a metric.
        figures: its columns in the table of memories.
        cost: the metrics that are the memory's cost, in the order in which they are listed; empty for an experiment
            that measures what a memory does and not what it takes.
    """

    axis: Axis = Axis("")
    views: tuple[View, ...] = ()
    figures: tuple[KeyFigure, ...] = ()
    cost: tuple[str, ...] = ()

    def view(self, metric: str) -> View:
        """The view that names the metric, else one of its own."""
        return next((view for view in self.views if metric in view.metrics), View((metric,)))

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults; :meth:`from_json` reads it."""
        return _told(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Showing:
        return cls(
            _read(Axis, data.get("axis", {"label": ""})),
            tuple(_view(view) for view in data.get("views", ())),
            tuple(_read(KeyFigure, figure) for figure in data.get("figures", ())),
            tuple(data.get("cost", ())),
        )


def metric_from_json(data: Mapping[str, Any]) -> Metric:
    """A metric as a record holds it, where infinities are text and what the metric's values are stands beside it."""
    metric = _read(Metric, {"description": "", **data})
    return dataclasses.replace(metric, low=float(metric.low), high=float(metric.high))


def _told(thing: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, JSON-able."""
    out = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if value != field.default:
            out[field.name] = _plain(value)
    return out


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _told(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _view(data: Mapping[str, Any]) -> View:
    axis = data.get("axis")
    return dataclasses.replace(
        _read(View, data),
        metrics=tuple(data["metrics"]),
        axis=_read(Axis, axis) if axis else None,
        people=tuple((float(at), float(low), float(high)) for at, low, high in data.get("people", ())),
    )


def _read(kind: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from the entries that it knows: what a later version adds is no error."""
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in data.items() if name in known})
