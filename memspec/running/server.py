"""The processes that hold memories: one that is ready, and copies of it, each for one memory.

A run starts :func:`main` in a new interpreter once. That process imports torch, reads the options and collects the same checks as the run, without ever touching a memory; then it waits. For each memory it
forks a copy of itself in a process group of its own, which loads the memory and runs the checks it is told, one at a
time. So a new process for a memory, also after a death, takes milliseconds instead of the seconds that torch takes to
import, and what one memory does to its process no other memory sees.

Everything here runs on the far side of the socket; :mod:`memspec.running.isolation` is the near side.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memspec.errors import MemspecError
from memspec.failure import place, raised
from memspec.running import limits
from memspec.running.manifest import manifest_of
from memspec.running.run import SERVER, session_of
from memspec.running.wire import GONE, Channel, Closed, Listener, connect
from memspec.world.boundary import unattended
from memspec.world.processes import children, end_child, leave_if_copied, own_id

OWN = frozenset({"memspec", "_hypothesis_pytestplugin"})
"""Packages whose plugins of pytest the checks need."""
HEARD = frozenset({"pytest_addoption", "pytest_addhooks", "pytest_generate_tests", "pytest_make_parametrize_id"})
"""Hooks that plugins have here which are loaded only because they are installed: those without which the command line
cannot be read, or checks would have other names than in the run."""


def main(path: str, order: dict[str, Any]) -> int:
    """Collect what ``order`` says, then listen at ``path``; the exit code of pytest, where it comes to an end."""
    try:
        return serve(path, order)
    finally:
        Path(f"{path}{GONE}").touch()


def serve(path: str, order: dict[str, Any]) -> int:
    """As :func:`main`, whose process this is."""
    from _pytest.config import get_config

    limits.die_with_parent()
    limits.adopt_orphans()
    sys.path[:] = order["path"]
    # Marks that a plugin would declare are unknown here; the run has refused those that nobody knows.
    arguments = [*order["arguments"], "-o", "strict_markers=false"]
    config = get_config(arguments)
    manager = config.pluginmanager
    hush(manager)
    config = manager.hook.pytest_cmdline_parse(pluginmanager=manager, args=arguments)
    # As pytest-xdist's workers do: nothing is written or distributed from here, also where its plugin is named.
    for name, value in (("xmlpath", None), ("dist", "no"), ("numprocesses", None), ("maxprocesses", None)):
        if hasattr(config.option, name):
            setattr(config.option, name, value)
    manager.register(Server(path), SERVER)
    return int(config.hook.pytest_cmdline_main(config=config) or 0)


def hush(manager: pytest.PytestPluginManager) -> None:
    """Let plugins that are loaded only because they are installed do nothing but what is in :data:`HEARD`.

    They act in the run. Here they would act a second time (start to measure, write their reports over those of the run,
    repeat or time checks), or wait to be told what pytest-xdist tells its workers. Fixtures that they have are there.
    What somebody names acts in full: by ``-p``, ``PYTEST_PLUGINS``, or in a ``conftest.py``.
    """
    load, read = manager.load_setuptools_entrypoints, manager.parse_hookimpl_opts
    installed = False

    def load_noting(group: str, name: str | None = None) -> int:
        nonlocal installed
        installed = name is None
        try:
            return load(group, name)
        finally:
            installed = False

    def read_heard(plugin: Any, name: str) -> Any:
        where = getattr(plugin, "__name__", None) or type(plugin).__module__
        if installed and name not in HEARD and where.partition(".")[0] not in OWN:
            return None
        return read(plugin, name)

    manager.load_setuptools_entrypoints = load_noting  # type: ignore[method-assign]
    manager.parse_hookimpl_opts = read_heard  # type: ignore[method-assign]


class Server:
    """The pytest plugin of the waiting process.

    Each process of a run (one, or every worker of pytest-xdist) has a conversation with it, and orders forks.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.deselected: list[pytest.Item] = []
        self.copies: set[int] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Remember what is left out."""
        self.deselected += items

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running what was collected: fork when told to."""
        gc.collect()
        gc.freeze()  # what all copies share stays shared
        listener = Listener(self.path)
        clients: list[Channel] = []
        while True:
            ready, _, _ = select.select([listener.fileno(), *(c.fileno() for c in clients)], [], [])
            if listener.fileno() in ready:
                clients.append(listener.next())
            for one in [c for c in clients if c.fileno() in ready]:
                try:
                    order = one.receive()
                    if order is not None:
                        self._obey(session, one, order, [listener, *clients])
                except Closed:
                    clients.remove(one)
                    one.close()

    def _obey(self, session: pytest.Session, client: Channel, order: dict[str, Any], open_: list[Any]) -> None:
        if order["order"] == "ping":
            client.send(event="pong")
            return
        if order["order"] == "manifest":
            client.send(event="manifest", manifest=manifest_of(session.items, self.deselected).to_json())
            return
        if order["order"] == "reap":
            self.copies.discard(order["pid"])
            status = end_child(order["pid"])
            for orphan in (
                children() - self.copies
            ):  # what it left in groups of their own is this process's child by now
                end_child(orphan)
            client.send(event="reaped", status=status)
            return
        pid = os.fork()
        if pid:
            self.copies.add(pid)
            client.send(event="forked", pid=pid, server=os.getpid())
            return
        status = 1
        try:
            os.setsid()
            limits.die_with_parent()
            for one in open_:
                one.close()
            Holder(session, connect(order["listener"], order["name"]), order).run()
            status = 0
        except Closed:
            status = 0
        except BaseException as error:
            tell(error, order["stacks"])
        finally:
            os._exit(status)  # no exit handler of a memory, and none of the copied run, is waited for


