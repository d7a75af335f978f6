"""Fast forms beside the step-by-step forms they must equal: ``python benchmarks/forms.py [--seconds S]``.

Each row stores N pairs (d = 64) in one update by the fast form and row by row, in turn, in one run; the last column is
how far the two states are apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from timing import Row, in_turn

from memspec.functional import FunctionalMemory, named_tensors
from memspec.reference import DeltaMemory, DNCMemory, GatedDeltaMemory, NTMMemory, TitansMemory, TTTMemory

D = 64
SIZES = (64, 1024, 8192)


def pairs_of_forms(n: int) -> Iterator[tuple[str, FunctionalMemory, FunctionalMemory | None]]:
    """Name, fast form, and a memory whose single update is the slow form; None: single rows of the fast one."""
    yield "DeltaMemory, chunked", DeltaMemory(D, D), DeltaMemory(D, D, form="rows")
    yield "GatedDeltaMemory, chunked", GatedDeltaMemory(D, D), GatedDeltaMemory(D, D, form="rows")
    if n <= 1024:
        yield "TTTMemory, dual form", TTTMemory(D, D), None
        yield "TitansMemory, scans in chunks", TitansMemory(D, D), None
        yield "NTMMemory, one scatter", NTMMemory(D, D, n), None
        yield "DNCMemory, one scatter", DNCMemory(D, D, n, linkage=False), None


def rows(seconds: float) -> Iterator[Row]:
    for n in SIZES:
        torch.manual_seed(0)
        keys = torch.nn.functional.normalize(torch.randn(n, D), dim=-1)
        values = torch.randn(n, D)
        for name, fast, slow in pairs_of_forms(n):
            start = fast.state

            def quick(fast: FunctionalMemory = fast, start: Any = start) -> Any:
                return fast.write(start, keys, values)  # noqa: B023

            def stepwise(
                fast: FunctionalMemory = fast, slow: FunctionalMemory | None = slow, state: Any = start
            ) -> Any:
                if slow is not None:
                    return slow.write(state, keys, values)  # noqa: B023
                for k, v in zip(keys.split(1), values.split(1)):  # noqa: B023
                    state = fast.write(state, k, v)
                return state

            with torch.no_grad():
                apart = max(
                    float((a.double() - b.double()).abs().max())
                    for (_, a), (_, b) in zip(named_tensors(quick()), named_tensors(stepwise()))
                )
                ours, theirs = in_turn(quick, stepwise, seconds)
            yield Row("rows", f"{name}, {n} pairs", ours, theirs, apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time to spend on each row (default 1)")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ratio = fast / row by row\n")
    print(f"{'what':48}{'fast':>12}{'row by row':>12}{'ratio':>8}{'apart':>10}")
    for row in rows(options.seconds):
        print(
            f"{row.what:48}{row.ours * 1e6:10.0f}us{row.theirs * 1e6:10.0f}us"
            f"{row.ours / row.theirs:8.3f}{row.difference:>10.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
