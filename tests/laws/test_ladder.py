"""The ladder: few cases, in which every bracket of sizes meets every other; memories that break on a rung alone fail."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from memspec.errors import LawBroken
from memspec.fixtures.plain import PlainSums
from memspec.laws.ladder import LARGEST, LOADS, ROWS, VARIANTS, WIDTHS, Ladder, capacity, covering, rungs, telling
from memspec.laws.law import Law, MemspecAdvice
from memspec.plugs.meter import Pace
from memspec.plugs.plug import Plug
from memspec.suites import test_laws


@pytest.mark.parametrize("seed", range(5))
def test_every_two_levels_meet(seed: int) -> None:
    """In about as many cases as the two largest factors have combinations."""
    factors = {"a": "wxyz", "b": (1, 2, 3), "c": (None, True), "d": range(5)}
    cases = covering(factors, seed)
    for one, other in itertools.combinations(factors, 2):
        assert {(c[one], c[other]) for c in cases} == set(itertools.product(factors[one], factors[other]))
    assert len(cases) <= 1.5 * 4 * 5


def test_all_variants_together_stand_on_every_rung() -> None:
    """Rows, and the widths one and beyond thirty-two both ways round, whatever check is asked."""
    checks = [f"laws/{number}" for number in range(40)]
    seen = {check: rungs(Ladder(), check) for check in checks}
    assert len({tuple(sizes) for sizes in seen.values()}) == VARIANTS
    together = {size for sizes in seen.values() for size in sizes}
    assert {size.n for size in together} == {n for group in ROWS for n in group}
    assert {w for group in WIDTHS for w in group} == {s.key_dim for s in together} == {s.value_dim for s in together}
    for sizes in seen.values():
        assert {s.n for s in sizes} >= {1000}
        assert any(s.key_dim == 1 < s.value_dim for s in sizes)
        assert any(s.value_dim == 1 < s.key_dim for s in sizes)
        assert any(s.key_dim < 10 < s.value_dim for s in sizes)
        assert any(s.value_dim < 10 < s.key_dim for s in sizes)
        assert len(sizes) < 40


def test_loads() -> None:
    """What the capacity is beside the rows."""
    assert [capacity(9, load) for load in LOADS] == [12, 9, 8, 4]
    assert [capacity(1, load) for load in LOADS] == [4, 1, 1, 1]
    assert capacity(1000, "full") == LARGEST


def test_telling_rows() -> None:
    """All of a few; of many the ends, and those beside the rungs."""
    assert telling(5) == [0, 1, 2, 3, 4]
    assert {0, 31, 32, 63, 64, 98, 99} <= set(telling(100))
    assert len(telling(100)) < 20


def test_slow_memories_are_told_where_the_climb_ended() -> None:
    """And a full run climbs to the top however long it takes."""
    plug, slow = Plug("x:Sums", PlainSums), Pace(0.5, 0.1)
    with pytest.warns(MemspecAdvice, match=r"is slow: laws/x was tried up to 0 rows; --full goes on"):
        assert list(Law(plug, "r", "laws/x", pace=slow).cases(ladder=Ladder())) == []
    assert len(list(Law(plug, "r", "laws/x", full=True, pace=slow).cases(ladder=Ladder(most=33)))) > 50


@pytest.mark.parametrize("chunk", [32, 64, 128, 256, 512])
def test_a_lost_remainder_is_found_wherever_the_chunk_ends(chunk: int) -> None:
    """Every row past the first full chunk of a long query gets the first answer."""

    class Chunked(PlainSums):
        def recall(self, keys: Tensor) -> Tensor:
            answers = super().recall(keys)
            return (
                answers
                if len(keys) <= chunk
                else torch.cat((answers[:chunk], answers[:1].expand(len(keys) - chunk, -1)))
            )

    law: Any = Law(Plug("x:Chunked", Chunked), "r", "laws/rows-split")
    with pytest.raises(LawBroken):
        test_laws.TestLaws().test_rows_split(law)
