"""Optional capabilities keep their own contracts; each is asked only of memories that have it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, NotAsked
from memspec.laws.case import Case
from memspec.laws.compare import FLOAT
from memspec.laws.driven import Driven
from memspec.laws.ladder import Ladder
from memspec.laws.law import Law
from memspec.plugs.population import initial_states
from memspec.protocol import methods_of
from memspec.randomness import generator_states, moved_generators

OF_KEYS = ("confidence", "read_weights")
"""Statistics of keys that are asked."""
READS = ["confidence", "read_weights", "slot_values", "slot_usage", "auxiliary_loss"]


class TestCapabilities:
    """Optional capabilities keep their own contracts; each is asked only of memories that have it."""

    pytestmark = pytest.mark.law

    # ---- statistics -----------------------------------------------------------------------------------------------

    def test_confidence(self, law: Law) -> None:
        """`confidence` gives one number in [0, 1] for each key, and 0 while nothing is stored."""
        law.plug.needs("Confident")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            sure = memory.call("confidence", case.probe)
            _shaped(case, sure, (len(case.probe),), "confidence")
            case.check(
                "(({0} >= 0) & ({0} <= 1)).all()",
                sure,
                got=f"numbers from {_least(sure)} to {_most(sure)}",
                expected="numbers in [0, 1]",
                cause="a raw similarity (cosines go down to -1), or NaN from a division",
            )
            if case.n == 0:
                case.same(
                    sure, torch.zeros_like(sure), cause="an empty memory is sure of its blank slots", expected="zeros"
                )

    def test_read_weights(self, law: Law) -> None:
        """`read_weights` are not negative, and sum to at most 1 for each key."""
        law.plug.needs("Addressable")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            weights = memory.call("read_weights", case.probe)
            slots = memory.call("slot_values")
            _shaped(case, slots, (slots.shape[0], case.shape.value_dim), "slot_values")
            _shaped(case, weights, (len(case.probe), slots.shape[0]), "read_weights")
            case.check(
                "({0} >= 0).all() and ({0}.sum(-1) <= {1}).all()",
                *(weights, 1 + FLOAT),
                got=f"weights down to {_least(weights)}, sums up to {_most(weights.sum(-1))}",
                expected="weights of at least 0 that sum to at most 1",
                cause="logits instead of weights, or a softmax over the wrong axis",
            )

    def test_read_is_weighted(self, law: Law) -> None:
        """`query` is what the weights say: read_weights(keys) @ slot_values()."""
        law.plug.needs("Addressable")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            weights, slots = memory.call("read_weights", case.probe), memory.call("slot_values")
            mixed = case.let("mixed", "{} @ {}", weights, slots)
            case.close(
                memory.answers(),
                mixed,
                cause="the weights reported are not those used to read (another temperature, another mask)",
                expected="query equal to the weighted slots",
            )

    def test_slot_usage(self, law: Law) -> None:
        """`slot_usage` is not negative, 0 for every slot of a fresh memory, and above 0 for some slot once pairs are stored."""
        law.plug.needs("Slotted")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            usage = memory.call("slot_usage")
            _shaped(case, usage, (usage.numel(),), "slot_usage")
            case.check(
                "({} >= 0).all()",
                usage,
                got=f"usage down to {_least(usage)}",
                expected="no negative usage",
                cause="a sentinel such as -1, or an age, is reported as usage",
            )
            case.check(
                "({} > 0).any()" if case.n else "not ({} > 0).any()",
                usage,
                got=f"{int((usage > 0).sum())} of {usage.numel()} slots in use after {case.n} pairs",
                expected="some" if case.n else "none",
                cause="usage is a constant, is not reset, or is counted on reading only",
            )

    def test_same_slots(self, law: Law) -> None:
        """`slot_usage`, `slot_values` and `read_weights` speak of the same slots: one number, row and column for each."""
        law.plug.needs("Slotted", "Addressable")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            usage, values = memory.call("slot_usage"), memory.call("slot_values")
            weights = memory.call("read_weights", case.probe)
            case.check(
                "{}.shape[0] == {}.shape[0] == {}.shape[-1]",
                *(usage, values, weights),
                got=f"{len(usage)} numbers of usage, {len(values)} slot values, weights of {weights.shape[-1]} slots",
                expected="as many of each",
                cause="one of them counts slots otherwise (pairs held, rows written, a bound that is off by one)",
            )

    def test_statistics_are_pure(self, law: Law) -> None:
        """Reading statistics and losses changes no answer and draws no random numbers."""
        methods = [name for name in READS if callable(getattr(law.plug.probe, name, None))]
        if not methods:
            raise NotAsked("it offers no statistics")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            before, generators = memory.answers(), case.generators()
            for method in methods:
                _read(case, memory, method)
                case.same(memory.answers(), before, cause=f"{method} writes to the state")
                case.same_generators(generators, cause=f"{method} draws random numbers")

    def test_statistics_are_copies(self, law: Law) -> None:
        """A caller may overwrite a statistic; the memory answers, and shows, the same afterwards."""
        methods = [name for name in READS if name != "auxiliary_loss" and _offers(law, name)]
        if not methods:
            raise NotAsked("it offers no statistics")
        for case in law.cases(1, 5, ladder=Ladder(thin=True, most=33)):
            memory = case.stored()
            before = memory.answers()
            for method in methods:
                shown = _read(case, memory, method)
                live = case.new("live", f"{{}}.{method}({'probe' if method in OF_KEYS else ''})", memory)
                # Row by row, for rows may share their numbers; one number, expanded, torch forbids to write to.
                case.do("with {}.suppress(RuntimeError): [row.fill_(7.0) for row in {}.detach()]", contextlib, live)
                cause = f"{method} gives a view of the state (detach() copies nothing); return a clone"
                case.same(memory.answers(), before, cause=cause)
                case.same(_read(case, memory, method), shown, cause=cause, expected="the statistic as it was")

    # ---- actions --------------------------------------------------------------------------------------------------

    def test_auxiliary_loss(self, law: Law) -> None:
        """`auxiliary_loss` is a finite scalar with finite gradients: for stored pairs, strange ones, and while empty."""
        law.plug.needs("Auxiliary")
        for case in law.cases(0, 1, 5):
            memory = case.stored()
            for keys, values in ((case.keys, case.values), (case.others, case.spare), (case.others, -case.spare)):
                if not len(keys):
                    continue
                leaf = case.let("leaf", "{}.clone().requires_grad_()", keys)
                with case.within("torch.enable_grad()"):
                    loss = case.let("loss", "{}.auxiliary_loss({}, {})", memory, leaf, values)
                _shaped(case, loss, (), "auxiliary_loss")
                case.finite(loss.reshape(1), cause="log of 0, or exp without the maximum taken out")
                _finite_gradients(case, memory, loss, leaf)

    def test_touch(self, law: Law) -> None:
        """`touch` marks keys as used, and leaves every answer as it was."""
        law.plug.needs("Touching")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            before = memory.answers()
            memory.call("touch", case.probe[:3])
            case.same(
                memory.answers(), before, cause="touch writes keys or values, or ages slots that reading depends on"
            )

    def test_forget(self, law: Law) -> None:
        """After `forget` a key's value no longer shows in the answers, in a full and in a wrapped store too; the other pairs of an exact memory stay, also when a key that was never stored is forgotten, and there is room for another."""
        law.plug.needs("Forgetting")
        for case in law.cases(1, 2, 5, **law.distinct(5), ladder=Ladder(thin=True, most=129, distinct=True)):
            # The oldest, or where that may have gone already, the newest.
            place = 0 if case.n <= case.shape.capacity else case.n - 1
            one = slice(place, place + 1)
            values = case.values.clone()
            values[one] = case.changed(values[one], law.spec.value_domain)
            memory, other = case.stored(), case.build()
            other.store(case.keys, values)
            first = memory.query(case.keys[one]), other.query(case.keys[one])
            if torch.equal(*first):
                continue  # it was not kept
            for each in (memory, other):
                each.call("forget", case.keys[one])
            left = memory.query(case.keys[one]), other.query(case.keys[one])
            before, now = ((b - a).norm().item() for a, b in (first, left))
            case.check(
                "({} - {}).norm() < 0.5 * ({} - {}).norm()",
                *(*left, *first),
                got=f"{now / before if before else float('nan'):.2%} of the forgotten value's influence is left",
                expected="less than half of it",
                cause="forget marks the entry but reading still finds it, or it removes another entry",
            )
            if law.spec.exact and (case.n <= case.shape.capacity or law.spec.eviction in ("fifo", "lru")):
                _others_stay(case, memory, place)

    def test_consolidate(self, law: Law) -> None:
        """`consolidate` keeps what is stored, once as twice, empty and full; afterwards the memory learns, is saved, and is reset as ever."""
        law.plug.needs("Consolidating")
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True, most=65)):
            memory, other = case.stored(), case.stored()
            fresh, before = case.build().answers(), memory.answers()
            for each in (memory, other):
                each.call("consolidate")
            after = memory.answers()
            case.finite(after, cause="an importance is divided by a count that is zero, or a square overflows")
            case.check(
                "({} - {}).norm() <= 0.5 * ({} - {}).norm()",
                *(after, before, before, fresh),
                got=f"answers moved by {(after - before).norm():.4g}, where storing had moved them by {(before - fresh).norm():.4g}",
                expected="what is stored, protected; an empty memory as it was",
                cause="consolidate clears what it should keep, or takes a step of its own",
            )
            memory.call("consolidate")
            case.close(
                memory.answers(),
                after,
                cause="what was consolidated is consolidated again, on top of itself",
                expected="the answers after the first of two calls",
            )
            memory, changed = other, case.stored()
            changed.call("consolidate")
            memory.update(case.others, case.spare, times=20)
            changed.update(*case.changed_pairs(case.others, case.spare), times=20)
            case.moved(
                changed.answers(),
                memory.answers(),
                cause="protection is so strong, or the memory so frozen, that nothing is learned any more",
                expected="other answers where other values were written after consolidate()",
            )
            if "Persistent" in law.plug.capabilities:
                again = case.build(seed=1)
                case.do("{}.load_state_dict({})", again, case.let("saved", "{}.state_dict()", memory))
                for each in (memory, again):
                    case.seed(1)
                    each.update(case.others, case.spare)
                case.close(
                    again.answers(),
                    memory.answers(),
                    cause="what consolidate() keeps (importances, anchors, past tasks) is not in the state dict",
                    expected="the answers of the memory that was saved",
                )
            memory.reset()
            case.same(memory.answers(), fresh, cause="reset forgets what is consolidated", expected="fresh answers")
            usual = case.build()
            for each in (memory, usual):
                case.seed(1)
                each.update(case.others, case.spare)
            case.same(
                memory.answers(),
                usual.answers(),
                cause="the protection outlives reset",
                expected="after reset, the learning of a fresh memory",
            )

    def test_after_reset(self, law: Law) -> None:
        """After `reset`, of a full and of a wrapped store too, every statistic and loss is that of a fresh memory."""
        methods = [name for name in READS if _offers(law, name)]
        if not methods:
            raise NotAsked("it offers no statistics")
        for case in law.cases(1, 5, ladder=Ladder(thin=True, most=129)):
            memory = case.stored()
            fresh = case.build()
            memory.reset()
            for method in methods:
                case.same(
                    _read(case, memory, method),
                    _read(case, fresh, method),
                    cause=f"reset leaves what {method} reads: a count, an age, a mask",
                    expected=f"the {method} of a fresh memory",
                )

    # ---- the functional form --------------------------------------------------------------------------------------

    def test_functional_is_stateful(self, law: Law) -> None:
        """`write` and `read` on a state do what `update` and `query` do."""
        law.plug.needs("Functional")
        for case in law.cases(1, 2, 7, ladder=Ladder(thin=True)):
            memory = case.build()
            state = memory.start()
            if not torch.equal(memory.read(state, case.probe), memory.answers()):
                raise CannotMeasure("init_state draws another start than the constructor did")
            for turn, (keys, values) in enumerate(((case.keys, case.values), case.pairs(case.n))):
                case.seed(turn)
                memory.update(keys, values)
                case.seed(turn)
                state = memory.write(state, keys, values)
            case.close(
                memory.answers(),
                memory.read(state, case.probe),
                cause="update or query has a second implementation that has drifted from write or read",
                expected="stateful answers equal to functional ones",
            )

    def test_functional_is_pure(self, law: Law) -> None:
        """`write` and `read` leave the state they are given as it was, so that it can be rolled back to."""
        law.plug.needs("Functional")
        for case in law.cases(1, 5, ladder=Ladder(thin=True)):
            memory = case.build()
            state = memory.write(memory.start(), case.keys, case.values)
            before = case.let("before", "{}.clone()", memory.read(state, case.probe))
            memory.write(state, case.others, case.spare)
            case.same(
                memory.read(state, case.probe),
                before,
                cause="an in-place operation on the state that was given; make a new tensor",
                expected="the answers of the old state as they were",
            )

    def test_batched_equals_looped(self, law: Law) -> None:
        """A batch of memories answers as so many single ones."""
        law.plug.needs("Functional")
        for case in law.cases(1, 2, 7, ladder=Ladder(thin=True, most=65)):
            memory, (keys, values, asked) = case.build(), _three(case)
            batched = _batch(case, memory, keys, values, asked)
            start = "{1}({0}, [t], stack=False)"
            loop = "{0}.read({0}.write(" + start + ", {2}[t], {3}[t]), {4}[t]).detach()"
            stacked = f"torch.stack([{loop} for t in range(3)])"
            single = case.let("single", stacked, memory, initial_states, keys, values, asked)
            case.close(
                batched,
                single,
                cause="a sum or mean over the batch, batch 0's index used for all, or an axis counted from the left",
                expected="the answers of three separate memories",
            )

    def test_two_axes(self, law: Law) -> None:
        """Two leading axes are as many memories as one axis of their product: [2, 3, N, D] answers as [6, N, D]."""
        law.plug.needs("Functional")
        for case in law.cases(1, 5, ladder=Ladder(thin=True, most=33)):
            memory = case.build()
            parts = zip(*(case.pairs(case.n) for _ in range(6)))
            ks, vs = (case.let(name, f"torch.stack(({'{}, ' * 6}))", *six) for name, six in zip(("ks", "vs"), parts))
            starts = []
            for shape in ((2, 3), (6,)):
                case.seed(1)
                starts.append(case.new("s", f"{{}}.init_state({shape})", memory))
            grid = "{0}.read({0}.write({1}, {2}.unflatten(0, (2, 3)), {3}.unflatten(0, (2, 3))), probe.expand(2, 3, -1, -1))"
            fresh = [
                case.new("f", "{}.read({}, probe.expand(2, 3, -1, -1)).detach().flatten(0, 1)", memory, starts[0]),
                case.new("f", "{}.read({}, probe.expand(6, -1, -1)).detach()", memory, starts[1]),
            ]
            if not torch.equal(*fresh):
                raise CannotMeasure("init_state draws other starts for other batches")
            case.suspect = "an axis is counted from the left, or a shape is unpacked as (batch, rows, width)"
            case.seed(2)
            got = case.new("f", grid + ".detach().flatten(0, 1)", memory, starts[0], ks, vs)
            case.seed(2)
            flat = "{0}.read({0}.write({1}, {2}, {3}), probe.expand(6, -1, -1)).detach()"
            want = case.new("f", flat, memory, starts[1], ks, vs)
            case.close(got, want, cause=case.suspect, expected="the answers of one axis of six")

    def test_batch_is_isolated(self, law: Law) -> None:
        """What is written to one memory of a batch never reaches another."""
        law.plug.needs("Functional")
        for case in law.cases(1, 2, 7, ladder=Ladder(thin=True, most=65)):
            memory, (keys, values, asked) = case.build(), _three(case)
            before = _batch(case, memory, keys, values, asked)
            changed = [
                case.let(name, "torch.stack(({0}[0], {1}, {0}[2]))", rows, other)
                for name, rows, other in zip(("ks2", "vs2"), (keys, values), case.changed_pairs(keys[1], values[1]))
            ]
            after = _batch(case, memory, changed[0], changed[1], asked)
            mine, was = case.let("mine", "{}[::2]", after), case.let("was", "{}[::2]", before)
            case.close(
                mine,
                was,
                cause="memories of one batch share a sum, a normalisation, an index or a stopping rule",
                expected="memories 0 and 2 as before, whatever is written to memory 1",
            )


