"""Runs whose memories crash, hang, leave or refuse: every planned check ends on the card, and the exit code is ours."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from memspec.cli import main
from memspec.running import isolation
from memspec.running.exits import GRAVEST, Exit, gravest
from three_checks import CHECKS
from untimed import untimed

MEMORIES = '''
    import ctypes, os, signal, sys, time
    import torch

    PARENT = os.getppid()

    class Good:
        """A dictionary of rows."""
        calls = 0
        def __init__(self, key_dim, value_dim, capacity):
            self.value_dim = value_dim
            self.reset()
        def reset(self):
            self.keys, self.values = [], []
        def update(self, keys, values):
            self.keys += list(keys.clone())
            self.values += list(values.clone())
        def query(self, keys):
            if len(keys) == 2:  # neither at loading nor while calls are timed
                self.fault()
            if not self.keys:
                return torch.zeros(len(keys), self.value_dim)
            return torch.stack([self.values[int((torch.stack(self.keys) @ key).argmax())] for key in keys])
        def fault(self):
            pass

    class Exits(Good):
        def fault(self):
            os._exit(0)

    class Crashes(Good):
        def fault(self):
            ctypes.string_at(0)

    class Killed(Good):
        def fault(self):
            os.kill(os.getpid(), signal.SIGKILL)

    class Sleeps(Good):
        def fault(self):
            time.sleep(1000)

    class HoldsTheLock(Good):
        """Hangs in compiled code that never lets Python run."""
        def fault(self):
            ctypes.PyDLL(None).sleep(1000)

    class KillsItsParent(Good):
        def fault(self):
            os.kill(PARENT, signal.SIGKILL)

    class StopsItsParent(Good):
        def fault(self):
            os.kill(os.getppid(), signal.SIGSTOP)

    class Grows(Good):
        def fault(self):
            self.kept = torch.ones(2**32)

    class LeavesAChild(Good):
        def fault(self):
            if os.fork() == 0:
                open("child", "w").write(str(os.getpid()))
                time.sleep(1000)
            os._exit(0)

    def refuses(key_dim):
        raise RuntimeError("no such thing")

    def exits(key_dim):
        os._exit(0)
'''


SLOW = """
    import os, time
    from mem import Good

    class Slow(Good):
        def update(self, keys, values):
            if "test_slow" in os.environ.get("PYTEST_CURRENT_TEST", ""):
                time.sleep(1.0)
            super().update(keys, values)
"""
SLOW_CHECK = '''
    import pytest, torch

    @pytest.mark.measurement
    def test_calls(plug):
        """Calls that take twelve seconds."""
        memory = plug.build()
        for _ in range(12):
            memory.update(torch.ones(2, 64), torch.ones(2, 64))
'''
TRAINING = """
    import time
    import pytest

    @pytest.mark.slow
    @pytest.mark.measurement
    def test_trains(plug):
        \"\"\"It takes its time.\"\"\"
        time.sleep(2)
