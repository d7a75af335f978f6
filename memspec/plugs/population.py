"""T independent memories of one plug, driven together: in one batch where the memory is Functional, else in a loop.

Experiments see only :class:`Population`; both kinds give the same numbers (tested). The time spent inside the
memory's own methods is counted, so that the harness's overhead can be measured.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from memspec.errors import CannotMeasure, MemspecError
from memspec.fixtures.data.pairs import pairs
from memspec.functional import FunctionalMemory, map_state, state_tensors
from memspec.plugs.plug import CLOCK, Plug, Shape
from memspec.plugs.reachable import device_of, tensors_in
from memspec.plugs.stochastic import Streams, draws_in_query, draws_in_update
from memspec.plugs.weights import alike, built, draws_weights, stacked_states, unstacked, weighted
from memspec.randomness import generator_states, made_from, moved_generators, seed_of, set_generator_states
from memspec.world.boundary import call, cross


class Population:
    """T independent memories. Tensors have a leading trial dimension ``[T, ...]`` and live on the CPU.

    Attributes:
        trials: T.
        shape: the dimensions every memory was built with.
    """

    def __init__(self, plug: Plug, shape: Shape, trials: int) -> None:
        self.plug, self.shape, self.trials = plug, shape, trials

    def update(self, keys: Tensor, values: Tensor) -> None:
        """One ``update`` of every memory: ``keys [T, N, Dk]``, ``values [T, N, Dv]``."""
        raise NotImplementedError

    def query(self, keys: Tensor) -> Tensor:
        """``keys [T, Q, Dk] -> [T, Q, Dv]``."""
        raise NotImplementedError

    def call(self, method: str, *arguments: Tensor) -> Tensor:
        """An optional capability of every memory, such as ``confidence``: arguments and answer with leading ``[T]``."""
        raise NotImplementedError

    def reset(self) -> None:
        """Reset every memory."""
        raise NotImplementedError

    def state_bytes(self) -> Tensor:
        """``[T]`` bytes of the tensors each memory's state holds now."""
        raise NotImplementedError

    def store(self, keys: Tensor, values: Tensor) -> None:
        """Show a batch as often as the spec says it must be shown."""
        for _ in range(self.plug.spec.presentations):
            self.update(keys, values)

    def store_rows(self, keys: Tensor, values: Tensor) -> None:
        """Show pairs one by one, in order; the whole sweep as often as the spec says."""
        for _ in range(self.plug.spec.presentations):
            for n in range(keys.shape[1]):
                self.update(keys[:, n : n + 1], values[:, n : n + 1])


class Batched(Population):
    """One memory whose state has a leading trial dimension."""

    def __init__(self, plug: Plug, shape: Shape, trials: Sequence[int], seed: int, **extra: Any) -> None:
        super().__init__(plug, shape, len(trials))
        self._build(trials, seed, **extra)
        self.own = isinstance(self.memory, FunctionalMemory)  # manages autograd itself; others get the caller's mode
        self.device = device_of(self.memory)
        self.seeds = [seed_of(seed, "memory", t) for t in trials]
        self.reset()

    def _build(self, trials: Sequence[int], seed: int, **extra: Any) -> None:
        self.memory = self.plug.build(self.shape, seed_of(seed, "slow weights"), **extra)

    def reset(self) -> None:
        start = time.perf_counter()
        self.state = initial_states(self.memory, self.seeds)
        CLOCK["memory"] += time.perf_counter() - start

    def update(self, keys: Tensor, values: Tensor) -> None:
        keys, values = keys.to(self.device), values.to(self.device)
        start = time.perf_counter()
        if self.own:
            self.memory.state = self.state
            call(self.memory, "update", keys, values)
            self.state = self.memory.state
        elif keys.shape[1]:
            self.state = map_state(Tensor.detach, call(self.memory, "write", self.state, keys, values))
        CLOCK["memory"] += time.perf_counter() - start

    def query(self, keys: Tensor) -> Tensor:
        keys = keys.to(self.device)
        start = time.perf_counter()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.own):
            answers = call(self.memory, "read", self.state, keys)
        CLOCK["memory"] += time.perf_counter() - start
        return checked_answer(answers.detach().cpu(), (*keys.shape[:2], self.shape.value_dim), self.plug.name)

    def call(self, method: str, *arguments: Tensor) -> Tensor:
        self.memory.state = self.state
        answer: Tensor = call(self.memory, method, *(a.to(self.device) for a in arguments))
        return answer.detach().cpu()

    def state_bytes(self) -> Tensor:
        total = sum(t.numel() * t.element_size() for t in state_tensors(self.state))
        return torch.full((self.trials,), total / self.trials)


