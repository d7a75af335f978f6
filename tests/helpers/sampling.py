"""What is tested by default of many like cases, and in CI all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def sampled(cases: Sequence[Any], every: int) -> list[Any]:
    """Parameters of a test: of the cases one in ``every`` is asked by default, and the others where ``ci`` is."""
    return [case if n % every == 0 else pytest.param(case, marks=pytest.mark.ci) for n, case in enumerate(cases)]
