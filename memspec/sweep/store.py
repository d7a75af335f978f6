"""The results folder: tidy rows in Parquet, one file for cells that came back together, each written in one step.

    FOLDER/plans/<plan>.json                    what was asked for, and the signature of each memory
    FOLDER/cells/<signature>/<key>.parquet      rows of one or several cells; <key> is that of the first

A file is whole or not there, and is never changed; its footer lists its cells. What several sweeps write beside each
other can only be the same numbers twice, and a cell is read once. Rows of another signature lie in another folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memspec.errors import RecordError
from memspec.scorecard.files import write_atomically
from memspec.sweep.cell import Outcome
from memspec.sweep.signature import digest_of

if TYPE_CHECKING:
    from pandas import DataFrame

META = b"memspec"
AXIS, ARGUMENT = "at.", "argument."
"""What stands before the columns of the grid and of constructor arguments."""
PASSING = frozenset({"worker", "refused", "signature"})
"""Causes that say nothing of the cell: it is run again by the next sweep."""


@dataclass(frozen=True)
class Known:
    """A cell that is in the folder: how it ended."""

    status: str
    why: str = ""


class Store:
    """A results folder.

    Raises:
        RecordError: if it cannot be made, or what is there is no folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "cells").mkdir(parents=True, exist_ok=True)
            (folder / "plans").mkdir(exist_ok=True)
        except OSError as error:
            raise RecordError(f"{folder} cannot hold results: {error.strerror or error}") from error
        self.damaged: list[Path] = []

    # ---- writing ----------------------------------------------------------------------------------------------

    def write(self, outcomes: Sequence[Outcome], signature: Mapping[str, Any]) -> Path:
        """Write what came back together; all are cells of this signature.

        Raises:
            RecordError: if it cannot be written; nothing of it is there then.
        """
        digest = digest_of(signature)
        path = self.folder / "cells" / digest / f"{outcomes[0].cell.key}.parquet"
        told = {
            "signature": dict(signature),
            "cells": {o.cell.key: [o.status, o.why] for o in outcomes},
        }
        table = pa.Table.from_pydict(columns(outcomes, digest))
        table = table.replace_schema_metadata({META: json.dumps(told).encode()})
        temporary = None
        try:
            path.parent.mkdir(exist_ok=True)
            while path.exists():  # the same first cell, failed before
                path = path.with_name(f"{outcomes[0].cell.key}-{time.time_ns():x}.parquet")
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            os.close(handle)
            pq.write_table(table, temporary, compression="zstd")
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, pa.ArrowException) as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise RecordError(f"{path} could not be written: {getattr(error, 'strerror', None) or error}") from error
        return path

    def note_plan(self, name: str, told: Mapping[str, Any]) -> None:
        """Keep what a sweep was to measure.

        Raises:
            RecordError: if it cannot be written.
        """
        write_atomically(self.folder / "plans" / f"{name}.json", json.dumps(told, indent=1, default=str) + "\n")

    # ---- reading ----------------------------------------------------------------------------------------------

    def plans(self) -> list[dict[str, Any]]:
        """Every plan that was begun here, the latest last."""
        paths = sorted((self.folder / "plans").glob("*.json"), key=lambda path: path.stat().st_mtime)
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def known(self, signature: Mapping[str, Any]) -> dict[bytes, Known]:
        """The cells of a signature that have come to an end, by key; a success stands above a failure."""
        found: dict[bytes, Known] = {}
        kinds: dict[tuple[str, str], Known] = {}  # few, and shared: there may be a hundred thousand cells
        for path, told in self._footers(digest_of(signature)):
            if told["signature"] != dict(signature):
                raise RecordError(f"{path} is of another signature than its folder says")
            for key, (status, why) in told["cells"].items():
                one, known = bytes.fromhex(key), kinds.setdefault((status, why), Known(status, why))
                if one not in found or found[one].status == "fail":
                    found[one] = known
        return found

    def signatures(self) -> dict[str, dict[str, Any]]:
        """The signatures of which there are results, by digest."""
        found = {}
        for folder in sorted((self.folder / "cells").iterdir()):
            for _, told in self._footers(folder.name):
                found[folder.name] = told["signature"]
                break
        return found

    def counts(self) -> Counter[str]:
        """Files by signature."""
        return Counter(path.parent.name for path in (self.folder / "cells").glob("*/*.parquet"))

    def _footers(self, digest: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted((self.folder / "cells" / digest).glob("*.parquet")):
            try:
                yield path, json.loads(pq.read_metadata(path).metadata[META])
            except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
                if path not in self.damaged:
                    self.damaged.append(path)

    def rows(self, digests: Sequence[str]) -> DataFrame:
        """Every row of these signatures, each cell once; a failed cell has one row, without a value.

        Raises:
            RecordError: if there is none.
        """
        tables: list[Any] = []
        seen: dict[str, tuple[str, int]] = {}
        for digest in digests:
            for path, told in self._footers(digest):
                try:
                    table = pq.read_table(path)
                except (OSError, pa.ArrowException):
                    self.damaged.append(path)
                    continue
                here = {}
                for key, (status, _) in told["cells"].items():
                    before = seen.get(key)
                    if before is None or (before[0] == "fail" and status != "fail"):
                        seen[key] = here[key] = (status, len(tables))
                tables.append(table)
        if not tables:
            raise RecordError(f"{self.folder} holds no results of the sweep that was planned last")
        kept = []
        for number, table in enumerate(tables):
            mine = [key for key, (_, where) in seen.items() if where == number]
            if mine:
                kept.append(table.filter(pc.is_in(table["key"], value_set=pa.array(mine))))
        frame: DataFrame = pa.concat_tables(kept, promote_options="permissive").to_pandas()
        return frame


def columns(outcomes: Sequence[Outcome], digest: str) -> dict[str, Any]:
    """The tidy rows of some outcomes, by column."""
    rows: dict[str, list[Any]] = {}
    first = outcomes[0].cell
    fixed = {f"{AXIS}{name}": value for name, value in first.axes}
    fixed |= {f.name: getattr(first.setting, f.name) for f in dataclasses.fields(first.setting)}
    for outcome in outcomes:
        cell = outcome.cell
        of_cell = {
            "signature": digest,
            "key": cell.key,
            "cell": cell.id,
            "memory": cell.memory.name,
            "plug": cell.memory.plug,
            "experiment": cell.experiment,
            "setting": cell.setting.label,
            "seed": cell.seed,
            "trials": cell.trials,
            "tier": cell.tier,
            "status": outcome.status,
            "why": outcome.why,
            "cause": outcome.cause,
            "stack": outcome.stack,
            "seconds": outcome.seconds,
            "attempts": outcome.attempts,
            "where": outcome.where,
            **{name: _plain(value) for name, value in fixed.items()},
            **{f"{ARGUMENT}{name}": _plain(value) for name, value in cell.memory.arguments},
        }
        measured = list(_measured(outcome)) or [(None, None, None, None)]
        for name, value in of_cell.items():
            rows.setdefault(name, []).extend([value] * len(measured))
        for name, values in zip(("trial", "metric", "at", "value"), zip(*measured)):
            rows.setdefault(name, []).extend(values)
    kinds = {"trial": pa.int64(), "metric": pa.string(), "at": pa.float64(), "value": pa.float64()}
    return {name: pa.array(values, kinds.get(name)) for name, values in rows.items()}


def _measured(outcome: Outcome) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Trial, metric, point of a curve, value."""
    for metric, (values, at) in outcome.measured.items():
        for trial, row in enumerate(values.tolist()):
            if at is None:
                yield trial, metric, None, row
            else:
                yield from ((trial, metric, point, value) for point, value in zip(at, row))


def _plain(value: Any) -> Any:
    """A value of a setting as Parquet holds it: numbers and text; anything else as text."""
    return value if isinstance(value, (bool, int, float, str)) else None if value is None else str(value)
