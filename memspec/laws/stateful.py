"""Any sequence of calls: a Hypothesis state machine that drives a memory beside a model of it.

The model is the simplest thing that must agree: a plain dict for memories that claim to be exact; the memory's own
functional form where it has one; else a second instance of the memory that sees only the updates, in one life, with
nothing asked and nothing saved between them. A model never uses what the machine does to the memory under test.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor

from memspec.errors import LawBroken
from memspec.laws.case import Case
from memspec.laws.law import Law, Wide
from memspec.laws.recorded import Statement

POOL = 6
"""Different keys (and values) that a run may use; fewer where the memory's capacity is smaller."""
EXAMPLES, STEPS = 15, 20
"""Runs and steps by default; ``--memspec-examples N`` runs N longer ones, drawn anew each time."""
LONG = 40

Write = tuple[int, Tensor, Tensor]
"""A number to seed the generators with, keys, and values."""


class Model:
    """What the answers must be, given the updates since the last reset.

    Args:
        case: draws the same data as the machine's, and has a transcript of its own.
        keys: the pool.
    """

    exact = False  # bit for bit
    seed = 0  # the memory whose start is meant was built under it

    def __init__(self, case: Case, keys: Tensor) -> None:
        self.case, self.keys = case, keys

    def expected(self, writes: Sequence[Write]) -> dict[int, Tensor]:
        """The answer to each key of the pool of which something is known."""
        raise NotImplementedError


class Dictionary(Model):
    """a plain dict beside it"""

    def expected(self, writes: Sequence[Write]) -> dict[int, Tensor]:
        held: dict[int, Tensor | None] = {}
        how = self.case.spec.overwrite
        for _, keys, values in writes:
            for key, value in zip(keys, values):
                row = row_of(key, self.keys)
                old = held.get(row)
                if row not in held or how == "replace":
                    held[row] = value
                else:  # a blended answer, or one that nothing is promised about, stays unknown
                    held[row] = old + value if how == "add" and old is not None else None
        if not writes and self.case.spec.empty_read == "zeros":
            return dict(enumerate(torch.zeros(len(self.keys), self.case.shape.value_dim)))
        return {row: value for row, value in held.items() if value is not None}


class Twin(Model):
    """a second instance that saw only these updates"""

    exact = True

    def expected(self, writes: Sequence[Write]) -> dict[int, Tensor]:
        twin = self.case.build(self.seed)
        for seed, keys, values in writes:
            self.case.seed(seed)
            twin.update(keys, values)
        return dict(enumerate(twin.query(self.keys)))


class FunctionalForm(Model):
    """its own functional form"""

    def __init__(self, case: Case, keys: Tensor) -> None:
        super().__init__(case, keys)
        self.memory = case.build()
        self.start = self.memory.start()
        self.reached: list[tuple[int, Any]] = []  # the state after each write, by the write's number

    def expected(self, writes: Sequence[Write]) -> dict[int, Tensor]:
        while self.reached and (
            len(self.reached) > len(writes) or self.reached[-1][0] != writes[len(self.reached) - 1][0]
        ):
            self.reached.pop()
        state = self.reached[-1][1] if self.reached else self.start
        for seed, keys, values in writes[len(self.reached) :]:
            self.case.seed(seed)
            state = self.memory.write(state, keys, values)
            self.reached.append((seed, state))
        return dict(enumerate(self.memory.read(state, self.keys).detach()))


def model_of(case: Case, keys: Tensor) -> Model:
    """The model for a plug."""
    if is_dictionary(case.law):
        return Dictionary(case, keys)
    twin = Twin(case, keys)
    if "Functional" not in case.plug.capabilities:
        return twin
    form = FunctionalForm(case, keys)
    fresh, built = form.expected([]), twin.expected([])
    # Where init_state draws a start of its own, the functional form is another memory.
    return form if all(torch.equal(fresh[row], built[row]) for row in built) else twin


def is_dictionary(law: Statement) -> bool:
    """Whether a plain dict is the model."""
    return law.spec.exact and law.spec.fidelity != "trained"


def row_of(key: Tensor, keys: Tensor) -> int:
    """The first row of ``keys`` that equals ``key``."""
    return int((keys == key).all(-1).to(torch.uint8).argmax())


