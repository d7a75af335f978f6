"""Faults of every kind, in every method, from the 1st, 2nd, 4th, 8th, ... call on: what a run promises holds whatever fires.

As SQLite tests its faults: each is injected at later and later calls until it no longer fires. All memories of a round
are tested in one run, beside a healthy one whose card must be the one it has alone. A sample by default, all under
``--memspec-full``.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from memspec.running.exits import Exit
from untimed import untimed

METHODS = ("__init__", "reset", "update", "query")
SECONDS = 4

MEMORIES = '''
    import atexit, builtins, contextlib, ctypes, faulthandler, gc, io, os, random, resource, signal, socket
    import subprocess, sys, tempfile, threading, time, warnings
    import numpy, pytest, torch

    class Good:
        """A dictionary of rows."""
        def __init__(self, key_dim, value_dim, capacity):
            self.value_dim, self.calls = value_dim, {}
            self.keys, self.values = torch.empty(0, key_dim), torch.empty(0, value_dim)
        def reset(self):
            self.keys, self.values = self.keys[:0], self.values[:0]
        def update(self, keys, values):
            self.keys, self.values = torch.cat((self.keys, keys)), torch.cat((self.values, values))
        def query(self, keys):
            if not len(self.keys):
                return torch.zeros(len(keys), self.value_dim)
            return self.values[(keys @ self.keys.T).argmax(-1)]

    counted = {}

    def make(key_dim, value_dim, capacity, fault, method, call):
        """A good memory in which one fault fires from one call of one method on, counted over all memories of its process."""
        def faulty(*arguments):
            where = os.environ.get("PYTEST_CURRENT_TEST", "")
            if "test_own" in where:  # loading is over
                counted[method] = counted.get(method, 0) + 1
            if counted.get(method, 0) >= call:
                if "test_own" in where:
                    with open(FIRED, "a") as file:
                        file.write(f"{fault} {method} {call} {where.split()[-1]}\\n")
                globals()[fault]()
            return getattr(Good, method)(*arguments)
        kind = type("Faulty", (Good,), {method: faulty})
        return kind(key_dim, value_dim, capacity)

    FIRED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fired")

    # ---- ends ----
    def exits_0(): os._exit(0)
    def exits_3(): os._exit(3)
    def system_exit(): sys.exit(0)
    def keyboard(): raise KeyboardInterrupt
    def generator_exit(): raise GeneratorExit
    def aborts(): os.abort()
    def segfaults(): ctypes.string_at(0)
    def killed(): os.kill(os.getpid(), signal.SIGKILL)
    def terminated(): os.kill(os.getpid(), signal.SIGTERM)
    def floating(): os.kill(os.getpid(), signal.SIGFPE)
    def stopped(): os.kill(os.getpid(), signal.SIGSTOP)
    def kills_group(): os.killpg(os.getpgid(0), signal.SIGKILL)
    def cpu_limit():
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        while True: pass
    # ---- what only the harness may say ----
    def skips(): pytest.skip("no")
    def xfails(): pytest.xfail("no")
    def pytest_exits(): pytest.exit("no", returncode=0)
    def pytest_fails(): pytest.fail("no")
    def not_asked():
        from memspec.errors import NotAsked
        raise NotAsked("no")
    def cannot_measure():
        from memspec.errors import CannotMeasure
        raise CannotMeasure("no")
    # ---- exceptions ----
    def raises(): raise RuntimeError("no")
    def out_of_memory(): raise MemoryError
    def recursion(): return recursion()
    def base(): raise BaseException("no")
    def huge_words(): raise ValueError("x" * 10**7)
    def painted(): raise ValueError("\\x1b]52;c;aGVsbG8=\\x07\\x1b[31m")
    def stop_iteration(): raise StopIteration
    def not_implemented(): raise NotImplementedError
    # ---- hangs ----
    def sleeps(): time.sleep(1000)
    def spins():
        while True: pass
    def locks():
        lock = threading.Lock(); lock.acquire(); lock.acquire()
    def holds_the_gil(): ctypes.PyDLL(None).sleep(1000)
    def waits_for_input(): os.read(os.pipe()[0], 1)
    def ignores_signals():
        for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2): signal.signal(kind, signal.SIG_IGN)
        time.sleep(1000)
    # ---- too much ----
    def allocates(): kept.append(torch.ones(2**34))
    def leaks(): kept.append(torch.ones(2**24))
    def floods(): print("x" * 10**7)
    def many_threads(): [threading.Thread(target=time.sleep, args=(1000,), daemon=True).start() for _ in range(50)]
    def leaves_a_thread(): threading.Thread(target=time.sleep, args=(1000,)).start()
    def leaves_a_child(): subprocess.Popen(["sleep", "1000"])
    def opens_files(): kept.extend(tempfile.TemporaryFile() for _ in range(50))
    kept = []
    # ---- the world ----
    def closes_output(): os.close(1); os.close(2)
    def closes_all(): os.closerange(3, 256)
    def default_dtype(): torch.set_default_dtype(torch.float64)
    def no_grad(): torch.set_grad_enabled(False)
    def threads(): torch.set_num_threads(7)
    def reseeds(): torch.manual_seed(0)
    def changes_folder(): os.chdir("/")
    def environment(): os.environ["OMP_NUM_THREADS"] = "99"
    def patches_torch(): torch.zeros = torch.ones
    def patches_open(): builtins.open = None
    def no_recursion(): sys.setrecursionlimit(60)
    def at_exit(): atexit.register(time.sleep, 1000)
'''

ENDS = ["exits_0", "exits_3", "aborts", "segfaults", "killed", "terminated", "floating", "kills_group", "cpu_limit"]
SAID = ["skips", "xfails", "pytest_exits", "pytest_fails", "not_asked", "cannot_measure"]
RAISES = ["system_exit", "generator_exit", "raises", "out_of_memory", "recursion", "base", "huge_words", "painted"]
RAISES += ["stop_iteration", "not_implemented", "keyboard"]
HANGS = ["sleeps", "spins", "locks", "holds_the_gil", "waits_for_input", "ignores_signals", "stopped"]
MUCH = ["allocates", "leaks", "floods", "many_threads", "leaves_a_thread", "leaves_a_child", "opens_files"]
WORLD = [
    "closes_output",
    "closes_all",
    "default_dtype",
    "no_grad",
    "threads",
    "reseeds",
    "changes_folder",
    "environment",
]
WORLD += ["patches_torch", "patches_open", "no_recursion", "at_exit"]
NEUTRAL = {"leaks", "floods", "many_threads", "leaves_a_thread", "leaves_a_child", "opens_files"}
NEUTRAL |= {"closes_output", "closes_all", "at_exit"}
"""What a memory may do and still answer: its card may be a pass. Where any other fires in a check, it is none."""
GROUPS = {"ends": ENDS, "said": SAID, "raises": RAISES, "hangs": HANGS, "much": MUCH, "world": WORLD}

CHECKS = '''
    import pytest
    import torch

    def rows(n, width, seed):
        return torch.nn.functional.normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=-1)

    @pytest.mark.law
    @pytest.mark.parametrize("n", [1, 5])
    def test_law(law, n):
        """What is stored is answered, also after a reset."""
        for case in law.cases(n):
            memory = case.build()
            for _ in range(4):
                memory.reset()
                memory.store(case.keys, case.values)
            case.close(memory.query(case.keys), case.values, cause="a cause", expected="the values")

    @pytest.mark.measurement
    def test_measured(judge):
        """Recall is good."""
        from memspec.experiments.capacity import LOAD, Load
        from memspec.judging.verdicts import Bound
        judge(LOAD, Load(n=8), "recall_cosine", Bound(at_least=0.5))
'''


def plug(fault: str, method: str, call: int) -> str:
    return f"mem.py:make(fault={fault!r}, method={method!r}, call={call})"


def hold(folder: Any, faults: list[tuple[str, str, int]], *arguments: str) -> set[tuple[str, str, int]]:
    """Run all faults beside a healthy neighbour, first; assert what every run promises; those that fired."""
    folder.write("mem.py", MEMORIES)
    folder.write("test_own.py", CHECKS)
    fired = folder.write("fired", "")
    common = (
        "--memspec-scorecard=card.json",
        f"--memspec-check-timeout={SECONDS}",
        "--memspec-memory-limit=2",
        "--tb=no",
        "-q",
    )
    assert folder.pytest("--memory=mem.py:Good", *common, isolate=True).code == Exit.OK
    alone = untimed(folder.card())
    names = [plug(*fault) for fault in faults]
    memories = [f"--memory={name}" for name in ("mem.py:Good", *names)]
    before = set(os.listdir(folder.path))
    begun = time.monotonic()
    done = folder.pytest(*memories, *common, *arguments, isolate=True)
    taken = time.monotonic() - begun
    cards = {card["memory"]["plug"]: card for card in folder.card()["cards"]}
    lines = [line.split() for line in fired.read_text().splitlines()]
    came = {(fault, method, int(call)) for fault, method, call, _ in lines}
    asked = {(fault, method, int(call)) for fault, method, call, phase in lines if phase == "(call)"}
    # 1. Every planned check is on the card.
    assert set(cards) == {"mem.py:Good", *names}
    for fault, name in zip(faults, names):
        card = cards[name]
        assert not card["memory"].get("refused"), (name, card["memory"])
        assert len(card["checks"]) + len(card["not_asked"]) == 3, name
        assert card["counts"]["not_run"] == 0 or card["verdict"] in ("fail", "error"), name
        # What fires is told, by its name where it can be.
        if fault in asked and fault[0] not in NEUTRAL:
            assert card["verdict"] == "fail", (name, card["verdict"])
        for check in card["checks"]:
            assert check["status"] != "fail" or check["failure"]["got"], name
            assert "\x1b" not in check["message"]
            assert len(check["message"]) < 20_000, name
        # 3. Whoever takes too long is named with a stack.
        slow = [
            c["failure"] for c in card["checks"] if c["status"] == "fail" and "not done after" in c["failure"]["got"]
        ]
        if fault[0] not in MUCH or fault not in came:  # on a busy machine time is up before so much is taken
            assert bool(slow) == (fault in came and fault[0] in HANGS), name
        for failure in slow:
            assert fault[0] in ("stopped", *MUCH) or f"in {fault[0]}" in failure["stack"], (name, failure["stack"])
    slow_ones = sum(fault[0] in HANGS for fault in faults)
    assert taken < 60 + 4 * len(faults) + 3 * (SECONDS + 10) * slow_ones
    # 4. The neighbour's card is the one it has alone.
    assert untimed(cards["mem.py:Good"]) == alone
    # 5. Nothing else is left or touched.
    assert set(os.listdir(folder.path)) - {"__pycache__"} == before - {"__pycache__"}
    # 2 and 6. The exit code is that of what is on the cards.
    verdicts = {card["verdict"] for card in cards.values()}
    assert done.code == (Exit.FAILED if "fail" in verdicts else Exit.OK)
    assert done.code != Exit.OK or verdicts <= {"pass"}
    assert "\x1b]52" not in done.text
    return came


@pytest.mark.parametrize("every", [4, pytest.param(2, marks=pytest.mark.ci), pytest.param(1, marks=pytest.mark.slow)])
def test_a_sample_of_faults(folder: Any, every: int) -> None:
    """One of each kind (or of every so many) but the hangs, of which there are two, each in one method."""
    kinds = [*ENDS, *SAID, *RAISES, *MUCH, *WORLD, "sleeps", "holds_the_gil"]
    kinds.remove("cpu_limit")
    assert len(kinds) >= 40
    faults = [(kind, METHODS[2 + n % 2], 1) for n, kind in enumerate(kinds)][::every]
    assert hold(folder, faults) == set(faults)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_all_faults_in_all_methods_at_later_and_later_calls(folder: Any, group: str) -> None:
    """Until none fires any more. Hangs wait side by side, and at every third doubling is often enough for them."""
    step, arguments = (8, ("-n4",)) if group == "hangs" else (2, ())
    left, call, runs = [(fault, method) for fault in GROUPS[group] for method in METHODS], 1, []
    while left:
        came = hold(folder, [(*one, call) for one in left], *arguments)
        runs.append(f"from call {call}: {len(came)} of {len(left)} fired")
        left = [one for one in left if (*one, call) in came]
        call *= step
    print(f"{group}: {len(GROUPS[group])} kinds, {len(METHODS)} methods; {'; '.join(runs)}")
    assert len(runs) > 2
