"""The machinery of laws: counterexamples are small, and their programs repeat them; good plain memories are spared."""

from __future__ import annotations

import inspect
import pickle
import re
import warnings
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis.errors import FlakyFailure
from torch import Tensor

import memspec
from memspec.errors import CannotMeasure, LawBroken, NotAsked, SaidByMemory
from memspec.fixtures.mutants import all_mutants
from memspec.fixtures.plain import PlainLRU, PlainModule, PlainStore, PlainSums
from memspec.laws import stateful
from memspec.laws.case import Size
from memspec.laws.compare import graph_nodes
from memspec.laws.driven import Driven
from memspec.laws.law import Law, MemspecAdvice, advise
from memspec.laws.recorded import Recorded
from memspec.laws.transcript import Transcript, expression
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.randomness import generator_states, set_generator_states
from memspec.suites import (
    test_capabilities,
    test_claims,
    test_erasure,
    test_formats,
    test_inputs,
    test_laws,
    test_liveness,
    test_lives,
    test_modes,
    test_persistence,
)

laws = test_laws.TestLaws()
claims = test_claims.TestClaims()
inputs = test_inputs.TestInputs()
persistence = test_persistence.TestPersistence()
capabilities = test_capabilities.TestCapabilities()
liveness = test_liveness.TestLiveness()
erasure = test_erasure.TestErasure()
formats = test_formats.TestFormats()
lives = test_lives.TestLives()
modes = test_modes.TestModes()
SUITES = (laws, claims, inputs, persistence, capabilities, erasure, liveness, formats, lives, modes)


def plug_of(factory: Callable[..., Any]) -> Plug:
    return Plug(f"{factory.__module__}:{getattr(factory, '__qualname__', 'made')}", factory)


def law_of(plug: Plug | str | Callable[..., Any], rule: str = "a rule") -> Law:
    if isinstance(plug, str):
        plug = load_plug(plug)
    return Law(plug if isinstance(plug, Plug) else plug_of(plug), rule)


@pytest.mark.parametrize("name", ["PlainRandom", "PlainHalves"])
def test_a_row_may_be_lost_to_its_own_showings(name: str) -> None:
    """Where every showing takes a place, twenty of eight rows may leave some of them out."""
    liveness.test_every_row(law_of(f"memspec.fixtures.plain:{name}"))


def test_the_cause_of_a_dropped_row_is_told_from_its_own_calls() -> None:
    class LastOfEight(PlainSums):
        def learn(self, keys: Tensor, values: Tensor) -> None:
            super().learn(keys[: len(keys) // 8 * 8 or None], values[: len(keys) // 8 * 8 or None])

    class Never(PlainStore):
        def put(self, key: Tensor, value: Tensor) -> None:
            if len(self.pairs) < 7:
                super().put(key, value)

    for factory, cause in ((LastOfEight, "the remainder of a chunk"), (Never, "in calls of its own too")):
        with pytest.raises(LawBroken, match=cause):
            liveness.test_every_row(law_of(factory))


def test_layout_is_not_blamed_for_what_rounding_does() -> None:
    class Grows(PlainSums):
        """Recursive least squares that forgets, without anything that keeps its covariance symmetric."""

        def reset(self) -> None:
            super().reset()
            self.covariance = 1e3 * torch.eye(self.key_dim)

        def learn(self, keys: Tensor, values: Tensor) -> None:
            for key, value in zip(keys, values):
                seen = self.covariance @ key
                gain = seen / (0.95 + key @ seen)
                self.matrix = self.matrix + torch.outer(gain, value - key @ self.matrix)
                self.covariance = (self.covariance - torch.outer(gain, seen)) / 0.95

    with pytest.raises(LawBroken, match="the recursion is unstable"):
        laws.test_strided(law_of(Grows))


def test_no_law_names_a_cause_where_answers_are_not_repeatable_anyway() -> None:
    """Memories that are built and written alike differ: only the laws on that say why."""
    number = iter(range(1000))

    class Drifts(PlainSums):
        """As an index whose threads build it in another order each time."""

        def __init__(self, key_dim: int, value_dim: int) -> None:
            super().__init__(key_dim, value_dim)
            self.drift = 0.1 * next(number)

        def query(self, keys: Tensor) -> Tensor:
            return super().query(keys) + self.drift

    for check in (laws.test_strided, laws.test_same_seed):
        with pytest.raises(LawBroken) as broken:
            check(law_of(Drifts))
        own = check == laws.test_same_seed
        assert broken.value.failure.cause.startswith("randomness from outside" if own else "answers are not repeatable")
        assert own or "laws/same-seed" in broken.value.failure.cause
        assert "unrepeatable" not in broken.value.failure.repeat


def test_numbers_in_a_state_dict_are_saved_as_tensors_are() -> None:
    """And what torch.load refuses is named."""

    class Counts(PlainLRU):
        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"held": len(self.pairs), "names": ("keys", "values")}

    class Objects(PlainLRU):
        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"spec": self.spec}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        persistence.test_saved_file(law_of(Counts))
    with pytest.warns(MemspecAdvice, match=r"may refuse spec \(MemorySpec\)"):
        persistence.test_saved_file(law_of(Objects))


