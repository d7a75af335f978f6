"""What a memory does to the world around it: a short life, step by step, with the dear watch around every step.

Every call of a memory anywhere in the suites is watched (:mod:`memspec.world`). A disturbance that this life shows
too belongs to the law ``world/untouched`` alone; any other fails the check in which it came up. So what happens at every
call is one failure and not two hundred, and what happens at the 300th is not lost.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from torch import Tensor

from memspec.errors import LawBroken, SaidByMemory
from memspec.failure import Failure, plain
from memspec.judging.check import CheckRun
from memspec.laws.case import CAPACITY, Case
from memspec.laws.law import Law
from memspec.plugs.plug import Plug
from memspec.world import disturbance
from memspec.world.watched import Disturbed, watched

WORDS = "words"
"""The kind under which what only the harness may raise is found."""
CAUSES = {
    "generator": "a seed call (torch.manual_seed, np.random.seed) in the memory; draw from a torch.Generator of its own",
    "the caller's tensors": "an in-place operation (normalisation, scaling) on the caller's tensor; work on a copy",
    "earlier answers": "one buffer is used for all answers; return a clone",
    "processes": "what a call starts is not ended, or not waited for, before nobody needs it any more",
    "copies of the process": "a forked child ends with os._exit, whatever is raised in it",
}
STATISTICS = {
    "Confident": ("confidence",),
    "Addressable": ("read_weights", "slot_values"),
    "Slotted": ("slot_usage",),
    "Touching": ("touch",),
}
SETTING = "a setting of the whole process is changed and not put back; use it as a context, or not at all"


def survey(law: Law) -> dict[str, LawBroken]:
    """The disturbances of a short life, by kind; each with the program that leads to it."""
    found: dict[str, LawBroken] = {}
    for case in law.cases(1, 5, CAPACITY + 4):
        try:
            _life(case, found)
        except LawBroken as error:  # other laws say that
            if isinstance(error.__cause__, SaidByMemory):
                found.setdefault(WORDS, error)
        for kind, one in disturbance.LASTING.get(law.plug.name, {}).items():
            found.setdefault(kind, broken(case, one))
    return found


def broken(case: Case, one: disturbance.Disturbance) -> LawBroken:
    """The failure that one disturbance is, with the program so far."""
    return case.broken(
        got=str(one),
        expected="the world as it was (it has been put right)",
        cause=cause_of(one.kind),
    )


def cause_of(kind: str) -> str:
    """The likeliest cause of a disturbance of this kind."""
    return next((text for start, text in CAUSES.items() if kind.startswith(start)), SETTING)


def failure(run: CheckRun, plug: Plug | None, found: Sequence[disturbance.Disturbance], asked: bool) -> Failure | None:
    """The failure of a check during which these came up; None where all are the law's own to tell.

    Args:
        asked: whether this run asks the law of this memory. Where it does not, every check tells for itself.
    """
    known = habits(plug) if plug is not None and asked else frozenset()
    own = [one for one in found if one.kind not in known]
    if not own:
        return None
    return replace(
        run.failure(
            got=f"{plain('; '.join(map(str, own)))}, during this check",
            expected="the world as it was (it has been put right)",
            cause=cause_of(own[0].kind),
        ),
        rule=disturbance.RULE,
    )


@cache
def habits(plug: Plug) -> frozenset[str]:
    """The kinds of disturbance that ``world/untouched`` finds of this memory."""
    return frozenset(survey(Law(plug, disturbance.RULE, "world/untouched")))


def _life(case: Case, found: dict[str, LawBroken]) -> None:
    """A life of a memory; what it disturbs goes to ``found``."""
    has = case.plug.capabilities

    @contextlib.contextmanager
    def step(*given: Tensor) -> Iterator[None]:
        try:
            with case.within(f"{case.ref(watched)}({', '.join(map(case.ref, given))})"):
                yield
        except Disturbed as error:
            for one in error.found:
                if one.kind not in found:
                    found[one.kind] = broken(case, one)

    memory = None
    with step():
        memory = case.construct()  # what the harness seeds is no disturbance
    if memory is None:
        return
    for keys, values in ((case.keys, case.values), (case.others, case.spare)):
        with step(keys, values):
            memory.update(keys, values)
        for _ in range(2):
            with step(keys, values):
                memory.live(keys)
    for name, methods in STATISTICS.items():
        for method in methods if name in has else ():
            with step(case.probe):
                memory.call(method, *([] if method.startswith("slot") else [case.probe]))
    if "Auxiliary" in has:
        with step(case.others, case.spare):
            memory.call("auxiliary_loss", case.others, case.spare)
    if "Functional" in has:
        with step(case.keys, case.values):
            memory.read(memory.write(memory.start(), case.keys, case.values), case.probe)
    if "Persistent" in has:
        with step():
            saved = case.let("saved", "{}.deepcopy({}.state_dict())", copy, memory)
            case.do("{}.load_state_dict({})", memory, saved)
    if "Forgetting" in has:
        with step(case.keys):
            memory.call("forget", case.keys)
    if "Consolidating" in has:
        with step():
            memory.call("consolidate")
    with step():
        memory.reset()
