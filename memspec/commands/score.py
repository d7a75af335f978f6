"""``memspec score``: the suites on memories, without a test written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from memspec.commands.base import Commands, expanded, show
from memspec.errors import UsageProblem
from memspec.running.exits import Exit


class _Parser(argparse.ArgumentParser):
    """Wrong usage ends with the code that a run has for it."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: error: {message}\n")


def add(commands: Commands) -> None:
    """Enter the command by its name alone; ``main`` has :func:`arguments` read the rest.

    A parser below another would not let memories stand between options.
    """
    commands.add_parser("score", help="run the suites on memories")


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """What ``memspec score`` was told; ``rest`` holds what follows ``--``, which is pytest's."""
    from memspec.running.options import add_short_options

    parser = _Parser(
        prog="memspec score",
        usage="memspec score PLUG [PLUG ...] [options] [-- options of pytest]",
        description="Run the suites on one memory or several, without writing a test.",
        epilog="What follows -- goes to pytest: memspec score PLUG -- --durations=5",
        allow_abbrev=False,  # a shortened name would change its meaning with the next option
    )
    parser.add_argument(
        "plugs", nargs="+", metavar="PLUG", help="module:attribute or file.py:attribute; 'all' = every reference"
    )
    add_short_options(parser)
    beside = parser.add_argument_group("several memories beside each other, each in a run of its own")
    beside.add_argument("--workers", metavar="N", help="memories at once on this machine, or auto: one a core")
    beside.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="on the workers of this Dask cluster")
    passed = parser.add_argument_group("passed on to pytest")
    passed.add_argument(
        "-n", metavar="N", help="processes, or auto, that share each memory's checks (needs pytest-xdist)"
    )
    passed.add_argument("-k", metavar="EXPRESSION", help="run only checks whose name matches")
    passed.add_argument("-x", action="store_true", help="stop at the first failure")
    passed.add_argument("-v", action="count", default=0, help="say more")
    passed.add_argument("-q", action="count", default=0, help="say less")
    passed.add_argument("--strict", action="store_true", help="an inconclusive check fails the run")
    passed.add_argument("--junitxml", metavar="PATH.xml", help="write JUnit XML here")
    end = given.index("--") if "--" in given else len(given)
    options = parser.parse_intermixed_args(given[:end])
    options.run, options.command, options.rest = _score, "score", list(given[end + 1 :])
    return options


def _score(options: argparse.Namespace) -> int:
    if options.workers or options.scheduler:
        return _beside(options)
    import pytest

    from memspec.running.options import forwarded
    from memspec.running.scoring import suite_arguments

    given = [
        *suite_arguments(),
        *(f"--memspec-memory={name}" for name in expanded(options.plugs)),
        *forwarded(options),
        *([] if options.q or options.progress else ["--memspec-progress"]),
        *(text for name in "nk" for text in (f"-{name}", getattr(options, name)) if getattr(options, name)),
        *(["-x"] if options.x else []),
        *["-v"] * options.v,
        *["-q"] * options.q,
        *(
            []
            if options.q or options.v or not sys.stderr.isatty()
            else ["-p", "memspec.running.bar", "-oconsole_output_style=classic"]
        ),
        *(["--strict"] if options.strict else []),
        *([f"--junitxml={options.junitxml}"] if options.junitxml else []),
        *options.rest,
    ]
    return int(pytest.main(given))


def _beside(options: argparse.Namespace) -> int:
    """Each memory in a run of its own, on an executor."""
    from memspec.running.executors import processes, worker_count
    from memspec.running.options import default_of, forwarded
    from memspec.running.several import OF_ALL, score_several

    refused = [f"-{name}" for name in "nx" if getattr(options, name)]
    refused += [f"--{name}" for name in ("resume", "junitxml") if getattr(options, name)]
    if refused:
        raise UsageProblem(
            f"{refused[0]} is of one run; with --workers or --scheduler every memory has a run of its own"
        )
    of_each = argparse.Namespace(**{**vars(options), **{name: default_of(name) for name in OF_ALL}})
    given = [
        *forwarded(of_each),
        *(["-k", options.k] if options.k else []),
        *(["--strict"] if options.strict else []),
        *options.rest,
    ]
    names = list(dict.fromkeys(expanded(options.plugs)))

    def option(name: str) -> Any:
        return getattr(options, name.removeprefix("--memspec-").lstrip("-").replace("-", "_"))

    if options.scheduler:
        from memspec.sweep.cluster import PATIENCE, joined

        with joined(options.scheduler, PATIENCE) as there:
            outcome = score_several(names, given, option, there.executor, there.workers())
    else:
        workers = worker_count(options.workers)
        with processes(workers) as executor:
            outcome = score_several(names, given, option, executor, workers)
    show(outcome.lines)
    return outcome.exit_status
