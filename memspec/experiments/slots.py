"""Slots: how a memory that has slots uses them.

As many items are stored, one by one, as the memory was given slots; then each is asked for. Even use is no virtue in
itself: a statistic that never moves is even, and so are reads that ignore the query. So beside entropy, perplexity,
dead slots and the Gini coefficient stands the mutual information between slot and item, which is 0 for both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, MemspecError, NotAsked
from memspec.experiments.base import Experiment, Measured, Scoring, Setting
from memspec.fixtures.data import pairs
from memspec.metrics import Metric
from memspec.plugs.plug import Plug
from memspec.plugs.population import Population, populate


@dataclass(frozen=True)
class Items(Setting):
    """``n`` pairs stored one by one in a memory of ``capacity`` slots (fewer if it declares less)."""

    n: int = 32
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 32

    @property
    def label(self) -> str:
        return f"n{self.n}"


# ---- statistics -----------------------------------------------------------------------------------------------


def shares(mass: Tensor) -> Tensor:
    """Nonnegative ``mass [..., S]`` scaled to sum 1; rows without mass stay zero."""
    total = mass.sum(-1, keepdim=True)
    return torch.where(total > 0, mass / torch.where(total > 0, total, 1.0), 0.0)


def entropy(p: Tensor) -> Tensor:
    """Entropy in nats of ``p [..., S]``."""
    return -torch.xlogy(p, p).sum(-1)


def evenness(p: Tensor) -> dict[str, Tensor]:
    """Statistics of shares ``p [T, S]``, each ``[T]``: entropy / ln S, perplexity / S, dead slots (p < 1/(10 S)), Gini."""
    slots = p.shape[-1]
    h = entropy(p)
    rank = torch.arange(1, slots + 1, dtype=p.dtype)
    gini = ((2 * rank - slots - 1) * p.sort(-1).values).sum(-1) / slots
    held = p.sum(-1) > 0
    return {
        "entropy": h / math.log(slots),
        "perplexity": torch.where(held, h.exp() / slots, 0.0),
        "dead": (p < 1 / (10 * slots)).double().mean(-1),
        "gini": gini.clamp(0, 1),
    }


def information(mass: Tensor) -> Tensor:
    """``I(slot; item)`` in bits, ``[T]``, for equally likely items with ``mass [T, N, S]`` over slots, rows summing to <= 1.

    What a row lacks to 1 goes to a slot of its own, "none". Exact: no sampling, so no bias.
    """
    none = (1 - mass.sum(-1, keepdim=True)).clamp_min(0)
    p = shares(torch.cat((mass, none), -1))
    return ((entropy(p.mean(-2)) - entropy(p).mean(-1)) / math.log(2)).clamp_min(0)


def spread(values: Tensor, p: Tensor) -> Tensor:
    """Share of the slots' mean square that is variance between slots, ``[T]``; 0 = all slots hold the same vector.

    Args:
        values: ``[T, S, Dv]``.
        p: ``[T, S]`` shares that weigh the slots.
    """
    mean = (p[..., None] * values).sum(-2, keepdim=True)
    between = (p * (values - mean).square().sum(-1)).sum(-1)
    total = (p * values.square().sum(-1)).sum(-1)
    return torch.where(total > 0, between / torch.where(total > 0, total, 1.0), 0.0)


# ---- the experiment -------------------------------------------------------------------------------------------


def measure(plug: Plug, setting: Items, trials: Sequence[int], seed: int) -> Measured:
    """Store n pairs one by one, watching usage; ask for all of them, watching read weights.

    Raises:
        NotAsked: for a memory that is neither Slotted nor Addressable.
        CannotMeasure: for a memory with a single slot.
    """
    slotted, addressable = "Slotted" in plug.capabilities, "Addressable" in plug.capabilities
    if not (slotted or addressable):
        raise NotAsked(f"{plug.name} is neither Slotted nor Addressable")
    shape, spec = plug.shape(setting.key_dim, setting.value_dim, setting.capacity), plug.spec
    n = min(setting.n, shape.capacity)
    keys, values = randomness.stacked(
        lambda g: pairs.pairs(
            spec.key_domain, spec.value_domain, n, shape.key_dim, shape.value_dim, g, spec.association
        ),
        trials,
        seed,
        "slots.use",
        setting.label,
    )
    methods = ("slot_usage",) * slotted + ("read_weights", "slot_values") * addressable
    memories = populate(plug, shape, trials, seed, needs=methods)
    seen = [usage(memories)] if slotted else []
    for i in range(n):
        memories.update(keys[:, i : i + 1], values[:, i : i + 1])
        if slotted:
            seen.append(usage(memories))
    for _ in range(spec.presentations - 1):
        for i in range(n):
            memories.update(keys[:, i : i + 1], values[:, i : i + 1])
    out: dict[str, Tensor] = {}
    if slotted:
        final = usage(memories)
        out |= {f"usage_{name}": value for name, value in evenness(shares(final)).items()}
        out["write_information"] = information(shares(changes(seen)))
    if addressable:
        weights = read_weights(memories, keys)
        read = shares(shares(weights).mean(1))
        out |= {f"read_{name}": value for name, value in evenness(read).items()}
        out["query_entropy"] = entropy(shares(weights)).mean(-1) / math.log(weights.shape[-1])
        out["read_information"] = information(weights)
        out["slot_spread"] = spread(memories.call("slot_values").double(), read)
    return out


def usage(memories: Population) -> Tensor:
    """``[T, S]`` usage now.

    Raises:
        MemspecError: if it is negative or not finite.
        CannotMeasure: if there is only one slot.
    """
    found = memories.call("slot_usage").double()
    return _several(_nonnegative(found, memories, "slot_usage"), memories)


def changes(seen: Sequence[Tensor]) -> Tensor:
    """``[T, N, S]`` how much each write changed each slot's usage; slots that came later count as 0 before."""
    most = max(u.shape[-1] for u in seen)
    padded = torch.stack([torch.nn.functional.pad(u, (0, most - u.shape[-1])) for u in seen], 1)
    return padded.diff(dim=1).abs()