def _offers(law: Law, method: str) -> bool:
    """Whether the plug has the capability that this statistic or loss belongs to."""
    return any(method in methods_of(name) for name in law.plug.capabilities)


def _others_stay(case: Case, memory: Driven, place: int) -> None:
    """The pairs of an exact memory that forgot the one at a place: all of them, also as another comes instead."""
    held = [row for row in range(max(0, case.n - case.shape.capacity), case.n) if row != place]
    memory.call("forget", case.others[:2])
    case.close(
        memory.query(case.keys[held]),
        case.values[held],
        cause="forget removes more than it was asked to",
        expected="the values of the keys that were not forgotten",
    )
    memory.store(case.others[:1], case.spare[:1])
    asked = case.let("asked", "torch.cat(({}, {}))", case.keys[held], case.others[:1])
    case.close(
        memory.query(asked),
        case.let("want", "torch.cat(({}, {}))", case.values[held], case.spare[:1]),
        cause="a forgotten slot is not used again, so that another pair has to go",
        expected="the values of the keys that were left, and of one stored in place of the forgotten one",
    )


def _read(case: Case, memory: Driven, method: str) -> Any:
    arguments = {"slot_values": (), "slot_usage": (), "auxiliary_loss": (case.others, case.spare)}
    return memory.call(method, *arguments.get(method, (case.probe,)))


