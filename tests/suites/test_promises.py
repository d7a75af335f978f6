"""Every choice of every field of a spec is asked about: a check comes to be asked by it, or judges otherwise.

One plain memory is run twice, with a choice declared and without it; nothing else differs. The table names for each
choice the check that must then differ. What the weakest promise of each field is asks for nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from memspec.protocol import CAPABILITIES, SETS, MemorySpec
from memspec.running.selfcheck import run_plan
from memspec.scorecard.record import Record
from sampling import sampled

FILE = Path(__file__).parents[1] / "helpers" / "declared.py"


@dataclasses.dataclass(frozen=True)
class Asked:
    """A choice, and the check that asks about it.

    Attributes:
        check: its id.
        kind: which plain memory declares it.
        beside: what else the memory declares, with the choice and without it.
    """

    check: str
    kind: str = "store"
    beside: dict[str, Any] = dataclasses.field(default_factory=dict)

    def plug(self, **declared: Any) -> str:
        return f"{FILE}:make(kind={self.kind!r}, declared={self.beside | declared!r})"


EXACT = {"exact": True}
HEBB = {"family": "hebbian"}
FULL = EXACT | {"overwrite": "replace", "deterministic": True}
STORE = FULL | {"family": "cache", "eviction": "fifo"}

ASKED: dict[tuple[str, Any], Asked] = {
    ("family", "hebbian"): Asked("capacity/error/n8", "sums"),
    ("family", "delta"): Asked("capacity/error/n128", "sums"),
    ("family", "least_squares"): Asked("capacity/error/n8", "sums"),
    ("family", "cache"): Asked("capacity/error/n8", "sums", {"capacity": 128}),
    ("family", "softmax"): Asked("capacity/recall/n8", "sums", {"beta": 16.0}),
    ("family", "superposition"): Asked("capacity/recall/n8", "sums", {"trace_dim": 64}),
    ("beta", 0.5): Asked("adaptation/curve/n1", "sums", {"family": "delta"}),
    ("trace_dim", 64): Asked("capacity/error/n8", "sums", {"family": "superposition"}),
    ("key_domain", "unit"): Asked("claims/exact-lengths", beside=EXACT),
    ("key_domain", "sign"): Asked("capacity/recall/n8", "sums", HEBB),
    ("key_domain", "onehot"): Asked("capacity/recall/n8", "sums", HEBB),
    ("value_domain", "unit"): Asked("capacity/recall/n64", "sums", HEBB),
    ("value_domain", "sign"): Asked("capacity/recall/n64", "sums", HEBB),
    ("value_domain", "onehot"): Asked("capacity/recall/n64", "sums", HEBB),
    ("write", "sequential"): Asked("claims/split"),
    ("write", "set"): Asked("claims/permutation"),
    ("write", "joint"): Asked("claims/permutation"),
    ("overwrite", "replace"): Asked("claims/overwrite"),
    ("overwrite", "add"): Asked("claims/overwrite"),
    ("overwrite", "blend"): Asked("claims/overwrite"),
    ("exact", True): Asked("claims/exact/batch"),
    ("capacity", 8): Asked("capacity/overfill/all", beside=STORE),
    ("eviction", "fifo"): Asked("claims/eviction", beside=FULL),
    ("eviction", "lru"): Asked("claims/rewritten-is-recent", beside=FULL),
    ("eviction", "random"): Asked("claims/eviction", beside=FULL),
    ("eviction", "reservoir"): Asked("claims/eviction", beside=FULL),
    ("eviction", "similarity"): Asked("claims/eviction", beside=FULL),
    ("empty_read", "zeros"): Asked("claims/empty-read"),
    ("presentations", 3): Asked("capacity/error/n8", "sums", HEBB),
    ("stochastic", "write"): Asked("claims/stochastic/write"),
    ("stochastic", "read"): Asked("claims/stochastic/read"),
    ("differentiable", "query"): Asked("claims/differentiable/query"),
    ("differentiable", "keys"): Asked("claims/differentiable/keys"),
    ("differentiable", "values"): Asked("claims/differentiable/values"),
    ("nonfinite", "reject"): Asked("inputs/nonfinite-update/nan-keys"),
    ("nonfinite", "isolate"): Asked("inputs/nonfinite-update/nan-keys"),
    ("precision", "own"): Asked("formats/double", "sums", HEBB),
    ("association", "auto"): Asked("claims/split-repeats", beside={"write": "sequential"}),
    ("fidelity", "trained"): Asked("capacity/recall/n8"),
    ("widths", "square"): Asked("claims/overwrite", "sums", {"overwrite": "replace"}),
    ("widths", "key_dim"): Asked("dimensions/token/d16"),
    ("widths", "value_dim"): Asked("capacity/recall/n64", "sums", HEBB),
    ("widths", "capacity"): Asked("capacity/overfill/all", beside=STORE),
    ("capabilities", "Confident"): Asked("capabilities/confidence", "all"),
    ("capabilities", "Addressable"): Asked("capabilities/read-weights", "all"),
    ("capabilities", "Slotted"): Asked("capabilities/slot-usage", "all"),
    ("capabilities", "Persistent"): Asked("persistence/state-dict/fresh", "all"),
    ("capabilities", "Auxiliary"): Asked("capabilities/auxiliary-loss", "all"),
    ("capabilities", "Touching"): Asked("capabilities/touch", "all"),
    ("capabilities", "Forgetting"): Asked("capabilities/forget", "all"),
    ("capabilities", "Consolidating"): Asked("capabilities/consolidate", "all"),
    ("capabilities", "Functional"): Asked("capabilities/functional-is-pure", "all"),
    ("capabilities", "Recurrent"): Asked("sequences/run-is-steps", "all"),
}
"""Field and choice (of a set or mapping, what it names) -> who asks; a field that is true or false is asked about by the
claim of its name (:func:`asked_by`)."""

SAID = {
    "beta": 0.5,
    "trace_dim": 64,
    "capacity": 8,
    "presentations": 3,
}
"""A value of each field that takes numbers."""

DESCRIBES = {("fidelity", "driven")}
"""Words for the reader of a card: such a memory is asked just what a native one is."""


def choices() -> Iterator[tuple[str, Any]]:
    """Every field with every value it can have that says more than its default; numbers are those of :data:`SAID`.

    Of a capability the choice is to switch it off, because a memory that has its methods has it.
    """
    hints = get_type_hints(MemorySpec)
    for field in dataclasses.fields(MemorySpec):
        kind = hints[field.name]
        literals = [choice for choice in get_args(kind) if isinstance(choice, str)]
        if literals:
            yield from ((field.name, choice) for choice in literals if choice != field.default)
        elif kind is bool:
            yield field.name, True
        elif field.name in SETS:
            yield from ((field.name, what) for what in SETS[field.name])
        elif field.name == "widths":
            yield from (("widths", what) for what in ("square", "key_dim", "value_dim", "capacity"))
        elif field.name == "capabilities":
            yield from (("capabilities", name) for name in CAPABILITIES)
        else:
            yield field.name, SAID.get(field.name, math.nan)


def declared(field: str, choice: Any) -> dict[str, Any]:
    """The keyword of ``MemorySpec`` that says so."""
    if field in SETS:
        return {field: [choice]}
    if field == "capabilities":
        return {field: {choice: False}}
    if field == "widths":
        return {field: {choice: True if choice == "square" else {"multiple_of": 48}}}
    return {field: choice}


def asked_by(field: str, choice: Any) -> Asked:
    """Who asks about a choice: what the table says, or of a field that is true or false, the claim of its name."""
    named = {(field, True): Asked(f"claims/{field.replace('_', '-')}")} if field in YES_OR_NO else {}
    return (named | ASKED)[field, choice]


YES_OR_NO = {name for name, kind in get_type_hints(MemorySpec).items() if kind is bool}
PROMISING = [key for key in choices() if key not in DESCRIBES]


def test_every_choice_has_a_check_that_asks_about_it() -> None:
    """A new field, or a new choice of one, enters the table with its check."""
    unasked = [key for key in choices() if key not in ASKED and key not in DESCRIBES and key[0] not in YES_OR_NO]
    assert unasked == []
    assert set(ASKED) - set(choices()) == set()


EVERY = 4
"""One choice in so many is asked about by default, the others in CI."""


@functools.cache
def cards(in_ci: bool) -> dict[str, Record]:
    """The memories of these choices, or of the others, each asked the checks of its choices."""
    plan: dict[str, list[str]] = {}
    for field, choice in (key for n, key in enumerate(PROMISING) if bool(n % EVERY) == in_ci):
        asked = asked_by(field, choice)
        for plug in (asked.plug(), asked.plug(**declared(field, choice))):
            plan.setdefault(plug, []).append(asked.check)
    return run_plan(plan, 1, ["--memspec-no-isolate"])


def outcome(card: Record, check: str) -> dict[str, Any] | str:
    """What a card says of a check, but how long it took, and the memory's name."""
    if check in card.not_asked:
        return f"not asked: {card.not_asked[check].replace(card.name, '')}"
    found = next((c for c in card.checks if c.id == check), None)
    assert found is not None, f"{card.name} has no check {check}: {[c.id for c in card.checks]}"
    stripped = dataclasses.replace(found, seconds=None, failure=None)
    came = found.failure.got if found.failure is not None else ""
    return {**stripped.to_json(), "came": came, "done": found.failure.done if found.failure else ""}


@pytest.mark.parametrize("key", sampled(PROMISING, EVERY), ids=["-".join(map(str, key)) for key in PROMISING])
def test_a_choice_is_asked_about(key: tuple[str, Any]) -> None:
    """With it declared, the check named in the table is asked, or judges otherwise, or says why it cannot be."""
    asked = asked_by(*key)
    found = cards(PROMISING.index(key) % EVERY > 0)
    without, said = (outcome(found[plug], asked.check) for plug in (asked.plug(), asked.plug(**declared(*key))))
    assert said != without
    assert isinstance(said, dict) or isinstance(without, dict), "asked neither with nor without it"


def test_a_driven_memory_is_asked_what_a_native_one_is() -> None:
    checks = ["claims/exact/batch", "capacity/error/n8", "claims/permutation"]
    asked = Asked("", beside=FULL)
    native, driven = asked.plug(), asked.plug(fidelity="driven")
    found = run_plan(dict.fromkeys((native, driven), checks), 1, ["--memspec-no-isolate"])
    for check in checks:
        assert outcome(found[native], check) == outcome(found[driven], check)
