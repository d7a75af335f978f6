"""What the documents say holds: their commands are taken, their programs run, their figures are those that commands make."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

import memspec
from memspec.cli import main
from memspec.commands import score
from memspec.judging.bounds import read_bounds
from memspec.scorecard.gate import policy_of
from memspec.training.trainer import MemoryTrainer
from tests.scorecard.test_scorecard import card, check

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
TUTORIALS = ("tutorial-module.md", "tutorial-ci.md", "tutorial-compare.md")
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
BLOCK = re.compile(r"^(?P<before>[^\n]*)\n\n```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL | re.MULTILINE)
PROGRAMS = ("memspec", "pytest", "python", "pip")
FEW = ["--checks=laws/query-repeats", "--checks=capacity/recall/n8"]
"""What a command that runs the suites is cut down to here."""


def commands(text: str) -> list[list[str]]:
    """The words of every command in the indented blocks of a document."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    single = [part.partition("  ")[0] for line in lines for part in line.split("&&")]
    words = [shlex.split(line, comments=True) for line in single if line.strip().startswith(PROGRAMS)]
    return [w for w in words if w]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_that_is_taken(name: str, pytestconfig: pytest.Config) -> None:
    options = {
        n
        for group in [*pytestconfig._parser._groups, pytestconfig._parser._anonymous]
        for o in group.options
        for n in o.names()
    }
    for words in commands((ROOT / name).read_text(encoding="utf-8")):
        program, *arguments = words
        if program == "memspec" and arguments[0] == "score":
            assert score.arguments([a.replace("...", "x:X") for a in arguments[1:]]).plugs, words
        elif program == "memspec":
            with pytest.raises(SystemExit) as ended:  # the command is there, and says how it is used
                main([arguments[0], "--help"] if arguments[0] != "--help" else ["--help"])
            assert ended.value.code == 0, words
        elif program == "pytest":
            given = {a.partition("=")[0] for a in arguments if a.startswith("--")}
            assert given <= options | {"--pyargs"}, words
            for folder in (a for a in arguments if a.partition("/")[0] in ("suites", "tests")):
                assert "Top" in " ".join(arguments) or "pacing" in folder or (ROOT / folder).exists(), words
        elif program == "python" and arguments[0].endswith(".py") and "/" in arguments[0]:
            assert (ROOT / arguments[0]).exists(), words


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_sentence_is_one_that_is_taken(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    for inline in re.findall(r"`((?:memspec|pytest|python) [^`]+)`", text):
        program, first, *rest = shlex.split(inline)
        if program == "memspec":
            with pytest.raises(SystemExit) as ended:
                main([first, "--help"] if first != "--help" else [first])
            assert ended.value.code == 0, inline
            known = capsys.readouterr().out
        elif program == "python":
            known = (ROOT / first).read_text(encoding="utf-8")
        else:
            assert first.startswith("-") or (ROOT / first).exists(), inline
            continue
        options = [word.partition("=")[0] for word in rest if word.startswith("--")]
        assert all(re.search(rf"{option}\b", known) for option in options), inline


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        here = target.replace("https://github.com/memspec/memspec/blob/main/", f"{ROOT}/")
        assert here.startswith("http") or ((ROOT / name).parent / here).exists(), target


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and the packages that snippets call a reader's own."""
    mine, other = ModuleType("mypkg"), ModuleType("otherpkg")
    mine.MyMemory = memspec.load_plug("memspec.reference:DeltaMemory").factory  # type: ignore[attr-defined]

    class VectorStore:
        def __init__(self, key_dim: int, size: int = 0) -> None: ...
        def add(self, keys: Any, values: Any) -> None: ...
        def search(self, keys: Any) -> Any: ...

    other.VectorStore = VectorStore  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mypkg", mine)
    monkeypatch.setitem(sys.modules, "otherpkg", other)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


WITH_PROGRAMS = [
    name
    for name in NAMES
    if "```python" in (ROOT / name).read_text(encoding="utf-8")
    and Path(name).name not in (*TUTORIALS, "contributing.md")
]


@pytest.mark.parametrize("name", WITH_PROGRAMS)
def test_snippets_run(name: str, stubs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other: those that stand on names of the one before have them. A training takes two steps."""
    whole = MemoryTrainer.__init__
    monkeypatch.setattr(
        MemoryTrainer, "__init__", lambda self, model, task, s: whole(self, model, task, replace(s, steps=2))
    )
    module = ModuleType("snippet")
    module.__dict__["torch"] = torch
    monkeypatch.setitem(sys.modules, "snippet", module)
    for block in BLOCK.finditer((ROOT / name).read_text(encoding="utf-8")):
        if block["kind"] == "python":
            source = stubs / "snippet.py"
            source.write_text(block["text"], encoding="utf-8")
            exec(compile(block["text"], str(source), "exec"), module.__dict__)


@pytest.mark.parametrize("name", [n for n in NAMES if "```toml" in (ROOT / n).read_text(encoding="utf-8")])
def test_settings_are_read(name: str, tmp_path: Path) -> None:
    for number, block in enumerate(BLOCK.finditer((ROOT / name).read_text(encoding="utf-8"))):
        if block["kind"] == "toml":
            file = tmp_path / f"{number}.toml"
            file.write_text(block["text"], encoding="utf-8")
            tables = tomllib.loads(block["text"])
            if "judged" in tables:
                assert policy_of(str(file)).judged == tables["judged"]
            elif all(isinstance(table, dict) and "at_least" in table for table in tables.values()):
                assert read_bounds(file)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """A tutorial in its order: ``(file, its text)`` for a program, ``("", command)`` for a command."""
    found = [
        (m.start(), (re.findall(r"`([\w/]+\.py)`", m["before"]) or ["-"])[-1], m["text"]) for m in BLOCK.finditer(text)
    ]
    found += [(m.start(), "", m[1]) for m in re.finditer(r"^    ((?:memspec|pytest|python) .*)$", text, re.MULTILINE)]
    inside = [(m.start(), m.end()) for m in BLOCK.finditer(text)]
    for at, file, what in sorted(found):
        if file or not any(a < at < b for a, b in inside):
            yield file, what


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.ci) for n in TUTORIALS])
def test_tutorials_do_what_they_say(name: str, stubs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From above to below, in one folder; what runs the suites runs a few checks of them."""
    for module in ("mine", "plug", "train", "trained"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for file, what in steps((ROOT / "docs" / name).read_text(encoding="utf-8")):
        if file == "-":
            exec(what, {})
        elif file:
            (stubs / file).write_text(what, encoding="utf-8")
        else:
            carry_out(shlex.split(what), stubs)


def carry_out(words: list[str], folder: Path) -> None:
    """One command, in this process where that is its own."""
    program, *arguments = words
    if program == "python":
        assert 0 < runpy.run_path(str(folder / arguments[0]))["train"](steps=300) < 0.3
    elif program == "pytest":
        given = [a.replace("--memspec-", "--") for a in arguments if a.startswith(("--memory", "--memspec"))]
        plug = given.pop(0).partition("=")[2]
        assert main(["score", plug, *given, *FEW, "-q"]) == 0, words
    elif arguments[0] == "score":
        few = [] if any(a.startswith("--checks") for a in arguments) else FEW
        if "plug.py:Layer" in arguments:
            few = ["--checks=laws/*", "--checks=persistence/*", "--checks=stateful/*", "--checks=adaptation/*"]
        code = main([*arguments, *few, *([] if "-q" in arguments else ["-q"])])
        assert code == ("plug.py:Layer" in arguments), words
        if "plug.py:Layer" in arguments:
            looks_untrained(folder / "first.json")
    else:
        assert main(arguments) in ((0, 1, 3) if arguments[0] == "compare" else (0,)), words


def looks_untrained(path: Path) -> None:
    """Every law holds; what fails is adaptation, and says so."""
    failed = [c for c in json.loads(path.read_text())["checks"] if c["status"] == "fail"]
    assert len(failed) == 3
    assert all(c["id"].startswith("adaptation/") for c in failed)
    assert all(c["failure"]["cause"].startswith("looks untrained") for c in failed)


# ---- the rest -------------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"[\w.]*\.(\w+)$|(\w+)[,\]]", text, re.MULTILINE))
    named = {part for pair in told for part in pair}
    assert set(memspec.__all__) - {"__version__"} <= named
    assert all(hasattr(memspec, name) for name in memspec.__all__)


def test_the_site_has_every_document() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(settings)["strict"] is True
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == set(re.findall(r"[\w-]+\.md", settings))


def test_every_score_of_the_landmarks_is_explained() -> None:
    text = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")
    rows = {row[0].strip() for row in re.findall(r"^\| (\w+) \|(.*)\|$", text, re.MULTILINE)} - {"score"}
    titles = {t.strip() for line in re.findall(r"^## (.*)$", text, re.MULTILINE) for t in line.split(",")}
    assert rows <= titles, "a score without an explanation"


def test_citation_and_changelog_tell_the_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == memspec.__version__
    assert f"## {memspec.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# ---- the gallery ----------------------------------------------------------------------------------------------


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.delitem(sys.modules, "gallery", raising=False)
    import gallery  # type: ignore[import-not-found]

    return gallery


def test_every_adapter_is_in_the_gallery_and_its_table(gallery: Any) -> None:
    files = {path.name for path in (ROOT / "examples").glob("*.py")} - {"gallery.py", "trained.py"}
    assert {entry.file for entry in gallery.ENTRIES} == files
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for entry in gallery.ENTRIES:
        (row,) = [line for line in table.splitlines() if f"({entry.file}):{entry.name} |" in line]
        assert f"`{entry.install}`" in row
        assert entry.found in row
        assert f":{entry.name}" in (ast.get_docstring(ast.parse((ROOT / "examples" / entry.file).read_text())) or "")


def test_the_gallery_joins_the_cards_there_are(gallery: Any, stubs: Path) -> None:
    from memspec.scorecard import record

    entry = gallery.ENTRIES[0]
    (stubs / "gallery").mkdir()
    record.save(
        [card(checks=[check("laws/a", "pass"), check("laws/b", "fail", "lost")])], stubs / "gallery" / entry.card
    )
    readme = stubs / "README.md"
    readme.write_text(f"# mine\n\n{gallery.MARK}\n\n<!-- to here -->\n", encoding="utf-8")
    gallery.score = lambda entry, folder: None  # nothing else is installed
    gallery.main(["--into", str(readme)])
    assert f"({entry.file}):{entry.name} | `{entry.install}` | fail | 1 of 2 |" in readme.read_text(encoding="utf-8")
    assert (stubs / "gallery" / "gallery.html").exists()