def _shaped(case: Case, answer: Any, shape: tuple[int, ...], what: str) -> None:
    came = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    case.check(
        f"{{}}.shape == {shape}",
        answer,
        got=f"{what} gave {came}",
        expected=f"a tensor of shape {shape}",
        cause="a missing or extra axis; see memspec.protocol for the shape",
    )


def _least(numbers: Tensor) -> str:
    return f"{numbers.min().item():.4g}" if numbers.numel() else "none"


def _most(numbers: Tensor) -> str:
    return f"{numbers.max().item():.4g}" if numbers.numel() else "none"


def _finite_gradients(case: Case, memory: Driven, loss: Tensor, leaf: Tensor) -> None:
    parameters = list(memory.memory.parameters()) if isinstance(memory.memory, torch.nn.Module) else []
    if not loss.requires_grad and case.n == 0:
        return  # an empty memory has nothing to compare with: a constant is all there is to say
    case.check(
        "loss.requires_grad",
        got="the loss has no graph",
        expected="a loss that can be trained on",
        cause="a detach, argmax or no_grad inside the loss",
    )
    case.let("trained", "[leaf, *{}.parameters()]" if parameters else "[leaf]", *([memory] if parameters else []))
    case.let("trained", "[p for p in trained if p.requires_grad]")
    case.let("gradients", "torch.autograd.grad(loss, trained, allow_unused=True)")
    case.check(
        "all(g.isfinite().all() for g in gradients if g is not None)",
        got=f"the loss is {loss.item():.4g}, but a gradient is NaN or infinite",
        expected="finite gradients",
        cause="rows without a positive are masked after log(0): mask the input with torch.where instead",
    )


def _three(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and queries of three memories, with a leading axis."""
    ks, vs = zip(*(case.pairs(case.n) for _ in range(3)))
    stack = "torch.stack(({}, {}, {}))"
    asked = "torch.cat((ks, others.expand(3, *others.shape)), 1)"
    return case.let("ks", stack, *ks), case.let("vs", stack, *vs), case.let("asked", asked)


def _batch(case: Case, memory: Driven, keys: Tensor, values: Tensor, asked: Tensor) -> Tensor:
    """What three memories, written and read as one batch, answer."""
    before = generator_states()
    written = "{0}.write({1}({0}, [0, 1, 2]), {2}, {3})"
    template = "{0}.read(" + written + ", {4}).detach()"
    answer: Tensor = case.new("f", template, memory, initial_states, keys, values, asked)
    if moved_generators(before, generator_states()):
        raise CannotMeasure("write draws random numbers, which a batch draws in another order")
    return answer
