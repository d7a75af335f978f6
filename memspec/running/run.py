"""A run of pytest as memspec sees it: the memories it names, which of its items are checks, and its session.

Asked in every pytest run of an environment that has memspec, so that torch is imported only where a session is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import BoundsError
from memspec.running import options

if TYPE_CHECKING:
    from memspec.judging.check import CheckRun
    from memspec.running.finish import Outcome
    from memspec.running.session import Session

KINDS = ("law", "claim", "measurement")
"""Marks of checks, in the order in which they are run."""
SESSION: pytest.StashKey[Session] = pytest.StashKey()
OUTCOME: pytest.StashKey[Outcome] = pytest.StashKey()
RUN: pytest.StashKey[CheckRun] = pytest.StashKey()
"""Of an item: the record of its check, begun."""


SERVER = "memspec-server"
"""Name of the plugin that makes a process the far side of isolation."""


def memories(config: pytest.Config) -> list[str]:
    """The plugs named on the command line, each once."""
    return list(dict.fromkeys(config.getoption(options.MEMORY)))


def in_memory_process(config: pytest.Config) -> bool:
    """Whether this is the far side of isolation: a process that holds a memory, or waits to."""
    return config.pluginmanager.has_plugin(SERVER)


def reports_elsewhere(config: pytest.Config) -> bool:
    """Whether another process shows and keeps what happens here: this is a worker of pytest-xdist, or holds a memory."""
    return hasattr(config, "workerinput") or in_memory_process(config)


PLAN: pytest.StashKey[dict[str, list[str]]] = pytest.StashKey()
"""Plug -> the checks (globs) that it is to be asked, in a run where each memory has its own."""


def memories_asked(metafunc: pytest.Metafunc) -> list[str]:
    """The plugs that this check has items for: with a plan those of which it may ask this check, else all."""
    plan = metafunc.config.stash.get(PLAN, None)
    names = memories(metafunc.config)
    if plan is None:
        return names
    from memspec.running.checks import named

    check = named(metafunc.module.__name__, metafunc.function.__name__, "", []).id

    def may_ask(glob: str) -> bool:
        axis_and_name = "/".join(glob.split("/")[:2])
        return axis_and_name == check or not WILD.isdisjoint(axis_and_name)

    return [name for name in names if any(map(may_ask, plan.get(name, [])))]


WILD = frozenset("*?[")
"""With one of these a glob may mean checks of several names."""


def session_of(config: pytest.Config) -> Session:
    """The run's session, made on first use (and torch imported with it)."""
    if SESSION not in config.stash:
        from memspec.running.session import Session

        try:
            given: Any = config.pluginmanager.get_plugin("memspec-given")  # memories of a call of memspec.score
            plugs = given.plugs if given else ()
            config.stash[SESSION] = Session(
                options.chosen(config.getoption), plugs, config.getoption("--memspec-alpha-run")
            )
        except BoundsError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[SESSION]


def is_check(item: pytest.Item) -> bool:
    """Whether an item checks a memory: takes the fixture ``plug``, directly or through another one.

    A parameter that is called so by chance, in somebody's own tests, makes no check.
    """
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "plug" in getattr(item, "fixturenames", ()) and "plug" not in parameters


def is_judged(item: pytest.Item) -> bool:
    """Whether an item is a check that has a metric judged."""
    return is_check(item) and "judge" in getattr(item, "fixturenames", ())