class Stacked(Batched):
    """One memory whose state and whose slow weights have a leading trial dimension.

    Raises:
        Unstackable: if the memories differ in more than weights.
    """

    def _build(self, trials: Sequence[int], seed: int, **extra: Any) -> None:
        self.memories = [built(self.plug, self.shape, seed_of(seed, "slow weights", t), **extra) for t in trials]
        if not alike(self.memories):
            raise Unstackable
        self.memory = self.memories[0]
        self.weighted = weighted(self.plug, self.memories)

    def reset(self) -> None:
        start = time.perf_counter()
        self.state = stacked_states(
            [initial_states(memory, [seed], stack=False) for memory, seed in zip(self.memories, self.seeds)]
        )
        CLOCK["memory"] += time.perf_counter() - start

    def update(self, keys: Tensor, values: Tensor) -> None:
        keys, values = keys.to(self.device), values.to(self.device)
        start = time.perf_counter()
        write = functools.partial(self.weighted.each, "write")
        self.state = cross("write", lambda: self.memory.written(self.state, keys, values, write), (keys, values))
        CLOCK["memory"] += time.perf_counter() - start

    def query(self, keys: Tensor) -> Tensor:
        keys = keys.to(self.device)
        start = time.perf_counter()
        with torch.no_grad():
            answers = cross("read", lambda: self.weighted.each("read", self.state, keys), (keys,), answers=True)
        CLOCK["memory"] += time.perf_counter() - start
        return checked_answer(answers.detach().cpu(), (*keys.shape[:2], self.shape.value_dim), self.plug.name)

    def call(self, method: str, *arguments: Tensor) -> Tensor:
        answers = []
        for t, memory in enumerate(self.memories):
            memory.state = unstacked(self.state, t)
            answers.append(call(memory, method, *(a[t].to(self.device) for a in arguments)).detach().cpu())
        return torch.stack(answers)


class Unstackable(MemspecError):
    """Memories of different trials differ in more than tensors, so each has to be driven by itself."""


class Looped(Population):
    """T separate memories, each constructed under its own seed."""

    def __init__(self, plug: Plug, shape: Shape, trials: Sequence[int], seed: int, **extra: Any) -> None:
        super().__init__(plug, shape, len(trials))
        seeds = [seed_of(seed, "memory", t) for t in trials]
        if isinstance(plug.probe, FunctionalMemory):
            # as Batched and Stacked: slow weights, and a fresh state, for each trial
            own = draws_weights(plug, shape, **extra)
            paths = [("slow weights", t) if own else ("slow weights",) for t in trials]
            self.memories = [plug.build(shape, seed_of(seed, *path), **extra) for path in paths]
            for memory, s in zip(self.memories, seeds):
                memory.init_seed = s  # so that its own reset comes back to this start
                call(memory, "reset")
        else:
            self.memories = [plug.build(shape, s, **extra) for s in seeds]
        self.device = device_of(self.memories[0])
        self.streams = [Streams(s, "writes") for s in seeds] if draws_in_update(plug) else []
        self.read_streams = [Streams(s, "reads") for s in seeds] if draws_in_query(plug) else []

    def reset(self) -> None:
        start = time.perf_counter()
        for memory in self.memories:
            call(memory, "reset")
        CLOCK["memory"] += time.perf_counter() - start

    def update(self, keys: Tensor, values: Tensor) -> None:
        keys, values = keys.to(self.device), values.to(self.device)
        rows = list(zip(self.memories, keys, values))
        before = generator_states() if self.streams else {}
        start = time.perf_counter()
        for t, (memory, k, v) in enumerate(rows):
            if self.streams:
                self.streams[t].next()
            call(memory, "update", k, v)
        CLOCK["memory"] += time.perf_counter() - start
        set_generator_states(before)

    def query(self, keys: Tensor) -> Tensor:
        keys = keys.to(self.device)
        rows = list(zip(self.memories, keys))
        before = generator_states() if self.read_streams else {}
        start, answers = time.perf_counter(), []
        for t, (memory, k) in enumerate(rows):
            if self.read_streams:
                self.read_streams[t].next()
            answers.append(call(memory, "query", k))
        CLOCK["memory"] += time.perf_counter() - start
        set_generator_states(before)
        shape = (keys.shape[1], self.shape.value_dim)
        return torch.stack([checked_answer(a, shape, self.plug.name).detach().cpu() for a in answers])

    def call(self, method: str, *arguments: Tensor) -> Tensor:
        rows = zip(*(a.to(self.device) for a in arguments)) if arguments else ((),) * self.trials
        answers = [call(memory, method, *row) for memory, row in zip(self.memories, rows)]
        try:
            return torch.stack([torch.as_tensor(a).detach().cpu() for a in answers])
        except RuntimeError as error:
            raise CannotMeasure(
                f"{self.plug.name}.{method} answered different shapes for equal loads: {error}"
            ) from error

    def state_bytes(self) -> Tensor:
        return torch.tensor([float(state_bytes(memory)) for memory in self.memories])


