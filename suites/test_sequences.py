"""Sequence models: step, run and state agree, sequences are apart from each other and from what comes later, and every weight counts."""

from __future__ import annotations

import copy
import io

import pytest
from torch import Tensor, nn

from memspec.errors import NotAsked
from memspec.laws import sequences as shared
from memspec.laws.law import Law
from memspec.laws.sequences import BATCH, Running, SequenceCase, rotated, sequences

LONG = 300
"""Steps after which what grows without bound has grown."""


class TestSequences:
    """Sequence models: step, run and state agree, sequences are apart from each other and from what comes later, and every weight counts."""

    pytestmark = [pytest.mark.law, pytest.mark.sequence]  # noqa: RUF012 (pytest reads a list)

    # ---- one run, many ways ---------------------------------------------------------------------------------------

    def test_run_is_steps(self, law: Law) -> None:
        """`run` over a sequence is `step` after step: the outputs, and the state at the end."""
        for case in sequences(law, 1, 2, 7, 33, 65):
            model = case.build()
            start = model.start()
            ys = model.run(case.xs, start)
            case.let("s", start)
            steps = [model.step(f"xs[{t}]", "s") for t in range(case.n)]
            case.close(
                ys,
                case.let("stepped", "torch.stack([" + ", ".join(map(case.ref, steps)) + "])"),
                cause="run has a second implementation that has drifted from step, or drops the remainder of a chunk",
                expected="the outputs of step after step",
            )
            case.close(
                model.step("others[0]", "after"),
                model.step("others[0]", "s"),
                cause="the state that run gives back is not the one that the last step leaves",
                expected="the same next step from both states",
            )

    def test_segments(self, law: Law) -> None:
        """State carried from segment to segment, wherever a sequence is cut, gives what one run over the whole gives."""
        for case in sequences(law, 2, 7, 33):
            model = case.build()
            ys = model.run(case.xs, model.start())
            for lengths in shared.cuts(case.n):
                case.let("carried", model.start())
                parts, at = [], 0
                for length in lengths:
                    rows = case.let("rows", f"xs[{at}:{at + length}]")
                    parts.append(model.run(rows, "carried", "carried"))
                    at += length
                case.close(
                    case.let("joined", "torch.cat([" + ", ".join(map(case.ref, parts)) + "])"),
                    ys,
                    cause="the state that is given is not begun with, or what waits for a full segment is dropped",
                    expected=f"the outputs of one run, in segments of {', '.join(map(str, lengths))}",
                )

    def test_run_is_pure(self, law: Law) -> None:
        """`step` and `run` leave the state they are given as it was, and keep none: a sequence can be run again from it."""
        for case in sequences(law, 1, 7):
            model = case.build()
            start = model.start()
            case.let("half", f"{{}}.step({{}}[0], {start})[1]", model, case.others)
            first, second = (model.run(case.xs, "half") for _ in range(2))
            cause = "an in-place operation on the state that was given, or a state that is kept on the module"
            case.same(second, first, cause=cause, expected="the same outputs again, bit for bit")

    # ---- sequences of a batch -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", ["numbers", "nan"])
    def test_isolated(self, law: Law, what: str) -> None:
        """What one sequence of a batch is, NaN included, leaves the outputs of the others as they are, bit for bit."""
        for case in sequences(law, 1, 7):
            model = case.build()
            was = model.run(case.xs, model.start())
            xs = case.let("other", "{}.clone()", case.xs)
            case.do('other[:, 1] = float("nan")' if what == "nan" else "other[:, 1] = {}[:, 1]", case.others)
            if what == "nan" and law.spec.nonfinite == "reject" and _refuses(case, model, xs):
                raise NotAsked("it rejects NaN, as it says")
            now = model.run(xs, model.start())
            mine, before = case.let("mine", "{}[:, ::2]", now), case.let("before", "{}[:, ::2]", was)
            cause = "a norm, a mean, a sum or a softmax over the batch, or one state for all sequences"
            case.same(mine, before, cause=cause, expected="sequences 0 and 2 as before, bit for bit")
            if what == "numbers":
                case.moved(now, was, cause="run ignores its inputs", expected="other outputs in sequence 1")

    def test_alone(self, law: Law) -> None:
        """A sequence gives alone what it gives in a batch."""
        for case in sequences(law, 1, 7):
            model = case.build()
            together = model.run(case.xs, model.start())
            parts = []
            for number in range(BATCH):
                mine = case.let("mine", f"xs[:, {number}:{number + 1}]")
                parts.append(model.run(mine, model.start(1)))
            case.close(
                case.let("alone", "torch.cat([" + ", ".join(map(case.ref, parts)) + "], 1)"),
                together,
                cause="a squeeze that takes the batch of one away, or a statistic over the batch",
                expected="the outputs of all sequences in one batch",
            )

    # ---- time -----------------------------------------------------------------------------------------------------

    def test_causal(self, law: Law) -> None:
        """An output depends on inputs up to its own step alone: what comes later changes none before it, bit for bit."""
        for case in sequences(law, 2, 7, 33):
            model = case.build()
            was = model.run(case.xs, model.start())
            for at in sorted({1, case.n // 2, case.n - 1}):
                xs = case.let("later", f"torch.cat((xs[:{at}], others[{at}:]))")
                now = model.run(xs, model.start())
                case.same(
                    case.let("early", f"{{}}[:{at}]", now),
                    case.let("before", f"{{}}[:{at}]", was),
                    cause="the whole sequence is pooled, normalised or attended to before it is read (no causal mask)",
                    expected=f"outputs before step {at} as they were, bit for bit",
                )

    def test_remembers(self, law: Law) -> None:
        """What came first shows in a later output: the state carries something."""
        for case in sequences(law, 2, 4):
            model = case.build()
            was = model.run(case.xs, model.start())
            now = model.run(case.let("other", "torch.cat(({}[:1], {}[1:]))", case.others, case.xs), model.start())
            case.moved(
                case.let("last", "{}[-1]", now),
                case.let("before", "{}[-1]", was),
                cause="the state is made anew at every step, or nothing that is written to it is read",
                expected=f"another output at step {case.n - 1}, where the first input is another",
            )

    def test_long(self, law: Law) -> None:
        """Outputs stay finite over a long run, for inputs ten times as large too."""
        for case in sequences(law, LONG):
            model = case.build()
            for factor in (1, 10):
                xs = case.let("long", f"{factor} * xs")
                case.finite(
                    model.run(xs, model.start()), cause="a recurrence that grows, or a quotient of what vanishes"
                )

    # ---- weights --------------------------------------------------------------------------------------------------

    def test_alive(self, law: Law) -> None:
        """Every parameter matters: changed altogether, it changes some output."""
        for case in sequences(law, 7):
            model = case.trained()
            dead = case.let("dead", "{}({}, {})", shared.dead_weights, model, case.xs)
            case.check(
                "not dead",
                got=f"no output depends on {', '.join(dead)}",
                expected="every parameter in use",
                cause="a layer that is never called, or a bias that a softmax or a norm takes away again",
            )

    def test_gradients(self, law: Law) -> None:
        """Gradients of the outputs reach every parameter that they depend on, and the first input from the last output."""
        for case in sequences(law, 7):
            model = case.trained()
            unreached = case.let("unreached", "{}({}, {})", shared.unreached_weights, model, case.xs)
            case.check(
                "not unreached",
                got=f"outputs depend on {', '.join(unreached)}, which get no gradient, or one that is not finite",
                expected="a finite gradient for every parameter in use",
                cause="a detach, no_grad or argmax between the memory's interface and what is read",
            )
            leaf = case.let("leaf", "{}.clone().requires_grad_()", case.xs)
            ys = case.let("ys", "{}({}, {})", shared.outputs_of, model, leaf)
            if not bool(ys.requires_grad):
                raise NotAsked("its outputs have no graph, and no weight of it is to be trained")
            slope = case.let("slope", "torch.autograd.grad({}[-1].square().sum(), {})[0][0]", ys, leaf)
            case.check(
                "{}.isfinite().all() and {}.any()",
                slope,
                slope,
                got=f"a gradient whose largest entry is {slope.abs().max().item():.3g}",
                expected="a finite gradient, not zero everywhere",
                cause="the state is detached from step to step, or only the present input is read",
            )

    # ---- saving, numbers, sizes -----------------------------------------------------------------------------------

    def test_saved(self, law: Law) -> None:
        """Saved in the middle of a sequence and loaded into another instance, weights and state go on as before."""
        law.plug.needs("Persistent")
        for case in sequences(law, 2, 9):
            model = case.build()
            half = case.n // 2
            model.run(case.let("early", f"xs[:{half}]"), model.start(), "middle")
            rest = case.let("rest", f"xs[{half}:]")
            case.let("file", "{}.BytesIO()", io)
            case.do("torch.save(({}.state_dict(), middle), file)", model)
            case.do("file.seek(0)")
            case.do("weights, loaded = torch.load(file, weights_only=False)")
            other = case.build(seed=1)
            case.do("{}.load_state_dict(weights)", other)
            want = model.run(rest, "middle")
            case.same(
                other.run(rest, "loaded"),
                want,
                cause="a part of the state, or a tensor that is no buffer, is kept on the module and not saved",
                expected="the rest of the sequence, bit for bit",
            )
            case.let("twin", "{}.deepcopy({})", copy, model)
            twin = Running(case, case.script.names["twin"], "twin")
            case.same(
                twin.run(rest, "middle"),
                want,
                cause="a copy shares or loses tensors",
                expected="a copy that goes on alike",
            )

    def test_double(self, law: Law) -> None:
        """Moved to float64 by `.to()`, a model answers in float64, and no worse."""
        if not isinstance(law.plug.probe, nn.Module):
            raise NotAsked("it is not an nn.Module")
        for case in sequences(law, 5):
            model = case.build()
            was = model.run(case.xs, model.start())
            cause = case.suspect = "a state or a buffer is made in float32, whatever the module has been moved to"
            case.do("{}.to(torch.float64)", model)
            wide = model.run(case.let("wide", "{}.double()", case.xs), model.start())
            case.check(
                "{}.dtype == torch.float64", wide, got=f"outputs of {wide.dtype}", expected="float64", cause=cause
            )
            case.close(wide, was, cause=cause, expected="the outputs before", tolerance=1e-4)

    def test_sizes(self, law: Law) -> None:
        """Sizes that are not equal to each other work, whichever is the larger."""
        for case in rotated(law):
            case.suspect = "one size stands where another belongs: they are the same only where all sizes are equal"
            model = case.build()
            ys = model.run(case.xs, model.start())
            case.finite(ys, cause=case.suspect)
            if "output_size" in case.sizes:
                case.check(
                    "{}.shape[-1] == {}",
                    ys,
                    case.sizes["output_size"],
                    got=f"outputs {ys.shape[-1]} wide",
                    expected=f"outputs {case.sizes['output_size']} wide: the output_size that was asked for",
                    cause=case.suspect,
                )


def _refuses(case: SequenceCase, model: Running, xs: Tensor) -> bool:
    """Whether a run over these inputs raises."""
    try:
        model.model.run(xs, model.model.initial_state(xs.shape[1]))
    except ValueError:
        return True
    return False
