"""Liveness: what is written, asked and declared makes a difference. The memory that answers zeros fails here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from memspec.errors import CannotMeasure, LawBroken, NotAsked
from memspec.laws.case import Case, Size
from memspec.laws.compare import NOISE
from memspec.laws.driven import Driven
from memspec.laws.ladder import Ladder, telling
from memspec.laws.law import Law, advise

SHOWN = 20
"""Calls of update in laws that compare small effects, so that slow learners show them too."""
SEEDS = range(6)
"""Under which a row that made no difference is looked for again: one kept in one life of two is missed in all by one of 64."""
STATISTICS: dict[str, tuple[str, Callable[[Case, Driven], Tensor]]] = {
    "confidence": ("Confident", lambda case, m: m.call("confidence", case.probe)),
    "slot-usage": ("Slotted", lambda case, m: m.call("slot_usage")),
    "read-weights": ("Addressable", lambda case, m: m.call("read_weights", case.probe)),
}


class TestLiveness:
    """Liveness: what is written, asked and declared makes a difference. The memory that answers zeros fails here."""

    pytestmark = pytest.mark.law

    def test_keys(self, law: Law) -> None:
        """Different keys get different answers: with two or more pairs stored, the answers are not all the same row."""
        for case in law.cases(2, 4, **law.distinct(5)):
            memory = case.build()
            memory.update(case.keys, case.values, times=SHOWN)
            answers = memory.query(case.keys)
            first = answers[:1].expand_as(answers)
            case.moved(
                answers,
                first,
                cause="query ignores the key (uniform weights, a dead temperature), or only the last value is kept",
                expected="answers that differ from one stored key to another",
            )

    def test_values(self, law: Law) -> None:
        """Answers depend on the values written."""
        for case in law.cases(1, 2, **law.distinct(5)):
            memory, other = case.build(), case.build()
            memory.update(case.keys, case.values, times=SHOWN)
            other.update(*case.changed_pairs(case.keys, case.values), times=SHOWN)
            case.moved(
                other.query(case.keys),
                memory.query(case.keys),
                cause="update does nothing, works on a copy, or its step is scaled away",
                expected="other answers where other values were written",
            )

    def test_distinct_writes(self, law: Law) -> None:
        """Distinct writes stay distinct: what writing changes is not the same for every key."""
        for case in law.cases(2, 4, **law.distinct(5)):
            memory = case.build()
            # A memory that recalls keys themselves may answer a stored key as it did when empty: ask it strange ones too.
            asked = case.probe if law.spec.association == "auto" else case.keys
            before = memory.query(asked)
            memory.update(case.keys, case.values, times=SHOWN)
            after = memory.query(asked)
            change = case.let("change", "{} - {}", after, before)
            largest = change.abs().max().item()
            spread = (change - change[:1]).abs().max().item()
            least = 1e-3 * largest + NOISE * before.abs().max().item()
            case.check(
                "(change - change[:1]).abs().max() > {}",
                least,
                got=f"answers moved by up to {largest:.3g}, but for all keys alike, to within {spread:.3g}",
                expected="each key's answer moves in a way of its own",
                cause="a broadcast write: the same vector is added to every slot, so nothing distinct can be stored",
            )

    def test_every_row(self, law: Law) -> None:
        """Every pair of an update counts: another value in any one row changes some answer."""
        # Among many pairs one may change no sign; and a real value has to change by much to be seen in small steps.
        tall = law.spec.value_domain == "real" and law.spec.key_domain != "sign" and law.spec.association != "auto"
        ladder = Ladder(least=7, most=129, loads=("room",), thin=True, distinct=True) if tall else None
        for case in law.cases(1, 2, 3, 5, **law.distinct(5), ladder=ladder):
            # Once, which is quick, unless one showing is not seen.
            before, others = _asked(case, law.spec.presentations), None
            for row in telling(case.n):
                if others is None:
                    others = _with_others(case)
                try:
                    _row_counts(case, row, before, others)
                except LawBroken as broken:
                    why = _row_is_dropped(law, case.size, row)
                    if why:
                        raise LawBroken(replace(broken.failure, cause=why)) from None
                    case = Case(law, case.size)  # whose program is without what was asked in vain
                    before, others = _asked(case, law.spec.presentations), None

    def test_earlier_calls(self, law: Law) -> None:
        """What one call of update stored still counts after the next, while there is room for both."""
        room = law.plug.shape().capacity
        for case in law.cases(1, 2, 5, **law.distinct(6)):
            if case.n + 1 > case.shape.capacity:
                if case.n == 1:
                    raise CannotMeasure(f"its capacity is fixed at {room}: there is no room for a second pair")
                return
            answers = []
            for keys, values in ((case.keys, case.values), case.changed_pairs(case.keys, case.values)):
                memory = case.build()
                memory.update(keys, values, times=SHOWN)
                memory.update(case.others[:1], case.spare[:1] if law.spec.association != "auto" else case.others[:1])
                answers.append(memory.query(case.keys))
            case.moved(
                answers[1],
                answers[0],
                cause="each update starts from an empty memory, or puts its rows where those of the last call were",
                expected="answers that still depend on what the first call stored",
            )

    def test_every_column(self, law: Law) -> None:
        """Every column counts, however wide: each of the answers moves with the values written, and keys that differ in their last columns alone get different answers."""
        if law.spec.value_domain != "real" or law.spec.key_domain not in ("real", "unit"):
            raise NotAsked("its answers have few values to take")
        if law.spec.association == "auto":
            raise NotAsked("it recalls the key itself")
        widths = [(6, 300), (300, 6), (6, 129), (129, 6), (33, 65), (65, 33), (8, 9), (9, 8), (2, 3)]
        for case in law.cases(2, 7, *(Size(5, *both) for both in widths)):
            if case.shape.key_dim < 2:
                continue  # a key and its negative may be one to an even function
            memory, other = case.build(), case.build()
            memory.update(case.keys, case.values, times=SHOWN)
            other.update(case.keys, case.let("negated", "-{}", case.values), times=SHOWN)
            got, was = other.query(case.keys), memory.query(case.keys)
            still = ((got - was).abs().amax(0) <= NOISE * got.abs().max()).nonzero().flatten().tolist()
            case.check(
                "(({} - {}).abs().amax(0) > {} * {}.abs().max()).all()",
                *(got, was, NOISE, got),
                got=f"columns {still[:5]} ({len(still)} of {got.shape[1]}) of all answers stayed as they were",
                expected="every column of the answers to move, where all values changed their sign",
                cause="a width is fixed, keys' and values' widths are confused, or the last block of columns is dropped",
            )
            tail = (case.shape.key_dim + 3) // 4
            # Head and tail of one length: the two keys are orthogonal, so that nothing takes them for one.
            unit = "torch.nn.functional.normalize"
            case.let("head", f"{unit}(keys[:1, :-{tail}], dim=-1) / 2**0.5")
            case.let("tail", f"{unit}(keys[:1, -{tail}:], dim=-1) / 2**0.5")
            pair = case.let("pair", "torch.cat((torch.cat((head, tail), -1), torch.cat((head, -tail), -1)))")
            memory = case.build()
            memory.update(pair, case.let("ends", "torch.cat((values[:1], -values[:1]))"), times=SHOWN)
            answers = memory.query(pair)
            case.moved(
                answers[:1],
                answers[1:],
                cause="the last columns of the keys are not read: a width is fixed, or the last block is dropped",
                expected=f"another answer to a key whose last {tail} columns are turned round",
            )

    def test_parameters(self, law: Law) -> None:
        """Every weight matrix of the module has an influence: on an answer, a statistic, or a declared loss."""
        if not isinstance(law.plug.probe, nn.Module):
            raise NotAsked("it is not an nn.Module")
        names = [name for name, p in law.plug.probe.named_parameters() if p.requires_grad and p.numel()]
        if not names:
            raise NotAsked("it has no parameters")
        (case,) = law.cases(5)
        for name in names:
            parameter = law.plug.probe.get_parameter(name)
            # A layer in front of one that starts at zero has an influence only once that one has moved.
            for others in ([], [other for other in names if other != name]):
                want, got = (_everything(case, _moved(case, chosen)) for chosen in (others, [*others, name]))
                case.let("got", f"[{', '.join(map(case.ref, got))}]")
                case.let("want", f"[{', '.join(map(case.ref, want))}]")
                alive = case.let("alive", "any(not torch.equal(g, w) for g, w in zip(got, want))")
                if alive:
                    break
            if not alive and parameter.ndim < 2:
                # A bias added to every logit cancels in a softmax: dead, and harmless.
                advise(law.plug, f"parameter {name} influences no answer")
                continue
            case.check(
                "alive",
                got=f"{name} {tuple(parameter.shape)} was changed, and every answer stayed the same",
                expected="some answer, statistic or auxiliary loss that changes with it",
                cause="a layer that is never called, or one whose output is overwritten",
            )

    @pytest.mark.parametrize("statistic", STATISTICS)
    def test_statistic_moves(self, law: Law, statistic: str) -> None:
        """A declared statistic says something: it is not one constant, whatever is stored and whatever is asked."""
        capability, read = STATISTICS[statistic]
        law.plug.needs(capability)
        # In a store of one slot the weight of that slot may well be 1 whatever happens.
        smallest = [] if statistic == "read-weights" else [Size(1, capacity=1)]
        for case in law.cases(*smallest, 2):
            memory = case.build()
            seen = [read(case, memory)]
            for _ in range(2):
                memory.store(*case.pairs(2))
                seen.append(read(case, memory))
            memory.store(case.keys, case.values)
            seen.append(read(case, memory))
            flat = case.let("flat", "torch.cat([{}.flatten(), {}.flatten(), {}.flatten(), {}.flatten()])", *seen)
            case.check(
                "len(flat) > 0 and (flat != flat[0]).any()",
                got=f"{statistic} is {flat[0].item() if flat.numel() else 'empty'} for every key and slot, fresh and filled",
                expected="a number that depends on what is stored or asked",
                cause="the statistic reads a constant (a mask of ones, an untouched buffer) instead of the state",
            )


def _asked(case: Case, times: int, seed: int = 0) -> Tensor:
    """The answers to the case's probe of a memory that was shown its pairs so often."""
    memory = case.build(seed)
    memory.update(case.keys, case.values, times=times)
    return memory.query(case.probe)


