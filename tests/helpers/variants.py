"""One table of reference memories in the forms that tests drive: all by themselves, some with options that change how they work.

A test of what every memory keeps takes its cases from here, so that a new reference, or a line here, is tested by all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drawing import drawn
from memspec import reference
from memspec.fixtures.data import pairs
from memspec.functional import FunctionalMemory
from memspec.plugs.plug import Plug, Shape


@dataclass(frozen=True)
class Variant:
    """A reference memory with options of its constructor.

    Attributes:
        kind: name of the class in ``memspec.reference``.
        options: what its constructor is given beside widths and capacity.
        steps: rows that it takes in a long run; fewer where it has no form but row by row.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 10_000

    def build(self, key_dim: int = 6, value_dim: int = 5, capacity: int = 8, seed: int = 0) -> FunctionalMemory:
        """A fresh one, of these widths or (where it is square) the nearest that it can have."""
        plug = Plug(self.kind, functools.partial(getattr(reference, self.kind), **self.options))
        shape = plug.shape(key_dim, value_dim, capacity)
        memory = plug.build(Shape(shape.key_dim, shape.value_dim, capacity), seed)
        assert isinstance(memory, FunctionalMemory)
        return memory


VARIANTS: dict[str, Variant] = {name: Variant(name) for name in sorted(reference.__all__)} | {
    "CachedMemory-overwrite": Variant("CachedMemory", {"known": "overwrite", "similarity_threshold": 0.5}),
    "DNCMemory-unlinked": Variant("DNCMemory", {"linkage": False}),
    "DeltaMemory-rows": Variant("DeltaMemory", {"form": "rows", "beta": 0.5}, steps=1000),
    "DeltaMemory-small-chunks": Variant("DeltaMemory", {"chunk": 3}),
    "EpisodicMemory-adam": Variant(
        "EpisodicMemory", {"memory_size": 7, "optimiser": "adam", "update_steps": 2, "scale": None}
    ),
    "EpisodicMemory-items": Variant("EpisodicMemory", {"memory_size": 7, "reduction": "items", "lr": 0.3}),
    "GatedMemory-learned": Variant("GatedMemory", {"gates": "learned"}, steps=1000),
    "HierarchicalMemory": Variant("HierarchicalMemory", steps=1000),
    "MatrixAssociativeMemory-decay": Variant("MatrixAssociativeMemory", {"key_norm": "unit", "decay": 0.9}),
    "ProjectingEpisodicMemory-learned": Variant(
        "ProjectingEpisodicMemory", {"memory_size": 7, "memory_dim": 4, "lr": 0.5, "projection": "learned"}
    ),
    "RareEventsMemory": Variant("RareEventsMemory", steps=2000),
    "SoftmaxMemory-dot": Variant("SoftmaxMemory", {"beta": 1.0, "key_norm": "none"}),
}


def data(memory: FunctionalMemory, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``n`` random pairs that it takes: keys ``[n, key_dim]`` and values ``[n, value_dim]``."""
    g = torch.Generator().manual_seed(seed)
    spec = memory.spec
    return pairs.pairs(spec.key_domain, spec.value_domain, n, memory.key_dim, memory.value_dim, g, spec.association)


# ---- controlled by gates --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Controlled:
    """A memory that a controller drives through ``interface`` and ``step``.

    Attributes:
        variant: which; built with keys of width 2 and values of width 1.
        capacity: slots.
        raw: numbers that its interface takes; None = its ``interface_size``.
        start: fields of the state that steps begin from; random rows, so that no direction is special.
        acting: of the gradient ``[steps, raw]`` of all reads, what must not be zero.
        share: of that, more than this share is not zero.
    """

    variant: Variant
    capacity: int
    raw: int | None = None
    start: Mapping[str, Tensor] = field(default_factory=dict)
    acting: Callable[[Tensor], Tensor] = lambda gradient: gradient
    share: float = 0.999

    def build(self) -> Any:
        return self.variant.build(2, 1, self.capacity, seed=1)

    def size(self, memory: Any) -> int:
        return memory.interface_size if self.raw is None else self.raw


def some_step(gradient: Tensor) -> Tensor:
    return gradient.abs().amax(0)


CONTROLLED = {
    "ntm": Controlled(
        Variant("NTMMemory"),
        4,
        start={"memory": drawn(4, 3, seed=5)},
        acting=lambda gradient: gradient[:2],  # what the last step writes is read by none
    ),
    "dnc": Controlled(Variant("DNCMemory", {"read_heads": 2}), 4, acting=some_step, share=0.95),
    "lrua": Controlled(
        Variant("LRUAMemory", {"beta": 2.0, "heads": 2}),
        5,
        start={"memory": drawn(5, 3, seed=5), "read_weights": drawn(2, 5, seed=6).softmax(-1)},
    ),
    "sparse": Controlled(
        Variant("SparseMemory", {"k": 3, "heads": 2}), 5, start={"memory": drawn(5, 3, seed=5)}, acting=some_step
    ),
    "cell": Controlled(Variant("MemoryCell"), 4, raw=2 * (4 * 3 + 2), start={"memory": drawn(4, 3, seed=5)}),
}
