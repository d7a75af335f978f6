"""Contiguity, second part: free recall, driven through a memory as in the temporal context model.

A list of items is studied while a context drifts; the memory under test keeps which item belonged to which context
(one instance) and which context to which item (another). Recall starts from the last context: the first instance
proposes items, one is drawn, the second one gives its context back, and that moves the context on. What comes out is
compared with people's free recall by the measures of that field: the conditional response probability by lag
(lag-CRP, Kahana 1996) and the temporal factor (Sederberg et al. 2010; Polyn et al. 2009), both as psifr computes them.

A dictionary is no human: with a context that matches none of those stored it takes the nearest. Scores here say how
much of the temporal structure survives in the answers, not how well items are stored; a Hebbian matrix, which blends
neighbouring contexts, comes nearest to people.

Sources: Howard and Kahana 2002, "A distributed representation of temporal context" (context and its reinstatement);
psifr 0.10 (Morton 2020) for the measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import NotAsked
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting
from memspec.experiments.contiguity import same_space
from memspec.fixtures.data import pairs
from memspec.metrics import Axis, KeyFigure, Metric, Showing, View
from memspec.plugs.plug import Plug
from memspec.plugs.population import populate

# ---- measures of recalls --------------------------------------------------------------------------------------


def lag_crp(recalls: Tensor, length: int, lags: Sequence[int]) -> Tensor:
    """Conditional response probability by lag: transitions made over transitions possible, ``[S, len(lags)]``.

    A lag is possible from a recall if the item at that distance is in the list and was not recalled yet. Counts are
    pooled over a subject's lists before dividing, as in psifr's ``lag_crp``.

    Args:
        recalls: ``[S, lists, R]`` serial positions 0..length-1 in order of recall for S subjects; -1 fills up shorter
            recalls at the end. No position twice, no intrusions.
        length: items in a list.
        lags: which lags; 0 never happens.

    Returns:
        NaN where a lag was never possible.
    """
    made, possible = lag_counts(recalls, length, lags)
    return made / possible


def lag_counts(recalls: Tensor, length: int, lags: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Transitions made and transitions possible at each lag, pooled over a subject's lists: two of ``[S, len(lags)]``."""
    step, target, available = _transitions(recalls, length)
    wanted = step[..., None] == torch.as_tensor(list(lags))  # [S, lists, R-1, length, lags]
    made = (wanted & target[..., None]).sum((1, 2, 3))
    possible = (wanted & available[..., None]).sum((1, 2, 3))
    return made.double(), possible.double()


def temporal_factor(recalls: Tensor, length: int) -> Tensor:
    """Mean percentile rank of the absolute lags made among those possible, ``[S]``; 1 always nearest, .5 chance.

    ``1 - (rank - 1) / (possible - 1)``, ties share their mean rank, transitions with one possible item are left out;
    all transitions of a subject count alike. psifr's ``lag_rank``. NaN where a subject made no such transition.

    Args:
        recalls, length: as for :func:`lag_crp`.
    """
    step, target, available = _transitions(recalls, length)
    distance = step.abs()
    made = (distance * target).sum(-1, keepdim=True)
    below = (available & (distance < made)).sum(-1)
    tied = (available & (distance == made)).sum(-1)
    count = available.sum(-1)
    factor = 1 - (below + (tied - 1) / 2) / (count - 1).clamp_min(1)
    valid = target.any(-1) & (count > 1)
    return (factor.double() * valid).sum((1, 2)) / valid.sum((1, 2)).double()


