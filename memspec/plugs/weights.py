"""Slow weights: what a functional memory is built with, and keeps while its state changes.

Trials are independent only if each has weights of its own. Where construction draws none, one memory serves all trials;
where it does, the weights of T memories are stacked, and each trial is written and read with its own.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from memspec.functional import FunctionalMemory, map_state, state_tensors
from memspec.plugs.plug import Plug, Shape
from memspec.randomness import generator_states, moved_generators, set_generator_states

MOST_BUILT = 512
"""Memories of one plug that are kept."""

_DRAWING: WeakKeyDictionary[Plug, dict[Any, bool]] = WeakKeyDictionary()
_WAYS: WeakKeyDictionary[Plug, dict[str, int]] = WeakKeyDictionary()
_BUILT: WeakKeyDictionary[Plug, OrderedDict[Any, Any]] = WeakKeyDictionary()

KEPT_APART = {"_parameters", "_buffers", "_modules", "_state", "_device_dtype", "init_seed"}
"""Attributes of a module that are weights, state or seeds, and so may differ from trial to trial."""


def draws_weights(plug: Plug, shape: Shape, **extra: Any) -> bool:
    """Whether constructing this plug's memories draws random numbers, beside the seed that a functional memory keeps.

    Asked once a shape: some draw a projection only where widths differ.
    """
    known = _DRAWING.setdefault(plug, {})
    key = shape, tuple(sorted(extra.items()))
    if key not in known:
        known[key] = _draws(plug, shape, extra)
    return known[key]


def _draws(plug: Plug, shape: Shape, extra: dict[str, Any]) -> bool:
    drew = False

    @functools.wraps(plug.factory)
    def watched(**arguments: Any) -> Any:
        nonlocal drew
        before = generator_states()
        memory = plug.factory(**arguments)
        after = generator_states()
        if isinstance(memory, FunctionalMemory):
            set_generator_states(before)
            torch.randint(2**62, ())  # its init_seed
            before = generator_states()
        drew = bool(moved_generators(before, after))
        return memory

    Plug(plug.name, watched, plug.kwargs).build(shape, 0, **extra)
    return drew


def alike(memories: Sequence[nn.Module]) -> bool:
    """Whether modules differ in nothing but their parameters, buffers, states and seeds: no number in an attribute."""
    first = list(_plain(memories[0]))
    return all(_equal(first, list(_plain(memory))) for memory in memories[1:])


def _plain(memory: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in memory.named_modules():
        yield name, type(module)
        yield from ((f"{name}.{key}", value) for key, value in vars(module).items() if key not in KEPT_APART)


def _equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    try:
        return a is b or bool(a == b)
    except Exception:  # what cannot be compared may differ
        return False


def built(plug: Plug, shape: Shape, seed: int, **extra: Any) -> Any:
    """A memory built under ``seed``, to be called by its pure methods alone: built once for all experiments that ask."""
    known = _BUILT.setdefault(plug, OrderedDict())
    key = shape, seed, tuple(sorted(extra.items()))
    if key not in known:
        known[key] = plug.build(shape, seed, **extra)
    known.move_to_end(key)
    while len(known) > MOST_BUILT:
        known.popitem(last=False)
    return known[key]


def weighted(plug: Plug, memories: Sequence[nn.Module]) -> Weighted:
    """The memories of one plug, with the weights of each; what is found out of the plug's methods is kept."""
    return Weighted(memories, _WAYS.setdefault(plug, {}))


class Absent(Tensor):
    """Stands where a weight was: it tells its shape and type, and whatever else is done with it raises."""

    TOLD = (
        *(vars(torch._C.TensorBase)[name].__get__ for name in ("shape", "ndim", "dtype", "device")),
        Tensor.size,
        Tensor.numel,
    )

    @classmethod
    def of(cls, weight: Tensor) -> Tensor:
        """In the place of ``weight``."""
        absent: Tensor = weight.new_zeros(()).expand(weight.shape).as_subclass(cls)
        return absent

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in cls.TOLD:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        raise RuntimeError("a weight is used")


class Weighted(nn.Module):
    """T sets of weights for one module, whose pure methods are called with each set and its own row of the arguments.

    Three ways, of which each method takes the first that it allows: one call of the whole batch, where the weights have
    done their part in ``init_state`` (they are replaced by tensors of which any use is an error); all at once by :func:`torch.vmap`, where no numbers are taken out of tensors and nothing is written in
    place; one after another.

    Args:
        memories: T modules that are :func:`alike`; the first of them is the one that is called.
        ways: the way that each method takes, as far as it is known; kept up to date.
    """

    def __init__(self, memories: Sequence[nn.Module], ways: dict[str, int]) -> None:
        super().__init__()
        self.memory, self.ways = memories[0], ways
        tensors = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in memories]
        self.weights = {f"memory.{name}": torch.stack([t[name].detach() for t in tensors]) for name in tensors[0]}
        self.absent: dict[str, Tensor] = {name: Absent.of(weight[0]) for name, weight in self.weights.items()}

    def forward(self, method: str, *arguments: Any) -> Any:
        return getattr(self.memory, method)(*arguments)

    def each(self, method: str, state: Any, *rows: Tensor) -> Any:
        """``method(state[t], *rows[t])`` under the t-th weights, for every t; what it returns has a leading T."""
        ways = (self._unweighted, self._at_once, self._one_by_one)
        while True:
            way = self.ways.setdefault(method, 0)
            try:
                return ways[way](method, state, *rows)
            except (RuntimeError, NotImplementedError):
                if way == 2:  # the memory's own
                    raise
                self.ways[method] = way + 1

    def _with(self, weights: dict[str, Tensor], method: str, *arguments: Any) -> Any:
        return torch.func.functional_call(self, weights, (method, *arguments))

    def _unweighted(self, method: str, state: Any, *rows: Tensor) -> Any:
        answer = self._with(self.absent, method, state, *rows)
        if any(isinstance(tensor, Absent) for tensor in state_tensors(answer)):
            raise RuntimeError("a weight itself is answered")
        return answer

    def _at_once(self, method: str, state: Any, *rows: Tensor) -> Any:
        answer: Any = None

        def one(weights: dict[str, Tensor], parts: list[Tensor], *row: Tensor) -> list[Tensor]:
            nonlocal answer
            left = iter(parts)
            answer = self._with(weights, method, map_state(lambda _: next(left), state), *row)
            return state_tensors(answer)

        with warnings.catch_warnings():  # of what torch does one by one behind vmap
            warnings.filterwarnings("ignore", message=".*batching rule")
            together = iter(torch.vmap(one)(self.weights, state_tensors(state), *rows))
        return map_state(lambda _: next(together), answer)

    def _one_by_one(self, method: str, state: Any, *rows: Tensor) -> Any:
        return stacked_states(
            [
                self._with(
                    {name: w[t] for name, w in self.weights.items()},
                    method,
                    unstacked(state, t),
                    *(row[t] for row in rows),
                )
                for t in range(len(rows[0]))
            ]
        )


def stacked_states(states: Sequence[Any]) -> Any:
    """One state, of which each tensor has the tensors of these along a new first dimension."""
    stacked = iter([torch.stack(column) for column in zip(*map(state_tensors, states))])
    return map_state(lambda _: next(stacked), states[0])


def unstacked(states: Any, t: int) -> Any:
    """The t-th of the states that were stacked."""
    return map_state(lambda tensor: tensor[t], states)
