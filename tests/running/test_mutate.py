"""Machine-made mutants: the changes, the search for a difference, the processes, and the count."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspec.cli import main
from memspec.commands.base import END_MARK, put_into
from memspec.commands.selfcheck import MUTANTS_MARK
from memspec.errors import MemspecError
from memspec.plugs.loading import as_plug
from memspec.protocol import MemorySpec
from memspec.running import mutate
from memspec.running.mutation import child
from memspec.running.mutation.histories import FINEST, FREE, PLACES, first_difference, histories, shown_in, tolerances

pytest.importorskip("mutmut", reason="mutants are made with memspec[mutate]")
from memspec.running.mutation.operators import changes

SOURCE = '''"""A module."""

import torch

BLOCK = 512
SOUND = MemorySpec(capacity=3)


class Memory(Base):
    """A class."""

    spec = MemorySpec(capacity=4)

    def write(self, state, keys: Tensor, beta=0.5):
        """A method."""
        if beta > 1 and not self.free:
            raise ValueError(f"beta is {beta + 1}")
        keys = keys.detach()
        for i in range(len(keys)):
            state += torch.where(keys[i] < beta, keys[1:i].sum(-1), 0.0)
        return self.kept(state).mT if self.free else state + keys

    def extra_repr(self):
        return 1 + 1
'''


def written(operator: str) -> list[str]:
    """The lines that one operator puts in place of others."""
    diffs = [change.diff("m.py") for change in changes(SOURCE) if change.operator == operator]
    lines = [line for diff in diffs for line in diff.splitlines() if line.startswith("+") and line != "+++ m.py"]
    return [line[1:].strip() for line in lines]


@pytest.mark.parametrize(
    ("operator", "line"),
    [
        ("constant", "BLOCK = 513"),
        ("constant", "BLOCK = 511"),
        ("axis", "state += torch.where(keys[i] < beta, keys[1:i].sum(-2), 0.0)"),
        ("comparison", "if beta >= 1 and not self.free:"),
        ("comparison", "if beta <= 1 and not self.free:"),
        ("negation", "if not (beta > 1 and not self.free):"),
        ("negation", "if beta > 1 and self.free:"),
        ("operator", "if beta > 1 or not self.free:"),
        ("operator", "return self.kept(state).mT if self.free else state - keys"),
        ("branch", "return self.kept(state).mT if (self.free) and False else state + keys"),
        ("term dropped", "if beta > 1:"),
        ("term dropped", "return self.kept(state).mT if self.free else state"),
        ("statement dropped", "pass"),
        ("call left away", "keys = keys"),
        ("call left away", "return self.kept(state) if self.free else state + keys"),
        ("bound by one", "for i in range(len(keys) - 1):"),
        ("bound by one", "state += torch.where(keys[i] < beta, keys[1:i + 1].sum(-1), 0.0)"),
        ("opposite", "state += torch.where(keys[i] < beta, keys[1:i].mean(-1), 0.0)"),
        ("arguments swapped", "state += torch.where(keys[i] < beta, 0.0, keys[1:i].sum(-1))"),
        ("argument left out", "state += torch.where(keys[i] < beta, keys[1:i].sum(-1), )"),
    ],
)
def test_operators_make_the_change_they_are_named_for(operator: str, line: str) -> None:
    assert line in written(operator)


def test_every_change_is_one_and_can_be_compiled() -> None:
    every = changes(SOURCE)
    sources = [change.source() for change in every]
    assert len(set(sources)) == len(sources)
    assert SOURCE not in sources
    for source in sources:
        compile(source, "m.py", "exec")


def test_declarations_defaults_and_messages_are_left_as_they_are() -> None:
    kept = ["SOUND = ", "    spec = ", "    def write(", "raise ValueError", "return 1 + 1", "import torch"]
    for change in changes(SOURCE):
        removed = [line[1:] for line in change.diff("m.py").splitlines()[2:] if line.startswith("-")]
        if change.operator == "statement dropped":  # a guard goes with what it raises
            continue
        assert not [line for line in removed for start in kept if start in line]


def test_a_dropped_assignment_leaves_no_name_unknown() -> None:
    source = "def f(a):\n    b = a\n    a = b\n    return a + b\n"
    dropped = [change.source() for change in changes(source) if change.operator == "statement dropped"]
    assert dropped == ["def f(a):\n    b = a\n    pass\n    return a + b\n"]


# ---- the search -----------------------------------------------------------------------------------------------


class Shelf(nn.Module):
    """Answers with the value of the nearest key; ``defect`` names what is wrong with it."""

    spec = MemorySpec(deterministic=True)
    defect = ""

    def __init__(self, key_dim: int, value_dim: int, capacity: int) -> None:
        super().__init__()
        self.key_dim, self.value_dim, self.most = key_dim, value_dim, capacity
        self.reset()

    def reset(self) -> None:
        self.keys = torch.zeros(0, self.key_dim)
        self.values = torch.zeros(0, self.value_dim)

    def update(self, keys: Tensor, values: Tensor) -> None:
        if self.defect == "keeps the caller's buffer" and len(keys) and not len(self.keys):
            self.keys, self.values = keys, values
            return
        most = self.most + (self.defect == "one too many")
        self.keys = torch.cat((self.keys.to(keys), keys))[-most:].detach().clone()
        self.values = torch.cat((self.values.to(values), values))[-most:].detach().clone()

    def query(self, keys: Tensor) -> Tensor:
        if not len(self.keys):
            return keys.new_zeros(len(keys), self.value_dim)
        if self.defect == "draws":
            torch.rand(1)
        answers = self.values[torch.cdist(keys.to(self.keys), self.keys).argmin(-1)].to(keys.dtype)
        if self.defect == "a long batch":
            answers[500:] = 0
        return answers * (1 + 1e-8) if self.defect == "rounding" else answers


def searched(defect: str) -> str | None:
    """What tells a shelf with a defect from a sound one."""
    sound, other = as_plug(Shelf), as_plug(type("Shelf", (Shelf,), {"defect": defect}))
    for one, nudged in zip(histories(), histories(nudged=True)):
        seen = one.play(sound)
        where = first_difference(seen, one.play(other), tolerances(seen, nudged.play(sound)))
        if where:
            return where
    return None


@pytest.mark.parametrize("defect", ["keeps the caller's buffer", "one too many", "draws"])
def test_the_search_finds(defect: str) -> None:
    assert searched(defect) is not None


@pytest.mark.parametrize("same", ["", "rounding"])
def test_the_search_finds_no_difference_in_rounding(same: str) -> None:
    assert searched(same) is None


@pytest.mark.parametrize(
    ("call", "form", "place"),
    [
        ("query", torch.float32, "answers"),
        ("query", torch.bfloat16, "other formats"),
        ("update (nan)", torch.float32, "the rest"),
        ("functional form", torch.float64, "the functional form"),
        ("slope of an answer", torch.float32, "gradients"),
        ("read_weights", torch.float32, "statistics"),
        ("loss", torch.float32, "the auxiliary loss"),
    ],
)
def test_a_difference_is_named_after_where_it_shows(call: str, form: torch.dtype, place: str) -> None:
    seen = [("format", str(form)), (call, 1)]
    assert shown_in(seen, [seen[0], (call, 2)], [0.0, 0.0]) == (PLACES.index(place), f"call 1: {call}")
    assert shown_in(seen, seen, [0.0, 0.0]) is None


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("loss", 2.0, "the number of the auxiliary loss"),
        ("loss", float("nan"), "the auxiliary loss"),
        ("zero key: query", 2.0, "a key of length zero"),
        ("zero key: query", float("nan"), "answers"),
    ],
)
def test_what_the_contract_leaves_free_is_a_place_of_its_own(name: str, value: float, place: str) -> None:
    """Another finite number is free there; one that is none is not, nor is anything else that differs too."""
    seen = [("format", str(torch.float32)), (name, torch.ones(1)), ("query", torch.ones(1))]
    other = [seen[0], (name, torch.tensor([value])), seen[2]]
    assert shown_in(seen, other, [0.0] * 3) == (PLACES.index(place), f"call 1: {name}")
    assert (place in FREE) == (value == 2)
    found = shown_in(seen, [*other[:2], ("query", torch.zeros(1))], [0.0] * 3)
    assert found is not None
    assert PLACES[found[0]] == "answers"


def test_what_rounding_decides_is_no_difference() -> None:
    """Where nudged keys change an answer wholly, nothing after it counts; where they change it a little, ten times that."""
    large, small = torch.ones(2), torch.full((2,), 1e-9)
    seen = [("a", large), ("b", large), ("c", "word"), ("d", large)]
    nudged = [("a", large), ("b", large + 0.005), ("c", "word"), ("d", small)]
    allowed = tolerances(seen, nudged)
    assert allowed[0] == pytest.approx(FINEST[torch.float32])
    assert allowed[1] == pytest.approx(0.05, rel=1e-3)
    assert allowed[2] == 0
    assert allowed[3] == float("inf")
    assert first_difference(seen, [*seen[:3], ("d", small)], allowed) is None
    assert first_difference(seen, [*seen[:2], ("c", "other"), seen[3]], allowed) == "call 2: c"
    assert first_difference(seen, [("a", large + 0.01), *seen[1:]], allowed) == "call 0: a"


# ---- processes ------------------------------------------------------------------------------------------------

PLUG = "memspec.reference:MatrixAssociativeMemory"
MODULE, PATH = "memspec.reference.memories.matrix", "reference/memories/matrix.py"


def test_a_process_that_hangs_or_dies_is_reported() -> None:
    slow = child.ask(subprocess.run, {"args": [sys.executable, "-c", "import time; time.sleep(60)"]}, 1)
    assert (slow.why, slow.what) == ("time", "no end after 1 s")
    dead = child.ask(os._exit, {"status": 3}, 60)
    assert (dead.why, dead.what) == ("death", "the process ended with code 3")
    with pytest.raises(MemspecError, match="FileNotFoundError"):
        child.ask(os.listdir, {"path": "/no/such/folder"}, 60)


def mutant(old: str, new: str) -> dict[str, Any]:
    """The matrix memory with one change."""
    source = Path(__file__).parents[2].joinpath(PATH).read_text(encoding="utf-8")
    assert source.count(old) == 1
    return {"plug": PLUG, "module": MODULE, "source": source.replace(old, new)}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file that says how the original answers."""
    path = str(tmp_path_factory.mktemp("original") / "look.pt")
    folder = str(Path(__file__).parents[2] / "reference")
    look = child.ask(child.look, {"plug": PLUG, "folder": folder, "path": path}, 300)
    assert [name for name in look["lines"] if name.endswith(PATH)]
    return path


