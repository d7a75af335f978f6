"""A superposition: one trace to which every pair adds what it would be alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memspec.laws.models.worlds import Expected, Floats, Sizes, World

Lone = Callable[[Floats, Floats, Floats], Floats]
"""``lone(key [Dk], value [Dv], asked [Q, Dk]) -> [Q, Dv]``: what a memory answers that holds one pair and nothing else."""

LARGEST = 7
"""Capacity of the largest setting that is followed: every pair written takes a memory of its own."""


class Superposed(World):
    """The sum of what memories answer that hold one of the pairs each; under its own key, a pair alone answers its value.

    How keys are coded is the memory's own, so that the answers of one pair to other keys are taken from memories that hold
    nothing else. That the trace is a sum, whatever came before, in whatever calls, is the model.

    Tolerance: a sum of n answers, each of which is a sum over the trace, is off by ``(n + 64) eps`` times the sum of their
    sizes (Higham 2002, section 3.1).
    """

    name = "the sum of what each pair answers alone"

    def __init__(self, sizes: Sizes, lone: Lone) -> None:
        self.sizes, self.lone = sizes, lone
        self.counts: dict[tuple[bytes, bytes], int] = {}
        self.pairs: dict[tuple[bytes, bytes], tuple[Floats, Floats]] = {}
        self.kept: dict[tuple[bytes, bytes, bytes], Floats] = {}

    def write(self, keys: Floats, values: Floats) -> None:
        for key, value in zip(keys, values):
            name = key.tobytes(), value.tobytes()
            self.counts[name] = self.counts.get(name, 0) + 1
            self.pairs[name] = key, value

    def answers(self, asked: Floats) -> Expected:
        total = np.zeros((len(asked), self.sizes.value_dim))
        mass = np.zeros_like(total)
        for name, count in self.counts.items():
            part = count * self._alone(name, asked)
            total += part
            mass += np.abs(part) + count * np.abs(self.pairs[name][1]).max()
        slack = mass * self.sizes.eps * (sum(self.counts.values()) + 64)
        return Expected(total, slack, np.ones(len(asked), bool))

    def _alone(self, name: tuple[bytes, bytes], asked: Floats) -> Floats:
        """What one pair answers; exactly its value under its own key."""
        known = (*name, asked.tobytes())
        if known not in self.kept:
            key, value = self.pairs[name]
            answers = self.lone(key, value, asked).copy()
            answers[(asked == key).all(-1)] = value
            self.kept[known] = answers
        return self.kept[known]

    def __deepcopy__(self, memo: object) -> Superposed:
        other = Superposed(self.sizes, self.lone)
        other.counts, other.pairs, other.kept = dict(self.counts), dict(self.pairs), self.kept
        return other
