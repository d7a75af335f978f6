"""Scores over commits, from a folder of cards."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from made_cards import SCORINGS, block, memory, shown
from memspec.cli import main
from memspec.errors import RecordError
from memspec.scorecard import history
from memspec.scorecard import record as records
from memspec.scorecard.origin import made
from memspec.scorecard.record import Record
from memspec.scorecard.score import rescore


@pytest.fixture(autouse=True)
def own_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards are scored again as they are read: by the scores that these cards have."""
    monkeypatch.setattr(history, "rescore", lambda card: rescore(card, SCORINGS))


def kept(folder: Path, day: int, capacity: float, **more: object) -> Record:
    """A card of a commit of that day."""
    one = memory("m:M", capacity)
    one.made = {
        "at": "2026-12-24T00:00:00+00:00",
        "commit": f"{day:02}" * 20,
        "committed": f"2026-11-{day:02}T10:00:00+00:00",
    }
    one.made |= more
    records.save([one], folder / f"{capacity}.json")
    return one


def test_cards_stand_in_the_order_of_their_commits_and_steps_are_told(tmp_path: Path) -> None:
    for day, capacity in ((3, 0.5), (1, 0.9), (2, 0.9001), (4, 0.7)):
        kept(tmp_path, day, capacity)
    (one,) = history.read(tmp_path)
    assert [entry.label for entry in one.entries] == ["01010101", "02020202", "03030303", "04040404"]
    capacity = next(series for series in one.scores if series.name == "capacity")
    assert capacity.values == pytest.approx([0.9, 0.9001, 0.5, 0.7])
    assert [(step.at, step.name, step.new < step.old) for step in one.steps] == [
        (2, "capacity", True),
        (3, "capacity", False),
    ]


def test_a_difference_within_its_noise_is_no_step(tmp_path: Path) -> None:
    cards = []
    for values in ([0.1, 0.5, 0.9, 0.3], [0.5, 0.2, 0.8, 0.5]):
        cards.append(rescore(memory("m:M"), SCORINGS))
        cards[-1].blocks = [block(values, experiment="capacity.exp")]
        rescore(cards[-1], SCORINGS)
    assert list(history._steps(cards)) == []


def test_cards_of_other_streams_are_not_paired(tmp_path: Path) -> None:
    cards = [memory("m:M", 0.2), memory("m:M", 0.9)]
    assert list(history._steps(cards))
    cards[1].signature["seed"] = 7
    assert list(history._steps(cards)) == []


def test_times_are_followed_on_one_machine_at_a_time() -> None:
    cards = [memory("m:M") for _ in range(4)]
    for i, one in enumerate(cards):
        one.blocks[-1]["showing"]["figures"][0]["price"] = "time"
        one.machine["processor"] = ("x86", "arm")[i % 2]
    entries = [history.Entry(one, history.datetime(2026, 11, i + 1), Path("c")) for i, one in enumerate(cards)]
    found = {s.machine: s.at for s in history.history("m:M", entries).paid}
    assert found == {"x86, 2 cores": [0, 2], "arm, 2 cores": [1, 3]}


def test_a_card_without_a_date_is_as_old_as_its_file(tmp_path: Path) -> None:
    for name, seconds in (("a", 2e9), ("b", 1e9)):
        records.save([memory("m:M", 0.5 if name == "a" else 0.9)], tmp_path / f"{name}.json")
        os.utime(tmp_path / f"{name}.json", (seconds, seconds))
    (one,) = history.read(tmp_path)
    assert [entry.file.stem for entry in one.entries] == ["b", "a"]


def test_cards_of_one_day_are_told_apart_by_their_times(tmp_path: Path) -> None:
    times = ("2026-11-21T09:00:00", "2026-11-21T14:05:10", "2026-11-21T14:05:40", "2026-11-22T08:00:00")
    for i, at in enumerate(times):
        kept(tmp_path, 1, 0.9 - i / 10, committed=f"{at}+00:00", commit="")
    found = history.read(tmp_path)
    told = ["2026-11-21 09:00", "2026-11-21 14:05:10", "2026-11-21 14:05:40", "2026-11-22"]
    assert [entry.label for entry in found[0].entries] == told
    assert "4 cards, 2026-11-21 09:00 to 2026-11-22" in "\n".join(line for line, _ in history.terminal(found))
    text = shown(history.page(found))
    assert all(date in text for date in told)


def test_the_command_says_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path, 1, 0.9)
    kept(tmp_path, 2, 0.5, changed=True)
    (tmp_path / "package.json").write_text(json.dumps({"name": "no card"}))
    out = tmp_path / "out.html"
    assert main(["history", str(tmp_path), "--html", str(out)]) == 0
    told = capsys.readouterr().out
    assert "m:M: 2 cards, 01010101 to 02020202" in told
    assert "worse at 02020202: capacity 0.90 -> 0.50 (" in told
    text = out.read_text()
    assert "worse at 02020202" in shown(text)
    assert 'class="step worse"' in text
    assert "with changes" in text


@pytest.mark.parametrize(("name", "said"), [("nowhere", "not a folder"), ("empty", "there is no card in it")])
def test_a_folder_without_cards_says_so(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match=said):
        history.read(tmp_path / name)


def test_a_card_knows_its_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    assert made(tmp_path).keys() == {"at"}
    git("init", "-q")
    assert made(tmp_path).keys() == {"at"}  # no commit yet
    (tmp_path / "mine.py").write_text("a = 1\n")
    git("add", "mine.py")
    git("commit", "-qm", "first")
    told = made(tmp_path)
    assert told["commit"] == git("rev-parse", "HEAD").strip()
    assert told["changed"] is False
    (tmp_path / "mine.py").write_text("a = 2\n")
    assert made(tmp_path)["changed"] is True