def test_a_mutant_that_is_another_setting_is_free(original: str) -> None:
    """A Hebbian memory that takes keys as they are is the reference with ``key_norm='unit'``; half of it is none."""
    for new, free in (('self.key_norm != "unit"', {"own", "bare"}), ("keys[0, 0] > 0", set())):
        arguments = mutant('self.key_norm == "unit"', new) | {"path": original}
        came = child.ask(child.tell_apart, arguments, 300)
        assert came["outcome"] == "different"
        assert came["free"].keys() == free
        assert not free or "key_norm='unit'" in came["free"]["own"]


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        ("@ state.matrix\n", "@ (state.matrix + 0)\n", "same"),
        ("@ state.matrix\n", "@ (state.matrix + 1e-2)\n", "different"),
        ("@ state.matrix\n", "@ missing\n", "stillborn"),
    ],
)
def test_a_mutant_is_told_from_its_original(original: str, old: str, new: str, outcome: str) -> None:
    assert child.ask(child.tell_apart, mutant(old, new) | {"path": original}, 300)["outcome"] == outcome


@pytest.mark.ci
def test_the_suites_fail_a_mutant_and_not_its_original_and_files_stay_as_they_are() -> None:
    before = Path(__file__).parents[2].joinpath(PATH).read_bytes()
    changed = mutant("@ state.matrix\n", "@ (state.matrix + 1e-2)\n")
    run = child.ask(child.suites, changed, 300)
    assert run["exit"] == 1
    assert len(run["failed"]) == 1
    assert child.ask(child.suites, {"plug": PLUG}, 300)["failed"] == {}
    assert Path(__file__).parents[2].joinpath(PATH).read_bytes() == before


