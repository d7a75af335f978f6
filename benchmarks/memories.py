"""Update and query of every reference memory beside the bare torch operations that it cannot avoid.

``python benchmarks/memories.py [--only NAME ...] [--sizes N ...] [--json PATH]``; see benchmarks/README.md.

One update stores N pairs of width 64 in a fresh memory, one query asks for 256 of them (N, if that is less). The bare
operation stands beside each: the matrix products of its family and nothing else, no normalisation, no checks, no
bookkeeping. The two are timed alternately in one run, and their medians divided. A memory added to
``memspec.reference`` appears by itself, with the operations of the family that its spec declares.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import memspec.reference
from memspec.plugs.plug import Plug, Shape

DIM, QUERIES = 64, 256
SIZES = (64, 1024, 8192)

Operation = Callable[[], Any]
Bare = Callable[[Tensor, Tensor, Tensor], tuple[Operation, Operation]]
"""From keys [N, Dk], values [N, Dv] and queries [Q, Dk] to the bare update and the bare query."""


def hebbian(keys: Tensor, values: Tensor, queries: Tensor) -> tuple[Operation, Operation]:
    """One product each: ``S + K^T V`` and ``Q S``."""
    matrix = torch.zeros(keys.shape[1], values.shape[1])
    return lambda: matrix + keys.mT @ values, lambda: queries @ matrix


def delta(keys: Tensor, values: Tensor, queries: Tensor, chunk: int = 64) -> tuple[Operation, Operation]:
    """Chunks of 64 rows: ``K S``, ``K K^T``, one triangular solve, ``K^T U``; then ``Q S``."""
    start = torch.zeros(keys.shape[1], values.shape[1])

    def update() -> Tensor:
        matrix = start
        for k, v in zip(keys.split(chunk), values.split(chunk)):
            solved = torch.linalg.solve_triangular(k @ k.mT, v - k @ matrix, upper=False, unitriangular=True)
            matrix = matrix + k.mT @ solved
        return matrix

    return update, lambda: queries @ start


def least_squares(keys: Tensor, values: Tensor, queries: Tensor) -> tuple[Operation, Operation]:
    """The two moments and one solve; then ``Q S``."""
    ridge, matrix = torch.eye(keys.shape[1]), torch.zeros(keys.shape[1], values.shape[1])
    return lambda: torch.linalg.solve(keys.mT @ keys + ridge, keys.mT @ values), lambda: queries @ matrix


def store(keys: Tensor, values: Tensor, queries: Tensor) -> tuple[Operation, Operation]:
    """A copy of the rows; then attention over them: ``softmax(Q K^T) V``."""
    return lambda: (keys.clone(), values.clone()), lambda: torch.softmax(queries @ keys.mT, -1) @ values


def nearest(keys: Tensor, values: Tensor, queries: Tensor) -> tuple[Operation, Operation]:
    """A copy of the rows; then the nearest: ``V[argmax Q K^T]``."""
    return lambda: (keys.clone(), values.clone()), lambda: values[(queries @ keys.mT).argmax(-1)]


def superposition(keys: Tensor, values: Tensor, queries: Tensor) -> tuple[Operation, Operation]:
    """Circular convolution by FFT, summed; then correlation with the sum."""
    fft, back = torch.fft.rfft, torch.fft.irfft
    width = values.shape[1]
    trace = fft(torch.zeros(width))
    return (
        lambda: back((fft(keys, width) * fft(values)).sum(0), width),
        lambda: back(fft(queries, width).conj() * trace, width),
    )


def gradient(keys: Tensor, values: Tensor, queries: Tensor) -> tuple[Operation, Operation]:
    """One linear forward and backward pass: ``K W``, ``K^T (K W - V)``; then ``Q W``."""
    weights = torch.zeros(keys.shape[1], values.shape[1])
    return lambda: weights - keys.mT @ (keys @ weights - values), lambda: queries @ weights


def nothing(keys: Tensor, values: Tensor, queries: Tensor) -> tuple[Operation, Operation]:
    """No update; then zeros."""
    return lambda: None, lambda: queries.new_zeros(len(queries), values.shape[1])


FAMILIES: dict[str, Bare] = {
    "hebbian": hebbian,
    "delta": delta,
    "least_squares": least_squares,
    "cache": nearest,
    "softmax": store,
    "superposition": superposition,
    "sdm": store,
    "gradient": gradient,
    "generic": store,
}
"""What each family cannot avoid."""

CLASSES: dict[str, Bare] = {
    "NullMemory": nothing,
    "GatedDeltaMemory": delta,
    "LinearAttentionMemory": hebbian,
}
"""Memories whose family is generic, or says too little, by name."""


def alternately(operations: list[Operation], seconds: float, warm: int = 2) -> list[float]:
    """Median seconds of each, timed in turn until ``seconds`` are spent (at least three times each)."""
    for _ in range(warm):
        for operation in operations:
            operation()
    times: list[list[float]] = [[] for _ in operations]
    stop = time.perf_counter() + seconds
    while len(times[0]) < 3 or time.perf_counter() < stop:
        for kept, operation in zip(times, operations):
            start = time.perf_counter()
            operation()
            kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def measured(name: str, size: int, seconds: float, patience: float) -> dict[str, Any]:
    """One row of the table; ``skipped`` says why there are no numbers."""
    row: dict[str, Any] = {"memory": name, "n": size}
    plug = Plug(name, getattr(memspec.reference, name))
    shape = plug.shape(DIM, DIM, size)
    generator = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(size, shape.key_dim, generator=generator), dim=-1)
    values = keys if plug.spec.association == "auto" else torch.randn(size, shape.value_dim, generator=generator)
    if plug.spec.key_domain == "sign":
        keys = keys.sign()
    if plug.spec.value_domain == "sign":
        values = values.sign()
    bare = CLASSES.get(name, FAMILIES[plug.spec.family])
    row["bare"] = bare.__name__
    memory = plug.build(Shape(shape.key_dim, shape.value_dim, shape.capacity))
    queries = keys[:QUERIES]
    # Whoever goes row by row is not asked for sizes that take minutes.
    few = min(64, size)
    start = time.perf_counter()
    memory.update(keys[:few], values[:few])
    expected = (time.perf_counter() - start) * size / few
    if expected > patience:
        return row | {"skipped": f"an update would take about {expected:.0f} s"}

    def update() -> None:
        memory.reset()
        memory.update(keys, values)

    bare_update, bare_query = bare(keys, values, queries)
    reset, total, bare_one = alternately([memory.reset, update, bare_update], seconds)
    asked, bare_two = alternately([lambda: memory.query(queries), bare_query], seconds)
    return row | {
        "update": max(total - reset, 0.0),
        "bare_update": bare_one,
        "query": asked,
        "bare_query": bare_two,
        "queries": len(queries),
    }


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    head = f"{row['memory']:28}{row['n']:6}  {row.get('bare', ''):15}"
    if "skipped" in row:
        print(f"{head}{row['skipped']}", flush=True)
        return
    parts = []
    for what in ("update", "query"):
        ratio = row[what] / row[f"bare_{what}"]
        parts.append(f"{row[what] * 1e3:11.3f}{row[f'bare_{what}'] * 1e3:9.3f}{ratio:8.1f}")
    print(head + "".join(parts), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=inspect.getdoc(inspect.getmodule(main)))
    parser.add_argument("--only", nargs="+", metavar="NAME", default=None, help="names in memspec.reference")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", default=list(SIZES), help="pairs stored")
    parser.add_argument("--seconds", type=float, default=0.2, help="time spent on each comparison (default 0.2)")
    parser.add_argument("--patience", type=float, default=2.0, help="skip updates that take longer (default 2 s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers here")
    options = parser.parse_args()
    unknown = set(options.only or ()) - set(memspec.reference.__all__)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not in memspec.reference ({', '.join(memspec.reference.__all__)})")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; milliseconds, medians; {QUERIES} queries at most"
    )
    print(
        f"{'memory':28}{'N':>6}  {'bare':15}{'update':>11}{'bare':>9}{'ratio':>8}{'query':>11}{'bare':>9}{'ratio':>8}"
    )
    rows = []
    for name in options.only or memspec.reference.__all__:
        for size in options.sizes:
            try:
                row = measured(name, size, options.seconds, options.patience)
            except Exception as error:
                row = {
                    "memory": name,
                    "n": size,
                    "skipped": f"{type(error).__name__}: {str(error).splitlines()[0][:90]}",
                }
            rows.append(row)
            show(row)
    if options.json:
        options.json.write_text(
            json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows})
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
