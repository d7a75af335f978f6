"""One schema for what is written and read: a damaged card is one line and exit 2, whatever is wrong with it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memspec.cli import main
from memspec.errors import RecordError
from memspec.failure import Failure, printable
from memspec.judging.check import Check
from memspec.scorecard import pages, record
from memspec.scorecard.record import Record
from memspec.scorecard.schema import as_json_schema, checked
from memspec.scorecard.score import rescore

DOCUMENT = Path(__file__).parents[2] / "docs" / "scorecard.schema.json"
HOSTILE = "\x1b]52;c;aGVsbG8=\x07\x1b[31m<script>|`*evil*`\x00\r\n# heading"


def good() -> dict[str, Any]:
    """A small card with something in every part."""
    failure = Failure("laws/shape", "mem:Any", "a rule", "wrong", "right", "a cause", "memspec trial mem:Any x")
    metric = {"description": "d", "low": 0.0, "high": 1.0, "better": "up", "unit": "s"}
    block = {
        "experiment": "capacity.load",
        "setting": "n8",
        "fields": {"n": 8},
        "done": "stored 8 pairs",
        "first_trial": 0,
        "showing": {},
        "metrics": {
            "recall_cosine": {**metric, "at": None, "values": [0.5, 1.0, 0.25]},
            "curve": {**metric, "at": [1.0, 2.0], "values": [[0.5, 1.0], [0.25, 0.75], [1.0, 1.0]]},
        },
    }
    one = Record(
        {
            "plug": "mem:Any",
            "package": "mem",
            "version": "1",
            "spec": {"family": "generic", "key_domain": "real", "value_domain": "real"},
            "capabilities": ["Functional"],
            "parameters": 0,
            "shape": {"key_dim": 64, "value_dim": 64, "capacity": 128},
            "state_bytes": 10,
            "device": "cpu",
        },
        {"memspec": "0.1.0", "seed": 0, "tier": "default", "dtype": "float32", "device": "cpu", "torch": "2"},
        {"processor": "x", "cores": 2},
        [
            Check("laws/shape", "law", "laws").failed(failure),
            Check("capacity/recall/n8", "measurement", "capacity", "pass"),
        ],
        {"claims/split": "it promises nothing"},
        blocks=[block],
    )
    return checked(json.loads(json.dumps(rescore(one).to_json())))


def paths(thing: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a tree of dicts and lists."""
    inner = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    return [at] * bool(at) + [path for key, value in inner for path in paths(value, (*at, key))]


GOOD = good()
PATHS = paths(GOOD)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.just(10**400),
    st.just("nan"),
    st.just(-1e308),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just({"a": 1}),
    st.just(HOSTILE),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(where=st.lists(st.sampled_from(PATHS), min_size=1, max_size=2), how=JUNK, drop=st.booleans())
