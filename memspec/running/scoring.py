"""The suites as a call: ``memspec.score(MyMemory)``, for notebooks and scripts, and the arguments that it shares with ``memspec score``."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import MemspecError
from memspec.running.run import OUTCOME
from memspec.scorecard.card import Card

if TYPE_CHECKING:
    from memspec.plugs.plug import Plug
    from memspec.running.finish import Outcome

GIVEN = "memspec-given"
"""Name of the plugin that holds the memories of a call."""


def suite_arguments() -> list[str]:
    """The arguments that make pytest run the suites, whatever folder and settings the caller has."""
    return [
        "--pyargs",
        "memspec.suites",
        f"-c{os.devnull}",  # the caller's own pytest settings must not change what is run
        f"--rootdir={Path.cwd()}",
        "-q",
        "--no-header",
        "--tb=short",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",  # this process has imported memspec already
        "-r",
        "N",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
    ]


class Given:
    """The pytest plugin of a call: the memories that were given as objects, and what came out."""

    __name__ = GIVEN

    def __init__(self, *plugs: Plug) -> None:
        self.plugs = plugs
        self.outcome: Outcome | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        self.outcome = config.stash.get(OUTCOME, None)


def score(
    memory: Any,
    *,
    checks: Sequence[str] = (),
    full: bool = False,
    seed: int = 0,
    alpha: float = 1e-3,
    max_trials: int = 256,
    bounds: str | os.PathLike[str] | None = None,
    baseline: str | os.PathLike[str] | None = None,
) -> Card:
    """Run the suites on one memory.

    A memory that is given by name runs in a process of its own, as on the command line; an object (a class of a
    notebook, a lambda) cannot be sent there and runs in this one.

    Args:
        memory: a class, a factory, a :class:`memspec.Plug`, or a name such as ``"mypkg:MyMemory(lr=0.5)"``.
        checks: globs of check ids, such as ``"capacity/*"``; none = all of them.
        full: also what takes minutes.
        seed, alpha, max_trials: of all random streams; false-alarm rate of a check; trials after which it is inconclusive.
        bounds: a TOML file of bounds of your own.
        baseline: a saved card that it must not be worse than.

    Returns:
        The card, also of a memory that fails, and of a run that was interrupted.

    Raises:
        MemspecError: if it is no memory, or an argument cannot be meant; with what to write instead.
    """
    from memspec.plugs.loading import as_plug

    plugs = [] if isinstance(memory, str) else [as_plug(memory)]
    given = Given(*plugs)
    arguments = [f"--memspec-alpha={alpha}", f"--memspec-max-trials={max_trials}", f"--memspec-seed={seed}"]
    arguments += [f"--memspec-checks={glob}" for glob in checks]
    arguments += ["--memspec-full"] * full + ["--memspec-no-isolate"] * bool(plugs)
    for name, path in (("bounds", bounds), ("baseline", baseline)):
        arguments += [f"--memspec-{name}={os.fspath(path)}"] if path is not None else []
    name = plugs[0].name if plugs else str(memory)
    with as_it_was(), _unheard() as said:
        code = pytest.main([*suite_arguments(), f"--memspec-memory={name}", *arguments], plugins=[given])
    if given.outcome is None or not given.outcome.cards:
        raise MemspecError(said.getvalue().strip().removeprefix("ERROR: ") or f"pytest ended with exit code {code}")
    return Card(given.outcome.cards[0])


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Puts back what a run sets for a whole process: the number of torch's threads."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _unheard() -> Iterator[io.StringIO]:
    """What pytest prints goes to a text instead; only what it says on stderr is of interest."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        yield said
