"""Modes of a module: train and eval, frozen weights, another dtype and back, and gradients that are the slopes they claim to be."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from memspec.errors import CannotMeasure, NotAsked
from memspec.laws.case import Case, Size
from memspec.laws.compare import NAMES_A_DTYPE, NOISE, rounding
from memspec.laws.driven import Driven
from memspec.laws.ladder import Ladder
from memspec.laws.law import Law

STEP = 1e-6
"""Of finite differences, in float64."""
SLOPES = 1e-3
"""How near a gradient comes to a difference quotient, relative to the larger: rounding is far below, a lost term far above."""
HALVES = ["bfloat16", "float16"]
AT_ODDS = r"(?i)same d?type|dtypes? .*(match|be the same)|expected scalar type|!="
"""What torch says where two tensors that meet are of different dtypes: then a module of one dtype mixes them itself."""
MANY = (81, 130)
"""Rows that are more than the thresholds in use."""
DIRECTIONS = 5
"""Along which slopes are compared; some may meet a kink, where another slot is chosen."""


class TestModes:
    """Modes of a module: train and eval, frozen weights, another dtype and back, and gradients that are the slopes they claim to be."""

    pytestmark = pytest.mark.law

    # ---- train and eval -------------------------------------------------------------------------------------------

    def test_round_trip(self, law: Law) -> None:
        """Going to `eval()` and back to `train()` changes no answer, drops nothing that was stored, and calls leave the mode as it was."""
        _module(law)
        for case in law.cases(1, 7, ladder=Ladder(thin=True, most=65)):
            memory = case.stored()
            before = memory.answers()
            for mode in ("eval", "train"):
                case.do(f"{{}}.{mode}()", memory)
                memory.answers()
                case.check(
                    f"{{}}.training is {mode == 'train'}",
                    memory,
                    got=f"after {mode}() and a query, training is {memory.memory.training}",
                    expected="the mode that the caller set",
                    cause="query switches to eval and does not put back what was",
                )
            case.same(
                memory.answers(),
                before,
                cause="train() or eval() is overridden and resets, flushes or merges the state",
                expected="the answers before eval() and train(), bit for bit",
            )

    def test_eval_learns(self, law: Law) -> None:
        """In `eval()` a memory stores, answers and resets as a memory does; where it claims to be deterministic, with the answers of `train()`."""
        _module(law)
        for case in law.cases(1, 7, **law.distinct(7)):
            memory, other = case.build(), case.build()
            for each in (memory, other):
                case.do("{}.eval()", each)
            fresh = memory.answers()
            keys, values = case.changed_pairs(case.keys, case.values)
            memory.update(case.keys, case.values, times=20)
            other.update(keys, values, times=20)
            got = memory.answers()
            case.same(memory.answers(), got, cause="query draws random numbers in eval(), or writes to the state")
            if "zeros" not in law.spec.empty_read or bool(got.any()):
                case.moved(
                    other.query(case.probe),
                    got,
                    cause="update does nothing in eval(): what is stored is state, not training",
                    expected="other answers where other values were written, in eval() too",
                )
            if law.spec.deterministic:
                usual = case.build()
                usual.update(case.keys, case.values, times=20)
                case.close(
                    got,
                    usual.answers(),
                    cause="a dropout, a noise or a norm that works in train() alone: then it is not deterministic",
                    expected="the answers of train()",
                )
            memory.reset()
            case.same(memory.answers(), fresh, cause="reset does less in eval()")
            case.check(
                "{}.training is False",
                memory,
                got="training is True",
                expected="the mode that the caller set",
                cause="update or reset switches to train and does not put back what was",
            )

    # ---- frozen weights -------------------------------------------------------------------------------------------

    def test_frozen(self, law: Law) -> None:
        """With `requires_grad_(False)` on all its slow weights a memory stores and answers as without."""
        _module(law)
        parameters = dict(law.plug.probe.named_parameters())
        if not parameters:
            raise NotAsked("it has no parameters")
        for case in law.cases(1, 5):
            usual, frozen = case.build(), case.build()
            was = {name: p.detach().clone() for name, p in usual.memory.named_parameters()}
            case.seed(1)
            usual.store(case.keys, case.values)
            if any(not torch.equal(p, was[name]) for name, p in usual.memory.named_parameters()):
                raise NotAsked("its parameters are its state: update trains them")
            case.do("{}.requires_grad_(False)", frozen)
            case.suspect = "an inner gradient goes by way of the slow weights' own graph; make leaves of the fast ones"
            case.seed(1)
            frozen.store(case.keys, case.values)
            case.close(frozen.answers(), usual.answers(), cause=case.suspect, expected="the answers with weights free")
            still = [name for name, p in frozen.memory.named_parameters() if p.requires_grad]
            case.check(
                "not any(p.requires_grad for p in {}.parameters())",
                frozen,
                got=f"{still} require grad again",
                expected="weights that stay frozen",
                cause="update sets requires_grad_(True) and leaves it there",
            )

    # ---- dtype ----------------------------------------------------------------------------------------------------

    def test_double(self, law: Law) -> None:
        """Moved to float64 by `.to()`, with what it holds, a module answers in float64 and no worse; moved back, it goes on as before."""
        _module(law)
        for case in law.cases(1, 7):
            memory = case.stored()
            before = memory.answers()
            wide = _widened(case, memory)
            if wide is None:
                raise NotAsked("it refuses float64")
            cause = "tensors that are neither parameters nor buffers do not follow .to(): keep state in buffers, or in _apply"
            case.check(
                "{}.dtype == torch.float64",
                wide,
                got=f"answers of {wide.dtype}",
                expected="float64 for keys of float64",
                cause=cause,
            )
            if law.spec.deterministic:
                case.close(wide, before, cause=cause, expected="the answers before", tolerance=1e-4)
            memory.update(case.others.double(), case.spare.double() if not _auto(case) else case.others.double())
            case.finite(memory.query(case.probe.double()), cause=cause)
            cause = case.suspect = "reset makes its state in float32, whatever the module has been moved to"
            memory.reset()
            case.finite(memory.query(case.probe.double()), cause=cause)
            memory.store(case.keys.double(), case.values.double())
            case.finite(memory.query(case.probe.double()), cause=cause)
            cause = "what was made in float64 stays so after .to(torch.float32)"
            case.do("{}.to(torch.float32)", memory)
            case.suspect = cause
            memory.reset()
            case.same(
                memory.answers(),
                case.build().answers(),
                cause="what was made in float64 stays so after .to(torch.float32)",
                expected="after reset, the answers of a fresh memory",
            )

    def test_double_is_double(self, law: Law) -> None:
        """Moved to float64, a module that claims to be exact or of a family works to float64 precision."""
        _module(law)
        spec = law.spec
        if spec.value_domain != "real" or not (spec.exact or spec.family != "generic"):
            raise NotAsked("it claims neither to be exact nor a family, or its values have no small steps")
        if _auto(next(law.cases(1))):
            raise NotAsked("it recalls the key itself")
        for case in law.cases(Size(3, dtype=torch.float64), Size(7, dtype=torch.float64)):
            first, second = case.build(), case.build()
            for each in (first, second):
                case.do("{}.to(torch.float64)", each)
            if first.refused("query", case.probe) is not None:
                raise NotAsked("it refuses float64")
            first.store(case.keys, case.values)
            second.store(case.keys, case.let("near", "values * (1 + 1e-9)"))
            want, got = first.query(case.keys), second.query(case.keys)
            case.check(
                "({} - {}).abs().max() > 0",
                *(got, want),
                got="the same answers, bit for bit",
                expected="answers that follow a step of 1e-9 of the values",
                cause="something on the way is float32 in a module of float64: a buffer made anew, a cast, a constant",
            )
            if spec.exact and spec.fidelity != "trained":
                case.close(
                    want,
                    case.values,
                    cause="a cast to float32 on the way",
                    expected="the stored values",
                    tolerance=rounding(torch.float64),
                )

    @pytest.mark.parametrize("name", HALVES)
    def test_half(self, law: Law, name: str) -> None:
        """Moved to half precision by `.to()`, full or empty, a module works throughout, for many rows as for one, or refuses in words that name the dtype."""
        _module(law)
        dtype = getattr(torch, name)
        one_row: dict[tuple[str, int], bool] = {}
        for case in law.cases(1, 7, 33):
            rows = {part: case.let(f"{part}_half", f"{part}.to({dtype})") for part in ("keys", "values", "probe")}
            calls = {"update": (rows["keys"], rows["values"]), "query": (rows["probe"],)}
            for life, memory in (("full", case.stored()), ("empty", case.build())):
                case.do(f"{{}}.to({dtype})", memory)
                for turn, method in enumerate(("query", "update", "query")):
                    error = memory.refused(method, *calls[method])
                    if error is not None:
                        _refuses(case, error, name, one_row.get((life, turn), False))
                        break
                    one_row.setdefault((life, turn), case.n == 1)
                    if method == "query":
                        _halved(case, memory.query(rows["probe"]), dtype)

    # ---- gradients ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", ["query", "keys", "values"])
    def test_slopes(self, law: Law, what: str) -> None:
        """Where the spec says that answers are differentiable, their gradient is the slope that finite differences find."""
        if what not in law.spec.differentiable:
            raise NotAsked(f"it does not claim to be differentiable in {what}")
        if what != "query" and "Functional" not in law.plug.capabilities:
            raise CannotMeasure("gradients to what was written are asked through the functional form, and it has none")
        if _auto(next(law.cases(1))) or "real" not in (
            law.spec.value_domain if what == "values" else law.spec.key_domain
        ):
            raise NotAsked("it takes no small steps there")
        # Many rows too: past 64 or 128, reads are pruned and writes go in chunks.
        many = [Size(n, capacity=2 * n, dtype=torch.float64) for n in MANY]
        for case in law.cases(Size(2, dtype=torch.float64), Size(5, dtype=torch.float64), *many):
            if case.n in MANY and case.n > case.shape.capacity:
                return
            memory = case.build()
            if isinstance(memory.memory, nn.Module):
                case.do("{}.to(torch.float64)", memory)
            if memory.refused("query", case.probe) is not None or memory.query(case.probe).dtype != torch.float64:
                raise CannotMeasure("it does not work in float64, and differences in float32 are too coarse")
            if law.spec.precision == "own" and not isinstance(memory.memory, nn.Module):
                raise CannotMeasure("it computes in a dtype of its own, in which differences may be too coarse")
            agreed = [_slopes(case, memory, what, turn) for turn in range(DIRECTIONS)]
            gaps = sorted(gap for gap, _, _ in agreed)
            gap, slope, quotient = agreed[[a[0] for a in agreed].index(gaps[DIRECTIONS // 2])]
            case.check(
                f"{gap!r} <= {SLOPES}",
                got=f"along the middle one of {DIRECTIONS} directions the gradient is {slope:.6g}, the quotient {quotient:.6g}",
                expected=f"both alike, to {SLOPES:g} of the larger",
                cause="a detach or no_grad on part of the way, an in-place change, or a gradient of another function",
            )


def _module(law: Law) -> None:
    if not isinstance(law.plug.probe, nn.Module):
        raise NotAsked("it is not an nn.Module")


def _auto(case: Case) -> bool:
    return case.spec.association == "auto"


def _widened(case: Case, memory: Driven) -> Tensor | None:
    """The answers to the case's probe after ``.to(torch.float64)``, in float64; None where that is refused."""
    case.do("{}.to(torch.float64)", memory)
    probe = case.let("wide", "probe.double()")
    if memory.refused("query", probe) is not None:
        return None
    return memory.query(probe)