def every_law() -> list[Any]:
    """Every law of the suites, with each of its parameters."""
    out = []
    for suite in SUITES:
        for name, function in inspect.getmembers(suite, inspect.ismethod):
            if not name.startswith("test_"):
                continue
            marks = [m for m in getattr(function, "pytestmark", []) if m.name == "parametrize"]
            cases: list[dict[str, Any]] = [{}]
            for mark in marks:
                cases = [case | {mark.args[0]: value} for case in cases for value in mark.args[1]]
            for case in cases:
                out.append(pytest.param(function, case, id="-".join([name, *map(str, case.values())])))
    return out


# ---- snippets -------------------------------------------------------------------------------------------------

BROKEN = [
    ("laws:SqueezesSingleQuery", laws.test_shape, {}),
    ("laws:LearnsOnQuery", laws.test_query_repeats, {}),
    ("laws:CountsQueries", laws.test_query_leaves_state, {}),
    ("laws:DrawsOnQuery", laws.test_query_leaves_generators, {}),
    ("laws:KeepsCallersTensors", laws.test_caller_reuses_tensors, {}),
    ("laws:AnswersWithItsBuffer", laws.test_caller_changes_answers, {}),
    ("laws:SharesItsState", laws.test_instances_independent, {}),
    ("laws:DividesByTheNorm", laws.test_finite, {"kind": "zero-keys"}),
    ("laws:RunsPastTheEnd", laws.test_overfilling, {"form": "rows"}),
    ("laws:KeepsTheGraph", laws.test_no_graph_kept, {}),
    ("laws:NeedsTheCallersGrad", laws.test_no_grad, {}),
    ("liveness:BroadcastsWrites", liveness.test_distinct_writes, {}),
    ("liveness:HasADeadLayer", liveness.test_parameters, {}),
    ("liveness:AlwaysUnsure", liveness.test_statistic_moves, {"statistic": "confidence"}),
    ("claims:CorrectsSimultaneously", claims.test_split, {}),
    ("claims:KeepsTheFirstValue", claims.test_overwrite, {}),
    ("claims:DropsTheNewest", claims.test_eviction, {}),
    ("claims:GrowsWithEveryBatch", claims.test_constant_state, {}),
    ("claims:HasNoGradientAtZero", claims.test_differentiable, {"what": "query"}),
    ("claims:StepsInInferenceMode", claims.test_inference_mode, {}),
    ("inputs:ZipsRows", inputs.test_update_refuses, {"kind": "one-key"}),
    ("inputs:RefusesTooLate", inputs.test_nonfinite_update, {"kind": "nan", "what": "keys"}),
    ("persistence:SavesPrivateTensors", persistence.test_saved_file, {}),
    ("persistence:PicklesEmpty", persistence.test_copies, {"way": "pickle"}),
    ("capabilities:MasksAfterTheLog", capabilities.test_auxiliary_loss, {}),
    ("capabilities:WritesInPlace", capabilities.test_functional_is_pure, {}),
    ("capabilities:SumsOverTheBatch", capabilities.test_batch_is_isolated, {}),
    ("stateful:KeepsTheHead", stateful.run, {}),
]


