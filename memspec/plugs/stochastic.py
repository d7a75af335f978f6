"""Memories that draw random numbers: each then draws from a stream of its own, so that equal calls draw alike.

A noise for every written row, drawn from a global generator, is honest: what such a memory answers depends on its own
calls and on a seed. It must not depend on what else drew before, or two memories would differ by what stands between them.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from memspec.fixtures.data.pairs import pairs
from memspec.plugs.plug import Plug
from memspec.randomness import generator_states, moved_generators, seed_generators, seed_of, seeded
from memspec.world.boundary import call

MOST_ROWS = 256
"""Rows that are written to find out; a memory that draws only past its capacity shows it if that is below them."""

_DRAWS: WeakKeyDictionary[Plug, bool] = WeakKeyDictionary()


def draws_in_query(plug: Plug) -> bool:
    """Whether ``query`` may draw from a global generator: only a memory that says so."""
    return "read" in plug.spec.stochastic


def draws_in_update(plug: Plug) -> bool:
    """Whether ``update`` draws from a global generator, few rows or many: said, or found out once, on a memory of its own."""
    if "write" in plug.spec.stochastic:
        return True
    if plug not in _DRAWS:
        _DRAWS[plug] = _draws(plug)
    return _DRAWS[plug]


def _draws(plug: Plug) -> bool:
    shape, spec = plug.nearest(6, 5, 16), plug.spec
    rows = min(4 * shape.capacity, MOST_ROWS)
    widths = shape.key_dim, shape.value_dim
    generator = torch.Generator().manual_seed(0)
    with seeded(0):
        memory = plug.build(shape)
        for count in (1, rows):
            domains = spec.key_domain, spec.value_domain
            keys, values = pairs(*domains, count, *widths, generator, spec.association)
            before = generator_states()
            try:
                call(memory, "update", keys, values)
            except Exception:  # the checks that write will say so
                return False
            if moved_generators(before, generator_states()):
                return True
    return False


class Streams:
    """The streams that memories draw from: the k-th call of one draws the same numbers whatever the others do."""

    def __init__(self, *path: object) -> None:
        self.path, self.turn = path, 0

    def next(self) -> None:
        """Seed every global generator in use for the next call."""
        seed_generators(seed_of(*self.path, self.turn))
        self.turn += 1
