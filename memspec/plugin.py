"""The pytest plugin: options, fixtures, hooks. Policy lives here; what is measured and required lives elsewhere.

Loaded in every pytest run of an environment that has memspec, so it imports torch and the rest only when a memory
is under test.
"""

from __future__ import annotations

import fnmatch
import json
import os
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import BoundsError, CannotMeasure, LawBroken, MemspecError, NotAsked

if TYPE_CHECKING:
    from memspec.experiments.base import Runner
    from memspec.laws.law import Law
    from memspec.plugs.plug import Plug
    from memspec.running.session import Judge, Session

SESSION: pytest.StashKey[Session] = pytest.StashKey()
CHECK: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
COLLECTOR: pytest.StashKey[Collector] = pytest.StashKey()
OUTCOME: pytest.StashKey[Any] = pytest.StashKey()
BASELINE: pytest.StashKey[Any] = pytest.StashKey()
KINDS = ("law", "claim", "measurement")

pytest.register_assert_rewrite("memspec.suites")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memspec", "conformance of neural memories (memspec)")
    add = group.addoption
    add(
        "--memory",
        action="append",
        default=[],
        metavar="PLUG",
        help="memory under test: module:attribute or file.py:attribute, with literal arguments behind it if needed, such as 'mypkg:MyMemory(lr=0.5)'; may be repeated",
    )
    add(
        "--checks",
        action="append",
        default=[],
        metavar="GLOB",
        help="run only checks whose id matches, such as 'capacity/*' or 'laws/query-*'; may be repeated",
    )
    add("--scorecard", type=Path, metavar="PATH.json", help="write the record here")
    add("--html", action="store_true", help="write a self-contained page with plots beside the record")
    add("--md", action="store_true", help="write Markdown beside the record")
    add("--baseline", type=Path, metavar="OLD.json", help="fail if any metric is worse than in this record")
    add(
        "--tolerance",
        type=float,
        default=0.02,
        help="how much worse than the baseline, as a share of the metric's range, is still no regression (default 0.02)",
    )
    add(
        "--bounds",
        type=Path,
        metavar="FILE.toml",
        help='your own bounds, by check id: ["capacity/recall/n8"] at_least = 0.9',
    )
    add("--alpha", type=float, default=1e-3, help="false-alarm rate of each measured check (default 0.001)")
    add(
        "--max-trials",
        type=int,
        default=256,
        metavar="N",
        help="trials after which a check is inconclusive (default 256)",
    )
    add("--suite-seed", type=int, default=0, metavar="N", help="seed of all random streams (default 0)")
    add("--full", action="store_true", help="also run what takes minutes (marked slow)")
    add("--data-root", type=Path, metavar="DIR", help="where large data lies")
    add("--download", action="store_true", help="allow fetching large data")
    add(
        "--examples",
        type=int,
        default=None,
        metavar="N",
        help="let Hypothesis loose: N random examples a stateful law, not derandomised",
    )


def pytest_configure(config: pytest.Config) -> None:
    for kind in KINDS:
        config.addinivalue_line("markers", f"{kind}: this check states a {kind} (memspec)")
    config.addinivalue_line("markers", "slow: trains something or takes minutes; run with --full (memspec)")
    config.addinivalue_line("markers", "gpu: needs CUDA (memspec)")
    config.stash[COLLECTOR] = Collector()
    config.pluginmanager.register(config.stash[COLLECTOR], "memspec-collector")
    check_usage(config)
    if not memories(config):
        return
    try:
        session_of(config).load(memories(config))
        if config.getoption("--baseline"):
            from memspec.scorecard.finish import read_baseline

            config.stash[BASELINE] = read_baseline(session_of(config), config.getoption("--baseline"))
    except MemspecError as error:
        raise pytest.UsageError(str(error)) from None
    if "OMP_NUM_THREADS" not in os.environ:
        # The tensors are small: more threads gain nothing, and on a busy machine they wait for each other.
        import torch

        torch.set_num_threads(1)


def memories(config: pytest.Config) -> list[str]:
    """The plugs named on the command line, each once."""
    return list(dict.fromkeys(config.getoption("--memory")))


def check_usage(config: pytest.Config) -> None:
    """Refuse options that cannot be meant, before anything runs.

    Raises:
        pytest.UsageError: naming the option and what it takes.
    """
    get = config.getoption
    if not 0 < get("--alpha") < 1:
        raise pytest.UsageError(f"--alpha is {get('--alpha')}; it must be between 0 and 1")
    if get("--max-trials") < 1:
        raise pytest.UsageError(f"--max-trials is {get('--max-trials')}; it must be at least 1")
    if get("--tolerance") < 0:
        raise pytest.UsageError(f"--tolerance is {get('--tolerance')}; it must be at least 0")
    if (get("--html") or get("--md")) and not get("--scorecard"):
        raise pytest.UsageError("--html and --md are written beside the record: add --scorecard=PATH.json")
    if get("--scorecard") and get("--scorecard").suffix in (".html", ".md"):
        raise pytest.UsageError(f"--scorecard={get('--scorecard')}: the record is JSON; name it something.json")