"""


@pytest.fixture
def own(folder: Any) -> Any:
    folder.write("mem.py", MEMORIES)
    folder.write("test_own.py", CHECKS)
    return folder


def statuses(card: dict[str, Any]) -> dict[str, str]:
    return {c["id"].removeprefix("own/"): c["status"] for c in card["checks"]}


def run(folder: Any, *arguments: str, names: tuple[str, ...] = ()) -> Any:
    plugs = [f"--memory=mem.py:{name}" for name in names]
    return folder.pytest(*plugs, "--memspec-scorecard=card.json", "--memspec-check-timeout=3", *arguments, isolate=True)


FAULTS = {
    "Exits": "ended itself with exit code 0",
    "Crashes": "ended by SIGSEGV",
    "Killed": "ended by SIGKILL",
    "Sleeps": "not done after 3 seconds",
    "HoldsTheLock": "not done after 3 seconds",
}


def test_a_fault_is_the_failure_of_its_check_and_of_no_other(own: Any) -> None:
    """Whatever ends a process, the check that ran says so, the rest are decided, and the neighbour's are its own."""
    done = run(own, names=("Good", *FAULTS))
    assert done.code == Exit.FAILED
    cards = {c["memory"]["plug"].partition(":")[2]: c for c in own.card()["cards"]}
    for name, cause in FAULTS.items():
        assert statuses(cards[name]) == {"first": "pass", "second": "fail", "third": "pass"}, name
        (failed,) = (c["failure"] for c in cards[name]["checks"] if c["status"] == "fail")
        assert cause in failed["got"]
        assert failed["rule"] == "Two pairs."
        assert cards[name]["verdict"] == "fail"
    for name in ("Crashes", "Sleeps", "HoldsTheLock"):
        (failed,) = (c["failure"] for c in cards[name]["checks"] if c["status"] == "fail")
        assert "in fault" in failed["stack"], name
    assert statuses(cards["Good"]) == {"first": "pass", "second": "pass", "third": "pass"}
    alone = run(own, names=("Good",))
    assert alone.code == Exit.OK
    assert untimed(own.card()) == untimed(cards["Good"])


def test_a_memory_that_ends_the_process_it_came_from_fails(own: Any) -> None:
    """In that check or, where the end comes late, in the next; the neighbour after it is served by another process."""
    done = run(own, names=("KillsItsParent", "Good"))
    assert done.code == Exit.FAILED
    killer, good = own.card()["cards"]
    assert killer["verdict"] == "fail"
    assert "not_run" not in statuses(killer).values()
    assert good["verdict"] == "pass"


@pytest.mark.ci
def test_a_deadline_is_longer_for_a_memory_whose_calls_are_slow(own: Any) -> None:
    """What its plan lets a check call comes on top of it: 160 calls of a second, an eighth of them in one check."""
    own.write("slow.py", SLOW)
    own.write("test_slow.py", SLOW_CHECK)
    arguments = ("--memspec-scorecard=card.json", "--memspec-check-timeout=8", "--memspec-budget=160", "test_slow.py")
    done = own.pytest("--memory=slow.py:Slow", *arguments, isolate=True)
    (check,) = own.card()["checks"]
    assert check["status"] == "pass", check
    assert check["seconds"] > 0
    assert done.code == Exit.OK


def test_a_deadline_is_longer_for_a_check_that_trains(own: Any) -> None:
    own.write("test_training.py", TRAINING)
    arguments = ("--memspec-scorecard=card.json", "--memspec-check-timeout=0.5", "--memspec-full", "test_training.py")
    done = own.pytest("--memory=mem.py:Good", *arguments, isolate=True)
    (check,) = own.card()["checks"]
    assert check["status"] == "pass", check
    assert done.code == Exit.OK


def test_an_allocation_beyond_the_limit_is_refused_and_not_fatal(own: Any) -> None:
    done = run(own, "--memspec-memory-limit=1", names=("Grows",))
    assert done.code == Exit.FAILED
    card = own.card()
    assert statuses(card) == {"first": "pass", "second": "fail", "third": "pass"}
    (failed,) = (c["failure"] for c in card["checks"] if c["status"] == "fail")
    assert "alloc" in failed["got"].lower()


def test_what_a_dead_process_leaves_behind_is_ended(own: Any) -> None:
    run(own, names=("LeavesAChild",))
    child = int((own.path / "child").read_text())
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} is still there")


def test_memories_that_cannot_be_loaded_are_told_and_the_others_run(own: Any) -> None:
    done = run(own, names=("refuses", "Good", "exits"))
    assert done.code == Exit.USAGE
    cards = {c["memory"]["plug"].partition(":")[2]: c for c in own.card()["cards"]}
    assert cards["Good"]["verdict"] == "pass"
    assert cards["refuses"]["verdict"] == cards["exits"]["verdict"] == "error"
    assert "RuntimeError: no such thing" in cards["refuses"]["memory"]["refused"]
    assert "exit code 0" in cards["exits"]["memory"]["refused"]
    assert done.text.count("no such thing") == 1


