"""Cost: bytes, seconds and operations, and how they grow with what is stored.

One memory at a time is driven through its own ``update`` and ``query``. Times are recorded, never judged: they belong
to the machine. Bytes are judged: against ``constant_state``, against what was decoded from them, and across resets.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from memspec import randomness
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting
from memspec.fixtures.data import pairs
from memspec.metrics import Axis, KeyFigure, Metric, Showing, View
from memspec.plugs.plug import CLOCK, Plug
from memspec.plugs.reachable import device_of, tensors_in
from memspec.randomness import seed_of
from memspec.world.boundary import call, cross

LEVELS = (32, 128, 256)
"""Pairs stored when times are taken."""

CALL = 8
"""Pairs or queries in one timed call."""

REPEATS = 4
"""Timed calls at each level; the updates among them are the last ``CALL * REPEATS`` pairs up to it."""


@dataclass(frozen=True)
class Growth(Setting):
    """Stores up to 256 pairs in a memory of ``capacity``, and looks at bytes and times on the way."""

    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 256

    @property
    def label(self) -> str:
        return f"n{LEVELS[-1]}-d{self.key_dim}"


# ---- bytes ----------------------------------------------------------------------------------------------------


def reachable_bytes(memory: object) -> int:
    """Bytes of the distinct storages of all tensors and arrays reachable from an object's attributes.

    Storages, not elements: a kept view keeps all of what it is a view of.
    """
    storages = {}
    for tensor in tensors_in(memory):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def fixed_bytes(memory: object, before: dict[str, Tensor]) -> int:
    """Bytes of those Parameters that are what they were ``before``: slow weights, not state."""
    if not isinstance(memory, torch.nn.Module):
        return 0
    same = [p for name, p in memory.named_parameters() if name in before and torch.equal(p.detach(), before[name])]
    return sum(p.numel() * p.element_size() for p in same)


def _parameters(memory: object) -> dict[str, Tensor]:
    if not isinstance(memory, torch.nn.Module):
        return {}
    return {name: p.detach().clone() for name, p in memory.named_parameters()}


# ---- seconds and operations -----------------------------------------------------------------------------------


def seconds(use: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of one call, with the device's queue drained before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    use()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken = time.perf_counter() - start
    CLOCK["memory"] += taken
    return taken


class OperationCounter(TorchDispatchMode):
    """Counts as torch's FlopCounterMode does, with its formulas; that one imports the compiler (2 s) on first use.

    Attributes:
        total: floating-point operations of matrix products, convolutions and attention inside the ``with`` block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled, so torch need not import its compiler to say so

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry

        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def flops(use: Callable[[], Any]) -> float:
    """Floating-point operations of one call, as torch's FlopCounterMode counts; NaN (= unknown) where it sees none.

    It counts matrix products, convolutions and attention that go through torch, and nothing else: a memory in numpy
    or faiss is not free, it is unseen.
    """
    with OperationCounter() as counter:
        use()
    return float(counter.total) or math.nan


def growth_exponent(times: Tensor, at: Sequence[float]) -> Tensor:
    """``[T]`` least-squares slope of ln time on ln pairs stored, ``times [T, K]``; 0 = constant, 1 = linear."""
    x = torch.as_tensor(at, dtype=torch.float64).log()
    x = x - x.mean()
    return (times.double().clamp_min(1e-9).log() * x).sum(-1) / x.square().sum()


# ---- the experiment -------------------------------------------------------------------------------------------


