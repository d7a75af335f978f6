"""The pytest plugin: options, fixtures, hooks. Policy lives here; what is measured and required lives elsewhere.

Loaded in every pytest run of an environment that has memspec, so it imports torch and the rest only when a memory
is under test.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import MemspecError, NotComparable
from memspec.failure import printable
from memspec.running import interrupts, options
from memspec.running.checking import (
    pytest_report_teststatus,
    pytest_runtest_call,
    pytest_runtest_call_guarded,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_runtest_setup_slow,
)
from memspec.running.collecting import (
    no_memory_message,
    pytest_collection_modifyitems,
    pytest_generate_tests,
    pytest_pycollect_makeitem,
)
from memspec.running.ledger import Ledger
from memspec.running.readers import outlived
from memspec.running.run import (
    KINDS,
    OUTCOME,
    RUN,
    SESSION,
    in_memory_process,
    memories,
    reports_elsewhere,
    session_of,
)

if TYPE_CHECKING:
    from memspec.experiments.base import Runner
    from memspec.judging.requirements import Judge
    from memspec.laws.law import Law
    from memspec.plugs.plug import Plug
    from memspec.running.controller import Controller

LEDGER: pytest.StashKey[Ledger] = pytest.StashKey()
RUN_BEGUN: pytest.StashKey[bool] = pytest.StashKey()
CONTROLLER: pytest.StashKey[Controller] = pytest.StashKey()
BASELINE: pytest.StashKey[Any] = pytest.StashKey()

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_generate_tests",
    "pytest_pycollect_makeitem",
    "pytest_report_teststatus",
    "pytest_runtest_call",
    "pytest_runtest_call_guarded",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_runtest_setup_slow",
]
"""Hooks that stand in modules of their own: those of collection, and those around one check."""

pytest.register_assert_rewrite("memspec.suites")


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> Generator[None]:
    """The one short name comes last: a project, or another plugin, that has an option of that name keeps it."""
    yield
    options.add_memory(parser)


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
    if not reports_elsewhere(config):  # before pytest makes what it prints with
        streams = contextlib.ExitStack()
        streams.enter_context(outlived())
        config.add_cleanup(streams.close)
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
    except NotComparable as error:
        from memspec.running.exits import Exit

        pytest.exit(str(error), returncode=Exit.NOT_COMPARABLE)
    except MemspecError as error:
        raise pytest.UsageError(str(error)) from None


def prepare(config: pytest.Config) -> None:
    """See to it that memories can be loaded, and that what the command line names can be read and written.

    Raises:
        MemspecError: saying what is wrong.
    """
    if not hasattr(config, "workerinput"):
        if config.getoption("--memspec-scorecard"):
            from memspec.running.outputs import refuse_outputs

            refuse_outputs(options.reader(config))
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
    """Judges one metric of an experiment on the memory under test; see :class:`memspec.judging.requirements.Judge`."""
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

    session = session_of(request.config)
    options = session.options
    run = request.node.stash[RUN]
    pace = session.budget(plug).plan.pace
    with seeded(unshared(options.seed)):
        yield Law(plug, run.rule, run.check.id, options.seed, options.full, pace)


@pytest.fixture
def observe(plug: Plug, pytestconfig: pytest.Config) -> Any:
    """Tries promises that the memory does not make; see :func:`memspec.inference.infer.observe`. Once a run."""
    return functools.partial(session_of(pytestconfig).observe, plug)


@pytest.fixture
def suite_options(pytestconfig: pytest.Config) -> Any:
    """The run's options (seed, alpha, data_root, examples, ...)."""
    return session_of(pytestconfig).options


# ---- the beginning and the end --------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist is told what an earlier run has decided."""
    node.workerinput["memspec_done"] = sorted(node.config.stash[LEDGER].done)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Before the first check: what is planned is known, so put an unfinished card in its place and begin the journal."""
    config = session.config
    if reports_elsewhere(config) or config.getoption("collectonly") or not memories(config):
        return
    from memspec.running.finish import begin

    try:
        begin(session_of(config), config.stash[LEDGER], memories(config), options.reader(config))
    except MemspecError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[RUN_BEGUN] = True


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    ledger = config.stash[LEDGER]
    if reports_elsewhere(config) or config.getoption("collectonly"):
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
            reporter._report_keyboardinterrupt = lambda: None  # what was interrupted is said below, in our words
    nothing = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    session.exitstatus = gravest(0 if nothing else int(exitstatus), outcome.exit_status)


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash[LEDGER].no_memory:
        terminalreporter.write_line(no_memory_message(config), red=True)
    outcome = config.stash.get(OUTCOME, None)
    if outcome is not None:
        if not any(argument.startswith("-r") for argument in config.invocation_params.args):
            # The summary below gives every skip with its reason; pytest's list of them would say it twice.
            terminalreporter.reportchars = terminalreporter.reportchars.replace("s", "")
        terminalreporter.section("memspec")
        for line, style in outcome.lines:
            terminalreporter.write_line(printable(line), **dict.fromkeys(style.split(), True))
