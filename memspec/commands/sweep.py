"""``memspec sweep``: what it takes; :mod:`memspec.sweep.command` does it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from memspec.commands.base import Commands, command
from memspec.running.exits import Exit
from memspec.running.signals import heeded, stopped


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = command(
        commands,
        "sweep",
        _sweep,
        help="many memories under many settings and seeds, on one machine or a cluster",
        description="Measure every cell of a plan that the results folder does not hold yet. Exit 0 all done, 1 cells "
        "failed (now or in an earlier sweep), 2 interrupted or usage, 3 the scheduler was lost, 8 results could not be written.",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.toml", help="what is to be measured")
    parser.add_argument(
        "--into", type=Path, metavar="FOLDER", help="where results are kept; what is there is not run again"
    )
    what = parser.add_argument_group("what is measured, instead of a file")
    what.add_argument("--memory", action="append", default=[], metavar="PLUG", help="such as 'mypkg:MyMemory(lr=0.5)'")
    what.add_argument("--experiment", metavar="NAME", help="such as capacity.load")
    what.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=A,B,...",
        help="values of a setting, or of a name for --set",
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting: a value, or a formula such as 'load*key_dim'",
    )
    what.add_argument("--seeds", type=int, metavar="N", help="repetitions on other streams (default 5)")
    what.add_argument("--trials", type=int, metavar="N", help="trials of a cell (default 4, full tier 16)")
    what.add_argument("--tier", choices=("default", "full"), help="full: cells may take an hour each, not a minute")
    how = parser.add_argument_group("how")
    how.add_argument("--workers", default="auto", metavar="N", help="processes of this machine (default: one a core)")
    how.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="join this Dask cluster")
    how.add_argument(
        "--executor", choices=("dask", "processes"), default="dask", help="processes: without Dask, on this machine"
    )
    how.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="to wait for the scheduler to be there, or back (60)",
    )
    how.add_argument("--retries", type=int, default=0, metavar="N", help="times a failed cell is run again (0)")
    how.add_argument("--failed", action="store_true", help="run again what failed in an earlier sweep")
    how.add_argument(
        "--group", type=int, default=0, metavar="N", help="cells handed to a worker together, at most (20)"
    )
    how.add_argument(
        "--share", type=float, default=2.0, metavar="SECONDS", help="after which a worker hands back what it has (2)"
    )
    how.add_argument("--dry-run", action="store_true", help="list the cells, and estimate the time from a few of them")
    how.add_argument("-v", action="store_true", help="list every cell; tell every failure")


def _sweep(options: argparse.Namespace) -> int:
    with heeded():
        try:
            from memspec.sweep.command import run  # takes seconds, in which somebody may think better of it

            return run(options)
        except KeyboardInterrupt as error:
            print(f"memspec sweep: {stopped(error)}, nothing was written", file=sys.stderr)
            return Exit.INTERRUPTED
