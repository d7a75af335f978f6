"""FunctionalMemory: the three public methods, persistence and batching, made from three pure functions.

A subclass writes its memory once, functionally::

    class State(NamedTuple):
        matrix: Tensor                                        # [..., Dk, Dv]

    class Hebb(FunctionalMemory):
        spec = MemorySpec(family="hebbian", write="set", overwrite="add", constant_state=True)

        def init_state(self, batch_shape=()):
            return State(torch.zeros(*batch_shape, self.key_dim, self.value_dim, **self.like))

        def write(self, state, keys, values):                 # keys [..., N, Dk], values [..., N, Dv]
            return State(state.matrix + keys.mT @ values)

        def read(self, state, keys):                          # keys [..., Q, Dk] -> [..., Q, Dv]
            return keys @ state.matrix

State is a NamedTuple of tensors whose leading dimensions are independent memories; slow weights are Parameters.
``write`` and ``read`` never modify what they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from memspec.options import Count, checked
from memspec.protocol import MemorySpec
from memspec.randomness import made_from


class FunctionalMemory(nn.Module):
    """Base of every reference memory; see the module docstring for what a subclass writes.

    Args:
        key_dim, value_dim: widths of keys and values, at least 1.
        capacity: pairs or slots it may hold, where the architecture has such a number.

    Attributes:
        state: the current state, a NamedTuple of tensors; assign to it to roll back or to put in a batch of states.
        init_seed: what every fresh state is drawn from, wherever it is drawn; saved with the state.
        grad_through_writes: if True, ``update`` keeps the graph, so that a loss on a later ``query`` reaches the
            written keys and values; default False (state is detached, nothing grows).

    Raises:
        ValueError: for dimensions below 1, and in ``update`` / ``query`` for wrong ranks, widths, row counts or
            (``spec.nonfinite == "reject"``) non-finite numbers; nothing is stored then.
    """

    spec: MemorySpec = MemorySpec(precision="own")

    @checked
    def __init__(self, key_dim: Count, value_dim: Count, capacity: Count | None = None) -> None:
        super().__init__()
        self.key_dim = key_dim
        self.value_dim = value_dim
        self.capacity = capacity
        self.grad_through_writes = False
        self.init_seed = int(torch.randint(2**62, ()))
        self._device_dtype = torch.empty(0)  # follows .to(), so that fresh states are made in the right place
        self._state: Any = None

    # ---- what a subclass writes -------------------------------------------------------------------------------

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """A fresh state with leading dimensions ``batch_shape``; may draw from global generators."""
        raise NotImplementedError

    def write(self, state: Any, keys: Tensor, values: Tensor) -> Any:
        """The state after storing ``keys [..., N, Dk]``, ``values [..., N, Dv]``; pure and differentiable."""
        raise NotImplementedError

    def read(self, state: Any, keys: Tensor) -> Tensor:
        """The answers ``[..., Q, Dv]`` to ``keys [..., Q, Dk]``; pure and differentiable."""
        raise NotImplementedError

    @property
    def like(self) -> dict[str, Any]:
        """``{"device": ..., "dtype": ...}`` for making state tensors where the module is."""
        return {"device": self._device_dtype.device, "dtype": self._device_dtype.dtype}

    # ---- the protocol -----------------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        if self._state is None:
            self.reset()
        if not torch.is_inference_mode_enabled() and any(part.is_inference() for part in state_tensors(self._state)):
            # What was written under inference_mode can be answered from, and trained through, outside of it.
            self._state = map_state(torch.Tensor.clone, self._state)
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state = state

    def reset(self, batch_shape: tuple[int, ...] = ()) -> None:
        """Go back to the state right after construction; with ``batch_shape``, to so many independent copies of it.

        Every call draws the same random numbers, and leaves the global generators as they were.
        """
        with torch.no_grad():
            self._state = made_from(self.init_seed, lambda: self.init_state(tuple(batch_shape)))

    def update(self, keys: Tensor, values: Tensor) -> None:
        """Store N pairs, ``keys [N, Dk]``, ``values [N, Dv]`` (with the state's leading dimensions, if it has any)."""
        self._state = self.written(self.state, keys, values)

    def written(
        self, state: Any, keys: Tensor, values: Tensor, write: Callable[[Any, Tensor, Tensor], Any] | None = None
    ) -> Any:
        """What :meth:`update` makes of a state; by ``write``, where that is not this memory's own."""
        keys, values = self._checked(keys, "keys", self.key_dim), self._checked(values, "values", self.value_dim)
        if keys.shape[:-1] != values.shape[:-1]:
            raise ValueError(
                f"{type(self).__name__}.update: keys {tuple(keys.shape)} and values {tuple(values.shape)} must have "
                "one row a pair; give as many keys as values"
            )
        if keys.shape[-2] == 0:
            return state
        keep = self.grad_through_writes
        with torch.set_grad_enabled(keep and torch.is_grad_enabled()):
            after = (write or self.write)(state, keys, values)
        if [t.ndim for t in state_tensors(after)] != [t.ndim for t in state_tensors(state)]:
            raise ValueError(  # or broadcasting would silently turn one memory into a batch
                f"{type(self).__name__}.update: keys {tuple(keys.shape)} have more leading dimensions than the state; "
                "give [N, key_dim], or make a batch of memories first with reset(batch_shape)"
            )
        return after if keep else map_state(torch.Tensor.detach, after)

    def query(self, keys: Tensor) -> Tensor:
        """Answer ``keys [Q, Dk]`` with ``[Q, Dv]``, in the dtype of the keys; changes nothing."""
        checked = self._checked(keys, "keys", self.key_dim)
        return self.read(self.state, checked).to(keys.dtype)

    def _checked(self, rows: Tensor, name: str, width: int) -> Tensor:
        where = f"{type(self).__name__}: {name}"
        if not isinstance(rows, Tensor):
            raise TypeError(f"{where} is a {type(rows).__name__}; give a floating-point torch.Tensor [N, {width}]")
        if rows.ndim < 2 or rows.shape[-1] != width:
            raise ValueError(f"{where} has shape {tuple(rows.shape)}; it must be [N, {width}], one row an item")
        if not rows.is_floating_point():
            raise TypeError(f"{where} has dtype {rows.dtype}; give floating-point numbers, for example {name}.float()")
        if rows.device != self._device_dtype.device:
            raise ValueError(
                f"{where} is on {rows.device}, the memory on {self._device_dtype.device}; move one of them"
            )
        if self.spec.nonfinite == "reject" and not all_finite(rows):
            bad = (~torch.isfinite(rows)).flatten(0, -2).any(-1).nonzero()[:3, 0].tolist()
            raise ValueError(f"{where} has NaN or infinity in row {bad[0]}; remove such rows (nothing was stored)")
        return rows.to(self._device_dtype.dtype)

    # ---- state as part of the module --------------------------------------------------------------------------

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self._device_dtype = fn(self._device_dtype)
        if self._state is not None:
            self._state = map_state(fn, self._state)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "init_seed"] = torch.tensor(self.init_seed)
        for name, tensor in named_tensors(self.state):
            destination[prefix + "state." + name] = tensor if keep_vars else tensor.detach().clone()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        saved = {k: v for k, v in state_dict.items() if k.startswith(prefix + "state.")}
        seed = state_dict.get(prefix + "init_seed")
        rest = {k: v for k, v in state_dict.items() if k not in saved and k != prefix + "init_seed"}
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        current = dict(named_tensors(self.state))
        expected = {prefix + "state." + name for name in current}
        missing = expected - saved.keys()
        missing_keys.extend(sorted(missing))
        unexpected_keys.extend(sorted(saved.keys() - expected))
        if seed is None:
            missing_keys.append(prefix + "init_seed")
        if missing or saved.keys() - expected or seed is None:
            return
        loaded = {}
        for name, here in current.items():
            tensor = saved[prefix + "state." + name]
            if tensor.ndim != here.ndim or tensor.dtype.is_floating_point != here.dtype.is_floating_point:
                error_msgs.append(
                    f"state.{name} was saved as {tensor.dtype} {tuple(tensor.shape)}, but this "
                    f"{type(self).__name__} holds {here.dtype} {tuple(here.shape)}"
                )
                return
            loaded[name] = tensor.detach().to(here.device, here.dtype, copy=True)
        problem = self.check_state(loaded)
        if problem:
            error_msgs.append(problem)
            return
        self._state = replace_tensors(self.state, loaded)
        self.init_seed = int(seed)

    def check_state(self, tensors: dict[str, Tensor]) -> str | None:
        """What is wrong with saved state tensors, or None. By default: every size must equal the current one.

        Memories whose state grows override this to let the growing dimension differ.
        """
        for name, here in named_tensors(self.state):
            if tensors[name].shape != here.shape:
                return (
                    f"state.{name} was saved with shape {tuple(tensors[name].shape)}, but this "
                    f"{type(self).__name__} has {tuple(here.shape)}; construct it with the dimensions it was saved with"
                )
        return None

    def extra_repr(self) -> str:
        return f"key_dim={self.key_dim}, value_dim={self.value_dim}, capacity={self.capacity}"


