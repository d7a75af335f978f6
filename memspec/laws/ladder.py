"""Sizes at which implementations break, and few cases in which all of them meet.

Chunks, blocks and tables end at powers of two, so the rungs stand on, before and after each. A law that speaks of any
number of pairs climbs them: widths are unequal both ways round, and the capacity follows the rows, so that a call
leaves room, fills the store exactly, is one row too long, or goes round more than once.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from memspec.laws.case import Size
from memspec.randomness import seed_of

ROWS = ((1, 2, 3), (7, 8, 9), (31, 32, 33), (63, 64, 65), (127, 128, 129), (255, 256, 257), (511, 512, 513, 1000))
"""Numbers of rows, by what they bracket."""
WIDTHS = ((1,), (2, 3), (7, 8, 9), (31, 32, 33, 63, 64, 65, 127, 128, 129))
"""Widths of keys and values, likewise."""
LOADS = ("room", "full", "over", "wrapped")
"""The capacity beside the rows of a call: some to spare, exactly as many, one fewer, less than half."""
LARGEST = 257
"""Capacity at most: state may grow with its square."""
VARIANTS = 4
"""Different choices of cases; checks take turns, so that together they meet more than each alone."""


@dataclass(frozen=True)
class Ladder:
    """How far, and on which rungs, a law climbs.

    Attributes:
        least, most: rows.
        loads: of :data:`LOADS`.
        thin: each bracket of rows once, whatever it meets: for laws whose subject is not the size.
        distinct: whether all keys and all values must differ, in the spec's domains.
        beyond: calls longer than every rung, in the end: blocks may be longer too.
    """

    least: int = 1
    most: int = 1000
    loads: tuple[str, ...] = LOADS
    thin: bool = False
    distinct: bool = False
    beyond: tuple[int, ...] = ()


def rungs(ladder: Ladder, check: str, full: bool = False) -> list[Size]:
    """The cases of one check, fewest rows first.

    Every bracket of rows meets every load and every bracket of widths, and every bracket of key widths every bracket of
    value widths; with ``full`` each single rung does.
    """
    variant = seed_of(0, "ladder", check) % VARIANTS
    sizes = _sizes(variant, ladder.loads, full, ladder.thin and not full)
    within = [size for size in sizes if ladder.least <= size.n <= ladder.most]
    return within + [
        Size(n, 6, 5, capacity(n, "wrapped" if "wrapped" in ladder.loads else "room")) for n in ladder.beyond
    ]


@lru_cache(maxsize=64)
def _sizes(variant: int, loads: tuple[str, ...], full: bool, thin: bool) -> tuple[Size, ...]:
    single = [tuple((rung,) for group in groups for rung in group) for groups in (ROWS, WIDTHS)]
    rows, widths = single if full else (ROWS, WIDTHS)
    factors = {"rows": rows, "load": loads, "key_dim": widths, "value_dim": widths}
    turns = {group: _from(variant, group) for group in (*rows, *widths)}
    if thin:
        columns = [_from(variant + place, levels) for place, levels in enumerate(list(factors.values())[1:])]
        cases = [dict(zip(factors, (group, *map(next, columns)))) for group in rows]
    else:
        cases = covering(factors, variant)
    out = set()
    for case in cases:
        n, key_dim, value_dim = (next(turns[case[name]]) for name in ("rows", "key_dim", "value_dim"))
        out.add(Size(n, key_dim, value_dim, capacity(n, case["load"])))
    return tuple(sorted(out, key=lambda size: (size.n, size.key_dim, size.value_dim, size.capacity)))


def _from(start: int, things: Sequence[Any]) -> Iterator[Any]:
    """These things in turn and over again, from another one for every ``start``."""
    start %= len(things)
    return itertools.cycle([*things[start:], *things[:start]])


def capacity(n: int, load: str) -> int:
    """Of a store that so many rows load so."""
    wanted = {"room": n + 3, "full": n, "over": n - 1, "wrapped": (n - 1) // 2 if n % 2 else n // 3}[load]
    return max(1, min(wanted, LARGEST))


def covering(factors: Mapping[str, Sequence[Any]], seed: int) -> list[dict[str, Any]]:
    """Cases in which every two levels of different factors meet: greedy, and far fewer than all combinations.

    Args:
        factors: name -> levels (hashable).
        seed: of the choice among equals.
    """
    chance = random.Random(seed)
    places = {name: place for place, name in enumerate(factors)}
    wanting = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(factors, 2)
        for x, y in itertools.product(range(len(factors[a])), range(len(factors[b])))
    }
    waiting = sorted(wanting)
    chance.shuffle(waiting)
    out = []
    for pair in waiting:
        if pair not in wanting:
            continue
        case: dict[str, int] = dict(pair)
        for name in chance.sample(list(factors), len(factors)):
            if name in case:
                continue
            gains = [
                sum(
                    (((name, level), other) if places[name] < places[other[0]] else (other, (name, level))) in wanting
                    for other in case.items()
                )
                for level in range(len(factors[name]))
            ]
            case[name] = chance.choice([level for level, gain in enumerate(gains) if gain == max(gains)])
        ordered = [(name, case[name]) for name in factors]
        wanting -= set(itertools.combinations(ordered, 2))
        out.append({name: factors[name][level] for name, level in ordered})
    return out


def telling(count: int) -> list[int]:
    """Of so many rows those that lie where chunks begin and end: all of a few, else the ends and the rungs."""
    rungs = {rung for group in ROWS for rung in group}
    return [row for row in range(count) if count <= 12 or row in rungs or row in (0, count - 2, count - 1)]
