"""Metrics and experiments say how they are shown: nothing in the scorecard knows one by name, and a stranger's is shown too."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memspec.experiments import catalog
from memspec.experiments.base import Runner
from memspec.metrics import Axis, KeyFigure, Showing, View, metric_from_json
from memspec.plugs.loading import load_plug
from memspec.scorecard import figures, pages
from memspec.scorecard import record as records
from memspec.scorecard.compare import compare
from memspec.scorecard.declared import metric_of, showing_of
from memspec.scorecard.differences import comparison
from memspec.scorecard.panels import panels_of
from memspec.scorecard.plots import figure, keys_of
from memspec.scorecard.record import Record

SCORECARD = Path(records.__file__).parent
WORDS = re.compile(r"\w+(?:\.\w+)*")

ALLOWED = {
    ("badge.py", "error"): "a verdict",
    ("pareto.py", "recall"): "a word of the plots' titles",
    ("picture.py", "b"): "a class of the drawings",
    ("plots.py", "b"): "a class of the drawings",
    ("record.py", "error"): "a verdict",
    ("render.py", "error"): "a verdict",
    ("render.py", "parameters"): "of the memory, not of an experiment",
    ("render.py", "state_bytes"): "of the memory when fresh, not of an experiment",
    ("score.py", "parameters"): "of the memory, not of an experiment",
}
"""Words that name a metric somewhere and mean something else here."""


def names() -> set[str]:
    experiments = catalog.experiments().values()
    return {e.name for e in experiments} | {metric for e in experiments for metric in e.metrics}


def said_in_code(path: Path) -> Iterator[str]:
    """The words of every text in a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield from WORDS.findall(node.value)


def said_in_template(path: Path) -> Iterator[str]:
    """The texts between the marks of a template."""
    for code in re.findall(r"\{[{%](.*?)[}%]\}", path.read_text(encoding="utf-8"), re.DOTALL):
        for text in re.findall(r"\"([^\"]*)\"|'([^']*)'", code):
            yield from WORDS.findall("".join(text))


def test_the_scorecard_knows_no_experiment_and_no_metric_by_name() -> None:
    known = names()
    families = {name.partition(".")[0] + "." for name in catalog.experiments() if "." in name}
    found = {(path.name, word) for path in SCORECARD.glob("*.py") for word in said_in_code(path) if word in known}
    found |= {
        (path.name, w) for path in (SCORECARD / "templates").iterdir() for w in said_in_template(path) if w in known
    }
    prefixes = {(p.name, w) for p in SCORECARD.glob("*.py") for w in said_in_code(p) if w.startswith(tuple(families))}
    assert found | prefixes == set(ALLOWED)


def test_a_name_in_the_code_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text('"""recall"""\nif metric == "recall_cosine" or f"{x}.half_life":\n    """bits"""\n')
    assert set(said_in_code(path)) & names() == {"recall_cosine", "half_life"}
    path.write_text("recall {{ x['sigma50'] }} {% if name == \"bits\" %}")
    assert set(said_in_template(path)) & names() == {"sigma50", "bits"}


@pytest.mark.parametrize("name", sorted(catalog.experiments()))
def test_what_an_experiment_declares_exists_and_survives_json(name: str) -> None:
    experiment = catalog.experiments()[name]
    shown = experiment.showing
    mentioned = {m for view in shown.views for m in view.metrics} | {f.metric for f in shown.figures} | set(shown.cost)
    assert mentioned <= experiment.metrics.keys()
    fields = {f.name for f in dataclasses.fields(experiment.setting)}
    assert {f.along for f in shown.figures} <= {"", *fields}
    assert shown.axis.field in {"", *fields}
    assert Showing.from_json(json.loads(json.dumps(shown.to_json()))) == shown
    for view in shown.views:
        assert len({experiment.metrics[m].unit for m in view.metrics}) == 1, "metrics of one panel share a unit"
    for metric in experiment.metrics.values():
        written = json.loads(json.dumps(records._plain(dataclasses.asdict(metric))))
        assert metric_from_json(written) == metric