def _transitions(recalls: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each transition and list position: its lag, whether it was the one recalled, whether it could have been.

    All ``[S, lists, R-1, length]``; positions after the last recall of a list are all False.
    """
    if recalls.ndim != 3:
        raise ValueError(f"recalls have shape {tuple(recalls.shape)}; they must be [subjects, lists, recalls]")
    if recalls.numel() and not -1 <= int(recalls.min()) <= int(recalls.max()) < length:
        raise ValueError(f"recalls must be serial positions 0..{length - 1}, or -1 after the last")
    positions = torch.arange(length)
    named = recalls[..., None] == positions
    recalled = named.cumsum(-2) > 0
    happened = (recalls[..., 1:] >= 0)[..., None]
    return positions - recalls[..., :-1, None], named[..., 1:, :], ~recalled[..., :-1, :] & happened


# ---- people ---------------------------------------------------------------------------------------------------

HUMAN_CRP = {
    -5: (0.055, 0.025),
    -4: (0.064, 0.024),
    -3: (0.081, 0.025),
    -2: (0.108, 0.038),
    -1: (0.255, 0.089),
    1: (0.435, 0.124),
    2: (0.121, 0.037),
    3: (0.093, 0.031),
    4: (0.068, 0.027),
    5: (0.067, 0.031),
}
"""Mean and standard deviation of the lag-CRP over 126 people, 28 lists of 16 words each: the data ``peers_notask``
shipped with psifr, by ``psifr.fr.lag_crp(merge_free_recall(sample_data("peers_notask")))``. A test of this project
computes it again. CRP(+1) / CRP(-1) is 1.70; 90% of them go forwards more often than back."""

HUMAN_TEMPORAL_FACTOR = (0.701, 0.067)
"""Mean and standard deviation over subjects of the temporal factor in the same data (``psifr.fr.lag_rank``)."""

# ---- the driver -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FreeRecall(Setting):
    """``lists`` lists of ``length`` random unit items for each trial (a subject), ``recalls`` recalls from each.

    ``drift`` is beta: the context moves as ``unit(sqrt(1 - beta^2) c + beta x)``. ``temperature`` divides the
    similarities that a recall is drawn by.
    """

    length: int = 16
    lists: int = 4
    recalls: int = 10
    drift: float = 0.6
    temperature: float = 0.12
    dim: int = 64
    capacity: int = 128


LAGS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)

METRICS = {
    "crp": Metric(
        "conditional response probability by lag, pooled over a trial's lists",
        better="none",
        label="conditional response probability",
    ),
    "temporal_factor": Metric("mean percentile rank of the lags made among those possible; chance 0.5"),
    "asymmetry": Metric(
        "CRP(+1) / CRP(-1), half a transition added to each count; people 1.7", high=float("inf"), better="none"
    ),
    "forward_bias": Metric("CRP(+1) - CRP(-1); people 0.18", low=-1.0, better="none"),
}


def drifted(context: Tensor, towards: Tensor, drift: float) -> Tensor:
    """The next context: ``unit(sqrt(1 - drift^2) context + drift unit(towards))``, for ``[..., D]``."""
    return pairs.unit(math.sqrt(1 - drift**2) * context + drift * pairs.unit(towards))


def study(items: Tensor, start: Tensor, drift: float) -> tuple[Tensor, Tensor]:
    """The context each item is met in, ``[..., L, D]``, and the one after the last, ``[..., D]``.

    An item is bound to the context before it enters it, so that contexts lead forwards more than backwards.
    """
    contexts, now = [], start
    for item in items.unbind(-2):
        contexts.append(now)
        now = drifted(now, item, drift)
    return torch.stack(contexts, -2), now


def measure(plug: Plug, setting: FreeRecall, trials: Sequence[int], seed: int) -> Measured:
    """Study every list and recall from it; all lists of all trials at once, one output position after the other."""
    shape, domain = same_space(plug, setting.dim, setting.capacity)
    if domain not in ("real", "unit"):
        raise NotAsked(f"{plug.name}: contexts are mixtures of items, and no mixture is a {domain} vector")
    if not 2 <= setting.recalls <= setting.length:
        raise ValueError(f"recalls is {setting.recalls}; it must be from 2 to the length of a list, {setting.length}")
    lists, length, d = setting.lists, setting.length, shape.key_dim

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.rand(lists, setting.recalls, length, generator=g, dtype=torch.float64)
        return (
            pairs.vectors("unit", lists * length, d, g).reshape(lists, length, d),
            pairs.vectors("unit", lists, d, g),
            -torch.log(-torch.log(chosen.clamp(1e-300, 1 - 1e-16))),
        )

    drawn = randomness.stacked(draw, trials, seed, "contiguity.free_recall", setting.label)
    items, start, gumbel = (part.flatten(0, 1) for part in drawn)
    contexts, now = study(items, start, setting.drift)
    instances = [trial * lists + i for trial in trials for i in range(lists)]
    item_of, context_of = (populate(plug, shape, instances, seed) for _ in range(2))
    item_of.store(contexts, items)
    context_of.store(items, contexts)

    every = torch.arange(len(instances))
    recalled = torch.zeros(len(instances), length, dtype=torch.bool)
    sequence = []
    for position in range(setting.recalls):
        strength = (items.double() @ _clean(item_of.query(now[:, None]))[:, 0, :, None].double())[..., 0]
        # Adding Gumbel noise and taking the largest draws from the softmax.
        preference = strength / setting.temperature + gumbel[:, position]
        picked = torch.where(recalled, -torch.inf, preference).argmax(-1)
        recalled[every, picked] = True
        sequence.append(picked)
        item = items[every, picked]
        context = _clean(context_of.query(item[:, None]))[:, 0]
        now = drifted(now, 0.5 * item + 0.5 * context, setting.drift)

    recalls = torch.stack(sequence, -1).reshape(len(trials), lists, setting.recalls)
    made, possible = lag_counts(recalls, length, LAGS)
    crp = made / possible
    # A lag that no list of a trial allowed has no estimate there; it takes the mean over trials, or 0.
    mean = torch.nan_to_num(crp).sum(0) / torch.isfinite(crp).sum(0).clamp_min(1)
    crp = torch.where(possible > 0, crp, mean)
    smoothed = (made + 0.5) / (possible + 1)
    back, on = LAGS.index(-1), LAGS.index(1)
    return {
        "crp": Curve(crp, LAGS),
        "temporal_factor": temporal_factor(recalls, length),
        "asymmetry": smoothed[:, on] / smoothed[:, back],
        "forward_bias": crp[:, on] - crp[:, back],
    }


def _clean(answers: Tensor) -> Tensor:
    """Rows that are not finite, or too long to compute with, say nothing: zeros."""
    good = torch.isfinite(answers).all(-1, keepdim=True) & (answers.abs().amax(-1, keepdim=True) < 1e15)
    return torch.where(good, answers, 0.0)


FREE_RECALL = Experiment(
    "contiguity.free_recall",
    measure,
    METRICS,
    "studied lists of {length} items in a drifting context, then recalled {recalls} from each, {lists} lists a trial",
    FreeRecall,
    Showing(
        Axis("lag"),
        # one standard deviation around people's mean
        (View(("crp",), people=tuple((float(lag), m - sd, m + sd) for lag, (m, sd) in HUMAN_CRP.items())),),
        (KeyFigure("temporal factor", "temporal_factor", "chance .5, people .70", place=14),),
    ),
)

EXACT_TEMPORAL_FACTOR = 0.781
"""What ExactMemory reaches in the default setting, over 2,000 trials (standard error .001); a test measures it again."""

SCORES = (
    Scoring(
        "contiguity",
        FREE_RECALL.name,
        "temporal_factor",
        floor=0.5,
        ceiling=EXACT_TEMPORAL_FACTOR,
        description="temporal factor of free recall; 0 = no temporal order, 1 = dictionary; people score 0.72 (raw .70)",
    ),
)
