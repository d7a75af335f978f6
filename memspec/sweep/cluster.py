"""Dask as an executor: a cluster of this machine's processes, or one that is there already.

A worker has one thread: what it runs are groups of cells, each in processes of their own in which torch has one
thread, so that as many workers as cores use all cores and none waits for another.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from urllib.parse import urlsplit

from memspec.errors import MemspecError, UsageProblem
from memspec.failure import plain
from memspec.running.signals import deferred

PATIENCE = 60.0
"""Seconds that are waited for a scheduler to be there (again), unless told otherwise."""
SCHEMES = ("tcp", "tls", "ws", "wss", "ucx")
INSTALL = "pip install -e '.[sweep]'"


class Missing(MemspecError):
    """A package that sweeps need is not installed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"a sweep needs {what}, which is not installed: {INSTALL}")


class NoScheduler(MemspecError):
    """There is no scheduler where one was named, or it does not come back."""


@dataclass(frozen=True)
class Connected:
    """An executor to hand jobs to.

    Attributes:
        workers: jobs that it runs at once, asked anew each time: workers of a cluster come and go.
        dashboard: where Dask shows what it does; empty where there is none.
    """

    executor: Executor
    workers: Callable[[], int]
    dashboard: str = ""


def needed(*packages: str) -> None:
    """Make sure that packages are installed.

    Raises:
        Missing: naming the first that is not, and the line that installs all.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise Missing(package)


@contextlib.contextmanager
def local(workers: int) -> Iterator[Connected]:
    """A cluster of so many processes on this machine, which ends with the block.

    Raises:
        Missing: if Dask is not installed.
    """
    needed("distributed")
    import dask
    from distributed import Client, LocalCluster

    _quiet()
    settings = {
        "distributed.worker.daemon": False,
        "distributed.worker.preload": ["memspec.sweep.deaf"],
        "distributed.comm.timeouts.connect": "20s",
    }
    with contextlib.ExitStack() as held:
        with deferred():
            held.enter_context(dask.config.set(settings))
            cluster = held.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # the worker holds next to nothing; its children have limits of their own
                    dashboard_address="127.0.0.1:0" if _taken(8787) else "127.0.0.1:8787",
                    silence_logs=logging.CRITICAL,
                )
            )
            client = held.enter_context(Client(cluster, timeout="20s"))
        yield Connected(client.get_executor(pure=False), lambda: workers, str(client.dashboard_link))


@contextlib.contextmanager
def joined(address: str, patience: float) -> Iterator[Connected]:
    """A cluster that is there: ``tcp://host:8786``. It stays when the block ends.

    Raises:
        Missing: if Dask is not installed.
        NoScheduler: if nobody answers there for ``patience`` seconds.
    """
    needed("distributed")
    from distributed import Client

    _quiet()
    host, port = whole_address(address)
    end = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(min(patience, 5.0), 0.1)):
                pass  # somebody listens: a client that is made for nobody leaves its own complaints behind
            client = Client(address, timeout="5s", set_as_default=False)
            break
        except OSError as error:  # TimeoutError is one
            if time.monotonic() > end:
                raise NoScheduler(f"no scheduler answers at {address}: {plain(error)}") from None
            time.sleep(0.5)
    with client:

        def workers() -> int:
            return max(1, sum(client.nthreads().values()))

        yield Connected(client.get_executor(pure=False), workers, str(client.dashboard_link))


def whole_address(address: str) -> tuple[str, int]:
    """Host and port of a scheduler.

    Raises:
        UsageProblem: if that is no address of one.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in SCHEMES:
        raise UsageProblem(f"--scheduler {address!r}: write tcp://HOST:PORT, such as tcp://127.0.0.1:8786")
    return host, port


def _quiet() -> None:
    """What Dask logs of lost connections is told in our own words."""
    for name in (
        "asyncio",
        "tornado",
        "distributed",
        "distributed.client",
        "distributed.core",
        "distributed.comm",
        "distributed.nanny",
    ):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
