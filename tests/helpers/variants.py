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
from memspec.reference.memories.ttt import ttt_mlp
from memspec.reference.wrappers.weights import GradientWrapper, Inner


@dataclass(frozen=True)
class Variant:
    """A reference memory with options of its constructor.

    Attributes:
        kind: name of the class in ``memspec.reference``.
        options: what its constructor is given beside widths and capacity.
        steps: rows that it takes in a long run; fewer where it has no form but row by row.
        directions: why some directions of keys are not like others to it; "" = keys and queries may be turned.
        linear: why answers are not linear in the values; "" = they are.
        twice: why it has no second derivatives; "" = what is differentiable is so twice.
        hard: why huge rows may carry it off; "" = it stays finite.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 10_000
    directions: str = ""
    linear: str = ""
    twice: str = ""
    hard: str = ""

    def build(self, key_dim: int = 6, value_dim: int = 5, capacity: int = 8, seed: int = 0) -> FunctionalMemory:
        """A fresh one, of these widths or (where it is square) the nearest that it can have."""
        plug = Plug(self.kind, functools.partial(getattr(reference, self.kind), **self.options))
        shape = plug.shape(key_dim, value_dim, capacity)
        memory = plug.build(Shape(shape.key_dim, shape.value_dim, capacity), seed)
        assert isinstance(memory, FunctionalMemory)
        return memory


SIGNS = "its keys are signs"
DRAWN = "it starts from random slots"
PLACED = "a full cache looks at the values to place them"

VARIANTS: dict[str, Variant] = {name: Variant(name) for name in sorted(reference.__all__)} | {
    "BidirectionalMemory": Variant("BidirectionalMemory", directions=SIGNS, linear="values are signs"),
    "CachedMemory": Variant("CachedMemory", linear=PLACED),
    "CachedMemory-overwrite": Variant("CachedMemory", {"known": "overwrite", "similarity_threshold": 0.5}),
    "DNCMemory-unlinked": Variant("DNCMemory", {"linkage": False}),
    "DeltaMemory-raw": Variant(
        "DeltaMemory", {"key_norm": "none", "beta": 0.02}, steps=1000, hard="steps along long keys diverge"
    ),
    "DeltaMemory-rows": Variant("DeltaMemory", {"form": "rows", "beta": 0.5}, steps=1000),
    "DeltaMemory-small-chunks": Variant("DeltaMemory", {"chunk": 3}),
    "EpisodicMemory": Variant("EpisodicMemory", directions=DRAWN, linear=DRAWN),
    "EpisodicMemory-adam": Variant(
        "EpisodicMemory",
        {"memory_size": 7, "optimiser": "adam", "update_steps": 2, "scale": None},
        directions=DRAWN,
        linear=DRAWN,
    ),
    "EpisodicMemory-items": Variant(
        "EpisodicMemory", {"memory_size": 7, "reduction": "items", "lr": 0.3}, directions=DRAWN, linear=DRAWN
    ),
    "GatedMemory-learned": Variant(
        "GatedMemory", {"gates": "learned"}, steps=1000, directions="gates have weights", linear="gates see the values"
    ),
    "HierarchicalMemory": Variant("HierarchicalMemory", steps=1000),
    "HolographicMemory": Variant("HolographicMemory", directions="binding is a convolution"),
    "HopfieldMemory": Variant("HopfieldMemory", directions=SIGNS, linear="values are signs"),
    "LSHMemory": Variant("LSHMemory", directions="its planes stay"),
    "LinearAttentionMemory": Variant("LinearAttentionMemory", directions="features are of entries"),
    "LinformerMemory": Variant("LinformerMemory", directions="its addresses are drawn"),
    "MatrixAssociativeMemory-decay": Variant("MatrixAssociativeMemory", {"key_norm": "unit", "decay": 0.9}),
    "ProductKeyMemory": Variant(
        "ProductKeyMemory", directions="its codebooks are drawn", twice="torch has none of embedding_bag"
    ),
    "ProjectingEpisodicMemory": Variant("ProjectingEpisodicMemory", directions=DRAWN, linear=DRAWN),
    "ProjectingEpisodicMemory-learned": Variant(
        "ProjectingEpisodicMemory",
        {"memory_size": 7, "memory_dim": 4, "lr": 0.5, "projection": "learned"},
        directions=DRAWN,
        linear=DRAWN,
    ),
    "RareEventsMemory": Variant("RareEventsMemory", steps=2000),
    "SoftmaxMemory-dot": Variant("SoftmaxMemory", {"beta": 1.0, "key_norm": "none"}),
    "SparseDistributedMemory": Variant("SparseDistributedMemory", directions=SIGNS, linear="values are signs"),
    "TitansMemory": Variant("TitansMemory", directions="its hidden layer is drawn"),
    "TrainableMemory": Variant("TrainableMemory", linear=PLACED),
}


def data(memory: FunctionalMemory, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``n`` random pairs that it takes: keys ``[n, key_dim]`` and values ``[n, value_dim]``."""
    g = torch.Generator().manual_seed(seed)
    spec = memory.spec
    return pairs.pairs(spec.key_domain, spec.value_domain, n, memory.key_dim, memory.value_dim, g, spec.association)


# ---- wrapped --------------------------------------------------------------------------------------------------

INNER: dict[str, Inner] = {
    "ttt": functools.partial(reference.TTTMemory, minibatch=3),
    "ttt-mlp": functools.partial(ttt_mlp, minibatch=2, hidden=7),
    "titans": functools.partial(reference.TitansMemory, chunk=3),
    "episodic": functools.partial(reference.EpisodicMemory, memory_size=6, lr=0.5),
    "episodic-adam": functools.partial(reference.EpisodicMemory, memory_size=6, lr=0.1, optimiser="adam"),
    "delta": "DeltaMemory",
}
"""Gradient memories that others are wrapped around, by what their constructors take."""
WRAPPERS: dict[str, Callable[..., GradientWrapper]] = {
    "ewc": functools.partial(reference.ElasticWeightConsolidation, strength=0.5, examples=4),
    "gem": functools.partial(reference.GradientEpisodicMemory, method="gem", tasks=2, examples=4),
    "a-gem": functools.partial(reference.GradientEpisodicMemory, method="a-gem", tasks=2, examples=4),
}


def wrapped(wrapper: str, inner: str, seed: int = 0) -> GradientWrapper:
    """A wrapper of the table around a memory of the table: keys of width 5, values of width 3, in float64."""
    torch.manual_seed(seed)
    return WRAPPERS[wrapper](5, 3, INNER[inner]).double()


def two_tasks(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys and values of task A, keys and values of task B, six pairs each."""
    return drawn(6, 5, seed=seed), drawn(6, 3, seed=seed + 1), drawn(6, 5, seed=seed + 2), drawn(6, 3, seed=seed + 3)


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
