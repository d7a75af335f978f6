"""Statistics of curves: when an error has fallen, how fast, where it bends; where recall rises with dimension.

Every function takes ``[T, K]`` curves of T trials and gives ``[T]``. Where a quantity does not exist (a level that is
never reached), a stated number beyond the curve stands for it, so that nothing downstream meets a NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspec.judging.statistics import wilson_interval

TINY = 1e-12
"""Relative errors below this are the arithmetic's, not the memory's."""


def relative(errors: Tensor) -> Tensor:
    """``errors / errors[:, :1]``; infinite where either is not a finite number."""
    ratio = errors.double() / errors[:, :1].double().clamp_min(TINY)
    return torch.where(torch.isfinite(ratio) & torch.isfinite(errors[:, :1]), ratio, torch.inf)


def steps_to(errors: Tensor, level: float) -> Tensor:
    """First step n from which on the error stays at or below ``level`` times ``errors[:, 0]``; K (= steps + 1) if none.

    Args:
        errors: ``[T, K]``, at steps 0..K-1.
    """
    above = ~(relative(errors) <= level)
    steps = torch.arange(1, errors.shape[1] + 1)
    return torch.where(above, steps, 0).amax(-1).double()


def half_life(errors: Tensor) -> Tensor:
    """Steps until the error is first at half of ``errors[:, 0]``, log-interpolated between steps; K if never."""
    logs = _logs(errors)
    target = logs[:, :1] - math.log(2)
    count = errors.shape[1]
    reached = logs <= target
    first = torch.where(reached, torch.arange(count), count).amin(-1)
    after = first.clamp(1, count - 1)
    high, low = (torch.gather(logs, 1, (after - shift)[:, None]) for shift in (1, 0))
    part = ((high - target) / (high - low).clamp_min(TINY))[:, 0]
    return torch.where(first == count, float(count), after - 1 + part).clamp(0, count)


def area(errors: Tensor) -> Tensor:
    """Area under the learning curve: mean over steps 1..K-1 of ``min(1, error / errors[:, 0])``; 0 = learned at once."""
    return relative(errors)[:, 1:].clamp(max=1).mean(-1)


def rate(errors: Tensor, floor: float = 1e-6) -> Tensor:
    """Minus the least-squares slope of ``ln error`` over steps, up to and with the first error below ``floor``."""
    logs = _logs(errors)
    count = errors.shape[1]
    steps = torch.arange(count, dtype=torch.float64)
    last = torch.where(errors < floor, torch.arange(count), count - 1).amin(-1, keepdim=True).clamp_min(1)
    used = (torch.arange(count) <= last).double()
    total = used.sum(-1, keepdim=True)
    x = (steps - (used * steps).sum(-1, keepdim=True) / total) * used
    y = logs - (used * logs).sum(-1, keepdim=True) / total
    return -(x * y).sum(-1) / x.square().sum(-1)


def elbow(errors: Tensor) -> Tensor:
    """Step at which ``ln error`` bends most: Kneedle (Satopaa et al. 2011) for a falling convex curve; K if it does not fall."""
    logs = _logs(errors)
    count = errors.shape[1]
    low, high = logs.amin(-1, keepdim=True), logs.amax(-1, keepdim=True)
    fallen = (high - logs) / (high - low).clamp_min(TINY)
    gap = fallen - torch.linspace(0, 1, count, dtype=torch.float64)
    bent = (logs[:, 0] - logs[:, -1] > 1e-6) & (gap.amax(-1) > 1e-6)
    return torch.where(bent, gap.argmax(-1), count).double()


def overshoot(errors: Tensor) -> Tensor:
    """Largest error after step 0 over ``errors[:, 0]``; above 1, learning makes it worse at some step."""
    return relative(errors)[:, 1:].amax(-1)


def savings(learning: Tensor, relearning: Tensor) -> Tensor:
    """``1 - steps to relearn / steps to learn`` (Ebbinghaus 1885), steps ``[T]`` as :func:`steps_to` counts them."""
    return 1 - relearning / learning.clamp_min(1)


@dataclass(frozen=True)
class SCurve:
    """Logistic curves in log2 of the abscissa, ``plateau / (1 + exp(-(log2 x - middle) / width))``; ``[T]`` each."""

    plateau: Tensor
    middle: Tensor
    width: Tensor

    def reaches(self, level: float, beyond: float) -> Tensor:
        """Abscissa at which the fitted curve is at ``level``; ``beyond`` where its plateau is below that, or it is farther."""
        ratio = (self.plateau / level - 1).clamp_min(TINY)
        x = torch.exp2((self.middle - self.width * ratio.log()).clamp(max=60))
        return torch.where(self.plateau > level, x, beyond).clamp(max=beyond)


def s_curve(at: Sequence[float], values: Tensor) -> SCurve:
    """Least-squares fit of :class:`SCurve` to ``values [T, K]`` at ``at [K]``, the plateau held within [0, 1].

    For each middle and width of a fine grid the best plateau is known in closed form, so the fit needs no start
    value and cannot fail; the grid resolves 1/20 of an octave.
    """
    x = torch.tensor([math.log2(a) for a in at], dtype=torch.float64)
    middles = torch.arange(float(x[0]) - 3, float(x[-1]) + 3, 0.05, dtype=torch.float64)
    widths = torch.logspace(-1.5, 0.5, 24, dtype=torch.float64)
    shapes = torch.sigmoid((x - middles[:, None, None]) / widths[:, None]).flatten(0, 1)  # [G, K]
    y = values.double()
    energy = shapes.square().sum(-1).clamp_min(TINY)
    plateau = (y @ shapes.mT / energy).clamp(0, 1)
    loss = plateau.square() * energy - 2 * plateau * (y @ shapes.mT)
    best = loss.argmin(-1)
    return SCurve(plateau.gather(1, best[:, None])[:, 0], middles[best // len(widths)], widths[best % len(widths)])


@dataclass(frozen=True)
class N95:
    """The largest load of a grid up to which recall is at least .95, by the mean and by the Wilson bounds; 0 if none."""

    estimate: int
    low: int
    high: int


def n95(loads: Sequence[int], recalls: Sequence[NDArray[np.float64]], level: float = 0.95) -> N95:
    """Largest N of an ascending grid with recall >= ``level`` at every load up to N.

    Args:
        recalls: for each load, the recall of every trial; a trial at load N counts as N items.
    """
    held = [True, True, True]
    best = [0, 0, 0]
    for n, recall in zip(loads, recalls):
        items = n * len(recall)
        interval = wilson_interval(float(np.sum(recall)) * n, items)
        for i, share in enumerate((interval.mean, interval.low, interval.high)):
            # the Wilson interval of a perfect share still ends below 1; that alone must not count against it
            held[i] = held[i] and (share >= level or (i == 1 and interval.mean == 1.0))
            best[i] = n if held[i] else best[i]
    return N95(*best)


def _logs(errors: Tensor) -> Tensor:
    return torch.nan_to_num(errors.double(), nan=torch.inf).clamp(TINY, 1e300).log()
