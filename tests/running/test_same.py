"""The numbers of a card are the same in the run's own process, in processes of their own, in two at once, and after a death."""

from __future__ import annotations

import os
from typing import Any

import pytest

from memspec.running.exits import Exit
from untimed import untimed

MEMORIES = """
    import os, signal
    import torch
    from memspec.reference import DeltaMemory, RandomEvictionMemory

    class Draws(RandomEvictionMemory):
        pass

    class Trains(torch.nn.Module):
        '''Slow weights and no functional form, so that trials are driven in a loop; noise at every write.'''
        def __init__(self, key_dim, value_dim, capacity):
            super().__init__()
            self.layer = torch.nn.Linear(key_dim, value_dim)
            self.register_buffer("table", torch.zeros(key_dim, value_dim))
        def reset(self):
            self.table.zero_()
        @torch.no_grad()
        def update(self, keys, values):
            if os.path.exists(DIE) and "test_capacity" in os.environ.get("PYTEST_CURRENT_TEST", ""):
                os.remove(DIE)
                os.kill(os.getpid(), signal.SIGKILL)
            self.table += keys.T @ (values + 0.01 * torch.randn_like(values))
        @torch.no_grad()
        def query(self, keys):
            return keys @ self.table + 0 * self.layer(keys)

    DIE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "die")
"""

CHECKS = ["capacity/*", "forgetting/*", "world/*"]
PLUGS = ["mem.py:Trains", "mem.py:Draws"]


def cards(folder: Any, *arguments: str, isolate: bool = True) -> dict[str, Any]:
    """What a run of these memories wrote, without what depends on the clock, by memory."""
    done = folder.pytest(
        "--pyargs",
        "memspec.suites",
        *(f"--memory={name}" for name in PLUGS),
        *(f"--memspec-checks={glob}" for glob in CHECKS),
        "--memspec-scorecard=card.json",
        "--tb=no",
        "--memspec-budget=1000000",  # on a busy machine less may be asked of a memory
        "-q",
        *arguments,
        isolate=isolate,
    )
    assert done.code in (Exit.OK, Exit.FAILED)
    return {card["memory"]["plug"]: unplanned(untimed(card)) for card in folder.card()["cards"]}


def unplanned(card: dict[str, Any]) -> dict[str, Any]:
    """A card without what there was no time for, which a busy machine says of laws that are not asked here."""
    for part in (card["memory"], card["signature"]):
        part.pop("plan", None)
    card["notes"] = [note for note in card["notes"] if not note.startswith("the memory is slow")]
    return card


@pytest.mark.ci
def test_cards_are_equal_bit_for_bit(folder: Any) -> None:
    folder.write("mem.py", MEMORIES)
    isolated = cards(folder)
    assert cards(folder, isolate=False) == isolated
    assert cards(folder, "-n2") == isolated
    folder.write("die", "in the next check of capacity")
    again = cards(folder)
    assert not os.path.exists("die")
    (dead,) = [
        check for check in again["mem.py:Trains"]["checks"] if check["failure"] and "SIGKILL" in check["failure"]["got"]
    ]
    assert dead["id"].startswith("capacity/")
    for plug, card in isolated.items():
        ours = {check["id"]: check for check in card["checks"] if check["id"] != dead["id"]}
        theirs = {check["id"]: check for check in again[plug]["checks"] if check["id"] != dead["id"]}
        assert ours == theirs
        assert {**again[plug]["not_asked"], dead["id"]: ""} == {**card["not_asked"], dead["id"]: ""}
        blocks = {(block["experiment"], block["setting"]): block for block in card["measurements"]}
        for block in again[plug]["measurements"]:  # what the dead process had measured alone is not there
            assert block == blocks[block["experiment"], block["setting"]]
