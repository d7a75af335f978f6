"""The pytest plugin: options, fixtures, hooks. Policy lives here; what is measured and required lives elsewhere.

Loaded in every pytest run of an environment that has memspec, so it imports torch and the rest only when a memory
is under test.
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
import json
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import CannotMeasure, CheckFailed, MemspecError, NotAsked, OutOfTime
from memspec.failure import printable, without_harness
from memspec.running import interrupts, options
from memspec.running.ledger import Ledger
from memspec.running.run import OUTCOME, SESSION, is_check, is_judged, memories, memories_asked, session_of

if TYPE_CHECKING:
    from memspec.experiments.base import Runner
    from memspec.judging.check import CheckRun
    from memspec.judging.judge import Judge
    from memspec.laws.law import Law
    from memspec.plugs.plug import Plug
    from memspec.running.controller import Controller

RUN: pytest.StashKey[CheckRun] = pytest.StashKey()
LEDGER: pytest.StashKey[Ledger] = pytest.StashKey()
RUN_BEGUN: pytest.StashKey[bool] = pytest.StashKey()
CONTROLLER: pytest.StashKey[Controller] = pytest.StashKey()
BASELINE: pytest.StashKey[Any] = pytest.StashKey()
KINDS = ("law", "claim", "measurement")

pytest.register_assert_rewrite("memspec.suites")


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for kind in KINDS:
        config.addinivalue_line("markers", f"{kind}: this check states a {kind} (memspec)")
    config.addinivalue_line("markers", "slow: trains something or takes minutes; run with --memspec-full (memspec)")
    config.addinivalue_line("markers", "gpu: needs CUDA (memspec)")
    config.addinivalue_line("markers", "sequence: asked of what has initial_state, step and run (memspec)")
    config.stash[LEDGER] = Ledger()
    if not in_memory_process(config):
        config.pluginmanager.register(config.stash[LEDGER], "memspec-ledger")
    options.check_usage(config)
    if not memories(config):
        return
    refuse_two_copies(config)
    if "OMP_NUM_THREADS" not in os.environ:
        # The tensors are small: more threads gain nothing, and on a busy machine they wait for each other.
        import torch

        torch.set_num_threads(1)
    if in_memory_process(config):
        return
    interrupts.heed_requests_to_end(config)
    if not hasattr(config, "workerinput") and (config.get_verbosity() >= 0 or config.getoption("--memspec-progress")):
        from memspec.running.progress import Progress

        config.pluginmanager.register(Progress(config), "memspec-progress")
    try:
        prepare(config)
    except MemspecError as error:
        raise pytest.UsageError(str(error)) from None


def prepare(config: pytest.Config) -> None:
    """See to it that memories can be loaded, and that what the command line names can be read and written.

    Raises:
        MemspecError: saying what is wrong.
    """
    if not hasattr(config, "workerinput"):
        if config.getoption("--memspec-scorecard"):
            from memspec.scorecard.files import writable

            writable(config.getoption("--memspec-scorecard"))
        if config.getoption("--memspec-baseline"):
            from memspec.running.finish import read_baseline

            config.stash[BASELINE] = read_baseline(
                session_of(config), config.getoption("--memspec-baseline"), config.getoption("--memspec-gate")
            )
        if config.getoption("--memspec-resume"):
            from memspec.running.finish import resume

            resume(session_of(config), config.stash[LEDGER], memories(config), config.getoption("--memspec-scorecard"))
    if options.isolated(config):
        isolate(config)
    else:
        session_of(config).load(memories(config))
    if hasattr(config, "workerinput"):
        config.stash[LEDGER].done |= set(config.workerinput.get("memspec_done", ()))


def in_memory_process(config: pytest.Config) -> bool:
    """Whether this is the far side of isolation: a process that holds a memory, or waits to."""
    return bool(getattr(config, "workerinput", {}).get("memspec_memory_process"))


def refuse_two_copies(config: pytest.Config) -> None:
    """Refuse the suites of one copy of memspec with the package of another: they may be of different versions.

    Raises:
        pytest.UsageError: if a checkout's suites are named, but what is imported is installed elsewhere.
    """
    here = Path(__file__).resolve().parent
    for argument in config.args:
        path = Path(config.invocation_params.dir, argument.partition("::")[0]).resolve()
        for folder in (path, *path.parents):
            beside = folder.parent / "memspec"
            if folder.name == "suites" and (beside / "plugin.py").is_file() and beside != here:
                raise pytest.UsageError(
                    f"memspec: {folder} are the suites of a checkout, but memspec is imported from {here}.\n"
                    "  Run the installed suites: pytest --pyargs memspec.suites --memory=...\n"
                    f"  or install the checkout: pip install -e {folder.parent}"
                )


def isolate(config: pytest.Config) -> None:
    """Start what runs the checks of ``--memory`` in processes of their own; it gets ready while this process collects."""
    from memspec.running.controller import Controller, pool_of

    config.stash[CONTROLLER] = Controller(session_of(config), pool_of(config))
    config.pluginmanager.register(config.stash[CONTROLLER], "memspec-controller")


def pytest_report_header(config: pytest.Config) -> list[str]:
    if SESSION not in config.stash:
        return []
    return config.stash[SESSION].header()


# ---- collection -----------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "_memspec_plug_name" in metafunc.fixturenames:
        names = memories_asked(metafunc) if memories(metafunc.config) else [NO_MEMORY]
        metafunc.parametrize("_memspec_plug_name", names, ids=names, scope="session")


NO_MEMORY = "no-memory"
"""Stands where a plug would, so that a run without one is refused once, after collection, and not in every module."""


def no_memory_message() -> str:
    """What to say to a run of the suites without a memory; lists the references."""
    from memspec.plugs.references import reference_plugs

    listing = "\n".join(f"  --memory={plug}" for plug in reference_plugs())
    return (
        "memspec: no memory under test. Add --memory=mypkg:MyMemory (or --memory=path/to/file.py:MyMemory), "
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
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(no_memory_message())
        config.workeroutput[NO_MEMORY] = True  # type: ignore[attr-defined]
        items.clear()
        return
    in_order(items)
    wanted = config.getoption("--memspec-checks")
    bounds = session_of(config).bounds if SESSION in config.stash and not hasattr(config, "workerinput") else {}
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
        config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
        items[:] = kept


def in_order(items: list[pytest.Item]) -> None:
    """Of each memory laws first, then claims: what is reached first where there is no time for all."""
    if not all(is_check(item) for item in items):
        return  # somebody's own tests stay as they wrote them
    from memspec.running.checks import plug_of

    names = list(dict.fromkeys(map(plug_of, items)))
    kind = {item: next((n for n, k in enumerate(KINDS) if item.get_closest_marker(k)), len(KINDS)) for item in items}
    items.sort(key=lambda item: (names.index(plug_of(item)), kind[item]))


# ---- fixtures -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def memory(_memspec_plug_name: str) -> Any:
    """The memory under test. Override this fixture in a test file to reuse a suite for a class of your own."""
    return _memspec_plug_name


@pytest.fixture
def plug(memory: Any, request: pytest.FixtureRequest) -> Generator[Plug, None, None]:
    """What builds fresh memories of the kind under test.

    Made for every test (it is looked up, not built): pytest would keep one of a wider scope for the first class or
    file that asks, and test its memory in all others too.
    """
    session = session_of(request.config)
    found = session.plug(memory)
    if RUN in request.node.stash:
        from memspec.running.checks import introduce, suits

        introduce(request.node.stash[RUN], request.node, session, found.name)
        suits(request.node, found)
        with session.budget(found).check(request.node.stash[RUN].check.kind):
            yield found
    else:
        yield found


@pytest.fixture
def judge(plug: Plug, request: pytest.FixtureRequest) -> Judge:
    """Judges one metric of an experiment on the memory under test; see :class:`memspec.judging.judge.Judge`."""
    return session_of(request.config).judge_for(plug, request.node.stash[RUN])


@pytest.fixture
def runner(plug: Plug, pytestconfig: pytest.Config) -> Runner:
    """Measures without judging; keeps what it measured for the record."""
    return session_of(pytestconfig).runner(plug)


@pytest.fixture
def law(plug: Plug, request: pytest.FixtureRequest) -> Generator[Law, None, None]:
    """The law that the test's docstring states, with cases to try it on; see :mod:`memspec.laws.law`."""
    from memspec.laws.law import Law
    from memspec.randomness import seeded, unshared

    options = session_of(request.config).options
    run = request.node.stash[RUN]
    with seeded(unshared(options.seed)):
        yield Law(plug, run.rule, run.check.id, options.seed, options.full)


