"""A gradient memory seen from outside: its weights as one vector, its steps, and gradients of its answers.

What the wrappers share. A gradient memory is a FunctionalMemory whose writes move numbers of a fixed shape: the slots
of EpisodicMemory, the models of TTTMemory and TitansMemory, or every floating-point tensor of another's state. ``P``
numbers are its weights; leading dimensions are independent memories.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memspec.functional import FunctionalMemory, map_state, named_tensors, replace_tensors
from memspec.options import refused
from memspec.randomness import made_from

Inner = str | Callable[..., FunctionalMemory]
"""The name of a memory in ``memspec.reference``, or what builds one from ``key_dim`` and ``value_dim``."""

TRAINED = {"EpisodicState": ("keys", "values"), "TTTState": ("now",), "TitansState": ("now",)}
"""Which tensors of a state are weights; the rest (moments, momentum, the start of a minibatch) serves the optimiser."""


class Elsewhere(NamedTuple):
    """The state of a wrapped memory, as far as its own module is concerned: it lies in the wrapper's."""


class Weights:
    """Reads and replaces the weights in the states of one memory.

    Raises:
        ValueError: for a memory that has no weights of a fixed shape.
    """

    def __init__(self, memory: FunctionalMemory) -> None:
        with torch.no_grad():
            state = made_from(0, lambda: memory.init_state(()))
        tensors = dict(named_tensors(state))
        floating = tuple(name for name, tensor in tensors.items() if tensor.is_floating_point())
        self.shapes = {name: tensors[name].shape for name in TRAINED.get(type(state).__name__, floating)}
        if not self.shapes or not memory.spec.constant_state:
            raise ValueError(
                f"{type(memory).__name__} is no gradient memory: its state has no weights of a fixed shape; "
                "give EpisodicMemory, TTTMemory, TitansMemory, or one like them"
            )
        self.count = sum(shape.numel() for shape in self.shapes.values())

    def batch_shape(self, state: Any) -> tuple[int, ...]:
        """Leading dimensions of a state."""
        name, shape = next(iter(self.shapes.items()))
        tensor = dict(named_tensors(state))[name]
        return tuple(tensor.shape[: tensor.ndim - len(shape)])

    def of(self, state: Any) -> Tensor:
        """``[..., P]``."""
        tensors, batch = dict(named_tensors(state)), self.batch_shape(state)
        return torch.cat([tensors[name].reshape(*batch, -1) for name in self.shapes], -1)

    def replace(self, state: Any, weights: Tensor) -> Any:
        """The state with these weights ``[..., P]``.

        Where a minibatch has just ended (``place`` 0), the next one starts from them.
        """
        parts = weights.split([shape.numel() for shape in self.shapes.values()], -1)
        new = {n: p.reshape(*weights.shape[:-1], *s) for p, (n, s) in zip(parts, self.shapes.items())}
        state = replace_tensors(state, dict(named_tensors(state)) | new)
        if {"now", "start", "place"} <= set(state._fields):
            fresh = (state.place == 0)[..., None]
            state = state._replace(start=torch.where(fresh, state.now, state.start))
        return state

    def copies(self, state: Any, count: int) -> Any:
        """The state with a dimension of ``count`` equal memories behind its leading ones."""
        depth = len(self.batch_shape(state))

        def expanded(tensor: Tensor) -> Tensor:
            return tensor.unsqueeze(depth).expand(*tensor.shape[:depth], count, *tensor.shape[depth:])

        return map_state(expanded, state)


class GradientWrapper(FunctionalMemory):
    """Base of memories that change how another one learns; until tasks have ended they are that other memory.

    Args:
        memory: the gradient memory to wrap: its name in ``memspec.reference``, or a class or function that builds it
            from ``key_dim`` and ``value_dim``.

    Raises:
        ValueError: if there is no such memory, or it is no gradient memory.
    """

    def __init__(self, key_dim: int, value_dim: int, memory: Inner) -> None:
        super().__init__(key_dim, value_dim)
        self.memory = _built(self, memory, key_dim, value_dim)
        self.weights = Weights(self.memory)
        self.memory.state = Elsewhere()
        # What holds however little is changed of the weights; recall and overwriting may suffer from protection.
        self.spec = dataclasses.replace(
            self.memory.spec,
            family="generic",
            write="joint" if self.memory.spec.write == "joint" else "sequential",
            overwrite="none",
            exact=False,
            capacity=None,
            eviction="none",
        )

    def consolidated(self, state: Any) -> Any:
        """The state once a task has ended; the same where nothing has been written since the last one did."""
        raise NotImplementedError

    def consolidate(self) -> None:
        """End a task: what was learnt since the last one is protected from now on. No answer changes."""
        with torch.set_grad_enabled(self.grad_through_writes and torch.is_grad_enabled()):
            self.state = self.consolidated(self.state)

    def read(self, state: Any, keys: Tensor) -> Tensor:
        return self.memory.read(state.inner, keys)

    def rows(self, keys: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The pairs, as the wrapped memory takes steps: one by one, or all in one."""
        size = keys.shape[-2] if self.spec.write == "joint" else 1
        return zip(keys.split(size, -2), values.split(size, -2))


def _built(owner: object, memory: Inner, key_dim: int, value_dim: int) -> FunctionalMemory:
    if isinstance(memory, str):
        import memspec.reference

        if memory not in memspec.reference.__all__:
            raise refused(owner, "memory", memory, "the name of a memory in memspec.reference")
        memory = getattr(memspec.reference, memory)
    if isinstance(memory, FunctionalMemory) or not callable(memory):
        raise refused(owner, "memory", memory, "a class or function that builds a memory, or the name of one")
    built = memory(key_dim=key_dim, value_dim=value_dim)
    if not isinstance(built, FunctionalMemory):
        raise refused(owner, "memory", memory, f"what builds a FunctionalMemory; it built a {type(built).__name__}")
    return built


# ---- gradients ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Autograd records inside, whatever the caller's mode; tensors made under ``inference_mode`` must be cloned."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def answered(memory: FunctionalMemory, weights: Weights, state: Any, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Answers of copies of a memory, and the weights they hang on by autograd; call it while :func:`recording`.

    Args:
        state: with leading dimensions ``[...]``.
        keys: ``[..., E, R, Dk]``, R queries for each of E copies.

    Returns:
        ``(answers [..., E, R, Dv], weights [..., E, P])``.
    """
    state = map_state(plain, weights.copies(state, keys.shape[-3]))
    own = weights.of(state)
    own = own if own.requires_grad else own.requires_grad_()
    return memory.read(weights.replace(state, own), plain(keys)), own


def plain(tensor: Tensor) -> Tensor:
    """The tensor, or where it was made under ``inference_mode``, a copy that autograd can keep."""
    return tensor.clone() if tensor.is_inference() else tensor
