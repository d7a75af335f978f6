"""A record as text: the summary in the terminal, and what a check found in one line."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memspec.judging.check import KINDS, Check
from memspec.judging.verdicts import Bound
from memspec.scorecard.formatting import Line, bar, clip, number, short_names, two_digits
from memspec.scorecard.record import STATUSES, Record
from memspec.scorecard.sentences import strength, weakness

STYLE = {"pass": "green", "measured": "", "fail": "red", "inconclusive": "yellow", "skip": "yellow", "not_run": "red"}
MOST_LINES = 12
NOT_REQUIRED = "measured, not required"


# ---- the terminal ---------------------------------------------------------------------------------------------


def terminal(cards: Sequence[Record], *, strict: bool = False) -> list[Line]:
    """The summary of a run: for each memory its verdict, a line an axis, then whatever did not pass."""
    lines: list[Line] = []
    width = columns()
    for one in cards:
        lines += _summary(one, strict, width)
    if len(cards) > 1:
        lines += side_by_side(cards, width)
    return wrapped(lines, width)


def columns() -> int:
    """How wide what is shown may be: as the terminal, within reason."""
    return max(60, min(shutil.get_terminal_size((140, 24)).columns, 140))


def interrupted(cards: Sequence[Record]) -> list[Line]:
    """What a run that was interrupted says: a line a memory."""
    lines = []
    for one in cards:
        begun = len(one.checks) > one.counts["not_run"]
        said, style = headline(one) if begun else ("not begun", "yellow")
        lines.append((f"interrupted: {one.name}: {said}", style))
    return lines


def wrapped(lines: Iterable[Line], width: int) -> list[Line]:
    """The lines, what is longer than ``width`` on further lines that stand farther in."""
    out: list[Line] = []
    for text, style in lines:
        if len(text) <= width:
            out.append((text, style))
            continue
        indent = " " * (len(text) - len(text.lstrip()) + 4)
        parts = textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True)
        out += [(part, style) for part in parts]
    return out


def _summary(one: Record, strict: bool, width: int) -> list[Line]:
    verdict, style = headline(one)
    lines: list[Line] = [("", ""), (f"{one.name}: {verdict}", f"bold {style}"), (f"  {about(one)}", "")]
    lines += [(f"  {line}", "red" if line.startswith(("worse", "and")) else "yellow") for line in gate_lines(one)]
    partial = [*one.notes, *([one.stopped] if one.stopped else [])]
    lines += [(f"  note: {note}; this card is partial", "yellow") for note in partial]
    if one.scores:
        lines.append((f"  {strength(one)} {weakness(one)}", ""))
    if one.refused:
        lines += [(f"  {line}", "red") for line in one.refused.splitlines()]
    elif one.verdict == "error" and not one.decided + one.counts["inconclusive"]:
        lines.append(
            ("  nothing was measured: no check ran to a verdict, so this says nothing about the memory", "red")
        )
    lines += seen(one, width)
    rows = axes(one)
    names = max([len("axis"), *(len(r["name"]) for r in rows)]) + 2
    counts = max([len("checks"), *(len(r["counts"]) for r in rows)]) + 2
    if rows:
        lines.append(
            (f"  {'axis':<{names}}{'checks':<{counts}}score (0 = zeros or chance, 1 = exact dictionary)", "bold")
        )
    for row in rows:
        shown = f"{row['score']:>6}  {row['bar']}  {row['what']}" if row["score"] else ""
        text = f"  {row['name']:<{names}}{row['counts']:<{counts}}{shown}".rstrip()
        lines.append((text if len(text) <= width else text[: width - 1] + "…", row["style"]))
    for status, title in (("fail", "failed"), ("inconclusive", "inconclusive (neither passed nor failed)")):
        found = urgent(c for c in one.checks if c.status == status)
        if not found:
            continue
        lines.append((f"  {title}: {_by_kind(found)}", f"bold {STYLE[status]}"))
        if status == "fail" and found[0].kind == "law" and found[-1].kind != "law":
            lines.append(("    fix the laws first: other failures often follow from them", f"bold {STYLE[status]}"))
        lines += [(f"    {text}", STYLE[status]) for text in listed(found, width - 4)]
        if status == "inconclusive" and strict:
            lines.append(("    --strict: these fail the run", "red"))
    skipped = [c for c in one.checks if c.status == "skip"]
    if skipped:
        lines.append(("  skipped (so this card is partial):", "bold yellow"))
        lines += [(f"    {text}", "yellow") for text in grouped((c.id, c.reason) for c in skipped)]
    not_run = [c for c in one.checks if c.status == "not_run"]
    if not_run:
        lines.append((f"  {len(not_run)} planned checks were not run:", f"bold {STYLE['not_run']}"))
        lines += [(f"    {text}", STYLE["not_run"]) for text in grouped((c.id, c.reason) for c in not_run)]
    if one.not_asked:
        lines.append((f"  {len(one.not_asked)} checks not asked: {_short_reasons(one)}", ""))
    return lines


def seen(one: Record, width: int) -> list[Line]:
    """What was observed beyond what is declared, in a line or two."""
    found = one.observed
    if not found:
        return []
    lines: list[Line] = [(clip(f"  advice: {text}", width), "yellow") for text in found["advice"]]
    offers = [o for o in found["observations"] if o["name"] in found["offers"]]
    if offers:
        told = ", ".join(f"{o['name']}={o['seen']!r}" for o in offers)
        lines.append((clip(f"  seen to hold, not declared: {told} (memspec describe prints the spec)", width), ""))
    return lines


def observed(one: Record) -> list[Line]:
    """All that was observed, with its evidence, and the spec to paste."""
    lines: list[Line] = [("", ""), (one.name, "bold")]
    if not one.observed:
        failed = next((c for c in one.checks if c.status == "fail"), None)
        return [*lines, (f"  nothing was observed: {gist(failed) if failed else 'no check ran'}", "red")]
    for o in one.observed["observations"]:
        value = (
            "" if o["seen"] is None else ", ".join(map(str, o["seen"])) if isinstance(o["seen"], list) else o["seen"]
        )
        told = "declared" if o["declared"] else "holds" if o["promise"] and o["seen"] is not None else ""
        lines.append((f"  {o['name']:<15} {value!s:<14} {told:<9} {o['evidence']}", "green" if told == "holds" else ""))
    lines += [(f"  advice: {text}", "yellow") for text in one.observed["advice"]]
    return [*lines, ("", ""), (f"  spec = {one.observed['spec']}", "bold")]


def seen_value(observation: Mapping[str, Any]) -> str:
    """What was seen, as text; empty where nothing could be told."""
    seen = observation["seen"]
    return "" if seen is None else ", ".join(map(str, seen)) if isinstance(seen, list) else str(seen)


def seen_standing(observation: Mapping[str, Any]) -> str:
    """``declared``, ``holds`` (and could be declared), or nothing."""
    if observation["declared"]:
        return "declared"
    return "holds" if observation["promise"] and observation["seen"] is not None else ""


def headline(one: Record) -> tuple[str, str]:
    """The verdict in words, and its colour."""
    counts = one.counts
    parts = [f"{counts[s]} {_words(s)}" for s in STATUSES if counts[s]]
    verdict = one.verdict.partition(" ")[0]
    style = {"pass": "green", "fail": "red", "error": "red", "worse": "red"}.get(verdict, "yellow")
    said = {"worse": "WORSE than", "inconclusive": "inconclusive against", "not comparable": "NOT COMPARABLE with"}
    gate = said.get(one.gate.get("verdict", ""), "")
    head = f"{gate} {one.gate['baseline']}" if gate else ""
    head = "; ".join(part for part in (head, "" if verdict == "worse" else verdict.upper()) if part)
    return f"{head} ({', '.join(parts) or 'no checks'})", style


def gate_lines(one: Record) -> list[str]:
    """What the comparison with a baseline says: the losses, then what was left out."""
    losses, warnings = one.gate.get("losses", []), one.gate.get("warnings", [])
    shown = [f"worse: {loss}" for loss in losses[:MOST_LINES]]
    more = [f"and {len(losses) - MOST_LINES} more that got worse"] if len(losses) > MOST_LINES else []
    return [*shown, *more, *(f"baseline: {warning}" for warning in warnings)]


def _words(status: str) -> str:
    return {"pass": "passed", "fail": "failed", "skip": "skipped", "not_run": "not run"}.get(status, status)


def about(one: Record) -> str:
    """One line on what the memory is."""
    memory = one.memory
    parts = []
    if memory.get("package"):
        parts.append(" ".join(str(x) for x in (memory["package"], memory.get("version")) if x))
    if memory.get("spec"):
        parts.append(f"family {memory['spec']['family']}")
    shape, sizes = memory.get("shape"), memory.get("sizes")
    if sizes and not shape:
        parts.append("a sequence model, " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    if shape:
        parts.append(f"{shape['key_dim']} -> {shape['value_dim']}, capacity {shape['capacity']}")
    if memory.get("parameters") is not None:
        parts.append(f"{memory['parameters']:,} parameter{'s' * (memory['parameters'] != 1)}")
    if memory.get("state_bytes") is not None:
        parts.append(f"{memory['state_bytes']:,} bytes of state when fresh")
    if memory.get("widths", "any") != "any":
        parts.append(f"widths {memory['widths']}")
    if memory.get("capabilities"):
        parts.append(", ".join(memory["capabilities"]))
    return "; ".join(parts) or "nothing is known about it"


def axes(one: Record) -> list[dict[str, Any]]:
    """A row for each axis: checks by status, and a row for each score (the first beside its checks).

    ``required`` is False where a memory that answers zeros meets all that was asked; such an axis is no pass.
    """
    by_axis: dict[str, list[Check]] = {}
    for check in one.checks:
        by_axis.setdefault(check.axis, []).append(check)
    scores = dict(one.scores)
    rows = []
    for axis in sorted(by_axis, key=lambda a: (a != "laws", a)):
        mine = [name for name in scores if axis_of(name, scores[name], by_axis) == axis]
        tally = {s: sum(c.status == s for c in by_axis[axis]) for s in STATUSES}
        required = any(map(_worth, by_axis[axis])) or not (mine or tally["measured"])
        worst = next((s for s in ("fail", "not_run", "inconclusive", "skip") if tally[s]), "pass")
        counts = " ".join(f"{n} {s}" for s, n in tally.items() if n)
        if worst == "pass" and not required:
            worst, counts = "measured", NOT_REQUIRED
        own = {"name": axis, "axis": axis, "counts": counts, "tally": tally, "style": STYLE[worst]}
        rows.append(own | {"required": required} | _scored(one, mine[:1]))
        rows += [
            {"name": "", "axis": axis, "counts": "", "tally": {}, "style": "", "required": required} | _scored(one, [m])
            for m in mine[1:]
        ]
    rest = [name for name in scores if axis_of(name, scores[name], by_axis) not in by_axis]
    rows += [
        {"name": name, "axis": name, "counts": NOT_REQUIRED, "tally": {}, "style": "", "required": False}
        | _scored(one, [name])
        for name in rest
    ]
    return rows


def _worth(check: Check) -> bool:
    """Whether a check asks of an axis something that a memory which answers zeros lacks: laws are no property of one."""
    return check.kind != "law" and check.status != "measured" and check.required


def axis_of(name: str, score: dict[str, Any], known: Iterable[str]) -> str:
    """The suite axis a score belongs to: by its own name, else by its experiment's."""
    for candidate in (name, re.split(r"[./]", name)[0], score["experiment"].partition(".")[0]):
        if candidate in known:
            return candidate
    return name