def populate(
    plug: Plug,
    shape: Shape,
    trials: Sequence[int],
    seed: int,
    *,
    looped: bool = False,
    needs: tuple[str, ...] = (),
    **extra: Any,
) -> Population:
    """T = ``len(trials)`` fresh memories, the t-th depending only on ``(seed, trials[t])``.

    Args:
        needs: optional methods that will be called; a third party's Functional memory that has them only for a
            single state is then driven in a loop.
        looped: drive in a loop in any case.
        extra: further constructor arguments, such as ``memory_dim``.
    """
    functional = "Functional" in plug.capabilities
    own = functional and isinstance(plug.probe, FunctionalMemory)
    if functional and not looped and (own or not needs) and not (draws_in_update(plug) or draws_in_query(plug)):
        if not draws_weights(plug, shape, **extra):
            return Batched(plug, shape, trials, seed, **extra)
        if own:
            with contextlib.suppress(Unstackable):
                return Stacked(plug, shape, trials, seed, **extra)
    return Looped(plug, shape, trials, seed, **extra)


def initial_states(memory: Any, seeds: Sequence[int], stack: bool = True) -> Any:
    """``init_state`` for every seed, stacked (or that of the first seed alone); drawn once and expanded where the memory draws no random numbers."""
    drew = False

    def draw() -> Any:
        nonlocal drew
        before = generator_states()
        state = call(memory, "init_state", ())
        drew = bool(moved_generators(before, generator_states()))
        return state

    with torch.no_grad():
        first = made_from(seeds[0], draw)
        if not stack:
            return first
        if not drew:
            return call(memory, "init_state", (len(seeds),))
        states = [first, *(made_from(seed, lambda: call(memory, "init_state", ())) for seed in seeds[1:])]
    return stacked_states(states)


def state_bytes(memory: object) -> int:
    """Bytes of the tensors a memory's state holds: its functional state, else every tensor or array reachable from it."""
    if isinstance(memory, FunctionalMemory):
        return sum(t.numel() * t.element_size() for t in state_tensors(memory.state))
    seen: dict[Any, int] = {}
    for tensor in tensors_in(memory):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr(), tensor.storage_offset()] = tensor.numel() * tensor.element_size()
    return sum(seen.values())


def checked_answer(answer: Any, shape: tuple[int, ...], name: str) -> Tensor:
    """The answer itself, if it is a tensor of the right shape.

    Raises:
        ValueError: naming what came instead.
    """
    if not isinstance(answer, Tensor) or answer.shape != shape:
        came = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        raise ValueError(f"{name}: query returned {came}; it must be a tensor of shape {shape}")
    return answer


def timed(call: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def one_call(plug: Plug, memory: Any, shape: Shape, method: str, rows: int = 8) -> float:
    """Seconds that one ``update`` or ``query`` with so many pairs (or the capacity, if that is less) takes."""
    generator = torch.Generator().manual_seed(0)
    spec, count = plug.spec, min(rows, shape.capacity)
    dims = shape.key_dim, shape.value_dim
    keys, values = pairs(spec.key_domain, spec.value_domain, count, *dims, generator, spec.association)
    keys, values = keys.to(device_of(memory)), values.to(device_of(memory))
    given = (keys, values) if method == "update" else (keys,)
    return cross(method, lambda: timed(lambda: getattr(memory, method)(*given)), given)