def test_a_bare_memory_promises_nothing_but_is_used_as_before() -> None:
    name = child.load_bare("memspec.reference:HopfieldMemory")
    try:
        bare, own = as_plug(name), as_plug("memspec.reference:HopfieldMemory")
    finally:
        del sys.modules[child.BARE]
    kept = {field: getattr(own.spec, field) for field in ("key_domain", "value_domain", "association", "fidelity")}
    assert bare.spec == MemorySpec(capacity=own.spec.capacity, presentations=own.spec.presentations, **kept)
    assert bare.accepts == own.accepts


# ---- the count ------------------------------------------------------------------------------------------------


def tried(outcome: str, own: str | None = None, bare: str | None = None, operator: str = "axis") -> mutate.Tried:
    killed = {"own": own, "bare": bare} if outcome == "different" else {}
    return mutate.Tried(PLUG, operator, MODULE, 3, "-old\n+new\n", outcome, "answers", "here", killed)


def test_rates_are_shares_of_the_mutants_that_are_told_apart() -> None:
    every = [tried("same"), tried("stillborn", operator="constant")]
    every += [tried("different", "laws/x", "laws/x"), tried("different", "laws/x"), tried("different")]
    found = mutate.Score(every, "memspec selfcheck --mutate", {})
    assert found.rate("own") == pytest.approx(2 / 3)
    assert found.rate("bare") == pytest.approx(1 / 3)
    table = found.markdown().splitlines()
    assert table[0] == "Made by `memspec selfcheck --mutate`."
    assert "| MatrixAssociativeMemory | 5 | 1 | 1 | 3 | 0 | 67% | 0 | 33% |" in table
    assert "| constant | 1 | 1 | 0 | 0 | 0 | - | 0 | - |" in table
    text = "\n".join(line for line, _ in found.lines())
    assert text.count("survives with its own spec") == 1
    assert text.count("survives with the spec taken away") == 2
    assert "+new" in text


