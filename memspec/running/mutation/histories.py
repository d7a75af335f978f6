"""A wide random search for any difference between two memories, by what a caller can see of them.

What a contract leaves free is told from the rest: the number that an auxiliary loss is, and what a key of length zero, which
has no direction, stores or is answered, as long as both are finite.

It decides whether a mutant is another memory at all, so it shares nothing with the suites: histories of random calls at
random widths, capacities, lengths and precisions, with buffers overwritten behind the memory's back, copies, saves and
restores, batches of the functional form, and every optional method. All that comes back is kept: numbers, shapes, types,
whether a gradient flows, the kind of exception, whether a generator moved.

A number counts as another one where it is off by more than rounding: ten times what the original itself makes of keys and
values that are changed in their last digits, and never less than :data:`FINEST`.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memspec.functional import map_state, state_tensors
from memspec.plugs.plug import Plug
from memspec.randomness import generator_states, moved_generators, seed_generators

HISTORIES = 72
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 31, 33, 64, 65)
CAPACITIES = (1, 2, 3, 4, 7, 8, 16, 17, 33, 64)
FINEST = {torch.float64: 1e-7, torch.float32: 1e-3}
"""The smallest difference that counts, as a share of the largest number compared; none in shorter formats."""

PLACES = [
    "answers",
    "the rest",
    "the functional form",
    "gradients",
    "statistics",
    "other formats",
    "the auxiliary loss",
    "a key of length zero",
    "the number of the auxiliary loss",
]
"""Where a difference can show, the plainest first; ``the rest``: exceptions, generators, copies, saves."""
FREE = {
    "a key of length zero": "a key of length zero has no direction, and what it is answered is promised by nobody",
    "the number of the auxiliary loss": "what number a loss is belongs to its author; that it is finite and has a slope is asked",
}
"""Places in which every finite number is as good as another, and why."""
ZERO = "zero key: "
"""What names begin with where a key of length zero was asked, or has been written since the last reset."""

_KINDS = "fresh fresh unit scaled huge tiny offset zero near again again mixed onehot"
KINDS = _KINDS.split()
"""What the rows that are written may be to each other, and to those before."""
PLAIN = [kind for kind in KINDS if kind != "zero"]
"""What others may be: after a zero row is written, what shows counts for less (:data:`FREE`)."""

Seen = list[tuple[str, Any]]
"""What one history showed: after each call, a name and a tensor, or a word."""


@dataclass(frozen=True)
class History:
    """One random life of a memory; its calls follow from ``number`` alone.

    Attributes:
        nudge: relative change of every key and value, to see what rounding can do.
    """

    number: int
    nudge: float = 0.0

    def play(self, plug: Plug) -> Seen:
        """What a memory built by ``plug`` shows."""
        return Player(self, plug).played()


def histories(nudged: bool = False, count: int = HISTORIES) -> list[History]:
    """The histories of the search, cheap ones first; ``nudged``: with their numbers changed in the last digits."""
    return [History(number, 1.0 if nudged else 0.0) for number in range(count)]


def tolerances(seen: Seen, nudged: Seen) -> list[float]:
    """For each thing that ``seen`` shows, the largest difference that is no difference: inf where rounding decides."""
    out = []
    loose = len(seen) != len(nudged)
    for (_, one), (_, two) in zip(seen, nudged + [("", None)] * len(seen)):
        allowed = math.inf if loose else 0.0
        if isinstance(one, Tensor) and one.is_floating_point():
            if not loose and isinstance(two, Tensor) and one.shape == two.shape and one.dtype == two.dtype:
                both = torch.isfinite(one) & torch.isfinite(two)
                apart = float((one - two).abs().masked_fill(~both, 0).max()) if one.numel() else 0.0
                size = float(one.abs().masked_fill(~both, 0).max()) if one.numel() else 0.0
                allowed = max(FINEST.get(one.dtype, math.inf) * max(size, 1e-6), 10 * apart)
                # Rounding that is amplified beyond a tenth of the answer has decided something: from here on all may differ.
                loose = apart > 0.1 * size > 0
        elif not loose and not alike(one, two, 0.0):
            loose = True
        out.append(math.inf if loose else allowed)
    return out


def alike(one: Any, two: Any, allowed: float) -> bool:
    """Whether two things that were shown are the same up to ``allowed``."""
    if allowed == math.inf:
        return True
    if not isinstance(one, Tensor) or not isinstance(two, Tensor):
        return bool(type(one) is type(two) and one == two)
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, two)
    finite = torch.isfinite(one)
    if not torch.equal(finite, torch.isfinite(two)):
        return False
    return not one.numel() or float((one - two).abs().masked_fill(~finite, 0).max()) <= allowed


def shown_in(seen: Seen, others: Seen, allowed: Sequence[float]) -> tuple[int, str] | None:
    """The plainest difference of two lives of one history: the rank of its place in :data:`PLACES`, and the call; None = none."""
    found = [
        (PLACES.index(_place(seen, others, i)), f"call {i}: {seen[i][0]}") for i in differing(seen, others, allowed)
    ]
    return min(found, default=None)


def _place(seen: Seen, others: Seen, i: int) -> str:
    """Where the difference of entry ``i`` shows."""
    name, one = seen[i]
    other = others[i][1] if i < len(others) and others[i][0] == name else None
    numbers = isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape
    if numbers and bool(torch.isfinite(one + other).all()) and (name == "loss" or name.startswith(ZERO)):
        return "the number of the auxiliary loss" if name == "loss" else "a key of length zero"
    name = name.removeprefix(ZERO)
    place = "answers" if name == "query" or name.startswith("recurrent") else "the rest"
    for start, else_where in (
        ("functional", "the functional form"),
        ("slope", "gradients"),
        ("loss", "the auxiliary loss"),
        *((statistic, "statistics") for statistic in ("confidence", "read_weights", "slot_values", "slot_usage")),
    ):
        place = else_where if name.startswith(start) else place
    return "other formats" if seen[0][1] != str(torch.float32) and place in ("answers", "the rest") else place


def differing(seen: Seen, others: Seen, allowed: Sequence[float]) -> Iterator[int]:
    """The entries in which two lives of one history differ, up to the first after which they cannot be compared."""
    for i, ((name, one), limit) in enumerate(zip(seen, allowed)):
        if i >= len(others) or others[i][0] != name:
            if limit != math.inf:
                yield i
            return
        if limit != math.inf and not alike(one, others[i][1], limit):
            yield i


def first_difference(seen: Seen, others: Seen, allowed: Sequence[float]) -> str | None:
    """What two lives of one history differ in first, or None."""
    i = next(differing(seen, others, allowed), None)
    return None if i is None else f"call {i}: {seen[i][0]}"


class Player:
    """Plays one history on one plug."""

    def __init__(self, history: History, plug: Plug) -> None:
        self.plug, self.nudge = plug, history.nudge
        self.random = random.Random(history.number)
        self.generator = torch.Generator().manual_seed(history.number)
        wide = self.random.choice(WIDTHS), self.random.choice(WIDTHS)
        self.small = max(wide) <= 17
        self.shape = plug.shape(*wide, self.random.choice(CAPACITIES))
        self.dtype = self.random.choices([torch.float32, torch.float64, torch.bfloat16], [5, 4, 1])[0]
        self.seen: Seen = [("format", str(self.dtype))]
        self.zeroed = False
        self.keys = torch.zeros(0, self.shape.key_dim, dtype=self.dtype)
        self.values = torch.zeros(0, self.shape.value_dim, dtype=self.dtype)
        # By column, so that rows that are equal stay equal.
        eps = self.nudge * 4 * torch.finfo(self.dtype).eps
        self.factors = [1 + eps * torch.randn(n, dtype=self.dtype) for n in (self.shape.key_dim, self.shape.value_dim)]

    def played(self) -> Seen:
        """All that was seen."""
        seed_generators(1 + self.random.randrange(2**30))
        self.memory: Any = None
        self.see("built", self.built)
        if self.memory is None:
            return self.seen
        for _ in range(self.random.choice((3, 6, 10, 16))):
            self.step()
        return self.seen

    def built(self) -> str:
        self.memory = self.build(0)
        return type(self.memory).__name__

    def build(self, seed: int) -> Any:
        memory = self.plug.build(self.shape, seed)
        if self.dtype != torch.float32 and isinstance(memory, torch.nn.Module):
            memory = memory.to(self.dtype)
        return memory

    # ---- seeing -----------------------------------------------------------------------------------------------

    def see(self, name: str, call: Callable[[], Any]) -> None:
        """Make a call, and keep what came of it."""
        name = f"{ZERO}{name}" if self.zeroed and not name.startswith(ZERO) else name
        before = generator_states()
        try:
            came = call()
        except Exception as error:
            self.seen.append((name, f"raised {type(error).__name__}"))
        else:
            parts = state_tensors(came) if isinstance(came, (Tensor, tuple, list, dict)) else [came]
            for part in parts:
                if isinstance(part, Tensor):
                    self.seen.append((f"{name}: needs a gradient", part.requires_grad))
                    part = part.detach().clone()
                self.seen.append((name, part))
        self.seen.append((f"{name}: generators", str(moved_generators(before, generator_states()))))

    # ---- data -------------------------------------------------------------------------------------------------

    def rows(self, n: int, kinds: Sequence[str] = PLAIN) -> tuple[Tensor, Tensor]:
        """N keys and values of one of these kinds."""
        spec, draw = self.plug.spec, self.generator
        keys = torch.randn(n, self.shape.key_dim, generator=draw)
        values = torch.randn(n, self.shape.value_dim, generator=draw)
        kind = self.random.choice(kinds)
        if len(self.keys) and kind in ("near", "again", "mixed"):
            rows = torch.randint(len(self.keys), (n,), generator=draw)
            old = self.keys[rows].float() + (1e-3 * keys if kind == "near" else 0)
            pick = torch.rand(n, 1, generator=draw) < (0.5 if kind == "mixed" else 2)
            keys = torch.where(pick, old, keys)
        elif kind == "scaled":
            keys = keys * torch.logspace(-1, 1, n)[:, None] if n else keys
        elif kind in ("huge", "tiny"):
            keys, values = (part * (100 if kind == "huge" else 1e-3) for part in (keys, values))
        elif kind == "offset":
            keys = keys + 3
        elif kind == "zero":
            keys[: (n + 1) // 2] = 0
        elif kind == "onehot" and n:
            values = torch.nn.functional.one_hot(values.argmax(-1), self.shape.value_dim).float()
        if spec.key_domain in ("unit", "sign", "onehot") or kind == "unit":
            keys = in_domain(keys, "unit" if kind == "unit" and spec.key_domain == "real" else spec.key_domain)
        values = in_domain(values, spec.value_domain)
        keys, values = (part.to(self.dtype) for part in (keys, values))
        if self.nudge:
            keys, values = keys * self.factors[0], values * self.factors[1]
        return keys, keys.clone() if spec.association == "auto" else values

    def asked(self) -> Tensor:
        """Keys to ask: stored ones, near ones, and others."""
        keys, _ = self.rows(3)
        known = self.keys[torch.randperm(len(self.keys), generator=self.generator)[:6]]
        return torch.cat((known, keys, known[:2] * 1.001))

    def length(self) -> int:
        """Rows of a call: few, or around a boundary, or many."""
        c = self.shape.capacity
        longest = 700 if self.small else 140
        n = self.random.choice((1, 1, 2, 3, 5, 8, c - 1, c, c + 1, 2 * c, 3 * c + 1, 65, 130, longest))
        return max(1, min(n, longest))

    # ---- calls ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One random call, and what is answered after it."""
        names, weights = zip(*self.offered())
        getattr(self, self.random.choices(names, weights)[0])()

    def offered(self) -> Iterator[tuple[str, float]]:
        yield from (("update", 8), ("trickle", 1), ("query", 2), ("reset", 1), ("copied", 1), ("odd", 1.5))
        yield from (("slope", 1), ("inference", 0.5), ("short", 0.5))
        can = self.plug.capabilities
        for capability, name, weight in (
            ("Persistent", "saved", 1.5),
            ("Touching", "touch", 3),
            ("Forgetting", "forget", 3),
            ("Consolidating", "consolidate", 2),
            ("Auxiliary", "loss", 1),
            ("Functional", "functional", 2),
            ("Recurrent", "recurrent", 2),
        ):
            if capability in can:
                yield name, weight

    def update(self, n: int | None = None) -> None:
        keys, values = self.rows(self.length() if n is None else n, KINDS)
        self.keys, self.values = torch.cat((self.keys, keys))[-200:], torch.cat((self.values, values))[-200:]
        given = keys.clone(), values.clone()
        again = self.random.random() < 0.3

        def call() -> None:
            for _ in range(self.plug.spec.presentations):
                self.memory.update(*given)

        self.zeroed |= _has_zero(keys)
        self.see("update", call)
        if again:  # the caller's buffers are the caller's
            for buffer in given:
                buffer.fill_(7)
        self.look()

    def look(self) -> None:
        """Everything that may be asked now, of stored keys, others and a zero row, and an answer changed by its reader."""
        asked = self.asked()
        zero = torch.zeros_like(self.keys[:1]) if len(self.keys) else asked[:1] * 0

        def answers() -> Tensor:
            answer = self.memory.query(asked)
            kept = answer.detach().clone().requires_grad_(answer.requires_grad)
            with torch.no_grad():
                answer.detach().add_(5)
            return kept

        self.see("query", answers)
        self.see(f"{ZERO}query", lambda: self.memory.query(zero))
        can = self.plug.capabilities
        if "Confident" in can:
            self.see("confidence", lambda: self.memory.confidence(asked))
            self.see(f"{ZERO}confidence", lambda: self.memory.confidence(zero))
        if "Addressable" in can:
            self.see("read_weights", lambda: self.memory.read_weights(asked))
            self.see(f"{ZERO}read_weights", lambda: self.memory.read_weights(zero))
            self.see("slot_values", lambda: self.memory.slot_values())
        if "Slotted" in can:
            self.see("slot_usage", lambda: self.memory.slot_usage())

    def trickle(self) -> None:
        """Many calls of one row."""
        keys, values = self.rows(self.random.choice((20, 70, 300 if self.small else 20)), KINDS)
        self.keys, self.values = torch.cat((self.keys, keys))[-200:], torch.cat((self.values, values))[-200:]

        def call() -> None:
            for i in range(len(keys)):
                self.memory.update(keys[i : i + 1], values[i : i + 1])

        self.zeroed |= _has_zero(keys)
        self.see("update by rows", call)
        self.look()

    def query(self) -> None:
        keys, _ = self.rows(self.random.choice((0, 1, 40)))
        self.see("query", lambda: self.memory.query(keys))

    def reset(self) -> None:
        self.see("reset", lambda: self.memory.reset())
        self.zeroed = False
        self.look()

    def copied(self) -> None:
        def call() -> None:
            other = copy.deepcopy(self.memory)
            self.memory.update(*self.rows(2))
            self.memory = other

        self.see("copy", call)
        self.look()

    def saved(self) -> None:
        def call() -> None:
            kept = copy.deepcopy(self.memory.state_dict())
            live = self.memory.state_dict()
            self.memory.update(*self.rows(3))
            self.seen.append(("state_dict", sorted(live)))
            if self.random.random() < 0.7:
                self.memory = self.build(1)
            self.memory.load_state_dict(kept)
            for part in kept.values() if isinstance(kept, dict) else ():
                if isinstance(part, Tensor):
                    part.zero_()

        self.see("save and restore", call)
        self.look()

    def odd(self) -> None:
        """What should be refused, or do nothing."""
        n = self.random.choice((0, 2))
        keys, values = self.rows(n)
        kind = self.random.choice(("empty", "nan", "inf", "wide", "uneven", "flat"))
        if n and kind in ("nan", "inf"):
            (keys if self.random.random() < 0.5 else values)[0, 0] = float(kind)
        elif kind == "wide":
            keys = torch.cat((keys, keys), -1)
        elif kind == "uneven":
            keys, values = self.rows(3)[0], self.rows(2)[1]
        elif kind == "flat" and n:
            keys = keys[0]
        self.see(f"update ({kind})", lambda: self.memory.update(keys, values))
        if kind in ("wide", "flat"):
            self.see(f"query ({kind})", lambda: self.memory.query(keys))
        self.look()

    def slope(self) -> None:
        asked = self.asked().requires_grad_()

        def call() -> Any:
            answer = self.memory.query(asked)
            return torch.autograd.grad(answer.sin().sum(), asked)[0] if answer.requires_grad else "no gradient"

        self.see("slope of an answer", call)

    def inference(self) -> None:
        def call() -> None:
            with torch.inference_mode():
                self.memory.update(*self.rows(2))
                self.memory.query(self.asked())

        self.see("inference mode", call)

    def short(self) -> None:
        asked = self.asked().to(self.random.choice((torch.float16, torch.bfloat16, torch.float64)))
        self.see("query in another format", lambda: self.memory.query(asked))

    def touch(self) -> None:
        asked = self.asked()[: self.random.choice((1, 2, 6))]
        self.see("touch", lambda: self.memory.touch(asked))
        self.look()

    def forget(self) -> None:
        asked = self.asked()[: self.random.choice((1, 2, 6))]
        self.see("forget", lambda: self.memory.forget(asked))
        self.look()

    def consolidate(self) -> None:
        self.see("consolidate", lambda: self.memory.consolidate())
        self.update()

    def loss(self) -> None:
        keys, values = self.rows(4)
        if len(self.keys) > 2 and self.random.random() < 0.7:
            keys, values = torch.cat((keys, self.keys[:3])), torch.cat((values, self.values[:3]))
        keys.requires_grad_()

        def call() -> Any:
            loss = self.memory.auxiliary_loss(keys, values)
            slope = torch.autograd.grad(loss, keys, allow_unused=True)[0] if loss.requires_grad else None
            return loss, torch.zeros(()) if slope is None else slope

        self.see("loss", call)

    def functional(self) -> None:
        """Two memories at once, written twice, with gradients, and the old state asked again."""
        batch = self.random.choice(((), (1,), (2,), (2, 2)))
        count = math.prod(batch)
        n = min(self.length(), 40)
        parts = [[torch.stack(p).view(*batch, n, -1) for p in zip(*(self.rows(n) for _ in range(count)))] for _ in "ab"]
        asked = torch.cat((parts[0][0][..., :3, :], parts[1][0][..., :3, :]), -2)
        grad = self.random.random() < 0.5

        def call() -> Any:
            leaves = [p.clone().requires_grad_(grad) for p in parts[0]]
            empty = self.memory.init_state(batch)
            once = self.memory.write(empty, *leaves)
            before = self.memory.read(once, asked).detach().clone()
            twice = self.memory.write(once, *parts[1])
            answers = self.memory.read(twice, asked), self.memory.read(once, asked), before
            fresh = self.memory.read(empty, asked)
            out = [*answers, fresh]
            if grad and answers[0].requires_grad:
                slopes = torch.autograd.grad(answers[0].sin().sum(), leaves, allow_unused=True)
                out += [torch.zeros(()) if s is None else s for s in slopes]
            return out

        self.see("functional form", call)
        if not grad:
            self.see("functional form, left alone", lambda: map_state(torch.Tensor.detach, self.memory.state))

    def recurrent(self) -> None:
        width = getattr(self.memory, "input_dim", self.shape.key_dim)
        xs = torch.randn(5, 2, width, generator=self.generator).to(self.dtype)

        def call() -> Any:
            ys, state = self.memory.run(xs, self.memory.initial_state(2))
            y, state = self.memory.step(xs[0], state)
            return ys, y

        self.see("recurrent form", call)


def _has_zero(keys: Tensor) -> bool:
    return bool((keys == 0).all(-1).any())


def in_domain(rows: Tensor, domain: str) -> Tensor:
    """Rows brought into one of the domains that a spec may name."""
    if domain == "unit":
        return torch.nn.functional.normalize(rows, dim=-1)
    if domain == "sign":
        return torch.where(rows >= 0, 1.0, -1.0)
    if domain == "onehot":
        return torch.nn.functional.one_hot(rows.argmax(-1), rows.shape[-1]).to(rows)
    return rows