@pytest.fixture
def observe(plug: Plug, pytestconfig: pytest.Config) -> Any:
    """Tries promises that the memory does not make; see :func:`memspec.inference.infer.observe`. Once a run."""
    return functools.partial(session_of(pytestconfig).observe, plug)


@pytest.fixture
def suite_options(pytestconfig: pytest.Config) -> Any:
    """The run's options (seed, alpha, data_root, examples, ...)."""
    return session_of(pytestconfig).options


# ---- running --------------------------------------------------------------------------------------------------


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
    from memspec.world.disturbance import note, taken
    from memspec.world.guard import guarded

    taken()  # what was noted before belongs to no check
    with guarded() as found:
        result = yield
    note(found)
    disturbances = taken()
    if disturbances:
        from memspec.laws.world import failure

        broken = failure(run, session_of(item.config).plugs.get(run.memory), disturbances)
        if broken is not None:
            raise CheckFailed(broken)
    return result


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
    if report.longrepr is not None and not isinstance(report.longrepr, tuple):  # what a memory says is foreign text
        report.longrepr = printable(report.longrepr)
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
    report.user_properties.append(("memspec", json.dumps(sent, default=float)))
    return report


# ---- the beginning and the end --------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist is told what an earlier run has decided."""
    node.workerinput["memspec_done"] = sorted(node.config.stash[LEDGER].done)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Before the first check: what is planned is known, so put an unfinished card in its place and begin the journal."""
    config = session.config
    if hasattr(config, "workerinput") or config.getoption("collectonly") or not memories(config):
        return
    from memspec.running.finish import begin

    config.stash[RUN_BEGUN] = True
    begin(session_of(config), config.stash[LEDGER], memories(config), options.reader(config))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    ledger = config.stash[LEDGER]
    if hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    if ledger.no_memory:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    broken = exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
    if not (ledger.collected or memories(config)) or (broken and not config.stash.get(RUN_BEGUN, False)):
        return
    from memspec.running.exits import gravest
    from memspec.running.finish import conclude_run

    with interrupts.held():
        outcome = conclude_run(
            session_of(config),
            ledger,
            memories(config),
            options.reader(config),
            controller=config.stash.get(CONTROLLER, None),
            stopped=interrupts.stopped_by(session, exitstatus),
            baseline=config.stash.get(BASELINE, None),
        )
    if not broken:
        from memspec.running.junit import tell
        from memspec.running.once import tell_once

        config.stash[OUTCOME] = outcome
        tell(session, outcome.cards)
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and not config.getoption("fulltrace"):
            tell_once(reporter)
    nothing = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    session.exitstatus = gravest(0 if nothing else int(exitstatus), outcome.exit_status)


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash[LEDGER].no_memory:
        terminalreporter.write_line(no_memory_message(), red=True)
    outcome = config.stash.get(OUTCOME, None)
    if outcome is not None:
        if not any(argument.startswith("-r") for argument in config.invocation_params.args):
            # The summary below gives every skip with its reason; pytest's list of them would say it twice.
            terminalreporter.reportchars = terminalreporter.reportchars.replace("s", "")
        terminalreporter.section("memspec")
        for line, style in outcome.lines:
            terminalreporter.write_line(printable(line), **dict.fromkeys(style.split(), True))