def named_tensors(state: Any) -> list[tuple[str, Tensor]]:
    """The tensors of a NamedTuple state (nested ones too), with dotted names."""
    out: list[tuple[str, Tensor]] = []
    for name, part in state._asdict().items():
        if isinstance(part, Tensor):
            out.append((name, part))
        elif part is not None:
            out.extend((f"{name}.{inner}", tensor) for inner, tensor in named_tensors(part))
    return out


def replace_tensors(state: Any, tensors: dict[str, Tensor]) -> Any:
    """``state`` with its tensors taken from ``tensors`` by dotted name."""
    new: dict[str, Any] = {}
    for name, part in state._asdict().items():
        if isinstance(part, Tensor):
            new[name] = tensors[name]
        elif part is not None:
            inner = {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + ".")}
            new[name] = replace_tensors(part, inner)
        else:
            new[name] = None
    return type(state)(**new)


def map_state(fn: Any, state: Any) -> Any:
    """``fn`` applied to every tensor of a state: NamedTuple, tuple, list, dict, or a single tensor."""
    if isinstance(state, Tensor):
        return fn(state)
    if hasattr(state, "_fields"):
        return type(state)(*(map_state(fn, part) for part in state))
    if isinstance(state, (tuple, list)):
        return type(state)(map_state(fn, part) for part in state)
    if isinstance(state, dict):
        return {name: map_state(fn, part) for name, part in state.items()}
    return state


def state_tensors(state: Any) -> list[Tensor]:
    """Every tensor of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        state = tuple(state.values())
    return [t for part in state for t in state_tensors(part)] if isinstance(state, (tuple, list)) else []


def all_finite(rows: Tensor) -> bool:
    """No NaN and no infinity.

    The sum is finite only then, and costs a thirtieth of looking at every number; those are looked at where the sum
    is not finite, because finite numbers can overflow in it.
    """
    rows = rows.detach()
    return math.isfinite(float(rows.sum())) or bool(torch.isfinite(rows).all())
