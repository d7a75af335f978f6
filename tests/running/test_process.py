"""Work in processes under limits, and executors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from faulty_memory import counted
from memspec.errors import MemspecError
from memspec.running.executors import Serial, completed, processes, results, worker_count
from memspec.running.process import Bounds, Ended, forked, stream
from memspec.running.signals import AskedToEnd, deferred, heeded

QUICK = Bounds(seconds=0.5, memory_bytes=1 << 30)
PATIENT = Bounds(seconds=20, memory_bytes=1 << 30)


def spin() -> None:
    while True:
        pass


def take_all() -> int:
    return len(bytearray(8 << 30))


def speak_and_leave() -> None:
    os.write(2, b"last words")
    os._exit(3)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_copy_answers() -> None:
    assert forked(lambda: {"a": [1.5]}, PATIENT) == {"a": [1.5]}


def test_what_a_copy_prints_is_thrown_away(capfd: pytest.CaptureFixture[str]) -> None:
    assert forked(lambda: print("loud", flush=True), PATIENT) is None
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("function", "why", "what", "stack"),
    [
        (spin, "time", "not done after 0.5 seconds", "spin"),
        (speak_and_leave, "death", "exit code 3", "last words"),
        (segfault, "death", "SIGSEGV", "segfault"),
        (take_all, "death", "exit code 1", "MemoryError"),
    ],
)
def test_a_copy_that_gives_no_answer_is_told_of(function: Callable[[], Any], why: str, what: str, stack: str) -> None:
    ended = forked(function, QUICK if why == "time" else PATIENT)
    assert isinstance(ended, Ended)
    assert ended.why == why
    assert what in ended.what
    assert stack in ended.stack


def test_no_process_of_a_copy_is_left() -> None:
    def leave_one() -> int:
        return subprocess.Popen(["sleep", "60"]).pid

    pid = forked(leave_one, PATIENT)
    for _ in range(100):
        if not alive(pid):
            break
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_stream_tells_of_its_end() -> None:
    assert list(stream(counted, {"until": 3, "then": ""}, 60, [])) == [0, 1, 2]
    *before, ended = stream(counted, {"until": 2, "then": "die"}, 60, [])
    assert before == [0, 1]
    assert ended.why == "death"
    with pytest.raises(MemspecError, match="enough"):
        list(stream(counted, {"until": 0, "then": "raise"}, 60, []))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_a_copy_ends_with_the_one_that_waits_for_it() -> None:
    """A worker that is killed leaves no memory behind that still computes."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from memspec.running.process import Bounds, forked\n"
        "def work():\n"
        "    os.write(told, str(os.getpid()).encode())\n"
        "    while True: pass\n"
        "told = int(sys.argv[2]); forked(work, Bounds(60))\n"
    )
    readable, writable = os.pipe()
    caller = subprocess.Popen([sys.executable, "-c", program, os.getcwd(), str(writable)], pass_fds=[writable])
    os.close(writable)
    copy = int(os.read(readable, 20))
    caller.kill()
    caller.wait()
    end = time.monotonic() + 10
    while alive(copy) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(copy)


# ---- executors ------------------------------------------------------------------------------------------------


def test_a_serial_executor_keeps_exceptions_for_the_future() -> None:
    future = Serial().submit(int, "x")
    with pytest.raises(ValueError):
        future.result()


@pytest.mark.parametrize("workers", [1, 3])
def test_every_executor_gives_the_same_results(workers: int) -> None:
    with processes(workers) as executor:
        assert dict(results(executor, lambda n: n * n, range(20), window=4)) == {n: n * n for n in range(20)}


def test_no_more_than_the_window_is_handed_over() -> None:
    gate, begun = threading.Event(), []

    def work(n: int) -> int:
        begun.append(n)
        gate.wait(10)
        return n

    asked: list[int] = []

    def take() -> int | None:
        asked.append(len(asked))
        return asked[-1] if asked[-1] < 10 else None

    with processes(4) as executor:
        ended = completed(executor, work, take, window=2)
        threading.Timer(0.2, gate.set).start()
        next(ended)
        assert len(begun) <= 3
        assert len(asked) <= 3
        assert len(list(ended)) == 9


def test_a_serial_run_yields_each_result_before_it_begins_the_next() -> None:
    order: list[str] = []
    jobs = iter("ab")
    for job, _ in completed(Serial(), lambda job: order.append(f"ran {job}"), lambda: next(jobs, None), window=4):
        order.append(f"got {job}")
    assert order == ["ran a", "got a", "ran b", "got b"]


def test_jobs_that_come_of_others_are_run() -> None:
    waiting, seen = [3], []

    def came(job: int, future: Future[int]) -> None:
        seen.append(job)
        waiting.extend([future.result()] if future.result() else [])

    for job, future in completed(Serial(), lambda n: n - 1, lambda: waiting.pop() if waiting else None, window=2):
        came(job, future)
    assert seen == [3, 2, 1]


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MemspecError, match="workers"):
        worker_count(text)


@pytest.mark.parametrize(("kind", "ends"), [(signal.SIGTERM, AskedToEnd), (signal.SIGINT, KeyboardInterrupt)])
def test_a_request_to_end_waits_for_what_is_half_begun(kind: signal.Signals, ends: type[BaseException]) -> None:
    begun = []

    def begin() -> None:
        with deferred():
            os.kill(os.getpid(), kind)
            time.sleep(0.05)
            begun.append(True)

    with heeded(), pytest.raises(ends):
        begin()
    assert begun
    with heeded(), deferred():
        pass  # and nothing is left of it
    with heeded(), pytest.raises(ends):
        signal.raise_signal(kind)


def test_processes_that_are_begun_where_requests_wait_do_not_hear_ctrl_c() -> None:
    with deferred():
        child = subprocess.Popen([sys.executable, "-c", "input(); print('done')"], stdin=-1, stdout=-1, text=True)
    child.send_signal(signal.SIGINT)
    assert child.communicate("go on\n", timeout=60)[0] == "done\n"


LOCKED = """
import multiprocessing, os, signal
from memspec.running.process import stream

def locked(pipe):
    held = multiprocessing.Lock()
    yield 1
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    print([type(x).__name__ for x in stream(locked, {}, 60.0, [])])
"""


def test_locks_of_a_process_that_is_ended_leave_no_complaint(tmp_path: Path) -> None:
    (tmp_path / "locked.py").write_text(LOCKED)
    ran = subprocess.run([sys.executable, str(tmp_path / "locked.py")], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "['int', 'Ended']\n"
    assert ran.stderr == ""
