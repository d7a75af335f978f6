"""Long lives: after a thousand calls a memory is as sound, as ready to learn, as small and as quick as promised."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import pytest
from torch import Tensor

from memspec.errors import CannotMeasure, NotAsked
from memspec.laws.case import Case
from memspec.laws.compare import FLOAT, NOISE
from memspec.laws.driven import Driven
from memspec.laws.law import Law
from memspec.plugs.population import state_bytes
from memspec.world.boundary import call

CALLS = 1000
"""Of update, in one life; fewer where a memory is slow."""
FEWEST, SECONDS = 100, 0.4
"""That many in any case, and otherwise no more than take so long."""
STEADY = 1e-2
"""How far an answer may go on moving, relative to the values, once a pair was written a hundred times."""
SETTLED = 100
"""Calls by which a memory has shown how it behaves."""
TURNS, ROUNDS, SLOWER = 15, 4, 3.0
"""Calls of an old memory timed turn about with those of a young one, how often this is done, and the ratio of medians
that all of the rounds must show before time is said to grow."""
KEEPS_ANY = ("random", "reservoir", "similarity")
"""Evictions that may drop the pair just written."""


class TestLives:
    """Long lives: after a thousand calls a memory is as sound, as ready to learn, as small and as quick as promised."""

    pytestmark = pytest.mark.law

    def test_every_call(self, law: Law) -> None:
        """What every one of the first hundred updates did for its pair, each of the next nine hundred does too: an exact memory recalls it, others move their answer."""
        (case,) = law.cases(1)
        memory, count = case.build(), _calls(case)
        keys, values = case.pairs(count)
        asked = "[(ask(k), [{3}.update(k, v) for _ in range({0})], ask(k)) for k, v in zip({1}.split(1), {2}.split(1))]"
        # Asked beside other keys, for the answer to its own may be as large as answers get.
        case.let("ask", "lambda k: {}.query(torch.cat((k, others)))", memory)
        case.let("seen", asked, law.spec.presentations, keys, values, memory)
        # Of NaN nothing is larger: what is no number has not moved, and recalls nothing.
        moved = case.let(
            "moved", "torch.tensor([float((b - a).abs().max() / b.abs().max().clamp_min(1e-30)) for a, _, b in seen])"
        )
        before = case.let("before", "torch.cat([b[:1] for _, _, b in seen])")
        case.finite(
            before, cause="a running sum, a norm or a counter overflows, or a division by what has decayed to zero"
        )
        if law.spec.exact and law.spec.eviction not in (*KEEPS_ANY, "none") and law.spec.fidelity != "trained":
            case.close(
                before,
                values,
                cause="a pointer, a counter or a table goes wrong at some call: at the second wrap, or past 255",
                expected="each value, right after it was written",
            )
        # One among a hundred pairs may change no sign.
        if law.spec.value_domain == "real" and float(moved[:SETTLED].min()) > 100 * NOISE:
            still = moved[SETTLED:] > NOISE
            lost = (~still).nonzero().flatten().tolist() if still.numel() else []
            case.check(
                f"(moved[{SETTLED}:] > {NOISE}).all()",
                got=f"updates {[SETTLED + n + 1 for n in lost[:5]]} ({len(lost)} of {count}) changed no answer to their key",
                expected="an answer that moves, as it did at every one of the first hundred",
                cause="a step that decays to nothing, a buffer that is never emptied, or a store that stops when full",
            )

    def test_still_learns(self, law: Law) -> None:
        """After a thousand updates answers are finite, statistics are in range, and depend on what is written now."""
        if law.spec.eviction in KEEPS_ANY:
            raise NotAsked(f"its eviction ({law.spec.eviction}) may drop what was just written")
        for case in law.cases(5, **law.distinct(5)):
            count = _calls(case)
            first, second = _old(case, count), _old(case, count)
            _ranges(case, first)
            other = case.changed_pairs(case.keys, case.values)
            first.update(case.keys, case.values, times=20)
            second.update(*other, times=20)
            got, was = second.query(case.probe), first.query(case.probe)
            case.finite(
                was, cause="a running sum, a norm or a counter overflows, or a division by what has decayed to zero"
            )
            case.moved(
                got,
                was,
                cause="a step that decays to nothing, saturated state, or a store that takes nothing once it is full",
                expected="other answers where other values were written",
            )

    def test_rewrites(self, law: Law) -> None:
        """A pair that is written again and again, three hundred times, is answered as after a hundred."""
        if law.spec.overwrite != "replace" or law.spec.association == "auto" or law.spec.fidelity == "trained":
            raise NotAsked("it does not declare that a second value replaces the first")
        for case in law.cases(2, **law.distinct(2)):
            memory = case.build()
            memory.store(case.keys, case.values)
            seen = []
            for count in (SETTLED, 155, 1, 44):  # to 100, 255, 256 and 300
                memory.update(case.keys[:1], case.values[:1], times=count)
                seen.append(memory.query(case.keys[:1]))
            cause = "a counter of uses or writes of one byte: at the 256th it is 0 again, and the pair taken for none"
            for later in seen[1:]:
                case.close(
                    later,
                    seen[0],
                    cause=cause,
                    expected=f"the answers after {SETTLED} rewrites",
                    tolerance=STEADY,
                )

    def test_size(self, law: Law) -> None:
        """Where a constant state is promised, its bytes after a thousand updates and queries are those after one."""
        if not law.spec.constant_state:
            raise NotAsked("it does not claim a constant state")
        (case,) = law.cases(1)
        memory = case.build()
        memory.update(case.keys, case.values)
        memory.answers()
        was = case.let("was", "{}({})", state_bytes, memory)
        count = _calls(case)
        _live(case, memory, count)
        now = case.let("now", "{}({})", state_bytes, memory)
        case.check(
            "now == was",
            got=f"{was} bytes after 1 update, {now} after {count}",
            expected="the same number",
            cause="a log, a cache of queries, or a list of past calls grows",
        )

    def test_time(self, law: Law) -> None:
        """Where a constant state is promised, an update and a query take no longer after a thousand calls than at first."""
        if not law.spec.constant_state:
            raise NotAsked("it does not claim a constant state")
        (case,) = law.cases(1)
        young, count = case.build(), _calls(case)
        if count < CALLS:
            raise CannotMeasure("it is too slow for a thousand calls")
        old = _old(case, count)
        memories = {"young": young.memory, "old": old.memory}
        ratios: list[float] = []
        # Turn about, so that a busy machine slows both; and only what every round shows counts.
        while len(ratios) < ROUNDS:
            spent: dict[str, list[float]] = {name: [] for name in memories}
            for _ in range(TURNS):
                for name, memory in memories.items():
                    start = time.perf_counter()
                    memory.update(case.keys, case.values)
                    memory.query(case.others)
                    spent[name].append(time.perf_counter() - start)
            ratios.append(median(spent["old"]) / median(spent["young"]))
            if ratios[-1] < SLOWER:
                return
        case.let("ratio", "{}", min(ratios))
        case.check(
            f"ratio < {SLOWER}",
            got=f"{min(ratios):.1f} times as long, in each of {ROUNDS} rounds, as a memory of the first calls",
            expected="the same time",
            cause="every call goes through a history of all calls: a list, a graph, a log",
        )


def _calls(case: Case) -> int:
    """How many calls a life of this memory has."""
    memory, (keys, values) = case.plug.build(case.shape), (case.others[:1], case.spare[:1])
    each = SECONDS
    for _ in range(5):  # the quickest counts: the first are slow in any memory, and on a busy machine others are
        start = time.process_time()
        call(memory, "update", keys, values)
        call(memory, "query", keys)
        each = min(each, time.process_time() - start)
    return CALLS if each * CALLS < SECONDS else max(FEWEST, int(SECONDS / each) // 50 * 50)


def _live(case: Case, memory: Driven, count: int) -> None:
    """So many updates of one fresh pair, with queries between."""
    keys, values = case.pairs(count)
    calls = "{3}.update({1}[n:n+1], {2}[n:n+1]), n % 5 or {3}.query({1}[n:n+1])"
    case.do(f"for n in range({{0}}): {calls}", count, keys, values, memory)


def _old(case: Case, count: int) -> Driven:
    """A memory late in its life: of one start and one history, wherever it is called."""
    memory = case.build()
    case.seed(count)
    pairs = case.script.names.get("lived")
    if pairs is None:
        pairs = case.let("lived", "({}, {})", *case.pairs(count))
    calls = "{1}.update(lived[0][n:n+1], lived[1][n:n+1]), n % 5 or {1}.query(lived[0][n:n+1])"
    case.do(f"for n in range({{0}}): {calls}", count, memory)
    return memory


def _ranges(case: Case, memory: Driven) -> None:
    """Statistics of an old memory: within the ranges that they have at any age."""
    statistics: dict[str, tuple[tuple[Tensor, ...], str]] = {
        "confidence": ((case.probe,), "(({0} >= 0) & ({0} <= 1)).all()"),
        "slot_usage": ((), "(({0} >= 0) & {0}.isfinite()).all()"),
        "read_weights": ((case.probe,), f"({{0}} >= 0).all() and ({{0}}.sum(-1) <= {1 + FLOAT}).all()"),
    }
    offered = {"confidence": "Confident", "slot_usage": "Slotted", "read_weights": "Addressable"}
    for name, (arguments, holds) in statistics.items():
        if offered[name] not in case.plug.capabilities:
            continue
        numbers: Any = memory.call(name, *arguments)
        low, high = (f"{end.item():.4g}" for end in (numbers.min(), numbers.max()))
        case.check(
            holds,
            numbers,
            got=f"{name} from {low} to {high} after a long life",
            expected="the range it has in a fresh memory",
            cause="a counter, an age or a decayed usage is reported as it grows",
        )
