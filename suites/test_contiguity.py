"""Contiguity: whether what was met together, in order, comes back together, in order."""

from __future__ import annotations

import pytest

from memspec.experiments.contiguity import CHAIN, Chain
from memspec.experiments.free_recall import FREE_RECALL, FreeRecall
from memspec.judging.requirements import Judge
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug

CHAINS = [pytest.param(Chain(), id="one"), pytest.param(Chain(chains=4), id="four")]


class TestContiguity:
    """Contiguity: whether what was met together, in order, comes back together, in order."""

    pytestmark = pytest.mark.measurement

    @pytest.mark.parametrize("setting", CHAINS)
    def test_forward(self, plug: Plug, judge: Judge, setting: Chain) -> None:
        """After (A -> B), (B -> C), the answer to B does not lie nearer to A than to C."""
        floor = Bound(at_least=-0.25, source="universal floor: an answer that ignores the order (0), less 0.25")
        judge(
            CHAIN,
            setting,
            "forward",
            floor,
            cause="keys and values are exchanged: the read follows the write backwards",
        )

    def test_backward(self, plug: Plug, judge: Judge) -> None:
        """After (A -> B), (B -> C), the answer to C is no nearer to B than to any other B."""
        bound = Bound(at_most=0.25, source="universal floor: values answer keys (about 0.03), with 0.22 to spare")
        judge(
            CHAIN, Chain(chains=4), "backward_excess", bound, cause="pairs are stored in both directions, as in W + W^T"
        )

    def test_chained(self, plug: Plug, judge: Judge) -> None:
        """Two steps from A, query(query(A)), do not end nearer to A than to C."""
        floor = Bound(at_least=-0.25, source="universal floor: an answer that ignores the order (0), less 0.25")
        judge(
            CHAIN, Chain(chains=4), "chained_forward", floor, cause="the answer is the question: keys stored as values"
        )

    def test_free_recall(self, plug: Plug, judge: Judge) -> None:
        """Recall driven by context does not avoid what was studied nearby: temporal factor not below chance."""
        floor = Bound(at_least=0.45, source="universal floor: recall in random order (0.5), less 0.05")
        judge(
            FREE_RECALL,
            FreeRecall(),
            "temporal_factor",
            floor,
            cause="keys near the query are held against their values",
        )
