"""A run of pytest as memspec sees it: the memories it names, which of its items are checks, and its session.

Asked in every pytest run of an environment that has memspec, so that torch is imported only where a session is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import BoundsError
from memspec.running import options

if TYPE_CHECKING:
    from memspec.running.finish import Outcome
    from memspec.running.session import Session

SESSION: pytest.StashKey[Session] = pytest.StashKey()
OUTCOME: pytest.StashKey[Outcome] = pytest.StashKey()


def memories(config: pytest.Config) -> list[str]:
    """The plugs named on the command line, each once."""
    return list(dict.fromkeys(config.getoption("--memory")))


def session_of(config: pytest.Config) -> Session:
    """The run's session, made on first use (and torch imported with it)."""
    if SESSION not in config.stash:
        from memspec.running.session import Session

        try:
            given: Any = config.pluginmanager.get_plugin("memspec-given")  # memories of a call of memspec.score
            plugs = given.plugs if given else ()
            config.stash[SESSION] = Session(options.chosen(config), plugs, config.getoption("--memspec-alpha-run"))
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
