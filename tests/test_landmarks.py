"""docs/landmarks.py writes what stands in the documents: their table, their picture and the figures that texts quote."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from made_cards import memory
from memspec.scorecard.record import Record

DOCS = Path(__file__).resolve().parents[1] / "docs"
WRITTEN = ("scores.md", "scores.svg", "tutorial-module.md")


@pytest.fixture
def landmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("landmarks")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for name in WRITTEN:
        shutil.copy(DOCS / name, tmp_path)
    return tmp_path


def table(folder: Path) -> dict[str, dict[str, str]]:
    """Memory -> score -> figure, as the table of the document has them."""
    text = (folder / "scores.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]
    head, _, *body = rows
    return {name: {row[0]: row[i] for row in body if row[i] != "–"} for i, name in enumerate(head) if i}


def drawn(folder: Path) -> dict[str, dict[str, str]]:
    """The same, as the picture's description has them."""
    text = (folder / "scores.svg").read_text(encoding="utf-8")
    found = re.search(r"<dc:description>(.*?)</dc:description>", text, re.DOTALL)
    assert found is not None
    told: dict[str, dict[str, str]] = json.loads(found[1].replace("&quot;", '"'))
    return told


def quotes(landmarks: Any, folder: Path) -> set[tuple[str, str, str]]:
    """Memory, score and figure of all that texts quote."""
    texts = [(folder / name).read_text(encoding="utf-8") for name in landmarks.QUOTED]
    found = [one for text in texts for one in landmarks.QUOTE.finditer(text)]
    return {(one["memory"], one["score"], one[0].removesuffix(one["rest"])) for one in found}


def test_table_picture_and_texts_have_one_another_s_figures(landmarks: Any) -> None:
    told = table(DOCS)
    assert [f"memspec.reference:{name}" for name in told] == landmarks.LANDMARKS
    assert drawn(DOCS) == told
    found = quotes(landmarks, DOCS)
    assert {"DeltaMemory", "SoftmaxMemory", "Layer"} == {name for name, _, _ in found}
    assert all(figure == told[name][score].removeprefix("0") for name, score, figure in found if name in told)


def test_all_that_cards_have_is_written(landmarks: Any, docs: Path) -> None:
    cards = [memory(name, 0.125 * i, 0.5) for i, name in enumerate((*landmarks.LANDMARKS, landmarks.LAYER))]
    landmarks.rewrite(cards, docs)
    assert table(docs) == drawn(docs)
    assert table(docs)["DeltaMemory"]["capacity"] == "0.12"
    found = quotes(landmarks, docs)
    assert {
        ("DeltaMemory", "capacity", ".12"),
        ("SoftmaxMemory", "capacity", ".25"),
        ("Layer", "capacity", ".50"),
    } <= found
    kept = {one for one in quotes(landmarks, DOCS) if one[1] not in ("capacity", "forgetting")}
    assert kept <= found  # what no card has stays as it is


@pytest.mark.ci
def test_the_landmarks_of_an_axis_are_those_that_the_documents_have(
    landmarks: Any, docs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cards: Sequence[Record] = landmarks.scored(landmarks.LANDMARKS, tmp_path_factory.mktemp("cards"), ["capacity/*"])
    landmarks.rewrite(cards, docs)
    written, there = table(docs), table(DOCS)
    assert {name: set(scores) for name, scores in written.items()} == {name: {"capacity"} for name in there}
    assert written == {name: {"capacity": scores["capacity"]} for name, scores in there.items()}
    assert drawn(docs) == written
    assert quotes(landmarks, docs) == quotes(landmarks, DOCS)


@pytest.mark.ci
def test_the_layer_of_the_tutorial_scores_what_it_says(landmarks: Any, docs: Path, tmp_path: Path) -> None:
    place = tmp_path / "layer"
    place.mkdir()
    landmarks.rewrite(landmarks.layer(place), docs)
    assert quotes(landmarks, docs) == quotes(landmarks, DOCS)
