"""What the memory is seen to do: each promise that it does not make is asked all the same, and offered if it holds.

Nothing here fails a memory for what it does not promise, with one exception that ``--strict`` makes: a call of several
rows that no order of writes describes, because rows of it are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

import memspec.suites.test_claims as claims
import memspec.suites.test_inputs as inputs
from memspec.errors import CannotMeasure, LawBroken, NotAsked
from memspec.inference.infer import Choice
from memspec.laws.case import Case
from memspec.laws.compare import NOISE
from memspec.laws.law import LONGEST, Law, advise


def _renewed(law: Law) -> None:
    """Break the law if a pair that is written again makes room for the next one, as the oldest."""
    for case in law.cases(_room(law) + 1, **law.distinct(_room(law) + 1)):
        memory, room = case.build(), case.n - 1
        for rows in (slice(0, room), slice(0, 1), slice(room, None)):
            memory.store(case.keys[rows], case.values[rows])
        answer = memory.query(case.keys[:1])
        case.check(
            "torch.cosine_similarity({}, {}) > 0.99",
            *(answer, case.values[:1]),
            got="a pair written again is the next to go all the same",
            expected="the pair that was written again",
            cause="only a new key gets a new time; that is fifo",
        )


def _newest_stays(law: Law) -> None:
    """Break the law if what was written last is not there, whatever is drawn."""
    for case in law.cases(2 * _room(law), **law.distinct(2 * _room(law))):
        for seed in range(8):
            memory = case.build(seed)
            case.seed(seed)
            for row in range(case.n):
                memory.store(case.keys[row : row + 1], case.values[row : row + 1])
            case.close(
                memory.query(case.keys[-1:]),
                case.values[-1:],
                cause="a new pair is refused now and then, as a reservoir does",
                expected="the newest pair",
            )


def _drawn_lots(law: Law) -> None:
    """Break the law if the same pairs stay whatever the seeds."""
    for case in law.cases(2 * _room(law), **law.distinct(2 * _room(law))):
        kept = []
        for seed in range(4):
            memory = case.build(seed)
            case.seed(seed)
            for row in range(case.n):
                memory.store(case.keys[row : row + 1], case.values[row : row + 1])
            near = 1e-4 * max(1.0, case.values.abs().max().item())
            kept.append(((memory.query(case.keys) - case.values).abs().amax(-1) <= near).tolist())
        case.check(
            f"{sum(mine != kept[0] for mine in kept)} > 0",
            got="the same pairs are left under every seed",
            expected="others under another seed",
            cause="what goes depends on what is stored, not on chance",
        )


def _room(law: Law) -> int:
    """Pairs it holds, where that is few enough to be filled.

    Raises:
        CannotMeasure: if it is not, or is one.
    """
    capacity = law.plug.shape(capacity=16).capacity
    if not 1 < capacity <= LONGEST // 2:
        raise CannotMeasure(f"its capacity is {capacity}")
    return capacity


ASK = claims.TestClaims()
INPUTS = inputs.TestInputs()
SPLIT = {"claims/split": ASK.test_split, "claims/split-repeats": ASK.test_split_repeats}
PERMUTED = {"claims/permutation": ASK.test_permutation}
EXACT = {f"claims/exact/{form}": partial(ASK.test_exact, form=form) for form in ("batch", "rows")}
NONFINITE = {
    f"inputs/nonfinite-update/{kind}-{what}": partial(INPUTS.test_nonfinite_update, kind=kind, what=what)
    for kind in inputs.NONFINITE
    for what in ("keys", "values")
}
EXACTLY = {"exact": True}
SURE = {"deterministic": False}
EVICTION = {"claims/eviction": ASK.test_eviction}
DRAWN = {"what goes is drawn": _drawn_lots} | EVICTION

CHOICES = (
    Choice("deterministic", True, {"claims/deterministic": ASK.test_deterministic}, beside={"stochastic": frozenset()}),
    *(
        Choice("stochastic", w, {f"claims/stochastic/{w}": partial(ASK.test_stochastic, what=w)}, SURE, adds=True)
        for w in ("write", "read")
    ),
    Choice("write", "set", SPLIT | PERMUTED),
    Choice("write", "sequential", SPLIT),
    Choice("write", "joint", PERMUTED),
    *(Choice("overwrite", how, {"claims/overwrite": ASK.test_overwrite}) for how in ("replace", "add", "blend")),
    Choice("exact", True, EXACT | {"claims/exact-lengths": ASK.test_exact_lengths}),
    Choice("eviction", "lru", EVICTION | {"writing a pair again renews it": _renewed}, beside=EXACTLY),
    Choice("eviction", "fifo", EVICTION, beside=EXACTLY),
    Choice("eviction", "random", DRAWN | {"the newest pair stays": _newest_stays}, beside=EXACTLY),
    Choice("eviction", "reservoir", DRAWN, beside=EXACTLY),
    Choice("eviction", "similarity", EVICTION, beside=EXACTLY),
    Choice("empty_read", "zeros", {"claims/empty-read": ASK.test_empty_read}),
    Choice("constant_state", True, {"claims/constant-state": ASK.test_constant_state}),
    *(
        Choice("differentiable", w, {f"claims/differentiable/{w}": partial(ASK.test_differentiable, what=w)}, adds=True)
        for w in ("query", "keys", "values")
    ),
    *(Choice("nonfinite", how, NONFINITE) for how in ("reject", "isolate")),
    Choice("inference_mode", True, {"claims/inference-mode": ASK.test_inference_mode}),
)
"""Every promise that can be tried, of each field the strongest first."""


class TestObserved:
    """What the memory is seen to do, whatever it promises."""

    pytestmark = pytest.mark.claim

    @pytest.fixture
    def observed(self, observe: Callable[..., Any]) -> Any:
        """What was observed; it goes to the card."""
        return observe(CHOICES)

    def test_rows_of_a_call(self, law: Law, observed: Any, suite_options: Any) -> None:
        """A call of several rows writes them in order, in any order or as one: none that would count alone is dropped."""
        if law.spec.association == "auto":
            raise NotAsked("it recalls the key itself")
        try:
            for case in law.cases(2, 7, 16, 20, 33):
                if case.n <= case.shape.capacity or law.spec.eviction in ("none", "fifo", "lru"):
                    _in_some_order(case)
        except LawBroken as broken:
            if law.spec.write == "none" and not suite_options.strict:
                advise(law.plug, f"no order of writes describes what a call of several rows does: {broken.failure.got}")
                observed.advice.append(broken.failure.got)
                return
            raise


def _in_some_order(case: Case) -> None:
    """Break the law if rows of one call are dropped that count when they are written one by one."""
    whole, rows, backward = case.build(), case.build(), case.build()
    whole.update(case.keys, case.values)
    rows.update_rows(case.keys, case.values)
    backward.update(case.keys.flip(0), case.values.flip(0))
    at_once, by_rows, flipped = whole.answers(), rows.answers(), backward.answers()
    near = 1e-4 * max(1.0, by_rows.abs().max().item())
    if (at_once - by_rows).abs().max() <= near or (at_once - flipped).abs().max() <= near:
        return
    dropped = []
    for row in range(case.n):
        values = case.values.clone()
        values[row] = case.changed(values[row : row + 1], case.spec.value_domain)[0]
        if not _counts(case, values, at_once, rowwise=False) and _counts(case, values, by_rows, rowwise=True):
            dropped.append(row)
    case.check(
        f"{len(dropped)} == 0",
        got=f"of {case.n} rows in one call, rows {dropped} leave no trace, and each counts where rows are written one by one",
        expected="rows in order (as one by one), in any order, or as one: with an effect of each",
        cause="the rows of a call are sorted out before they are written (a slice, a mask, one slot for several rows)",
    )


def _counts(case: Case, values: torch.Tensor, was: torch.Tensor, *, rowwise: bool) -> bool:
    """Whether the answers change when these values are written instead of the case's."""
    memory = case.build()
    (memory.update_rows if rowwise else memory.update)(case.keys, values)
    now = memory.answers()
    return bool((now - was).abs().max() > NOISE * max(1.0, now.abs().max().item(), was.abs().max().item()))