def _scored(one: Record, names: Sequence[str]) -> dict[str, Any]:
    if not names:
        return {"score": "", "bar": "", "what": ""}
    score = one.scores[names[0]]
    named = names[0] if names[0] != score["experiment"].partition(".")[0] else ""
    what = ": ".join(p for p in (named, f"{score['metric']} {number(score['raw'])}{_settings(one, names[0])}") if p)
    return {"score": two_digits(score["score"]), "bar": bar(score["score"]), "what": what}


def _settings(one: Record, name: str, most: int = 3) -> str:
    """Which settings a score comes from, where they are fewer than in a full run or the run was restricted."""
    from memspec.experiments.catalog import scorings

    used = list(one.scores[name].get("settings", ()))
    full = next((s.labels for s in scorings() if s.axis == name), None)
    if not used or (set(full) <= set(used) if full else not one.notes or used == ["default"]):
        return ""
    text = ", ".join(used[:most]) + (f" and {len(used) - most} more" if len(used) > most else "")
    return f" (from {text}{' only' if full else ''})"


def urgent(checks: Iterable[Check]) -> list[Check]:
    """Laws first, then claims, then measurements; within a kind the axis ``laws``, then by id."""
    return sorted(checks, key=lambda c: (KINDS.index(c.kind), c.axis != "laws", c.id))


