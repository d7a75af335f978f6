"""What a model says, and several models beside one another where a spec allows several behaviours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """What a model is made for: widths, the pairs that the memory holds (infinity: no bound), and the format's ``eps``."""

    key_dim: int
    value_dim: int
    capacity: float
    eps: float


class Expected(NamedTuple):
    """``values [Q, Dv]``, each right to ``tolerance [Q, Dv]``, of those queries of which something is ``known [Q]``."""

    values: Floats
    tolerance: Floats
    known: NDArray[np.bool_]


class Wrong(NamedTuple):
    """How the answers to some queries contradict a model.

    Attributes:
        row: the query whose answer is wrong; None where it is their number.
        value, tolerance: what that answer is to be ``[Dv]``, and how nearly.
        newest: ``[Q, Dv]``, the value last written under each key asked; a pair is held where the answer is that.
        least, most: how many pairs are to be held.
        why: what the model would have, in words.
    """

    row: int | None
    value: Floats
    tolerance: float
    why: str
    newest: Floats | None = None
    least: int = 0
    most: int = 0


class Model(Protocol):
    """Follows what is done to a memory, and judges its answers. Copies of it are independent."""

    def write(self, keys: Floats, values: Floats) -> None:
        """Rows ``[N, Dk]``, ``[N, Dv]`` were stored, in order."""

    def touch(self, keys: Floats) -> None:
        """Stored keys were used."""

    def forget(self, keys: Floats) -> None:
        """Keys were forgotten."""

    def refute(self, asked: Floats, answers: Floats) -> Wrong | None:
        """The worst of what is wrong about ``answers [Q, Dv]`` to ``asked [Q, Dk]``."""


class World:
    """One behaviour, followed to the last row; what a subclass does not follow cannot be done to it."""

    name = ""

    def write(self, keys: Floats, values: Floats) -> None:
        raise NotImplementedError

    def touch(self, keys: Floats) -> None:
        """Using a pair changes nothing, unless a subclass says what."""

    def forget(self, keys: Floats) -> None:
        raise NotImplementedError

    def answers(self, asked: Floats) -> Expected:
        raise NotImplementedError


class Worlds:
    """Several behaviours that a spec allows: a memory must go on with one of those it has shown so far.

    Args:
        worlds: the likeliest first; that one is told of where none is left.
    """

    def __init__(self, worlds: Sequence[World]) -> None:
        self.worlds = list(worlds)

    def write(self, keys: Floats, values: Floats) -> None:
        with np.errstate(all="ignore"):
            for world in self.worlds:
                world.write(keys, values)

    def touch(self, keys: Floats) -> None:
        for world in self.worlds:
            world.touch(keys)

    def forget(self, keys: Floats) -> None:
        for world in self.worlds:
            world.forget(keys)

    def refute(self, asked: Floats, answers: Floats) -> Wrong | None:
        """What the likeliest behaviour left would have had; None while one agrees, and the others are dropped."""
        with np.errstate(all="ignore"):
            found = [(world, _worst(world, asked, answers)) for world in self.worlds]
        agreeing = [world for world, wrong in found if wrong is None]
        if not agreeing:
            return found[0][1]
        self.worlds = agreeing
        return None


def _worst(world: World, asked: Floats, answers: Floats) -> Wrong | None:
    expected = world.answers(asked)
    known = expected.known & np.isfinite(expected.values).all(-1) & np.isfinite(expected.tolerance).all(-1)
    excess = np.where(known[:, None], np.abs(answers - expected.values) - expected.tolerance, -np.inf)
    excess = np.where(known[:, None] & ~np.isfinite(answers), np.inf, excess)
    row = int(excess.max(-1).argmax())
    if not excess[row].max() > 0:
        return None
    place = int(excess[row].argmax())
    return Wrong(row, expected.values[row], float(expected.tolerance[row, place]), world.name)


def unit_rows(rows: Floats) -> Floats:
    """Rows scaled to length one; zero rows stay zero."""
    lengths: Floats = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
