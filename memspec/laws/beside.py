"""A memory beside itself: instances that are told the same in another way, and must come to the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec.laws.case import Case
from memspec.laws.compare import FLOAT
from memspec.laws.driven import Driven

NUDGE = 8
"""Roundings by which the inputs of a nudged twin differ."""
CHAOS = 8
"""How many times farther than the nudged twin another order of sums may carry the answers."""


@dataclass(frozen=True)
class Done:
    """What was done, and the number that the generators were seeded with before it."""

    how: str
    seed: int
    keys: Tensor
    values: Tensor


class Beside:
    """The companions of a memory that no model speaks for.

    * its functional form, at every step, bit for bit: what was asked, copied, saved, restored, and written to others
      in between, makes no difference;
    * a second instance that leads the same life in one piece, at its end, bit for bit;
    * one that is told the same in other calls: split in parts and rows where ``write`` is ``sequential`` or ``set``, in
      another order where it is ``set`` or ``joint``. Its tolerance is float32 rounding, or what the memory makes of
      rounding: eight times the distance to an instance whose inputs were moved by eight roundings.

    Args:
        case: of the memory.
        keys: the pool.
    """

    def __init__(self, case: Case, keys: Tensor) -> None:
        self.case, self.keys, self.spec = case, keys, case.spec
        self.form = self._form()
        self.reached: list[tuple[Done, object]] = []

    def _form(self) -> Driven | None:
        """Its functional form; None where ``init_state`` draws a start of its own, which is another memory."""
        if "Functional" not in self.case.plug.capabilities:
            return None
        self.quiet = Case(self.case.law, self.case.size)
        form = self.quiet.build()
        self.fresh = form.start()
        return form if torch.equal(form.read(self.fresh, self.keys).detach(), form.query(self.keys)) else None

    def every_step(self, memory: Driven, life: Sequence[Done], cause: str) -> None:
        """Hold the memory to its functional form, as far as that can do what was done; else it is only asked."""
        got = memory.query(self.keys)
        if self.form is None or any(done.how not in ("update", "rows") for done in life):
            return
        while self.reached and (
            len(self.reached) > len(life) or self.reached[-1][0] is not life[len(self.reached) - 1]
        ):
            self.reached.pop()
        for done in life[len(self.reached) :]:
            state = self.reached[-1][1] if self.reached else self.fresh
            self._seed(self.quiet, done)
            for keys, values in _calls(done):
                if len(keys):
                    state = self.form.write(state, keys, values)
            self.reached.append((done, state))
        state = self.reached[-1][1] if self.reached else self.fresh
        want = self.form.read(state, self.keys).detach()
        self.case.same(got, want, cause=cause, expected="the answers of its own functional form, bit for bit")

    def at_the_end(self, memory: Driven, life: Sequence[Done], seed: int, cause: str) -> None:
        """Hold the memory to instances that lead the same life in other ways."""
        case = self.case
        got = memory.query(self.keys)
        if self.form is None or any(done.how not in ("update", "rows") for done in life):
            want = self._lived(life, seed).query(self.keys)
            case.same(
                got,
                want,
                cause=cause,
                expected="the answers of a second instance that was told the same, asked nothing and never saved",
            )
        if not self._free or all(len(done.keys) < 2 for done in life if done.how in ("update", "rows")):
            return
        other = [self._otherwise(done, turn) for turn, done in enumerate(life)]
        told = self._lived(life, seed, other).query(self.keys)
        limit = FLOAT * max(1.0, _largest(got), _largest(case.values))
        if _gap(got, told) <= limit:
            return
        nudged = self._lived([self._nudged(done) for done in life], seed).query(self.keys)
        case.close(
            told,
            got,
            tolerance=FLOAT + CHAOS * _gap(nudged, got) / max(1.0, _largest(got), _largest(case.values)),
            cause="rows of one call act at once, a remainder or a repeat is dropped, or their order counts where the spec "
            f"says it does not; after {cause.partition(': ')[2]}",
            expected=f"the same answers however the rows are divided into calls (write={self.spec.write!r})",
        )

    # ---- lives ------------------------------------------------------------------------------------------------

    @property
    def _free(self) -> bool:
        """Whether the spec allows the same rows to be told otherwise, and chance has no part in it."""
        sure = self.spec.deterministic or self.spec.eviction in ("fifo", "lru")
        return sure and self.spec.write != "none"

    def _seed(self, case: Case, done: Done) -> None:
        if not self.spec.deterministic:
            case.seed(done.seed)

    def _lived(
        self, life: Sequence[Done], seed: int, calls: Sequence[list[tuple[Tensor, Tensor]]] | None = None
    ) -> Driven:
        """A fresh instance after this life; ``calls``: how its rows are divided, act by act."""
        twin = self.case.build(seed)
        for turn, done in enumerate(life):
            self._seed(self.case, done)
            if done.how in ("touch", "forget"):
                twin.call(done.how, done.keys)
            elif done.how == "consolidate":
                twin.call("consolidate")
            elif done.how == "rows" and calls is None:
                twin.update_rows(done.keys, done.values)
            else:
                for keys, values in _calls(done) if calls is None else calls[turn]:
                    twin.update(keys, values)
        return twin

    def _otherwise(self, done: Done, turn: int) -> list[tuple[Tensor, Tensor]]:
        """The same rows in other calls: rows as one call, a call in three parts; reversed where order does not count."""
        keys, values, n = done.keys, done.values, len(done.keys)
        if done.how not in ("update", "rows"):
            return list(_calls(done))
        if self.spec.write == "joint":
            return [(keys.flip(0), values.flip(0))] if done.how == "update" else list(_calls(done))
        if self.spec.write == "set":
            keys, values = keys.flip(0), values.flip(0)
        if done.how == "rows":
            return [(keys, values)]
        ends = sorted({0, (turn + n) % (n + 1), n // 2, n})
        return [(keys[a:b], values[a:b]) for a, b in itertools.pairwise(ends)]

    def _nudged(self, done: Done) -> Done:
        """The same with real inputs that differ by a few roundings."""
        keys, values = done.keys, done.values
        nudge = 1 + NUDGE * torch.finfo(keys.dtype).eps * torch.sin(
            torch.arange(keys.numel()).reshape(keys.shape) + 1.0
        )
        if self.spec.key_domain in ("real", "unit"):
            keys = keys * nudge.to(keys)
        if self.spec.association == "auto":
            values = keys.clone()
        return Done(done.how, done.seed, keys, values)


def _calls(done: Done) -> Iterator[tuple[Tensor, Tensor]]:
    """The calls that an act was."""
    return zip(done.keys.split(1), done.values.split(1)) if done.how == "rows" else iter([(done.keys, done.values)])


def _largest(rows: Tensor) -> float:
    finite = rows[rows.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def _gap(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
