"""How tests are spread over the workers of pytest-xdist."""

from __future__ import annotations

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling

ONE_RUN = ("suites/test_promises.py", "reference/test_networks.py")
"""Modules whose tests all read one run."""


class Hands(LoadScopeScheduling):
    """Tests that read one run (``[hand3-...]`` in their ids, or a module of :data:`ONE_RUN`) stay on one worker; these begin.

    By id, because the groups of ``--dist=loadgroup`` are lost between pytest-xdist 3.8 and pytest 9.2. A test in which
    its worker dies is failed once and not run again, and the rest goes to those that are left: as pytest-xdist has it, the
    test is dealt out again, and at the end two workers wait for more.
    """

    def _split_scope(self, nodeid: str) -> str:
        hand = re.search(r"\[(hand\d+)[-\]]", nodeid)
        module = nodeid.partition("::")[0]
        return hand[1] if hand else module if module.endswith(ONE_RUN) else nodeid

    def schedule(self) -> None:
        super().schedule()
        if self.collection is not None and not self.workqueue:
            for node in self.nodes:
                node.shutdown()  # after what it has; a worker keeps its last test until it hears so

    def remove_node(self, node: Any) -> str | None:
        """The test in which a worker died, if it was in one; what else it had is dealt out."""
        units = self.assigned_work.pop(node)
        crashed = next((test for unit in units.values() for test, done in unit.items() if not done), None)
        if crashed is None:
            return None
        for unit in units.values():
            if crashed in unit:
                unit[crashed] = True
        self.workqueue.update({scope: unit for scope, unit in units.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed
