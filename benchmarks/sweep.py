"""What a sweep costs beside its cells: speed-up of workers, overhead of a cell, rate of the scheduler, memory of the driver.

    python benchmarks/sweep.py                 all of it (a few minutes)
    python benchmarks/sweep.py speedup rate    some of it

``docs/scale.md`` holds the figures, and what they mean for a large cluster.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from memspec.running.executors import Serial
from memspec.running.limits import resident_bytes
from memspec.sweep.cell import Done, Group, Memory, Outcome
from memspec.sweep.cluster import local
from memspec.sweep.drive import Sweep, looked_at_all
from memspec.sweep.plan import Plan, Told, planned

DELTA, CACHED = "memspec.reference:DeltaMemory", "memspec.reference:CachedMemory"


def plan_of(plug: str, sizes: list[int], seeds: int, key_dim: int) -> Plan:
    """So many pairs in memories of a width."""
    entry = {"name": "capacity.load", "grid": {"n": sizes}, "set": {"key_dim": key_dim, "value_dim": "key_dim"}}
    told = {"memory": [{"plug": plug}], "experiment": [entry], "seeds": seeds, "trials": 1}
    return planned(msgspec.convert(told, Told))


def instant(group: Group) -> Done:
    """Outcomes of nine metrics that nobody measured."""
    numbers = {f"metric_{i}": (np.array([float(i)]), None) for i in range(9)}
    return Done(tuple(Outcome(cell, "ok", measured=numbers, seconds=0.0) for cell in group.cells))


def speedup() -> None:
    """Two workers against one, on cells of about a tenth of a second."""
    plan = plan_of(CACHED, [512, 514, 516, 518], 40, 128)
    signatures = looked_at_all(plan)
    took: dict[int, list[float]] = {}
    for workers in (1, 2, 1, 2):
        with local(workers) as there, tempfile.TemporaryDirectory() as folder:
            warm = Sweep(plan_of(CACHED, [8, 9, 10, 11], 1, 64), Path(folder, "warm"), signatures)
            warm.run(there.executor, workers)  # every worker has imported torch
            sweep = Sweep(plan, Path(folder, "out"), signatures, group=10)
            begun = time.perf_counter()
            tally = sweep.run(there.executor, workers)
            took.setdefault(workers, []).append(time.perf_counter() - begun)
            each = tally.seconds / tally.done
        print(f"{workers} workers: {len(plan)} cells in {took[workers][-1]:.1f} s; a cell by itself {each:.3f} s")
    print(f"speed-up of 2 workers over 1: {min(took[1]) / min(took[2]):.2f}")


def overhead() -> None:
    """What a cell takes beside measuring, here and on Dask, alone and in groups."""
    plan = plan_of(DELTA, [8], 100, 32)
    signatures = looked_at_all(plan)
    for size in (1, 20):
        with tempfile.TemporaryDirectory() as folder:
            sweep = Sweep(plan, Path(folder), signatures, group=size)
            begun = time.perf_counter()
            tally = sweep.run(Serial(), 1)
            beside = (time.perf_counter() - begun - tally.seconds) / tally.done
        print(
            f"serial, groups of {size}: {1000 * beside:.0f} ms a cell beside {1000 * tally.seconds / tally.done:.0f} ms measuring"
        )


def rate() -> None:
    """Groups a second that pass through a scheduler on this machine, with two workers that do nothing."""
    plan = plan_of(DELTA, [8], 10_000, 32)
    signatures = {Memory(DELTA): {"memory": DELTA}}
    with local(2) as there, tempfile.TemporaryDirectory() as folder:
        Sweep(plan_of(DELTA, [9], 40, 32), Path(folder, "warm"), signatures).run(there.executor, 2, instant)
        begun = time.perf_counter()
        Sweep(plan, Path(folder, "out"), signatures).run(there.executor, 2, instant)
        seconds = time.perf_counter() - begun
    groups = len(plan) / 20
    print(
        f"{groups:.0f} groups of 20 through Dask in {seconds:.1f} s: {groups / seconds:.0f} groups, {len(plan) / seconds:.0f} cells a second"
    )


def memory() -> None:
    """The driver's memory while 100,000 simulated cells pass through it, and again when it finds them all done."""
    plan = plan_of(DELTA, list(range(2, 102)), 1000, 32)
    signatures = {Memory(DELTA): {"memory": DELTA}}
    seen: dict[int, float] = {}

    def told(tally: object, outcomes: object) -> None:
        done = sweep.tally.done
        if done % 20_000 == 0:
            gc.collect()
            seen[done] = here()

    with tempfile.TemporaryDirectory() as folder:
        start = here()
        sweep = Sweep(plan, Path(folder), signatures, told=told)
        begun = time.perf_counter()
        sweep.run(Serial(), 1, instant)
        seconds = time.perf_counter() - begun
        files = list(Path(folder).glob("cells/*/*.parquet"))
        size = sum(file.stat().st_size for file in files)
        print(f"{len(plan)} simulated cells in {seconds:.0f} s: {1e3 * seconds / len(files):.1f} ms a file of 20 cells")
        print(f"driver: {start:.0f} MiB before the first; " + ", ".join(f"{mib:.0f} at {n}" for n, mib in seen.items()))
        print(f"folder: {len(files)} files, {size / 2**20:.0f} MiB, {size / len(plan):.0f} bytes a cell")
        begun = time.perf_counter()
        again = Sweep(plan, Path(folder), signatures)
        print(f"a rerun finds {again.tally.before} done in {time.perf_counter() - begun:.1f} s, at {here():.0f} MiB")


def here() -> float:
    """MiB of real memory that this process holds."""
    return (resident_bytes(os.getpid()) or 0) / 2**20


PARTS: dict[str, Callable[[], None]] = {"speedup": speedup, "overhead": overhead, "rate": rate, "memory": memory}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS))
    for name in parser.parse_args().parts or PARTS:
        PARTS[name]()