def _with_others(case: Case) -> tuple[Tensor, Tensor]:
    """The case's pairs with other values, far ones where there are many; for a memory that recalls keys, other keys."""
    keys, values = case.changed_pairs(case.keys, case.values)
    return keys, case.let("far", "10 * ({0} + {0}.sign())", values) if case.n > 5 else values


def _row_counts(
    case: Case,
    row: int,
    before: Tensor,
    others: tuple[Tensor, Tensor],
    times: int = 0,
    seed: int = 0,
    by_rows: bool = False,
) -> None:
    """Break the law unless another value in one row changes an answer, of memories that were shown all rows so often."""
    case.let("one", f"(torch.arange({case.n}, device=keys.device) == {row})[:, None]")
    keys, values = (
        case.new("row", "torch.where(one, {}, {})", new, old) for new, old in zip(others, (case.keys, case.values))
    )
    memory = case.build(seed)
    if by_rows:
        memory.update_rows(keys, values)
    else:
        memory.update(keys, values, times=times or case.spec.presentations)
    case.moved(
        memory.query(case.probe),
        before,
        cause=f"row {row} of {case.n} is dropped, or lost again to those after it",
        expected=f"some answer changes with the value of row {row}",
    )


def _row_is_dropped(law: Law, size: Size, row: int) -> str:
    """Why a row that made no difference is dropped; empty if it counts where the pairs are shown oftener, as slow learners
    need it, or under another seed: what goes by chance was stored all the same."""
    for times in (SHOWN, law.spec.presentations):
        for seed in SEEDS:
            case = Case(law, size)
            try:
                _row_counts(case, row, _asked(case, times, seed), _with_others(case), times, seed)
            except LawBroken:
                continue
            return ""
    case = Case(law, size)
    one_by_one = case.build()
    one_by_one.update_rows(case.keys, case.values)
    try:
        _row_counts(case, row, one_by_one.query(case.probe), _with_others(case), by_rows=True)
    except LawBroken:
        return (
            f"row {row} of {size.n} is dropped in calls of its own too: it is not written, or lost to later rows (the memory "
            f"holds fewer than the {case.shape.capacity} pairs it was given room for: declare spec.capacity; or one row's "
            "place is used for another)"
        )
    return (
        f"row {row} of {size.n} counts in a call of its own and not beside the others: the remainder of a chunk is dropped, "
        "or one row's index is used for all"
    )


