"""Laws: what every memory does, whatever its kind."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from memspec.errors import CannotMeasure, LawBroken, NotAsked
from memspec.laws.case import CAPACITY, Case, Size
from memspec.laws.chance import alike
from memspec.laws.compare import graph_nodes
from memspec.laws.driven import Driven
from memspec.laws.ladder import Ladder, telling
from memspec.laws.law import LONGEST, Law, advise
from memspec.plugs.reachable import tensors_in
from memspec.plugs.stochastic import draws_in_query, draws_in_update

LONG = 135
"""Rows of a long query: more than one chunk of any size in use, and no multiple of one."""
ONE_MORE = (101, 201, 1001)
"""Rows that leave one over where the chunks are of a round number: 10, 20, 25, 50, 100, 200, 250, 500 or 1000."""

HARD = ["zero-keys", "tiny-keys", "huge-keys", "constant-keys", "duplicate-keys", "zero-values", "huge-values"]

ROOMY, IN_ORDER, OUT_OF_ORDER = 80, 1e-4, 1e-2
"""A capacity in which every call of these has room, and how far one call and its rows are apart where they are one, or two."""
IN_LINE = [*((6, n) for n in (2, 3, 7, 8, 9, 17, 33, 65)), *((width, 5) for width in (1, 2, 3))]
"""Widths of keys and numbers of rows that are held beside each other."""


ROUNDING_GROWS = (
    "not the layout: contiguous rows that differ in their last bits are answered as far apart. What is rounded differently "
    "grows from row to row: the recursion is unstable (keep a covariance symmetric, add a ridge, or compute afresh)"
)


class TestLaws:
    """Laws: what every memory does, whatever its kind."""

    pytestmark = pytest.mark.law

    # ---- shapes ---------------------------------------------------------------------------------------------------

    def test_shape(self, law: Law) -> None:
        """`query` of [Q, Dk] answers [Q, Dv] in the keys' dtype and on their device, for any Q, none included."""
        for case in law.cases(0, 1, 2, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            for keys in (case.others[:0], case.others[:1], case.others):
                answer = memory.query(keys)
                case.check(
                    "({}.dtype, {}.device) == ({}.dtype, {}.device)",
                    *(answer, answer, keys, keys),
                    got=f"{answer.dtype} on {answer.device}",
                    expected=f"{keys.dtype} on {keys.device}",
                    cause="state was made in another dtype or on another device than the inputs",
                )

    def test_empty_update(self, law: Law) -> None:
        """An update with no pairs changes nothing."""
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            before = memory.answers()
            memory.update(case.others[:0], case.spare[:0])
            case.same(
                memory.answers(), before, cause="a decay, a step or a counter runs even where there is nothing to write"
            )

    # ---- purity ---------------------------------------------------------------------------------------------------

    def test_query_repeats(self, law: Law) -> None:
        """Asking does not change what is answered: the same query gives the same bits, other queries between or not."""
        for case in law.cases(0, 1, 2, 7, ladder=Ladder(thin=True)):
            memory = case.stored()
            first = memory.query(case.probe)
            cause = "query writes to the state: usage, recency, a cache, a step of learning, or noise"
            case.same(memory.query(case.probe), first, cause=cause, repeatable=False)
            memory.query(case.others.flip(0))
            case.same(memory.query(case.probe), first, cause=cause, repeatable=False)

    def test_query_leaves_state(self, law: Law) -> None:
        """Asking again what was just asked moves none of the tensors that can be reached from the memory."""
        for case in law.cases(0, 1, 7, ladder=Ladder(thin=True)):
            memory = case.stored()
            memory.answers()  # what is built on first use is built now
            before = memory.state()
            memory.answers()
            case.same_state(
                memory.state(), before, cause="query counts usage, ages slots, or learns; offer touch() for that"
            )

    def test_query_leaves_behaviour(self, law: Law) -> None:
        """A memory that was asked between writes behaves later as one that was not, past its capacity too."""
        for case in law.cases(1, 9, ladder=Ladder(thin=True, most=129)):
            quiet, asked, written = case.build(), case.build(), []
            for turn in range(3):
                keys, values = case.pairs(case.n)
                written.append(keys)
                for memory in (quiet, asked):
                    case.seed(turn)
                    memory.store(keys, values)
                asked.query(case.others)
                asked.query(keys[:3])
            cause = "query marks what it read, and later writes (eviction, usage, momentum) depend on the mark"
            for keys in (case.others, *written):
                case.same(asked.query(keys), quiet.query(keys), cause=cause)

    def test_inputs_unmodified(self, law: Law) -> None:
        """Neither `update` nor `query` changes the tensors it is given."""
        for case in law.cases(1, 5, ladder=Ladder(thin=True)):
            given = [case.let(f"{name}_was", f"{name}.clone()") for name in ("keys", "values", "others")]
            memory = case.stored()
            memory.query(case.others)
            for now, was in zip((case.keys, case.values, case.others), given):
                case.same(now, was, cause="an in-place operation (normalisation, scaling) on the caller's tensor")

    def test_query_leaves_generators(self, law: Law) -> None:
        """Asking draws from no global random generator, unless the spec says that reads draw."""
        if draws_in_query(law.plug):
            raise NotAsked("it says that its reads draw (stochastic)")
        for case in law.cases(0, 2):
            memory = case.stored()
            before = case.generators()
            memory.answers()
            case.same_generators(
                before,
                cause="query draws random numbers (dropout, sampling): draw them in update or not at all, or declare "
                "stochastic={'read'}",
            )

    # ---- fresh again ----------------------------------------------------------------------------------------------

    def test_reset_answers(self, law: Law) -> None:
        """After `reset` the memory answers as right after construction, bit for bit."""
        for case in law.cases(1, 7, ladder=Ladder()):
            memory = case.build()
            fresh = memory.answers()
            memory.store(case.keys, case.values)
            memory.reset()
            case.same(memory.answers(), fresh, cause="reset leaves a part of the state, or draws a new random start")

    def test_reset_behaviour(self, law: Law) -> None:
        """After `reset` the memory also learns as right after construction: counters, moments and pointers are back."""
        for case in law.cases(1, 7, ladder=Ladder(most=129)):
            memory = case.build()
            (k1, v1), (k2, v2), ends = case.pairs(case.n), case.pairs(case.n), []
            for life in range(2):
                if life:
                    memory.reset()
                for turn, (keys, values) in enumerate(((case.keys, case.values), (k1, v1), (k2, v2))):
                    case.seed(turn)
                    memory.store(keys, values)
                ends.append(memory.answers())
            case.same(
                ends[1],
                ends[0],
                cause="reset forgets a counter, a write pointer, an optimiser's moments or a usage table",
            )

    def test_same_seed(self, law: Law) -> None:
        """Two memories built under one seed and called alike, generators seeded alike, answer the same bits."""
        for case in law.cases(1, 7, ladder=Ladder(thin=True, most=257)):
            answers = []
            for _ in range(2):
                memory = case.build(seed=3)
                case.seed(5)
                memory.store(case.keys, case.values)
                answers.append(memory.answers())
            case.same(
                answers[1],
                answers[0],
                cause="randomness from outside the global generators: time, id(), os.urandom, hash()",
                repeatable=False,
            )

    def test_instances_independent(self, law: Law) -> None:
        """What one instance learns is unknown to every other, built before or after it."""
        for case in law.cases(1, 5):
            first = case.build()
            fresh = first.answers()
            case.stored()
            cause = "state lives on the class, in a module, in a default argument, or in a shared buffer"
            case.same(first.answers(), fresh, cause=cause, expected="the answers of a memory that was never written to")
            case.same(case.build().answers(), fresh, cause=cause, expected="the answers of a fresh memory")

    # ---- aliasing -------------------------------------------------------------------------------------------------

    def test_caller_reuses_tensors(self, law: Law) -> None:
        """A caller may overwrite its own tensors after `update`; the memory keeps what was written."""
        # A batch that fills the store is often written another way.
        for case in law.cases(1, 5, CAPACITY + 4, ladder=Ladder()):
            memory = case.stored()
            asked = case.probe  # a copy of the keys, made before they change
            before = memory.query(asked)
            case.do("keys.fill_(7.0), values.fill_(7.0)")
            case.same(
                memory.query(asked), before, cause="the memory stores the caller's tensors themselves; clone them"
            )

    def test_caller_reuses_queries(self, law: Law) -> None:
        """A caller may overwrite the keys it asked, and ask again: what counts is what the tensor holds now."""
        for case in law.cases(1, 5, ladder=Ladder(thin=True)):
            memory = case.stored()
            want = memory.query(case.probe.flip(0))
            memory.query(case.probe)
            case.do("probe.copy_(probe.flip(0))")
            cause = "answers are cached by the tensor's id, address or version; cache by its numbers, or not at all"
            case.close(memory.query(case.probe), want, cause=cause, expected="the answers to what the tensor holds now")

    def test_strided(self, law: Law) -> None:
        """Rows that do not lie one after another in memory (a transpose, every other row) are the same numbers."""
        cause = "view, as_strided or a raw pointer takes the rows for contiguous: call contiguous() first"
        if draws_in_update(law.plug):  # random numbers fill a transposed tensor in another order
            for case in law.cases(2, 5):
                strided_rows = "[tuple(part.T.contiguous().T for part in (keys, values))]"
                alike(case, "[(keys, values)]", strided_rows, cause, "the answers for contiguous rows")
            return
        for case in law.cases(2, 5, ladder=Ladder(thin=True)):
            want = case.stored().answers()
            memory = case.build()
            strided = [case.let(f"{name}_t", f"{name}.T.contiguous().T") for name in ("keys", "values", "probe")]
            case.suspect = cause
            memory.store(strided[0], strided[1])
            got = memory.query(strided[2])
            try:
                case.close(got, want, cause=cause, expected="the answers for contiguous rows")
            except LawBroken as broken:
                if broken.failure.cause != cause or not _rounding_grows(
                    Case(law, case.size), float((got - want).abs().max())
                ):
                    raise
                raise LawBroken(replace(broken.failure, cause=ROUNDING_GROWS)) from None

    def test_caller_changes_answers(self, law: Law) -> None:
        """A caller may overwrite an answer; the memory answers the same afterwards."""
        for case in law.cases(0, 1, 5, ladder=Ladder(thin=True, most=257)):
            memory = case.stored()
            before = memory.answers()
            live = memory.live(case.probe)
            # Row by row, for rows may share their numbers; a row of one number, expanded, torch forbids to write to.
            case.do("with {}.suppress(RuntimeError): [row.fill_(7.0) for row in {}.detach()]", contextlib, live)
            case.same(
                memory.answers(), before, cause="query returns a view of the state; return a clone or a computed tensor"
            )

    # ---- rows -----------------------------------------------------------------------------------------------------

    def test_rows_alone(self, law: Law) -> None:
        """Each row of a query is answered as if it were asked alone."""
        _rows_draw_alike(law)
        for case in law.cases(0, 1, 2, 7, ladder=Ladder(most=257)):
            memory = case.stored()
            together, rows = memory.answers(), telling(len(case.probe))
            alone = torch.cat([memory.query(case.probe[row : row + 1]) for row in rows])
            case.close(
                together[rows],
                alone,
                cause="rows mix: a softmax, norm or mean over the wrong axis, or row 0's index used for all",
                expected="each row as it is answered alone",
            )

    def test_rows_split(self, law: Law) -> None:
        """A long query is answered as its parts are: no row is lost where the memory works in chunks."""
        _rows_draw_alike(law)
        for case in law.cases(LONG, *ONE_MORE, ladder=Ladder()):
            memory = case.build()
            memory.store(case.keys[:7], case.values[:7])
            whole = memory.query(case.keys)
            parts = torch.cat([memory.query(part) for part in case.keys.split(case.n // 13 | 1)])
            case.close(
                whole,
                parts,
                cause="the last, shorter chunk of a long query is dropped, padded or given another chunk's rows",
                expected="the answers of the parts",
            )

    def test_rows_permuted(self, law: Law) -> None:
        """The order of the rows of a query does not matter."""
        _rows_draw_alike(law)
        for case in law.cases(0, 1, 7, ladder=Ladder()):
            memory = case.stored()
            forward, backward = memory.answers(), memory.query(case.probe.flip(0)).flip(0)
            case.close(
                backward,
                forward,
                cause="an answer depends on the row's place in the batch: a running state inside query, or a wrong index",
                expected="the same answers in the other order",
            )

    def test_any_number(self, law: Law) -> None:
        """No number of rows is a case of its own: where rows of shorter and of longer calls act in order, as calls of their own, so do those of any between; and under keys of one number too."""
        if law.spec.write in ("sequential", "set"):
            raise NotAsked("it says what the rows of a call are to each other; claims/split asks that")
        if draws_in_update(law.plug):
            raise CannotMeasure("its writes draw random numbers, and other calls draw others")
        cases = law.cases(*(Size(n, key_dim=width, capacity=ROOMY) for width, n in IN_LINE))
        tried = [(case, *in_line(case, case.keys, case.values)) for case in cases if case.n <= case.shape.capacity]
        gaps = [apart(whole, rows) for _, whole, rows in tried]
        held = [(case.shape.key_dim, case.n) for (case, _, _), gap in zip(tried, gaps) if gap <= IN_ORDER]
        for (case, whole, rows), gap in zip(tried, gaps):
            width, n = case.shape.key_dim, case.n
            beside = [other for other in held if other[0] == width]
            odd_number = any(m < n for _, m in [*beside, (width, 1)]) and any(m > n for _, m in beside)
            odd_width = width == 1 and {(2, n), (3, n)} <= {*held}
            neighbours = beside if odd_number else [(2, n), (3, n)]
            if gap > OUT_OF_ORDER and (odd_number or odd_width) and not by_chance(law, (width, n), neighbours):
                case.close(
                    whole,
                    rows,
                    cause="a shortcut for this number of rows (or this width), which does not do what the others do",
                    expected=f"as {sorted(m for _, m in beside) or 'wider keys'}: one call equals its rows in order",
                )

    # ---- hard numbers ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", HARD)
    def test_finite(self, law: Law, kind: str) -> None:
        """Zero, tiny (1e-30), huge (1e4), constant and duplicate rows are refused with a clear error, or answers stay finite."""
        change, _, what = kind.partition("-")
        domain = law.spec.key_domain if what == "keys" else law.spec.value_domain
        if domain != "real" and change != "duplicate":
            raise NotAsked(f"{kind} are outside the declared domain ({domain})")
        for case in law.cases(1, 2):
            memory = case.build()
            rows = hard_rows(case, change, what)
            keys, values = rows if law.spec.association != "auto" else (rows[what == "values"],) * 2
            error = memory.refused("update", keys, values)
            case.check(
                "error is None or isinstance(error, (ValueError, TypeError))",
                got=f"update raised {type(error).__name__}: {error}",
                expected="finite answers, or a ValueError that says what is wrong",
                cause="a singular system or a division by a norm; add a small ridge, or guard the zero",
            )
            if error is None:
                cause = (
                    "a division by a zero norm or variance, an exp without the maximum taken out, or a singular system"
                )
                case.finite(memory.query(keys), cause=cause)
                case.finite(memory.query(case.others), cause=cause)
                memory.update(case.others, case.spare if law.spec.association != "auto" else case.others.clone())
                case.finite(memory.query(case.others), cause="what such rows left in the state spoils later writes")

    # ---- much ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("form", ["one-call", "rows"])
    def test_overfilling(self, law: Law, form: str) -> None:
        """Four times as many pairs as the capacity: no exception, finite answers, and still a memory afterwards."""
        for case in law.cases(1, ladder=Ladder(thin=True, most=65)):
            count = 4 * case.shape.capacity
            if count > LONGEST:
                raise CannotMeasure(f"its capacity is fixed at {case.shape.capacity}; let the factory take capacity")
            memory = case.build()
            keys, values = case.pairs(count)
            cause = case.suspect = "an index past the end of the store, or a state that grows without bound"
            (memory.update if form == "one-call" else memory.update_rows)(keys, values)
            case.finite(memory.query(keys), cause=cause)
            memory.store(case.keys, case.values)
            case.finite(memory.query(case.keys), cause=cause)
            memory.reset()

    def test_no_graph_kept(self, law: Law) -> None:
        """The autograd graph behind the state does not grow from update to update."""
        for case in law.cases(1):
            memory = case.build()
            memory.update(case.keys, case.values, times=100)
            few = nodes(memory, "few")
            memory.update(case.keys, case.values, times=100)
            many = nodes(memory, "many")
            case.check(
                "many <= few",  # or the answer, and so the state, hangs on the graph of every update so far
                got=f"{few} autograd nodes after 100 updates, {many} after 200",
                expected="no more nodes than before",
                cause="the new state is not detached from the old one; detach it, or update under torch.no_grad()",
            )

    def test_no_grad(self, law: Law) -> None:
        """Inside torch.no_grad() the memory learns and answers as outside."""
        for case in law.cases(1, 5, ladder=Ladder(thin=True, most=257)):
            want = case.stored().answers()
            case.suspect = "the inner gradient step needs torch.enable_grad() around it (or a closed form)"
            with case.within("torch.no_grad()"):
                got = case.stored().answers()
            case.close(
                got,
                want,
                cause=case.suspect,
                expected="the answers of a memory used outside no_grad",
            )

    def test_inputs_requiring_grad(self, law: Law) -> None:
        """Keys and values that require grad are stored as the same numbers without."""
        for case in law.cases(1, 5, ladder=Ladder(thin=True, most=33)):
            plain, live = case.stored(), case.build()
            leaves = [case.new("leaf", f"{name}.clone().requires_grad_()") for name in ("keys", "values")]
            case.suspect = "an in-place operation meets a tensor that autograd needs; detach what is stored"
            live.store(leaves[0], leaves[1])
            case.close(
                live.answers(),
                plain.answers(),
                cause=case.suspect,
                expected="the answers of a memory that was given the same numbers",
            )
            few = nodes(live, "few")
            live.update(leaves[0], leaves[1], times=20)
            if nodes(live, "many") > few + 20:
                advise(
                    law.plug,
                    "with inputs that require grad, each update adds to the autograd graph; detach when training",
                )


def _rounding_grows(case: Case, gap: float) -> bool:
    """Whether contiguous rows that differ in their last bits alone are answered so far apart, or nearly."""
    usual, moved = case.stored(), case.build()
    keys = case.let("nudged", "keys * (1 + 2 * torch.finfo(keys.dtype).eps)")
    moved.store(keys, case.values if case.spec.association != "auto" else keys)
    return not float((moved.answers() - usual.answers()).abs().max()) < gap / 100


def _rows_draw_alike(law: Law) -> None:
    if draws_in_query(law.plug):
        raise CannotMeasure("its reads draw random numbers, and other rows draw others")


def in_line(case: Case, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is answered after one call, and after its rows in order as calls of their own."""
    memory, other = case.build(), case.build()
    memory.update(keys, values)
    other.update_rows(keys, values)
    asked = case.probe if keys is case.keys else keys
    return memory.query(asked), other.query(asked)


def apart(whole: torch.Tensor, rows: torch.Tensor) -> float:
    """The largest difference, beside the largest answer or 1."""
    return float((whole - rows).abs().max() / max(1.0, float(rows.abs().max())))


def by_chance(law: Law, odd: tuple[int, int], beside: Sequence[tuple[int, int]]) -> bool:
    """Whether other pairs tell another story of ``(width, rows)`` and of those beside it.

    Rows act in order as well where those of one draw happen to share nothing (slots that are chosen by hashing, say), and
    not where they do: that says nothing of their number.
    """
    for case in law.cases(*(Size(n, key_dim=width, capacity=ROOMY) for width, n in (odd, *beside))):
        gaps = [apart(*in_line(case, *case.pairs(case.n))) for _ in range(3)]
        is_odd = (case.shape.key_dim, case.n) == odd
        if any(gap <= OUT_OF_ORDER if is_odd else gap > IN_ORDER for gap in gaps):
            return True
    return False


def nodes(memory: Driven, name: str) -> int:
    """Nodes of the autograd graph behind an answer and the state."""
    template = "{}([{}.query(keys), *{}({})])"
    count: int = memory.case.let(name, template, graph_nodes, memory, tensors_in, memory)
    return count


def hard_rows(case: Case, change: str, what: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The case's pairs, with hard keys or hard values."""
    if change == "duplicate":
        return torch.cat((case.keys, case.keys)), torch.cat((case.values, case.values.flip(-1)))
    factor = {"zero": 0.0, "tiny": 1e-30, "huge": 1e4, "constant": 0.0}[change]
    rows = (case.keys if what == "keys" else case.values) * factor + (change == "constant")
    return (rows, case.values) if what == "keys" else (case.keys, rows)
