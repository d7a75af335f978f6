"""What a comparison found, as text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from memspec.scorecard.compare import Change, Comparison
from memspec.scorecard.formatting import Line, amount, number


def comparison(result: Comparison, title: str, most: int = 20) -> list[Line]:
    """What a comparison found: effect sizes first, then checks, then whatever is on one side only."""
    if result.refused:
        return [("", ""), (f"{title}: not comparable: {result.refused}", "red bold")]
    worse, better, unclear = result.of("worse"), result.of("better"), result.of("unclear")
    moved = sorted(worse + better + unclear, key=lambda c: -abs(c.effect))
    summary = {0: "no worse", 1: "WORSE", 3: "INCONCLUSIVE"}[result.exit_status]
    style = {0: "green", 1: "red", 3: "yellow"}[result.exit_status]
    lines: list[Line] = [("", ""), (f"{title}: {summary}", f"bold {style}")]
    lines += [(f"  note: {warning}", "yellow") for warning in result.warnings]
    untested = len(result.of("untested"))
    noise = f"{len(result.of('noise'))} as noise moves, " if result.axes else ""
    lines.append(
        (
            f"  {len(result.changes)} metrics paired: {len(worse)} worse, {len(better)} better, {len(unclear)} unclear, "
            f"{len(result.of('same'))} within {result.tolerance:g}, {noise}{untested} not gated (without a direction, times, or by the policy: {result.policy})",
            "",
        )
    )
    lines += [(f"  axis {move}", "" if move.no_worse else "yellow") for move in result.axes]
    groups = _together(moved)
    lines += [
        (f"  {change_line(c, along)}", {"worse": "red", "better": "green"}.get(c.verdict, "yellow"))
        for c, along in groups[:most]
    ]
    if len(groups) > most:
        lines.append((f"  and {len(groups) - most} smaller moves", ""))
    for name, (before, now) in sorted(result.checks.items()):
        style = "red" if now == "fail" else "green" if now == "pass" else "yellow"
        lines.append((f"  check {name}: {before} -> {now}", style))
    lines += _one_side("checks of the old record that this one lacks", result.checks_gone, "yellow")
    lines += _one_side("checks that the old record lacks", result.checks_new, "")
    lines += _one_side(
        "metrics of the old record that this one lacks", dict.fromkeys(result.metrics_gone, ""), "yellow"
    )
    lines += _one_side("metrics that the old record lacks", dict.fromkeys(result.metrics_new, ""), "")
    return lines


def change_line(c: Change, along: Sequence[Change] = ()) -> str:
    """One metric's move, effect first; ``along`` are metrics of the same setting that moved with it."""
    size = abs(c.effect)
    by = f" by {size:.1%}" if size < 10 else f" by {number(size)} times the old value" if math.isfinite(size) else ""
    moved = f"{'worse' if c.effect < 0 else 'better'}{by}{' (unclear)' if c.verdict == 'unclear' else ''}"
    others = f"; likewise {', '.join(o.metric for o in along)}" if along else ""
    return (
        f"{moved}: {c.name} {amount(c.old, c.unit)} -> {amount(c.new, c.unit)} "
        f"(difference {number(c.interval[0])} to {number(c.interval[1])}, p {c.p:.2g} by the signs of {c.trials} paired trials"
        f"{others})"
    )


def _together(moved: Iterable[Change]) -> list[tuple[Change, list[Change]]]:
    """Moves, each with those that say the same: one measure, one setting, one direction and verdict."""
    groups: dict[tuple[Any, ...], list[Change]] = {}
    for c in moved:
        alike = (c.measure, c.verdict, c.effect < 0) if c.measure else (c.metric,)
        groups.setdefault((c.experiment, c.setting, *alike), []).append(c)
    return [(mine[0], mine[1:]) for mine in groups.values()]


def _one_side(title: str, items: dict[str, str], style: str, most: int = 12) -> list[Line]:
    if not items:
        return []
    lines: list[Line] = [(f"  {len(items)} {title}:", f"bold {style}".strip())]
    lines += [(f"    {name}{f' ({why})' if why else ''}", style) for name, why in list(items.items())[:most]]
    if len(items) > most:
        lines.append((f"    and {len(items) - most} more", style))
    return lines