def _moved(case: Case, names: list[str]) -> Driven:
    """A fresh memory with noise added to the parameters of these names."""
    memory = case.build()
    moved = {name: _add_noise(memory, name) for name in names}
    if names:
        memory.reset()  # what starts from a slow weight starts from the moved one
    for name, value in moved.items():
        if not torch.equal(memory.memory.get_parameter(name), value):
            _add_noise(memory, name)  # reset puts it back: it is trained by update, and counts as state
    return memory


def _add_noise(memory: Driven, name: str) -> Tensor:
    """Add noise to a parameter; a copy of what it is then."""
    case = memory.case
    case.let("p", "{}.get_parameter({})", memory, name)
    case.let("noise", "torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).to(p)")
    with case.within("torch.no_grad()"):
        case.do("p.copy_(p + noise)")
    return memory.memory.get_parameter(name).detach().clone()


def _everything(case: Case, memory: Driven) -> list[Tensor]:
    """What the parameters of a memory may act on."""
    memory.store(case.keys, case.values)
    out = [memory.answers()]
    out += [
        memory.call(n, case.probe) for n in ("confidence", "read_weights") if callable(getattr(memory.memory, n, 0))
    ]
    if "Auxiliary" in case.plug.capabilities:
        out.append(memory.call("auxiliary_loss", case.keys, case.values))
    return out
