"""Scores and costs from raw rows: pure functions of a record's blocks, so a saved record can be scored again.

A score is ``(raw - floor) / (ceiling - floor)``: 0 = a memory that returns zeros (or chance), 1 = an exact dictionary.
It is never clipped: above 1 and below 0 are findings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspec.experiments.base import Scoring
from memspec.judging.statistics import mean_interval
from memspec.scorecard.declared import cost_names, metric_of, showing_of
from memspec.scorecard.record import Record, merged, values_of

CONFIDENCE = 0.95


def rescore(record: Record, scorings: Sequence[Scoring] | None = None) -> Record:
    """``record`` with its scores and costs computed from its raw rows (in place; also returned)."""
    if scorings is None:
        from memspec.experiments.catalog import scorings as all_scorings

        scorings = all_scorings()
    record.blocks = merged(record.blocks)
    record.scores = {s.axis: score for s in scorings if (score := score_of(record.blocks, s)) is not None}
    record.cost = costs(record)
    return record


def score_of(blocks: Iterable[Mapping[str, Any]], scoring: Scoring) -> dict[str, Any] | None:
    """One score with its parts, or None where its experiment was not run (at these settings and points).

    The interval (Student's t, 95%) is over trials: settings use independent streams, so their variances add.
    """
    samples: dict[str, NDArray[np.float64]] = {}
    for block in blocks:
        wanted = scoring.labels is None or block["setting"] in scoring.labels
        if block["experiment"] == scoring.experiment and wanted and scoring.metric in block["metrics"]:
            sample = per_trial(block["metrics"][scoring.metric], scoring.at)
            if sample is not None and sample.size:
                samples[block["setting"]] = sample
    if not samples:
        return None
    raw = float(np.mean([x.mean() for x in samples.values()]))
    low, high = pooled_interval(list(samples.values()))
    span = scoring.ceiling - scoring.floor
    ends = sorted(((low - scoring.floor) / span, (high - scoring.floor) / span))
    return {
        "score": (raw - scoring.floor) / span,
        "interval": ends,
        "confidence": CONFIDENCE,
        "raw": raw,
        "floor": scoring.floor,
        "ceiling": scoring.ceiling,
        "experiment": scoring.experiment,
        "metric": scoring.metric,
        "settings": sorted(samples),
        "trials": sum(x.size for x in samples.values()),
        "description": scoring.description,
    }


def per_trial(metric: Mapping[str, Any], at: Sequence[float] | None = None) -> NDArray[np.float64] | None:
    """``[T]`` one number a trial: the metric itself, or the mean of its curve (over the points ``at``, if given)."""
    values = values_of(metric)
    if metric["at"] is None:
        return values
    if at is None:
        return values.mean(axis=1) if values.size else None
    points = [float(x) for x in metric["at"]]
    if not set(at) <= set(points):
        return None
    return values[:, [points.index(x) for x in at]].mean(axis=1)


def pooled_interval(samples: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """t interval of the mean of several independent samples' means (Welch-Satterthwaite degrees of freedom)."""
    from scipy.special import stdtrit

    if any(x.size < 2 for x in samples):
        return -math.inf, math.inf
    if len(samples) == 1:
        interval = mean_interval(samples[0], CONFIDENCE)
        return interval.low, interval.high
    mean = float(np.mean([x.mean() for x in samples]))
    parts = np.array([x.var(ddof=1) / x.size for x in samples]) / len(samples) ** 2
    if not parts.sum() > 0:
        return mean, mean
    degrees = parts.sum() ** 2 / sum(p**2 / (x.size - 1) for p, x in zip(parts, samples))
    half = float(stdtrit(degrees, 0.5 + CONFIDENCE / 2) * math.sqrt(parts.sum()))
    return mean - half, mean + half


def costs(record: Record) -> dict[str, Any]:
    """The cost section: every metric that its experiment declares a cost, by setting; null where nothing measured it.

    A number is the median over trials (times are skewed); a curve is ``{"at": [...], "median": [...]}``.
    """
    out: dict[str, Any] = dict.fromkeys(cost_names())
    out["parameters"] = record.memory.get("parameters")
    for block in record.blocks:
        for name in showing_of(block).cost:
            metric = block["metrics"].get(name)
            if metric is None:
                continue
            values = values_of(metric)
            if values.size == 0 or np.isnan(values).all():
                continue
            median = np.nanmedian(values, axis=0)
            summary = float(median) if metric["at"] is None else {"at": list(metric["at"]), "median": median.tolist()}
            entry = {
                "experiment": block["experiment"],
                "description": metric_of(block, name).description,
                "unit": metric_of(block, name).unit,
                "settings": {},
                "trials": len(values),
            }
            if out.get(name) is None or not isinstance(out[name], dict):
                out[name] = entry
            out[name]["settings"][block["setting"]] = summary
    return out
