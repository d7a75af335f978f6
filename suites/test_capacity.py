"""Capacity: how much the memory holds."""

from __future__ import annotations

import pytest

from memspec import theory
from memspec.experiments.capacity import LOAD, Load
from memspec.judge import Bound
from memspec.plug import Plug
from memspec.session import Judge

pytestmark = pytest.mark.measurement

LOADS = [8, 16, 32, 64, 128, 256]


@pytest.mark.parametrize("n", LOADS, ids="n{}".format)
def test_recall(plug: Plug, judge: Judge, n: int) -> None:
    """Recall of N stored pairs: within the family's theory, else above what a blind guess gets."""
    setting = Load(n=n)
    judge(
        LOAD,
        setting,
        "recall_cosine",
        theory.band(plug, LOAD.name, setting, "recall_cosine"),
        Bound(at_least=1 / n, source="universal floor: chance"),
        cause="pairs interfere more than the declared family allows, or the write loses rows",
    )