def test_what_is_free_counts_for_nothing() -> None:
    free = replace(tried("different"), free={"own": "as another setting"}, killed_by={"bare": "laws/x"})
    found = mutate.Score([free, tried("different", "laws/x")], "memspec selfcheck --mutate", {})
    assert (found.rate("own"), found.rate("bare")) == (1.0, 0.5)
    assert found.survivors("own") == []
    assert "as another setting" in "\n".join(line for line, _ in found.lines())


def ran() -> tuple[list[str], list[int]]:
    """The lines of the matrix memories, and the numbers of two that change a memory."""
    source = Path(mutate.package_folder(), "memories/matrix.py").read_text(encoding="utf-8").splitlines()
    wanted = ("return unit_rows(", "return MatrixState(hebb(")
    return source, [number for number, line in enumerate(source, 1) if line.lstrip().startswith(wanted)]


def test_the_same_seed_draws_the_same_mutants_of_the_lines_that_ran() -> None:
    source, at = ran()
    lines = {"memories/matrix.py": at, "functional.py": [150]}
    original = mutate.Original(PLUG, "", 1.0, lines, {}, {})
    one, two, other = ([c.diff(path) for _, path, c in mutate.drawn(original, seed)] for seed in (0, 0, 1))
    assert one == two
    assert one != other
    assert sorted(one) == sorted(other)
    changed = {
        line for diff in one for line in diff.splitlines() if line.startswith("-") and not line.startswith("---")
    }
    outside = {line for line in changed if not line.startswith("- ")}  # of a module, what runs when it is loaded
    assert changed - outside == {f"-{source[line - 1]}" for line in at}


def test_a_mutant_is_found_again_wherever_its_line_has_gone() -> None:
    original = mutate.Original(PLUG, "", 1.0, {"memories/matrix.py": ran()[1]}, {}, {})
    module, path, change = next(mutate.drawn(original, 0))
    moved = re.sub(r"@@ -\d+", "@@ -2", change.diff(path))
    before = mutate.Tried(PLUG, change.operator, module, 1, moved, "different", "answers", "here")
    found = mutate.changed_as(before)
    assert found.source() == change.source()
    assert mutate.changed_as(replace(before, diff=moved.replace("return", "yield"))) is None


def test_only_survivors_are_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = []

    def fates(original: object, module: str, source: str, forms: list[str]) -> Any:
        run.append((source, forms))
        return {"bare": "laws/new"}, {"bare": "it fails now"}

    change = SimpleNamespace(source=lambda: "changed")
    monkeypatch.setattr(mutate, "timed", lambda plug: mutate.Original(plug, "", 0.0, {}, {}, {}))
    monkeypatch.setattr(mutate, "fates", fates)
    monkeypatch.setattr(mutate, "changed_as", lambda tried: change if tried.operator == "axis" else None)
    gone = tried("different", operator="constant")
    old = mutate.Score(
        [tried("same"), tried("different", "laws/x", "laws/x"), tried("different", "laws/x"), gone], "made so", {}
    )
    assert mutate.Score.from_json(json.loads(json.dumps(old.to_json()))) == old
    new = mutate.survivors_again(old)
    assert run == [("changed", ["bare"])]
    assert [t.killed_by for t in new.counted] == [
        {"own": "laws/x", "bare": "laws/x"},
        {"own": "laws/x", "bare": "laws/new"},
    ]
    assert (new.command, len(new.tried)) == ("made so", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["selfcheck", "--mutate", "--again", "no/such.json"], "--again no/such.json: not what --json wrote"),
        (["selfcheck", "DeltaMemory"], "references are named with --mutate"),
        (
            ["selfcheck", "--mutate", "DeltaMemory", "--sample", "few"],
            "--sample is few; it is a number from 1, or 'all'",
        ),
        (["selfcheck", "--mutate", "NoSuchMemory"], "NoSuchMemory is no reference memory"),
        (["selfcheck", "--mutate", "examples/faiss_index.py:Index"], "is no reference memory"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_table_is_put_between_its_marks(tmp_path: Path) -> None:
    file = tmp_path / "trust.md"
    file.write_text(f"head\n{MUTANTS_MARK}\nold\n{END_MARK}\ntail\n", encoding="utf-8")
    put_into(file, MUTANTS_MARK, "new\n")
    assert file.read_text(encoding="utf-8") == f"head\n{MUTANTS_MARK}\n\nnew\n\n{END_MARK}\ntail\n"
