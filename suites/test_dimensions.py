"""Dimensions: how recall grows with the width of tokens, and of the memory inside."""

from __future__ import annotations

import pytest

from memspec.experiments.base import Runner
from memspec.experiments.dimensions import INTERNAL, MEMORY_DIMS, TOKEN, TOKEN_DIMS, Internal, Token
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug
from memspec.theory import SMALLEST, band


class TestDimensions:
    """Dimensions: how recall grows with the width of tokens, and of the memory inside."""

    @pytest.mark.measurement
    @pytest.mark.parametrize("dim", [d for d in TOKEN_DIMS if d >= SMALLEST], ids="d{}".format)
    def test_token(self, plug: Plug, judge: Judge, runner: Runner, dim: int) -> None:
        """Recall of 64 pairs at each token dimension is what the declared family's equation gives."""
        setting = Token()
        runner.curve(TOKEN, setting, "recall_cosine")  # for the score, whatever is required
        plug.needs_widths(dim)
        bound = band(plug, TOKEN.name, setting, "recall_cosine", at=dim)
        judge(
            TOKEN,
            setting,
            "recall_cosine",
            bound,
            at=dim,
            cause="the memory works at some widths only (a scale, a head or an index fitted to one dimension)",
            unasked=f"family {plug.spec.family!r} has no theory here, and a blind guess is too near 0 to judge by",
        )

    @pytest.mark.measurement
    @pytest.mark.parametrize("dim", MEMORY_DIMS, ids="m{}".format)
    def test_internal(self, plug: Plug, judge: Judge, dim: int) -> None:
        """Recall of 10 pairs at each internal dimension is not below a blind guess."""
        setting = Internal()
        judge(
            INTERNAL,
            setting,
            "recall_cosine",
            Bound(at_least=0.5 / setting.n, source=f"universal floor: half of a blind guess, 1/{setting.n}"),
            at=dim,
            cause="values are not decoded back from the internal dimension, or to another pair's",
        )

    @pytest.mark.law
    def test_internal_is_live(self, plug: Plug, judge: Judge) -> None:
        """A memory that takes an internal dimension uses it: its answers or the bytes of its state change with it."""
        judge(
            INTERNAL,
            Internal(),
            "live",
            Bound(at_least=0.9, source="law: an option that is taken changes something"),
            cause="memory_dim is accepted and ignored",
        )
