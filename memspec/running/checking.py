"""Hooks around one check: its record is begun, what it raises is understood, and what became of it goes with its report."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from memspec.errors import CannotMeasure, CheckFailed, NotAsked, OutOfTime
from memspec.failure import printable, without_harness
from memspec.running.run import RUN, is_check, session_of
from memspec.running.shown import as_shown


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before skip marks act, so that such a skip is recorded as well
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    if not is_check(item):
        return (yield)
    from memspec.running.checks import start

    item.stash[RUN] = start(item, session_of(item.config))
    return (yield from _translated(item))


@pytest.hookimpl(specname="pytest_runtest_setup", tryfirst=True)  # inside the wrapper above, before any fixture
def pytest_runtest_setup_slow(item: pytest.Item) -> None:
    if is_check(item) and item.get_closest_marker("slow") and not item.config.getoption("--memspec-full"):
        raise NotAsked("takes minutes; run with --memspec-full")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _translated(item))


@pytest.hookimpl(specname="pytest_runtest_call", wrapper=True, trylast=True)  # nothing but the check itself is inside
def pytest_runtest_call_guarded(item: pytest.Item) -> Generator[None, Any, Any]:
    """A check leaves the process as it found it, and one in which the memory did not leave the world so fails."""
    run = item.stash.get(RUN, None)
    if run is None:
        return (yield)
    from memspec.world.disturbance import LASTING, note, taken
    from memspec.world.guard import guarded

    taken()  # what was noted before belongs to no check
    with guarded() as found:
        result = yield
    note(found)
    note(LASTING.get(run.memory, {}).values())
    disturbances = taken()
    if disturbances:
        from memspec.laws.world import failure
        from memspec.running.checks import plug_of

        asked = (plug_of(item), LAW) in _asked(item.session)
        broken = failure(run, session_of(item.config).plugs.get(run.memory), disturbances, asked)
        if broken is not None:
            raise CheckFailed(broken)
    return result


LAW = "test_untouched"
"""The check that tells what a memory does to the world at every call, once."""
ASKED: pytest.StashKey[frozenset[tuple[str, str]]] = pytest.StashKey()


def _asked(session: pytest.Session) -> frozenset[tuple[str, str]]:
    """The suites' own checks that a run asks, by function, each with the ``--memory`` it is asked of."""
    if ASKED not in session.stash:
        from memspec.running.checks import is_suite, plug_of

        own = [item for item in session.items if is_check(item) and is_suite(item.function)]  # type: ignore[attr-defined]
        session.stash[ASKED] = frozenset((plug_of(item), item.function.__name__) for item in own)  # type: ignore[attr-defined]
    return session.stash[ASKED]


def _translated(item: pytest.Item) -> Generator[None, Any, Any]:
    """One phase of a test: what its exceptions mean goes to the check's record, and to pytest in its own terms.

    NotAsked and CannotMeasure, wherever they are raised, are skips with their reason; CheckFailed is a failure without
    a traceback. The traceback of anything else shows the check's frames and the memory's, not memspec's own.
    """
    run = item.stash.get(RUN, None)
    try:
        return (yield)
    except NotAsked as reason:
        if run is not None:
            run.not_asked(str(reason))
        end: Any = pytest.skip.Exception(f"not asked: {reason}")
    except CannotMeasure as reason:
        end = pytest.skip.Exception(str(reason))
    except OutOfTime:
        end = pytest.skip.Exception("not measured: budget: it takes more calls than are left to it")
    except CheckFailed as broken:
        if run is not None:
            run.settle(broken.failure)
        end = pytest.fail.Exception(str(broken), pytrace=False)
    except BaseException as error:
        if run is not None and not item.config.getoption("fulltrace"):
            without_harness(error)
        raise
    # Outside the handler, or pytest would print the exceptions that led here as well.
    raise end


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """What is no pass is counted, and shown, as such: a check that was not decided, or that required nothing."""
    sent = [text for key, text in getattr(report, "user_properties", ()) if key == "memspec"]
    if report.when != "call" or not report.passed or not sent:
        return None
    status = json.loads(str(sent[-1]))["check"]["status"]
    if status == "measured":
        return "measured", "m", ("MEASURED", {"green": False})
    return ("inconclusive", "?", ("INCONCLUSIVE", {"yellow": True})) if status == "inconclusive" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    run = item.stash.get(RUN, None)
    if run is None:
        return report
    report.sections = [(name, printable(text)) for name, text in report.sections]
    session = session_of(item.config)
    sent: dict[str, Any]
    if call.when == "setup" and report.passed:  # should the process die in the check, this much is known
        sent = {"memory": run.memory, "check": run.check.to_json(), "blocks": [], "about": None}
    elif call.when == "call" or not report.passed:
        from memspec.running.checks import conclude

        module = item.function.__module__  # type: ignore[attr-defined]
        run.check = conclude(run, report, call.excinfo.value if call.excinfo else None, module)
        if report.failed and not run.settled and run.check.failure is not None:
            report.sections.append(("memspec", str(run.check.failure)))
        sent = session.news(run)
    else:
        return report
    if report.longrepr is not None and not isinstance(report.longrepr, tuple):  # what a memory says is foreign text
        report.longrepr = as_shown(report.longrepr, str(run.check.failure or report.longrepr))
    report.user_properties.append(("memspec", json.dumps(sent, default=float)))
    return report