def session_of(config: pytest.Config) -> Session:
    """The run's session, made on first use (and torch imported with it)."""
    if SESSION not in config.stash:
        from memspec.running.session import Options, Session

        get = config.getoption
        try:
            config.stash[SESSION] = Session(
                Options(
                    alpha=get("--alpha"),
                    max_trials=get("--max-trials"),
                    seed=get("--suite-seed"),
                    strict=bool(get("--strict")),  # pytest's own option; the ini setting of that name is not meant
                    full=get("--full"),
                    bounds=get("--bounds"),
                    data_root=get("--data-root"),
                    download=get("--download"),
                    examples=get("--examples"),
                )
            )
        except BoundsError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[SESSION]


def pytest_report_header(config: pytest.Config) -> list[str]:
    if SESSION not in config.stash:
        return []
    return config.stash[SESSION].header()


# ---- collection -----------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "_memspec_plug_name" in metafunc.fixturenames:
        names = memories(metafunc.config) or [NO_MEMORY]
        metafunc.parametrize("_memspec_plug_name", names, ids=names, scope="session")


NO_MEMORY = "no-memory"
"""Stands where a plug would, so that a run without one is refused once, after collection, and not in every module."""


def no_memory_message() -> str:
    """What to say to a run of the suites without a memory; lists the references."""
    from memspec.cli import reference_names

    listing = "\n".join(f"  --memory=memspec.reference:{name}" for name in reference_names())
    return (
        "memspec: no memory under test. Add --memory=mypkg:MyMemory (or --memory=path/to/file.py:MyMemory), "
        f"or try a reference:\n{listing}"
    )


def is_check(item: pytest.Item) -> bool:
    """Whether an item checks a memory (takes ``plug``, directly or through another fixture)."""
    return "plug" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(getattr(i, "callspec", None) and i.callspec.params.get("_memspec_plug_name") == NO_MEMORY for i in items):  # type: ignore[attr-defined]
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(no_memory_message())
        config.workeroutput[NO_MEMORY] = True  # type: ignore[attr-defined]
        items.clear()
        return
    if SESSION in config.stash and config.stash[SESSION].bounds and not hasattr(config, "workerinput"):
        ids = [new_check(i)["id"] for i in items if is_check(i)]
        unused = [p for p in config.stash[SESSION].bounds if not any(fnmatch.fnmatchcase(i, p) for i in ids)]
        if unused:
            listed = ", ".join(f'["{p}"]' for p in unused)
            warnings.warn(
                f"--bounds: no check that was collected matches {listed}; ids are like capacity/recall/n8", stacklevel=2
            )
    wanted = config.getoption("--checks")
    if wanted:
        kept = [
            i for i in items if is_check(i) and any(fnmatch.fnmatchcase(new_check(i)["id"], glob) for glob in wanted)
        ]
        chosen = set(map(id, kept))
        config.hook.pytest_deselected(items=[i for i in items if id(i) not in chosen])
        items[:] = kept
    if config.getoption("--full"):
        return
    for item in items:
        if is_check(item) and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="not asked: takes minutes; run with --full"))


# ---- fixtures -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def memory(_memspec_plug_name: str) -> Any:
    """The memory under test. Override this fixture in a test file to reuse a suite for a class of your own."""
    return _memspec_plug_name


@pytest.fixture(scope="session")
def plug(memory: Any, pytestconfig: pytest.Config) -> Plug:
    """What builds fresh memories of the kind under test."""
    return session_of(pytestconfig).plug(memory)


@pytest.fixture
def judge(plug: Plug, request: pytest.FixtureRequest) -> Judge:
    """Judges one metric of an experiment on the memory under test; see :class:`memspec.running.session.Judge`."""
    session = session_of(request.config)
    return session.judge(plug, request.node.stash[CHECK])


@pytest.fixture
def runner(plug: Plug, pytestconfig: pytest.Config) -> Runner:
    """Measures without judging; keeps what it measured for the record."""
    return session_of(pytestconfig).runner(plug)


@pytest.fixture
def law(plug: Plug, request: pytest.FixtureRequest) -> Generator[Law, None, None]:
    """The law that the test's docstring states, with cases to try it on; see :mod:`memspec.laws.law`."""
    from memspec.laws.law import Law
    from memspec.randomness import seeded

    seed = session_of(request.config).options.seed
    function = request.node.function
    with seeded(seed):
        yield Law(plug, function.__doc__ or function.__name__, request.node.stash[CHECK]["id"], seed)


@pytest.fixture
def suite_options(pytestconfig: pytest.Config) -> Any:
    """The run's options (seed, alpha, data_root, examples, ...)."""
    return session_of(pytestconfig).options


