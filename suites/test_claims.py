"""Claims: what a memory's spec promises, and nothing that it does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from memspec.errors import CannotMeasure, LawBroken, NotAsked
from memspec.laws.case import Case, Size
from memspec.laws.chance import alike
from memspec.laws.compare import ratio, rounding
from memspec.laws.driven import Driven
from memspec.laws.ladder import Ladder
from memspec.laws.law import LONGEST, Law, advise
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import state_bytes
from memspec.plugs.stochastic import draws_in_update
from memspec.randomness import seeded, unshared
from memspec.world.boundary import call

ROUNDED = (
    "sums are kept or added up in a coarser precision than the inputs', where their order counts; add up in float32"
)
SLIGHT = 0.1
"""Share of the answers below which a difference may be rounding, in half precision at the coarsest."""
AT_ONCE = "rows of one call act at once (one gradient, one stale similarity), or a remainder chunk is dropped"
BEYOND = (1100, 2100)
"""Longer than blocks of 1,024 and of 2,048."""
BY_ROWS = "list(zip(keys.split(1), values.split(1)))"
DRAWN, TURNS = 4, 100
"""Pairs of the full memories that are looked at for what goes by chance, and how many memories."""
CORRECTING = ("delta", "least_squares")
"""Families whose writes move the answer to the key towards the value."""
SCALES = (1e-6, 0.5, 2.0)
"""Of keys written again: an eps beside their norm is to be seen too."""
LENGTHS = (1.0, 0.7, 1.3)
"""Of the keys that they are to correct."""


class TestClaims:
    """Claims: what a memory's spec promises, and nothing that it does not."""

    pytestmark = pytest.mark.claim

    # ---- the order of writes --------------------------------------------------------------------------------------

    def test_split(self, law: Law) -> None:
        """Writing a batch is writing its rows one after another: update(A); update(B) equals update(A||B)."""
        _rows_are_writes(law)
        if draws_in_update(law.plug):
            for case in law.cases(2, 7, 16):
                alike(case, "[(keys, values)]", BY_ROWS, AT_ONCE, "the whole batch in one call equals row by row")
            return
        # Long enough for every chunk size in use; past a capacity only where no random eviction can differ.
        sure = law.spec.deterministic or law.spec.eviction in ("fifo", "lru") or "capacity" not in law.plug.accepts
        for case in law.cases(
            2, 3, 7, 16, *((70, 130) if sure else ()), ladder=Ladder(least=2, beyond=BEYOND) if sure else None
        ):
            whole, halves, rows = case.build(), case.build(), case.build()
            whole.update(case.keys, case.values)
            for part in (slice(0, case.n // 2), slice(case.n // 2, case.n)):
                halves.update(case.keys[part], case.values[part])
            by = 1 if case.n <= 130 else case.n // 40 | 1  # no multiple of a chunk
            rows.update_rows(case.keys, case.values, by)
            want = rows.answers()
            few = "row by row" if by == 1 else f"{by} rows a call"
            for memory, what in (
                (halves, "two halves in two calls equal"),
                (whole, "the whole batch in one call equals"),
            ):
                got = memory.answers()
                if _rounding_alone(case, (got - want).abs().max().item()):
                    return  # and with more rows it would be more
                case.close(got, want, cause=_why_apart(case, got, want), expected=f"{what} {few}")

    def test_split_repeats(self, law: Law) -> None:
        """A key that stands twice in one batch is written twice, in order: as by two calls."""
        _rows_are_writes(law)
        if law.spec.association == "auto":
            raise NotAsked("it recalls the key itself")
        cause = "repeats within a call are dropped, or looked up in the store as it was before the call"
        for case in law.cases(1, 3, 7, ladder=None if draws_in_update(law.plug) else Ladder(thin=True)):
            whole, halves = case.build(), case.build()
            other = case.changed(case.values, law.spec.value_domain)
            twice = case.let("ks", "torch.cat((keys, keys))"), case.let("vs", "torch.cat((values, {}))", other)
            if draws_in_update(law.plug):
                alike(case, "[(ks, vs)]", "list(zip(ks.split(1), vs.split(1)))", cause, "one call equals row by row")
                continue
            whole.update(*twice)
            halves.update(case.keys, case.values)
            halves.update(case.keys, other)
            case.close(
                whole.answers(),
                halves.answers(),
                cause=cause,
                expected="both values of each key in one call equal to two calls",
            )

    def test_permutation(self, law: Law) -> None:
        """Where the spec says that rows of a call have no order, their order makes no difference."""
        if law.spec.write not in ("set", "joint"):
            raise NotAsked(f"it does not promise that rows have no order (write={law.spec.write!r})")
        cause = "rows are written one after another, each on top of the last: declare write='sequential'"
        if draws_in_update(law.plug):
            for case in law.cases(2, 7, 16):
                backwards = "[(keys.flip(0), values.flip(0))]"
                alike(case, "[(keys, values)]", backwards, cause, "the same answers whatever the order of the rows")
            return
        for case in law.cases(2, 3, 7, 16, ladder=Ladder(least=2)):
            forward, backward = case.build(), case.build()
            forward.update(case.keys, case.values)
            backward.update(case.keys.flip(0), case.values.flip(0))
            case.close(
                backward.answers(),
                forward.answers(),
                cause=cause,
                expected="the same answers whatever the order of the rows",
            )

    # ---- overwriting ----------------------------------------------------------------------------------------------

    def test_overwrite(self, law: Law) -> None:
        """A second value under a key replaces the first, adds to it, or blends with it, as the spec says."""
        claim = _claimed_of_overwriting(law)
        for case in law.cases(1, 2, 5):
            _overwrites(case, claim)

    def test_overwrite_lengths(self, law: Law) -> None:
        """A second value replaces the first, adds to it, or blends with it, whatever the length of a real key."""
        claim = _claimed_of_overwriting(law)
        if law.spec.key_domain != "real":
            raise NotAsked(f"its keys are declared to be {law.spec.key_domain}")
        for case in law.cases(*(Size(n, scale=scale) for n in (1, 5) for scale in SCALES)):
            _overwrites(
                case,
                claim,
                cause="the step is right for keys of length 1 alone: scale keys to that length when they are written and read, "
                "or declare key_domain='unit'",
            )

    def test_correction(self, law: Law) -> None:
        """Where the family corrects errors (delta, least squares), a pair that is shown again and again is answered with its value, whatever the key's length."""
        spec = law.spec
        if (
            spec.family not in CORRECTING
            or spec.fidelity == "trained"
            or (spec.family == "delta" and spec.beta is None)
        ):
            raise NotAsked("its family corrects no errors, or its step is not told")
        if "real" not in (spec.key_domain, spec.value_domain) or spec.association == "auto":
            raise NotAsked("its keys have one length, or it recalls the key itself")
        for length in LENGTHS:
            # Whether keys are scaled to length one, the step is divided by their square, or neither: the slowest of them.
            left = 0.5 if spec.beta is None else max(abs(1 - spec.beta * square) for square in (1.0, length**2))
            if left > 0.95:
                continue
            for case in law.cases(1):
                key = case.let("key", f"keys / keys.norm() * {length}")
                memory = case.build()
                memory.update(key, case.values, times=math.ceil(math.log(1e-4) / math.log(max(left, 0.1))))
                case.close(
                    memory.query(key),
                    case.values,
                    cause="keys are scaled to length one when they are written and not when they are read, or the other way "
                    "round: what is corrected is not what is answered",
                    expected=f"the value itself, under a key of length {length:g}",
                    tolerance=1e-2,
                )

    # ---- exactness and eviction -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("form", ["batch", "rows"])
    def test_exact(self, law: Law, form: str) -> None:
        """A memory that claims to be exact recalls every stored pair, to float precision, at any number up to its capacity."""
        _claims_exact(law)
        capacity = law.plug.shape(capacity=16).capacity
        sizes = sorted({1, 2, 3, max(capacity // 2, 1), capacity} - {n for n in (1, 2, 3) if n > capacity})
        if capacity > LONGEST:
            sizes = [1, 2, 3, 64]
        for case in law.cases(*sizes, **law.distinct(max(sizes)), ladder=Ladder(loads=("room", "full"), distinct=True)):
            memory = case.build()
            for _ in range(law.spec.presentations):
                (memory.update if form == "batch" else memory.update_rows)(case.keys, case.values)
            case.close(
                memory.query(case.keys),
                case.values,
                cause="a pair is lost or overwritten before the store is full (a flag that says full too early, a pointer "
                "that advances by the call), or reading mixes values: then do not claim exact",
                expected="the stored values",
            )

    def test_exact_lengths(self, law: Law) -> None:
        """A memory that claims to be exact for real keys recalls them whatever their lengths."""
        _claims_exact(law)
        if law.spec.key_domain != "real" or law.spec.association == "auto":
            raise NotAsked(f"its keys are declared to be {law.spec.key_domain}, or are what it recalls")
        capacity = law.plug.shape(capacity=16).capacity
        for case in law.cases(*sorted({1, 2, min(capacity, 16)})):
            keys = case.keys * torch.linspace(0.5, 2, case.n, device=case.keys.device)[:, None]
            memory = case.build()
            memory.store(keys, case.values)
            case.close(
                memory.query(keys),
                case.values,
                cause="similarities are raw dot products, which a long key wins against every shorter one: normalise the "
                "stored keys too, or declare key_domain='unit'",
                expected="the stored values",
            )

    def test_eviction(self, law: Law) -> None:
        """A full memory drops what its spec says: the oldest (fifo), the least recently used (lru), or any (random, reservoir)."""
        kind = law.spec.eviction
        if kind == "none":
            raise NotAsked("it promises nothing about what is dropped")
        if not law.spec.exact:
            raise NotAsked("what is left can only be told from the answers of a memory that claims to be exact")
        capacity = law.plug.shape(capacity=16).capacity
        if 2 * capacity > LONGEST:
            raise CannotMeasure(f"its capacity is fixed at {capacity}; let the factory take capacity")
        # The smallest stores too, and those beside powers of two, past their first and their second wrap.
        loads = [(capacity, more) for more in sorted({1, capacity // 2, capacity})]
        loads += [(size, more) for size in (1, 2, 3, 7, 8, 9, 33) for more in (1, size + 3)]
        for case in law.cases(*(Size(c + more, **law.distinct(c + more), capacity=c) for c, more in loads)):
            capacity = case.shape.capacity
            if case.n <= capacity:
                continue  # it is fixed
            memory = case.build()
            kept = _filled_and_touched(case, memory, capacity)
            answers = memory.query(case.keys)
            near = 1e-4 * max(1.0, case.values.abs().max().item())
            right = case.let("right", "({} - values).abs().amax(-1) <= {}", answers, near)
            alive = case.let("alive", "{}.nonzero().flatten().tolist()", right)
            got = f"of {case.n} pairs these are left: {alive}"
            if kind in ("fifo", "lru"):
                case.check(
                    f"alive == {kept}",
                    got=got,
                    expected=f"eviction={kind!r}: {kept}",
                    cause="the write pointer or the age is off by one, restarts with every call, or counts the wrong way",
                )
            case.check(
                f"0 < len(alive) <= {capacity}" if kind == "similarity" else f"len(alive) == {capacity} > 0",
                got=got,
                expected=f"eviction={kind!r}: {capacity} pairs",
                cause="slots are left empty, or hold a pair twice, when the memory is full",
            )

    def test_any_may_go(self, law: Law) -> None:
        """In a full memory that declares random or reservoir eviction no pair is safe: over many draws each of them is the one that goes."""
        if law.spec.eviction not in ("random", "reservoir") or not law.spec.exact or law.spec.fidelity == "trained":
            raise NotAsked("it does not declare random or reservoir eviction with exact recall")
        (case,) = law.cases(DRAWN + 1, **law.distinct(DRAWN + 1), capacity=DRAWN)
        if case.shape.capacity != DRAWN:
            raise CannotMeasure(f"its capacity is fixed at {case.shape.capacity}; let the factory take capacity")
        gone = case.let("gone", "{}({}, shape, keys, values)", lost_by_chance, law.plug)
        safe = [row for row in range(DRAWN) if not gone[row]]
        case.check(
            f"(gone[:{DRAWN}] > 0).all()",
            got=f"of {TURNS} full memories that were given one pair more, none lost row {safe}; times lost: {gone.tolist()}",
            expected=f"eviction={law.spec.eviction!r}: any of the {DRAWN} stored pairs may go",
            cause="the index that is drawn has a bound that is one too small (randint leaves its upper end out), or one seed "
            "serves every memory",
        )

    def test_rewritten_is_recent(self, law: Law) -> None:
        """In a full memory that declares lru eviction, writing a stored key again makes it the most recently used."""
        if law.spec.eviction != "lru" or law.spec.overwrite != "replace" or not law.spec.exact:
            raise NotAsked("it does not declare lru eviction with exact recall and replaced values")
        capacity = law.plug.shape(capacity=16).capacity
        if capacity > LONGEST:
            raise CannotMeasure(f"its capacity is fixed at {capacity}; let the factory take capacity")
        if capacity < 2:
            raise CannotMeasure("it holds one pair: the newest is all there is")
        for case in law.cases(capacity + 1, **law.distinct(capacity + 1)):
            memory = case.build()
            for rows in (slice(0, capacity), slice(0, 1), slice(capacity, None)):
                memory.store(case.keys[rows], case.values[rows])
            case.close(
                memory.query(case.keys[:1]),
                case.values[:1],
                cause="only a new key gets a new time; that is fifo",
                expected="the pair that was written again, for the next oldest made room",
            )

    # ---- state ----------------------------------------------------------------------------------------------------

    def test_empty_read(self, law: Law) -> None:
        """A memory that holds nothing answers zeros, freshly built and after reset."""
        if law.spec.empty_read != "zeros":
            raise NotAsked("it promises nothing about reading while empty")
        for case in law.cases(1, ladder=Ladder(thin=True, most=65)):
            memory = case.build()
            for _ in range(2):
                answers = memory.answers()
                case.same(
                    answers,
                    torch.zeros_like(answers),
                    cause="reading blends random or unused slots; mask them",
                    expected="zeros",
                )
                memory.store(case.keys, case.values)
                memory.reset()

    def test_constant_state(self, law: Law) -> None:
        """The bytes of state after 200 writes are those after one."""
        if not law.spec.constant_state:
            raise NotAsked("it does not claim a constant state")
        for case in law.cases(1):
            memory = case.build()
            memory.update(case.keys, case.values)
            was = case.let("was", "{}({})", state_bytes, memory)
            memory.update_rows(*case.pairs(199))
            now = case.let("now", "{}({})", state_bytes, memory)
            case.check(
                "now == was",
                got=f"{was} bytes after 1 write, {now} after 200",
                expected="the same number",
                cause="a list or buffer grows with every write, or tensors of earlier writes are kept",
            )

    def test_deterministic(self, law: Law) -> None:
        """A memory that claims to be deterministic draws from no global generator, and does not depend on one."""
        if not law.spec.deterministic:
            raise NotAsked("it does not claim to be deterministic")
        for case in law.cases(1, 20, ladder=Ladder(thin=True)):
            answers = []
            for seed in (1, 2):
                memory = case.build(seed=3)
                case.seed(seed)
                before = case.generators()
                memory.store(case.keys, case.values)
                answers.append(memory.answers())
                case.same_generators(
                    before, cause="update or query draws random numbers: eviction, dropout, noise, init"
                )
            case.same(answers[1], answers[0], cause="the result depends on a global generator", repeatable=False)

    @pytest.mark.parametrize("what", ["write", "read"])
    def test_stochastic(self, law: Law, what: str) -> None:
        """What the spec says draws random numbers does so: the same under one seed of the global generators, others under another."""
        if what not in law.spec.stochastic:
            raise NotAsked(f"it does not say that its {what}s draw")
        for case in law.cases(5):
            answers = []
            for seed in (1, 1, 2):
                memory = case.build()
                if what == "write":
                    case.seed(seed)
                memory.store(case.keys, case.values)
                if what == "read":
                    case.seed(seed)
                answers.append(memory.answers() if what == "write" else memory.live(case.probe).detach().clone())
            case.same(
                answers[1],
                answers[0],
                cause="it draws from a generator that is not global: then declare nothing, or draw from torch's",
                expected="the same answers under one seed",
            )
            case.moved(
                answers[2],
                answers[0],
                cause=f"its {what}s draw nothing: leave {what!r} out of stochastic",
                expected="other answers under another seed",
            )

    # ---- gradients ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", ["query", "keys", "values"])
    def test_differentiable(self, law: Law, what: str) -> None:
        """Where the spec says so, an answer has a gradient with respect to the query, or the keys or values written: finite, not zero."""
        if what not in law.spec.differentiable:
            raise NotAsked(f"it does not claim to be differentiable in {what}")
        if what != "query" and "Functional" not in law.plug.capabilities:
            raise CannotMeasure("gradients to what was written are asked through the functional form, and it has none")
        for case in law.cases(2, 5):
            for zero in (False, True) if law.spec.key_domain == "real" else (False,):
                # A zero row among the keys: norms have no derivative there, and must still not give NaN.
                keys = torch.cat((case.keys[:-1], 0 * case.keys[:1])) if zero else case.keys
                # Stored keys are asked too: a sparse read may find nothing near the others.
                asked = torch.cat((case.probe, 0 * case.keys[:1])) if zero else case.probe
                if law.spec.association == "auto" and zero:
                    continue
                leaves = {"query": asked, "keys": keys, "values": case.values}
                leaf = case.let("leaf", "{}.clone().requires_grad_()", leaves[what])
                answer = _answer(case, **(leaves | {what: leaf}))
                _has_gradient(case, answer, leaf, what)

    def test_gradient_after_inference(self, law: Law) -> None:
        """A memory that claims to work inside torch.inference_mode(), and gradients to the query, gives them outside for what was written inside."""
        spec = law.spec
        if not spec.inference_mode or "query" not in spec.differentiable:
            raise NotAsked("it does not claim both to work inside torch.inference_mode() and gradients to the query")
        for case in law.cases(2, 5):
            memory = case.build()
            cause = case.suspect = (
                "what is made inside inference_mode keeps no graph even outside: build the state under "
                "torch.inference_mode(False), or clone it at the first call outside"
            )
            with case.within("torch.inference_mode()"):
                memory.store(case.keys, case.values)
            leaf = case.let("leaf", "probe.clone().requires_grad_()")
            answer = memory.live(leaf)
            total = case.let("total", "{}.square().sum()", answer)
            case.check("{}.requires_grad", answer, got="no graph", expected="a gradient to the query", cause=cause)
            gradient = case.let("gradient", "torch.autograd.grad({}, {})[0]", total, leaf)
            case.finite(gradient, cause=cause)

    # ---- modes ----------------------------------------------------------------------------------------------------

    def test_inference_mode(self, law: Law) -> None:
        """A memory that claims it learns and answers inside torch.inference_mode() as outside; others get advice."""
        try:
            for case in law.cases(1, 5):
                want = case.stored().answers()
                case.suspect = (
                    "an inner gradient step: enable_grad does not work there; use inference_mode(False) and clones, "
                    "or a closed form"
                )
                with case.within("torch.inference_mode()"):
                    got = case.stored().answers().clone()
                case.close(
                    got,
                    want,
                    cause=case.suspect,
                    expected="the answers of a memory used outside inference_mode",
                )
        except LawBroken:
            if law.spec.inference_mode:
                raise
            advise(law.plug, "does not work inside torch.inference_mode(); a closed-form inner gradient would")
        if not law.spec.inference_mode:
            raise NotAsked("it does not claim to work inside torch.inference_mode()")


def _rounding_alone(case: Case, gap: float) -> bool:
    """Whether the last bit of what is written moves the answers by as much as this gap, as where training diverges.

    Nothing can then be said of how rows are grouped. A few rows do not come so far.
    """
    keys, values = case.keys, case.values
    if not gap > rounding(torch.float32) * max(1.0, values.abs().max().item()) or not keys.is_floating_point():
        return False
    answers = []
    for bit in (0.0, torch.finfo(keys.dtype).eps):
        memory = case.plug.build(case.shape)
        call(memory, "update", keys * (1 + bit), values * (1 + bit))
        answers.append(call(memory, "query", keys))
    return bool((answers[1] - answers[0]).abs().max() >= gap / 10)


def _why_apart(case: Case, got: Tensor, want: Tensor) -> str:
    """The likeliest cause of a difference between one call and its rows, as far as the evidence separates it.

    Small whole numbers are added without rounding in any format: where they come out alike, order counts by rounding alone.
    """
    gap, size = (got - want).abs().max().item(), max(1.0, want.abs().max().item())
    if not gap <= SLIGHT * size:
        return AT_ONCE
    if gap <= rounding(torch.float32) * size or {case.spec.key_domain, case.spec.value_domain} != {"real"}:
        return f"{AT_ONCE}; or {ROUNDED}"
    numbers = torch.arange(1.0, 1 + case.n, device=case.device)[:, None]
    keys = (numbers * torch.arange(2.0, 2 + case.shape.key_dim, device=case.device)) % 3 - 1
    values = (numbers * torch.arange(3.0, 3 + case.shape.value_dim, device=case.device)) % 5 - 2
    whole, rows = case.plug.build(case.shape), case.plug.build(case.shape)
    try:
        call(whole, "update", keys, values)
        for n in range(case.n):
            call(rows, "update", keys[n : n + 1], values[n : n + 1])
        alike = torch.equal(call(whole, "query", keys), call(rows, "query", keys))
    except Exception:  # such keys are nothing for it
        alike = False
    return ROUNDED if alike else f"{AT_ONCE}; or {ROUNDED}"


def lost_by_chance(plug: Plug, shape: Shape, keys: Tensor, values: Tensor) -> Tensor:
    """How often each pair is lost of memories that are given one pair more than they hold, each under a seed of its own.

    The chance that an even draw among ``DRAWN + 1`` pairs spares one of the stored ones in all :data:`TURNS` is 10^-9.
    """
    gone = torch.zeros(len(keys), dtype=torch.long)
    near = 1e-4 * max(1.0, values.abs().max().item())
    for turn in range(TURNS):
        memory = plug.build(shape, seed=unshared(turn))
        with seeded(unshared(TURNS + turn)):
            for key, value in zip(keys.split(1), values.split(1)):
                for _ in range(plug.spec.presentations):
                    call(memory, "update", key, value)
            gone += ((call(memory, "query", keys) - values).abs().amax(-1) > near).cpu()
    return gone


def _claimed_of_overwriting(law: Law) -> str:
    """What is promised of writing a key again.

    Raises:
        NotAsked: if nothing is.
    """
    if law.spec.overwrite == "none" or law.spec.association == "auto":
        raise NotAsked("it promises nothing about writing a key again")
    return law.spec.overwrite


def _overwrites(case: Case, claim: str, cause: str = "") -> None:
    """Of a key written again, the old value keeps and the new one has as much influence as is claimed."""
    old, new = case.values[:1], case.spare[:1]
    other_old, other_new = (case.changed(v, case.spec.value_domain) for v in (old, new))
    first, both = _rewritten(case, old, new)
    other_first, other_both = _rewritten(case, other_old, new)
    _, newer = _rewritten(case, old, other_new)
    new_first, _ = _rewritten(case, new)
    other_new_first, _ = _rewritten(case, other_new)
    # How much of the old value's influence is left, and how much the new one has, against a single write of each.
    change = "{}({} - {}, {} - {})"
    kept = case.let("kept", change, ratio, other_both, both, other_first, first)
    gained = case.let("gained", change, ratio, newer, both, other_new_first, new_first)
    holds, promise = {
        "replace": (
            "abs(kept) < 0.499 and gained > 0.501",
            "most of the new value's influence, less than half of the old",
        ),
        "add": ("abs(kept - 1) < 1e-3 and abs(gained - 1) < 1e-3", "all of both values' influence"),
        "blend": ("kept > 1e-3 and gained > 1e-3", "some of both values' influence"),
    }[claim]
    got = f"{kept:.2%} of the old value's influence on the answer is left, the new value has {gained:.2%} of its own"
    cause = (
        cause
        or {
            "replace": "the key is stored a second time and the first entry still answers, or the new value is ignored",
            "add": "an old value is corrected or overwritten on writing: declare overwrite='replace' or 'blend'",
            "blend": "the newer or the older value wins alone: declare overwrite='replace', or write the new one at all",
        }[claim]
    )
    case.check(holds, got=got, expected=f"overwrite={claim!r}: {promise}", cause=cause)
    if claim == "replace" and case.spec.exact:
        case.close(both, new, cause=cause, expected="the newest value itself")
    if claim == "blend":
        _blends(case, new)


def _rewritten(case: Case, old: Tensor, new: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Answers to key 0 after the case's pairs were stored with ``old`` as its value, and after it was given ``new``."""
    memory = case.build()
    memory.store(case.keys, torch.cat((old, case.values[1:])))
    first = memory.query(case.keys[:1])
    if new is not None:
        memory.store(case.keys[:1], new)
    return first, memory.query(case.keys[:1])


def _blends(case: Case, value: Tensor) -> None:
    """Writing the same value again must not overshoot it, as adding would."""
    memory = case.build()
    memory.store(case.keys[:1], value)
    once = memory.query(case.keys[:1])
    memory.store(case.keys[:1], value)
    twice = memory.query(case.keys[:1])
    far = [(answer - value).norm().item() for answer in (once, twice)]
    limit = far[0] + 1e-3 * value.norm().item()
    case.check(
        "({} - {}).norm() <= {}",
        *(twice, value, limit),
        got=f"distance to the value: {far[0]:.4g} after writing it once, {far[1]:.4g} after writing it twice",
        expected="overwrite='blend': between the values, so no farther",
        cause="values add up: declare overwrite='add'",
    )


def _rows_are_writes(law: Law) -> None:
    if law.spec.write not in ("sequential", "set"):
        raise NotAsked(
            f"it does not promise that the rows of a call act as calls of their own (write={law.spec.write!r})"
        )


def _claims_exact(law: Law) -> None:
    if not law.spec.exact:
        raise NotAsked("it does not claim to be exact")
    if law.spec.fidelity == "trained":
        raise NotAsked("it is only meaningful after outer training")


def _filled_and_touched(case: Case, memory: Driven, capacity: int) -> list[int]:
    """Write the case's pairs, touching the oldest in a full lru memory that can be touched; the indices to be kept."""
    lru = case.spec.eviction == "lru" and "Touching" in case.plug.capabilities and case.n < 2 * capacity
    memory.store(case.keys[:capacity], case.values[:capacity])
    if lru:
        memory.call("touch", case.keys[:1])
    # Row by row: within one call, two rows may both want the same victim only where the spec leaves it open.
    for row in range(capacity, case.n):
        memory.store(case.keys[row : row + 1], case.values[row : row + 1])
    more = case.n - capacity
    return [0, *range(more + 1, case.n)] if lru else list(range(more, case.n))


def _answer(case: Case, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The answers to ``query`` after the pairs were stored, with their graph: by the functional form where there is one."""
    memory = case.build()
    if "Functional" not in case.plug.capabilities:
        memory.store(keys, values)
        return memory.live(query)
    state = memory.start()
    for _ in range(case.spec.presentations):
        state = memory.write(state, keys, values)
    return memory.read(state, query)


def _has_gradient(case: Case, answer: Tensor, leaf: Tensor, what: str) -> None:
    cause = "a detach, no_grad, argmax or in-place write to .data cuts the graph; or the claim is wrong"
    case.check(
        "{}.requires_grad",
        answer,
        got="the answer has no graph at all",
        expected=f"differentiable in {what}",
        cause=cause,
    )
    weights = case.let("weights", "torch.linspace(-1, 2, {0}.numel()).reshape({0}.shape).to({0})", answer)
    total = case.let("total", "({} * {}).sum()", answer, weights)
    gradient = case.let("gradient", "torch.autograd.grad({}, {}, allow_unused=True)[0]", total, leaf)
    case.check(
        "gradient is not None and gradient.any()",
        got="no gradient" if gradient is None else "a gradient of zeros",
        expected=f"a gradient to {what}",
        cause=cause,
    )
    case.check(
        "gradient.isfinite().all()",
        got=f"{int((~gradient.isfinite()).sum())} of {gradient.numel()} entries are NaN or infinite",
        expected=f"a finite gradient to {what}",
        cause="sqrt or a norm at zero, or a mask applied after log or division: use torch.where on the input",
    )
