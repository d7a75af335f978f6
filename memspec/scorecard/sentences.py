"""What a memory is strong and weak in, a sentence each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from memspec.judging.check import KINDS
from memspec.scorecard.formatting import two_digits
from memspec.scorecard.record import Record

NEAR = 0.005
"""A score this near to 1 is shown as 1.00."""


def strength(one: Record) -> str:
    """One sentence on what the memory does best; empty where no score was measured."""
    scores = finite_scores(one)
    perfect = [name for name, score in scores.items() if score >= 1 - NEAR]
    if perfect:
        return f"As good as an exact dictionary in {_listed(perfect)}."
    if not scores:
        return ""
    best = max(scores, key=lambda name: scores[name])
    return f"Strongest in {_told(one, best)}."


def weakness(one: Record) -> str:
    """One sentence on what is wrong with the memory, else on what it does worst."""
    failed = [check for check in one.checks if check.status == "fail"]
    if failed:
        tally = [(kind, sum(check.kind == kind for check in failed)) for kind in KINDS]
        broken = ", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in tally if n)
        first = min(failed, key=lambda check: (KINDS.index(check.kind), check.axis != "laws", check.id))
        return f"It fails {broken}; first {first.id}."
    scores = finite_scores(one)
    if not scores:
        return "No score was measured."
    worst = min(scores, key=lambda name: scores[name])
    if scores[worst] >= 1 - NEAR:
        return "No score is below that of an exact dictionary."
    return f"Weakest in {_told(one, worst)}." if len(scores) > 1 else "Nothing else was scored."


def finite_scores(one: Record) -> dict[str, float]:
    """The scores that are numbers."""
    scores = {name: float(score["score"]) for name, score in one.scores.items()}
    return {name: score for name, score in scores.items() if math.isfinite(score)}


def _told(one: Record, name: str) -> str:
    score = one.scores[name]
    low, high = (float(end) for end in score["interval"])
    interval = f" ({two_digits(low)} to {two_digits(high)})" if math.isfinite(low) and math.isfinite(high) else ""
    what = str(score.get("description", "")).partition(";")[0].partition(". ")[0]
    return f"{name}, {two_digits(score['score'])}{interval}{f': {what}' if what else ''}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