@example(where=[("memory", "spec")], how=None, drop=False)  # what a memory that was refused has
@example(where=[("memory", "spec")], how=None, drop=True)
def test_a_damaged_card_is_one_line(tmp_path_factory: pytest.TempPathFactory, where: Any, how: Any, drop: bool) -> None:
    """Shown, compared and tabled, or refused with a line that names the file: never a traceback, never "worse" by accident."""
    card = copy.deepcopy(GOOD)
    for path in where:
        owner = card
        try:
            for key in path[:-1]:
                owner = owner[key]
            if drop:
                del owner[path[-1]]
            else:
                owner[path[-1]] = copy.deepcopy(how)
        except (KeyError, IndexError, TypeError):  # the first damage took the place of the second
            continue
    folder = tmp_path_factory.mktemp("cards")
    damaged, sound = folder / "damaged.json", folder / "sound.json"
    damaged.write_text(json.dumps(card), encoding="utf-8")
    sound.write_text(json.dumps(GOOD), encoding="utf-8")
    for command in (
        ["report", str(damaged), "--md", str(folder / "out.md")],
        ["compare", str(sound), str(damaged)],
        ["table", str(damaged)],
    ):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(command)
        assert "\x1b]" not in out.getvalue() + err.getvalue()
        assert code in (0, 1, 2, 3, 4)
        if code == 2:
            assert len(err.getvalue().strip().splitlines()) == 1
            assert "damaged.json" in err.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c.pop("checks"), "checks"),
        (lambda c: c["checks"][0].update(status="fine"), "checks[0].status"),
        (lambda c: c["memory"].update(plug=3), "memory.plug"),
        (lambda c: c["measurements"][0]["metrics"]["curve"]["values"].append([1.0]), "metrics.curve.values"),
        (lambda c: c["measurements"][0].update(first_trial=-1), "measurements[0].first_trial"),
        (lambda c: c.update(schema="memspec-scorecard/9"), "memspec-scorecard/9"),
    ],
)
def test_what_is_wrong_is_named(damage: Any, said: str) -> None:
    card = copy.deepcopy(GOOD)
    damage(card)
    with pytest.raises(RecordError, match=said.replace("[", r"\[")):
        checked(card)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c["counts"].update({"pass": 99}), "counts.pass: it says 99"),
        (lambda c: c["counts"].update(wonderful=2), "counts.wonderful: it says 2"),
        (lambda c: c.update(verdict="pass"), "verdict: it says 'pass'"),
        (lambda c: c.update(made={"at": "yesterday"}), "made.at: Invalid"),
        (lambda c: c["checks"][1].update(estimate=float("nan")), "checks[1].estimate: a bare NaN"),
        (lambda c: c["checks"][1].update(status="wonderful"), "checks[1].status"),
        (lambda c: c["checks"][1].update(bound={"source": "s", "at_least": "nan"}), "checks[1].bound.at_least"),
        (lambda c: c["measurements"][0]["metrics"]["curve"].update(low=float("inf")), "curve.low: a bare"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, said: str
) -> None:
    card = copy.deepcopy(GOOD)
    damage(card)
    file = tmp_path / "card.json"
    file.write_text(json.dumps(card), encoding="utf-8")
    assert main(["report", str(file)]) == 2
    assert main(["compare", str(file), str(file)]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert str(file) in first
    assert said in first
    assert said in second


def test_one_memory_or_one_key_stands_there_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "card.json"
    file.write_text(json.dumps({"schema": GOOD["schema"], "cards": [GOOD, GOOD]}), encoding="utf-8")
    assert main(["report", str(file)]) == 2
    assert "cards[1].memory.plug: mem:Any stands there twice" in capsys.readouterr().err
    file.write_text(json.dumps(GOOD).replace('"verdict": "fail"', '"verdict": "fail", "verdict": "fail"'))
    assert main(["report", str(file)]) == 2
    assert "verdict: the key stands there twice" in capsys.readouterr().err


def test_what_is_written_is_held_to_it_too(tmp_path: Path) -> None:
    one = Record.from_json(copy.deepcopy(GOOD))
    one.machine = "a machine"  # type: ignore[assignment]
    with pytest.raises(RecordError, match="machine"):
        record.save([one], tmp_path / "card.json")
    assert not (tmp_path / "card.json").exists()


def test_the_document_is_made_from_it() -> None:
    """Made by ``python -m memspec.scorecard.schema > docs/scorecard.schema.json``."""
    assert json.loads(DOCUMENT.read_text(encoding="utf-8")) == as_json_schema()


def test_foreign_text_stays_text() -> None:
    """In a terminal no sequence acts; in Markdown no tag, table cell or emphasis is made."""
    assert printable("a\x1b]52;c;aGVsbG8=\x07b\x1b[31mc\x1b]0;title\x1b\\d\x00e\n\tf\rg") == "abcde\n\tfg"
    long = printable("x" * 10**7)
    assert len(long) < 21_000
    assert "9,980,000 characters left out" in long
    one = Record.from_json(copy.deepcopy(GOOD))
    one.notes = [HOSTILE]
    one.memory["plug"] = HOSTILE
    text = pages.markdown([one])
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "\n# heading" not in text
