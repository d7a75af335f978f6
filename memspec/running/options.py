"""The command line of a run: the options, what they may be, and what was chosen."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    spec: str | None = None
    bare: bool = False
    budget: float = 300.0


MEMORY = "--memspec-memory"
"""The option that names memories; ``--memory`` for short, where that name is free."""
OPTIONS: dict[str, dict[str, Any]] = {
    "checks": {
        "action": "append",
        "default": [],
        "metavar": "GLOB",
        "help": "run only checks whose id matches, such as 'capacity/*' or 'laws/query-*'; may be repeated",
    },
    "scorecard": {"type": Path, "metavar": "PATH.json", "help": "write the record here"},
    "html": {"action": "store_true", "help": "write a self-contained page with plots beside the record"},
    "md": {"action": "store_true", "help": "write Markdown beside the record"},
    "baseline": {"type": Path, "metavar": "OLD.json", "help": "fail if any metric is worse than in this record"},
    "tolerance": {
        "type": float,
        "default": 0.02,
        "metavar": "SHARE",
        "help": "how much worse than the baseline, as a share of the metric's range, is still no regression "
        "(default 0.02)",
    },
    "gate": {
        "metavar": "POLICY",
        "help": "what of the baseline must not get worse: laws (and claims), scores, all (every metric), or FILE.toml with "
        "tolerances by metric and axis (default: laws, claims and scores)",
    },
    "bounds": {
        "type": Path,
        "metavar": "FILE.toml",
        "help": 'your own bounds, by check id: ["capacity/recall/n8"] at_least = 0.9',
    },
    "alpha": {
        "type": float,
        "default": 1e-3,
        "metavar": "RATE",
        "help": "false-alarm rate of each measured check (default 0.001)",
    },
    "alpha-run": {
        "type": float,
        "metavar": "RATE",
        "help": "false-alarm rate of a whole card: each of its n judged checks then has RATE / n, instead of --alpha",
    },
    "max-trials": {
        "type": int,
        "default": 256,
        "metavar": "N",
        "help": "trials after which a check is inconclusive (default 256)",
    },
    "seed": {"type": int, "default": 0, "metavar": "N", "help": "seed of all random streams (default 0)"},
    "full": {"action": "store_true", "help": "also run what takes minutes (marked slow)"},
    "data-root": {"type": Path, "metavar": "DIR", "help": "where large data lies"},
    "download": {"action": "store_true", "help": "allow fetching large data"},
    "spec": {
        "metavar": "'MemorySpec(...)'",
        "help": "hold memories to this spec instead of the one they declare, as memspec describe prints it",
    },
    "bare": {
        "action": "store_true",
        "help": "what is observed is tried as if nothing were declared but what the memory needs",
    },
    "budget": {
        "type": float,
        "default": 300.0,
        "metavar": "SECONDS",
        "help": "time for one memory: of one whose calls are slow, as much is asked as there is time for (default 300)",
    },
    "progress": {
        "action": "store_true",
        "help": "say now and then what a long run does, even under -q",
    },
    "no-isolate": {
        "action": "store_true",
        "help": "run checks in this process, for a debugger; a memory that crashes or hangs then takes the run with it",
    },
    "resume": {
        "action": "store_true",
        "help": "go on with a run that was cut: run only what the journal beside the scorecard does not hold",
    },
    "check-timeout": {
        "type": float,
        "default": 60.0,
        "metavar": "SECONDS",
        "help": "end a check that takes longer (default 60; more for a memory whose single calls are slow)",
    },
    "memory-limit": {
        "type": float,
        "metavar": "GIB",
        "help": "memory that a process under test may take (default: four fifths of what is free)",
    },
    "examples": {
        "type": int,
        "metavar": "N",
        "help": "let Hypothesis loose: N random examples a stateful law, not derandomised",
    },
}
"""Every option but those that name memories, as argparse takes it: ``--memspec-NAME`` of pytest, ``--NAME`` of ``memspec score``.

Plugins of pytest share one name space, and pytest-html has ``--html``: a name without the prefix may be anybody's.
"""


def add_options(parser: pytest.Parser) -> None:
    """Tell pytest of memspec's options."""
    group = parser.getgroup("memspec", "conformance of neural memories (memspec)")
    group.addoption(
        MEMORY,
        action="append",
        default=[],
        metavar="PLUG",
        help="memory under test: module:attribute or file.py:attribute, with literal arguments behind it if needed, such as 'mypkg:MyMemory(lr=0.5)'; may be repeated",
    )
    for name, settings in OPTIONS.items():
        group.addoption(f"--memspec-{name}", **settings)


def add_memory(parser: pytest.Parser) -> None:
    """Add the short name ``--memory``, unless somebody has it.

    To be called when every plugin and every conftest.py that may add options has done so: pytest ends, with a traceback,
    where a name is added twice.
    """
    with contextlib.suppress(ValueError, argparse.ArgumentError):
        parser.getgroup("memspec").addoption(
            "--memory",
            dest=MEMORY.lstrip("-").replace("-", "_"),
            action="append",
            default=[],
            metavar="PLUG",
            help=f"short for {MEMORY}",
        )


