"""Any sequence of calls: a Hypothesis state machine beside a plain dict, the functional form, or a twin."""

from __future__ import annotations

from typing import Any

import pytest

from memspec.laws import stateful
from memspec.laws.law import Law


class TestStateful:
    """Any sequence of calls: a Hypothesis state machine beside a plain dict, the functional form, or a twin."""

    pytestmark = pytest.mark.law

    def test_any_sequence(self, law: Law, suite_options: Any) -> None:
        """Whatever the sequence of update, overwrite, query, reset, save and restore, the memory answers as its model."""
        stateful.run(law, suite_options.examples)
