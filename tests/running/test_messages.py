"""What a memory's process sends is held to its shape before it is looked at; what does not fit costs that memory alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from memspec.running.exits import Exit
from memspec.running.messages import Event, Forked, Reported, read, report_of
from memspec.running.wire import Damaged
from three_checks import CHECKS
from untimed import untimed

MEMORIES = """
    import fcntl, json, os, signal, stat
    import torch

    class Good:
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

    def say(line):
        for number in range(3, 64):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, line + b"\\n")
            except OSError:
                pass

    class CopyRaises(Good):
        def fault(self):
            if os.fork() == 0:
                raise OSError("no worker")

    class CopyExits(Good):
        def fault(self):
            if os.fork() == 0:
                raise SystemExit(1)

    class CopyReturns(Good):
        def fault(self):
            os.fork()

    class Says(Good):
        line = b'{"event": "report"}'
        def fault(self):
            say(self.line)

    class SaysNoEvent(Says):
        line = b"{}"

    class SaysNoReport(Says):
        line = b'{"event": "report", "report": {"$report_type": "TestReport"}}'

    class SaysAnotherReport(Says):
        line = b'{"event": "report", "report": {"$report_type": "Nonsense", "nodeid": 3}, "more": 1e300}'

    class SaysNoJSON(Says):
        line = b"\\xff\\x00{"

    class SaysItNests(Says):
        line = b"[" * 100000

    class PatchesJSON(Good):
        def fault(self):
            json.dumps = lambda *a, **k: "{}"
            json.JSONEncoder.encode = lambda *a, **k: "{}"

    class Daemon(Good):
        def fault(self):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    with open("daemons", "a") as file:
                        file.write(f"{os.getpid()}\\n")
                    os.execvp("sleep", ["sleep", "777"])
                os._exit(0)

    class Stops(Good):
        def fault(self):
            os.kill(os.getppid(), signal.SIGSTOP)
