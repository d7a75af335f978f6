"""A softmax over the pairs that are held."""

from __future__ import annotations

import numpy as np

from memspec.laws.models.worlds import Expected, Floats, Sizes, World, unit_rows


class Softmax(World):
    """``softmax(beta q k_i) v_i`` summed over the newest pairs that fit.

    Args:
        beta: inverse temperature of the scores.
        unit: keys are compared by cosine, or as they are.
        again: a key written again is appended, or replaces the value of the pair that is there.

    Tolerance: a score is off by ``beta (Dk + 8) eps |q| |k|``, which changes every weight by that factor twice, and the
    weighted sum of n values by ``n eps`` more, relative to the largest value.
    """

    name = "the softmax over the newest pairs that fit"

    def __init__(self, sizes: Sizes, beta: float, unit: bool, again: str) -> None:
        self.sizes, self.beta, self.unit, self.again = sizes, beta, unit, again
        self.pairs: list[tuple[Floats, Floats]] = []

    def write(self, keys: Floats, values: Floats) -> None:
        for key, value in zip(keys, values):
            known = next((i for i, pair in enumerate(self.pairs) if np.array_equal(pair[0], key)), None)
            if self.again == "replace" and known is not None:
                self.pairs[known] = key, value
                continue
            self.pairs.append((key, value))
            if len(self.pairs) > self.sizes.capacity:
                del self.pairs[0]

    def answers(self, asked: Floats) -> Expected:
        count = len(asked)
        if not self.pairs:
            nothing = np.zeros((count, self.sizes.value_dim))
            return Expected(nothing, nothing, np.ones(count, bool))
        keys, values = (np.stack(part) for part in zip(*self.pairs))
        if self.unit:
            asked, keys = unit_rows(asked), unit_rows(keys)
        scores = self.beta * asked @ keys.T
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        lengths = np.linalg.norm(asked, axis=-1) * np.linalg.norm(keys, axis=-1).max()
        relative = 2 * self.beta * (self.sizes.key_dim + 8) * lengths + len(keys) + 8
        slack = np.outer(relative, np.abs(values).max(0)) * self.sizes.eps
        return Expected(weights @ values, slack, np.ones(count, bool))
