"""MemoryAnalyzer: efficiency, stability, retrieval accuracy and dynamics of a memory, in the terms of the experiments.

Names are those of MemoryAnalyzer in mwasifanwar/neural_memory_architectures. What they compute is what the experiments of
:mod:`memspec.experiments` compute, on tensors of the caller's own: shapes have no trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memspec.experiments import decode, slots

if TYPE_CHECKING:
    from pandas import DataFrame, Series


class MemoryAnalyzer:
    """Numbers about one memory: ``S`` slots, ``T`` moments, ``Q`` queries, ``M`` candidates, ``D`` width."""

    def memory_efficiency(self, usage: Tensor) -> Series:
        """How evenly slots are used, of usage ``[S]`` or ``[T, S]`` (whose last moment counts).

        Returns:
            ``entropy`` and ``perplexity`` (shares of those of even use), ``dead`` (share of slots with less than a tenth of an
            even share), ``gini``; see :func:`memspec.experiments.slots.evenness`.

        Raises:
            ValueError: for usage that is negative or not finite.
        """
        import pandas as pd

        last = _finite(usage, "usage").double()
        last = last if last.ndim == 1 else last[-1]
        if bool((last < 0).any()):
            raise ValueError("usage is negative; give counts or weights")
        evenness = slots.evenness(slots.shares(last[None]))
        return pd.Series({name: float(value[0]) for name, value in evenness.items()}, name="efficiency")

    def memory_stability(self, contents: Tensor | Sequence[Tensor]) -> DataFrame:
        """How far contents ``[T, S, D]`` move from one moment to the next.

        Returns:
            a row a step: ``change``, the length of what changed over the length of what was held (infinite where nothing was),
            and ``slots``, the share of slots that changed at all.
        """
        import pandas as pd

        held = _finite(_stacked(contents), "contents").double()
        moved = held.diff(dim=0)
        before = held[:-1].flatten(1).norm(dim=1)
        change = moved.flatten(1).norm(dim=1)
        share = torch.where(change > 0, change / before, 0.0)
        touched = moved.ne(0).any(-1).double().mean(-1)
        rows = {"change": share.tolist(), "slots": touched.tolist()}
        return pd.DataFrame(rows, index=pd.RangeIndex(1, len(held), name="step"))

    def retrieval_accuracy(self, answers: Tensor, candidates: Tensor, targets: Tensor) -> Series:
        """How well answers ``[Q, D]`` name their targets ``[Q]`` (indices) among candidates ``[M, D]``.

        Returns:
            ``cosine`` and ``euclidean``, the shares decoded rightly by each (which of the two is asked can turn an order of
            memories round), ``similarity``, the mean cosine with the target, and ``chance``, 1/M.
        """
        import pandas as pd

        found = {
            decoder: float(decode.recalled(answers[None], candidates[None], targets[None], decoder).double().mean())
            for decoder in ("cosine", "euclidean")
        }
        similarity = float(decode.cosine(answers[None], candidates[targets][None]).mean())
        return pd.Series({**found, "similarity": similarity, "chance": 1 / len(candidates)}, name="retrieval")

    def memory_dynamics(
        self, contents: Tensor | Sequence[Tensor], operations: Iterable[Mapping[str, object]] = ()
    ) -> Series:
        """What happened to contents ``[T, S, D]`` in all.

        Returns:
            ``variance`` of the entries over moments and slots, ``spread`` (the share of the last contents' mean square that lies
            between slots: 0 where all hold the same), ``stability`` (1 / (1 + mean change a step)), and how often each
            ``type`` of operation was done.
        """
        import pandas as pd

        held = _finite(_stacked(contents), "contents").double()
        even = torch.full((1, held.shape[1]), 1 / held.shape[1], dtype=torch.float64)
        steps = held.diff(dim=0).flatten(1).norm(dim=1)
        found = {
            "variance": float(held.flatten(0, 1).var(0, correction=0).mean()),
            "spread": float(slots.spread(held[-1:], even)[0]),
            "stability": float(1 / (1 + steps.mean())) if len(steps) else 1.0,
        }
        done = Counter(str(operation.get("type", "unknown")) for operation in operations)
        return pd.Series({**found, **{f"{name} operations": float(count) for name, count in done.items()}})


def _stacked(parts: Tensor | Sequence[Tensor]) -> Tensor:
    return parts if isinstance(parts, Tensor) else torch.stack(list(parts))


def _finite(rows: Tensor, name: str) -> Tensor:
    if not bool(rows.isfinite().all()):
        raise ValueError(f"{name} has NaN or infinity")
    return rows
