"""The scorecard as pages, from templates: one HTML file that needs nothing beside it, or Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from memspec.failure import printable
from memspec.judging.check import Check
from memspec.scorecard import overview, render, sentences
from memspec.scorecard.formatting import amount, number, short_names, two_digits
from memspec.scorecard.record import STATUSES, Record

if TYPE_CHECKING:
    import jinja2


LIGHT = (
    *("#0072b2", "#d55e00", "#1ea587", "#c33cff", "#78001e", "#3c00a5"),
    *("#a587d2", "#a51e00", "#965a69", "#3c0fe1", "#5a0069", "#693c78"),
)
DARK = (
    *("#56b4e9", "#e69f00", "#a5d296", "#e14ba5", "#9678ff", "#876900"),
    *("#b40fb4", "#3cff1e", "#ffc3ff", "#008778", "#783cf0", "#a5872d"),
)
"""Twelve colours each: told apart by colour-blind readers, and from the page, as well as seven of Okabe and Ito's are;
found by a search over the sRGB cube for the largest least distance in OKLab as all of them see it. A mark goes with each."""

MARKERS = tuple(
    (shape, hollow)
    for hollow in (False, True)
    for shape in (
        "M-3.5 0A3.5 3.5 0 1 1 3.5 0A3.5 3.5 0 1 1-3.5 0Z",
        "M-3.2-3.2H3.2V3.2H-3.2Z",
        "M0-4.4L4 3H-4Z",
        "M0-4.6L4.6 0L0 4.6L-4.6 0Z",
        "M0 4.4L4-3H-4Z",
        "M-1.4-4.4H1.4V-1.4H4.4V1.4H1.4V4.4H-1.4V1.4H-4.4V-1.4H-1.4Z",
    )
)
"""Path of each mark, and whether it is hollow."""

IN_FULL = 240
"""So many failures have all that is known of them on a page; of the rest it says what was required and what came."""


def page(cards: Sequence[Record]) -> str:
    """The HTML text for one memory, or several side by side."""
    return environment().get_template("card.html").render(**context(cards), **looks(cards))


def looks(cards: Sequence[Record]) -> dict[str, Any]:
    """What the page shows beyond what Markdown does: plots, the profile, the leaderboard, and what the script needs."""
    from memspec.scorecard.pareto import paretos
    from memspec.scorecard.plots import Figure, figures

    by_axis: dict[str, list[Figure]] = {}
    for figure in figures(cards):
        by_axis.setdefault(figure.axis, []).append(figure)
    columns, cells = overview.leaderboard(cards)
    first = next((i for i, column in enumerate(columns) if column.name == overview.RECALL), 0)
    shown = overview.picked(cards) if len(cards) > 1 else range(len(LIGHT))
    return {
        "by_axis": by_axis,
        "paretos": paretos(cards) if len(cards) > 1 else [],
        "profile": overview.profile(cards),
        "columns": columns,
        "cells": cells,
        "best": [overview.best(column, (row[i] for row in cells)) for i, column in enumerate(columns)],
        "first": first,
        "order": overview.ranked(columns, cells, first),
        "verdicts": overview.verdicts(cards),
        "machines": list(dict.fromkeys(overview.machine_of(one) for one in cards)),
        "days": sorted({str(one.made["at"])[:10] for one in cards if one.made.get("at")}),
        "slots": list(zip(shown, range(len(LIGHT)))),
        "full": max(2, IN_FULL // len(cards)),
        "memories": {"names": short_names(cards), "picked": list(shown)},
    }


def fragment(one: Record) -> str:
    """A piece of HTML on one memory, for a notebook: verdict, axes, failures; plots are the page's."""
    verdict, style = render.headline(one)
    failed = render.listed(render.urgent(c for c in one.checks if c.status == "fail"), 160)
    return environment().get_template("fragment.html").render(one=one, verdict=verdict, style=style, failed=failed)


def markdown(cards: Sequence[Record]) -> str:
    """The cards as Markdown tables."""
    columns, cells = overview.leaderboard(cards)
    paid = [(column.name, [row[i].text for row in cells]) for i, column in enumerate(columns) if column.less]
    return environment(as_markdown).get_template("card.md.j2").render(**context(cards), paid=paid)


WORST = ("fail", "not_run", "inconclusive", "skip", "pass", "measured")


MARKDOWN = str.maketrans({"<": "&lt;", "|": "\\|", "`": "\\`", "*": "\\*", "[": "\\[", "]": "\\]", "\n": " "})


def as_markdown(value: Any) -> Any:
    """A text as it must stand in Markdown to mean itself; what a template marks as safe is left alone."""
    from markupsafe import Markup

    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return Markup(printable(value).translate(MARKDOWN))


@cache
def environment(finalize: Callable[[Any], Any] | None = None) -> jinja2.Environment:
    """The templates with the helpers they use; HTML is escaped, and Markdown by ``finalize``."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("memspec.scorecard", "templates"),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
    )
    made.filters |= {
        "number": number,
        "two_digits": two_digits,
        "gist": render.gist,
        "limits": render.limits,
        "about": render.about,
        "headline": lambda one: render.headline(one)[0],
        "axes": render.axes,
        "gate_lines": render.gate_lines,
        "verdict_word": overview.verdict_word,
        "strength": sentences.strength,
        "weakness": sentences.weakness,
        "made": overview.made,
        "machine": overview.machine_of,
        "causes": lambda checks: render.causes(render.urgent(worst_first(checks))),
        "urgent": render.urgent,
        "cost_rows": cost_rows,
        "seen_value": render.seen_value,
        "seen_standing": render.seen_standing,
        "amount": amount,
        "worst_first": worst_first,
        "open": lambda one: [c for c in one.checks if c.status not in ("pass", "measured")],
        "breakable": breakable,
        "within": lambda id, axis: str(id).removeprefix(f"{axis}/"),
        "cell": lambda text: as_markdown(str(text)),
    }
    made.globals |= {"STATUSES": STATUSES, "LIGHT": LIGHT, "DARK": DARK, "MARKERS": MARKERS, "PICKS": overview.PICKS}
    return made


def breakable(name: str) -> Any:
    """A name that may be broken between its words."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[a-z0-9_.:])(?=[A-Z])", name))


def worst_first(checks: Iterable[Check]) -> list[Check]:
    """What failed before what passed, each by id."""
    return sorted(checks, key=lambda c: (WORST.index(c.status), c.id))


def context(cards: Sequence[Record]) -> dict[str, Any]:
    """What both page templates are given."""
    return {
        "cards": cards,
        "heads": short_names(cards),
        "score_names": overview.score_names(cards),
    }


def cost_rows(one: Record) -> list[tuple[str, dict[str, Any]]]:
    """What was measured of the cost, in the record's order: that of the experiments."""
    return [(name, entry) for name, entry in one.cost.items() if isinstance(entry, dict)]
