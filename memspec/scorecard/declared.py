"""What a record's blocks say about themselves: the metrics they hold, and how their experiment is shown.

A card that was saved before records said so is completed from the experiments at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from memspec.metrics import KeyFigure, Metric, Showing, metric_from_json
from memspec.scorecard.record import Record


def metric_of(block: Mapping[str, Any], name: str) -> Metric:
    """The metric ``name`` of a block; what the record leaves out is the catalogue's, else the default."""
    told = block["metrics"][name]
    if "unit" in told:
        return metric_from_json(told)
    return metric_from_json({**_known_metrics(block["experiment"]).get(name, {}), **told})


def showing_of(block: Mapping[str, Any]) -> Showing:
    """How the block's experiment is shown."""
    if "showing" in block:
        return Showing.from_json(block["showing"])
    from memspec.experiments import catalog

    known = catalog.experiments().get(block["experiment"])
    return known.showing if known else Showing()


def key_figures(cards: Sequence[Record]) -> list[tuple[str, KeyFigure]]:
    """The experiment and the figure of every column: those of all known experiments, and of any that were measured."""
    from memspec.experiments import catalog

    found = {(e.name, f.name): f for e in catalog.experiments().values() for f in e.showing.figures}
    found |= {
        (block["experiment"], figure.name): figure
        for card in cards
        for block in card.blocks
        for figure in showing_of(block).figures
    }
    return sorted(((name, figure) for (name, _), figure in found.items()), key=lambda pair: pair[1].place)


def prices(cards: Sequence[Record]) -> list[tuple[str, KeyFigure]]:
    """The experiment and the figure of whatever is paid for what a memory recalls, if any of the cards has measured it."""
    from memspec.experiments import catalog

    known = [(e.name, f) for e in catalog.experiments().values() for f in e.showing.figures]
    told = [(block["experiment"], f) for card in cards for block in card.blocks for f in showing_of(block).figures]
    found = {(name, f.name): f for name, f in [*known, *told] if f.price}  # an older card does not tell
    measured = {(block["experiment"], metric) for card in cards for block in card.blocks for metric in block["metrics"]}
    found = {key: f for key, f in found.items() if (key[0], f.metric) in measured}
    return sorted(((name, figure) for (name, _), figure in found.items()), key=lambda pair: pair[1].place)


def cost_names() -> list[str]:
    """What a cost section always names: the costs that the known experiments measure, in their order."""
    from memspec.experiments import catalog

    return list(dict.fromkeys(name for e in catalog.experiments().values() for name in e.showing.cost))


@cache
def _known_metrics(experiment: str) -> Mapping[str, dict[str, Any]]:
    from memspec.experiments import catalog

    known = catalog.experiments().get(experiment)
    return {name: dataclasses.asdict(metric) for name, metric in known.metrics.items()} if known else {}
