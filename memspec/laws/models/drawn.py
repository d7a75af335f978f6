"""An exact store that drops what it likes: which pairs it may have dropped, and how many are left."""

from __future__ import annotations

import numpy as np

from memspec.laws.models.store import ROUNDINGS
from memspec.laws.models.worlds import Floats, Sizes, Wrong


class DrawnStore:
    """Of the pairs that a store with random, reservoir or similarity eviction may hold, those that still answer.

    What must hold whatever is drawn: everything while it all fits; afterwards exactly ``capacity`` pairs (``similarity``:
    at least one, at most that); what was dropped stays away until it is written again; a pair that is held has its
    newest value; and with random eviction the pair written last is there.
    """

    def __init__(self, sizes: Sizes, zeros: bool, eviction: str) -> None:
        self.sizes, self.zeros, self.eviction = sizes, zeros, eviction
        self.newest: dict[bytes, Floats] = {}  # of every key ever written
        self.older: dict[bytes, list[Floats]] = {}
        self.may: set[bytes] = set()  # pairs that may be held
        self.last: bytes | None = None
        self.largest = 0.0

    def write(self, keys: Floats, values: Floats) -> None:
        for key, value in ((key.tobytes(), value) for key, value in zip(keys, values)):
            if key in self.newest and not np.array_equal(self.newest[key], value):
                self.older.setdefault(key, []).append(self.newest[key])
            self.newest[key] = value
            self.may.add(key)
            self.last = key
            self.largest = max(self.largest, float(np.abs(value).max()))

    def touch(self, keys: Floats) -> None:
        """Using a pair promises nothing here."""

    def forget(self, keys: Floats) -> None:
        for key in (key.tobytes() for key in keys):
            self.may.discard(key)
            if self.last == key:
                self.last = None

    def refute(self, asked: Floats, answers: Floats) -> Wrong | None:
        """What is wrong about the answers; ``asked`` must hold every key that was written."""
        near = ROUNDINGS * self.sizes.eps * max(1.0, self.largest)
        names = [key.tobytes() for key in asked]
        newest = np.stack([self.newest.get(name, np.full(self.sizes.value_dim, np.inf)) for name in names])
        right = (np.abs(answers - newest) <= near).all(-1)
        rows = {name: row for row, name in enumerate(names)}
        if not self.newest and self.zeros and answers.any():
            row = int(np.abs(answers).max(-1).argmax())
            return Wrong(row, np.zeros(self.sizes.value_dim), 0.0, "zeros while nothing is stored")
        fits = len(self.may) <= self.sizes.capacity
        last = {self.last} - {None} if self.eviction == "random" else set()
        sure: set[bytes] = self.may if fits else {name for name in self.may if name in last}
        for name in sure:
            if name in rows and not right[rows[name]]:
                why = "everything that was stored, while it fits" if fits else "the pair that was written last"
                return Wrong(rows[name], self.newest[name], near, why)
        for name, olds in self.older.items():
            answer = answers[rows[name]]
            if not right[rows[name]] and any((np.abs(answer - old) <= near).all() for old in olds):
                return Wrong(rows[name], self.newest[name], near, "the newest value of a pair, or none of its own")
        room = int(min(self.sizes.capacity, len(self.may)))
        least = min(1, room) if self.eviction == "similarity" and not fits else room
        back = [row for name, row in rows.items() if name in self.newest and name not in self.may and right[row]]
        held = {name for name in self.may if right[rows[name]]}
        if back or not least <= len(held) <= room:
            why = f"{least if least == room else f'{least} to {room}'} of the pairs that can be left"
            if back:
                why += "; what was dropped or forgotten does not come back"
            return Wrong(None, newest[0], near, why, newest, least, room)
        self.may = held
        return None
