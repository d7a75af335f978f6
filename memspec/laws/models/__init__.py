"""Plain models of what a spec fixes entirely: numpy in float64, one row after another, written to be read.

A model shares no code with the memories it is held beside, nor with the predictions of :mod:`memspec.theory`. It is told
every write, touch and forgetting, and says of every answer what it must be, and to which tolerance. Where a spec leaves
freedom, the model follows each behaviour that is allowed (:class:`~memspec.laws.models.worlds.Worlds`) until the answers
tell them apart, or says what must still hold (:class:`~memspec.laws.models.drawn.DrawnStore`).

Tolerances are derived, never tuned: each model adds up the rounding errors that a computation in the memory's own format
may make, ``eps x (operations in a row) x (magnitude of what is added)``, times what its condition makes of them.
"""

from __future__ import annotations

import math

from memspec.laws.models.attention import Softmax
from memspec.laws.models.drawn import DrawnStore
from memspec.laws.models.matrix import Delta, Hebbian, LeastSquares
from memspec.laws.models.store import Store
from memspec.laws.models.superposed import Lone, Superposed
from memspec.laws.models.worlds import Expected, Model, Sizes, World, Worlds, Wrong
from memspec.protocol import MemorySpec

__all__ = ["Expected", "Model", "Sizes", "World", "Worlds", "Wrong", "free_in", "model_of", "takes_rows_in_order"]

ORDERED = ("cache", "delta", "softmax")
"""Families in which the order of rows counts."""


def model_of(spec: MemorySpec, sizes: Sizes, lone: Lone | None = None) -> Model | None:
    """The model of a memory that promises ``spec``; None where the spec does not fix what it answers.

    Args:
        lone: what a memory that holds one pair answers; a superposition is followed where that can be asked.
    """
    if spec.fidelity == "trained":
        return None
    if spec.exact:
        return _store(spec, sizes)
    if spec.empty_read != "zeros" or spec.fidelity != "native" or spec.association == "auto":
        return None
    if spec.family == "hebbian" and spec.overwrite == "add":
        return Worlds([Hebbian(sizes, unit) for unit in (False, True)])
    if spec.family == "delta" and spec.beta is not None and spec.beta <= 2:
        return Worlds([Delta(sizes, spec.beta, lengths) for lengths in ("unit", "relative", "raw")])
    if spec.family == "least_squares" and spec.overwrite == "blend":
        return Worlds([LeastSquares(sizes, unit) for unit in (True, False)])
    if spec.family == "superposition" and spec.overwrite == "add" and lone is not None:
        return Worlds([Superposed(sizes, lone)])
    # What overflows into another level, or is merged to make room, is for no plain model to say.
    roomy = spec.eviction == "fifo" or (spec.eviction == "none" and math.isinf(sizes.capacity))
    if spec.family == "softmax" and spec.beta is not None and roomy:
        ways = [(unit, again) for unit in (True, False) for again in ("append", "replace")]
        return Worlds([Softmax(sizes, spec.beta, unit, again) for unit, again in ways])
    return None


def _store(spec: MemorySpec, sizes: Sizes) -> Model | None:
    zeros = spec.empty_read == "zeros"
    if spec.eviction in ("random", "reservoir", "similarity"):
        # Which pairs are left is told by their values, which must all be different.
        told = spec.overwrite == "replace" and spec.value_domain == "real" and spec.association == "hetero"
        return DrawnStore(sizes, zeros, spec.eviction) if told else None
    again = {"replace": ("replace",), "add": ("add",)}.get(spec.overwrite, ("forget", "append"))
    moves = {"fifo": (False, True), "lru": (True,) if spec.overwrite == "replace" else (True, False)}
    ways = [(how, moved) for how in again for moved in moves.get(spec.eviction, (False,))]
    return Worlds([Store(sizes, zeros, how, moved, spec.eviction) for how, moved in ways])


def takes_rows_in_order(spec: MemorySpec) -> bool:
    """Whether one call of several rows is, by the spec, what its model makes of them: else rows are written one by one."""
    ordered = spec.exact or spec.family in ORDERED
    return spec.write == "sequential" or (spec.write == "set" and not ordered)


def free_in(spec: MemorySpec) -> tuple[str, ...]:
    """What the family alone does not settle, and a memory may do as no model here does: ``lengths``, ``repeats``.

    A family speaks of keys of length one, and a softmax that blends does not say how pairs under one key blend.
    """
    if spec.exact:
        return ()
    free = {"softmax": ("lengths", "repeats")} | dict.fromkeys(
        ("hebbian", "delta", "least_squares", "superposition"), ("lengths",)
    )
    return free.get(spec.family, ())
