"""The results folder: tidy rows in Parquet, one file for cells that came back together, each written in one step.

    FOLDER/plans/<plan>.json                    what was asked for, and the signature of each memory
    FOLDER/cells/<signature>/<key>-<digest>.parquet     rows of one or several cells; <key> is that of the first

A file is whole or not there, and is never changed; its name ends with the digest of all its bytes, and its footer lists
its cells. All files have the same columns (:data:`SCHEMA`), so that they can be read as one table. What several sweeps
write beside each other can only be the same numbers twice, and a cell is read once. Rows of another signature lie in
another folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
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
AXIS, FIELD = "at.", "field."
"""What stands before a name on the grid, and before a field of a setting, where each has a column of its own."""
TEXT, WHOLE, REAL = pa.string(), pa.int64(), pa.float64()
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("signature", "key", "cell", "memory", "plug", "arguments", "experiment"), TEXT),
        **dict.fromkeys(("setting", "fields", "grid"), TEXT),
        "seed": WHOLE,
        "trials": WHOLE,
        **dict.fromkeys(("tier", "status", "why", "cause", "stack"), TEXT),
        "seconds": REAL,
        "attempts": WHOLE,
        "where": TEXT,
        "trial": WHOLE,
        "metric": TEXT,
        "at": REAL,
        "value": REAL,
    }
)
"""The columns of every file. ``arguments``, ``fields`` (of the setting) and ``grid`` (the place on it) are JSON: which names
there are depends on the memory, the experiment and the plan."""
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
        told = {
            "signature": dict(signature),
            "cells": {o.cell.key: [o.status, o.why] for o in outcomes},
        }
        table = pa.Table.from_pydict(columns(outcomes, digest), SCHEMA)
        content = _content(table.replace_schema_metadata({META: json.dumps(told).encode()}))
        path = self.folder / "cells" / digest / f"{outcomes[0].cell.key}-{_digest(content)}.parquet"
        temporary = None
        try:
            path.parent.mkdir(exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise RecordError(f"{path} could not be written: {error.strerror or error}") from error
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
        for path, told, _ in self._files(digest_of(signature)):
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
        for digest in self.counts():
            for _, told, _ in self._files(digest):
                found[digest] = told["signature"]
                break
        return found

    def counts(self) -> Counter[str]:
        """Files by signature."""
        return Counter(path.parent.name for path in sorted(self.folder.glob("cells/*/*.parquet")) if path.is_file())

    def set_aside(self) -> list[Path]:
        """Hide the damaged files that were come across, so that no reader of the folder takes them for results again.

        Returns:
            Their new names.
        """
        names = []
        for path in self.damaged:
            with contextlib.suppress(OSError):  # another sweep may have done it
                names.append(path.rename(path.with_name(f".{path.stem}.damaged")))
        self.damaged.clear()
        return names

    def _files(self, digest: str) -> Iterator[tuple[Path, dict[str, Any], bytes]]:
        """Each file of a signature that is whole, what its footer says, and its bytes."""
        for path in sorted((self.folder / "cells" / digest).glob("*.parquet")):
            try:
                content = path.read_bytes()
                if not path.stem.endswith(f"-{_digest(content)}"):
                    raise ValueError("these are not the bytes that were written")
                told = json.loads(pq.read_metadata(pa.BufferReader(content)).metadata[META])
            except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
                if path.is_file() and path not in self.damaged:
                    self.damaged.append(path)
                continue
            yield path, told, content

    def rows(self, digests: Sequence[str]) -> DataFrame:
        """Every row of these signatures, each cell once; a failed cell has one row, without a value.

        Every name on a grid has a column ``at.<name>`` here, and every field of a setting ``field.<name>``.

        Raises:
            RecordError: if there is none.
        """
        tables: list[Any] = []
        seen: dict[str, tuple[str, int]] = {}
        for digest in digests:
            for _, told, content in self._files(digest):
                table = pq.read_table(pa.BufferReader(content))
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
        frame: DataFrame = pa.concat_tables(kept).replace_schema_metadata(None).to_pandas()
        return _spread(_spread(frame, "grid", AXIS), "fields", FIELD)


def _spread(frame: DataFrame, column: str, before: str) -> DataFrame:
    """With a column for every name in a column of JSON."""
    told = {text: json.loads(text) for text in frame[column].unique()}
    names = dict.fromkeys(name for one in told.values() for name in one)
    return frame.assign(
        **{before + n: frame[column].map({text: hashable(one.get(n)) for text, one in told.items()}) for n in names}
    )


def hashable(value: Any) -> Any:
    """A value as a column holds it that is grouped by: what has parts as text."""
    return str(value) if isinstance(value, (list, dict)) else value


def columns(outcomes: Sequence[Outcome], digest: str) -> dict[str, list[Any]]:
    """The tidy rows of some outcomes, by column."""
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for outcome in outcomes:
        cell = outcome.cell
        of_cell = {
            "signature": digest,
            "key": cell.key,
            "cell": cell.id,
            "memory": cell.memory.name,
            "plug": cell.memory.plug,
            "arguments": json.dumps(dict(cell.memory.arguments), default=str),
            "experiment": cell.experiment,
            "setting": cell.setting.label,
            "fields": json.dumps(dataclasses.asdict(cell.setting), default=str),
            "grid": json.dumps(dict(cell.axes), default=str),
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
        }
        measured = list(_measured(outcome)) or [(None, None, None, None)]
        for name, value in of_cell.items():
            rows[name].extend([value] * len(measured))
        for name, values in zip(("trial", "metric", "at", "value"), zip(*measured)):
            rows[name].extend(values)
    return rows


def _measured(outcome: Outcome) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Trial, metric, point of a curve, value."""
    for metric, (values, at) in outcome.measured.items():
        for trial, row in enumerate(values.tolist()):
            if at is None:
                yield trial, metric, None, row
            else:
                yield from ((trial, metric, point, value) for point, value in zip(at, row))


def _content(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