def _refuses(case: Case, error: Exception, name: str, taken: bool) -> None:
    """A module of one dtype refuses rows of that dtype, which ``taken`` says it took when there was one of them."""
    said = f"{type(error).__name__}: {error}"
    case.check(
        "{0}({1}, str(error)) and not {0}({2}, str(error))",
        *(re.search, NAMES_A_DTYPE, AT_ODDS),
        got=said,
        expected=f"an answer in {name}, or an error that says that {name} is not taken",
        cause="module and rows are of one dtype, and something inside is of another: a state or constant made anew, or a "
        "cast of one of two tensors that meet; or what rounding left of the state is a singular system",
    )
    case.check(
        f"not {taken}",
        got=f"{case.n} rows are refused ({said}), and one row was taken",
        expected="the same for any number of rows",
        cause="a solver that only several rows need has no half precision: compute in float32 there",
    )


def _halved(case: Case, answer: Tensor, dtype: torch.dtype) -> None:
    """What a module that was moved to ``dtype`` answers to keys of that dtype."""
    case.check(
        f"{{}}.dtype == {dtype}",
        answer,
        got=f"answers of {answer.dtype}",
        expected=f"{dtype}, as the keys and the module",
        cause="the state is of a dtype of its own and the answer is not cast: answer.to(keys.dtype)",
    )
    case.finite(answer, cause="an eps that is nothing in half precision, or a sum that overflows; compute in float32")


