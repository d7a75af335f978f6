"""What may happen in the life of a memory: acts, and the sizes and data under which they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

Kind = Literal[
    "nothing", "update", "rows", "query", "reset", "save", "restore", "reload", "copy", "pickle", "other", "touch", "forget",
    "consolidate",
]  # fmt: skip
Pattern = Literal["run", "back", "pairs", "twice"]

SHIFTS = 3
"""Values that a key may be given, one after another."""
POOL = 3
"""Keys in a pool, in capacities, and three more."""


@dataclass(frozen=True)
class Act:
    """One thing done to a memory.

    Attributes:
        kind: ``update``: one call; ``rows``: as many calls as rows; ``query``: a few calls, one key each; ``save`` and
            ``restore``: its state dict, into an instance built anew (a deep copy, where it has none); ``reload``: the
            one, and at once the other; ``copy``, ``pickle``: go on with a copy, and change the original; ``other``: write
            to another instance; ``nothing``: what others shrink to.
        start, count, pattern: which keys of the pool: ``run`` of neighbours, the same ``back``, each of them in
            ``pairs``, or all of them ``twice`` in a row.
        shift: which of the values of a key.
    """

    kind: Kind
    start: int = 0
    count: int = 0
    pattern: Pattern = "run"
    shift: int = 0

    def rows(self, pool: int) -> list[int]:
        """The keys meant, as numbers below ``pool``."""
        half = max(-(-self.count // 2), 1)
        step = {
            "run": lambda i: i,
            "back": lambda i: self.count - 1 - i,
            "pairs": lambda i: i // 2,
            "twice": lambda i: i % half,
        }[self.pattern]
        return [(self.start + step(i)) % pool for i in range(self.count)]


@dataclass(frozen=True)
class Setting:
    """What a history happens under.

    Attributes:
        key_dim, value_dim, capacity: wished for; the plug has the nearest it can be built with.
        crowd: what the keys are like (:func:`memspec.fixtures.data.crowded.crowded`).
        scale, offset: real values are multiplied by the one and shifted by the other.
    """

    key_dim: int
    value_dim: int
    capacity: int
    crowd: str = "plain"
    scale: float = 1.0
    offset: float = 0.0

    @property
    def pool(self) -> int:
        """Keys wished for: enough for a call of three times the capacity."""
        return POOL * self.capacity + 3


NOTHING = Act("nothing")
ACTS = 14
"""Acts in a history."""
OFTEN = ("reload", "touch", "forget")
"""Acts that say most about what comes after them, and are drawn three times as often as others."""

SETTINGS = (
    Setting(6, 5, 1),
    Setting(3, 7, 2, "lengths"),
    Setting(5, 1, 3, "common"),
    Setting(1, 4, 2, offset=10.0),
    Setting(6, 5, 7, "near"),
    Setting(12, 33, 16, "common", scale=100.0),
    Setting(8, 3, 33, "lengths", offset=3.0),
    Setting(16, 6, 100, "near"),
    Setting(6, 9, 16),
)
"""A rotation in which every capacity, every order of widths and every crowd stands at least once; the small ones first."""


def counts(capacity: int, most: int | None = None) -> list[int]:
    """Rows of one call: none, one and a few, around the capacity, twice and three times that; ``most`` if it is given."""
    wanted = {0, 1, 2, 3, capacity - 1, capacity, capacity + 1, 2 * capacity + 1, 3 * capacity}
    return sorted({n if most is None else min(n, most) for n in wanted if n >= 0})


def histories(
    setting: Setting, pool: int, kinds: Sequence[Kind], most: int | None = None, longest: int = ACTS
) -> st.SearchStrategy[list[Act]]:
    """Lists of so many acts for a memory that offers these kinds; shrinking leaves acts out, and makes them plainer.

    Args:
        pool: keys there are.
        kinds: what may be done besides writing.
        most: rows of one call, where more would take too long.
        longest: acts in a history.
    """
    sizes = counts(setting.capacity, most)
    starts, few, shifts = st.integers(0, max(pool - 1, 0)), st.integers(1, 3), st.integers(0, SHIFTS - 1)
    patterns: st.SearchStrategy[Pattern] = st.sampled_from(("run", "back", "pairs", "twice"))

    def writes(how: Kind, rows: st.SearchStrategy[int]) -> st.SearchStrategy[Act]:
        return st.builds(Act, st.just(how), starts, rows, patterns, shifts)

    small, large = st.sampled_from(sizes), st.sampled_from(sizes[-2:])
    often = [kind for kind in kinds for _ in range(3 if kind in OFTEN else 1)]
    rest = st.builds(Act, st.sampled_from(often), starts, few)
    updates = [writes("update", rows) for rows in (few, small, small, large, large)]
    ways = [st.just(NOTHING), *updates, writes("rows", few), writes("rows", small), *[rest] * 5]
    return st.lists(st.one_of(ways), min_size=longest, max_size=longest)
