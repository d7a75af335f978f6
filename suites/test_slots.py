"""Slots: that usage follows what is written, reads follow what is asked, and slots hold different things."""

from __future__ import annotations

import pytest

from memspec.experiments.slots import USE, Items
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug

SOME = Bound(at_least=1e-6, source="universal floor: more than no information (and more than rounding)")


class TestSlots:
    """Slots: that usage follows what is written, reads follow what is asked, and slots hold different things."""

    pytestmark = pytest.mark.measurement

    def test_usage_follows_writes(self, plug: Plug, judge: Judge) -> None:
        """The slots whose usage a write changes depend on the item: usage that is constant, or blind to it, is none."""
        plug.needs("Slotted")
        judge(
            USE, Items(), "write_information", SOME, cause="slot_usage is a constant, or every write counts everywhere"
        )

    def test_reads_follow_queries(self, plug: Plug, judge: Judge) -> None:
        """The slots that answer depend on the query."""
        plug.needs("Addressable")
        judge(USE, Items(), "read_information", SOME, cause="read weights are the same for every query")

    def test_slots_differ(self, plug: Plug, judge: Judge) -> None:
        """Slots that hold distinct items hold distinct vectors: at least 2% of their mean square lies between them."""
        plug.needs("Addressable")
        apart = Bound(at_least=0.02, source="universal floor: mutual cosine of slots below .98")
        judge(
            USE, Items(), "slot_spread", apart, cause="each write goes to all slots, so they drift to one common vector"
        )