def tell(error: BaseException, path: str) -> None:
    """Write what ended a process to where its stacks are looked for, innermost frame first as they are."""
    with contextlib.suppress(Exception), open(path, "a", encoding="utf-8", errors="replace") as file:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        file.writelines(
            [f"{raised(error)}\n", *(f'  File "{f.filename}", line {f.lineno} in {f.name}\n' for f in frames)]
        )


class Holder:
    """The process of one memory: loads it, and runs the checks it is told."""

    def __init__(self, session: pytest.Session, channel: Channel, order: dict[str, Any]) -> None:
        self.session, self.channel, self.order = session, channel, order
        self.items = {item.nodeid: item for item in session.items}
        self.stacks = limits.Stacks(order["stacks"])
        self.running, self.process = False, own_id()
        self.seconds: float = order["seconds"]

    def run(self) -> None:
        """Load the memory, then serve until the run is done with it.

        Raises:
            Closed: when the run is gone.
        """
        config = self.session.config
        server = os.getppid()
        self._capture_anew()
        limits.adopt_orphans()
        limits.limit_memory(self.order["memory_bytes"])
        unattended()
        config.pluginmanager.register(self, "memspec-holder")
        self.stacks.after(self.order["seconds"])
        self._say(event="loaded", **self._load())
        self.stacks.cancel()
        while True:
            order = self.channel.receive()
            if order is None:
                continue
            if order["order"] == "end":
                return
            if order["item"] not in self.items:
                self._say(event="unknown")
                continue
            self.stacks.clear()
            self.seconds = order["seconds"]
            self.stacks.after(self.seconds)
            self.running = True
            item, following = self.items[order["item"]], self.items.get(order["next"])
            config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self.running = False
            self.stacks.cancel()
            if os.getppid() != server:
                os._exit(1)  # the memory has ended the process that this one came from
            self._say(event="done")

    def _say(self, **message: Any) -> None:
        """Tell the run; what a memory has forked, and came back, has no say."""
        leave_if_copied(self.process)
        self.channel.send(**message)

    def _load(self) -> dict[str, Any]:
        try:
            session_of(self.session.config).load([self.order["memory"]])
        except MemspecError as error:
            return {"refused": str(error)}
        except BaseException as error:
            where = place(error)
            at = f" (at {where})" if where else ""
            return {"refused": f"--memory={self.order['memory']}: loading it raised {raised(error)}{at}"}
        return {}

    def _capture_anew(self) -> None:
        """Files that captured output goes to are shared with the process this one was copied from: open new ones."""
        manager: Any = self.session.config.pluginmanager.getplugin("capturemanager")
        if manager is not None and manager.is_globally_capturing():
            manager.stop_global_capturing()
            manager.start_global_capturing()

    # ---- what pytest says while a check runs ------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Each report goes to the run. Once a check has begun it is known how slow its memory is, so how long it may take."""
        config = self.session.config
        more = session_of(config).longest
        if report.when == "setup" and more:
            self.stacks.after(self.seconds + more)
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        self._say(event="report", report=data, more=more)

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        """Each warning of a check goes to the run (those from before are told there already)."""
        if not self.running:
            return
        category = warning_message.category
        self._say(
            event="warning",
            message=str(warning_message.message),
            category=[category.__module__, category.__qualname__],
            file=warning_message.filename,
            line=warning_message.lineno,
            when=when,
            nodeid=nodeid,
            location=location,
        )
