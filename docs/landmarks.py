"""The figures of docs/scores.md, of its picture, and of the module in a tutorial, written from cards.

python docs/landmarks.py                 scores the landmarks and the layer of the tutorial, and writes their figures
python docs/landmarks.py CARD.json ...   writes the figures that these cards have

A figure that a text quotes stands before a comment that says whose it is, and of which score:
``.78<!-- DeltaMemory capacity -->``. Those that no card has stay as they are.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from picture import draw

from memspec.cli import main as memspec
from memspec.commands.base import put_into
from memspec.commands.cards import SCORES_MARK
from memspec.scorecard import figures
from memspec.scorecard.formatting import two_digits
from memspec.scorecard.record import Record, load

DOCS = Path(__file__).resolve().parent
LANDMARKS = [f"memspec.reference:{name}" for name in ("NullMemory", "DeltaMemory", "SoftmaxMemory", "ExactMemory")]
LAYER = "trained.py:Layer"
TUTORIAL = "tutorial-module.md"
QUOTED = ("scores.md", TUTORIAL)
QUOTE = re.compile(r"-?\d*\.\d+(?P<rest>`?<!-- (?P<memory>\w+) (?P<score>\w+) -->)")
FILE = re.compile(r"`(\w+\.py)`:?\n\n```python\n(.*?)```", re.DOTALL)


def scored(plugs: Sequence[str], folder: Path, checks: Sequence[str] = ()) -> list[Record]:
    """The cards of some memories; checks: globs of those that are asked, all of the default tier if there is none."""
    card = folder / "card.json"
    memspec(["score", *plugs, *(f"--checks={glob}" for glob in checks), f"--scorecard={card}"])
    return load(card)


def layer(folder: Path, checks: Sequence[str] = ("capacity/*", "forgetting/*")) -> list[Record]:
    """The card of the tutorial's layer: its files are written into a folder, and it is trained there."""
    for name, text in FILE.findall((DOCS / TUTORIAL).read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with contextlib.chdir(folder):
        return scored([LAYER], folder, checks)


def quoted(text: str, cards: Sequence[Record]) -> str:
    """The text with each figure that it quotes as the cards have it."""
    known = {
        (card.name.rpartition(":")[2], name): two_digits(score["score"])
        for card in cards
        for name, score in card.scores.items()
    }

    def told(found: re.Match[str]) -> str:
        now = known.get((found["memory"], found["score"]))
        return found[0] if now is None else re.sub(r"^(-?)0\.", r"\1.", now) + found["rest"]

    return QUOTE.sub(told, text)


def rewrite(cards: Sequence[Record], docs: Path = DOCS) -> None:
    """Write all figures that the cards have into the documents of a folder; a table and a picture of the landmarks."""
    landmarks = [card for name in LANDMARKS for card in cards if card.name == name]
    if landmarks:
        put_into(docs / "scores.md", SCORES_MARK, figures.scores(landmarks))
        draw(landmarks, docs / "scores.svg")
    for name in QUOTED:
        text = (docs / name).read_text(encoding="utf-8")
        (docs / name).write_text(quoted(text, cards), encoding="utf-8")


def made() -> Iterator[Record]:
    """All cards that the documents need."""
    with tempfile.TemporaryDirectory() as folder:
        yield from scored(LANDMARKS, Path(folder))
        yield from layer(Path(folder))


if __name__ == "__main__":
    given = [card for path in sys.argv[1:] for card in load(Path(path))]
    rewrite(given or list(made()))
