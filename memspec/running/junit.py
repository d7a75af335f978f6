"""The verdicts in pytest's JUnit file, which knows of tests only: a property for each card, a failed test case for a regression."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from memspec.scorecard.record import Record
from memspec.scorecard.render import gate_lines, headline


def tell(session: pytest.Session, cards: Sequence[Record]) -> None:
    """Write the file anew with what is known only now, if ``--junitxml`` asked for one."""
    from _pytest.junitxml import xml_key

    xml = session.config.stash.get(xml_key, None)
    if xml is None:
        return
    for one in cards:
        xml.add_global_property(f"memspec: {one.name}", headline(one)[0])
        if one.gate.get("verdict") in ("worse", "not comparable"):
            report = pytest.TestReport(
                nodeid=f"memspec::baseline[{one.name}]",
                location=("memspec", None, f"baseline[{one.name}]"),
                keywords={},
                outcome="failed",
                longrepr="\n".join([headline(one)[0], *gate_lines(one)]),
                when="call",
            )
            xml.pytest_runtest_logreport(report)
            xml.finalize(report)
    xml.pytest_sessionfinish()