@pytest.mark.parametrize(("name", "check", "arguments"), BROKEN, ids=[b[0].partition(":")[2] for b in BROKEN])
def test_programs_repeat_the_failure(
    name: str, check: Callable[..., None], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program in a message, run by itself, ends in the same exception, with the same numbers in every name."""
    repeats(law_of("memspec.fixtures.mutants." + name), check, arguments, monkeypatch)


QUICKLY_TOLD = ("TakesNearForSame", "LearnsOnQuery")
"""Two of those whose histories are searched and shrunk; the others take many times as long."""


def killed() -> list[Any]:
    """Every mutant with each law that it must break."""
    asked = [*every_law(), pytest.param(stateful.run, {}, id="test_any_sequence")]
    out = []
    for name, mutant in sorted(all_mutants().items()):
        for function, arguments in (param.values for param in asked):
            axis = function.__module__.rpartition(".")[2].removeprefix("test_")
            check = "any-sequence" if axis == "stateful" else function.__name__.removeprefix("test_").replace("_", "-")
            ids = "/".join(part for part in (axis, check, "-".join(map(str, arguments.values()))) if part)
            if any(fnmatch(ids, pattern) for pattern in mutant.killed_by):
                long = [pytest.mark.ci] if axis == "stateful" and name not in QUICKLY_TOLD else []
                out.append(pytest.param(mutant.plug, function, arguments, id=f"{name}-{ids}", marks=long))
    return out


@pytest.mark.parametrize(("name", "check", "arguments"), killed())
def test_programs_of_every_mutant(
    name: str, check: Callable[..., None], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do those of every mutant, for every law that it must break."""
    repeats(law_of(name), check, arguments, monkeypatch)


COUNTS = (":StartsFromACounter", ":SharesItsState")
"""They keep something for all instances of a process, so that no two runs in one see the same numbers."""


def repeats(law: Law, check: Callable[..., None], arguments: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    """The law is broken; then by its program too, in the same way."""
    names: dict[str, dict[str, Any]] = {}  # by program: a law may look further before it fails
    broken_by = Recorded.broken

    def broken(self: Recorded, *args: Any, **kwargs: Any) -> LawBroken:
        error = broken_by(self, *args, **kwargs)
        names[error.failure.repeat] = dict(self.script.names)
        return error

    patch.setattr(Recorded, "broken", broken)
    with pytest.raises(LawBroken) as failure:
        check(law, **arguments)
    scope: dict[str, Any] = {}
    before = generator_states()
    with pytest.raises(BaseException) as repeated:
        exec(failure.value.failure.repeat, scope)
    set_generator_states(before)
    cause = failure.value.__cause__
    if isinstance(cause, SaidByMemory):
        cause = cause.__cause__
    if cause is None or isinstance(cause, (LawBroken, FlakyFailure)):
        assert isinstance(repeated.value, AssertionError), failure.value.failure.repeat
    else:
        assert (type(repeated.value), str(repeated.value)) == (type(cause), str(cause))
    if law.plug.name.endswith(COUNTS):
        return
    for name, thing in names[failure.value.failure.repeat].items():
        if isinstance(thing, Tensor) and not re.fullmatch(r"x\d+|k|v", name):
            assert torch.equal(scope[name].nan_to_num(7), thing.nan_to_num(7)), name


def test_message_says_everything() -> None:
    """Rule, smallest case, what came, what should have, the likeliest cause, and the program."""
    law = law_of("memspec.fixtures.mutants.laws:LearnsOnQuery", "Asking changes   nothing.")
    with pytest.raises(LawBroken) as broken:
        laws.test_query_repeats(law)
    text = str(broken.value)
    for part in ("law: largest difference", "rule:     Asking changes nothing.", "done:     1 pair, key_dim 6"):
        assert part in text
    for part in ("expected: the same answers", "likely:   query writes", "memspec.load_plug('memspec.fixtures"):
        assert part in text


def test_failure_has_its_parts() -> None:
    """What the message is made of can be read without it, and survives a process boundary."""
    law = law_of("memspec.fixtures.mutants.laws:LearnsOnQuery", "Asking changes nothing.")
    with pytest.raises(LawBroken) as broken:
        laws.test_query_repeats(law)
    failure, again = broken.value.failure, pickle.loads(pickle.dumps(broken.value)).failure
    assert failure.rule == "Asking changes nothing."
    assert failure.expected.startswith("the same answers")
    assert failure.cause.startswith("query writes")
    assert again == failure
    assert str(again) == str(broken.value)


def test_sizes_of_a_case() -> None:
    """A case is drawn at its own widths, capacity, scale, offset and dtype, and its program draws the same."""
    small, large = law_of(PlainSums).cases(Size(3, 1, 33, 2, scale=100.0, offset=7.0, dtype=torch.float64), 1)
    assert (small.n, small.shape.key_dim, large.shape.key_dim, large.shape.value_dim) == (1, 6, 1, 33)
    assert (large.shape.capacity, large.keys.dtype) == (2, torch.float64)
    plain = next(law_of(PlainSums).cases(Size(3, 1, 33, 2)))
    assert torch.equal(large.values, (plain.values * 100.0 + 7.0).double())
    scope: dict[str, Any] = {}
    exec(large.script.render(), scope)
    assert torch.equal(scope["probe"], large.probe)


def test_smallest_case_comes_first() -> None:
    """Sizes are tried in ascending order, so a law that is broken at 3 and at 7 shows 3."""
    assert [case.n for case in law_of(PlainSums).cases(7, 1, 3)] == [1, 3, 7]


def test_data_depends_on_check_and_seed_alone() -> None:
    """Two memories see the same data; another suite seed gives other data."""
    plugs = plug_of(PlainSums), plug_of(PlainStore)
    first, second = (next(Law(plug, "r", "laws/x", 3).cases(4)) for plug in plugs)
    other = next(Law(plugs[0], "r", "laws/x", 4).cases(4))
    assert torch.equal(first.keys, second.keys)
    assert not torch.equal(first.keys, other.keys)


def test_exceptions_of_the_memory_break_the_law() -> None:
    """A crash inside a memory's method is a counterexample with a program, not a crash of the suite."""

    class Crashes(PlainSums):
        def learn(self, keys: Tensor, values: Tensor) -> None:
            if len(keys) > 1:  # one pair is stored as it is loaded
                raise ZeroDivisionError("oh")

    case = next(law_of(Crashes).cases(2))
    with pytest.raises(LawBroken, match=r"update.* raised ZeroDivisionError: oh"):
        case.stored()


# ---- spared ---------------------------------------------------------------------------------------------------


class Minimal:
    """Three methods, no base class, no declarations, state in a dict of lists; refuses what does not fit."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.key_dim, self.value_dim = key_dim, value_dim
        self.reset()

    def reset(self) -> None:
        self.held: dict[str, list[Any]] = {"keys": [], "values": []}

    def update(self, keys: Tensor, values: Tensor) -> None:
        if keys.shape != (len(values), self.key_dim) or values.shape != (len(keys), self.value_dim):
            raise ValueError("shapes")
        self.held["keys"].extend(keys.detach().numpy().copy())
        self.held["values"].extend(values.detach().numpy().copy())

    def query(self, keys: Tensor) -> Tensor:
        if keys.ndim != 2 or keys.shape[1] != self.key_dim:
            raise ValueError("shapes")
        if not self.held["keys"]:
            return torch.zeros(len(keys), self.value_dim)
        gaps = np.abs(keys.detach().numpy()[:, None] - np.stack(self.held["keys"])[None]).sum(-1)
        return torch.from_numpy(np.stack(self.held["values"])[gaps.argmin(-1)])


class Uncopyable(Minimal):
    """Holds something that neither deepcopy nor pickle takes."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.stream = (number for number in range(3))


class Writer:
    """Other names, and no reset."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.inner = Minimal(key_dim, value_dim)

    def add(self, keys: Tensor, values: Tensor) -> None:
        self.inner.update(keys, values)

    def search(self, keys: Tensor) -> tuple[Tensor, float]:
        return self.inner.query(keys), 1.0


ADAPTED = memspec.adapt(Writer, update="add", query="search")
SPARED = {"minimal": Minimal, "uncopyable": Uncopyable, "adapted": ADAPTED}


@pytest.mark.parametrize("factory", SPARED.values(), ids=SPARED)
@pytest.mark.parametrize(("check", "arguments"), every_law())
@pytest.mark.filterwarnings("ignore::memspec.laws.law.MemspecAdvice")
def test_plain_objects_are_spared(
    check: Callable[..., None], arguments: dict[str, Any], factory: Callable[..., Any]
) -> None:
    """A good object with nothing but the three methods, or an adapted one, breaks no law."""
    try:
        check(law_of(factory), **arguments)
    except (NotAsked, CannotMeasure):
        pass


@pytest.mark.parametrize(
    "factory", [pytest.param(f, id=n, marks=[pytest.mark.ci] * (n == "adapted")) for n, f in SPARED.items()]
)
def test_plain_objects_are_spared_any_sequence(factory: Callable[..., Any]) -> None:
    """Nor any sequence of calls."""
    stateful.run(law_of(factory))


def test_answers_of_one_expanded_row_can_be_changed() -> None:
    """An answer whose rows all are one buffer is overwritten too, and so shows what it shares with the memory."""

    class AnswersWithOneRow(PlainSums):
        row = torch.zeros(5)

        def recall(self, keys: Tensor) -> Tensor:
            return self.row.expand(len(keys), -1)

    with pytest.raises(LawBroken, match="instead of 0"):
        laws.test_caller_changes_answers(law_of(AnswersWithOneRow))


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_uncopyable_objects_get_advice(way: str) -> None:
    """Copying is not part of the protocol: an object that cannot be copied is told so, and passes."""
    with pytest.warns(MemspecAdvice, match=f"cannot be copied by {way}"):
        persistence.test_copies(law_of(Uncopyable), way)


class Handled(PlainModule):
    """A module with a state dict, and an attribute that neither deepcopy nor pickle takes."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.stream = (number for number in range(3))


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_module_that_is_saved_by_its_state_dict_alone_gets_advice(way: str) -> None:
    with pytest.warns(MemspecAdvice, match=f"cannot be copied by {way}.*; its state_dict works"):
        persistence.test_copies(law_of(Handled), way)
    persistence.test_state_dict(law_of(Handled), "used")


def test_advice_is_never_an_error() -> None:
    """Even where a run turns warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with warnings.catch_warnings(record=True) as seen:
            advise(plug_of(PlainSums), "do this")
    assert [str(w.message) for w in seen] == [f"{PlainSums.__module__}:PlainSums: do this"]


def test_loose_examples_still_pass() -> None:
    """More, longer and new runs find nothing in a good memory."""
    stateful.run(law_of("memspec.reference:DeltaMemory"), examples=20)


# ---- parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(2, 3), "torch.full((2, 3), 0.0)"),
        (torch.tensor([[4.0, 5.0]]), "k[1:2]"),
        (torch.tensor([[4.0, 5.0], [0.5, 1.5]]), "k[[1, 0]]"),
        (torch.tensor([[0.5, 1.5], [4.0, 5.0]]), "k.clone()"),
        (torch.tensor([[0.1, float("nan")]]), 'torch.tensor([[0.1, float("nan")]])'),
        (torch.zeros(0, 3), "torch.zeros((0, 3))"),
    ],
)
def test_expression(tensor: Tensor, said: str) -> None:
    """A tensor is written as what it is in terms of a known one, or as numbers that give its very bits."""
    known = [("k", torch.tensor([[0.5, 1.5], [4.0, 5.0]]))]
    assert expression(tensor, known) == said
    again = eval(said, {"torch": torch, "k": known[0][1]})
    assert torch.equal(again.nan_to_num(7), tensor.nan_to_num(7))


def test_long_numbers_survive() -> None:
    """Random float32 numbers, written out, are the same bits again."""
    numbers = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)) * 1e-3
    assert torch.equal(eval(expression(numbers, []), {"torch": torch}), numbers)


def test_transcript_defines_what_was_there_at_the_time() -> None:
    """A tensor that the caller changes later is written as it was when it was used."""
    script = Transcript()
    tensor = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]])
    script.let("used", script.fill("{}.clone()", (tensor,)))
    tensor.fill_(0.0)
    scope: dict[str, Any] = {}
    exec(script.render(), scope)
    assert scope["used"].tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]


def test_names_mean_what_they_meant_last() -> None:
    """What had a name that another thing took is written by what it holds, not by that name."""
    script = Transcript()
    first = script.let("a", "torch.arange(3.0)")
    script.let("a", "torch.ones(3)")
    assert script.fill("{}.sum()", (first,)) == "x1.sum()"


def test_graph_nodes() -> None:
    """Counts every node of the graph once."""
    leaf = torch.ones(2, requires_grad=True)
    total = leaf * 2
    few = graph_nodes([total])
    for _ in range(5):
        total = total + 1
    assert (few, graph_nodes([total, total])) == (2, 7)
    assert graph_nodes([leaf.detach()]) == 0


def test_answers_are_copies() -> None:
    """A memory that answers with the same tensor each time cannot make two answers look equal."""

    class Reuses(PlainSums):
        out = torch.zeros(1, 5)

        def recall(self, keys: Tensor) -> Tensor:
            self.out += 1
            return self.out

    case = next(law_of(Reuses).cases(1))
    memory: Driven = case.build()
    first, second = memory.query(case.keys), memory.query(case.keys)
    assert not torch.equal(first, second)


class Buckets:
    """Sound: keys that fall in one bucket share a slot, and those of one call leave their mean there."""

    planes = 5
    seed = 0

    def __init__(self, key_dim: int, value_dim: int) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.normals, self.value_dim = torch.randn(key_dim, self.planes, generator=generator), value_dim
        self.reset()

    def reset(self) -> None:
        self.table = torch.zeros(2**self.planes, self.value_dim)

    def bucket(self, keys: Tensor) -> Tensor:
        return ((keys @ self.normals > 0).long() * 2 ** torch.arange(self.planes)).sum(-1)

    def update(self, keys: Tensor, values: Tensor) -> None:
        table, where = self.table.clone(), self.bucket(keys)
        for bucket in where.unique():
            table[bucket] = values[where == bucket].mean(0)
        self.table = table

    def query(self, keys: Tensor) -> Tensor:
        return self.table[self.bucket(keys)]


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_share_nothing_by_chance_are_no_case_of_their_own(seed: int) -> None:
    """Whether one call equals its rows depends on the keys here, never on their number."""
    factory = type("Seeded", (Buckets,), {"seed": seed})
    plug = Plug(f"buckets {seed}", factory)
    test_laws.TestLaws().test_any_number(Law(plug, "a rule", "laws/any-number", 0, False))
