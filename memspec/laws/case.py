"""One case of a law: its data, and the memories that are driven with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memspec.fixtures.data.pairs import pairs
from memspec.laws.driven import Driven
from memspec.laws.recorded import Recorded, Statement
from memspec.plugs.stochastic import draws_in_update
from memspec.randomness import generator_states, seed_generators, seed_of, set_generator_states, unshared
from memspec.world.boundary import call

KEY_DIM, VALUE_DIM, CAPACITY = 6, 5, 16
WRITES = 1
"""What the generators are seeded with after a memory is built whose writes draw."""
ALIKE = 4
"""Memories that are built and written alike to see whether they answer alike, where a law is broken."""
OTHERS = 5
"""Never-stored keys in every probe."""


@dataclass(frozen=True)
class Size:
    """How large a case is: pairs, widths and capacity, and the numbers its values and keys are made of.

    Attributes:
        n: pairs.
        key_dim, value_dim, capacity: wished for; the plug has the nearest it can be built with.
        scale, offset: keys and values of the ``real`` domain are multiplied by the one, then shifted by the other.
        dtype: of keys and values.
    """

    n: int
    key_dim: int = KEY_DIM
    value_dim: int = VALUE_DIM
    capacity: int = CAPACITY
    scale: float = 1.0
    offset: float = 0.0
    dtype: torch.dtype = torch.float32


class Case(Recorded):
    """Data of one size, the memories driven with it, and the transcript.

    Attributes:
        n: pairs in ``keys [n, Dk]``, ``values [n, Dv]``.
        others, spare: 5 further keys and values, not stored unless a law does so.
        probe: the stored keys and the never-stored ones ``[n + 5, Dk]``.
    """

    def __init__(self, law: Statement, size: Size) -> None:
        wished = size.key_dim, size.value_dim, size.capacity
        super().__init__(law, law.plug.shape(*wished), size.n)
        self.size, self._draws, n = size, 0, size.n
        self.script.given("plug", self.plug, f"memspec.load_plug({self.plug.name!r})")
        self.script.let("shape", "plug.shape(key_dim={}, value_dim={}, capacity={})".format(*wished))
        # What a memory draws is drawn again by the program; not the numbers that memories are built under.
        self.seed(seed_of(law.seed, law.check, n) % 10**6 + 10**3)
        self._drawn("k, v", n + OTHERS)
        self.keys, self.values, self.others, self.spare = self.script.unpack(
            "keys, values, others, spare", f"(part.clone() for part in (k[:{n}], v[:{n}], k[{n}:], v[{n}:]))"
        )
        self.probe: Tensor = self.script.let("probe", "torch.cat((keys, others))", hold=True)

    # ---- data -------------------------------------------------------------------------------------------------

    def _drawn(self, names: str, count: int) -> tuple[Tensor, Tensor]:
        """``count`` pairs from the spec's domains, of the case's device, scale, offset and dtype."""
        self._draws += 1
        seed = seed_of(self.law.seed, self.law.check, self.n, self._draws) % 10**6
        auto = self.spec.association == "auto"
        domains = self.spec.key_domain, self.spec.value_domain
        arguments = (*domains, count, self.shape.key_dim, self.shape.value_dim)
        listed = ", ".join(map(repr, arguments))
        name = self.script.ref(pairs)
        text = f"{name}({listed}, torch.Generator().manual_seed({seed}), {self.spec.association!r})"
        size, parts = self.size, []
        for part, domain in zip(names.split(", "), domains[:1] * 2 if auto else domains):
            moved = part
            if domain == "real" and size.scale != 1:
                moved = f"{moved} * {size.scale!r}"
            if domain == "real" and size.offset:
                moved = f"{moved} + {size.offset!r}"
            to = [repr(str(self.device))] if self.device.type != "cpu" else []
            to += [repr(size.dtype)] if size.dtype != torch.float32 else []
            parts.append(f"({moved}).to({', '.join(to)})" if to else moved)
        keys, values = self.script.unpack(names, text)
        if parts != names.split(", "):
            keys, values = self.script.unpack(names, ", ".join(parts))
        return keys, values

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` further pairs, independent of the others."""
        return self._drawn(f"{self.script.fresh('k')}, {self.script.fresh('v')}", count)

    def changed(self, rows: Tensor, domain: str) -> Tensor:
        """Other rows of the same domain, each different from the one it replaces (and from its negative)."""
        if domain == "onehot":
            return rows.roll(1, -1)
        sign = torch.ones(rows.shape[-1], device=rows.device)
        sign[: (rows.shape[-1] + 1) // 2] = -1
        return rows * sign

    def changed_pairs(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same keys with other values; for a memory that recalls keys themselves, other keys."""
        if self.spec.association == "auto":
            other = self.changed(keys, self.spec.key_domain)
            return other, other.clone()
        return keys, self.changed(values, self.spec.value_domain)

    # ---- memories ---------------------------------------------------------------------------------------------

    def build(self, seed: int = 0, **extra: Any) -> Driven:
        """A fresh memory, constructed under ``seed``."""
        memory = self.construct(seed, **extra)
        if draws_in_update(self.plug):  # so that memories that are written alike draw alike, whatever stands between
            self.seed(WRITES)
        return memory

    def construct(self, seed: int = 0, **extra: Any) -> Driven:
        """A fresh memory, and nothing else done."""
        name = self.script.fresh("m")
        more = "".join(f", {k}={v!r}" for k, v in extra.items())
        return Driven(self, self.script.let(name, f"plug.build(shape, seed={unshared(seed)}{more})"), name)

    def drive(self, template: str, *things: object, cause: str = "") -> Driven:
        """A memory that an expression gives, such as a copy of another."""
        name = self.script.fresh("m")
        return Driven(self, self.let(name, template, *things, cause=cause), name)

    def unrepeatable(self, atol: float) -> str:
        """Builds and writes a few memories alike, beside the program, and compares what they answer."""
        first: Tensor | None = None
        was = generator_states()
        try:
            for _ in range(ALIKE):
                memory = self.plug.build(self.shape)
                seed_generators(unshared(WRITES))
                if self.n:
                    call(memory, "update", self.keys.clone(), self.values.clone())
                answer = call(memory, "query", self.probe.clone()).detach().cpu().double()
                first = answer if first is None else first
                apart = float((answer - first).abs().nan_to_num(nan=0.0, posinf=0.0).max())
                if apart > atol:
                    return f"memories that are built and written alike answer up to {apart:.3g} apart (laws/same-seed)"
        except (
            Exception
        ):  # what it raises here, it has not raised where the law was broken: that says nothing of the cause
            return ""
        finally:
            set_generator_states(was)
        return ""

    def stored(self, seed: int = 0) -> Driven:
        """A memory that holds the case's pairs."""
        memory = self.build(seed)
        if self.n:
            memory.store(self.keys, self.values)
        return memory
