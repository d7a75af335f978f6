"""What is compared around a check and around a call: found if it changes, named, and put right; drawing is nobody's business."""
# ruff: noqa: NPY002, PT012 (the global generators are what is watched; what raises is a change)

from __future__ import annotations

import builtins
import faulthandler
import gc
import json
import locale
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memspec.laws.law import Law
from memspec.laws.world import survey
from memspec.plugs.loading import load_plug
from memspec.world import disturbance, seeding, settings
from memspec.world.guard import STATES, Guard, guarded
from memspec.world.processes import children, left_behind
from memspec.world.tensors import Answers, seen, touched
from memspec.world.watched import Disturbed, watched

CHANGES: dict[str, Callable[[], object]] = {
    "working folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.update(MEMSPEC_TEST="1"),
    "signal handlers": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "import path": lambda: sys.path.append("/nowhere"),
    "standard descriptors": lambda: os.dup2(os.open(os.devnull, os.O_RDWR), 1),
    "timers": lambda: signal.setitimer(signal.ITIMER_REAL, 1000),
    "priority": lambda: os.nice(1),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C"),
    "standard streams": lambda: setattr(sys, "stdout", sys.stderr),
    "fault handler": lambda: faulthandler.disable() if faulthandler.is_enabled() else faulthandler.enable(),
    "recursion limit": lambda: sys.setrecursionlimit(12_345),
    "garbage collector": lambda: gc.disable(),
    "file mode mask": lambda: os.umask(0o77),
    "numpy's error handling": lambda: np.seterr(all="raise"),
    "flushing of denormals": lambda: torch.set_flush_denormal(True),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "print options": lambda: torch.set_printoptions(precision=9),
    "switch interval": lambda: sys.setswitchinterval(0.5),
    "profiler": lambda: sys.setprofile(lambda *arguments: None),
}
"""One way to change each state, but for limits, which cannot be raised again everywhere."""


