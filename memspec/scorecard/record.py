"""The record: everything one run found out about one memory, as JSON.

Raw measurements are kept, so scores can be recomputed without running again. Files are written atomically and read
with ``json`` only.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspec.errors import RecordError
from memspec.judging.check import Check
from memspec.scorecard.files import write_atomically
from memspec.scorecard.schema import SCHEMA, checked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame

STATUSES = ("pass", "measured", "fail", "inconclusive", "skip", "not_run")
"""Of the checks that were asked."""

VERDICTS = ("fail", "worse", "error", "unfinished", "inconclusive", "partial", "measured", "pass")
"""The first word of a verdict, worst first."""

UNFINISHED = "the run has not ended"
"""Why a card holds nothing that was put in place when its run began."""


@dataclass
class Record:
    """One memory's scorecard.

    Attributes:
        memory: plug, package, version, spec, capabilities, widths, parameters, shape, state_bytes (fresh), device; or plug
            and ``refused``: why it could not be loaded.
        signature: what must agree for two records to be compared (memspec version, seed, settings, dtype, ...).
        machine: where it ran.
        checks: those that were asked.
        not_asked: checks that do not apply, with the reason: ``{id: reason}``.
        scores: axis -> {score, raw, floor, ceiling, interval, trials, description}.
        cost: state bytes, growth per pair, update/query seconds, FLOPs or null.
        blocks: raw measurements, one dict an experiment and setting; see :meth:`measurements`.
        observed: what the memory was seen to do; see :meth:`memspec.inference.observed.Observed.to_json`. Empty if
            that was not looked at.
        notes: why this is not the whole specification (a selection of checks, an interrupted run).
        gate: what came of the comparison with a baseline: ``baseline``, ``verdict``, ``policy``, ``losses``, ``warnings``;
            empty if there was none.
        made: when and of what: ``at`` (UTC), and in a git checkout ``commit``, ``committed`` (when that was) and
            ``changed`` (whether files differ from it).
        stopped: why the run ended before all planned checks had run; empty if it came to its end.
    """

    memory: dict[str, Any]
    signature: dict[str, Any]
    machine: dict[str, Any]
    checks: list[Check] = field(default_factory=list)
    not_asked: dict[str, str] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: str = ""
    observed: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.memory["plug"])

    @property
    def refused(self) -> str:
        """Why the memory could not be loaded; empty if it was."""
        return str(self.memory.get("refused", ""))

    @property
    def counts(self) -> dict[str, int]:
        """Checks by status."""
        return {status: sum(c.status == status for c in self.checks) for status in STATUSES}

    @property
    def decided(self) -> int:
        """Checks that came to an end and did not fail."""
        return self.counts["pass"] + self.counts["measured"]

    @property
    def verdict(self) -> str:
        """One of the following, the first that applies.

        ``fail``: a check failed. ``worse``: something is worse than in the baseline. ``unfinished``: this is the mark of a run that has not ended. ``error``: nothing was
        measured, or a planned check was not run and nobody stopped it. ``inconclusive``: no check was decided.
        ``partial``: a check was skipped, only a selection ran, or the run was stopped. ``measured``: nothing was required
        that a memory which answers zeros does not meet. ``pass (n inconclusive)``. ``pass``.
        """
        counts = self.counts
        if counts["fail"]:
            return "fail"
        if self.gate.get("verdict") == "worse":
            return "worse"
        if self.stopped == UNFINISHED:
            return "unfinished"
        if not self.decided + counts["inconclusive"] or (counts["not_run"] and not self.stopped):
            return "error"
        if not self.decided:
            return "inconclusive"
        if counts["skip"] or self.notes or self.stopped:
            return "partial"
        if not counts["pass"]:
            return "measured"
        return f"pass ({counts['inconclusive']} inconclusive)" if counts["inconclusive"] else "pass"

    def measurements(self) -> DataFrame:
        """The tidy rows: experiment, setting, trial, metric, at (NaN for scalars), value."""
        import numpy as np
        import pandas as pd

        frames = []
        for block in self.blocks:
            for metric, kept in block["metrics"].items():
                values = values_of(kept)
                at = [math.nan] if kept["at"] is None else kept["at"]
                trials = block["first_trial"] + np.arange(len(values))
                frames.append(
                    pd.DataFrame(
                        {
                            "experiment": block["experiment"],
                            "setting": block["setting"],
                            "trial": np.repeat(trials, len(at)),
                            "metric": metric,
                            "at": np.tile(np.asarray(at, dtype=float), len(values)),
                            "value": values.reshape(-1),
                        }
                    )
                )
        columns = ["experiment", "setting", "trial", "metric", "at", "value"]
        if not frames:
            return pd.DataFrame(columns=columns)
        rows = pd.concat(frames, ignore_index=True)
        return rows.drop_duplicates(columns[:5]).sort_values(columns[:5], ignore_index=True)

    def to_json(self) -> dict[str, Any]:
        return _plain(
            {
                "schema": SCHEMA,
                "memory": self.memory,
                "signature": self.signature,
                "machine": self.machine,
                "verdict": self.verdict,
                "notes": self.notes,
                "stopped": self.stopped,
                "gate": self.gate,
                "made": self.made,
                "counts": self.counts,
                "checks": [c.to_json() for c in sorted(self.checks, key=lambda c: c.id)],
                "not_asked": dict(sorted(self.not_asked.items())),
                "scores": self.scores,
                "cost": self.cost,
                "observed": self.observed,
                "measurements": merged(self.blocks),
            }
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """The record that a file holds.

        Raises:
            RecordError: naming the first field that does not fit the schema.
        """
        checked(data)
        return cls(
            data["memory"],
            data["signature"],
            data["machine"],
            [Check.from_json(c) for c in data["checks"]],
            data["not_asked"],
            data["scores"],
            data["cost"],
            data["measurements"],
            data.get("notes", []),
            data.get("stopped", ""),
            data.get("observed", {}),
            data.get("gate", {}),
            data.get("made", {}),
        )


def merged(blocks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One block for each experiment and setting, trials in order and each once, however many workers measured them."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for block in sorted(blocks, key=lambda b: (b["experiment"], b["setting"], b["first_trial"])):
        key = block["experiment"], block["setting"]
        if key not in kept:
            kept[key] = {**block, "metrics": {name: dict(metric) for name, metric in block["metrics"].items()}}
            continue
        for name, metric in block["metrics"].items():
            mine = kept[key]["metrics"].setdefault(name, {**metric, "values": []})
            known = kept[key]["first_trial"] + len(mine["values"]) - block["first_trial"]
            mine["values"] = [*mine["values"], *metric["values"][max(0, known) :]]
    return list(kept.values())


def values_of(metric: Mapping[str, Any]) -> NDArray[np.float64]:
    """``[T]`` values of a metric in a block, or ``[T, K]`` of a curve; reads the strings ``nan`` and ``inf`` of a file."""
    import numpy as np

    return np.asarray(_floats(metric["values"]), dtype=float)


def save(records: Iterable[Record], path: Path) -> None:
    """Write one record, or several as ``{"schema", "cards": [...]}``; atomically."""
    cards = [checked(record.to_json()) for record in records]
    data = cards[0] if len(cards) == 1 else {"schema": SCHEMA, "cards": cards}
    write_atomically(path, json.dumps(data, indent=1, allow_nan=False))


def load(path: Path) -> list[Record]:
    """The records in a file.

    Raises:
        RecordError: if it is missing, not JSON, or of another schema, or says what cannot be; says which.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_once)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: there is no such file; a run with --memspec-scorecard={path} writes one") from error
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a readable JSON file ({error})") from error
    cards = data.get("cards", [data]) if isinstance(data, dict) else [data]
    if not isinstance(cards, list) or not cards:
        raise RecordError(f"{path}: cards: it must be a list of scorecards")
    try:
        for number, card in enumerate(cards):
            for where in _bare(card):
                raise RecordError(f"{where}: a bare NaN or infinity, which JSON does not have; it is written as text")
            _consistent(card, Record.from_json(card))
            if any(card["memory"]["plug"] == other["memory"]["plug"] for other in cards[:number]):
                raise RecordError(f"cards[{number}].memory.plug: {card['memory']['plug']} stands there twice")
        return [Record.from_json(card) for card in cards]
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of which every key stands there once: readers do not agree which of two is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RecordError(f"{next(key for key in keys if keys.count(key) > 1)}: the key stands there twice")
    return found


def _bare(value: Any, at: str = "") -> Iterator[str]:
    """Where in a card a number is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield at
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _bare(part, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _bare(part, f"{at}[{number}]")


def _consistent(data: Mapping[str, Any], one: Record) -> None:
    """Hold what a card says of itself to what it holds.

    Raises:
        RecordError: if its verdict is another than its checks come to.
    """
    said, comes_to = (str(text).partition(" ")[0] for text in (data.get("verdict", ""), one.verdict))
    if said and data["schema"] == SCHEMA and said != comes_to:
        raise RecordError(f"verdict: it says {said!r}, and what the card holds comes to {comes_to!r}")


def machine() -> dict[str, Any]:
    """Where this runs: processor, cores, operating system, Python."""
    import torch

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def _plain(value: Any) -> Any:
    """JSON-able: tuples become lists, infinities and NaN the strings ``inf``, ``-inf`` and ``nan``."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _floats(value: Any) -> Any:
    return [_floats(v) for v in value] if isinstance(value, list) else float(value)