def test_all_that_showing_can_say_survives_json() -> None:
    full = Showing(
        Axis("x", "n", "log"),
        (View(("a", "b"), "both", "matrix", Axis("y"), "for readers", ((1.0, 0.5, 0.6),)),),
        (KeyFigure("f", "a", "what", "reach", "n{n}", 2.0, "n", 0.5, 8.0, 3),),
        ("a",),
    )
    assert Showing.from_json(json.loads(json.dumps(full.to_json()))) == full
    assert Showing.from_json({**full.to_json(), "later": 1}) == full, "what a later version adds is no error"


def test_every_metric_of_seconds_or_made_of_them_is_a_timing() -> None:
    metrics = [(n, m) for e in catalog.experiments().values() for n, m in e.metrics.items()]
    assert {n for n, m in metrics if m.timing} >= {n for n, m in metrics if m.unit == "s" or "seconds" in n}
    assert {n for n, m in metrics if m.timing and m.unit != "s"} == {"update_growth", "query_growth"}


# ---- older cards ----------------------------------------------------------------------------------------------


def old_block(experiment: str, metric: str, values: Any, at: Any = None) -> dict[str, Any]:
    """As records were before they said how metrics are shown."""
    told = {"description": "as it was", "low": 0.0, "high": "inf", "better": "down"}
    return {
        "experiment": experiment,
        "setting": "default",
        "fields": {},
        "done": "",
        "first_trial": 0,
        "metrics": {metric: {**told, "at": at, "values": values}},
    }


def test_an_older_card_is_completed_from_the_experiments_at_hand() -> None:
    block = old_block("cost.growth", "update_seconds", [[1.0, 2.0]] * 2, [8.0, 16.0])
    metric = metric_of(block, "update_seconds")
    assert (metric.unit, metric.timing, metric.description) == ("s", True, "as it was")
    assert showing_of(block).axis.label == "pairs stored"
    unknown = old_block("gone", "seconds", [1.0])
    assert metric_of(unknown, "seconds").unit == ""
    assert showing_of(unknown) == Showing()


def test_what_a_card_says_comes_before_what_is_known_today() -> None:
    block = old_block("cost.growth", "update_seconds", [1.0])
    block["metrics"]["update_seconds"]["unit"] = "h"
    block["showing"] = {"axis": {"label": "then"}}
    assert metric_of(block, "update_seconds").unit == "h"
    assert showing_of(block) == Showing(Axis("then"))


# ---- an experiment of the user's own --------------------------------------------------------------------------

OWN = '''
    """An experiment that memspec does not know."""
    from dataclasses import dataclass

    import pytest
    import torch

    from memspec.experiments.base import Curve, Experiment, Setting
    from memspec.judging.verdicts import Bound
    from memspec.metrics import Axis, KeyFigure, Metric, Showing, View

    INF = float("inf")

    @dataclass(frozen=True)
    class Hops(Setting):
        hops: int = 3

    def measure(plug, setting, trials, seed):
        worse = "Worse" in plug.name
        n = len(trials)
        spread = torch.arange(n).double()[:, None] / 100
        return {
            "echo": Curve(torch.linspace(1, 0.5, setting.hops).expand(n, -1) - worse * 0.3, range(setting.hops)),
            "echo_again": Curve(torch.linspace(1, 0.4, setting.hops).expand(n, -1).clone(), range(setting.hops)),
            "luggage": Curve(1024.0 * (1 + 3 * worse) * (1 + spread).expand(n, setting.hops), range(setting.hops)),
            "delay": torch.full((n,), 0.002 * (1 + worse)),
        }

    HOPS = Experiment(
        "mine.hops",
        measure,
        {
            "echo": Metric("share of echoes", label="share that comes back"),
            "echo_again": Metric("share of second echoes", better="none"),
            "luggage": Metric("bytes carried a hop", high=INF, better="down", unit="B"),
            "delay": Metric("seconds a hop", high=INF, better="down", unit="s", timing=True),
        },
        "hopped {hops} times",
        Hops,
        Showing(
            Axis("hops made"),
            (View(("echo", "echo_again"), "echoes", people=((0.0, 0.8, 0.9), (2.0, 0.3, 0.4))),),
            (KeyFigure("luggage KiB", "luggage", "KiB at the second hop", at=1.0, factor=1 / 1024, place=1000),),
            ("delay", "luggage"),
        ),
    )

    @pytest.mark.measurement
    def test_hops(judge):
        judge(HOPS, Hops(), "echo", Bound(at_least=0.1, source="universal floor"), at=1.0, cause="none")
'''

