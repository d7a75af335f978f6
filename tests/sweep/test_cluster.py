"""Sweeps on Dask with real schedulers, workers and memories: what is killed, and what is still right afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import faulty_memory

pytest.importorskip("pyarrow", reason="results are kept with memspec[sweep]")
pytest.importorskip("distributed", reason="clusters are Dask's, with memspec[sweep]")

from memspec.running.executors import Serial
from memspec.sweep.cluster import NoScheduler, joined, local
from memspec.sweep.drive import Sweep, looked_at_all
from memspec.sweep.plan import Plan, planned, read
from memspec.sweep.store import Store

HELPERS = str(Path(faulty_memory.__file__).parent)
FAULTS = (faulty_memory.RAISES, faulty_memory.HANGS, faulty_memory.CRASHES)


def sweep_file(folder: Path, sizes: Any = (4,), seeds: int = 10, slow: float = 0.0) -> Path:
    """A plan of one memory, of which cells of some sizes come to grief."""
    path = folder / "sweep.toml"
    path.write_text(
        f"seeds = {seeds}\ntrials = 1\nseconds = 1.0\n"
        f'[[memory]]\nplug = "faulty_memory:Faulty"\narguments = {{ slow = {slow} }}\n'
        f'[[experiment]]\nname = "capacity.load"\ngrid = {{ n = {list(sizes)} }}\nset = {{ key_dim = 16 }}\n'
    )
    return path


def plan_in(path: Path) -> Plan:
    return planned(read(path))


def found_in(folder: Path) -> Any:
    store = Store(folder)
    return store.rows(list(store.signatures()))


def numbers(folder: Path) -> dict[tuple[str, int, str], float]:
    """Every value that was measured but times, by cell, trial and metric."""
    rows = found_in(folder).query("status == 'ok'")
    return dict(zip(zip(rows.cell, rows.trial, rows.metric), rows["value"]))


def until(holds: Callable[[], bool], seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_a_killed_worker_a_hanging_cell_and_a_dead_one_leave_the_numbers_of_one_process(tmp_path: Path) -> None:
    plan = plan_in(sweep_file(tmp_path, (4, 8, *FAULTS), seeds=2, slow=0.05))
    signatures, _ = looked_at_all(plan)
    with local(2) as there:
        client = there.executor._client  # type: ignore[attr-defined]
        killed: list[int] = []

        def told(tally: Any, outcomes: Any) -> None:
            if not killed:
                killed.append(client.run(os.getpid).popitem()[1])
                os.kill(killed[0], signal.SIGKILL)

        sweep = Sweep(plan, tmp_path / "cluster", signatures, group=2, told=told)
        tally = sweep.run(there.executor, there.workers())
    assert killed
    assert (tally.done, tally.failed) == (10, 6)
    assert tally.causes == {"raised": 2, "time": 2, "death": 2}
    sound = plan_in(sweep_file(tmp_path, (4, 8), seeds=2, slow=0.05))
    Sweep(sound, tmp_path / "serial", signatures).run(Serial(), 1)
    assert numbers(tmp_path / "cluster") == numbers(tmp_path / "serial")
    assert numbers(tmp_path / "serial")


# ---- with a cluster of its own, and the command line ----------------------------------------------------------


def started(*arguments: str) -> subprocess.Popen[str]:
    """A process that finds the memory, as a user's would."""
    environment = {**os.environ, "PYTHONPATH": HELPERS, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.communicate()


def sweeping(path: Path, into: Path, *options: str) -> subprocess.Popen[str]:
    return started("-m", "memspec", "sweep", str(path), "--into", str(into), *options)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def scheduler(port: int) -> Iterator[subprocess.Popen[str]]:
    process = started(
        "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"
    )
    try:
        yield process
    finally:
        ended(process)


@contextlib.contextmanager
def worker(port: int) -> Iterator[subprocess.Popen[str]]:
    address = f"tcp://127.0.0.1:{port}"
    process = started(
        "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--death-timeout", "20"
    )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=10)
        ended(process)


def files(folder: Path) -> int:
    return len(list(folder.glob("cells/*/*.parquet")))


