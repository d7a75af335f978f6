"""What a memory is: three methods, a declaration, and optional capabilities.

This module is the contract. Everything else in memspec either builds objects that keep it
(:mod:`memspec.functional`, ``memspec.reference``) or finds out whether they do (``memspec.suites``).

Shapes, throughout: ``N`` pairs, ``Q`` queries, ``S`` slots, ``Dk`` = key_dim, ``Dv`` = value_dim. Rows are items.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, get_type_hints, runtime_checkable

from torch import Tensor

Family = Literal["generic", "hebbian", "delta", "least_squares", "cache", "softmax", "superposition"]
Domain = Literal["real", "unit", "sign", "onehot"]
WriteOrder = Literal["none", "sequential", "set", "joint"]
Overwrite = Literal["replace", "add", "blend", "none"]
Eviction = Literal["none", "fifo", "lru", "random", "reservoir", "similarity"]
Nonfinite = Literal["reject", "isolate", "none"]
EmptyRead = Literal["zeros", "none"]
Association = Literal["hetero", "auto"]
Fidelity = Literal["native", "driven", "trained"]


@runtime_checkable
class MemoryProtocol(Protocol):
    """All that a third party must write."""

    def reset(self) -> None:
        """Go back to the state right after construction, bit for bit."""

    def update(self, keys: Tensor, values: Tensor) -> None:
        """Store N pairs, ``keys [N, Dk]`` and ``values [N, Dv]``; ``N = 0`` changes nothing."""

    def query(self, keys: Tensor) -> Tensor:
        """Answer ``keys [Q, Dk]`` with ``[Q, Dv]``; pure: it changes nothing."""


@dataclass(frozen=True, kw_only=True)
class MemorySpec:
    """What a memory promises; every default is the weakest promise. Claims made here are tested, others not asked.

    Attributes:
        family: which closed-form predictions apply (:mod:`memspec.theory`); ``generic`` = none.
        beta: what the predictions of two families need: the step of the delta rule in
            ``S <- S + beta k^T (v - k S)`` (``family="delta"``), the inverse temperature of the scores
            ``beta q . k`` (``family="softmax"``, unit keys). None = not told; what holds for every beta is then asked.
        trace_dim: real numbers in the trace of a ``superposition``, which its predictions need; None = not told.
        key_domain, value_domain: what the vectors are; the harness generates data from these domains.
        write: what the rows of one call are to each other: ``sequential`` rows act in order, splitting changes
            nothing; ``set`` rows act independently of their order and of the split; ``joint`` one gradient for the
            call (order-free, but a split is a different write); ``none`` = nothing promised.
        overwrite: what a second write to the same key does: ``replace`` the value, ``add`` to it, ``blend``
            with it, or ``none`` (nothing promised).
        exact: recalls every stored pair, to float precision, up to ``capacity`` pairs.
        capacity: pairs it holds, where that is not the ``capacity`` given to the constructor.
        eviction: what goes when it is full; ``none`` = nothing promised.
        empty_read: ``zeros`` = a fresh memory answers zeros; ``none`` = nothing promised.
        presentations: how often a batch must be shown before it counts as stored.
        constant_state: bytes of state never grow.
        deterministic: the same seed, construction and calls give the same answers, bit for bit, and no call
            draws from a global generator.
        differentiable: what gradients flow to when reading: ``query`` (the query keys), ``keys`` and ``values``
            (those written, through the functional form).
        nonfinite: what NaN or infinity in a written row does: ``reject`` = a clear exception and nothing
            changes; ``isolate`` = only that row is affected; ``none`` = nothing promised.
        inference_mode: works inside ``torch.inference_mode()``.
        association: ``auto`` = recalls the key itself; the harness then stores ``values = keys``.
        fidelity: ``native`` (that is what the module is), ``driven`` (its mechanics under fixed gates),
            ``trained`` (only meaningful after outer training; recall is not asked).

    Raises:
        ValueError: for a value outside the field's choices; the message lists them.
    """

    family: Family = "generic"
    beta: float | None = None
    trace_dim: int | None = None
    key_domain: Domain = "real"
    value_domain: Domain = "real"
    write: WriteOrder = "none"
    overwrite: Overwrite = "none"
    exact: bool = False
    capacity: int | None = None
    eviction: Eviction = "none"
    empty_read: EmptyRead = "none"
    presentations: int = 1
    constant_state: bool = False
    deterministic: bool = False
    differentiable: frozenset[str] = frozenset()
    nonfinite: Nonfinite = "none"
    inference_mode: bool = False
    association: Association = "hetero"
    fidelity: Fidelity = "native"

    def __post_init__(self) -> None:
        object.__setattr__(self, "differentiable", frozenset(self.differentiable))
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            choices = get_args(hints[field.name])
            if all(isinstance(c, str) for c in choices) and choices and value not in choices:
                raise ValueError(f"MemorySpec.{field.name} is {value!r}; it must be one of {', '.join(choices)}")
        unknown = self.differentiable - {"query", "keys", "values"}
        if unknown:
            raise ValueError(
                f"MemorySpec.differentiable names {sorted(unknown)}; it takes 'query', 'keys' and 'values'"
            )
        if not isinstance(self.presentations, int) or self.presentations < 1:
            raise ValueError(f"MemorySpec.presentations is {self.presentations!r}; it must be an integer of at least 1")
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise ValueError(f"MemorySpec.beta is {self.beta!r}; it must be a positive number, or None")
        if self.trace_dim is not None and self.trace_dim < 1:
            raise ValueError(f"MemorySpec.trace_dim is {self.trace_dim!r}; it must be at least 1, or None")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"MemorySpec.capacity is {self.capacity!r}; it must be at least 1, or None")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values (sets become sorted lists)."""
        out = dataclasses.asdict(self)
        out["differentiable"] = sorted(self.differentiable)
        return out