# ---- running --------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)  # before skip marks act, so that such a skip is recorded as well
def pytest_runtest_setup(item: pytest.Item) -> None:
    if is_check(item):
        item.stash[CHECK] = new_check(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """NotAsked and CannotMeasure, wherever they are raised, are skips with their reason; LawBroken is a failure."""
    try:
        return (yield)
    except NotAsked as reason:
        pytest.skip(f"not asked: {reason}")
    except CannotMeasure as reason:
        pytest.skip(str(reason))
    except LawBroken as broken:
        message = "\n".join([str(broken), *getattr(broken, "__notes__", [])])
    # Outside the handler, or pytest would print the exceptions that led here as well.
    pytest.fail(message, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    check = item.stash.get(CHECK, None)
    if check is None or not (call.when == "call" or not report.passed):
        return report
    session = session_of(item.config)
    arguments = getattr(item, "funcargs", {})
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    name = arguments["plug"].name if "plug" in arguments else parameters.get("_memspec_plug_name", "unknown memory")
    check = dict(check, seconds=report.duration)
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        check |= {"status": "skip", "message": reason.removeprefix("Skipped: ")}
    elif report.failed:
        judged = check["message"] and check["message"] in report.longreprtext
        if not judged:  # an assertion, or a crash: an inconclusive verdict that fails under --strict stays one
            check |= {"status": "fail", "message": report.longreprtext}
    elif check["status"] is None:
        check["status"] = "pass"
    sent = {"memory": name, "check": check, "blocks": session.unsent(name), "about": None}
    if name in session.plugs and name not in session.told:
        session.told.add(name)
        sent["about"] = session.about(name)
    report.user_properties.append(("memspec", json.dumps(sent, default=float)))
    return report


def new_check(item: pytest.Item) -> dict[str, Any]:
    """The empty record of a check. Its id is ``axis/name`` or ``axis/name/parameters``, the same in every kind of run."""
    function = item.function  # type: ignore[attr-defined]
    module = function.__module__.rpartition(".")[2]
    axis = module.removeprefix("test_")
    name = function.__name__.removeprefix("test_").replace("_", "-")
    callspec = getattr(item, "callspec", None)
    kept = item.name[item.name.index("[") + 1 : -1] if callspec is not None and "[" in item.name else ""
    plug = getattr(callspec, "params", {}).get("_memspec_plug_name", "")
    if plug:
        shown = plug.encode("unicode_escape").decode("ascii")  # as pytest writes it in ids
        kept = kept.removeprefix(shown).removesuffix(shown).strip("-")
    kinds = [kind for kind in KINDS if item.get_closest_marker(kind)]
    return {
        "id": "/".join(part for part in (axis, name, kept) if part),
        "kind": kinds[0] if kinds else "measurement",
        "axis": axis,
        "status": None,
        "metric": None,
        "estimate": None,
        "interval": None,
        "alpha": None,
        "bound": None,
        "trials": None,
        "seconds": None,
        "message": "",
    }


# ---- the end --------------------------------------------------------------------------------------------------


class Collector:
    """Gathers what the tests of this process, or of its xdist workers, report."""

    def __init__(self) -> None:
        self.collected: list[dict[str, Any]] = []
        self.no_memory = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        sent = [text for key, text in report.user_properties if key == "memspec"]
        if sent and (report.when == "call" or not report.passed):
            self.collected.append(json.loads(str(sent[-1])))
        elif report.failed and report.when not in ("setup", "call", "teardown"):  # a worker died in this test
            self.collected.append({"memory": None, "nodeid": report.nodeid, "message": report.longreprtext})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist ended; one that had no memory to test has said so."""
        self.no_memory = self.no_memory or NO_MEMORY in getattr(node, "workeroutput", {})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    ran_nothing = exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
    if hasattr(config, "workerinput") or config.getoption("collectonly") or ran_nothing:
        return
    if config.stash[COLLECTOR].no_memory:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    collected = config.stash[COLLECTOR].collected
    if not collected and not memories(config):
        return
    from memspec.scorecard.finish import finish

    outcome = finish(
        session_of(config),
        collected,
        memories(config),
        config.getoption,
        baseline=config.stash.get(BASELINE, None),
        interrupted=exitstatus == pytest.ExitCode.INTERRUPTED,
    )
    config.stash[OUTCOME] = outcome
    if outcome.exit_status and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = outcome.exit_status


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash[COLLECTOR].no_memory:
        terminalreporter.write_line(no_memory_message(), red=True)
    outcome = config.stash.get(OUTCOME, None)
    if outcome is not None:
        if not any(argument.startswith("-r") for argument in config.invocation_params.args):
            # The summary below gives every skip with its reason; pytest's list of them would say it twice.
            terminalreporter.reportchars = terminalreporter.reportchars.replace("s", "")
        terminalreporter.section("memspec")
        for line, style in outcome.lines:
            terminalreporter.write_line(line, **dict.fromkeys(style.split(), True))
