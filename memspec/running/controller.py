"""Where pytest and the memories' processes meet: runs each check of ``--memory`` in its memory's process.

pytest asks to run an item; its name goes to the process of its memory (:class:`memspec.running.isolation.Pool`), and the
reports that come back go to pytest's own hooks. A process that dies in a check becomes a failed report of that check.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NoReturn

import pytest

from memspec.errors import MemspecError
from memspec.judging.check import Check, CheckRun
from memspec.running import limits
from memspec.running.checks import identify, is_suite, plug_of
from memspec.running.isolation import Death, Died, Limits, Pool, Refused, warning_of
from memspec.running.manifest import Manifest
from memspec.running.messages import Warned, report_of
from memspec.running.repeat import check_command
from memspec.running.session import Session
from memspec.running.shown import as_shown
from memspec.running.wire import Damaged

SERVER, SHARED, SAID, BROKEN = "memspec_server", "memspec_order", "memspec_said", "memspec_broken"
"""Keys of what workers of pytest-xdist are told, and of what they say at their end."""
SURVIVES = "The memory's process survives the check."


class Controller:
    """The pytest plugin that runs checks elsewhere.

    Attributes:
        refused: memories that could not be loaded, and why.
        given_up: memories whose processes died too often, and how often.
    """

    def __init__(self, session: Session, pool: Pool) -> None:
        self.session, self.pool = session, pool
        self.refused: dict[str, str] = {}
        self.given_up: dict[str, int] = {}

    # ---- hooks ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a check in its memory's process; leave everything else to pytest."""
        memory = plug_of(item)
        if not memory:
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item, nextitem, memory):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker of pytest-xdist is told how to reach the server, and what to start if it has to."""
        node.workerinput[SERVER] = self.pool.server_path
        node.workerinput[SHARED] = self.pool.order

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Before the first check: load all memories, and refuse a run in which none can be.

        Raises:
            pytest.UsageError: saying why, if no memory at all could be loaded.
        """
        names = list(dict.fromkeys(filter(None, map(plug_of, session.items))))
        if not names or session.config.getoption("collectonly") or hasattr(session.config, "workerinput"):
            return
        try:
            self.load(names)
        except MemspecError as error:
            broken(session.config, error)
        if len(self.refused) == len(names):
            raise pytest.UsageError("\n".join(self.refused.values()))

    def manifest(self) -> Manifest | None:
        """What this run plans, where workers have collected it and not this process; None if nobody can tell."""
        try:
            return Manifest.from_json(self.pool.manifest())
        except MemspecError:
            return None

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist tells which memories it could not load or has given up, and what broke."""
        said = getattr(node, "workeroutput", {}).get(SAID, {})
        self.refused |= said.get("refused", {})
        self.given_up |= said.get("given_up", {})
        reporter = node.config.pluginmanager.get_plugin("terminalreporter")
        if BROKEN in getattr(node, "workeroutput", {}) and reporter is not None:
            reporter.write_line(f"memspec: {node.workeroutput[BROKEN]}", red=True)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker of pytest-xdist says what its controller cannot know."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[SAID] = {"refused": self.refused, "given_up": self.given_up}

    def pytest_unconfigure(self) -> None:
        self.pool.close()

    # ---- running ----------------------------------------------------------------------------------------------

    def load(self, memories: Iterable[str]) -> None:
        """Load every memory in its process, so that all that cannot be are told at once."""
        for memory in memories:
            self._loaded(memory)

    def _loaded(self, memory: str) -> bool:
        """Whether a memory can be asked: it loads, and its processes have not died too often."""
        if memory in self.refused or memory in self.given_up:
            return False
        try:
            self.pool.holder(memory)
        except Refused as refusal:
            self.refused[memory] = str(refusal)
        except Died as died:
            self.refused[memory] = refusal_of(memory, died.death)
        return memory not in self.refused

    def _reports(self, item: pytest.Item, nextitem: pytest.Item | None, memory: str) -> Iterator[pytest.TestReport]:
        config = item.config
        following = nextitem.nodeid if nextitem is not None and plug_of(nextitem) == memory else None
        begun: dict[str, Any] | None = None
        ended: list[
            pytest.TestReport
        ] = []  # held until the process has done with the check: what it dies of is the end
        try:
            if not self._loaded(memory):
                return
            for event in self.pool.run(memory, item.nodeid, following, item.get_closest_marker("slow") is not None):
                if isinstance(event, Warned):
                    config.hook.pytest_warning_recorded.call_historic(
                        kwargs={
                            "warning_message": warning_of(event),
                            "nodeid": event.nodeid,
                            "when": event.when,
                            "location": event.location,
                        }
                    )
                    continue
                try:
                    report, said = report_of(config, event, item.nodeid, memory)
                except Damaged as damage:
                    raise Died(self.pool.distrust(memory, damage)) from None
                begun = said or begun
                if report.when == "setup" and report.passed:
                    yield report
                else:
                    ended.append(report)
            yield from ended
        except Died as died:
            failed = [report for report in ended if report.failed]
            yield from failed
            yield self._epitaph(item, memory, begun, died.death, "teardown" if failed else "call")
            if self.pool.exhausted(memory):
                self.given_up[memory] = len(self.pool.deaths[memory])
        except MemspecError as error:
            broken(config, error)

    def _epitaph(
        self,
        item: pytest.Item,
        memory: str,
        begun: dict[str, Any] | None,
        death: Death,
        when: Literal["call", "teardown"],
    ) -> pytest.TestReport:
        """The failed report of a check in which a process died."""
        check = Check.from_json(begun["check"]) if begun else identify(item)
        said = " ".join((item.function.__doc__ or "").split())  # type: ignore[attr-defined]
        repeat = check_command(memory, check.id, self.session.options) if is_suite(item.function) else ""  # type: ignore[attr-defined]
        failure = CheckRun(check, said or SURVIVES, memory, repeat).failure(
            got=death.cause,
            expected="an answer, or an exception",
            cause=death.likely,
            stack=death.stack,
        )
        sent: dict[str, Any] = {"memory": memory, "check": check.failed(failure).to_json(), "blocks": [], "about": None}
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=as_shown(failure, str(failure)),
            when=when,
            user_properties=[("memspec", json.dumps(sent, default=float))],
        )


def pool_of(config: pytest.Config) -> Pool:
    """The processes of this run; a worker of pytest-xdist shares the server of the process that started it."""
    given = getattr(config, "workerinput", {})
    limit = config.getoption("--memspec-memory-limit")
    bounds = Limits(
        seconds=config.getoption("--memspec-check-timeout"),
        memory_bytes=int(limit * 2**30) if limit else limits.available_bytes() * 4 // 5,
    )
    order = given.get(SHARED) or {
        "arguments": [str(a) for a in config.invocation_params.args],
        "path": sys.path,
    }
    return Pool(order, bounds, given.get(SERVER))


def broken(config: pytest.Config, error: MemspecError) -> NoReturn:
    """End the run: what runs its checks does not work."""
    if hasattr(config, "workeroutput"):
        config.workeroutput[BROKEN] = str(error)  # pytest-xdist passes on the code alone
    pytest.exit(f"memspec: {error}", returncode=int(pytest.ExitCode.INTERNAL_ERROR))


def refusal_of(memory: str, death: Death) -> str:
    """What to say of a memory whose process died while loading it."""
    return f"--memory={memory}: {death.cause} while it was loaded.\n{death.stack}".rstrip()
