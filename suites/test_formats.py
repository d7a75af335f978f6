"""Number formats: other precisions are answered in kind or refused, and small, large and shifted numbers as well as others."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from memspec.errors import NotAsked
from memspec.laws.case import CAPACITY, Case, Size
from memspec.laws.compare import NAMES_A_DTYPE, rounding
from memspec.laws.law import Law

FORMATS = ["float64", "bfloat16", "float16"]
LINEAR = ("hebbian", "delta", "least_squares", "cache", "softmax", "superposition")
"""Families whose answers are proportional to the values written."""
SMOOTH = ("hebbian", "delta", "least_squares", "softmax", "superposition")
"""Families whose answers follow every small step of a key."""
EXACTLY = [
    *("scale-1e-6", "scale-1e6", "offset-100", "offset-3000", "signed-zeros", "offset-values-1e4", "mixed-values"),
]
"""What keys and values of exact memories are made of."""
STEP = 1e-9
"""A relative step that float64 resolves a million times over, and float32 not at all."""


class TestFormats:
    """Number formats: other precisions are answered in kind or refused, and small, large and shifted numbers as well as others."""

    pytestmark = pytest.mark.law

    # ---- precisions -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", FORMATS)
    def test_in_kind(self, law: Law, name: str) -> None:
        """Keys and values of another precision are refused by an error that names the dtype, or answered in that dtype; and after `reset` all is as before."""
        dtype = getattr(torch, name)
        for case, plain in zip(law.cases(Size(3, dtype=dtype), Size(7, dtype=dtype)), law.cases(3, 7)):
            memory = case.build()
            fresh = memory.query(case.let("usual", "probe.float()"))
            error = memory.refused("update", case.keys, case.values)
            if error is None:
                error = memory.refused("query", case.probe)
            if error is None:
                answer = memory.answers()
                _in_kind(case, answer, dtype)
                if plain.spec.exact and plain.spec.presentations == 1:
                    case.close(
                        memory.query(case.keys),
                        case.values,
                        cause=f"values go through a coarser dtype than {name} on their way in or out",
                        expected="the stored values",
                        tolerance=max(rounding(dtype), rounding(torch.float32)),
                    )
            else:
                _clearly(case, error, name)
            cause = case.suspect = f"rows of {name} leave the state in another dtype, or half written"
            memory.reset()
            case.same(memory.query(case.script.names["usual"]), fresh, cause=cause)

    def test_double(self, law: Law) -> None:
        """Where `exact` or a family is claimed, float64 goes through float64: answers follow steps that float32 cannot hold."""
        spec = law.spec
        if spec.precision == "own":
            raise NotAsked("it declares that it computes in a dtype of its own")
        if not (spec.exact or spec.family in LINEAR):
            raise NotAsked("it claims neither to be exact nor a family")
        if spec.value_domain != "real" or spec.association == "auto" or spec.key_domain not in ("real", "unit"):
            raise NotAsked("its domains have no small steps")
        for case in law.cases(*(Size(n, dtype=torch.float64) for n in (1, 3, 5))):
            case.let("keys", "keys / keys.norm(dim=-1, keepdim=True)")  # no float32 number any more
            near = case.let("near", f"values / 3 * (1 + {STEP})")
            first, second = case.build(), case.build()
            error = first.refused("update", case.script.names["keys"], case.let("third", "values / 3"))
            if error is None:
                error = first.refused("query", case.others)
            if error is not None:
                raise NotAsked(f"it refuses float64 ({type(error).__name__})")
            for _ in range(spec.presentations - 1):
                first.update(case.script.names["keys"], case.script.names["third"])
            second.store(case.script.names["keys"], near)
            asked = case.script.names["keys"]
            got, want = second.query(asked), first.query(asked)
            cause = (
                "state or arithmetic is float32 and only the answer is cast; compute in the inputs' dtype, or declare "
                "precision='own'"
            )
            case.close(
                case.let("change", "({} - {}) * {}", got, want, 1 / STEP),
                want,
                cause=cause,
                expected="answers that follow a step of 1e-9 of the values",
                tolerance=1e-3,
            )
            if spec.exact:
                case.close(want, case.script.names["third"], cause=cause, expected="the stored values")
            if spec.family in SMOOTH:
                beside = first.query(case.let("beside", f"{{}} + {STEP} * torch.ones_like({{}})", asked, asked))
                case.check(
                    "0 < ({} - {}).abs().max() < 1e-3",
                    *(beside, want),
                    got="the same answers, bit for bit" if torch.equal(beside, want) else "answers far from those",
                    expected="answers that follow a step of 1e-9 of the keys asked",
                    cause=cause,
                )

    # ---- magnitudes -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
    def test_value_scale(self, law: Law, scale: float) -> None:
        """Values of 1e-6 to 1e6 are answered finitely; by an exact memory and by every family as accurately as others, relative to their size."""
        if law.spec.value_domain != "real" or law.spec.association == "auto":
            raise NotAsked("its values are declared to be of one size, or are its keys")
        # Where an empty memory answers zeros, what it starts from cannot stay behind as values grow.
        proportional = law.spec.exact or (law.spec.family in LINEAR and law.spec.empty_read == "zeros")
        for case in law.cases(1, 7):
            memory, usual = case.build(), case.build()
            memory.store(case.keys, case.let("scaled", f"values * {scale!r}"))
            answers = memory.query(case.keys)
            cause = (
                "an eps, a clamp or a threshold in absolute numbers: large beside small values, small beside large ones"
            )
            case.finite(answers, cause=cause)
            if law.spec.fidelity == "trained" or not proportional:
                continue
            usual.store(case.keys, case.values)
            case.close(
                case.let("relative", f"{{}} / {scale!r}", answers),
                usual.query(case.keys),
                cause=cause,
                expected=f"{scale:g} times the answers for values of ordinary size",
            )

    @pytest.mark.parametrize("kind", EXACTLY)
    def test_exact(self, law: Law, kind: str) -> None:
        """A memory that claims to be exact recalls small, large and shifted keys, few or many, zeros of either sign, shifted values, and values of unequal size, each to float precision."""
        spec = law.spec
        if not spec.exact or spec.fidelity == "trained":
            raise NotAsked("it does not claim to be exact")
        about_keys = "values" not in kind
        if (spec.key_domain if about_keys else spec.value_domain) != "real" or spec.association == "auto":
            raise NotAsked("such numbers are outside the declared domain")
        moved = {
            "scale-1e-6": "keys * 1e-6",
            "scale-1e6": "keys * 1e6",
            "offset-100": "keys + 100",
            "offset-3000": "keys + 3000",
            "signed-zeros": "torch.where(torch.arange(keys.shape[-1], device=keys.device) % 2 == 0, 0.0, keys)",
            "offset-values-1e4": "values + 1e4",
            "mixed-values": "values * 10 ** torch.linspace(-4, 4, len(values), device=values.device)[:, None]",
        }[kind]
        capacity = law.plug.shape(capacity=16).capacity
        # Of many shifted keys distances are often computed from their squares, in which nothing of a difference is left.
        sizes = {1, 2, min(7, capacity)} if kind != "offset-3000" else {min(40, law.plug.shape(capacity=48).capacity)}
        for case in law.cases(*sorted(sizes), capacity=CAPACITY if kind != "offset-3000" else 48):
            other = case.let("moved", moved)
            keys, values = (other, case.values) if about_keys else (case.keys, other)
            memory = case.build()
            memory.store(keys, values)
            if kind == "signed-zeros":  # -0.0 is the number 0.0, and other bits
                keys = case.let("asked", "torch.where({0} == 0, -0.0, {0})", keys)
            case.close(
                case.let("each", "{} / {}.abs().amax(-1, keepdim=True)", memory.query(keys), values),
                case.let("whole", "{} / {}.abs().amax(-1, keepdim=True)", values, values),
                cause="keys are looked up by their bits, in which -0.0 is not 0.0: add 0.0 first"
                if kind == "signed-zeros"
                else "similarity saturates, distances come from squares that cancel (cdist by matrix products), a threshold "
                "in absolute numbers takes different keys for one, or another slot's value leaks in: normalise, or scale "
                "what is absolute",
                expected="the stored values, each relative to its own size",
                tolerance=10 * rounding(torch.float32) if kind == "mixed-values" else None,
            )


def _in_kind(case: Case, answer: Tensor, dtype: torch.dtype) -> None:
    case.check(
        "{}.dtype == {}",
        *(answer, dtype),
        got=f"an answer of {answer.dtype}",
        expected=f"{dtype}, as the keys, or an error that names the dtype",
        cause="the state keeps a dtype of its own and the answer is not cast: answer.to(keys.dtype)",
    )
    case.finite(answer, cause="an eps or a sum that is nothing, or infinite, in half precision; compute in float32")


def _clearly(case: Case, error: Exception, name: str) -> None:
    case.check(
        "{}({}, str(error))",
        *(re.search, NAMES_A_DTYPE),
        got=f"{type(error).__name__}: {error}",
        expected=f"an answer in {name}, or an error that names the dtype",
        cause="raise TypeError with the dtype that came and those that are taken",
    )
