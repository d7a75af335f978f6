"""Memories whose writes draw: two ways of writing are one where what comes of them is distributed alike.

Other calls draw other numbers, so that nothing can be said of a single answer. As many memories are built alike and written
in each of two ways, each under a seed of its own; their answers have the same mean and the same spread, number by number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from memspec.laws.case import Case
from memspec.laws.compare import FLOAT
from memspec.plugs.plug import Plug, Shape
from memspec.randomness import seeded, unshared
from memspec.world.boundary import call

DRAWS = 48
"""Memories written in each of two ways."""
FAR = 7.0
"""Standard errors of a difference, beyond which it is none of chance: two means of 48 draws differ by so much in one of
10^9 pairs, if the draws are normal; by 6, were they as heavy-tailed as chance in memories gets, in one of 10^5."""
SPREADS = 12.0
"""Variances of 48 normal draws each lie apart by this factor in one of 10^13 pairs."""
PARTED = 0.45
"""Distance of two distributions of 48 draws (Kolmogorov and Smirnov) from which a difference of their means or variances
counts: of rare events, such as a row lost in one draw of thirty, neither is near normal, and that distance is small."""

Calls = Sequence[tuple[Tensor, Tensor]]


def sampled(plug: Plug, shape: Shape, calls: Calls, asked: Tensor, first: int = 0) -> Tensor:
    """``[DRAWS, Q, Dv]``: what memories answer that were built alike, and written by these calls under seeds of their own.

    Args:
        first: of the seeds.
    """
    answers = []
    for draw in range(DRAWS):
        memory = plug.build(shape)
        with seeded(unshared(first + draw)):
            for keys, values in calls:
                for _ in range(plug.spec.presentations):
                    call(memory, "update", keys, values)
            answers.append(call(memory, "query", asked).detach().clone())
    return torch.stack(answers)


def apart(one: Tensor, other: Tensor) -> tuple[float, float]:
    """How far two samples ``[DRAWS, ...]`` lie apart: the largest difference of means in standard errors, and the largest
    ratio of variances, each of the numbers whose distributions are apart too; rounding is no difference."""
    one, other = one.double(), other.double()
    least = (FLOAT * max(1.0, float(one.abs().max()), float(other.abs().max()))) ** 2
    spreads = [part.var(0) + least for part in (one, other)]
    error = ((spreads[0] + spreads[1]) / len(one)).sqrt()
    far = (one.mean(0) - other.mean(0)).abs() / error
    ratio = (spreads[0] / spreads[1]).log().abs()
    middle = torch.cat((one, other)).median(0).values
    far = far * (between(one, other) >= PARTED)
    ratio = ratio * (between((one - middle).abs(), (other - middle).abs()) >= PARTED)
    return float(far.max()), math.exp(float(ratio.max()))


def between(one: Tensor, other: Tensor) -> Tensor:
    """The largest difference of the empirical distribution functions of two samples ``[D, ...]``, number by number."""
    count = len(one)
    both, order = torch.cat((one, other)).sort(dim=0, stable=True)
    step = torch.where(order < count, 1.0, -1.0).cumsum(0) / count
    last = torch.cat((both[1:] != both[:-1], torch.ones_like(both[:1], dtype=torch.bool)))  # of those that are equal
    return (step.abs() * last).amax(0)


def alike(case: Case, one: str, other: str, cause: str, expected: str) -> None:
    """Break the law unless two ways of writing, given as expressions of lists of calls, come to the same distribution."""
    samples = []
    for turn, calls in enumerate((one, other)):
        template = f"{{}}({{}}, shape, {calls}, probe, {turn * DRAWS})"
        samples.append(case.new("drawn", template, sampled, case.plug))
    far, ratio = case.let("gap", "{}({}, {})", apart, *samples)
    case.check(
        f"gap[0] <= {FAR} and gap[1] <= {SPREADS}",
        got=f"over {DRAWS} draws of each, means of an answer lie {far:.3g} standard errors apart, variances by a factor of {ratio:.3g}",
        expected=f"{expected}, in distribution (its writes draw random numbers)",
        cause=cause,
    )