"""
FAULTS = {
    "CopyRaises": "the copy came back out of the call",
    "CopyExits": "the copy came back out of the call",
    "CopyReturns": "the copy came back out of the call",
    "Says": "it sent what is no message",
    "SaysNoEvent": "it sent what is no message",
    "SaysNoReport": "it sent what is no message",
    "SaysAnotherReport": "it sent what is no message",
    "SaysNoJSON": "it sent what is no message",
    "SaysItNests": "it sent what is no message",
    "PatchesJSON": "",
    "Daemon": "left 1 of its processes behind (sleep 777)",
    "Stops": "it stopped the process that it was copied from",
}


@pytest.fixture
def own(folder: Any) -> Any:
    folder.write("mem.py", MEMORIES)
    folder.write("test_own.py", CHECKS)
    return folder


def run(folder: Any, *names: str, more: tuple[str, ...] = ()) -> tuple[Any, dict[str, Any]]:
    plugs = [f"--memory=mem.py:{name}" for name in names]
    done = folder.pytest(*plugs, "--memspec-scorecard=card.json", "--memspec-check-timeout=5", *more, isolate=True)
    card = folder.card()
    return done, {c["memory"]["plug"].partition(":")[2]: c for c in card.get("cards", [card])}


def statuses(card: dict[str, Any]) -> dict[str, str]:
    return {c["id"].removeprefix("own/"): c["status"] for c in card["checks"]}


def test_whatever_a_process_sends_or_forks_is_that_memorys_failure_alone(own: Any) -> None:
    begun = time.monotonic()
    done, cards = run(own, *FAULTS, "Good")
    assert done.code == Exit.FAILED, done.text
    assert time.monotonic() - begun < 60  # none is waited for until its time is up
    for name, came in FAULTS.items():
        expected = "pass" if name == "PatchesJSON" and not came else "fail"
        found = statuses(cards[name])
        assert found in (
            {"first": "pass", "second": "fail", "third": "pass"},
            {"first": "pass", "second": expected, "third": "pass"},
        ), (name, found)
        failed = [c["failure"]["got"] for c in cards[name]["checks"] if c["status"] == "fail"]
        assert all(came in got for got in failed), (name, failed)
    _, alone = run(own, "Good")
    assert untimed(cards["Good"]) == untimed(alone["Good"])
    for pid in (own.path / "daemons").read_text().split():
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_no_test_is_reported_passed_and_then_failed(own: Any) -> None:
    """What a memory did to the process that it was copied from is known when the check has ended: then it is reported."""
    done, _ = run(own, "Stops", more=("-rA", "--junitxml=out.xml"))
    assert "1 failed, 2 passed" in done.text
    assert (own.path / "out.xml").read_text().count("<testcase") == 3


def test_workers_of_xdist_survive_copies_that_come_back(own: Any) -> None:
    done, cards = run(own, "CopyReturns", "Good", more=("-n2",))
    assert done.code == Exit.FAILED
    assert statuses(cards["CopyReturns"]) == {"first": "pass", "second": "fail", "third": "pass"}
    assert set(statuses(cards["Good"]).values()) == {"pass"}


GOOD = {
    "$report_type": "TestReport",
    "nodeid": "test_own.py::test_first[m]",
    "location": ["test_own.py", 3, "test_first[m]"],
    "keywords": {},
    "outcome": "passed",
    "longrepr": None,
    "when": "call",
    "sections": [],
    "duration": 0.1,
    "start": 1.0,
    "stop": 1.1,
}
CHECK: dict[str, Any] = {"id": "own/first", "kind": "law", "axis": "own", "status": "pass"}
SENT: dict[str, Any] = {"memory": "m", "check": CHECK, "blocks": [], "about": None, "observed": None}
METRIC = {"values": [0.5], "at": None}
BLOCK = {"experiment": "e", "setting": "s", "first_trial": 0, "metrics": {"m": METRIC}}


def with_sent(**changed: Any) -> dict[str, Any]:
    return {**GOOD, "user_properties": [["memspec", json.dumps({**SENT, **changed})]]}


def test_a_report_that_fits_is_taken(pytestconfig: pytest.Config) -> None:
    report, said = report_of(pytestconfig, Reported(with_sent(blocks=[BLOCK])), GOOD["nodeid"], "m")  # type: ignore[arg-type]
    assert report.passed
    assert said["check"] == CHECK


@pytest.mark.parametrize(
    "report",
    [
        {},
        GOOD,
        {**with_sent(), "nodeid": "test_own.py::test_other[m]"},
        {**with_sent(), "outcome": "wonderful"},
        {**with_sent(), "when": "never"},
        {**with_sent(), "longrepr": {"reprcrash": 3, "reprtraceback": 4}},
        {**with_sent(), "duration": -1},
        {**with_sent(), "user_properties": [["memspec", 3]]},
        {**with_sent(), "user_properties": [["memspec", "{}"]]},
        with_sent(memory="neighbour"),
        with_sent(check={}),
        with_sent(check={**CHECK, "status": "wonderful"}),
        with_sent(check={**CHECK, "failure": 3}),
        with_sent(blocks=[{}]),
        with_sent(blocks=[{**BLOCK, "metrics": {"m": {"values": ["x"], "at": None}}}]),
        with_sent(blocks=[{**BLOCK, "metrics": {"m": {"values": [], "at": None}}}]),
        with_sent(about={"plug": 3}),
        with_sent(observed={"spec": 3}),
    ],
)
def test_a_report_that_does_not_fit_is_refused(pytestconfig: pytest.Config, report: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        report_of(pytestconfig, Reported(report), str(GOOD["nodeid"]), "m")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({}, Event),
        ({"event": "wonderful"}, Event),
        ({"event": "report"}, Event),
        ({"event": "report", "report": {}, "more": -1}, Event),
        ({"event": "report", "report": {}, "more": float("nan")}, Event),
        ({"event": "loaded", "refused": 3}, Event),
        ({"event": "warning", "message": "w"}, Event),
        ({"event": "forked", "pid": 0, "server": os.getpid()}, Forked),
        ({"event": "pong"}, Forked),
    ],
)
def test_a_message_that_does_not_fit_is_refused(message: dict[str, Any], kind: Any) -> None:
    with pytest.raises(Damaged):
        read(message, kind)
