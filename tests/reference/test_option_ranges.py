"""Every option of every reference, at and beyond the edges its constructor declares: generated from the declarations.

What is refused is refused in one form of words; what is allowed builds a memory that stores, answers and stays finite.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch

from memspec import reference
from memspec.fixtures.data import pairs
from memspec.functional import FunctionalMemory
from memspec.options import Choice, Count, Option, Real, Whole, checked, declared, refused
from memspec.reference.memories.linformer import ImplicitMemory
from memspec.training.elastic import ElasticPenalty

NAMES = sorted(reference.__all__)
DIMS = {"key_dim": 6, "value_dim": 6}
BESIDE: dict[tuple[str, str, Any], dict[str, Any]] = {
    ("LinearAttentionMemory", "feature_map", "identity"): {"normalise": False},
    ("ProductKeyMemory", "codebook", 1): {"top": 1},
}
"""What must be given beside a value, by the rules between options (:data:`TOGETHER`)."""
FAR_OUT = {("MbPAMemory", "lr", 1000.0), ("MbPAMemory", "beta", 1000.0)}
"""Values that lie in their own range and are refused beside the defaults."""
TOGETHER: list[tuple[str, dict[str, Any], str]] = [
    ("HierarchicalMemory", {"sizes": ()}, r"sizes is \(\); it must be one or more integers of at least 1"),
    ("HierarchicalMemory", {"sizes": (4, 0)}, r"sizes is \(4, 0\); it must be one or more"),
    ("HierarchicalMemory", {"level_bias": (1.0,)}, r"level_bias is \(1.0,\); it must be one number for each of"),
    ("HopfieldMemory", {"value_dim": 5}, r"value_dim is 5; it must be key_dim = 6"),
    ("LinearAttentionMemory", {"feature_map": "identity"}, "normalise is True; it must be False with feature_map"),
    ("MbPAMemory", {"lr": 1.9, "beta": 0.1}, r"lr is 1.9; it must be below 2 / \(1 \+ beta\) = 1.81818"),
    ("ProductKeyMemory", {"query_dim": 3}, "query_dim is 3; it must be even"),
    ("ElasticWeightConsolidation", {"memory": functools.partial(reference.TitansMemory, theta=0.0)}, "step is 0.0; it"),
    ("TTTMemory", {"mode": "full", "value_dim": 5}, "value_dim is 5; it must be key_dim = 6 in mode 'full'"),
]
"""What the rules between options refuse."""


def options() -> list[tuple[str, str, Option]]:
    return [(name, o, option) for name in NAMES for o, option in _of(name).items()]


@functools.cache
def _of(name: str) -> dict[str, Option]:
    return {o: option for o, option in declared(getattr(reference, name)).items() if o not in DIMS}


def known(name: str) -> dict[str, Any]:
    """The values that bounds may name: widths, and defaults of the others."""
    return DIMS | {o: option.default for o, option in _of(name).items()}


def bound(given: Any, beside: dict[str, Any]) -> Any:
    return beside[given] if isinstance(given, str) else given


def inside(option: Option, beside: dict[str, Any]) -> list[Any]:
    """Values at, or just within, every edge; far out where there is none."""
    kind = option.kind
    nothing = [None] if option.nothing else []
    if isinstance(kind, Choice):
        return [*kind.values, *nothing]
    least, most = bound(kind.least, beside), bound(kind.most, beside)
    if isinstance(kind, Whole):
        assert least is not None, "an integer without a least value"
        return [least, np.int64(least), most if most is not None else least + 40, *nothing]
    low = least if least is not None else kind.above + 1e-6 if kind.above is not None else -1e3
    high = most if most is not None else kind.below - 1e-6 if kind.below is not None else 1e3
    return [low, high, np.float32(0.9 * low + 0.1 * min(high, 1.0)), *nothing]


def outside(option: Option, beside: dict[str, Any]) -> list[Any]:
    """Values on and beyond every edge that excludes them, and of no fitting kind."""
    kind = option.kind
    wrong: list[Any] = [] if option.nothing else [None]
    if isinstance(kind, Choice):
        return [*wrong, "no such", 3, [*kind.values]]
    wrong += ["1", True, [1], math.nan, math.inf, -math.inf, torch.tensor(1.0)]
    least, most = bound(kind.least, beside), bound(kind.most, beside)
    if isinstance(kind, Whole):
        wrong += [] if least is None else [least - 1, least - 100, least + 0.5, float(least)]
        return wrong + ([] if most is None else [most + 1])
    wrong += [] if least is None else [math.nextafter(least, -math.inf), least - 1]
    wrong += [] if most is None else [math.nextafter(most, math.inf), most + 1]
    wrong += [] if kind.above is None else [kind.above, kind.above - 1]
    return wrong + ([] if kind.below is None else [kind.below, kind.below + 1])


def cases(values: Any) -> list[Any]:
    return [
        pytest.param(name, o, value, id=f"{name}-{o}-{value!r}".replace("\n", ""))
        for name, o, option in options()
        for value in values(option, known(name))
    ]


@pytest.mark.parametrize(("name", "option", "value"), cases(outside))
def test_what_lies_outside_is_refused(name: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: {option} is (?s:.*); it must be "):
        getattr(reference, name)(**DIMS, **{option: value})


@pytest.mark.parametrize(("name", "option", "value"), cases(inside))
def test_what_lies_inside_works(name: str, option: str, value: Any) -> None:
    """At the edges of its range an option builds a memory whose answers are finite, in the order given or not."""
    if value == "faiss":
        pytest.importorskip("faiss")
    torch.manual_seed(0)
    beside = BESIDE.get((name, option, value), {})
    if (name, option, value) in FAR_OUT:
        with pytest.raises(ValueError, match=f"^{name}: "):
            getattr(reference, name)(**DIMS, **{option: value})
        return
    memory = getattr(reference, name)(**DIMS, **{option: value}, **beside)
    assert isinstance(memory, FunctionalMemory)
    spec, g = memory.spec, torch.Generator().manual_seed(0)
    keys, values = pairs.pairs(spec.key_domain, spec.value_domain, 8, 6, 6, g, spec.association)
    for _ in range(2):
        memory.update(keys, values)
    assert torch.isfinite(memory.query(keys)).all()


@pytest.mark.parametrize(("name", "given", "words"), TOGETHER, ids=[f"{n}-{'-'.join(o)}" for n, o, _ in TOGETHER])
def test_rules_between_options(name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: {words}"):
        getattr(reference, name)(**DIMS | given)


@pytest.mark.parametrize("name", NAMES)
def test_every_constructor_is_checked(name: str) -> None:
    """By its own declaration, with a range for every number; widths are refused below 1 everywhere."""
    for option in _of(name).values():
        assert not (isinstance(option.kind, Whole) and option.kind.least is None)
    for width in DIMS:
        for wrong in (0, -1, 2.0, True, "6", None):
            with pytest.raises(ValueError, match=f"^{name}: {width} is {wrong!r}; it must be an integer"):
                getattr(reference, name)(**DIMS | {width: wrong})


@pytest.mark.parametrize("option", ["strength", "merge", "decay"])
def test_penalties_on_any_module_are_checked_alike(option: str) -> None:
    for wrong in outside(declared(ElasticPenalty)[option], {}):
        with pytest.raises(ValueError, match=rf"^ElasticPenalty: {option} is "):
            ElasticPenalty(torch.nn.Linear(2, 2), **{option: wrong})


@pytest.mark.parametrize("option", sorted(declared(ImplicitMemory)))
def test_layers_are_checked_alike(option: str) -> None:
    for wrong in outside(declared(ImplicitMemory)[option], {}):
        with pytest.raises(ValueError, match=rf"^ImplicitMemory: {option} is "):
            ImplicitMemory(**{"width": 4, option: wrong})


# ---- the declarations themselves ------------------------------------------------------------------------------


@checked
def built(count: Count, share: float = 0.5, *, most: int = 3, top: Count | None = None) -> tuple[Any, ...]:
    return count, share, most, top


def test_options_are_checked_by_place_and_by_name() -> None:
    assert built(2, 0.25, most=4) == (2, 0.25, 4, None)
    for call in (lambda: built(0), lambda: built(count=0)):
        with pytest.raises(ValueError, match=r"^built: count is 0; it must be an integer of at least 1$"):
            call()
    with pytest.raises(ValueError, match=r"^built: top is 0; it must be an integer of at least 1, or None$"):
        built(1, top=0)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'count'"):
        built()  # type: ignore[call-arg]


def test_numbers_of_numpy_become_plain_ones() -> None:
    count, share, *_ = built(np.int32(2), np.float32(0.25))
    assert (type(count), type(share)) == (int, float)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Real(), "a finite number"),
        (Real(above=0), "a finite number above 0"),
        (Real(least=0, below=1), "a number of at least 0 and below 1"),
        (Real(above=0, most="top"), "a number above 0 and at most top = 4"),
        (Whole(), "an integer"),
        (Whole(0, "top"), "an integer of at least 0 and at most top = 4"),
        (Choice(("a", "b", "c")), "'a', 'b' or 'c'"),
    ],
    ids=str,
)
def test_a_range_is_said_in_words(kind: Real | Whole | Choice, words: str) -> None:
    assert kind.describe({"top": 4}) == words


def test_a_bound_may_be_another_option() -> None:
    assert Whole(1, "top").accepts(4, {"top": 4})
    assert not Whole(1, "top").accepts(5, {"top": 4})
    assert Whole(1, "top").accepts(5, {"top": None})  # refused itself, or no bound
    assert not Real(above=0, below="top").accepts(4.0, {"top": 4})


def test_the_reason_and_a_long_value_are_told_briefly() -> None:
    message = str(refused("Some", "rows", list(range(1000)), "few", "they are slow"))
    assert message == "Some: rows is [0, 1, 2, 3, 4, 5, ...]; it must be few (they are slow)"


def test_a_subclass_and_its_base_are_both_checked() -> None:
    class Wider(reference.DeltaMemory):
        @checked
        def __init__(self, key_dim: int, value_dim: int, width: Count = 1, **rest: Any) -> None:
            super().__init__(key_dim, value_dim, **rest)

    assert Wider(4, 4, beta=0.5).beta == 0.5
    for wrong in ({"width": 0}, {"beta": 2.0}, {"form": "scan"}):
        with pytest.raises(ValueError, match=f"^Wider: {next(iter(wrong))} is "):
            Wider(4, 4, **wrong)
