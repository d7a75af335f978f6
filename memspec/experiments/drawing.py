"""Random pairs for a plug: from the domains its spec declares, the same for every memory with those domains."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, NotAsked
from memspec.fixtures.data import pairs
from memspec.plugs.plug import Plug, Shape


def needs_pairs(plug: Plug, n: int, shape: Shape) -> None:
    """Refuse where recall of ``n`` pairs under distinct keys cannot be asked.

    Raises:
        NotAsked: if the memory recalls only after outer training.
        CannotMeasure: if keys are one-hot and there are fewer than ``n`` of them.
    """
    if plug.spec.fidelity == "trained":
        raise NotAsked(f"{plug.name} recalls only after outer training")
    if plug.spec.key_domain == "onehot" and n > shape.key_dim:
        raise CannotMeasure(
            f"{plug.name}: {n} pairs need as many distinct keys; there are {shape.key_dim} one-hot ones"
        )


def drawn(plug: Plug, n: int, shape: Shape, trials: Sequence[int], seed: int, *path: object) -> tuple[Tensor, Tensor]:
    """``n`` independent pairs a trial: ``keys [T, n, Dk]``, ``values [T, n, Dv]``; ``path`` names the stream.

    Raises:
        NotAsked, CannotMeasure: see :func:`needs_pairs`.
    """
    spec = plug.spec
    needs_pairs(plug, n, shape)
    keys, values = randomness.stacked(
        lambda g: pairs.pairs(
            spec.key_domain, spec.value_domain, n, shape.key_dim, shape.value_dim, g, spec.association
        ),
        trials,
        seed,
        *path,
    )
    return keys, values
