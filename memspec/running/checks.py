"""From a pytest item to a check, and from what became of the item to what became of the check.

The only place that names checks: ids in ``--memspec-checks``, ``--memspec-bounds``, cards and messages all come from here.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from memspec.errors import NotAsked
from memspec.failure import Failure, frame_of, place, plain, raised
from memspec.judging.check import KINDS, Check, CheckRun, Kind
from memspec.plugs.plug import Plug
from memspec.running.options import memory_option
from memspec.running.repeat import check_call, check_command, test_command
from memspec.running.session import Session

UNKNOWN = "unknown memory"


# ---- names ----------------------------------------------------------------------------------------------------


def identify(item: pytest.Item) -> Check:
    """What an item checks, before anything is known of it."""
    function = item.function  # type: ignore[attr-defined]
    parameters = item.name.partition("[")[2].removesuffix("]") if hasattr(item, "callspec") else ""
    kinds: list[Kind] = [kind for kind in KINDS if item.get_closest_marker(kind)]
    name = function.__name__ if is_suite(function) else function.__qualname__
    return named(function.__module__, name, parameters, [plug_of(item)], *kinds[:1])


def identify_lost(nodeid: str, plugs: Sequence[str]) -> tuple[str, Check]:
    """The memory and check of a test whose process died before it could say so: all there is is pytest's own id."""
    path, _, test = nodeid.partition("::")
    function, _, parameters = test.partition("[")
    parameters = parameters.removesuffix("]")
    memory = max((p for p in plugs if _shown(p) in parameters), key=len, default=UNKNOWN)
    return memory, named(Path(path).stem, function.rpartition("::")[2], parameters, [memory])


def named(module: str, qualname: str, parameters: str, plugs: Sequence[str], kind: Kind = "measurement") -> Check:
    """The check that a test function states: ``axis/name`` or ``axis/name/parameters``.

    Args:
        module: where the function is written; the axis is its last part.
        qualname: the function's name, with its class before it outside of memspec's own suites (they have one class
            an axis, a user's file may have several).
        parameters: as pytest writes them behind the function's name.
        plugs: what in the parameters names the memory, which is no part of a check.
    """
    axis = module.rpartition(".")[2].removeprefix("test_")
    owner, _, name = qualname.rpartition(".")
    name = name.removeprefix("test_").replace("_", "-")
    owner = owner.rpartition(".")[2].removeprefix("Test")
    name = f"{owner}.{name}" if owner else name
    for plug in filter(None, plugs):
        parameters = parameters.removeprefix(_shown(plug)).removesuffix(_shown(plug)).strip("-")
    return Check("/".join(part for part in (axis, name, parameters) if part), kind, axis)


@cache
def suites_folder() -> str:
    """Where memspec's own suites lie; a checkout imports them by another name than an installed package."""
    spec = importlib.util.find_spec("memspec.suites")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return os.path.realpath(places[0]) if places else ""


def is_suite(thing: Any) -> bool:
    """Whether a function or class is written in one of memspec's own suites."""
    try:
        return os.path.dirname(os.path.realpath(inspect.getfile(inspect.unwrap(thing)))) == suites_folder()
    except (TypeError, OSError):
        return False


def plug_of(item: pytest.Item) -> str:
    """The ``--memory`` an item is parametrised with; empty where a fixture gives the memory."""
    return str(getattr(getattr(item, "callspec", None), "params", {}).get("_memspec_plug_name", ""))


def _shown(plug: str) -> str:
    """A plug as pytest writes it in ids."""
    return plug.encode("unicode_escape").decode("ascii")


# ---- carrying one out -----------------------------------------------------------------------------------------


def start(item: pytest.Item, session: Session) -> CheckRun:
    """A check that is about to be carried out; the memory that a fixture gives is not known yet."""
    function = item.function  # type: ignore[attr-defined]
    said = (function.__doc__ or "").strip().partition("\n\n")[0]
    rule = " ".join(said.split()) or function.__name__.removeprefix("test_").replace("_", " ")
    run = CheckRun(identify(item), rule)
    introduce(run, item, session, plug_of(item) or UNKNOWN)
    return run


def introduce(run: CheckRun, item: pytest.Item, session: Session, memory: str) -> None:
    """Say which memory a check is asked of, and how to repeat it."""
    run.memory = memory
    if is_suite(item.function) and session.loadable(memory):  # type: ignore[attr-defined]
        run.repeat = check_command(memory, run.check.id, session.options)
    elif memory in session.called:
        run.repeat = check_call(memory, run.check.id, session.options)
    else:
        run.repeat = test_command(item.path, item.nodeid, plug_of(item), session.options, memory_option(item.config))


def suits(item: pytest.Item, plug: Plug) -> None:
    """What memspec's own suites ask of memories is not asked of sequence models, but for what is marked ``sequence``.

    Raises:
        NotAsked: if this check is for memories of the three methods, and that is none.
    """
    if plug.is_sequence_model and is_suite(item.function) and not item.get_closest_marker("sequence"):  # type: ignore[attr-defined]
        raise NotAsked(f"{plug.name} is a sequence model: it has no update and no query")


def conclude(run: CheckRun, report: pytest.TestReport, error: BaseException | None, module: str) -> Check:
    """What became of a check.

    Args:
        error: what ended this phase of the test, if anything did.
        module: where the check's function is written.
    """
    check = replace(run.check, seconds=report.duration)
    if report.skipped and check.status != "not_asked":
        expected = getattr(report, "wasxfail", None)
        reason = f"expected to fail: {expected}" if expected is not None else getattr(error, "msg", "") or str(error)
        check = replace(check, status="skip", reason=plain(reason))
    elif report.failed and report.when == "teardown" and check.status == "fail":
        pass  # what failed first is the failure
    elif report.failed and not (run.settled and report.when == "call"):
        check = check.failed(_unexpected(run, report, error, module))
    elif report.passed and check.status is None:
        check = replace(check, status="pass")
    return check


def _unexpected(run: CheckRun, report: pytest.TestReport, error: BaseException | None, module: str) -> Failure:
    """The failure that an exception or a plain assertion amounts to."""
    if error is None:  # such as a strict xfail that passed
        return run.failure(got=plain(report.longrepr), expected="what the rule says", cause="the check's own words")
    frame = frame_of(error)
    asserted = isinstance(error, AssertionError) and frame is not None and frame.f_globals.get("__name__") == module
    if asserted or isinstance(error, pytest.fail.Exception):
        first = str(error).partition("\n")[0] if asserted else str(error)
        where = place(error)
        return run.failure(
            got=plain(first) or "the assertion does not hold",
            expected=f"what is asserted{f' at {where}' if where else ''}",
            cause="what the rule says does not hold of this memory",
        )
    during = {"setup": " before the check began", "teardown": " after the check"}.get(str(report.when), "")
    where = place(error)
    return run.failure(
        got=f"raised {raised(error)}{during}{f' (at {where})' if where else ''}",
        expected="no exception",
        cause="the exception's own words; the command below raises it again",
        raised=raised(error),
    )
