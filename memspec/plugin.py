"""The pytest plugin: options, fixtures, hooks. Policy lives here; what is measured and required lives elsewhere.

Loaded in every pytest run of an environment that has memspec, so it imports torch and the rest only when a memory
is under test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import BoundsError, CannotMeasure, MemspecError, NotAsked

if TYPE_CHECKING:
    from memspec.experiments.base import Runner
    from memspec.plug import Plug
    from memspec.session import Judge, Session

SESSION: pytest.StashKey[Session] = pytest.StashKey()
CHECK: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
KINDS = ("law", "claim", "measurement")


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
        help='your own bounds, by check id: ["capacity/recall-floor/n8"] at_least = 0.9',
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
    names = config.getoption("--memory")
    if not names:
        for option in ("--scorecard", "--baseline", "--bounds"):
            if config.getoption(option):
                raise pytest.UsageError(f"{option} needs a memory: add --memory=module:attribute")
        return
    try:
        session_of(config).load(names)
    except MemspecError as error:
        raise pytest.UsageError(str(error)) from None


def session_of(config: pytest.Config) -> Session:
    """The run's session, made on first use (and torch imported with it)."""
    if SESSION not in config.stash:
        from memspec.session import Options, Session

        get = config.getoption
        alpha, trials = get("--alpha"), get("--max-trials")
        if not 0 < alpha < 1:
            raise pytest.UsageError(f"--alpha is {alpha}; it must be between 0 and 1")
        if trials < 1:
            raise pytest.UsageError(f"--max-trials is {trials}; it must be at least 1")
        if (get("--html") or get("--md")) and not get("--scorecard"):
            raise pytest.UsageError("--html and --md are written beside the record: add --scorecard=PATH.json")
        try:
            config.stash[SESSION] = Session(
                Options(
                    alpha=alpha,
                    max_trials=trials,
                    seed=get("--suite-seed"),
                    strict=bool(config.getini("strict")) if "--strict" in config.invocation_params.args else False,
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
        names = metafunc.config.getoption("--memory")
        if not names:
            from memspec.cli import reference_names

            listing = "\n".join(f"  --memory=memspec.reference:{name}" for name in reference_names())
            pytest.exit(
                "memspec: no memory under test. Add --memory=mypkg:MyMemory, or try a reference:\n" + listing,
                returncode=pytest.ExitCode.USAGE_ERROR,
            )
        metafunc.parametrize("_memspec_plug_name", names, ids=names, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("slow") and "_memspec_plug_name" in getattr(item, "fixturenames", ()):
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
    """Judges one metric of an experiment on the memory under test; see :class:`memspec.session.Judge`."""
    session = session_of(request.config)
    return session.judge(plug, request.node.stash[CHECK])


@pytest.fixture
def runner(plug: Plug, pytestconfig: pytest.Config) -> Runner:
    """Measures without judging; keeps what it measured for the record."""
    return session_of(pytestconfig).runner(plug)


@pytest.fixture
def suite_options(pytestconfig: pytest.Config) -> Any:
    """The run's options (seed, alpha, data_root, examples, ...)."""
    return session_of(pytestconfig).options


# ---- running --------------------------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "plug" in getattr(item, "fixturenames", ()):
        item.stash[CHECK] = new_check(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """NotAsked and CannotMeasure, wherever they are raised, are skips with their reason."""
    try:
        return (yield)
    except NotAsked as reason:
        pytest.skip(f"not asked: {reason}")
    except CannotMeasure as reason:
        pytest.skip(str(reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    check = item.stash.get(CHECK, None)
    if check is None or not (call.when == "call" or (call.when == "setup" and not report.passed)):
        return report
    session = session_of(item.config)
    arguments = getattr(item, "funcargs", {})
    name = arguments["plug"].name if "plug" in arguments else str(item.config.getoption("--memory"))
    check = dict(check, seconds=report.duration)
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        check |= {"status": "skip", "message": reason.removeprefix("Skipped: ")}
    elif report.failed:
        check |= {"status": "fail", "message": check["message"] or report.longreprtext}
    elif check["status"] is None:
        check["status"] = "pass"
    sent = {"memory": name, "check": check, "blocks": session.unsent(name)}
    report.user_properties.append(("memspec", json.dumps(sent, default=float)))
    return report


def new_check(item: pytest.Item) -> dict[str, Any]:
    """The empty record of a check. Its id is ``axis/name`` or ``axis/name/parameters``, the same in every kind of run."""
    function = item.function  # type: ignore[attr-defined]
    module = function.__module__.rpartition(".")[2]
    axis = module.removeprefix("test_")
    name = function.__name__.removeprefix("test_").replace("_", "-")
    parameters = item.name[len(function.__name__) :].strip("[]") if "[" in item.name else ""
    plugs = item.config.getoption("--memory")
    kept = parameters
    for plug in plugs:
        kept = kept.removeprefix(plug).removesuffix(plug)
    kept = kept.strip("-")
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


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for key, text in report.user_properties:
        if key == "memspec" and (report.when == "call" or report.failed or report.skipped):
            COLLECTED.append(json.loads(str(text)))


COLLECTED: list[dict[str, Any]] = []
"""What the tests of this process (or its xdist workers) reported; emptied at the start of each session."""


def pytest_sessionstart(session: pytest.Session) -> None:
    COLLECTED.clear()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if os.environ.get("PYTEST_XDIST_WORKER") or hasattr(config, "workerinput") or not COLLECTED:
        return
    from memspec.scorecard.finish import finish

    outcome = finish(session_of(config), COLLECTED, config.getoption)
    config.stash[OUTCOME] = outcome
    if outcome.exit_status and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = outcome.exit_status


OUTCOME: pytest.StashKey[Any] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    outcome = config.stash.get(OUTCOME, None)
    if outcome is not None:
        terminalreporter.section("memspec")
        for line in outcome.lines:
            terminalreporter.write_line(line)