class MemoryMachine(RuleBasedStateMachine):
    """Update, overwrite, query, reset, save and restore, in any order."""

    law: ClassVar[Law]

    @initialize()
    def build(self) -> None:
        """A fresh memory and its model."""
        law = self.law
        size = min(POOL, law.plug.shape(capacity=16).capacity)
        widths: Wide = law.distinct(size) if is_dictionary(law) else {}
        self.case, quiet = (next(law.cases(size, **widths)) for _ in range(2))
        self.keys, self.values = self.case.keys, self.case.values
        self.times = law.spec.presentations if is_dictionary(law) else 1
        self.memory = self.case.build()
        self.model = model_of(quiet, self.keys)
        self.writes: list[Write] = []
        self.saved: tuple[Any, list[Write], int] | None = None
        self.anew = False  # built under another seed than the first, to be restored
        self.steps: list[str] = []
        self.turn = 0

    @property
    def last(self) -> str:
        """The last step."""
        return self.steps[-1] if self.steps else ""

    def _write(self, rows: list[int], shift: int, what: str) -> None:
        picked = [row % len(self.keys) for row in rows]
        keys = self.keys[picked]
        auto = self.case.spec.association == "auto"
        values = keys.clone() if auto else self.values[[(row + shift) % len(self.keys) for row in picked]]
        self.turn += 1
        self.case.seed(self.turn)
        self.memory.update(keys, values, self.times)
        self.writes.append((self.turn, keys, values))
        self.steps.append(f"{what}({', '.join(map(str, picked))})")

    @rule(rows=st.lists(st.integers(0, POOL - 1), min_size=1, max_size=4, unique=True), shift=st.integers(0, POOL - 1))
    def update(self, rows: list[int], shift: int) -> None:
        """Store a few keys of the pool."""
        self._write(rows, shift, "update")

    @precondition(lambda self: self.writes)
    @rule(which=st.integers(0, 100), shift=st.integers(0, POOL - 1))
    def overwrite(self, which: int, shift: int) -> None:
        """Store a key again that was stored before."""
        written = torch.cat([keys for _, keys, _ in self.writes])
        self._write([row_of(written[which % len(written)], self.keys)], shift, "overwrite")

    # Doing one of these twice in a row says little, and few runs have to say much.

    @precondition(lambda self: self.last != "query")
    @rule(rows=st.lists(st.integers(0, POOL - 1), max_size=3))
    def query(self, rows: list[int]) -> None:
        """Ask a few keys, and never-stored ones."""
        picked = [row % len(self.keys) for row in rows]
        self.memory.query(torch.cat((self.keys[picked], self.case.others)))
        self.steps.append("query")

    @precondition(lambda self: self.writes)
    @rule()
    def reset(self) -> None:
        self.memory.reset()
        if self.anew:
            # The start that was saved with the rest, or that of its own construction: both are a state it began in.
            fresh, want = self.memory.query(self.keys), self.model.expected([])
            if any(not torch.equal(fresh[row], answer.to(fresh)) for row, answer in want.items()):
                self.model.seed = int(torch.equal(fresh, self.case.build(seed=1).query(self.keys)))
        self.writes = []
        self.steps.append("reset")

    @precondition(lambda self: self.writes and self.last not in ("save", "restore"))
    @rule()
    def save(self) -> None:
        """Keep the state dict (a deep copy of the memory, where it has none)."""
        if "Persistent" in self.case.plug.capabilities:
            kept = self.case.new("saved", "{}.deepcopy({}.state_dict())", copy, self.memory)
        else:
            try:
                copy.deepcopy(self.memory.memory)
            except Exception:  # persistence/copies gives that advice
                return
            kept = self.case.new("saved", "{}.deepcopy({})", copy, self.memory)
        self.saved = kept, list(self.writes), self.model.seed
        self.steps.append("save")

    @precondition(lambda self: self.saved is not None and self.last != "restore")
    @rule()
    def restore(self) -> None:
        """Go on with what was saved, in an instance that was built anew."""
        assert self.saved is not None
        kept, writes, self.model.seed = self.saved
        if "Persistent" in self.case.plug.capabilities:
            self.memory, self.anew = self.case.build(seed=1), True
            self.case.do("{}.load_state_dict({})", self.memory, kept)
        else:
            self.memory = self.case.drive("{}.deepcopy({})", copy, kept)
        self.writes = list(writes)
        self.steps.append("restore")

    @invariant()
    def agrees(self) -> None:
        """The memory answers as its model does."""
        if not hasattr(self, "memory"):
            return
        want = self.model.expected(self.writes)
        if not want:
            return
        rows = sorted(want)
        got = self.memory.query(self.keys[rows])
        expected = torch.stack([want[row] for row in rows]).to(got)
        steps = "; ".join(self.steps) or "construction"
        compare = self.case.same if self.model.exact else self.case.close
        compare(
            got,
            expected,
            cause=f"the last of these steps does more or less than it says: {steps}",
            expected=f"the answers of {type(self.model).__doc__}",
        )


def run(law: Law, examples: int | None = None) -> None:
    """Drive the law's memory through runs of calls; the message of a failure holds the shrunk one.

    Args:
        examples: None for a few runs, the same every time; N for N long ones drawn anew.

    Raises:
        LawBroken: with the steps, as a program.
    """
    machine = type("MemoryMachine", (MemoryMachine,), {"law": law})
    options = settings(
        max_examples=examples or EXAMPLES,
        stateful_step_count=LONG if examples else STEPS,
        derandomize=not examples,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=options)
    except FlakyFailure as flaky:
        # The same steps gave another result when repeated; what was seen first is still a counterexample.
        seen = [e for e in flaky.exceptions if isinstance(e, LawBroken)]
        if not seen:
            raise
        raise seen[0] from flaky