def _by_kind(checks: Sequence[Check]) -> str:
    tally = [(kind, sum(c.kind == kind for c in checks)) for kind in KINDS]
    return ", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in tally if n)


def listed(checks: Sequence[Check], width: int, most: int = MOST_LINES) -> list[str]:
    """A line a check; checks that end in the same exception share one. What is beyond ``most`` is counted."""
    groups = causes(checks)
    lines = []
    for mine in groups[:most]:
        if len(mine) == 1:
            lines.append(clip(f"{mine[0].id}: {gist(mine[0])}", width))
            continue
        few = ", ".join(c.id for c in mine[:3]) + (", ..." if len(mine) > 3 else "")
        head = f"{len(mine)} checks "
        error = f"raised {mine[0].failure.raised}" if mine[0].failure is not None else ""
        lines.append(f"{head}{clip(error, max(width - len(head) - len(few) - 2, 100))}: {few}")
    hidden = sum(len(mine) for mine in groups[most:])
    return lines + [f"... and {hidden} more (pytest shows each in full; --memspec-html lists them)"] * bool(hidden)


def causes(checks: Iterable[Check]) -> list[list[Check]]:
    """The checks, those together that ended in the same exception."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        error = check.failure.raised if check.failure is not None else ""
        groups.setdefault(f"raised {error}" if error else check.id, []).append(check)
    return list(groups.values())


def gist(check: Check) -> str:
    """A check's result in one line: first what was required, then what came."""
    failure = check.failure
    if failure is None:
        return first_line(check.reason)
    if failure.meaning and check.interval and check.bound:  # a judged metric
        low, high = (number(x) for x in check.interval)
        bound, trials = check.bound, check.trials
        required = f"required {check.metric} {limits(bound)}"
        if check.judged == "share":
            return (
                f"{required} in {bound.share:.0%} of the trials; got a median of {number(check.estimate)}, "
                f"met by a share of {low} to {high} ({trials} trials; {bound.source})"
            )
        return f"{required}; got {number(check.estimate)}, between {low} and {high} ({trials} trials; {bound.source})"
    return "; got: ".join(part for part in (clip(first_sentence(failure.rule), 80), first_line(failure.got)) if part)