def test_where_no_memory_can_be_loaded_that_is_all_that_is_said(own: Any) -> None:
    done = run(own, names=("refuses",))
    assert done.code == Exit.USAGE
    assert "ERROR: mem.py:refuses" in done.text
    assert own.card()["verdict"] == "error"


def test_workers_of_xdist_survive_what_their_memories_do(own: Any) -> None:
    done = run(own, "-n2", names=("Good", "Exits", "refuses"))
    assert done.code == Exit.USAGE
    cards = {c["memory"]["plug"].partition(":")[2]: c for c in own.card()["cards"]}
    assert statuses(cards["Good"]) == {"first": "pass", "second": "pass", "third": "pass"}
    assert statuses(cards["Exits"]) == {"first": "pass", "second": "fail", "third": "pass"}
    assert {c["id"]: c["kind"] for c in cards["Exits"]["checks"]}["own/second"] == "law"
    assert cards["refuses"]["memory"]["refused"]


ARGUMENTS = ["-p", "no:cacheprovider", "--import-mode=importlib", f"-c{os.devnull}", "--memspec-check-timeout=3"]


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        *ARGUMENTS,
        f"--rootdir={folder}",
        "--memspec-scorecard=card.json",
        *arguments,
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def waited_for(path: Path, text: str) -> None:
    for _ in range(600):
        if path.exists() and text in path.read_text(encoding="utf-8"):
            return
        time.sleep(0.1)
    pytest.fail(f"{text!r} never came into {path}")


def test_a_request_to_end_leaves_a_partial_card(own: Any) -> None:
    process = started(own.path, "--memory=mem.py:Sleeps", "--memspec-check-timeout=100")
    waited_for(own.path / "card.json.journal", '"event": "ended"')
    assert own.card()["verdict"] == "unfinished"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == Exit.INTERRUPTED
    card = own.card()
    assert card["verdict"] == "partial"
    assert statuses(card) == {"first": "pass", "second": "not_run", "third": "not_run"}


@pytest.mark.ci
def test_a_memory_that_stops_the_process_it_came_from_fails(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "ANSWER", 3.0)
    done = run(own, names=("StopsItsParent", "Good"))
    assert done.code == Exit.FAILED
    stopper, good = own.card()["cards"]
    assert statuses(stopper) == {"first": "pass", "second": "fail", "third": "pass"}
    assert good["verdict"] == "pass"


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_who_asks_twice_gets_the_same(own: Any, pause: float) -> None:
    """Two Ctrl-C, however close, end in a partial card and not in the middle of writing it."""
    process = started(own.path, "--memory=mem.py:Sleeps", "--memspec-check-timeout=100")
    waited_for(own.path / "card.json.journal", '"event": "ended"')
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == Exit.INTERRUPTED
    card = own.card()
    assert card["verdict"] == "partial"
    assert card["stopped"] == "the run was interrupted"


