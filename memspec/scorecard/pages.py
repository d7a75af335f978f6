"""The scorecard as pages, from templates: one self-contained HTML file (no scripts, plots inside), or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from memspec.failure import printable
from memspec.scorecard import render
from memspec.scorecard.formatting import amount, number, short_names, two_digits
from memspec.scorecard.record import STATUSES, Record

if TYPE_CHECKING:
    import jinja2


def page(cards: Sequence[Record]) -> str:
    """The HTML text for one memory, or several side by side."""
    from memspec.scorecard.plots import figures

    return environment().get_template("card.html").render(**context(cards), figures=figures(cards))


def fragment(one: Record) -> str:
    """A piece of HTML on one memory, for a notebook: verdict, axes, failures; plots are the page's."""
    verdict, style = render.headline(one)
    failed = render.listed(render.urgent(c for c in one.checks if c.status == "fail"), 160)
    return environment().get_template("fragment.html").render(one=one, verdict=verdict, style=style, failed=failed)


def markdown(cards: Sequence[Record]) -> str:
    """The cards as Markdown tables."""
    return environment(as_markdown).get_template("card.md.j2").render(**context(cards))


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
        "urgent": render.urgent,
        "cost_rows": cost_rows,
        "seen_value": render.seen_value,
        "seen_standing": render.seen_standing,
        "amount": amount,
        "worst_first": lambda checks: sorted(checks, key=lambda c: (WORST.index(c.status), c.id)),
        "cell": lambda text: as_markdown(str(text)),
        "place": lambda x: min(max(100 * float(x), 0.0), 100.0),
    }
    made.globals["STATUSES"] = STATUSES
    return made


def context(cards: Sequence[Record]) -> dict[str, Any]:
    """What both page templates are given."""
    tallies = [{row["axis"]: row["tally"] for row in render.axes(one) if row["tally"]} for one in cards]
    return {
        "tallies": tallies,
        "axis_names": sorted({axis for rows in tallies for axis in rows}, key=lambda a: (a != "laws", a)),
        "cards": cards,
        "heads": short_names(cards),
        "score_names": list(dict.fromkeys(axis for one in cards for axis in one.scores)),
    }


def cost_rows(one: Record) -> list[tuple[str, dict[str, Any]]]:
    """What was measured of the cost, in the record's order: that of the experiments."""
    return [(name, entry) for name, entry in one.cost.items() if isinstance(entry, dict)]
