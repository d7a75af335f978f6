"""An exact store of so many pairs, whose eviction is settled: none, first in first out, least recently used."""

from __future__ import annotations

import numpy as np

from memspec.laws.models.worlds import Expected, Floats, Sizes, World

ROUNDINGS = 64
"""Operations that a value may go through on its way in and out of an exact store: ``eps x 64 = 8e-6`` in float32."""


class Store(World):
    """A list of pairs, the next to go first.

    Args:
        zeros: it answers zeros while it is empty.
        again: what a key that is held does when it is written again: ``replace`` its value, ``add`` to it, ``forget``
            what its value is (nothing is promised), or ``append``: that, and it takes the room of another pair too.
        moved: a key written again goes to the end of the line.
        eviction: ``none``: once it has overflowed, nothing is known until it is empty again; ``fifo``; ``lru``: using a
            key moves it to the end of the line.
    """

    def __init__(self, sizes: Sizes, zeros: bool, again: str, moved: bool, eviction: str) -> None:
        self.sizes, self.zeros, self.again, self.moved, self.eviction = sizes, zeros, again, moved, eviction
        self.held: dict[bytes, Floats | None] = {}
        self.overflowed = False
        self.largest = 0.0
        self.copies = 0

    @property
    def name(self) -> str:  # type: ignore[override]
        bound = {
            "none": "whatever was stored",
            "fifo": "the newest pairs that fit (the oldest goes)",
            "lru": "the pairs last written or touched that fit (the one not used for longest goes)",
        }[self.eviction]
        return f"a plain dict of {bound}"

    def write(self, keys: Floats, values: Floats) -> None:
        for key, value in zip(keys, values):
            self.largest = max(self.largest, float(np.abs(value).max()))
            self._put(key.tobytes(), value)

    def _put(self, key: bytes, value: Floats | None) -> None:
        if key in self.held:
            old = self.held[key]
            if self.again in ("forget", "append"):
                value = None
            elif self.again == "add" and value is not None:
                value = value + old if old is not None else None
            self.copies += self.again == "append"
            if self.moved:
                del self.held[key]
        self.held[key] = value
        if self.copies and len(self.held) + self.copies > self.sizes.capacity:
            self.overflowed = True  # of two pairs under one key, nobody knows which goes when
        if len(self.held) > self.sizes.capacity:
            del self.held[next(iter(self.held))]
            self.overflowed |= self.eviction == "none"

    def touch(self, keys: Floats) -> None:
        for key in (key.tobytes() for key in keys):
            if self.eviction == "lru" and key in self.held:
                self.held[key] = self.held.pop(key)

    def forget(self, keys: Floats) -> None:
        for key in keys:
            self.held.pop(key.tobytes(), None)

    def order(self, keys: Floats) -> list[int]:
        """The rows of ``keys`` that are held, the next to go first."""
        line = {key: place for place, key in enumerate(self.held)}
        held = [(line[key.tobytes()], row) for row, key in enumerate(keys) if key.tobytes() in line]
        return [row for _, row in sorted(held)]

    def answers(self, asked: Floats) -> Expected:
        found = [self.held.get(key.tobytes()) for key in asked]
        nothing = np.zeros(self.sizes.value_dim)
        values = np.stack([nothing if value is None else value for value in found])
        known = np.array([value is not None for value in found]) & (not self.overflowed)
        if not self.held and self.zeros and not self.overflowed:
            known[:] = True
        slack = np.full(values.shape, ROUNDINGS * self.sizes.eps * max(1.0, self.largest))
        return Expected(values, slack, known)