def measure(plug: Plug, setting: Growth, trials: Sequence[int], seed: int) -> Measured:
    """Store 256 pairs in calls of 8 and larger ones; take bytes and times at 32, 128 and 256."""
    shape, spec = plug.shape(setting.key_dim, setting.value_dim, setting.capacity), plug.spec
    n = LEVELS[-1]
    keys, values = randomness.stacked(
        lambda g: pairs.pairs(
            spec.key_domain, spec.value_domain, n, shape.key_dim, shape.value_dim, g, spec.association
        ),
        trials,
        seed,
        "cost.growth",
        setting.label,
    )
    warm = plug.build(shape, seed_of(seed, "warm"))
    device = device_of(warm)
    keys, values = keys.to(device), values.to(device)
    _store(warm, keys[0, :CALL], values[0, :CALL], spec.presentations)
    call(warm, "query", keys[0, :CALL])
    # The boundary stands outside of what counts and times, so that its own work is in neither.
    more = keys[0, CALL : 2 * CALL], values[0, CALL : 2 * CALL]
    update_flops = cross("update", lambda: flops(lambda: warm.update(*more)), more) / CALL
    query_flops = cross("query", lambda: flops(lambda: warm.query(keys[0, :CALL])), keys[:1, :CALL]) / CALL
    rows = []
    for i, trial in enumerate(trials):
        memory = plug.build(shape, seed_of(seed, "memory", trial))
        rows.append(_one(memory, keys[i], values[i], device, spec.presentations))
    held = torch.stack([r.state_bytes for r in rows])
    update, query = torch.stack([r.update for r in rows]), torch.stack([r.query for r in rows])
    answers = torch.stack([r.answers for r in rows])
    right = decode.recalled(answers, values.cpu(), torch.arange(n)).double().mean(-1)
    bits, held_bits = decode.bits(right, n), 8 * torch.tensor([float(r.all_bytes) for r in rows])
    return {
        "state_bytes": Curve(held, (0, *LEVELS)),
        "bytes_per_pair": (held[:, -1] - held[:, 1]) / (LEVELS[-1] - LEVELS[0]),
        "bytes_kept_by_reset": torch.tensor([float(r.kept) for r in rows]),
        "bits_per_state_bit": torch.where(bits > 0, bits / held_bits, 0.0),
        "parameters": torch.full((len(rows),), float(plug.parameter_count)),
        "update_seconds": Curve(update[..., 0], LEVELS),
        "update_seconds_p95": Curve(update[..., 1], LEVELS),
        "update_growth": growth_exponent(update[..., 0], LEVELS),
        "query_seconds": Curve(query[..., 0], LEVELS),
        "query_seconds_p95": Curve(query[..., 1], LEVELS),
        "query_growth": growth_exponent(query[..., 0], LEVELS),
        "update_flops": torch.full((len(rows),), update_flops),
        "query_flops": torch.full((len(rows),), query_flops),
        "flops": torch.full((len(rows),), update_flops + query_flops),
    }


@dataclass(frozen=True)
class _Row:
    """One memory: ``state_bytes [1 + K]``, median and p95 seconds ``[K, 2]``, ``answers [N, Dv]`` at the end."""

    state_bytes: Tensor
    all_bytes: int
    kept: int
    update: Tensor
    query: Tensor
    answers: Tensor


def _store(memory: Any, keys: Tensor, values: Tensor, presentations: int) -> None:
    for _ in range(presentations):
        call(memory, "update", keys, values)


def _one(memory: Any, keys: Tensor, values: Tensor, device: torch.device, presentations: int) -> _Row:
    slow = _parameters(memory)
    call(memory, "reset")  # so that state made on first use counts as fresh
    held, update, query, stored = [reachable_bytes(memory)], [], [], 0
    for level in LEVELS:
        first = level - CALL * REPEATS
        if first > stored:
            _store(memory, keys[stored:first], values[stored:first], presentations)
        taken = []
        for start in range(first, level, CALL):
            k, v = keys[start : start + CALL], values[start : start + CALL]
            store = partial(_store, memory, k, v, presentations)
            taken.append(cross("update", partial(seconds, store, device), (k, v)))
        update.append(_summary(taken))
        asked = keys[level - CALL : level]
        ask = partial(seconds, partial(call, memory, "query", asked), device)
        query.append(_summary([cross("query", ask, (asked,)) for _ in range(REPEATS)]))
        held.append(reachable_bytes(memory))
        stored = level
    answers = call(memory, "query", keys).detach().cpu()
    still = fixed_bytes(memory, slow)
    cycles = []
    for _ in range(2):
        call(memory, "reset")
        _store(memory, keys[:CALL], values[:CALL], presentations)
        cycles.append(reachable_bytes(memory))
    return _Row(
        torch.tensor([float(b - still) for b in held]),
        held[-1],
        cycles[1] - cycles[0],
        torch.tensor(update) / CALL,
        torch.tensor(query) / CALL,
        answers,
    )


