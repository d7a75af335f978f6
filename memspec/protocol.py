"""What a memory is: three methods, a declaration, and optional capabilities.

This module is the contract. Everything else in memspec either builds objects that keep it
(:mod:`memspec.functional`, ``memspec.reference``) or finds out whether they do (``memspec.suites``).

Shapes, throughout: ``N`` pairs, ``Q`` queries, ``S`` slots, ``Dk`` = key_dim, ``Dv`` = value_dim. Rows are items.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, get_args, get_type_hints, runtime_checkable

from torch import Tensor

from memspec.failure import raised

Family = Literal["generic", "hebbian", "delta", "least_squares", "cache", "softmax", "superposition"]
Domain = Literal["real", "unit", "sign", "onehot"]
WriteOrder = Literal["none", "sequential", "set", "joint"]
Overwrite = Literal["replace", "add", "blend", "none"]
Eviction = Literal["none", "fifo", "lru", "random", "reservoir", "similarity"]
Nonfinite = Literal["reject", "isolate", "none"]
EmptyRead = Literal["zeros", "none"]
Association = Literal["hetero", "auto"]
Fidelity = Literal["native", "driven", "trained"]
Precision = Literal["inputs", "own"]


MOST_PRESENTATIONS = 10_000
"""Showings of a batch that a spec may ask for."""


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
class Size:
    """Which numbers one dimension may be.

    Attributes:
        multiple_of: its divisor, such as the number of heads.
        power_of_two: only 1, 2, 4, 8, ...
        at_least, at_most: its range; both the same = fixed.

    Raises:
        ValueError: for numbers below 1, or where no number is left.
    """

    multiple_of: int = 1
    power_of_two: bool = False
    at_least: int = 1
    at_most: int | None = None

    def __post_init__(self) -> None:
        if min(self.multiple_of, self.at_least) < 1 or not self._allows(self.nearest(self.at_least)):
            raise ValueError(f"{self}: no number of at least 1 is all of that")

    def nearest(self, number: int) -> int:
        """The next allowed number from ``number`` upwards, or the largest one."""
        number = max(number, self.at_least)
        power = 1 << (number - 1).bit_length()
        up = power if self.power_of_two else -(-number // self.multiple_of) * self.multiple_of
        if self.at_most is None or up <= self.at_most:
            return up
        return (
            1 << self.at_most.bit_length() - 1 if self.power_of_two else self.at_most - self.at_most % self.multiple_of
        )

    def _allows(self, number: int) -> bool:
        return self.at_least <= number and (self.at_most is None or number <= self.at_most)

    @property
    def fixed(self) -> bool:
        """Whether there is one choice only."""
        return self.nearest(self.nearest(1) + 1) == self.nearest(1)

    def __str__(self) -> str:
        if self.fixed:
            return f"{self.nearest(1)} only"
        parts = ["powers of two"] if self.power_of_two else []
        parts += [f"multiples of {self.multiple_of}"] if self.multiple_of > 1 else []
        parts += [f"at least {self.at_least}"] if self.at_least > 1 else []
        parts += [f"at most {self.at_most}"] if self.at_most is not None else []
        return ", ".join(parts) or "any"


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Which widths and capacities a memory can be built with; every default is "any".

    Attributes:
        square: keys are as wide as values.
        key_dim, value_dim, capacity: what each may be.
    """

    square: bool = False
    key_dim: Size = Size()
    value_dim: Size = Size()
    capacity: Size = Size()

    def nearest(self, key_dim: int, value_dim: int) -> tuple[int, int]:
        """The widths nearest to these that it can have: upwards, or the largest."""
        if not self.square:
            return self.key_dim.nearest(key_dim), self.value_dim.nearest(value_dim)
        width = max(key_dim, value_dim)
        for size in (self.key_dim, self.value_dim) * 8:  # until it is a multiple for both
            width = size.nearest(width)
        return width, width

    def __str__(self) -> str:
        if self.square:
            both = [size for size in dict.fromkeys((self.key_dim, self.value_dim)) if size != Size()]
            parts = ["key_dim = value_dim" + "".join(f", {size}" for size in both)]
        elif self.key_dim == self.value_dim:
            parts = [f"{self.key_dim}"]
        else:
            parts = [f"key_dim {self.key_dim}", f"value_dim {self.value_dim}"]
        return "; ".join(parts + ([f"capacity {self.capacity}"] if self.capacity != Size() else []))


