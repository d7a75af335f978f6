"""The blind memory: it keeps nothing and answers zeros. What it reaches on a check's own streams is what the check asks of nobody.

A bound that such a memory meets requires nothing; a check that passes it is *measured*, and no pass.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.plugs.meter import METER
from memspec.plugs.plug import UNSHARED, Plug, Shape
from memspec.protocol import Widths

if TYPE_CHECKING:
    from memspec.experiments.base import Experiment, Runner, Setting

TRIALS = 16
"""Trials that the blind memory is given; of most metrics it has the same value in all of them."""


class Nothing(NamedTuple):
    """The state of a memory that keeps nothing."""


class Blind(FunctionalMemory):
    """Answers zeros to everything, and is sure of nothing: confidence is 0."""

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> Nothing:
        return Nothing()

    def write(self, state: Nothing, keys: Tensor, values: Tensor) -> Nothing:
        return state

    def read(self, state: Nothing, keys: Tensor) -> Tensor:
        return keys.new_zeros(*keys.shape[:-1], self.value_dim)

    def confidence(self, keys: Tensor) -> Tensor:
        """``keys [..., Q, Dk] -> [..., Q]`` zeros."""
        return keys.new_zeros(keys.shape[:-1])


@dataclass(eq=False)
class BlindPlug(Plug):
    """Builds blind memories of the widths, domains and capacities that another plug's memories have.

    Attributes:
        model: the other plug.
    """

    model: Plug | None = None

    @classmethod
    def like(cls, model: Plug) -> BlindPlug:
        """The blind memory that stands beside ``model``: it is shown the same pairs."""
        made = cls(f"a blind {model.name}", Blind, model=model)
        found = {"Functional"} | ({"Confident"} & model.capabilities)
        made.__dict__ |= {"accepts": model.accepts, "spec": model.spec, "capabilities": frozenset(found)}
        return made

    def build(self, shape: Shape | None = None, seed: int = UNSHARED, **extra: Any) -> Blind:
        shape = shape or self.nearest()
        return Blind(shape.key_dim, shape.value_dim, shape.capacity)

    def shape(self, key_dim: int = 64, value_dim: int = 64, capacity: int = 128) -> Shape:
        assert self.model is not None
        return self.model.shape(key_dim, value_dim, capacity)

    def nearest(self, key_dim: int = 64, value_dim: int = 64, capacity: int = 128) -> Shape:
        assert self.model is not None
        return self.model.nearest(key_dim, value_dim, capacity)

    @property
    def widths(self) -> Widths:
        assert self.model is not None
        return self.model.widths

    def widths_found(self) -> str:
        assert self.model is not None
        return self.model.widths_found()


def blind_values(
    runner: Callable[[], Runner],
) -> Callable[[Experiment, Setting, str, float | None], NDArray[np.float64] | None]:
    """What a blind memory reaches: ``(experiment, setting, metric, at) -> [TRIALS]`` values.

    Args:
        runner: the runner of a :class:`BlindPlug`; asked for when it is needed.

    Returns:
        a function that gives None where no such memory can be measured (it has no slots to look at, say).
    """

    def values(experiment: Experiment, setting: Setting, metric: str, at: float | None) -> NDArray[np.float64] | None:
        with METER.resting(), warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            found = runner().values(experiment, setting, metric, TRIALS, at)
            return None if np.isnan(found).any() else found
        return None

    return values
