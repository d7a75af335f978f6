"""The files of a run: found before it begins to be writable and its own, written whatever their text, read with what was damaged told."""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any

import pytest

from memspec.cli import main
from memspec.running.exits import Exit

MEMORY = """
    import torch

    class Good:
        def __init__(self, key_dim, value_dim, capacity):
            self.value_dim = value_dim
        def reset(self):
            pass
        def update(self, keys, values):
            pass
        def query(self, keys):
            if len(keys) == 3:
                raise RuntimeError("bad \\ud800 file name " + "x" * 10**6)
            return torch.zeros(len(keys), self.value_dim)
"""
CHECKS = '''
    import pytest, torch

    @pytest.mark.law
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_rows(plug, n):
        """Some rows."""
        memory = plug.build()
        try:
            assert memory.query(torch.ones(n, 64)).shape == (n, 64)
        except RuntimeError as error:
            raise RuntimeError(error) from error
'''
GOOD = ("--memory=mem.py:Good", "--memspec-scorecard=out/card.json", "-k", "Good-1 or Good-2")


@pytest.fixture
def own(folder: Any) -> Any:
    folder.write("mem.py", MEMORY)
    folder.write("test_own.py", CHECKS)
    (folder.path / "out").mkdir()
    return folder


def refused(folder: Any, *arguments: str) -> str:
    """What a run says that is refused before its first check, and leaves the folder as it is."""
    before = {path: path.lstat().st_mtime_ns for path in (folder.path / "out").rglob("*")}
    done = folder.pytest(*GOOD, *arguments)
    assert done.code == Exit.USAGE, done.text
    assert "test session starts" not in done.text or "passed" not in done.text
    assert {path: path.lstat().st_mtime_ns for path in (folder.path / "out").rglob("*")} == before
    return str(done.text)


def test_a_journal_is_not_written_through_a_link(own: Any) -> None:
    precious = own.write("precious.txt", "precious")
    (own.path / "out" / "card.json.journal").symlink_to(precious)
    assert "card.json.journal is a symbolic link" in refused(own)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    "other", ["--junitxml=out/card.json", "--log-file=out/card.json", "--junitxml=out/../out/card.json.journal"]
)
def test_two_files_of_a_run_are_not_one(own: Any, other: str) -> None:
    assert "name the same file" in refused(own, other)


def test_bounds_are_not_overwritten_by_a_page(own: Any) -> None:
    (own.path / "out" / "card.md").write_text("", encoding="utf-8")
    assert "--memspec-bounds" in refused(own, "--memspec-md", "--memspec-bounds=out/card.md")


def test_a_page_that_cannot_be_written_is_found_before_the_run(own: Any) -> None:
    (own.path / "out" / "card.html").mkdir()
    assert "card.html is a folder" in refused(own, "--memspec-html")
    (own.path / "out" / "card.md").symlink_to("/dev/full")
    assert "card.md is not a regular file" in refused(own, "--memspec-md")


def test_a_card_that_another_run_is_to_write_is_left_to_it(own: Any) -> None:
    journal = own.path / "out" / "card.json.journal"
    with open(journal, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another run is about to write this card" in refused(own)
    assert journal.exists()
    done = own.pytest(*GOOD)
    assert done.code == Exit.OK, done.text
    assert not journal.exists()


def test_text_that_no_encoding_has_is_written_as_escapes(own: Any, capsys: pytest.CaptureFixture[str]) -> None:
    done = own.pytest(*GOOD[:2], "--memspec-md", "--memspec-html")
    assert done.code == Exit.FAILED
    for name in ("card.json", "card.md", "card.html"):
        assert "ud800 file name" in (own.path / "out" / name).read_text(encoding="utf-8")
        assert (own.path / "out" / name).stat().st_size < 500_000
    assert main(["report", "out/card.json", "--md=again.md", "--html=again.html"]) == 0
    card = own.card("out/card.json")
    card["memory"]["plug"] = "\ud800"
    own.write("strange.json", json.dumps(card))
    assert main(["report", "strange.json", "--md=again.md", "--html=again.html"]) == 0
    assert "\\ud800" in capsys.readouterr().out


def journal(folder: Any) -> list[str]:
    """The lines of a run's journal: with the card's place taken meanwhile it stays."""
    out = folder.path / "out"
    folder.write(
        "conftest.py",
        """
        import os
        def pytest_sessionfinish(session):
            os.link("out/card.json.journal", "kept.journal")
        """,
    )
    folder.pytest(*GOOD[:2])
    assert not (out / "card.json.journal").exists()
    return (folder.path / "kept.journal").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: "garbage",
        lambda line: line[: len(line) // 2],
        lambda line: json.dumps({"event": "ended"}),
        lambda line: line.replace('"status": "pass"', '"status": "wonderful"'),
        lambda line: line.replace('"memory": "mem.py:Good"', '"memory": 3'),
        lambda line: "[" * 100_000,
    ],
)
def test_what_is_recovered_says_what_was_left_out(own: Any, damage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = journal(own)
    broken = next(n for n, line in enumerate(lines) if '"ended"' in line)
    lines[broken] = damage(lines[broken])
    (own.path / "damaged.journal").write_text("\n".join(lines) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["recover", "damaged.journal", "--scorecard=recovered.json"]) == 0
    assert f"line {broken + 1} is left out" in capsys.readouterr().err
    statuses = [check["status"] for check in own.card("recovered.json")["checks"]]
    assert sorted(statuses) == ["fail", "not_run", "pass"]


@pytest.mark.parametrize("head", [{"manifest": {}}, {"options": 3}, {"memories": 3}, {"notes": None}])
def test_a_journal_whose_head_is_damaged_is_one_line(own: Any, head: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = journal(own)
    lines[0] = json.dumps({**json.loads(lines[0]), **head})
    (own.path / "damaged.journal").write_text("\n".join(lines) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["recover", "damaged.journal"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert os.path.exists("damaged.journal")


@pytest.mark.parametrize("arguments", [[], ["--nope", "mem.py:Good"], ["mem.py:Good", "--baseline=nowhere.json"]])
def test_wrong_usage_of_score_has_the_code_of_the_table(own: Any, arguments: list[str]) -> None:
    try:
        code = main(["score", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == Exit.USAGE


def test_a_baseline_that_cannot_be_compared_has_its_own_code(own: Any) -> None:
    done = own.pytest(*GOOD)
    assert done.code == Exit.OK, done.text
    done = own.pytest(*GOOD, "--memspec-baseline=out/card.json", "--memspec-seed=3")
    assert done.code == Exit.NOT_COMPARABLE
    assert "was made differently" in done.text
    assert "Traceback" not in done.text
    assert own.card("out/card.json")["signature"]["seed"] == 0  # nothing ran