MEMORIES = """
    import torch

    class Good:
        def __init__(self, key_dim, value_dim, capacity):
            self.value_dim = value_dim
        def reset(self):
            pass
        def update(self, keys, values):
            pass
        def query(self, keys):
            return torch.zeros(len(keys), self.value_dim)

    class Worse(Good):
        pass
"""


@pytest.fixture
def cards(folder: Any) -> list[Record]:
    """Good and Worse, read back from the file that a run with the user's own suite wrote."""
    folder.write("mem.py", MEMORIES)
    folder.write("test_mine.py", OWN)
    done = folder.pytest(
        "--memory=mem.py:Good",
        "--memory=mem.py:Worse",
        "--memspec-scorecard=card.json",
        "--memspec-html",
        "--memspec-md",
    )
    assert "written" in done.text, done.text
    assert "mine.hops" not in catalog.experiments()
    return records.load(folder.path / "card.json")


def test_it_is_drawn_as_it_says(cards: list[Record]) -> None:
    echoes, luggage = panels_of(cards[:1])["mine.hops"]
    assert (echoes.metric, echoes.x_label) == ("echoes", "hops made")
    assert {line.label for line in echoes.lines} == {"share that comes back", "echo again"}
    assert {band.label for band in echoes.bands} >= {"people"}
    (_, drawn) = figure(luggage, "mine.hops", ["Good"]).drawings[0]
    assert " kB</text>" in drawn
    (both, _) = panels_of(cards)["mine.hops"]
    assert {(line.memory, line.label) for line in both.lines} == {
        (memory, label) for memory in (0, 1) for label in ("share that comes back", "echo again")
    }
    assert {"share that comes back", "echo again", "people"} <= {key.label for key in keys_of(both)}


def test_it_is_in_the_tables_with_its_units(cards: list[Record]) -> None:
    table = figures.table(cards)
    assert "luggage KiB |" in table.splitlines()[0]
    assert figures.figures(cards[1])["luggage KiB"].value == pytest.approx(4.3, abs=0.01)
    assert [name for name, _ in pages.cost_rows(cards[0])] == ["delay", "luggage"]
    text = pages.markdown(cards[:1])
    assert "| delay | default | 2 ms | seconds a hop |" in text
    assert re.search(r"\| luggage \| default, at 2 \| 1,\d+ B \| bytes carried a hop \|", text)
    assert "2 ms" in pages.page(cards[:1])


def test_it_is_compared_in_its_direction_and_without_its_times(cards: list[Record]) -> None:
    good, worse = cards
    verdicts = {c.metric: c.verdict for c in compare(worse, good).changes}
    assert verdicts == {"echo": "worse", "luggage": "worse", "echo_again": "untested", "delay": "untested"}
    assert {c.metric: c.verdict for c in compare(good, worse).changes}["luggage"] == "better"
    assert any(re.search(r"luggage 1,\d+ B -> 4,\d+ B", line) for line, _ in comparison(compare(worse, good), "title"))


def test_the_example_of_the_documents_is_measured_and_drawn() -> None:
    text = (Path(__file__).parents[2] / "docs" / "suites.md").read_text(encoding="utf-8")
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Showing(" in c]
    made: dict[str, Any] = {"__name__": "documents"}
    exec(compile(code, "docs/suites.md", "exec", dont_inherit=True), made)
    runner = Runner(load_plug("memspec.reference:ExactMemory"))
    runner.curve(made["GROWING"], made["Growing"](), "held")
    one = Record({"plug": "m:M"}, {}, {}, blocks=runner.unsent())
    (panel,) = panels_of([one])["mine.growing"]
    assert (panel.x_label, panel.unit, panel.lines[0].mean[3]) == ("pairs stored", "B", 4 * panel.lines[0].mean[0])
    assert figures.figures(one)["my bytes"].value == panel.lines[0].mean[3]