@pytest.mark.slow
def test_a_sweep_outlives_its_scheduler(tmp_path: Path, port: int) -> None:
    """The scheduler is killed in the middle and started anew at its address, with a new worker."""
    path, into = sweep_file(tmp_path, seeds=16, slow=0.2), tmp_path / "out"
    with scheduler(port) as first, worker(port):
        process = sweeping(path, into, "--scheduler", f"tcp://127.0.0.1:{port}", "--group", "2")
        until(lambda: files(into) > 2)
        first.kill()
        first.wait()
    before = files(into)
    with scheduler(port), worker(port):
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert "the scheduler was lost" in err
    assert before < 8
    rows = found_in(into)
    assert sorted(rows.drop_duplicates("key").seed) == list(range(16))
    assert set(rows.status) == {"ok"}


@pytest.mark.slow
def test_a_sweep_whose_scheduler_stays_away_says_so_and_goes_on_later(tmp_path: Path, port: int) -> None:
    path, into = sweep_file(tmp_path, seeds=12, slow=0.2), tmp_path / "out"
    address = f"tcp://127.0.0.1:{port}"
    with scheduler(port) as first, worker(port):
        process = sweeping(path, into, "--scheduler", address, "--group", "2", "--patience", "3")
        until(lambda: files(into) > 2)
        first.kill()
        out, err = process.communicate(timeout=400)
    assert process.returncode == 3, out + err
    assert "no scheduler answers" in err
    before = len(found_in(into).drop_duplicates("key"))
    process = sweeping(path, into, "--workers", "2")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert f"12 cells, {before} of them in {into} already" in out
    assert sorted(found_in(into).drop_duplicates("key").seed) == list(range(12))


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    path, into = sweep_file(tmp_path, seeds=16, slow=0.1), tmp_path / "out"
    process = sweeping(path, into, "--workers", "2", "--group", "2")
    until(lambda: files(into) > 2)
    ended(process)
    before = len(found_in(into).drop_duplicates("key"))
    assert 0 < before < 16
    out, err = sweeping(path, into, "--workers", "2").communicate(timeout=400)
    assert f"16 cells, {before} of them" in out, err
    assert sorted(found_in(into).drop_duplicates("key").seed) == list(range(16))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_a_full_disk_ends_the_sweep_with_its_own_code_and_loses_nothing_that_was_written(tmp_path: Path) -> None:
    into = tmp_path / "small"
    into.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(into)], capture_output=True, check=False
    ).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        path = sweep_file(tmp_path, seeds=30)
        process = sweeping(path, into, "--executor", "processes", "--workers", "2", "--group", "1")
        out, err = process.communicate(timeout=400)
        assert process.returncode == 8, out + err
        assert "No space left" in err
        assert "the same command goes on" in err
        kept = files(into)
        assert kept > 1
        assert len(found_in(into).drop_duplicates("key")) == kept
        subprocess.run(["mount", "-o", "remount,size=8m", str(into)], check=True)
        process = sweeping(path, into, "--executor", "processes", "--workers", "2")
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, out + err
        assert sorted(found_in(into).drop_duplicates("key").seed) == list(range(30))
    finally:
        subprocess.run(["umount", str(into)], check=False)


@pytest.mark.slow
def test_two_sweeps_in_two_processes_share_a_folder(tmp_path: Path) -> None:
    path, into = sweep_file(tmp_path, seeds=12, slow=0.02), tmp_path / "out"
    both = [sweeping(path, into, "--executor", "processes", "--workers", "1", "--group", "3") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, out + err
    rows = found_in(into)
    assert sorted(rows[rows.metric == "recall_cosine"].seed) == list(range(12))


@pytest.mark.slow
def test_ctrl_c_on_a_cluster_is_two_lines(tmp_path: Path) -> None:
    """The terminal sends it to every process; only the sweep itself says something of it."""
    path, into = sweep_file(tmp_path, seeds=40, slow=0.2), tmp_path / "out"
    arguments = ["-m", "memspec", "sweep", str(path), "--into", str(into), "--workers", "2", "--group", "2"]
    environment = {**os.environ, "PYTHONPATH": HELPERS, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: files(into) > 1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2, out + err
    told = [line for line in err.splitlines() if " cells done" not in line]
    assert told == ["memspec sweep: interrupted; the same command goes on"]


def test_nobody_at_an_address_is_told_of(port: int) -> None:
    with pytest.raises(NoScheduler, match="no scheduler answers"), joined(f"tcp://127.0.0.1:{port}", patience=0):
        pass
