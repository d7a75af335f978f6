"""What the harness adds: the time of the whole default tier over the time inside the memory's own methods.

``python benchmarks/overhead.py [--profile] [--json PATH] [-- PYTEST ARGUMENTS]``; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ALIAS = "memspec_overhead"
"""The name under which the inner process loads this file as the home of the memories under test."""

SPENT = {"seconds": 0.0, "depth": 0, "calls": 0}
"""Inside the memories' own methods, outermost calls only."""


def clocked(kind: type) -> type:
    """A subclass whose every public method, and constructor, is on the clock."""

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if SPENT["depth"]:
                return method(*args, **kwargs)
            SPENT["depth"] = 1
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                SPENT["seconds"] += time.perf_counter() - start
                SPENT["calls"] += 1
                SPENT["depth"] = 0

        return call

    own = ("reset", "update", "query", "init_state", "write", "read", "__init__", "state_dict", "load_state_dict")
    return type(kind.__name__, (kind,), {name: timed(getattr(kind, name)) for name in own if hasattr(kind, name)})


def __getattr__(name: str) -> Any:
    """``Functional`` and ``Plain``, made when first asked for: the outer process imports neither torch nor memspec."""
    if name == "Functional":
        from memspec.reference import DeltaMemory as kind
    elif name == "Plain":
        from memspec.fixtures.mutants.facts import PlainDelta as kind
    else:
        raise AttributeError(name)
    made = clocked(kind)
    made.__module__, made.__qualname__ = ALIAS, name  # so that instances can be pickled
    globals()[name] = made
    return made


class Meter:
    """A pytest plugin: time and memory time of the test loop, and of each suite."""

    def __init__(self, profile: cProfile.Profile | None) -> None:
        self.profile = profile
        self.loop = self.memory = 0.0
        self.suites: dict[str, list[float]] = {}
        self.slowest: list[tuple[float, float, str]] = []

    def pytest_runtestloop(self, session: Any) -> Generator[None, Any, Any]:
        import torch

        self.threads = torch.get_num_threads()
        start, before = time.perf_counter(), SPENT["seconds"]
        if self.profile:
            self.profile.enable()
        try:
            return (yield)
        finally:
            if self.profile:
                self.profile.disable()
            self.loop, self.memory = time.perf_counter() - start, SPENT["seconds"] - before

    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Generator[None, Any, Any]:
        start, before = time.perf_counter(), SPENT["seconds"]
        try:
            return (yield)
        finally:
            took, inside = time.perf_counter() - start, SPENT["seconds"] - before
            row = self.suites.setdefault(Path(str(item.path)).stem.removeprefix("test_"), [0.0, 0.0, 0.0])
            row[0] += took
            row[1] += inside
            row[2] += 1
            self.slowest.append((took - inside, took, item.name))


def inner(which: str, out: Path, profile: bool, arguments: Sequence[str]) -> int:
    """In the fresh process: run the suites on one of the clocked memories and write down what was measured."""
    import pytest

    for name in ("pytest_runtestloop", "pytest_runtest_protocol"):
        setattr(Meter, name, pytest.hookimpl(wrapper=True)(getattr(Meter, name)))
    sys.modules[ALIAS] = sys.modules[__name__]
    profiler = cProfile.Profile() if profile else None
    meter = Meter(profiler)
    status = pytest.main([str(ROOT / "suites"), "-q", f"--memory={ALIAS}:{which}", *arguments], plugins=[meter])
    measured = {
        "status": int(status),
        "tests": meter.loop,
        "memory": meter.memory,
        "calls": SPENT["calls"],
        "threads": meter.threads,
        "suites": meter.suites,
        "slowest": sorted(meter.slowest, reverse=True)[:10],
    }
    if profiler:
        stats = pstats.Stats(profiler)
        stats.sort_stats("tottime").print_stats(30)
        stats.sort_stats("cumulative").print_stats(r"memspec|suites|fixtures", 45)
    out.write_text(json.dumps(measured))
    return 0


def run(which: str, profile: bool, arguments: Sequence[str]) -> dict[str, Any]:
    """Measure one memory in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        command = [sys.executable, __file__, "--inner", which, "--out", str(out)]
        command += ["--profile"] * profile + ["--", *arguments]
        start, before = time.perf_counter(), sum(os.times()[2:4])
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=not profile, check=False)
        wall, cpu = time.perf_counter() - start, sum(os.times()[2:4]) - before
        if not out.exists():
            raise SystemExit(f"the run on {which} did not finish:\n{(done.stdout or '')[-4000:]}{done.stderr or ''}")
        return {"wall": wall, "cpu": cpu, **json.loads(out.read_text())}


def bare_import() -> float:
    """Seconds to start Python and import torch and pytest: what nothing here can avoid."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, pytest"], check=True)
    return time.perf_counter() - start


def show(results: dict[str, dict[str, Any]], started: float) -> None:
    """The table, then each suite."""
    print(f"python, torch and pytest imported, nothing else: {started:.2f} s\n")
    print(
        f"{'memory':12}{'wall s':>8}{'cpu s':>8}{'tests s':>9}{'memory s':>10}{'tests/memory':>14}{'calls':>9}{'threads':>9}"
    )
    for which, r in results.items():
        ratio = r["tests"] / r["memory"]
        print(
            f"{which:12}{r['wall']:8.2f}{r['cpu']:8.2f}{r['tests']:9.2f}{r['memory']:10.2f}{ratio:14.2f}{r['calls']:9}{r['threads']:9}"
        )
    for which, r in results.items():
        print(f"\n{which}: {'suite':16}{'tests':>6}{'total s':>9}{'memory s':>10}{'harness s':>11}")
        for suite, (total, inside, count) in sorted(r["suites"].items(), key=lambda kv: kv[1][1] - kv[1][0]):
            print(f"{'':{len(which)}}  {suite:16}{count:6.0f}{total:9.2f}{inside:10.2f}{total - inside:11.2f}")
        print(f"{'':{len(which)}}  most harness time in one test:")
        for harness, total, name in r["slowest"]:
            print(f"{'':{len(which)}}    {harness:6.2f} of {total:.2f} s  {name}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("Functional", "Plain"), help="one of the two memories")
    parser.add_argument("--profile", action="store_true", help="also print where the time of the test loop goes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers here")
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", metavar="PYTEST ARGUMENTS", help="behind --, such as -k digits")
    options = parser.parse_args()
    if options.inner:
        return inner(options.inner, options.out, options.profile, options.rest)
    names = [options.only] if options.only else ["Functional", "Plain"]
    started = bare_import()
    results = {which: run(which, options.profile, options.rest) for which in names}
    show(results, started)
    if options.json:
        options.json.write_text(json.dumps({"import": started, "cpus": os.cpu_count(), "memories": results}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
