"""Selectivity: does the memory know what it holds? Stored keys against keys that were never stored.

Two signals are looked at, each under its own name: the norm of the answer, which is there for every memory and promises
nothing, and the ``confidence`` of a Confident memory, which does. Confidence is also compared with what it should predict, whether the
answer is right: calibration (ECE, Brier) and selective answering (accuracy-coverage, AURC; Geifman and El-Yaniv 2017).

All statistics are vectorised over trials; ties in a signal are resolved by their average, never by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, MemspecError
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting
from memspec.experiments.robustness import noisy
from memspec.fixtures.data import pairs
from memspec.metrics import Axis, Metric, Showing
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate

BINS = 15
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NOISE_LEVELS = (0.0, 1.0, 3.0)
"""Noise on the stored keys that calibration is measured over, so that easy and hard questions are both there."""


@dataclass(frozen=True)
class Foils(Setting):
    """``n`` stored pairs and as many keys never stored; n is at most a quarter of the key dimension.

    The load is kept low because linear maps answer foils as loudly as stored keys once they are half full
    (least squares: ``|answer|^2 = n/(d - n - 1)`` of a value's).
    """

    n: int = 16
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128

    @property
    def label(self) -> str:
        return f"n{self.n}"


# ---- statistics -----------------------------------------------------------------------------------------------


def auroc(positive: Tensor, negative: Tensor) -> Tensor:
    """Chance that a positive scores above a negative, ties counting half, ``[T]`` (Mann-Whitney, average ranks).

    Args:
        positive, negative: ``[T, P]`` and ``[T, M]`` scores; infinities are allowed.
    """
    ordered = torch.cat((positive, negative), -1).sort(-1).values
    below = torch.searchsorted(ordered, positive.contiguous(), side="left")
    upto = torch.searchsorted(ordered, positive.contiguous(), side="right")
    ranks = (below + upto + 1).double() / 2  # average rank, from 1
    p, m = positive.shape[-1], negative.shape[-1]
    return (ranks.sum(-1) - p * (p + 1) / 2) / (p * m)


def false_recall(positive: Tensor, negative: Tensor, accepted: float = 0.95) -> Tensor:
    """Share of negatives at or above the threshold that accepts ``accepted`` of the positives, ``[T]``."""
    rank = positive.shape[-1] - int(-(-accepted * positive.shape[-1] // 1))
    threshold = positive.sort(-1).values[..., rank]
    return (negative >= threshold[..., None]).double().mean(-1)


def tie_averaged(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both sorted by falling confidence, ``right`` replaced by its mean among equal confidences; ``[T, Q]`` each."""
    ordered, order = confidence.sort(-1, descending=True)
    right = right.double().gather(-1, order)
    rising = ordered.flip(-1).contiguous()
    group = torch.searchsorted(rising, rising, side="left").flip(-1)
    size = torch.zeros_like(right).scatter_add_(-1, group, torch.ones_like(right))
    total = torch.zeros_like(right).scatter_add_(-1, group, right)
    return ordered, (total / size.clamp_min(1)).gather(-1, group)


def calibration_error(confidence: Tensor, right: Tensor, bins: int = BINS) -> Tensor:
    """ECE: mean of ``|accuracy - confidence|`` over ``bins`` bins of equal mass, weighted by their size, ``[T]``.

    Bins differ by at most one item, the most confident bins being the larger ones (Naeini et al. 2015 with the
    equal-mass binning of Nguyen and O'Connor 2015).
    """
    ordered, right = tie_averaged(confidence, right)
    gap = right - ordered.double()
    count = gap.shape[-1]
    return sum(part.sum(-1).abs() for part in gap.tensor_split(min(bins, count), -1)) / count  # type: ignore[return-value]


def brier(confidence: Tensor, right: Tensor) -> Tensor:
    """Mean squared difference of confidence and being right, ``[T]``."""
    return (confidence.double() - right.double()).square().mean(-1)


def selective_accuracy(confidence: Tensor, right: Tensor) -> Tensor:
    """``[T, Q]``: accuracy of the k most confident answers, k = 1..Q."""
    _, right = tie_averaged(confidence, right)
    return right.cumsum(-1) / torch.arange(1, right.shape[-1] + 1)


def aurc(confidence: Tensor, right: Tensor) -> Tensor:
    """Mean risk (1 - accuracy) over all coverages 1/Q..1, ``[T]``; 0 is best."""
    return 1 - selective_accuracy(confidence, right).mean(-1)


def excess_aurc(confidence: Tensor, right: Tensor) -> Tensor:
    """AURC less that of an oracle which ranks every right answer above every wrong one, ``[T]``."""
    return aurc(confidence, right) - aurc(right.double(), right)


def coverage_at(confidence: Tensor, right: Tensor, accuracy: float = 0.95) -> Tensor:
    """Largest share of the questions, the most confident first, answered at this accuracy, ``[T]``; 0 if none."""
    reached = selective_accuracy(confidence, right) >= accuracy - 1e-12
    share = torch.arange(1, reached.shape[-1] + 1) / reached.shape[-1]
    return torch.where(reached, share, 0.0).amax(-1).double()


# ---- stored against never stored ------------------------------------------------------------------------------


def few(plug: Plug, setting: Foils) -> tuple[Shape, int]:
    """The shape, and how many pairs are stored at it: ``n``, at most a quarter of key_dim and the capacity.

    Raises:
        CannotMeasure: if fewer than two fit.
    """
    shape = plug.shape(setting.key_dim, setting.value_dim, setting.capacity)
    n = min(setting.n, shape.key_dim // 4, shape.capacity)
    if n < 2:
        raise CannotMeasure(f"{plug.name} has key_dim {shape.key_dim}, capacity {shape.capacity}: too few for foils")
    return shape, n


def measure_foils(plug: Plug, setting: Foils, trials: Sequence[int], seed: int) -> Measured:
    """Store n pairs, ask for them and for n keys that were never stored."""
    (shape, n), spec = few(plug, setting), plug.spec

    def make(g: torch.Generator) -> tuple[Tensor, ...]:
        keys, values = pairs.pairs(
            spec.key_domain, spec.value_domain, 2 * n, shape.key_dim, shape.value_dim, g, spec.association
        )
        return keys, values[:n]

    keys, values = randomness.stacked(make, trials, seed, "selectivity.foils", setting.label)
    confident = "Confident" in plug.capabilities
    memories = populate(plug, shape, trials, seed, needs=("confidence",) if confident else ())
    memories.store(keys[:, :n], values)
    norms = memories.query(keys).double().norm(dim=-1)
    finite = torch.isfinite(norms)
    # An answer that is not finite counts against the memory on either side.
    stored = torch.where(finite, norms, -1.0)[:, :n].contiguous()
    foils = torch.where(finite, norms, torch.inf)[:, n:].contiguous()
    out = {"norm_auroc": auroc(stored, foils), "norm_false_recall": false_recall(stored, foils)}
    if confident:
        stored, foils = checked(memories.call("confidence", keys), plug.name).double().split(n, -1)
        out["confidence_auroc"] = auroc(stored, foils)
        out["confidence_false_recall"] = false_recall(stored, foils)
    return out


def checked(confidence: Tensor, name: str) -> Tensor:
    """The confidences themselves, if they are numbers from 0 to 1.

    Raises:
        MemspecError: naming one that is not.
    """
    wrong = ~((confidence >= -1e-6) & (confidence <= 1 + 1e-6))
    if wrong.any():
        raise MemspecError(
            f"{name}.confidence answered {float(confidence[wrong][0]):g}; it must lie in [0, 1]. "
            "Scale it, for example by a clamp of the cosine or 1 / (1 + distance)"
        )
    return confidence.clamp(0, 1)


_AUROC = "chance that a stored key has more {} than a key never stored; .5 says nothing"
_FALSE = "share of never-stored keys accepted at the {} that accepts 95% of the stored ones"

FOILS = Experiment(
    "selectivity.foils",
    measure_foils,
    {
        "norm_auroc": Metric(_AUROC.format("answer norm"), better="none"),
        "norm_false_recall": Metric(_FALSE.format("answer norm"), better="none"),
        "confidence_auroc": Metric(_AUROC.format("confidence")),
        "confidence_false_recall": Metric(_FALSE.format("confidence"), better="down"),
    },
    "stored {n} random pairs (fewer where key_dim is under 64), then asked for them and for as many keys never stored",
    Foils,
)


# ---- calibration ----------------------------------------------------------------------------------------------


def measure_calibration(plug: Plug, setting: Foils, trials: Sequence[int], seed: int) -> Measured:
    """Store n pairs, ask for them at several levels of noise and for n foils; compare confidence with being right.

    Answers to foils count as wrong: nothing was stored there.

    Raises:
        NotAsked: if the memory is not Confident.
    """
    plug.needs("Confident")
    (shape, n), spec = few(plug, setting), plug.spec

    def make(g: torch.Generator) -> tuple[Tensor, ...]:
        keys, values = pairs.pairs(
            spec.key_domain, spec.value_domain, 2 * n, shape.key_dim, shape.value_dim, g, spec.association
        )
        directions = pairs.unit(torch.randn(len(NOISE_LEVELS), n, shape.key_dim, generator=g))
        return keys, values[:n], directions

    keys, values, directions = randomness.stacked(make, trials, seed, "selectivity.calibration", setting.label)
    asked = [noisy(keys[:, :n], directions[:, i], s, spec.key_domain) for i, s in enumerate(NOISE_LEVELS)]
    cues = torch.cat((*asked, keys[:, n:]), 1)
    memories = populate(plug, shape, trials, seed, needs=("confidence",))
    memories.store(keys[:, :n], values)
    targets = torch.arange(n).repeat(len(NOISE_LEVELS))
    known = decode.recalled(memories.query(cues)[:, : len(targets)], values, targets)
    right = torch.cat((known, torch.zeros_like(known[:, :n])), 1)
    confidence = checked(memories.call("confidence", cues), plug.name)
    accuracy = selective_accuracy(confidence, right)
    count = cues.shape[1]
    at = [max(1, round(c * count)) - 1 for c in COVERAGES]
    return {
        "ece": calibration_error(confidence, right),
        "brier": brier(confidence, right),
        "accuracy": right.double().mean(-1),
        "mean_confidence": confidence.double().mean(-1),
        "accuracy_at_coverage": Curve(accuracy[:, at], COVERAGES),
        "aurc": aurc(confidence, right),
        "excess_aurc": excess_aurc(confidence, right),
        "coverage_at_95": coverage_at(confidence, right),
        "selective_gain": accuracy[:, count // 2 - 1] - accuracy[:, -1],
    }


CALIBRATION = Experiment(
    "selectivity.calibration",
    measure_calibration,
    {
        "ece": Metric(f"expected calibration error, {BINS} equal-mass bins", better="down"),
        "brier": Metric("mean squared difference of confidence and being right", better="down"),
        "accuracy": Metric("share of all questions, foils included, answered rightly"),
        "mean_confidence": Metric("mean confidence", better="none"),
        "accuracy_at_coverage": Metric(
            "accuracy of the most confident answers, at the share answered", label="accuracy"
        ),
        "aurc": Metric("mean risk over all coverages", better="down"),
        "excess_aurc": Metric("mean risk over all coverages, less that of a perfect ranking", better="down"),
        "coverage_at_95": Metric("largest share answered at 95% accuracy"),
        "selective_gain": Metric("accuracy of the more confident half, less that of all answers", low=-1.0),
    },
    "stored {n} random pairs, then asked with noise 0, 1 and 3 on their keys and for keys never stored",
    Foils,
    Showing(Axis("coverage, share of queries answered")),
)

SCORES = (
    Scoring(
        "selectivity",
        FOILS.name,
        "confidence_auroc",
        floor=0.5,
        ceiling=1.0,
        description="2 AUROC - 1 of confidence, stored against never-stored keys; by definition. A memory that declares "
        "no confidence has no such score",
    ),
)