def read_weights(memories: Population, keys: Tensor) -> Tensor:
    """``[T, Q, S]`` read weights.

    Raises:
        MemspecError: if one is negative or not finite.
        CannotMeasure: if there is only one slot.
    """
    found = memories.call("read_weights", keys).double()
    return _several(_nonnegative(found, memories, "read_weights"), memories)


def _nonnegative(found: Tensor, memories: Population, method: str) -> Tensor:
    wrong = ~(torch.isfinite(found) & (found >= -1e-6))
    if wrong.any():
        raise MemspecError(
            f"{memories.plug.name}.{method} answered {float(found[wrong][0]):g}; it must be finite and not negative"
        )
    return found.clamp_min(0)


def _several(found: Tensor, memories: Population) -> Tensor:
    if found.shape[-1] == 1:
        raise CannotMeasure(f"{memories.plug.name} has one slot: there is no choice of slots to measure")
    return found


def _evenness_metrics(prefix: str, what: str) -> dict[str, Metric]:
    return {
        f"{prefix}_entropy": Metric(f"entropy of {what} over slots / ln S", better="none"),
        f"{prefix}_perplexity": Metric(f"slots effectively in use by {what} / S", better="none"),
        f"{prefix}_dead": Metric(f"share of slots with under a tenth of an even share of {what}", better="down"),
        f"{prefix}_gini": Metric(f"Gini coefficient of {what} over slots; 0 = even", better="none"),
    }


USE = Experiment(
    "slots.use",
    measure,
    {
        **_evenness_metrics("usage", "slot_usage"),
        **_evenness_metrics("read", "read weight"),
        "query_entropy": Metric("mean entropy of one query's read weights / ln S; 0 = one slot answers", better="none"),
        # No upper end is stated for the next three: their bounds lie so near 0 that single trials are judged, by share.
        "write_information": Metric(
            "mutual information of the item written and the slot whose usage changed, in bits",
            high=math.inf,
            unit="bit",
            label="information",
        ),
        "read_information": Metric(
            "mutual information of the item asked for and the slot read, in bits",
            high=math.inf,
            unit="bit",
            label="information",
        ),
        "slot_spread": Metric("share of the mean square of slot contents that differs between slots", high=math.inf),
    },
    "stored {n} random pairs one by one in {capacity} slots, then asked for all of them",
    Items,
)

SCORES: tuple[Scoring, ...] = ()
"""None: no value of these statistics is better than another for every memory."""
