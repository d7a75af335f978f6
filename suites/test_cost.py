"""Cost: bytes are as promised. Times and operations are recorded beside them, never judged."""

from __future__ import annotations

import pytest

from memspec.errors import NotAsked
from memspec.experiments.cost import GROWTH, Growth
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug


class TestCost:
    """Cost: bytes are as promised. Times and operations are recorded beside them, never judged."""

    @pytest.mark.law
    def test_reset_gives_back(self, plug: Plug, judge: Judge) -> None:
        """Resetting and storing the same pairs again takes no more room than the time before."""
        law = Bound(at_most=0.0, source="law: reset goes back to the state right after construction")
        cause = "a log or cache that reset does not clear"
        judge(GROWTH, Growth(), "bytes_kept_by_reset", law, cause=cause)

    @pytest.mark.claim
    def test_constant_state(self, plug: Plug, judge: Judge) -> None:
        """With constant_state claimed, 256 pairs take no more bytes than 32, in whatever attribute they are kept."""
        claimed(plug)
        claim = Bound(at_most=0.0, source="the memory's spec: constant_state=True")
        judge(GROWTH, Growth(), "bytes_per_pair", claim, cause="updates, or what they were given, are kept in a list")

    @pytest.mark.claim
    def test_information(self, plug: Plug, judge: Judge) -> None:
        """With constant_state claimed, no more bits are decoded than the bytes in sight can hold."""
        claimed(plug)
        claim = Bound(at_most=1.0, source="the memory's spec: constant_state=True, and 8 bits a byte")
        cause = (
            "what is stored lies where memspec cannot see it (a global, a class attribute, a foreign index): keep it in "
            "tensors or arrays reachable from the instance, or do not claim constant_state"
        )
        judge(GROWTH, Growth(), "bits_per_state_bit", claim, cause=cause)


def claimed(plug: Plug) -> None:
    """Skip unless the memory claims that its bytes never grow."""
    if not plug.spec.constant_state:
        raise NotAsked(f"{plug.name} does not claim constant_state")