def first_sentence(text: str) -> str:
    """Up to the first full stop that is none of a number's."""
    return re.split(r"(?<=[^.\d])\.(?:\s|$)", text)[0]


def limits(bound: Bound) -> str:
    """``at least x and at most y``."""
    sides = (("at least", bound.at_least), ("at most", bound.at_most))
    return " and ".join(f"{side} {number(value)}" for side, value in sides if value is not None)


def first_line(text: str) -> str:
    """What a text says first."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def grouped(reasons: Iterable[tuple[str, str]], most: int = 4) -> list[str]:
    """``reason: id, id, ...`` for each different reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons:
        by_reason.setdefault(first_line(reason), []).append(name)
    return [
        f"{reason}: {', '.join(ids[:most])}{f' and {len(ids) - most} more' if len(ids) > most else ''}"
        for reason, ids in by_reason.items()
    ]


def _short_reasons(one: Record) -> str:
    """What the checks that do not apply were waiting for, most frequent first, without the memory's name."""
    tally: dict[str, int] = {}
    for reason in one.not_asked.values():
        short = first_line(reason).removeprefix(one.name).removeprefix(" ").removeprefix("is ")
        tally[short] = tally.get(short, 0) + 1
    ranked = sorted(tally, key=lambda r: (-tally[r], r))
    text = "; ".join(f"{r} ({tally[r]})" for r in ranked[:4])
    return text + (f"; and {len(ranked) - 4} more reasons" if len(ranked) > 4 else "")


def side_by_side(cards: Sequence[Record], width: int) -> list[Line]:
    """The scores of several memories, a row a memory; in several tables where the scores do not fit beside each other."""
    names = list(dict.fromkeys(axis for one in cards for axis in one.scores))
    if not names:
        return []
    heads = short_names(cards)
    first = min(max(map(len, heads)), width // 2) + 2
    lines: list[Line] = [("", ""), ("scores side by side", "bold")]
    while names:
        room, shown = width - first - 2, 0
        while shown < len(names) and (room := room - max(len(names[shown]), 5) - 2) >= 0:
            shown += 1
        block, names = names[: max(shown, 1)], names[max(shown, 1) :]
        lines.append((" " * (first + 2) + "".join(f"{n:>{max(len(n), 5) + 2}}" for n in block), "bold"))
        for one, head in zip(cards, heads):
            cells = [two_digits(one.scores[n]["score"]) if n in one.scores else "-" for n in block]
            text = "".join(f"{c:>{max(len(n), 5) + 2}}" for c, n in zip(cells, block))
            lines.append((f"  {clip(head, first - 2):<{first}}{text}", ""))
    return lines
