"""The picture of README: the scores of some memories beside each other. ``landmarks.py`` draws it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from memspec.scorecard.formatting import short_names, two_digits
from memspec.scorecard.record import Record

COLOURS = ("#999999", "#0072b2", "#e69f00", "#009e73")  # told apart by colour-blind people too


def draw(shown: Sequence[Record], into: Path) -> None:
    """One line an axis, one mark a memory; the file's description holds what is drawn, as JSON."""
    names = list(dict.fromkeys(name for card in shown for name in card.scores))[::-1]
    plt.rcParams |= {"svg.hashsalt": "memspec", "font.size": 9}
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for card, head, colour, mark in zip(shown, short_names(shown), COLOURS, "osD^"):
        at = [(card.scores[name]["score"], row) for row, name in enumerate(names) if name in card.scores]
        axes.plot(*zip(*at), mark, color=colour, label=head, markersize=7, alpha=0.9)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(-0.05, 1.05)
    axes.set_xlabel("score: 0 = a memory that answers zeros, 1 = an exact dictionary")
    axes.grid(axis="both", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    drawn = {
        head: {name: two_digits(score["score"]) for name, score in card.scores.items()}
        for card, head in zip(shown, short_names(shown))
    }
    metadata = {"Date": None, "Description": json.dumps(drawn)}
    figure.savefig(into, metadata=metadata, facecolor="white")
    plt.close(figure)