def test_each_state_has_a_change() -> None:
    assert CHANGES.keys() | {"resource limits"} == STATES.keys()


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_state_is_named_and_put_right(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read, restore = STATES[kind]
    before = read()
    try:
        with guarded() as found:
            CHANGES[kind]()
        assert [one.kind for one in found] == [kind]
        assert found[0].what.startswith(f"changed the {kind}")
        assert read() == before
    finally:
        restore(before)


def test_nothing_is_found_where_nothing_changed() -> None:
    with guarded() as found:
        torch.zeros(2)
        random.random()
        np.random.rand()
        torch.rand(1)
    assert found == []


def test_it_is_put_right_after_an_exception_too() -> None:
    with pytest.raises(ValueError), guarded() as found:
        os.environ["MEMSPEC_TEST"] = "1"
        raise ValueError
    assert "MEMSPEC_TEST" not in os.environ
    assert [one.kind for one in found] == ["environment"]


REPLACED: dict[str, tuple[Any, str]] = {
    "builtins.open": (builtins, "open"),
    "os.fork": (os, "fork"),
    "os.write": (os, "write"),
    "pickle.dumps": (pickle, "dumps"),
    "json.dumps": (json, "dumps"),
    "signal.signal": (signal, "signal"),
    "time.time": (time, "time"),
    "time.monotonic": (time, "monotonic"),
    "torch.equal": (torch, "equal"),
    "torch.allclose": (torch, "allclose"),
    "torch.Tensor.item": (torch.Tensor, "item"),
    "torch.nn.modules.module.Module.to": (torch.nn.Module, "to"),
    "numpy.zeros": (np, "zeros"),
    "random.random": (random, "random"),
    "sys.excepthook": (sys, "excepthook"),
    "tempfile.tempdir": (tempfile, "tempdir"),
    "pytest.skip": (pytest, "skip"),
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_replaced_function_is_named_and_put_back(name: str) -> None:
    owner, attribute = REPLACED[name]
    before = vars(owner).get(attribute)
    with guarded() as found:
        setattr(owner, attribute, lambda *arguments, **more: None)
    assert [one.kind for one in found] == ["replaced functions"]
    assert name in found[0].what
    assert vars(owner).get(attribute) is before


def test_what_an_import_replaces_stays_and_what_code_does_meanwhile_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_library.py").write_text("import json\njson.loads = lambda text: 'library'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(json, "loads", json.loads)  # put back in the end
    equal = torch.equal
    with guarded() as found:
        __import__("a_library")
        torch.equal = lambda *tensors: True  # type: ignore[assignment]
    del sys.modules["a_library"]
    assert json.loads("1") == "library"
    assert torch.equal is equal
    assert [one.what for one in found] == ["changed the replaced functions (torch.equal)"]


def test_what_an_import_adds_to_the_path_stays_and_what_is_lost_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "another_library.py").write_text("import sys\nsys.path.append('/nowhere')\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.path)
    with guarded() as found:
        __import__("another_library")
    assert found == []
    assert sys.path == [*before, "/nowhere"]
    del sys.modules["another_library"]
    with guarded() as found:
        __import__("another_library")
        sys.path.clear()
    del sys.modules["another_library"]
    assert [one.kind for one in found] == ["import path"]
    assert sys.path == [*before, "/nowhere"]


@pytest.mark.ci
def test_a_compiled_memory_is_not_blamed_for_what_the_compiler_does() -> None:
    """It raises the recursion limit whenever it compiles, and keeps threads and processes of its own."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a compiler of C++")
    with guarded() as found:
        assert torch.compile(lambda x: x * 2 + 1)(torch.ones(3)).tolist() == [3, 3, 3]
    assert found == []
    assert sys.getrecursionlimit() < 2000


def test_what_cannot_be_put_right_is_told_by_the_checks_that_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a memory that has done it before its first check, such as a hard limit lowered; its law tells it with the rest."""
    monkeypatch.setattr("memspec.world.disturbance.LASTING", {})
    state = [0]
    monkeypatch.setitem(STATES, "a state", (lambda: list(state), lambda was: None))
    plug = load_plug("memspec.reference:DeltaMemory")
    with guarded("being timed", plug.name):
        state[0] = 1
    (one,) = disturbance.LASTING[plug.name].values()
    assert str(one) == "being timed changed the a state"
    assert "a state" in survey(Law(plug, disturbance.RULE, "world/untouched"))
    with guarded("being timed", "another"):
        os.environ["MEMSPEC_TEST"] = "1"  # what can be put right is seen again
    assert "another" not in disturbance.LASTING


def test_a_copy_that_comes_back_is_ended_and_told() -> None:
    with guarded() as found:
        if os.fork() == 0:
            found = []  # and on it goes
    assert [one.kind for one in found] == ["copies of the process"]


def test_a_process_that_goes_on_is_found_and_ended_and_one_that_ends_is_not() -> None:
    with guarded() as found:
        subprocess.Popen(["true"])
    assert found == []
    before = children()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pid = subprocess.Popen(["sleep", "777"]).pid
    found = left_behind(before, "the check")
    assert [one.kind for one in found] == ["processes"]
    assert "sleep 777" in found[0].what
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("kind", ["popen", "process", "pool", "executor"])
def test_processes_that_somebody_holds_are_theirs_until_nobody_does(kind: str) -> None:
    context = multiprocessing.get_context("fork")
    held: list[Any] = []
    before, guard = children(), Guard()
    if kind == "popen":
        held.append(subprocess.Popen(["sleep", "777"]))
    elif kind == "process":
        held.append(context.Process(target=time.sleep, args=(777,), daemon=True))
        held[0].start()
    elif kind == "pool":
        held.append(context.Pool(1))
    else:
        held.append(ProcessPoolExecutor(1, context))
        assert held[0].submit(abs, -1).result() == 1
    assert guard.changed(alive=True) == []
    assert children() - before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        held.clear()
        told = left_behind(before, "the check")
    assert [one.kind for one in told] == ([] if kind in ("pool", "executor") else ["processes"])  # these end their own
    assert children() - before == frozenset()


def test_a_thread_that_the_living_memory_holds_is_its_own() -> None:
    workers = ThreadPoolExecutor(1)
    guard = Guard()
    assert workers.submit(abs, -1).result() == 1
    assert [one.kind for one in guard.changed()] == ["threads"]
    assert guard.changed(alive=True) == []
    workers.shutdown()


def test_processes_that_were_there_before_are_nobodys() -> None:
    process = subprocess.Popen(["sleep", "777"])
    try:
        with guarded() as found:
            pass
        assert found == []
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_thread_that_goes_on_is_found_and_one_that_ends_is_not() -> None:
    end = threading.Event()
    with guarded() as found:
        threading.Thread(target=lambda: None).start()
    assert found == []
    with guarded() as found:
        threading.Thread(target=end.wait, name="left", daemon=True).start()
    end.set()
    assert [one.kind for one in found] == ["threads"]
    assert "left" in found[0].what


# ---- settings -------------------------------------------------------------------------------------------------

KEPT: list[torch.inference_mode] = []
"""Modes last as long as what made them."""
SET: dict[str, Callable[[], object]] = {
    "grad mode": lambda: torch.set_grad_enabled(False),
    "inference mode": lambda: (KEPT.append(torch.inference_mode()), KEPT[-1].__enter__()),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "float32 precision": lambda: torch.set_float32_matmul_precision("medium"),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "warning filters": lambda: warnings.simplefilter("error"),
}


@pytest.mark.parametrize("kind", SET)
def test_a_setting_is_named_and_put_right(kind: str) -> None:
    before = settings.snapshot()
    SET[kind]()
    found = settings.changed(before, "update")
    assert kind in [one.kind for one in found]
    assert settings.changed(before, "update") == []


# ---- seeding --------------------------------------------------------------------------------------------------

SEEDS: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.manual_seed(3),
    "numpy": lambda: np.random.seed(3),
    "python": lambda: random.seed(3),
}
DRAWS: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: float(np.random.rand()),
    "python": random.random,
}


