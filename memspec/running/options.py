"""The command line of a run: the options, what they may be, and what was chosen."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Options:
    """What the command line says; see ``pytest --help``."""

    alpha: float = 1e-3
    max_trials: int = 256
    seed: int = 0
    strict: bool = False
    full: bool = False
    bounds: Path | None = None
    data_root: Path | None = None
    download: bool = False
    examples: int | None = None


def add_options(parser: pytest.Parser) -> None:
    """Tell pytest of memspec's options."""
    group = parser.getgroup("memspec", "conformance of neural memories (memspec)")
    add = group.addoption
    add(
        "--memory",
        action="append",
        default=[],
        metavar="PLUG",
        help="memory under test: module:attribute or file.py:attribute, with literal arguments behind it if needed, such as 'mypkg:MyMemory(lr=0.5)'; may be repeated",
    )
    add(
        "--checks",
        action="append",
        default=[],
        metavar="GLOB",
        help="run only checks whose id matches, such as 'capacity/*' or 'laws/query-*'; may be repeated",
    )
    add("--scorecard", type=Path, metavar="PATH.json", help="write the record here")
    add("--html", action="store_true", help="write a self-contained page with plots beside the record")
    add("--md", action="store_true", help="write Markdown beside the record")
    add("--baseline", type=Path, metavar="OLD.json", help="fail if any metric is worse than in this record")
    add(
        "--tolerance",
        type=float,
        default=0.02,
        help="how much worse than the baseline, as a share of the metric's range, is still no regression (default 0.02)",
    )
    add(
        "--bounds",
        type=Path,
        metavar="FILE.toml",
        help='your own bounds, by check id: ["capacity/recall/n8"] at_least = 0.9',
    )
    add("--alpha", type=float, default=1e-3, help="false-alarm rate of each measured check (default 0.001)")
    add(
        "--max-trials",
        type=int,
        default=256,
        metavar="N",
        help="trials after which a check is inconclusive (default 256)",
    )
    add("--suite-seed", type=int, default=0, metavar="N", help="seed of all random streams (default 0)")
    add("--full", action="store_true", help="also run what takes minutes (marked slow)")
    add("--data-root", type=Path, metavar="DIR", help="where large data lies")
    add("--download", action="store_true", help="allow fetching large data")
    add(
        "--memspec-no-isolate",
        action="store_true",
        help="run checks in this process, for a debugger; a memory that crashes or hangs then takes the run with it",
    )
    add(
        "--memspec-check-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="end a check that takes longer (default 60; more for a memory whose single calls are slow)",
    )
    add(
        "--memspec-memory-limit",
        type=float,
        default=None,
        metavar="GIB",
        help="memory that a process under test may take (default: four fifths of what is free)",
    )
    add(
        "--examples",
        type=int,
        default=None,
        metavar="N",
        help="let Hypothesis loose: N random examples a stateful law, not derandomised",
    )


def check_usage(config: pytest.Config) -> None:
    """Refuse options that cannot be meant, before anything runs.

    Raises:
        pytest.UsageError: naming the option and what it takes.
    """
    get = config.getoption
    if not 0 < get("--alpha") < 1:
        raise pytest.UsageError(f"--alpha is {get('--alpha')}; it must be between 0 and 1")
    if get("--max-trials") < 1:
        raise pytest.UsageError(f"--max-trials is {get('--max-trials')}; it must be at least 1")
    if get("--tolerance") < 0:
        raise pytest.UsageError(f"--tolerance is {get('--tolerance')}; it must be at least 0")
    if not get("--memspec-check-timeout") > 0:
        raise pytest.UsageError(f"--memspec-check-timeout is {get('--memspec-check-timeout')}; it must be above 0")
    limit = get("--memspec-memory-limit")
    if limit is not None and not 0 < limit < 2**20:
        raise pytest.UsageError(f"--memspec-memory-limit is {limit}; it must be a number of GiB above 0")
    if (get("--html") or get("--md")) and not get("--scorecard"):
        raise pytest.UsageError("--html and --md are written beside the record: add --scorecard=PATH.json")
    if get("--scorecard") and get("--scorecard").suffix in (".html", ".md"):
        raise pytest.UsageError(f"--scorecard={get('--scorecard')}: the record is JSON; name it something.json")


def chosen(config: pytest.Config) -> Options:
    """The options of this run."""
    get = config.getoption
    return Options(
        alpha=get("--alpha"),
        max_trials=get("--max-trials"),
        seed=get("--suite-seed"),
        strict=bool(get("--strict")),  # pytest's own option; the ini setting of that name is not meant
        full=get("--full"),
        bounds=get("--bounds"),
        data_root=get("--data-root"),
        download=get("--download"),
        examples=get("--examples"),
    )


def isolated(config: pytest.Config) -> bool:
    """Whether checks of ``--memory`` run in processes of their own: always, unless a debugger is wanted or there is no fork."""
    debugged = any(config.getoption(name, False) for name in ("usepdb", "trace", "setuponly", "setupplan", "setupshow"))
    wanted = not config.getoption("--memspec-no-isolate") and not config.getoption("collectonly")
    return wanted and not debugged and hasattr(os, "fork") and hasattr(socket, "AF_UNIX")