SETS = {"stochastic": ("write", "read"), "differentiable": ("query", "keys", "values")}
"""Fields of a spec that name any of a few things."""


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
        stochastic: which calls draw random numbers from a global generator, by design: ``write`` (update, and what
            comes with it), ``read`` (query). Such calls are judged by their distribution, or with the generators
            seeded alike; empty = reads draw nothing, and whether writes do is found out.
        differentiable: what gradients flow to when reading: ``query`` (the query keys), ``keys`` and ``values``
            (those written, through the functional form).
        nonfinite: what NaN or infinity in a written row does: ``reject`` = a clear exception and nothing
            changes; ``isolate`` = only that row is affected; ``none`` = nothing promised.
        inference_mode: works inside ``torch.inference_mode()``.
        precision: what it computes in, whatever dtype its answers have: that of the ``inputs``, or its ``own`` (that of
            its parameters or buffers, which ``.to(dtype)`` changes). Asked of memories that claim to be exact or of a
            family.
        association: ``auto`` = recalls the key itself; the harness then stores ``values = keys``.
        widths: which key_dim, value_dim and capacity it can be built with; None = found out by trying.
        capabilities: what is said of optional capabilities by name, where their methods say it wrongly:
            ``{"Functional": False}`` switches one off, ``{"Confident": True}`` declares one. Others are found.
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
    stochastic: frozenset[str] = frozenset()
    differentiable: frozenset[str] = frozenset()
    nonfinite: Nonfinite = "none"
    inference_mode: bool = False
    precision: Precision = "inputs"
    association: Association = "hetero"
    fidelity: Fidelity = "native"
    widths: Widths | None = None
    capabilities: Mapping[str, bool] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, known in SETS.items():
            named = getattr(self, name)
            object.__setattr__(self, name, frozenset([named] if isinstance(named, str) else named))
            unknown = getattr(self, name) - set(known)
            if unknown:
                *first, last = map(repr, known)
                raise ValueError(f"MemorySpec.{name} names {sorted(unknown)}; it takes {', '.join(first)} and {last}")
        if self.deterministic and self.stochastic:
            raise ValueError(
                "MemorySpec.deterministic and MemorySpec.stochastic exclude each other; promise one of them"
            )
        object.__setattr__(self, "capabilities", dict(self.capabilities))
        if not self.capabilities.keys() <= CAPABILITIES.keys():
            raise ValueError(
                f"MemorySpec.capabilities names {sorted(self.capabilities.keys() - CAPABILITIES.keys())}; "
                f"it takes {', '.join(CAPABILITIES)}"
            )
        for name, choices in _choices().items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"MemorySpec.{name} is {value!r}; it must be one of {', '.join(choices)}")
        if not isinstance(self.presentations, int) or not 1 <= self.presentations <= MOST_PRESENTATIONS:
            raise ValueError(
                f"MemorySpec.presentations is {self.presentations!r}; it must be an integer from 1 to "
                f"{MOST_PRESENTATIONS:,}: every batch of every trial is shown so often"
            )
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise ValueError(f"MemorySpec.beta is {self.beta!r}; it must be a positive number, or None")
        if self.trace_dim is not None and self.trace_dim < 1:
            raise ValueError(f"MemorySpec.trace_dim is {self.trace_dim!r}; it must be at least 1, or None")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"MemorySpec.capacity is {self.capacity!r}; it must be at least 1, or None")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values (sets become sorted lists)."""
        out = dataclasses.asdict(self)
        for name in SETS:
            out[name] = sorted(getattr(self, name))
        return out


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """The fields that take one of a few words, and the words: read once, for specs may be made with every memory."""
    hints = get_type_hints(MemorySpec)
    words = {field.name: get_args(hints[field.name]) for field in dataclasses.fields(MemorySpec)}
    return {name: those for name, those in words.items() if those and all(isinstance(word, str) for word in those)}


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
    """``initial_state(batch)``, ``step(x [B, Dx], state) -> (y, state)``, ``run(xs [T, B, Dx], state) -> (ys, state)``.

    ``Dx`` is the memory's ``input_dim``, where it has that attribute, else its ``key_dim``. ``run`` is ``step`` after
    step, and neither changes the state it is given.
    """

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


def methods_of(capability: str) -> dict[str, int]:
    """The methods of an optional capability, each with the number of arguments it is called with."""
    kind = CAPABILITIES[capability]
    return {
        name: len(inspect.signature(method).parameters) - 1
        for name, method in vars(kind).items()
        if not name.startswith("_")
    }


def capabilities_of(memory: object) -> frozenset[str]:
    """Names of the optional capabilities that ``memory`` has: what its spec says of them, else by their methods.

    A method counts if it can be called with the protocol's arguments: a bound method, its own or one it delegates to.
    A submodule, a class or a helper that takes something else under the same name does not. What answers to any name
    at all counts only with what it defines.

    Raises:
        TypeError: if the spec declares a capability whose methods are not there.
    """
    said = spec_of(memory).capabilities
    for name in (name for name, has in said.items() if has):
        missing = [method for method in methods_of(name) if not callable(getattr(memory, method, None))]
        if missing:
            raise TypeError(
                f"{type(memory).__name__}.spec says that it is {name}, but it has no {' and no '.join(missing)}"
            )
    found = (name for name in CAPABILITIES if all(_offers(memory, *one) for one in methods_of(name).items()))
    return frozenset({*found, *said}) - {name for name, has in said.items() if not has}


def _offers(memory: object, method: str, arguments: int) -> bool:
    """Whether ``memory.method`` can be called with so many arguments."""
    answers_to_all = hasattr(memory, "memspec_no_such_name")
    if answers_to_all and inspect.getattr_static(memory, method, None) is None:
        return False
    bound = getattr(memory, method, None)
    if not inspect.isroutine(bound) and not isinstance(bound, functools.partial):
        return False
    try:
        inspect.signature(bound).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # it has no signature to read
        return True
    return True


def spec_of(memory: object) -> MemorySpec:
    """The memory's declared spec, or the weakest one.

    Raises:
        TypeError: if ``spec`` is there but is not a :class:`MemorySpec`, or cannot be read.
    """
    kind = type(memory).__name__
    try:
        spec = memory.spec  # type: ignore[attr-defined]
    except AttributeError as error:
        if inspect.getattr_static(memory, "spec", None) is None:
            return MemorySpec()
        raise TypeError(f"reading {kind}.spec raised {raised(error)}") from error
    except Exception as error:
        raise TypeError(f"reading {kind}.spec raised {raised(error)}") from error
    if spec is None:
        return MemorySpec()
    if not isinstance(spec, MemorySpec):
        made_up = inspect.getattr_static(memory, "spec", None) is None and hasattr(memory, "memspec_no_such_name")
        why = f"{kind} answers to any name at all: let __getattr__ raise AttributeError for what it does not have, or say "
        raise TypeError(
            f"{kind}.spec is a {type(spec).__name__}; it must be a memspec.MemorySpec(...), "
            f"for example spec = MemorySpec(family='delta', overwrite='replace')"
            + (f".\n  {why}spec = MemorySpec()" if made_up else "")
        )
    return spec