def test_a_full_disk_is_found_before_the_run(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    done = run(own, names=("Good",))
    assert done.code == Exit.USAGE
    assert "No space left on device" in done.text
    assert "Traceback" not in done.text
    assert "INTERNALERROR" not in done.text
    assert not (own.path / "card.json.journal").exists()


def test_a_run_that_was_killed_can_be_shown_and_finished(own: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The card says unfinished, the journal holds what was decided, and resuming runs the rest alone."""
    process = started(own.path, "--memory=mem.py:Sleeps", "--memspec-check-timeout=100")
    waited_for(own.path / "card.json.journal", '"event": "ended"')
    time.sleep(0.5)
    process.kill()
    process.wait(30)
    assert own.card()["verdict"] == "unfinished"
    assert main(["recover", "card.json.journal", "--scorecard=recovered.json", "--md=recovered.md"]) == 0
    assert "the run was cut" in capsys.readouterr().out
    assert statuses(own.card("recovered.json")) == {"first": "pass", "second": "not_run", "third": "not_run"}
    assert "1 passed, 2 not run" in (own.path / "recovered.md").read_text()
    done = run(own, "--memspec-resume", names=("Sleeps",))
    assert done.code == Exit.FAILED
    assert statuses(own.card()) == {"first": "pass", "second": "fail", "third": "pass"}
    assert "1 failed, 1 passed" in done.text
    assert not (own.path / "card.json.journal").exists()


def test_only_the_journal_of_the_same_run_is_resumed(own: Any) -> None:
    done = run(own, "--memspec-resume", names=("Good",))
    assert done.code == Exit.USAGE
    assert "not a readable journal" in done.text
    journal = own.path / "card.json.journal"
    head = {"journal": "memspec-journal/1", "memories": ["mem.py:Other"], "options": {}, "signature": {}}
    head |= {"machine": {}, "manifest": {"planned": [], "suites": [], "deselected": 0}, "notes": []}
    journal.write_text(json.dumps(head) + "\n", encoding="utf-8")
    done = run(own, "--memspec-resume", names=("Good",))
    assert done.code == Exit.USAGE
    assert "a run with other memories" in done.text
    assert journal.exists()


@pytest.mark.parametrize("kind", ["folder", "device", "no folder"])
def test_a_card_that_cannot_be_written_is_found_before_the_run(own: Any, kind: str) -> None:
    (own.path / "file").write_text("mine", encoding="utf-8")
    path = {"folder": str(own.path), "device": "/dev/full", "no folder": str(own.path / "file" / "card.json")}[kind]
    done = own.pytest("--memory=mem.py:Good", f"--memspec-scorecard={path}", isolate=True)
    assert done.code == Exit.USAGE
    assert "Traceback" not in done.text
    assert not Path("/dev/full").is_file()
    assert (own.path / "file").read_text(encoding="utf-8") == "mine"


def test_a_link_is_followed(own: Any) -> None:
    (own.path / "kept").mkdir()
    (own.path / "card.json").symlink_to(own.path / "kept" / "real.json")
    assert run(own, names=("Good",)).code == Exit.OK
    assert (own.path / "card.json").is_symlink()
    assert own.card("kept/real.json")["verdict"] == "pass"


def test_an_early_stop_is_told(own: Any) -> None:
    done = run(own, "-x", names=("Exits",))
    assert done.code == Exit.FAILED
    assert statuses(own.card()) == {"first": "pass", "second": "fail", "third": "not_run"}
    assert "1 planned checks were not run" in done.text


def test_a_lone_suite_is_partial(folder: Any) -> None:
    plug = "--memory=memspec.reference:NullMemory"
    folder.pytest("--pyargs", "memspec.suites.test_cost", plug, "--memspec-scorecard=card.json")
    card = folder.card()
    assert card["verdict"] in ("partial", "fail")
    assert card["notes"] == ["only a selection ran (suites: cost)"]


def test_exit_codes_have_an_order() -> None:
    assert sorted(GRAVEST) == sorted(Exit)
    assert gravest(Exit.OK, Exit.WORSE, Exit.FAILED) == Exit.FAILED
    assert gravest(Exit.FAILED, 99) == 99


def test_the_stack_of_the_thread_that_runs_the_checks_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "stacks"
    path.write_text(
        'Timeout (0:00:05)!\nThread 0x00007f01 (most recent call first):\n  File "pool.py", line 1 in _handle\n\n'
        'Thread 0x00007f02 (most recent call first):\n  File "mem.py", line 3 in query\n'
        '  File "/lib/_pytest/python.py", line 9 in runtest\n'
    )
    lines = isolation._text(path).splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("  File")] == ["query", "_handle"]
    assert lines[0].startswith("Timeout")
