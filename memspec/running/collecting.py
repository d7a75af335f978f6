"""Hooks of collection: which memories a test is asked of, which checks are asked, and in which order."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections import Counter
from collections.abc import Collection

import pytest

from memspec.running import options
from memspec.running.run import (
    KINDS,
    SESSION,
    is_check,
    is_judged,
    memories,
    memories_asked,
    reports_elsewhere,
    session_of,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "_memspec_plug_name" in metafunc.fixturenames:
        names = memories_asked(metafunc) if memories(metafunc.config) else [NO_MEMORY]
        metafunc.parametrize("_memspec_plug_name", names, ids=names, scope="session")


NO_MEMORY = "no-memory"
"""Stands where a plug would, so that a run without one is refused once, after collection, and not in every module."""


def no_memory_message(config: pytest.Config) -> str:
    """What to say to a run of the suites without a memory; lists the references."""
    from memspec.plugs.references import reference_plugs

    name = options.memory_option(config)
    taken = "" if name == "--memory" else "--memory is an option of this project or of another plugin here. "
    listing = "\n".join(f"  {name}={plug}" for plug in reference_plugs())
    return (
        f"memspec: no memory under test. {taken}Add {name}=mypkg:MyMemory (or {name}=path/to/file.py:MyMemory), "
        f"or try a reference:\n{listing}"
    )


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """Refuse a class of two suites: of two checks of one name it would have only the first, in silence."""
    if not inspect.isclass(obj) or len(obj.__bases__) < 2 or not name.startswith("Test"):
        return
    from memspec.running.checks import is_suite

    suites = [base for base in obj.__mro__ if base is not obj and is_suite(base)]
    if len(suites) > 1:
        listed = " and ".join(base.__name__ for base in suites)
        written = "\n".join(
            f"    class {name}{base.__name__.removeprefix('Test')}({base.__name__}): ..." for base in suites
        )
        raise pytest.Collector.CollectError(
            f"{name} inherits from the suites {listed}: checks of the same name would hide each other, so that only some "
            f"of them run.\nWrite one class for each, with the memory fixture in every one (or in the file):\n\n{written}"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(getattr(i, "callspec", None) and i.callspec.params.get("_memspec_plug_name") == NO_MEMORY for i in items):  # type: ignore[attr-defined]
        if not reports_elsewhere(config):
            raise pytest.UsageError(no_memory_message(config))
        if hasattr(config, "workeroutput"):
            config.workeroutput[NO_MEMORY] = True
        items.clear()
        return
    in_order(items)
    wanted = config.getoption("--memspec-checks")
    bounds = session_of(config).bounds if SESSION in config.stash and not reports_elsewhere(config) else {}
    if config.getoption("--memspec-alpha-run") is not None:
        from memspec.running.checks import plug_of

        session_of(config).share_alpha(Counter(plug_of(item) for item in items if is_judged(item)))
    if not wanted and not bounds:
        return
    from memspec.judging.bounds import unmatched
    from memspec.running.checks import identify

    ids = {item: identify(item).id for item in items if is_check(item)}
    unused = unmatched(bounds, [i for item, i in ids.items() if is_judged(item)])
    if unused:
        listed = ", ".join(f'["{p}"]' for p in unused)
        raise pytest.UsageError(
            f"--memspec-bounds: no check that judges a metric matches {listed}; ids are like capacity/recall/n8, and a law "
            "takes no bound"
        )
    if wanted:
        kept = [i for i in items if i in ids and any(fnmatch.fnmatchcase(ids[i], glob) for glob in wanted)]
        chosen = set(kept)
        ledger = config.pluginmanager.get_plugin("memspec-ledger")
        if ledger is not None:
            ledger.unmatched = [line for glob in wanted for line in no_match(glob, set(ids.values()))]
        config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
        items[:] = kept


def no_match(glob: str, ids: Collection[str]) -> list[str]:
    """What is said of a glob that matches no check, with names near it; nothing of one that does."""
    if any(fnmatch.fnmatchcase(one, glob) for one in ids):
        return []
    axes = sorted({one.partition("/")[0] for one in ids})
    names = {"/".join(one.split("/")[:2]) for one in ids}
    known = [*(f"{axis}/*" for axis in axes), *sorted(f"{name}/*" for name in names - set(ids)), *sorted(ids)]
    near = list(dict.fromkeys(difflib.get_close_matches(glob, known, n=3, cutoff=0.7)))
    hint = f"close matches: {', '.join(near)}" if near else f"there are {', '.join(f'{axis}/*' for axis in axes)}"
    return [f"--memspec-checks: no check matches {glob}; {hint}"]


def in_order(items: list[pytest.Item]) -> None:
    """Of each memory laws first, then claims: what is reached first where there is no time for all."""
    if not all(is_check(item) for item in items):
        return  # somebody's own tests stay as they wrote them
    from memspec.running.checks import plug_of

    names = list(dict.fromkeys(map(plug_of, items)))
    kind = {item: next((n for n, k in enumerate(KINDS) if item.get_closest_marker(k)), len(KINDS)) for item in items}
    items.sort(key=lambda item: (names.index(plug_of(item)), kind[item]))
