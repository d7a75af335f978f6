"""Faults of every kind, in every method, at the 1st, 2nd, 4th, 8th, ... call: what a run promises holds whatever fires.

As SQLite tests its faults: each is injected at later and later calls until it no longer fires. All memories of a matrix
are tested in one run, beside a healthy one whose card must be the one it has alone. A sample by default, all under
``--memspec-full``.
"""

from __future__ import annotations

from typing import Any

import pytest

from memspec.running.exits import Exit

METHODS = ("__init__", "reset", "update", "query")
CALLS = (1, 2, 4, 8, 16, 32, 64)
SECONDS = 2

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
        """A good memory in which one fault fires at one call of one method, counted over all memories of its process."""
        def faulty(*arguments):
            counted[method] = counted.get(method, 0) + 1
            if counted[method] >= call + BEFORE.get(method, 0):
                globals()[fault]()
            return getattr(Good, method)(*arguments)
        kind = type("Faulty", (Good,), {method: faulty})
        return kind(key_dim, value_dim, capacity)

    BEFORE = {"__init__": 12, "reset": 6, "update": 6, "query": 6}  # what loading may take

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
FATAL = [*ENDS, *SAID, *HANGS, "raises", "system_exit", "base", "out_of_memory"]
"""Where one of these fires, the card cannot be a pass."""

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


def hold(folder: Any, faults: list[tuple[str, str, int]]) -> dict[str, int]:
    """Run all faults beside a healthy neighbour, first and last; assert what every run promises; cards by verdict."""
    folder.write("mem.py", MEMORIES)
    folder.write("test_own.py", CHECKS)
    common = (
        "--memspec-scorecard=card.json",
        f"--memspec-check-timeout={SECONDS}",
        "--memspec-memory-limit=2",
        "--tb=no",
        "-q",
    )
    assert folder.pytest("--memory=mem.py:Good", *common, isolate=True).code == Exit.OK
    alone = comparable(folder.card())
    names = [plug(*fault) for fault in faults]
    memories = [f"--memory={name}" for name in ("mem.py:Good", *names)]
    done = folder.pytest(*memories, *common, isolate=True)
    cards = {card["memory"]["plug"]: card for card in folder.card()["cards"]}
    assert set(cards) == {"mem.py:Good", *names}
    assert comparable(cards["mem.py:Good"]) == alone
    verdicts: dict[str, int] = {}
    for fault, name in zip(faults, names):
        card = cards[name]
        verdicts[card["verdict"]] = verdicts.get(card["verdict"], 0) + 1
        if card["memory"].get("refused"):
            continue
        assert len(card["checks"]) + len(card["not_asked"]) == 3, name
        for check in card["checks"]:
            assert check["status"] != "fail" or check["failure"]["got"], name
            assert "\x1b" not in check["message"]
            assert len(check["message"]) < 20_000, name
        if fault[0] in FATAL and fault[2] == 1:
            assert card["verdict"] != "pass", name
    assert "\x1b]52" not in done.text
    assert done.code in (Exit.OK, Exit.FAILED, Exit.USAGE)
    assert (done.code == Exit.OK) == (set(verdicts) <= {"pass"})
    return verdicts


def comparable(thing: Any) -> Any:
    """A card without what depends on the clock."""
    if isinstance(thing, dict):
        return {k: comparable(v) for k, v in thing.items() if "seconds" not in k and k != "threads"}
    return [comparable(v) for v in thing] if isinstance(thing, list) else thing


def test_a_sample_of_faults(folder: Any) -> None:
    """One of each kind but the hangs, of which there are two, each in one method."""
    kinds = [*ENDS, *SAID, *RAISES, *MUCH, *WORLD, "sleeps", "holds_the_gil"]
    kinds.remove("cpu_limit")
    assert len(kinds) >= 40
    verdicts = hold(folder, [(kind, METHODS[2 + n % 2], 1) for n, kind in enumerate(kinds)])
    assert verdicts.get("fail", 0) + verdicts.get("error", 0) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("group", ["ENDS", "SAID", "RAISES", "MUCH", "WORLD", "HANGS"])
def test_all_faults_in_all_methods_at_later_and_later_calls(folder: Any, group: str) -> None:
    calls = CALLS if group != "HANGS" else CALLS[::3]
    hold(folder, [(f, m, c) for f in globals()[group] for m in METHODS for c in calls])
