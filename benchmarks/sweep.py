"""What a sweep costs beside its cells: speed-up of workers, overhead of a cell, rate of the scheduler, memory of the driver.

    python benchmarks/sweep.py                 all of it (some ten minutes)
    python benchmarks/sweep.py speedup rate    some of it: speedup overhead start rate writing job memory

``docs/scale.md`` holds the figures, and what they mean for a large cluster.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch

from memspec.plugs.loading import load_plug
from memspec.running.executors import Serial
from memspec.running.limits import resident_bytes
from memspec.sweep.cell import Done, Group, Memory, Outcome
from memspec.sweep.cluster import local
from memspec.sweep.drive import Sweep, looked_at_all
from memspec.sweep.measuring import measured
from memspec.sweep.plan import Plan, Told, planned
from memspec.sweep.store import Store

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
    signatures, _ = looked_at_all(plan)
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
    """Processor time of a cell in groups of one and of twenty, and of one that is measured without any process around it."""
    plan = plan_of(DELTA, [8], 100, 32)
    signatures, _ = looked_at_all(plan)
    with tempfile.TemporaryDirectory() as folder:
        Sweep(plan_of(DELTA, [9], 1, 32), Path(folder), signatures).run(Serial(), 1)  # all is imported
    took: dict[int, float] = {}
    for size in (1, 20):
        with tempfile.TemporaryDirectory() as folder:
            sweep = Sweep(plan, Path(folder), signatures, group=size, share=1e9)
            before = processor_seconds()
            sweep.run(Serial(), 1)
            took[size] = (processor_seconds() - before) / len(plan)
        print(f"a cell in groups of {size}: {1e3 * took[size]:.1f} ms of processor time")
    plug, cells = load_plug(DELTA), [cell for group in plan.groups(20) for cell in group]
    torch.set_num_threads(1)
    measured(plug, cells[0])
    begun = time.process_time()
    for cell in cells:
        measured(plug, cell)
    alone = (time.process_time() - begun) / len(cells)
    # of its group g, and of its copy of the process c: in groups of one c + g + alone, of twenty c + g / 20 + alone
    of_group = (took[1] - took[20]) / (1 - 1 / 20)
    print(f"of that, measuring: {1e3 * alone:.1f} ms")
    print(f"a group, its process and loading the memory: {1e3 * of_group:.0f} ms")
    print(f"a cell, its copy of the process, handing back and writing: {1e3 * (took[1] - of_group - alone):.0f} ms")


def processor_seconds() -> float:
    """Of this process, of those that it started, and of the one that all others are copies of."""
    import psutil

    here = psutil.Process()
    return sum(
        times.user + times.system + times.children_user + times.children_system
        for times in (process.cpu_times() for process in (here, *here.children(recursive=True)))
    )


def start() -> None:
    """What a worker takes until it can measure: processor time, and what it holds of the files that it reads."""
    program = (
        "import memspec.sweep.preloaded, time\n"
        "print(time.process_time(), *(line.split()[1] for line in open('/proc/self/status') if line.startswith('RssFile')))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    seconds, kib = said.split()
    print(
        f"a worker imports for {float(seconds):.1f} s of processor time, and holds {int(kib) / 1024:.0f} MiB of files"
    )


def writing() -> None:
    """Seconds a file, of few and of many cells; what the sync to disk takes of them; and looking through them again."""
    signature = {"memory": DELTA}
    for cells in (1, 20, 100, 500):
        plan = plan_of(DELTA, [8], cells, 32)
        (group,) = plan.groups(cells)
        outcomes = instant(Group(tuple(group), signature, plan.bounds)).outcomes
        with tempfile.TemporaryDirectory() as folder:
            store, took = Store(Path(folder)), []
            for _ in range(50):
                begun = time.perf_counter()
                store.write(outcomes, signature).unlink()
                took.append(time.perf_counter() - begun)
            synced = []
            for _ in range(50):
                with tempfile.NamedTemporaryFile(dir=folder) as file:
                    file.write(bytes(20_000))
                    file.flush()
                    begun = time.perf_counter()
                    os.fsync(file.fileno())
                    synced.append(time.perf_counter() - begun)
        middle, sync = (1e3 * sorted(some)[25] for some in (took, synced))
        print(f"a file of {cells} cells: {middle:.1f} ms, of which a sync to disk takes {sync:.1f} ms")
    for cells, files in ((20, 5000), (500, 200)):
        plan = plan_of(DELTA, list(range(2, 102)), 1000, 32)
        with tempfile.TemporaryDirectory() as folder:
            Sweep(plan, Path(folder), {Memory(DELTA): signature}, group=cells).run(Serial(), 1, instant)
            begun = time.perf_counter()
            Store(Path(folder)).known(signature)
            seconds = time.perf_counter() - begun
        print(f"looking through {files} files of {cells} cells: {seconds:.1f} s, {1e3 * seconds / files:.2f} ms a file")


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
        before = tracemalloc_of(lambda: Store(Path(folder)).known(signatures[Memory(DELTA)]))
        print(f"the set of what is done: {before / 2**20:.0f} MiB, {before / len(plan):.0f} bytes a cell")


def tracemalloc_of(make: Callable[[], object]) -> int:
    """Bytes that what is made keeps."""
    tracemalloc.start()
    made = make()
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del made
    return kept


def job() -> None:
    """Bytes of a group as it is handed over."""
    plan = plan_of(DELTA, [8], 500, 32)
    signatures, _ = looked_at_all(plan)
    for size in (20, 500):
        (cells,) = list(plan.groups(size))[:1]
        group = Group(tuple(cells), signatures[cells[0].memory], plan.bounds)
        print(f"a group of {size} cells is {len(pickle.dumps(group)) / 1024:.1f} KiB when it is handed over")


def here() -> float:
    """MiB of real memory that this process holds."""
    return (resident_bytes(os.getpid()) or 0) / 2**20


PARTS: dict[str, Callable[[], None]] = {
    part.__name__: part for part in (speedup, overhead, start, rate, writing, job, memory)
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS))
    for name in parser.parse_args().parts or PARTS:
        PARTS[name]()
