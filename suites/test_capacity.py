"""Capacity: how much the memory holds, and what goes when it is full."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.base import Runner
from memspec.experiments.capacity import (
    LOAD,
    LOADS,
    OVERFILL,
    PRESENTATION,
    Load,
    Overfill,
    Presentation,
)
from memspec.experiments.curves import n95
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import FIRST_TRIALS, Bound
from memspec.plugs.plug import Plug
from memspec.theory import band

LIGHT = 8
"""Loads up to which "worse than a blind guess" can be told from one within the default number of trials."""
INTERFERENCE = "pairs interfere more (or less) than the declared family allows, or the write loses rows"


class TestCapacity:
    """Capacity: how much the memory holds, and what goes when it is full."""

    @pytest.mark.measurement
    @pytest.mark.parametrize("n", LOADS, ids="n{}".format)
    def test_recall(self, plug: Plug, judge: Judge, runner: Runner, n: int) -> None:
        """Recall of N stored pairs: within the family's theory, else (at light loads) not below a blind guess."""
        setting = Load(n=n)
        runner.values(LOAD, setting, "recall_cosine", FIRST_TRIALS)  # for the score, whatever is required
        bound = band(plug, LOAD.name, setting, "recall_cosine")
        if bound is None and n <= LIGHT:
            bound = Bound(at_least=0.5 / n, source=f"universal floor: half of a blind guess, 1/{n}")
        unasked = f"family {plug.spec.family!r} has no theory here, and a blind guess is too near 0 to judge by"
        judge(LOAD, setting, "recall_cosine", bound, cause=INTERFERENCE, unasked=unasked)

    @pytest.mark.claim
    @pytest.mark.parametrize("n", LOADS, ids="n{}".format)
    def test_error(self, plug: Plug, judge: Judge, n: int) -> None:
        """The error of the answers to N stored pairs is what the declared family's equation gives."""
        setting = Load(n=n)
        bound = band(plug, LOAD.name, setting, "relative_mse")
        unasked = f"theory has no error for family {plug.spec.family!r} at this load"
        judge(LOAD, setting, "relative_mse", bound, cause=INTERFERENCE, unasked=unasked)

    @pytest.mark.claim
    @pytest.mark.parametrize("n", LOADS[:-1], ids="n{}".format)
    def test_exact(self, plug: Plug, judge: Judge, n: int) -> None:
        """A memory that claims to be exact answers every stored pair exactly, up to its capacity."""
        setting = Load(n=n)
        if not plug.spec.exact:
            raise NotAsked("exact recall is not claimed")
        if n > plug.shape(capacity=setting.capacity).capacity:
            raise NotAsked(f"{n} pairs are more than the capacity")
        judge(
            LOAD,
            setting,
            "relative_mse",
            Bound(at_most=1e-6, source="spec: exact=True", share=0.9),
            cause="the write loses or mixes rows, or another pair's value is returned",
        )

    @pytest.mark.claim
    def test_presentation(self, plug: Plug, judge: Judge) -> None:
        """One batch and single rows leave the same answers, where the spec says that the rows of a call act so."""
        if plug.spec.write not in ("sequential", "set"):
            raise NotAsked(f"write is {plug.spec.write!r}: a batch may be another write than its rows")
        sharp = plug.spec.deterministic
        judge(
            PRESENTATION,
            Presentation(),
            "answers_apart" if sharp else "recall_apart",
            Bound(at_most=1e-4 if sharp else 0.1, source=f"spec: write={plug.spec.write!r}"),
            cause="rows of a batch do not see each other's effect (if that is meant, declare write='joint'), or some are dropped",
        )

    @pytest.mark.law
    def test_information(self, plug: Plug, judge: Judge) -> None:
        """No more bits can be decoded than the state holds."""
        if "Functional" not in plug.capabilities:
            raise NotAsked("only a Functional memory shows the whole of its state")
        if plug.spec.association == "auto":
            raise NotAsked("an autoassociative memory is given the value with the cue")
        judge(
            LOAD,
            Load(n=LOADS[-1]),
            "share_of_ceiling",
            Bound(at_most=1.0, source="law: 8 bits in a byte"),
            cause="something is remembered outside the state that init_state, write and read pass along",
        )

    @pytest.mark.claim
    def test_n95(self, plug: Plug, judge: Judge, runner: Runner) -> None:
        """A memory that claims to be exact has an N95 of at least its capacity."""
        recalls = [runner.values(LOAD, Load(n=n), "recall_cosine", FIRST_TRIALS) for n in LOADS]
        found = n95(LOADS, recalls)
        came = f"N95 = {found.estimate} (Wilson {found.low} to {found.high}, loads {LOADS[0]} to {LOADS[-1]})"
        if not plug.spec.exact:
            raise NotAsked(f"exact recall is not claimed; {came}")
        required = max(n for n in LOADS if n <= max(plug.shape(capacity=128).capacity, LOADS[0]))
        judge.require(
            found.high >= required,
            got=came,
            expected=f"an N95 of at least {required}, by spec: exact=True",
            cause="the write loses or mixes rows, or what is read is worse than 95% right from some load on",
            done=f"stored {', '.join(map(str, LOADS))} pairs, {FIRST_TRIALS} trials each, and asked for all of them",
            metric="n95",
            estimate=found.estimate,
            interval=(found.low, found.high),
        )

    @pytest.mark.claim
    @pytest.mark.parametrize("part", ["all", "newest", "older"])
    def test_overfill(self, plug: Plug, judge: Judge, part: str) -> None:
        """Four times as many pairs as there is room for: what is left follows the declared eviction."""
        setting, metric = Overfill(), f"recall_{part}"
        spec = plug.spec
        if spec.eviction == "none":
            raise NotAsked("no eviction is declared")
        bound = band(plug, OVERFILL.name, setting, metric)
        soft = spec.eviction in ("fifo", "lru") and part == "older"
        if bound is None and soft:
            bound = Bound(at_most=0.1, source=f"spec: eviction={spec.eviction!r} keeps none but the newest")
        if bound is None and part == "all" and spec.eviction == "similarity":
            bound = Bound(
                at_least=0.9 / setting.factor, source="spec: eviction='similarity' still holds C of the pairs"
            )
        judge(
            OVERFILL,
            setting,
            metric,
            bound,
            cause="another slot is replaced than the declared eviction names, or new pairs are dropped",
            unasked=f"nothing is derived for {part} pairs under {spec.eviction} eviction and family {spec.family}",
        )

    @pytest.mark.claim
    @pytest.mark.parametrize("age", [0, 24, 32, 96], ids="age{}".format)
    def test_age(self, plug: Plug, judge: Judge, age: int) -> None:
        """Past capacity, a pair of a given age is still held as often as the declared eviction says."""
        setting = Overfill()
        if plug.shape(capacity=setting.capacity).capacity != setting.capacity:
            raise NotAsked("the capacity is fixed, so these ages are not measured")
        bound = band(plug, OVERFILL.name, setting, "recall", at=age)
        judge(
            OVERFILL,
            setting,
            "recall",
            bound,
            at=age,
            cause="the age of what is evicted differs from the declaration",
            unasked=f"no age curve is derived for {plug.spec.eviction} eviction and family {plug.spec.family}",
        )
