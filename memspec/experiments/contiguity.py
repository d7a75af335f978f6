"""Contiguity, first part: chains A -> B, B -> C.

After (A -> B), (B -> C), a query with B is compared with A, B and C. Expect C, and no more than that: a matrix memory
answers ``C + (A . B) B``, a store of pairs answers C, so this probe cannot tell the two apart, and finding C says only
that storage works. What tells memories apart is asked beside it: whether C leads back to B, whether A leads to C in
two steps, and free recall (:mod:`memspec.experiments.free_recall`).

A query with C, which is no key, is answered by whatever is nearest: a store of pairs that always answers returns one
of its values, B about as likely as any other. So the backward probe takes off the similarity to the B of the other
chains in the same memory. Where associations run forwards only, what remains is about ``(1/d) / |answer|``, because C
is the value of B: .03 in 64 dimensions.

Source: the A, B, C test of erlebach/memory_experiments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments import decode
from memspec.experiments.base import Experiment, Measured, Setting
from memspec.fixtures.data import pairs
from memspec.metrics import Metric
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate

SMALLEST = 16
"""Least dimension: items with fewer entries resemble each other by chance as much as by association."""


def same_space(plug: Plug, dim: int, capacity: int) -> tuple[Shape, str]:
    """The square shape nearest to ``dim``, and a domain of vectors that are good as keys and as values.

    Raises:
        NotAsked: for memories that recall the key itself.
        CannotMeasure: if keys and values cannot be the same vectors.
    """
    spec = plug.spec
    if spec.association == "auto":
        raise NotAsked(f"{plug.name} recalls the key itself, so A never leads to B")
    shape = plug.square_shape(dim, dim, capacity)
    if shape.key_dim < SMALLEST:
        raise CannotMeasure(f"{plug.name}: items of {shape.key_dim} entries resemble each other; {SMALLEST} are needed")
    domain = joint_domain(spec.key_domain, spec.value_domain)
    if domain is None:
        raise NotAsked(f"{plug.name}: no item is a {spec.key_domain} key and a {spec.value_domain} value as well")
    return shape, domain


def joint_domain(key: str, value: str) -> str | None:
    """The domain whose vectors belong to both; None where there is none. One-hot and unit vectors are real, and so on."""
    if key == value or value == "real":
        return key
    if key == "real":
        return value
    return "onehot" if {key, value} == {"unit", "onehot"} else None


def into(domain: str, rows: Tensor) -> Tensor:
    """``rows [..., D]`` as keys of a domain: answers are asked again as keys. Rows that are not finite become zeros."""
    rows = torch.where(torch.isfinite(rows).all(-1, keepdim=True), rows, 0.0)
    if domain == "unit":
        return pairs.unit(rows)
    if domain == "sign":
        return torch.where(rows >= 0, 1.0, -1.0)
    if domain == "onehot":
        return torch.nn.functional.one_hot(rows.argmax(-1), rows.shape[-1]).to(rows.dtype)
    return rows


@dataclass(frozen=True)
class Chain(Setting):
    """``chains`` chains A -> B -> C in one memory; the source has one."""

    chains: int = 1
    dim: int = 64
    capacity: int = 128


METRICS = {
    "to_a": Metric("cosine of query(B) with A", low=-1.0, better="none"),
    "to_b": Metric("cosine of query(B) with B itself", low=-1.0, better="none"),
    "to_c": Metric("cosine of query(B) with C, which was stored under B", low=-1.0),
    "forward": Metric("cosine of query(B) with C less that with A", low=-2.0, high=2.0),
    "backward": Metric("cosine of query(C) with B", low=-1.0, better="none"),
    "backward_excess": Metric(
        "cosine of query(C) with B less that with the B of other chains", low=-2.0, high=2.0, better="none"
    ),
    "chained": Metric("cosine of query(query(A)) with C", low=-1.0),
    "chained_forward": Metric("cosine of query(query(A)) with C less that with A", low=-2.0, high=2.0),
}


def measure(plug: Plug, setting: Chain, trials: Sequence[int], seed: int) -> Measured:
    """Store the chains one after the other, each (A -> B), then (B -> C), one pair an update."""
    shape, domain = same_space(plug, setting.dim, setting.capacity)
    n, d = setting.chains, shape.key_dim
    if domain == "onehot" and 3 * n > d:
        raise CannotMeasure(f"{plug.name}: {n} chains need {3 * n} items; there are {d} one-hot ones")
    (items,) = randomness.stacked(
        lambda g: (pairs.keys(domain, 3 * n, d, g),), trials, seed, "contiguity.chain", setting.label
    )
    a, b, c = items.reshape(len(trials), 3, n, d).unbind(1)
    memories = populate(plug, shape, trials, seed)
    order = (len(trials), 2 * n, d)
    memories.store_rows(torch.stack((a, b), 2).reshape(order), torch.stack((b, c), 2).reshape(order))
    from_a, from_b, from_c = memories.query(torch.cat((a, b, c), 1)).split(n, 1)
    twice = memories.query(into(plug.spec.key_domain, from_a))

    def similarity(answers: Tensor, to: Tensor) -> Tensor:
        return decode.cosine(answers, to).double().mean(-1)

    out = {
        "to_a": similarity(from_b, a),
        "to_b": similarity(from_b, b),
        "to_c": similarity(from_b, c),
        "forward": similarity(from_b, c) - similarity(from_b, a),
        "backward": similarity(from_c, b),
        "chained": similarity(twice, c),
        "chained_forward": similarity(twice, c) - similarity(twice, a),
    }
    if n > 1:
        others = [similarity(from_c, b.roll(shift, 1)) for shift in range(1, n)]
        out["backward_excess"] = out["backward"] - torch.stack(others).mean(0)
    return out


CHAIN = Experiment(
    "contiguity.chain",
    measure,
    METRICS,
    "stored {chains} chain(s) as (A -> B), (B -> C), then asked for B, for C, and for the answer to A",
    Chain,
)
