"""The scorecard as one self-contained page: no scripts, no other files, plots inside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from memspec.scorecard import render
from memspec.scorecard.record import STATUSES, Record

if TYPE_CHECKING:
    import jinja2


WORST = ("fail", "inconclusive", "skip", "pass")


@cache
def environment() -> jinja2.Environment:
    """The templates with the helpers they use; HTML is escaped, Markdown is not."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("memspec.scorecard", "templates"),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "number": render.number,
        "two_digits": render.two_digits,
        "gist": render.gist,
        "limits": render.limits,
        "about": render.about,
        "headline": lambda one: render.headline(one)[0],
        "axes": render.axes,
        "urgent": render.urgent,
        "cost_rows": render.cost_rows,
        "amount": render.amount,
        "worst_first": lambda checks: sorted(checks, key=lambda c: (WORST.index(c["status"]), c["id"])),
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
        "place": lambda x: min(max(100 * float(x), 0.0), 100.0),
    }
    made.globals["STATUSES"] = STATUSES
    return made


def page(cards: Sequence[Record]) -> str:
    """The HTML text for one memory, or several side by side."""
    from memspec.scorecard.plots import figures

    return environment().get_template("card.html").render(**render.context(cards), figures=figures(cards))