def memory_option(config: pytest.Config) -> str:
    """What the option that names memories is called in this run."""
    ours = config.getoption("--memory", None) is config.getoption(MEMORY)
    return "--memory" if ours else MEMORY


def add_short_options(parser: argparse.ArgumentParser) -> None:
    """Tell ``memspec score`` of the same options: by their short names, or by those that messages of a run give."""
    group = parser.add_argument_group("memspec")
    for name, settings in OPTIONS.items():
        group.add_argument(f"--{name}", f"--memspec-{name}", **settings)


def default_of(name: str) -> Any:
    """What an option is where it is not given."""
    settings = OPTIONS[name]
    return False if settings.get("action") == "store_true" else settings.get("default")


def forwarded(chosen: argparse.Namespace) -> list[str]:
    """The arguments of pytest that say what ``memspec score`` was told."""
    out = []
    for name, settings in OPTIONS.items():
        value = getattr(chosen, name.replace("-", "_"))
        if settings.get("action") == "store_true":
            out += [f"--memspec-{name}"] * value
        elif isinstance(value, list):
            out += [f"--memspec-{name}={one}" for one in value]
        elif value is not None and value != settings.get("default"):
            out.append(f"--memspec-{name}={value}")
    return out


def check_usage(config: pytest.Config) -> None:
    """Refuse options that cannot be meant, before anything runs.

    Raises:
        pytest.UsageError: naming the option and what it takes.
    """
    get = config.getoption
    if not 0 < get("--memspec-alpha") < 1:
        raise pytest.UsageError(f"--memspec-alpha is {get('--memspec-alpha')}; it must be between 0 and 1")
    rate = get("--memspec-alpha-run")
    if rate is not None and not 0 < rate < 1:
        raise pytest.UsageError(f"--memspec-alpha-run is {rate}; it must be between 0 and 1")
    if rate is not None and get("--memspec-alpha") != OPTIONS["alpha"]["default"]:
        raise pytest.UsageError(
            "--memspec-alpha is a rate per check and --memspec-alpha-run one per card: give one of them"
        )
    if get("--memspec-max-trials") < 1:
        raise pytest.UsageError(f"--memspec-max-trials is {get('--memspec-max-trials')}; it must be at least 1")
    if get("--memspec-tolerance") < 0:
        raise pytest.UsageError(f"--memspec-tolerance is {get('--memspec-tolerance')}; it must be at least 0")
    if not get("--memspec-check-timeout") > 0:
        raise pytest.UsageError(f"--memspec-check-timeout is {get('--memspec-check-timeout')}; it must be above 0")
    if not get("--memspec-budget") > 0:
        raise pytest.UsageError(f"--memspec-budget is {get('--memspec-budget')}; it must be above 0")
    if get("--memspec-spec") is not None:
        from memspec.inference.observed import read

        try:
            read(get("--memspec-spec"))
        except ValueError as error:
            raise pytest.UsageError(f"--memspec-spec={get('--memspec-spec')}: {error}") from None
    limit = get("--memspec-memory-limit")
    if limit is not None and not 0 < limit < 2**20:
        raise pytest.UsageError(f"--memspec-memory-limit is {limit}; it must be a number of GiB above 0")
    if (get("--memspec-html") or get("--memspec-md")) and not get("--memspec-scorecard"):
        raise pytest.UsageError(
            "--memspec-html and --memspec-md are written beside the record: add --memspec-scorecard=PATH.json"
        )
    if get("--memspec-scorecard") and get("--memspec-scorecard").suffix in (".html", ".md"):
        raise pytest.UsageError(
            f"--memspec-scorecard={get('--memspec-scorecard')}: the record is JSON; name it something.json"
        )


def reader(config: pytest.Config) -> Callable[[str], Any]:
    """Reads an option by name; None for those of plugins that are switched off."""
    return lambda name: config.getoption(name, None)


def chosen(get: Callable[[str], Any]) -> Options:
    """The options of a run; ``get`` reads one by its name, ``--memspec-...``."""
    return Options(
        alpha=get("--memspec-alpha"),
        max_trials=get("--memspec-max-trials"),
        seed=get("--memspec-seed"),
        strict=bool(get("--strict")),  # pytest's own option; the ini setting of that name is not meant
        full=get("--memspec-full"),
        bounds=get("--memspec-bounds"),
        data_root=get("--memspec-data-root"),
        download=get("--memspec-download"),
        examples=get("--memspec-examples"),
        spec=get("--memspec-spec"),
        bare=get("--memspec-bare"),
        budget=get("--memspec-budget"),
    )


def isolated(config: pytest.Config) -> bool:
    """Whether checks of ``--memory`` run in processes of their own: always, unless a debugger is wanted or there is no fork."""
    debugged = any(config.getoption(name, False) for name in ("usepdb", "trace", "setuponly", "setupplan", "setupshow"))
    wanted = not config.getoption("--memspec-no-isolate") and not config.getoption("collectonly")
    return wanted and not debugged and hasattr(os, "fork") and hasattr(socket, "AF_UNIX")
