"""The plugin end to end: options, verdicts, exit codes, ids, the record; small suites on small memories."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from memspec.running.exits import Exit

MEMORIES = '''
    import torch
    from memspec import MemorySpec

    class Good:
        """A list of pairs; answers the value of the nearest key."""
        def __init__(self, key_dim, value_dim, capacity):
            self.value_dim = value_dim
            self.reset()
        def reset(self):
            self.pairs = []
        def update(self, keys, values):
            self.pairs += list(zip(keys.clone(), values.clone()))
        def query(self, keys):
            if not self.pairs:
                return torch.zeros(len(keys), self.value_dim)
            known = torch.stack([k for k, _ in self.pairs])
            best = (keys @ known.T).argmax(-1)
            return torch.stack([self.pairs[i][1] for i in best.tolist()]) if len(keys) else torch.zeros(0, self.value_dim)

    class GoodToo(Good):
        pass

    class Worse(Good):
        """Loses every third pair."""
        def update(self, keys, values):
            kept = torch.arange(len(keys)) % 3 != 0
            super().update(keys[kept], values[kept])

    class Zeros(Good):
        def query(self, keys):
            return torch.zeros(len(keys), self.value_dim)

    class Crashing(Good):
        def query(self, keys):
            if len(keys) > 1:  # one pair, as at loading, is answered
                raise RuntimeError("the index is not built")
            return super().query(keys)

    class Dying(Good):
        def query(self, keys):
            import os
            if len(keys) > 1:
                os._exit(3)
            return super().query(keys)
'''

SUITE = '''
    """A small suite."""
    import pytest
    from memspec.errors import CannotMeasure, NotAsked
    from memspec.experiments.capacity import LOAD, Load
    from memspec.judging.verdicts import Bound

    pytestmark = pytest.mark.measurement

    @pytest.mark.parametrize("n", [4, 8], ids="n{}".format)
    def test_recall(judge, n):
        judge(LOAD, Load(n=n, key_dim=16, value_dim=16), "recall_cosine", Bound(at_least=0.5, source="universal floor"), cause="rows get lost")
'''


@pytest.fixture
def suite(folder: Any) -> Any:
    folder.write("mem.py", MEMORIES)
    folder.write("test_small.py", SUITE)
    return folder


def checks(card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["id"]: c for c in card["checks"]}


def test_loading_the_plugin_imports_no_torch() -> None:
    code = (
        "import memspec.plugin, sys; print([m for m in ('torch', 'numpy', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_good_memory_passes_and_the_card_says_all(suite: Any) -> None:
    done = suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=card.json", "--memspec-html", "--memspec-md")
    assert done.code == 0, done.text
    assert "mem.py:Good: PASS (2 passed)" in done.text
    card = suite.card()
    assert card["schema"] == "memspec-scorecard/2"
    assert card["verdict"] == "pass"
    assert card["memory"]["plug"] == "mem.py:Good"
    assert card["memory"]["spec"]["family"] == "generic"
    assert card["memory"]["state_bytes"] == 0
    assert {"memspec", "seed", "alpha", "max_trials", "tier", "dtype", "device", "torch"} <= card["signature"].keys()
    assert {"processor", "cores", "python"} <= card["machine"].keys()
    one = checks(card)["small/recall/n4"]
    assert one["kind"] == "measurement"
    assert one["status"] == "pass"
    assert one["bound"] == {"at_least": 0.5, "at_most": None, "source": "universal floor"}
    assert one["trials"] >= 16
    assert one["interval"][0] >= 0.5
    assert {b["setting"] for b in card["measurements"]} == {"n4-d16", "n8-d16"} or len(card["measurements"]) == 2
    assert "PASS (2 passed)" in (suite.path / "card.md").read_text()
    page = (suite.path / "card.html").read_text()
    assert "PASS (2 passed)" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_broken_memory_fails_with_a_command_that_repeats_the_trial(suite: Any, capsys: Any) -> None:
    done = suite.pytest("--memory=mem.py:Zeros", "--memspec-scorecard=card.json")
    assert done.code == 1
    assert "mem.py:Zeros: FAIL (2 failed)" in done.text
    message = checks(suite.card())["small/recall/n8"]["message"]
    for part in (
        "done:",
        "recall_cosine = 0.1250",
        "expected: ",
        "likely:   rows get lost",
        "repeat:   memspec trial mem.py:Zeros",
    ):
        assert part in message
    from memspec.cli import main

    command = message.splitlines()[-1].partition("memspec ")[2]
    assert main(command.split()) == 0
    assert "recall_cosine" in capsys.readouterr().out


def test_a_crash_fails_with_its_cause(suite: Any) -> None:
    done = suite.pytest("--memory=mem.py:Crashing", "--memspec-scorecard=card.json")
    assert done.code == 1
    assert "2 checks raised RuntimeError: the index is not built: small/recall/" in done.text
    assert checks(suite.card())["small/recall/n4"]["status"] == "fail"


def test_a_worker_that_dies_is_a_failed_check(suite: Any) -> None:
    done = suite.pytest(
        "--memory=mem.py:Dying", "--memspec-scorecard=card.json", "-n1", "--max-worker-restart=1", "-k", "n4"
    )
    assert done.code == 1
    assert checks(suite.card())["small/recall/n4"]["status"] == "fail"
    assert "the process died in this check" in done.text


def test_two_memories_whose_names_begin_alike_have_equal_ids(suite: Any) -> None:
    suite.pytest(
        "--memory=mem.py:Good", "--memory=mem.py:GoodToo", "--memory=mem.py:Good", "--memspec-scorecard=card.json"
    )
    cards = suite.card()["cards"]
    assert [c["memory"]["plug"] for c in cards] == ["mem.py:Good", "mem.py:GoodToo"]
    assert checks(cards[0]).keys() == checks(cards[1]).keys() == {"small/recall/n4", "small/recall/n8"}


def test_inconclusive_is_no_pass_and_fails_only_under_strict(suite: Any) -> None:
    arguments = ("--memory=mem.py:Worse", "--memspec-max-trials=2", "--memspec-scorecard=card.json")
    done = suite.pytest(*arguments)
    assert done.code == 5
    assert "INCONCLUSIVE (2 inconclusive)" in done.text
    assert "2 inconclusive in" in done.text  # pytest's own closing line
    assert " passed in" not in done.text
    assert suite.card()["verdict"] == "inconclusive"
    strict = suite.pytest(*arguments, "--strict")
    assert strict.code == 1
    assert "--strict: these fail the run" in strict.text
    assert checks(suite.card())["small/recall/n4"]["status"] == "inconclusive"
    config = suite.write("pytest.ini", "[pytest]\naddopts = --strict\n")
    assert suite.pytest(*arguments, config=str(config)).code == 1


def test_a_later_pass_does_not_hide_an_inconclusive_verdict(suite: Any) -> None:
    suite.write(
        "test_small.py",
        SUITE
        + """
    def test_both(judge):
        judge(LOAD, Load(n=4, key_dim=16, value_dim=16), "recall_cosine", Bound(at_least=0.99), first=2)
        judge(LOAD, Load(n=4, key_dim=16, value_dim=16), "recall_cosine", Bound(at_least=0.0), first=2)
    """,
    )
    suite.pytest(
        "--memory=mem.py:Good", "--memspec-max-trials=2", "--memspec-scorecard=card.json", "--memspec-checks=small/both"
    )
    assert checks(suite.card())["small/both"]["status"] == "inconclusive"


def test_skips_make_a_card_partial_and_unasked_checks_do_not(suite: Any) -> None:
    suite.write(
        "test_small.py",
        SUITE
        + """
    @pytest.mark.claim
    def test_claim(plug):
        raise NotAsked("it does not claim to be exact")

    def test_sweep(plug):
        if MEASURABLE: raise NotAsked("fine")
        raise CannotMeasure("mem.py:Good does not take memory_dim, so it cannot be varied")

    @pytest.mark.slow
    def test_long(plug):
        pass

    MEASURABLE = False
    """,
    )
    done = suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=card.json")
    assert done.code == 0
    assert "PARTIAL (2 passed, 1 skipped)" in done.text
    assert "small/sweep" in done.text
    assert "2 checks not asked" in done.text
    card = suite.card()
    assert card["not_asked"] == {
        "small/claim": "it does not claim to be exact",
        "small/long": "takes minutes; run with --memspec-full",
    }
    full = suite.pytest("--memory=mem.py:Good", "--memspec-full", "--memspec-scorecard=card.json")
    assert full.code == 0
    assert checks(suite.card())["small/long"]["status"] == "pass"


def test_nothing_measured_is_an_error(suite: Any) -> None:
    suite.write("test_small.py", "import pytest\ndef test_it(plug):\n    pytest.skip('no data here')\n")
    done = suite.pytest("--memory=mem.py:Good")
    assert done.code == 5
    assert "nothing was measured" in done.text
    nothing = suite.pytest("--memory=mem.py:Good", "--memspec-checks=nosuch/*")
    assert nothing.code == 5
    assert "nothing was measured" in nothing.text


def test_a_glob_that_matches_no_check_is_told_with_those_near_it(suite: Any) -> None:
    nothing = suite.pytest("--memory=mem.py:Good", "--memspec-checks=smal/*")
    told = "--memspec-checks: no check matches smal/*; close matches: small/*"
    assert 0 < nothing.text.index(told) < nothing.text.index("nothing was measured")
    one = suite.pytest("--memory=mem.py:Good", "--memspec-checks=small/*", "--memspec-checks=nosuch/*", "-n1")
    assert one.code == 0
    assert "--memspec-checks: no check matches nosuch/*; there are small/*" in one.text
    assert "no check matches" not in suite.pytest("--memory=mem.py:Good", "--memspec-checks=small/*/n4").text


def test_a_selection_makes_a_card_partial(suite: Any) -> None:
    done = suite.pytest("--memory=mem.py:Good", "--memspec-checks=small/*/n4", "--memspec-scorecard=card.json")
    assert done.code == 0
    assert checks(suite.card()).keys() == {"small/recall/n4"}
    assert suite.card()["verdict"] == "partial"
    assert "only a selection ran (--memspec-checks small/*/n4)" in done.text


def test_no_memory_lists_the_references(suite: Any) -> None:
    done = suite.pytest()
    assert done.code == 4
    assert done.text.count("--memory=memspec.reference:DeltaMemory") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory=nosuch:X"], "there is no module 'nosuch'"),
        (["--memory=mem.py:Good", "--memspec-alpha=2"], "between 0 and 1"),
        (["--memory=mem.py:Good", "--memspec-max-trials=0"], "at least 1"),
        (["--memory=mem.py:Good", "--memspec-html"], "add --memspec-scorecard=PATH.json"),
        (["--memory=mem.py:Good", "--memspec-scorecard=card.html"], "the record is JSON"),
        (["--memory=mem.py:Good", "--memspec-baseline=none.json"], "there is no such file"),
        (["--memory=mem.py:Good", "--memspec-bounds=none.toml"], "there is no such file"),
    ],
    ids=["module", "alpha", "trials", "html", "suffix", "baseline", "bounds"],
)
def test_wrong_use_is_one_clear_error(suite: Any, arguments: list[str], said: str) -> None:
    done = suite.pytest(*arguments)
    assert done.code == 4
    assert said in done.text
    assert "Traceback" not in done.text


def test_a_bounds_file_comes_first(suite: Any) -> None:
    suite.write("bounds.toml", '["small/recall/n4"]\nat_least = 0.1\n')
    suite.pytest("--memory=mem.py:Good", "--memspec-bounds=bounds.toml", "--memspec-scorecard=card.json")
    found = checks(suite.card())
    assert found["small/recall/n4"]["bound"]["source"] == "bounds file bounds.toml"
    assert found["small/recall/n8"]["bound"]["source"] == "universal floor"


UNBOUNDED = """
    import pytest
    from memspec.experiments.capacity import LOAD, Load

    pytestmark = pytest.mark.measurement

    def test_open(judge):
        judge(LOAD, Load(n=8), "recall_cosine", cause="a cause", unasked="nothing is required")