def _slopes(case: Case, memory: Driven, what: str, turn: int) -> tuple[float, float, float]:
    """How far the gradient along one direction is from a difference quotient, and both."""
    leaves = {"query": case.probe, "keys": case.keys, "values": case.values}
    at = leaves[what]
    generator = f"torch.Generator().manual_seed({turn})"
    along = case.let("along", f"torch.randn({tuple(at.shape)}, generator={generator}).to({{}})", at)
    leaf = case.let("leaf", "{}.clone().requires_grad_()", at)
    answer = _asked(case, memory, leaves | {what: leaf})
    weights = case.let(
        "weights", "torch.randn({0}.shape, generator=torch.Generator().manual_seed(9)).to({0}).detach()", answer
    )
    case.let("gradient", "torch.autograd.grad(({} * {}).sum(), {}, allow_unused=True)[0]", answer, weights, leaf)
    slope = float(case.let("slope", "0.0 if gradient is None else float((gradient * {}).sum())", along))
    ends = []
    for sign in (1, -1):
        moved = case.let("moved", f"{{}} + {sign * STEP} * {{}}", at, along)
        ends.append(case.let("end", "float(({} * {}).sum())", _asked(case, memory, leaves | {what: moved}), weights))
    quotient = (ends[0] - ends[1]) / (2 * STEP)
    size = max(abs(slope), abs(quotient), NOISE)
    return abs(slope - quotient) / size, slope, quotient


def _asked(case: Case, memory: Driven, given: dict[str, Tensor]) -> Tensor:
    """The answers after the pairs were stored, with their graph: by the functional form where there is one."""
    if "Functional" not in case.plug.capabilities:
        memory.reset()
        memory.store(given["keys"], given["values"])
        return memory.live(given["query"])
    state = memory.start()
    for _ in range(case.spec.presentations):
        state = memory.write(state, given["keys"], given["values"])
    return memory.read(state, given["query"])
