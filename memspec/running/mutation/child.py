"""What is done to one memory in a process of its own: looked at, told from the original, run through the suites.

A mutant never touches a file: in its process, one module of the package is loaded from changed text (:func:`load_instead`).
Processes are forked by a server that has imported everything but the memories (:data:`PRELOADED`), so that one costs
hundredths of a second; one that hangs or takes too much is ended, and the end is what is reported.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import sys
import time
import types
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memspec.errors import MemspecError
from memspec.judging.check import KINDS
from memspec.protocol import MemorySpec
from memspec.running import process

PRELOADED = [
    "memspec.running.mutation.child",
    "memspec.running.mutation.histories",
    "memspec.experiments.catalog",
    "memspec.laws.stateful",
    "memspec.running.finish",
    "hypothesis.extra.numpy",
    "sklearn.datasets",
    "pandas",
    "scipy.stats",
]
"""What the server of processes imports; no memory is among it, for a mutant must be loaded first."""

BARE = "memspec_bare"
"""Module name of the plug whose memories have had their promises taken away."""


# ---- a changed module -----------------------------------------------------------------------------------------


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from text."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.source = module, source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.module:
            return None
        return importlib.util.spec_from_loader(name, self, origin=f"<mutant of {name}>")

    def exec_module(self, module: types.ModuleType) -> None:
        exec(compile(self.source, f"<mutant of {self.module}>", "exec"), vars(module))


def load_instead(module: str, source: str) -> None:
    """From now on in this process, ``module`` is loaded from ``source``.

    Raises:
        MemspecError: if it has been loaded already.
    """
    if module in sys.modules:
        raise MemspecError(f"{module} is loaded already: a mutant of it would not be used")
    sys.meta_path.insert(0, Changed(module, source))


def load_bare(plug: str) -> str:
    """Make a plug whose memories promise nothing, in this process, and return its name.

    What a spec says of how a memory is to be used is kept (domains, association, presentations, fidelity, capacity): without
    it the memory would be asked what it is not for.
    """
    from memspec.plugs.loading import load_plug

    original = load_plug(plug)
    kept = ("key_domain", "value_domain", "association", "presentations", "fidelity", "capacity", "stochastic")

    @functools.wraps(original.factory)
    def memory(*arguments: Any, **named: Any) -> Any:
        built: Any = original.factory(*arguments, **(original.kwargs | named))
        built.spec = replace(MemorySpec(), **{name: getattr(built.spec, name) for name in kept})
        return built

    module = types.ModuleType(BARE)
    vars(module)["memory"] = memory
    sys.modules[BARE] = module
    return f"{BARE}:memory"


# ---- what is done ---------------------------------------------------------------------------------------------


def look(plug: str, folder: str, path: str) -> dict[str, Any]:
    """Play every history on the original, once more with nudged numbers, and keep what was seen in the file ``path``.

    Returns:
        ``lines`` that ran by path, of those files that lie in ``folder``, and the ``seconds`` one playing of all took.

    Raises:
        MemspecError: if the same calls give other answers when they are made again.
    """
    import torch

    from memspec.plugs.loading import load_plug
    from memspec.running.mutation.histories import histories, tolerances

    with lines_run(folder) as lines:
        loaded = load_plug(plug)
        seen = [history.play(loaded) for history in histories()]
    start = time.perf_counter()
    nudged = [history.play(loaded) for history in histories(nudged=True)]
    seconds = time.perf_counter() - start
    again = [history.play(loaded) for history in histories()]
    if any(first_difference_in(one, two) for one, two in zip(seen, again)):
        raise MemspecError(
            f"{plug} answers otherwise when the same calls are made again: mutants cannot be told from it"
        )
    allowed = [tolerances(one, two) for one, two in zip(seen, nudged)]
    settings = {}
    for name in settings_of(plug):
        other = load_plug(name)
        settings[name] = {"seen": [history.play(other) for history in histories()], "spec": other.spec}
    torch.save({"seen": seen, "allowed": allowed, "settings": settings, "spec": loaded.spec}, path)
    return {"lines": {name: sorted(numbers) for name, numbers in lines.items()}, "seconds": seconds}


def first_difference_in(one: Any, two: Any) -> str | None:
    """The first difference at all between two lives."""
    from memspec.running.mutation.histories import first_difference

    return first_difference(one, two, [0.0] * len(one))


@contextlib.contextmanager
def lines_run(folder: str) -> Iterator[dict[str, set[int]]]:
    """Inside, the numbers of the lines that run in functions of files under ``folder`` are gathered, by path."""
    found: dict[str, set[int]] = {}

    def trace(frame: types.FrameType, event: str, argument: Any) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(folder):
            return None
        lines = found.setdefault(path, set())

        def line(frame: types.FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return line

        return line(frame, event, argument)

    sys.settrace(trace)
    try:
        yield found
    finally:
        sys.settrace(None)


def settings_of(plug: str) -> list[str]:
    """The same reference with another of the choices that each of its options has, as plugs."""
    from memspec.options import Choice, declared
    from memspec.plugs.loading import load_plug

    loaded = load_plug(plug)
    name = plug.partition("(")[0]
    out = []
    for option, has in declared(loaded.factory).items():
        if isinstance(has.kind, Choice) and option not in loaded.kwargs:
            for value in has.kind.values:
                if value != has.default:
                    given = loaded.kwargs | {option: value}
                    out.append(f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})")
    return out


def tell_apart(plug: str, module: str, source: str, path: str) -> dict[str, Any]:
    """Whether a mutant behaves otherwise than the original, whose look lies in the file ``path``.

    Returns:
        ``outcome``: ``stillborn`` (it cannot be loaded, or fails at three pairs), ``same`` or ``different``; ``shows``: the
        plainest place where a difference was found; ``where``: at which call; ``free``: form -> why it is another memory and
        no worse one, for the forms in which that is so.
    """
    import torch

    from memspec.plugs.loading import load_plug
    from memspec.running.mutation.histories import FREE, PLACES, histories, shown_in

    load_instead(module, source)
    try:
        loaded = load_plug(plug)
        shape = loaded.shape(8, 8, 16)
        memory = loaded.build(shape)
        keys = torch.eye(shape.key_dim)[:3]
        memory.update(keys, keys if loaded.spec.association == "auto" else torch.eye(shape.value_dim)[:3])
        memory.query(keys)
    except Exception as error:
        where = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
        return {"outcome": "stillborn", "shows": "", "where": where, "free": {}}
    original = torch.load(path, weights_only=False)
    plainest, at = len(PLACES), ""
    settings = dict(original["settings"])
    for number, (history, seen, allowed) in enumerate(zip(histories(), original["seen"], original["allowed"])):
        lived = history.play(loaded)
        found = shown_in(seen, lived, allowed)
        if found and found[0] < plainest:
            plainest, at = found[0], f"history {history.number}, {found[1]}"
        settings = {
            name: known for name, known in settings.items() if not shown_in(known["seen"][number], lived, allowed)
        }
        if plainest == 0 and not settings:
            break
    if not at:
        return {"outcome": "same", "shows": "", "where": "", "free": {}}
    free = dict.fromkeys(("own", "bare"), FREE[PLACES[plainest]]) if PLACES[plainest] in FREE else {}
    for name, known in settings.items():
        why = f"it behaves as {name.rpartition(':')[2]} does"
        free |= {form: why for form in ("own", "bare") if form == "bare" or known["spec"] == original["spec"]}
    return {"outcome": "different", "shows": PLACES[plainest], "where": at, "free": free}


def suites(
    plug: str,
    module: str | None = None,
    source: str = "",
    bare: bool = False,
    seconds: dict[str, float] | None = None,
    spared: Sequence[str] = (),
    stop: bool = True,
    arguments: Sequence[str] = (),
) -> dict[str, Any]:
    """Run the default tier: laws, claims, measurements, quick ones first.

    Args:
        module, source: a changed module.
        bare: take the promises away.
        seconds: what each check took on the original.
        spared: checks that are not run, because the original fails them.
        stop: at the first failure.
        arguments: further options of pytest.

    Returns:
        ``failed``: messages by check; ``seconds`` by check; ``exit``.
    """
    if module is not None:
        load_instead(module, source)
    name = load_bare(plug) if bare else plug
    watcher = Watcher(seconds or {}, frozenset(spared))
    command = ["--pyargs", "memspec.suites", f"--memspec-memory={name}", f"-c{os.devnull}", f"--rootdir={Path.cwd()}"]
    command += ["-q", "--tb=short", "-rN", "-p", "no:cacheprovider", "-p", "memspec.plugin", "--import-mode=importlib"]
    command += ["--memspec-no-isolate", *["-x"] * stop, *arguments]  # this process is the one that is watched
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = int(pytest.main(command, plugins=[watcher]))
    if code not in (0, 1):
        watcher.failed.setdefault("the run", out.getvalue()[-2000:])
    return {"failed": watcher.failed, "seconds": watcher.seconds, "exit": code}


class Watcher:
    """A pytest plugin: the order of checks, and what came of them."""

    def __init__(self, known: dict[str, float], spared: frozenset[str]) -> None:
        self.known, self.spared = known, spared
        self.failed: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        from memspec.running.checks import identify

        checks = {item: identify(item) for item in items}
        items[:] = [item for item in items if checks[item].id not in self.spared]
        items.sort(key=lambda item: (KINDS.index(checks[item].kind), self.known.get(checks[item].id, 0)))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        from memspec.running.checks import identify

        report: Any = yield
        name = identify(item).id
        self.seconds[name] = self.seconds.get(name, 0.0) + report.duration
        if report.failed:
            self.failed[name] = str(report.longreprtext)
        return report


# ---- processes ------------------------------------------------------------------------------------------------


def ask(task: Any, arguments: dict[str, Any], limit: float) -> Any:
    """``task(**arguments)`` in a process that has imported :data:`PRELOADED`; see :func:`memspec.running.process.ask`."""
    return process.ask(task, arguments, limit, PRELOADED)