"""


def test_a_bounds_file_is_followed_where_nothing_else_is_required(suite: Any) -> None:
    suite.write("test_own.py", UNBOUNDED)
    suite.write("bounds.toml", '["own/open"]\nat_least = 0.9\n')
    done = suite.pytest("test_own.py", "--memory=mem.py:Zeros", "--memspec-scorecard=card.json")
    assert suite.card()["not_asked"] == {"own/open": "nothing is required"}
    done = suite.pytest(
        "test_own.py", "--memory=mem.py:Zeros", "--memspec-bounds=bounds.toml", "--memspec-scorecard=card.json"
    )
    assert done.code == 1
    message = checks(suite.card())["own/open"]["message"]
    assert "by bounds file bounds.toml" in message
    assert "likely" not in message  # a user's own bound may be beyond a sound memory


def test_a_bounds_file_takes_nothing_back(suite: Any) -> None:
    """However little it requires: what the suite requires is judged as well, and laws take no bound."""
    suite.write("bounds.toml", '["*"]\nat_least = -1e9\n')
    done = suite.pytest("--memory=mem.py:Zeros", "--memspec-bounds=bounds.toml", "--memspec-scorecard=card.json")
    assert done.code == 1
    assert checks(suite.card())["small/recall/n4"]["bound"]["source"] == "universal floor"


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ('["no/such"]\nat_least = 1', 'no check that judges a metric matches ["no/such"]'),
        ('["small/plain"]\nat_least = 1', 'no check that judges a metric matches ["small/plain"]'),
        ('["small/*"]\nat_least = nan', "it must be a finite number"),
        ('["small/*"]\nat_most = inf', "it must be a finite number"),
        ('["small/*"]\nat_least = true', "it must be a number"),
        ('["small/*"]\nat_least = 0.5\nshare = -3', "share is -3.0; it must be above 0 and at most 1"),
    ],
    ids=["nothing", "law", "nan", "inf", "bool", "share"],
)
def test_bounds_that_cannot_be_meant_are_refused_before_the_run(suite: Any, bounds: str, said: str) -> None:
    suite.write("test_small.py", SUITE + "\n    @pytest.mark.law\n    def test_plain(plug):\n        pass\n")
    suite.write("bounds.toml", bounds)
    done = suite.pytest("--memory=mem.py:Good", "--memspec-bounds=bounds.toml")
    assert done.code == 4
    assert said in done.text


def test_bounds_that_were_followed_nowhere_are_an_error(suite: Any) -> None:
    unasked = "\n    def test_claim(plug, judge):\n        raise NotAsked('it does not claim it')\n"
    suite.write("test_small.py", SUITE + unasked)
    suite.write("bounds.toml", '["small/claim"]\nat_least = 0.5\n')
    done = suite.pytest("--memory=mem.py:Good", "--memspec-bounds=bounds.toml")
    assert done.code == 4
    assert 'no check that ["small/claim"] matches had a metric judged' in done.text


def test_the_rate_of_a_whole_card_is_shared_by_its_judged_checks(suite: Any) -> None:
    """By all that were collected, so that one repeated alone is judged as it was."""
    suite.pytest("--memory=mem.py:Good", "--memspec-alpha-run=0.05", "--memspec-scorecard=card.json")
    assert {c["alpha"] for c in checks(suite.card()).values()} == {0.025}
    suite.pytest(
        "--memory=mem.py:Good",
        "--memspec-alpha-run=0.05",
        "--memspec-checks=small/recall/n4",
        "--memspec-scorecard=card.json",
    )
    assert {i: c["alpha"] for i, c in checks(suite.card()).items()} == {"small/recall/n4": 0.025}
    both = suite.pytest("--memory=mem.py:Good", "--memspec-alpha-run=0.05", "--memspec-alpha=0.01")
    assert both.code == 4


def test_a_sparse_state_does_not_end_the_run(suite: Any) -> None:
    suite.write(
        "sparse.py",
        """
        import torch

        class Sparse:
            def __init__(self, key_dim, value_dim):
                self.dims = key_dim, value_dim
                self.reset()

            def reset(self):
                self.state = torch.zeros(*self.dims).to_sparse()

            def update(self, keys, values):
                self.state = (self.state.to_dense() + keys.T @ values).to_sparse()

            def query(self, keys):
                return keys @ self.state.to_dense()
        """,
    )
    done = suite.pytest("--memory=sparse.py:Sparse", "--memspec-scorecard=card.json", "--memspec-no-isolate")
    assert done.code == 0
    assert suite.card()["memory"]["state_bytes"] == 0


def test_a_user_file_reuses_a_suite(folder: Any) -> None:
    """`from memspec.suites.test_x import *` with a memory fixture: ids, kinds and record as on the command line."""
    folder.write("mem.py", MEMORIES)
    folder.write(
        "test_mine.py",
        """
        import pytest
        from memspec.suites.test_laws import *
        from memspec.suites.test_capacity import *
        from mem import Good

        @pytest.fixture(scope="session")
        def memory():
            return Good
        """,
    )
    sys.path.insert(0, str(folder.path))
    try:
        done = folder.pytest(
            "--memspec-scorecard=card.json",
            "--memspec-checks=capacity/recall/n8",
            "--memspec-checks=laws/*purity*",
            "--memspec-checks=laws/query*",
        )
    finally:
        sys.path.remove(str(folder.path))
        sys.modules.pop("mem", None)
    assert done.code == 0, done.text
    card = folder.card()
    found = checks(card)
    assert card["memory"]["plug"] == "mem:Good"
    assert found["capacity/recall/n8"]["kind"] == "measurement"
    laws = [c for c in card["checks"] if c["axis"] == "laws"]
    assert laws
    assert {c["kind"] for c in laws} == {"law"}


def test_two_processes_give_the_same_card(folder: Any) -> None:
    arguments = (
        "--pyargs",
        "memspec.suites.test_capacity",
        "--memory=memspec.reference:DeltaMemory",
        "--memory=memspec.reference:NullMemory",
    )
    folder.pytest(*arguments, "--memspec-scorecard=one.json", "--memspec-max-trials=32")
    folder.pytest(*arguments, "--memspec-scorecard=two.json", "--memspec-max-trials=32", "-n2")
    one, two = (json.dumps(untimed(folder.card(name)), indent=0).splitlines() for name in ("one.json", "two.json"))
    assert [pair for pair in zip(one, two) if pair[0] != pair[1]] == []
    assert len(one) == len(two)


def untimed(thing: Any) -> Any:
    """A card without what depends on the clock or the process."""
    if isinstance(thing, dict):
        return {k: untimed(v) for k, v in thing.items() if "seconds" not in k and k not in ("threads", "made")}
    return [untimed(v) for v in thing] if isinstance(thing, list) else thing


def test_a_regression_fails_the_run(suite: Any) -> None:
    suite.write("test_small.py", SUITE.replace("at_least=0.5", "at_least=0.3"))
    suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=old.json")
    gate = ("--memspec-baseline=old.json", "--memspec-gate=all")
    same = suite.pytest("--memory=mem.py:Good", *gate)
    assert same.code == 0
    assert "against old.json: no worse" in same.text
    assert "mem.py:Good: PASS (2 passed)" in same.text
    worse = suite.pytest("--memory=mem.py:Worse", *gate)
    assert worse.code == Exit.WORSE
    assert "mem.py:Worse: WORSE than old.json (2 passed)" in worse.text
    assert "recall_cosine" in worse.text
    tolerated = suite.pytest("--memory=mem.py:Worse", *gate, "--memspec-tolerance=50")
    assert tolerated.code == 0
    ungated = suite.pytest("--memory=mem.py:Worse", gate[0])  # no score is made of this small suite's settings
    assert ungated.code == 0
    suite.write("gate.toml", 'judged = "all"\n[tolerances]\n"capacity.*recall*" = 50\n')
    by_metric = suite.pytest("--memory=mem.py:Worse", gate[0], "--memspec-gate=gate.toml", "--memspec-scorecard=x.json")
    losses = " ".join(suite.card("x.json")["gate"]["losses"])
    assert by_metric.code == Exit.WORSE
    assert "relative_mse" in losses
    assert "recall" not in losses


def test_a_regression_is_the_headline_wherever_a_verdict_is_shown(suite: Any) -> None:
    suite.write("test_small.py", SUITE.replace("at_least=0.5", "at_least=0.3"))
    suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=old.json")
    shown = ("--memspec-scorecard=card.json", "--memspec-html", "--memspec-md", "--junitxml=junit.xml")
    done = suite.pytest("--memory=mem.py:Worse", "--memspec-baseline=old.json", "--memspec-gate=all", *shown)
    assert done.code == Exit.WORSE
    card = suite.card()
    assert card["verdict"] == "worse"
    assert card["gate"]["verdict"] == "worse"
    assert card["gate"]["policy"] == "every metric and check"
    assert any("recall_cosine" in loss for loss in card["gate"]["losses"])
    for name in ("card.md", "card.html", "junit.xml"):
        text = (suite.path / name).read_text().replace("&gt;", ">")
        assert "WORSE than old.json" in text, name
        assert "recall_cosine" in text, name
    junit = ElementTree.parse(suite.path / "junit.xml").getroot().find("testsuite")
    assert junit is not None
    assert junit.get("failures") == "1"
    assert junit.get("tests") == "3"
    from memspec.cli import main

    assert main(["report", "card.json"]) == 0


def test_a_baseline_of_another_torch_python_or_machine_is_compared_with_a_warning(suite: Any) -> None:
    suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=old.json")
    old = suite.card("old.json")
    old["signature"]["torch"] = "1.2.3"
    old["signature"]["python"] = "3.1"
    old["machine"]["processor"] = "abacus"
    suite.write("old.json", json.dumps(old))
    gate = ("--memspec-baseline=old.json", "--memspec-gate=all")
    done = suite.pytest("--memory=mem.py:Good", *gate)
    assert done.code == 0
    assert "torch: " in done.text
    assert "1.2.3 there" in done.text
    assert "the streams are the same" in done.text
    assert "not compared: times, which belong to the machine" in done.text
    assert "not compared: facts" in done.text
    worse = suite.pytest("--memory=mem.py:Zeros", *gate)
    assert worse.code == 1
    assert "WORSE than old.json; FAIL (2 failed)" in worse.text


def test_a_check_missing_from_a_side_is_reported(suite: Any) -> None:
    suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=old.json")
    suite.write("test_small.py", SUITE.replace("[4, 8]", "[4, 16]"))
    done = suite.pytest("--memory=mem.py:Good", "--memspec-baseline=old.json")
    assert "1 checks of the old record that this one lacks" in done.text
    assert "small/recall/n8" in done.text
    assert "1 checks that the old record lacks" in done.text
    assert "small/recall/n16" in done.text


def test_a_baseline_made_otherwise_is_refused(suite: Any) -> None:
    suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=old.json")
    done = suite.pytest("--memory=mem.py:Good", "--memspec-baseline=old.json", "--memspec-seed=1")
    assert done.code == 7
    assert "seed: 1 here, 0 there" in done.text


def test_an_interrupted_run_is_partial(suite: Any) -> None:
    suite.write("test_small.py", SUITE + "\n    def test_z(plug):\n        raise KeyboardInterrupt\n")
    try:
        done = suite.pytest("--memory=mem.py:Good", "--memspec-scorecard=card.json")
    except KeyboardInterrupt:
        pytest.fail("the interrupt was not handled by the inner run")
    assert done.code == 2
    assert suite.card()["verdict"] == "partial"
    assert suite.card()["stopped"] == "the run was interrupted"
    shown = [line for line in done.text.partition("= memspec =")[2].splitlines()[1:] if line]
    assert shown[0].startswith("interrupted: mem.py:Good: PARTIAL ("), done.text
    assert shown[1] == "written: card.json"
    assert "--memspec-resume" in shown[2]
    assert len(shown) == 4  # and pytest's count of its tests


def test_a_memory_whose_checks_had_ended_keeps_its_verdict(suite: Any) -> None:
    last = '\n    def test_z(plug):\n        if plug.name.endswith("Worse"):\n            raise KeyboardInterrupt\n'
    suite.write("test_small.py", SUITE + last)
    suite.pytest("--memory=mem.py:Good", "--memory=mem.py:Worse", "--memspec-scorecard=card.json")
    good, broken = suite.card()["cards"]
    assert (good["verdict"], good["stopped"]) == ("pass", "")
    assert broken["stopped"] == "the run was interrupted"


def test_the_card_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memspec.errors import RecordError
    from memspec.scorecard import files

    path = tmp_path / "card.json"
    path.write_text("old")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(RecordError, match="disk full"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