@runtime_checkable
class Confident(Protocol):
    """Says how sure it is: ``confidence(keys [Q, Dk]) -> [Q]`` in [0, 1]; 0 where nothing is stored."""

    def confidence(self, keys: Tensor) -> Tensor: ...


@runtime_checkable
class Addressable(Protocol):
    """Reads by weights over slots: ``read_weights(keys) -> [Q, S]`` (rows sum to <= 1), ``slot_values() -> [S, Dv]``."""

    def read_weights(self, keys: Tensor) -> Tensor: ...

    def slot_values(self) -> Tensor: ...


@runtime_checkable
class Slotted(Protocol):
    """Has slots: ``slot_usage() -> [S]``, nonnegative, 0 for a slot that holds nothing."""

    def slot_usage(self) -> Tensor: ...


@runtime_checkable
class Persistent(Protocol):
    """``state_dict`` / ``load_state_dict`` carry everything that later behaviour depends on."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


@runtime_checkable
class Auxiliary(Protocol):
    """``auxiliary_loss(keys [N, Dk], values [N, Dv]) -> scalar``: finite, differentiable."""

    def auxiliary_loss(self, keys: Tensor, values: Tensor) -> Tensor: ...


@runtime_checkable
class Touching(Protocol):
    """``touch(keys)``: usage on read, made explicit, so that ``query`` stays pure."""

    def touch(self, keys: Tensor) -> None: ...


@runtime_checkable
class Forgetting(Protocol):
    """``forget(keys)``: removes what is stored under these keys."""

    def forget(self, keys: Tensor) -> None: ...


@runtime_checkable
class Consolidating(Protocol):
    """``consolidate()``: protects what is stored now against what comes."""

    def consolidate(self) -> None: ...


@runtime_checkable
class Functional(Protocol):
    """The pure form: ``init_state(batch_shape) -> state``, ``write(state, keys, values) -> state``, ``read(state, keys)``.

    The state is a pytree (NamedTuple, tuple, list, dict) of tensors; leading dimensions are independent memories.
    """

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> Any: ...

    def write(self, state: Any, keys: Tensor, values: Tensor) -> Any: ...

    def read(self, state: Any, keys: Tensor) -> Tensor: ...


@runtime_checkable
class Recurrent(Protocol):
    """``initial_state(batch)``, ``step(x, state) -> (y, state)``, ``run(xs, state) -> (ys, state)``."""

    def initial_state(self, batch: int) -> Any: ...

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]: ...

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]: ...


CAPABILITIES: dict[str, type] = {
    c.__name__: c
    for c in (
        Confident,
        Addressable,
        Slotted,
        Persistent,
        Auxiliary,
        Touching,
        Forgetting,
        Consolidating,
        Functional,
        Recurrent,
    )
}
"""Every optional capability by name."""

MemoryFactory = Callable[..., MemoryProtocol]


def capabilities_of(memory: object) -> frozenset[str]:
    """Names of the optional capabilities whose methods ``memory`` has (methods it delegates count, on every Python)."""
    return frozenset(
        name
        for name, kind in CAPABILITIES.items()
        if all(callable(getattr(memory, method, None)) for method in vars(kind) if not method.startswith("_"))
    )


def spec_of(memory: object) -> MemorySpec:
    """The memory's declared spec, or the weakest one.

    Raises:
        TypeError: if ``spec`` is there but is not a :class:`MemorySpec`.
    """
    spec = getattr(memory, "spec", None)
    if spec is None:
        return MemorySpec()
    if not isinstance(spec, MemorySpec):
        raise TypeError(
            f"{type(memory).__name__}.spec is a {type(spec).__name__}; it must be a memspec.MemorySpec(...), "
            "for example spec = MemorySpec(family='delta', overwrite='replace')"
        )
    return spec