@pytest.mark.parametrize("name", SEEDS)
def test_seeding_is_found_and_undone(name: str) -> None:
    """What is drawn next is what would have been drawn without it."""
    SEEDS[name]()
    expected = [DRAWS[name](), DRAWS[name]()]
    SEEDS[name]()
    assert DRAWS[name]() == expected[0]
    before = seeding.snapshot()
    torch.manual_seed(77) if name == "torch" else SEEDS[name]()
    found = seeding.changed(before, "update")
    assert [one.kind for one in found] == [f"generator of {name}"]
    assert DRAWS[name]() == expected[1]


@pytest.mark.parametrize("name", SEEDS)
def test_drawing_is_not_seeding(name: str) -> None:
    before = seeding.snapshot()
    DRAWS[name]()
    assert seeding.changed(before, "update") == []


def test_a_state_that_is_saved_and_put_back_is_no_seeding() -> None:
    before = seeding.snapshot()
    with torch.random.fork_rng():
        torch.rand(1)
    kept, state = np.random.get_state(), random.getstate()
    np.random.seed(1)
    random.seed(1)
    np.random.set_state(kept)
    random.setstate(state)
    assert seeding.changed(before, "update") == []


# ---- tensors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 100_000])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.mul_(2),
        lambda t: t.t_(),
        lambda t: t.resize_(1),
        lambda t: t.numpy().__setitem__(slice(None), 5),
        lambda t: t.detach().zero_(),
    ],
    ids=["mul_", "t_", "resize_", "numpy", "detached"],
)
def test_a_touched_tensor_is_found(change: Callable[[torch.Tensor], object], size: int) -> None:
    tensor = torch.ones(2, size // 2)
    before = [seen(tensor)]
    assert touched(before, "update") == []
    change(tensor)
    assert [one.kind for one in touched(before, "update")] == ["the caller's tensors"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_every_kind_of_number_is_compared(dtype: torch.dtype) -> None:
    tensor = torch.ones(3).to(dtype)
    before = [seen(tensor)]
    tensor.data[1] = 0
    assert len(touched(before, "update")) == 1


def test_nan_is_equal_to_itself() -> None:
    assert touched([seen(torch.tensor([float("nan")]))], "update") == []


def test_answers_that_their_caller_wrote_to_are_the_callers() -> None:
    answers, answer = Answers(), torch.zeros(2)
    answers.keep("query", answer)
    answer += 1
    answers.begin()
    assert answers.changed("query") == []


# ---- both together --------------------------------------------------------------------------------------------


def test_what_a_few_lines_did_is_raised_once_all_is_right_again() -> None:
    keys = torch.ones(2)
    with pytest.raises(Disturbed, match="wrote to the caller's tensor") as info, watched(keys):
        keys.zero_()
        os.environ["MEMSPEC_TEST"] = "1"
    assert {one.kind for one in info.value.found} == {"the caller's tensors", "environment"}
    assert "MEMSPEC_TEST" not in os.environ
    with watched(keys):
        pass
