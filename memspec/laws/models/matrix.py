"""Matrix memories row by row: Hebb's sum, the delta rule, and least squares."""

from __future__ import annotations

import numpy as np

from memspec.laws.models.worlds import Expected, Floats, Sizes, World, unit_rows

RIDGES = np.logspace(-9, -2, 15)
"""Ridges that a least-squares memory of unit keys may have; its spec does not tell."""

RECURSIVE = 1e-4
"""Least ridge at which recursive least squares in the memory's own format is still to be spared."""


class Hebbian(World):
    """``S += k^T v``, read ``q S``; keys as they are, or scaled to length one.

    Tolerance: a sum of n products of Dk terms each, in any order, is off by ``(n + Dk) eps sum |q| |k_i| |v_i|`` at most
    (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1), and the lengths of q and k by some more
    roundings.
    """

    name = "a sum of the outer products of the keys and values written"

    def __init__(self, sizes: Sizes, unit: bool) -> None:
        self.sizes, self.unit = sizes, unit
        self.matrix = np.zeros((sizes.key_dim, sizes.value_dim))
        self.mass = np.zeros(sizes.value_dim)
        self.rows = 0

    def write(self, keys: Floats, values: Floats) -> None:
        keys = unit_rows(keys) if self.unit else keys
        for key, value in zip(keys, values):
            self.matrix += np.outer(key, value)
            self.mass += np.linalg.norm(key) * np.abs(value)
            self.rows += 1

    def answers(self, asked: Floats) -> Expected:
        asked = unit_rows(asked) if self.unit else asked
        steps = self.rows + self.sizes.key_dim + 8
        slack = np.outer(np.linalg.norm(asked, axis=-1), self.mass) * steps * self.sizes.eps
        return Expected(asked @ self.matrix, slack, np.ones(len(asked), bool))


class Delta(World):
    """``S += beta k^T (v - k S)`` for one row after another, read ``q S``.

    Args:
        beta: the step.
        lengths: ``unit`` scales keys to length one, writing and reading; ``relative`` divides the step by ``|k|^2``;
            ``raw`` leaves keys as they are. All the same for keys of length one.

    Tolerance: a row adds the rounding of what it reads and of what it writes, ``(Dk + 16) eps (|v - k S| + |S|)``, to what
    was there, and what was there grows by ``|1 - beta |k|^2|``, where that is above one.
    """

    name = "the delta rule, row after row"

    def __init__(self, sizes: Sizes, beta: float, lengths: str) -> None:
        self.sizes, self.beta, self.lengths = sizes, beta, lengths
        self.matrix = np.zeros((sizes.key_dim, sizes.value_dim))
        self.slack = np.zeros(sizes.value_dim)

    def write(self, keys: Floats, values: Floats) -> None:
        keys = unit_rows(keys) if self.lengths == "unit" else keys
        for key, value in zip(keys, values):
            square = float(key @ key)
            step = self.beta / square if self.lengths == "relative" and square else self.beta
            missing = value - key @ self.matrix
            self.matrix += step * np.outer(key, missing)
            growth = max(1.0, abs(1 - step * square))
            self.slack = growth * self.slack + np.abs(missing) + np.sqrt((self.matrix**2).sum(0))

    def answers(self, asked: Floats) -> Expected:
        asked = unit_rows(asked) if self.lengths == "unit" else asked
        slack = np.outer(np.linalg.norm(asked, axis=-1), self.slack) * (self.sizes.key_dim + 16) * self.sizes.eps
        return Expected(asked @ self.matrix, slack, np.ones(len(asked), bool))


class LeastSquares(World):
    """The matrix with the least squared error over all pairs written, for any ridge up to 0.01; what was asked before.

    Only queries in the space of the written keys are known: beyond it the answer is a matter of the ridge alone.

    Tolerance: how far the answers of all allowed ridges lie apart, a quarter more for those between the ridges tried; the
    rounding of moments of n rows through the condition of the system; and that of the recursion, which starts at
    ``1 / ridge`` and loses ``eps / ridge`` of every residual (for a ridge of 1e-4).
    """

    name = "the least-squares fit to all pairs written"

    def __init__(self, sizes: Sizes, unit: bool) -> None:
        self.sizes, self.unit = sizes, unit
        self.gram = np.zeros((sizes.key_dim, sizes.key_dim))
        self.cross = np.zeros((sizes.key_dim, sizes.value_dim))
        self.rows, self.largest = 0, 0.0

    def write(self, keys: Floats, values: Floats) -> None:
        keys = unit_rows(keys) if self.unit else keys
        for key, value in zip(keys, values):
            self.gram += np.outer(key, key)
            self.cross += np.outer(key, value)
            self.rows, self.largest = self.rows + 1, max(self.largest, float(np.abs(value).max()))

    def answers(self, asked: Floats) -> Expected:
        asked = unit_rows(asked) if self.unit else asked
        spread, axes = np.linalg.eigh(self.gram)
        used = spread > 1e-6 * max(float(spread[-1]), 1.0)
        spread, axes = spread[used], axes[:, used]
        inside = asked @ axes
        outside: Floats = np.linalg.norm(asked - inside @ axes.T, axis=-1)
        each = [inside @ ((axes.T @ self.cross) / (spread + ridge)[:, None]) for ridge in RIDGES]
        low, high = np.min(each, axis=0), np.max(each, axis=0)
        condition = float(spread[-1] / spread[0]) if len(spread) else 1.0
        rounding = self.sizes.eps * (self.rows + self.sizes.key_dim + 8) * condition * self.largest
        rounding += self.sizes.eps / RECURSIVE * self.largest
        return Expected((low + high) / 2, 0.75 * (high - low) + rounding, outside <= 1e-5)