def _summary(taken: list[float]) -> tuple[float, float]:
    """Median and 95th percentile (by linear interpolation)."""
    p95 = float(torch.tensor(taken, dtype=torch.float64).quantile(0.95))
    return statistics.median(taken), p95


def _time(what: str, label: str) -> Metric:
    meaning = f"seconds a {what}, in calls of {CALL}, at the pairs stored"
    return Metric(meaning, high=math.inf, better="down", unit="s", label=label, timing=True)


def _operations(what: str) -> Metric:
    """Not judged: the same work in other operations than matrix products would count as none."""
    return Metric(f"operations to {what}, matrix products only; null = unseen", high=math.inf, better="none")


GROWTH = Experiment(
    "cost.growth",
    measure,
    {
        "state_bytes": Metric(
            "bytes of reachable tensors, slow weights left out, at the pairs stored",
            high=math.inf,
            better="down",
            unit="B",
        ),
        "bytes_per_pair": Metric(
            f"growth of state in bytes a pair, {LEVELS[0]} to {LEVELS[-1]} pairs",
            low=-math.inf,
            high=math.inf,
            better="down",
            unit="B/pair",
        ),
        "bytes_kept_by_reset": Metric(
            "bytes by which the same pairs take more room after one more reset",
            low=-math.inf,
            high=math.inf,
            better="down",
            unit="B",
        ),
        "bits_per_state_bit": Metric(
            f"bits decoded from {LEVELS[-1]} pairs over bits of reachable tensors; above 1 something is out of sight",
            high=math.inf,
            better="none",
        ),
        "parameters": Metric("elements of slow weights", high=math.inf, better="none"),
        "update_seconds": _time("pair", "median of calls"),
        "update_seconds_p95": _time("pair (95th percentile of calls)", "95th percentile of calls"),
        "query_seconds": _time("query", "median of calls"),
        "query_seconds_p95": _time("query (95th percentile of calls)", "95th percentile of calls"),
        "update_growth": Metric(
            "exponent of update time in pairs stored; 0 = constant, 1 = linear",
            low=-math.inf,
            high=math.inf,
            better="down",
            timing=True,
        ),
        "query_growth": Metric(
            "exponent of query time in pairs stored; 0 = constant, 1 = linear",
            low=-math.inf,
            high=math.inf,
            better="down",
            timing=True,
        ),
        "update_flops": _operations("store a pair"),
        "query_flops": _operations("answer a query"),
        "flops": _operations("store a pair and answer a query"),
    },
    "stored 256 random pairs in a memory of capacity {capacity}, watching bytes and times; then reset it twice",
    Growth,
    Showing(
        Axis("pairs stored"),
        (
            View(("update_seconds", "update_seconds_p95"), "time to store a pair"),
            View(("query_seconds", "query_seconds_p95"), "time to answer a query"),
        ),
        (
            KeyFigure(
                "update us",
                "update_seconds",
                "microseconds a pair, 128 stored",
                of="median",
                at=128.0,
                factor=1e6,
                place=16,
                price="time",
            ),
            KeyFigure(
                "query us",
                "query_seconds",
                "microseconds a query, 128 stored",
                of="median",
                at=128.0,
                factor=1e6,
                place=17,
                price="time",
            ),
            KeyFigure(
                "state KiB",
                "state_bytes",
                "state after 128 writes",
                of="median",
                at=128.0,
                factor=1 / 1024,
                place=18,
                price="bytes",
            ),
        ),
        cost=(
            *("state_bytes", "bytes_per_pair", "bytes_kept_by_reset", "bits_per_state_bit", "parameters"),
            *("flops", "update_flops", "query_flops"),
            *("update_seconds", "update_seconds_p95", "update_growth"),
            *("query_seconds", "query_seconds_p95", "query_growth"),
        ),
    ),
)

SCORES: tuple[Scoring, ...] = ()
"""None: bytes and seconds have no natural 1."""
