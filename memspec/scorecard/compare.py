"""Is one record worse than another? Paired differences on the same streams, effect sizes first.

A metric is worse if it moved the wrong way by more than the tolerance and the move is significant. The size is the
mean difference over trials as a share of the metric's range (without a range: of the old value's size). The evidence
is an anytime-valid sign test (:func:`memspec.judging.statistics.sign_p_value`), corrected over all metrics (Holm), so that two
equal memories are called different with a chance of at most ``ALPHA`` a comparison. Metrics whose differences are too
small to pass the tolerance with any signs are not tested at all; given the sizes, the signs are still fair coins, so
leaving them out keeps that chance. Times are shown and never judged: they belong to the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memspec.experiments.catalog import OF_PYTHON
from memspec.judging.statistics import holm, mean_interval, sign_p_value
from memspec.metrics import Metric
from memspec.scorecard.declared import metric_of
from memspec.scorecard.equivalence import SUSPICION, AxisMove, axis_move, draws
from memspec.scorecard.formatting import number, share
from memspec.scorecard.gate import Policy
from memspec.scorecard.record import Record, merged
from memspec.scorecard.score import per_trial

NO_WORSE, WORSE, USAGE, INCONCLUSIVE, NOT_COMPARABLE = range(5)
ALPHA = 0.05
"""Chance that a comparison of two equal memories calls any metric worse."""

DECISIVE = ("memspec", "seed", "dtype", "device")
"""Entries of a signature on which every number depends; with others than these, the streams are the same."""

STREAM_FIELDS = ("key_domain", "value_domain", "association", "presentations")
"""Spec fields that change what a memory is shown: with different ones, trials are not pairs."""

Verdict = Literal["worse", "better", "unclear", "noise", "same", "untested"]


@dataclass(frozen=True)
class Change:
    """One metric of one experiment and setting, on both sides.

    Attributes:
        old, new: means over the common trials (of the curve's mean, for a curve).
        effect: signed improvement as a share of the range, or of the old value's size; below 0 is worse.
        standardised: mean improvement over the standard deviation of the paired improvements.
        interval: of the mean difference ``new - old``, Student's t, 95%, as a score's.
        p: of the side it moved to, from the signs of the paired differences.
        verdict: ``worse``, ``better``, ``unclear`` (beyond the tolerance, not significant), ``noise`` (likewise, of a
            memory that draws, see :mod:`memspec.scorecard.equivalence`), ``same``, or ``untested`` (a time, or a metric
            without a direction).
        unit, measure: the metric's (see :class:`memspec.metrics.Metric`).
    """

    experiment: str
    setting: str
    metric: str
    old: float
    new: float
    effect: float
    standardised: float
    interval: tuple[float, float]
    p: float
    trials: int
    verdict: Verdict
    unit: str = ""
    measure: str = ""

    @property
    def name(self) -> str:
        return f"{self.experiment}[{self.setting}].{self.metric}"


@dataclass
class Comparison:
    """What changed between an old record and a new one.

    Attributes:
        refused: why the two cannot be compared; empty if they can.
        policy: what is gated.
        warnings: how the two were made differently, and what is left out for it.
        kinds: of the checks: law, claim or measurement.
        changes: every metric on both sides, largest effect first.
        axes: how each axis moved in the mean, for memories that draw random numbers.
        checks: id -> (old status, new status), where they differ.
        checks_gone, checks_new: ids on one side only, with the reason where the new record gives one.
        metrics_gone, metrics_new: metrics on one side only.
    """

    new: str
    old: str
    tolerance: float
    refused: str = ""
    policy: Policy = field(default_factory=lambda: Policy("all"))
    warnings: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    axes: list[AxisMove] = field(default_factory=list)
    checks: dict[str, tuple[str, str]] = field(default_factory=dict)
    checks_gone: dict[str, str] = field(default_factory=dict)
    checks_new: dict[str, str] = field(default_factory=dict)
    metrics_gone: list[str] = field(default_factory=list)
    metrics_new: list[str] = field(default_factory=list)

    def of(self, verdict: str) -> list[Change]:
        return [c for c in self.changes if c.verdict == verdict]

    @property
    def unclear_losses(self) -> list[Change]:
        """Moves the wrong way beyond the tolerance that the trials do not settle."""
        return [c for c in self.of("unclear") if c.effect < 0]

    @property
    def broken(self) -> dict[str, tuple[str, str]]:
        """Gated checks that fail now and did not before."""
        return {i: s for i, s in self.checks.items() if s[1] == "fail" and self.policy.check(self.kinds.get(i, ""))}

    @property
    def verdict(self) -> str:
        """``no worse``, ``worse``, ``inconclusive`` or ``not comparable``."""
        known = {NO_WORSE: "no worse", WORSE: "worse", NOT_COMPARABLE: "not comparable"}
        return known.get(self.exit_status, "inconclusive")

    def gate(self, baseline: str) -> dict[str, Any]:
        """What a card keeps of it: ``baseline``, ``verdict``, ``policy``, ``losses`` (largest first), ``warnings``."""
        losses = [f"{i} held before and fails now" for i in self.broken]
        losses += [
            f"{c.name} {number(c.old)} -> {number(c.new)} (worse by {share(c.effect)})" for c in self.of("worse")
        ]
        return {
            "baseline": baseline,
            "verdict": self.verdict,
            "policy": str(self.policy),
            "losses": losses,
            "warnings": [*self.warnings, *([self.refused] if self.refused else [])],
        }

    @property
    def unsettled(self) -> dict[str, tuple[str, str]]:
        """Checks that used to pass or fail, and now say less."""
        return {i: s for i, s in self.checks.items() if s[1] in ("inconclusive", "skip") and s[0] in ("pass", "fail")}

    @property
    def exit_status(self) -> int:
        """0 no worse, 1 worse, 3 inconclusive (unclear moves, or something of the old record is missing), 4 not comparable."""
        if self.refused:
            return NOT_COMPARABLE
        if self.of("worse") or self.broken:
            return WORSE
        if self.unclear_losses or self.unsettled or self.checks_gone or self.metrics_gone:
            return INCONCLUSIVE
        return NO_WORSE


def compare(
    new: Record, old: Record, *, tolerance: float = 0.02, selection: bool = False, policy: Policy | None = None
) -> Comparison:
    """Compare two records.

    Args:
        tolerance: how much worse is still no regression, as a share of the range (or of the old value's size).
        policy: what is gated, with tolerances of its own; None = everything, with ``tolerance``.
        selection: the new run left out checks on purpose; those are then not called gone.
    """
    policy = policy or Policy("all", tolerance)
    out = Comparison(new.name, old.name, policy.tolerance, refused=_refusal(new, old), policy=policy)
    if out.refused:
        return out
    out.warnings, left_out = _otherwise(new, old)
    _compare_checks(new, old, out, selection)
    ours, theirs = dict(_metrics(new)), dict(_metrics(old))
    for mine in (ours, theirs):
        for key in [k for k, (metric, _) in mine.items() if left_out(k[0], metric)]:
            del mine[key]
    both = [key for key in theirs if key in ours]
    out.metrics_new = ["{}[{}].{}".format(*key) for key in ours if key not in theirs]
    if not selection:
        out.metrics_gone = ["{}[{}].{}".format(*key) for key in theirs if key not in ours]
    pairs = [_Pair.of(key, *ours[key], theirs[key][1]) for key in both]
    allowed = {p.key: policy.tolerated(*p.key) for p in pairs}
    gated = {p.key for p in pairs if p.judged and policy.metric(*p.key)}
    tested = [p for p in pairs if p.key in gated and p.possible > allowed[p.key]]
    significant = {
        p.key
        for sign in (-1, 1)  # losses and gains are two questions, each asked of all metrics
        for p, yes in zip(tested, holm([p.p(sign) for p in tested], ALPHA))
        if yes and sign * p.effect > 0
    }
    out.changes = [p.change(allowed[p.key], p.key in significant, gated=p.key in gated) for p in pairs]
    if draws(new) or draws(old):
        _set_noise_aside(out, [p for p in pairs if p.key in gated], tested, allowed)
    out.changes.sort(key=lambda c: (-abs(c.effect), c.name))
    if not both and not (_statuses(new).keys() & _statuses(old).keys()):
        out.refused = "they have no check and no metric in common"
    return out


def _set_noise_aside(
    out: Comparison, gated: Sequence[_Pair], tested: Sequence[_Pair], allowed: Mapping[Key, float]
) -> None:
    """Call unclear moves noise that nothing is suspicious about, on an axis that has not moved in the mean."""
    suspected = {p.key for p, yes in zip(tested, holm([p.p(-1) for p in tested], SUSPICION)) if yes}
    by_axis: dict[str, list[_Pair]] = {}
    for p in gated:
        by_axis.setdefault(p.key[0].partition(".")[0], []).append(p)
    for axis, mine in sorted(by_axis.items()):
        tolerance = min(allowed[p.key] for p in mine)
        out.axes.append(axis_move(axis, [p.gains for p in mine], tolerance))
    still = {move.axis for move in out.axes if move.no_worse}
    out.changes = [
        replace(c, verdict="noise")
        if c.verdict == "unclear"
        and (c.experiment, c.setting, c.metric) not in suspected
        and c.experiment.partition(".")[0] in still
        else c
        for c in out.changes
    ]


def differing(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """The entries of two signatures that differ, as ``name: new against old``; empty if none does."""
    return ", ".join(
        f"{name}: {new.get(name)} here, {old.get(name)} there"
        for name in dict.fromkeys([*new, *old])
        if new.get(name) != old.get(name)
    )


def matched(cards: Sequence[Record], others: Sequence[Record]) -> Iterator[tuple[Record, Record | None]]:
    """Each card with the other of its name; with one on each side, those two, whatever their names."""
    if len(cards) == len(others) == 1:
        yield cards[0], others[0]
        return
    by_name = {other.name: other for other in others}
    for one in cards:
        yield one, by_name.get(one.name)


def _refusal(new: Record, old: Record) -> str:
    different = differing(*(_decisive(one.signature) for one in (new, old)))
    if different:
        return f"the signatures differ ({different})"
    for name in STREAM_FIELDS:
        a, b = ((one.memory.get("spec") or {}).get(name) for one in (new, old))
        if a != b:
            return f"they were shown different data (spec.{name}: {a} here, {b} there)"
    a, b = new.memory.get("shape"), old.memory.get("shape")
    return f"they have different dimensions ({a} here, {b} there)" if a != b else ""


def _decisive(signature: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a signature on which every number depends."""
    return {name: signature.get(name) for name in DECISIVE if name in signature}


def _otherwise(new: Record, old: Record) -> tuple[list[str], Callable[[str, Metric], bool]]:
    """How two records were made differently (warnings), and which metrics that keeps from being compared."""
    warnings = []
    rest = [{k: v for k, v in one.signature.items() if k not in DECISIVE} for one in (new, old)]
    if differing(*rest):
        warnings.append(f"made with {differing(*rest)}; the streams are the same, so the rest is compared")
    python = new.signature.get("python") != old.signature.get("python")
    if python:
        warnings.append(f"not compared: {', '.join(OF_PYTHON)}, whose text is the manual of the running Python")
    elsewhere = any(new.machine.get(k) != old.machine.get(k) for k in ("processor", "cores", "cuda"))
    if elsewhere:
        warnings.append(
            "not compared: times, which belong to the machine (another processor, or another number of cores)"
        )

    def left_out(experiment: str, metric: Metric) -> bool:
        return (elsewhere and metric.timing) or (python and experiment.partition(".")[0] in OF_PYTHON)

    return warnings, left_out


def _statuses(record: Record) -> dict[str, str]:
    """Statuses by id. What is measured holds as what passes does: only what was required of it may differ."""
    return {c.id: "pass" if c.status == "measured" else str(c.status) for c in record.checks}


def _compare_checks(new: Record, old: Record, out: Comparison, selection: bool) -> None:
    ours, theirs = _statuses(new), _statuses(old)
    out.kinds = {c.id: c.kind for c in new.checks}
    out.checks = {i: (theirs[i], ours[i]) for i in theirs if i in ours and theirs[i] != ours[i]}
    out.checks_new = {
        i: f"was not asked: {old.not_asked[i]}" if i in old.not_asked else "" for i in ours if i not in theirs
    }
    for i in theirs:
        if i in new.not_asked:
            out.checks_gone[i] = f"not asked any more: {new.not_asked[i]}"
        elif i not in ours and not selection:
            out.checks_gone[i] = ""


Key = tuple[str, str, str]


def _metrics(record: Record) -> Iterator[tuple[Key, tuple[Metric, dict[str, Any]]]]:
    """What each metric is, and its values."""
    for block in merged(record.blocks):
        for name, metric in block["metrics"].items():
            yield (block["experiment"], block["setting"], name), (metric_of(block, name), metric)


@dataclass(frozen=True)
class _Pair:
    """The paired values of one metric."""

    key: Key
    metric: Metric
    new: NDArray[np.float64]
    old: NDArray[np.float64]

    @classmethod
    def of(cls, key: Key, metric: Metric, new: Mapping[str, Any], old: Mapping[str, Any]) -> _Pair:
        at = None
        if new["at"] is not None and old["at"] is not None:
            at = [float(x) for x in new["at"] if float(x) in {float(y) for y in old["at"]}] or None
        empty = np.empty(0)
        a, b = per_trial(new, at), per_trial(old, at)
        a, b = empty if a is None else a, empty if b is None else b
        n = min(a.size, b.size)
        return cls(key, metric, a[:n], b[:n])

    @property
    def judged(self) -> bool:
        """Whether a move can be good or bad at all."""
        return self.metric.better != "none" and not self.metric.timing and self.new.size > 0

    @property
    def gains(self) -> NDArray[np.float64]:
        """Improvement in each trial, as a share of the scale; not-a-number counts as infinitely bad."""
        sign = -1.0 if self.metric.better == "down" else 1.0
        a, b = (np.where(np.isnan(x), -math.inf, sign * x) for x in (self.new, self.old))
        with np.errstate(invalid="ignore"):
            gain = np.where((a == b) | (np.abs(a - b) < self.metric.resolution), 0.0, a - b)
        if self.metric.bounded:
            return gain / (self.metric.high - self.metric.low)
        finite = np.abs(self.old[np.isfinite(self.old)])
        scale = float(finite.mean()) if finite.size and finite.mean() > 0 else 1.0
        return gain / max(scale, 10 * self.metric.resolution)

    @property
    def effect(self) -> float:
        """The mean gain; for a metric without a range the median, which one extreme trial cannot move."""
        if not self.new.size:
            return 0.0
        return float(np.mean(self.gains) if self.metric.bounded else np.median(self.gains))

    @property
    def possible(self) -> float:
        """The largest loss the sizes of the differences allow, whatever their signs."""
        sizes = np.abs(self.gains)
        return float(sizes.mean() if self.metric.bounded else sizes.max())

    def p(self, sign: float) -> float:
        """Evidence that it improved (sign 1) or got worse (sign -1)."""
        return sign_p_value(sign * self.gains)

    def change(self, tolerance: float, significant: bool, *, gated: bool = True) -> Change:
        effect = self.effect
        verdict: Verdict
        if not self.judged or not gated:
            verdict = "untested"
        elif abs(effect) <= tolerance:
            verdict = "same"
        elif significant:
            verdict = "worse" if effect < 0 else "better"
        else:
            verdict = "unclear"
        spread = float(self.gains.std(ddof=1)) if self.gains.size > 1 and np.isfinite(self.gains).all() else math.nan
        return Change(
            *self.key,
            old=_mean(self.old),
            new=_mean(self.new),
            effect=effect,
            standardised=effect / spread if spread > 0 else math.copysign(math.inf, effect) if effect else 0.0,
            interval=self._interval(),
            p=self.p(math.copysign(1.0, effect)) if self.judged and self.possible > tolerance else 1.0,
            trials=self.new.size,
            verdict=verdict,
            unit=self.metric.unit,
            measure=self.metric.measure,
        )

    def _interval(self) -> tuple[float, float]:
        if not self.new.size or not (np.isfinite(self.new).all() and np.isfinite(self.old).all()):
            return -math.inf, math.inf
        if np.array_equal(self.new, self.old):
            return 0.0, 0.0
        interval = mean_interval(self.new - self.old)
        return interval.low, interval.high


def _mean(x: NDArray[np.float64]) -> float:
    return float(x.mean()) if x.size else math.nan
