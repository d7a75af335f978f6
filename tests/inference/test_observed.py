"""What is observed of memories: the promises that hold, the evidence, and a spec that passes when it is pasted."""

from __future__ import annotations

import dataclasses

import pytest

from memspec.inference.observed import read, written
from memspec.plugs.loading import load_plug
from memspec.protocol import MemorySpec, Size, Widths
from memspec.running.selfcheck import run_plan
from memspec.scorecard import render
from tests.conftest import Folder

DROPS = """
    import torch
    from memspec.fixtures.plain import PlainRing
    from memspec import MemorySpec

    class Head(PlainRing):
        spec = MemorySpec()
        def update(self, keys, values):
            super().update(keys[: self.capacity], values[: self.capacity])

    class Declared(Head):
        spec = MemorySpec(write="joint")
"""


@pytest.mark.parametrize(
    "spec",
    [
        MemorySpec(),
        MemorySpec(family="delta", beta=0.5, differentiable=frozenset({"query", "keys"}), exact=True, capacity=8),
        MemorySpec(widths=Widths(square=True, key_dim=Size(multiple_of=8)), capabilities={"Confident": False}),
    ],
)
def test_a_written_spec_reads_as_itself(spec: MemorySpec) -> None:
    assert read(written(spec)) == spec


@pytest.mark.parametrize(
    "text", ["__import__('os').getcwd()", "MemorySpec(write=sorted)", "3", "MemorySpec(wide=1)", ""]
)
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


def test_a_spec_on_the_command_line_is_what_memories_are_held_to(folder: Folder) -> None:
    arguments = ["--pyargs", "memspec.suites", "--memory=memspec.fixtures.plain:PlainSums", "-q"]
    asked = folder.pytest(*arguments, "--memspec-checks=claims/overwrite", "--memspec-spec=MemorySpec(overwrite='add')")
    assert asked.code == 0
    broken = folder.pytest(
        *arguments, "--memspec-checks=claims/overwrite", "--memspec-spec=MemorySpec(overwrite='replace')"
    )
    assert broken.code == 1
    wrong = folder.pytest(*arguments, "--memspec-spec=MemorySpec(overwrite='swap')")
    assert wrong.code == 4
    assert "it must be one of replace, add, blend, none" in wrong.text


@pytest.mark.slow
def test_plain_memories_are_described_as_what_they_are() -> None:
    """Bare sums are seen to be Hebbian, a bare list to be an exact store, a delta rule to have its step."""
    sums, store, delta = (
        "memspec.fixtures.plain:PlainSums",
        "memspec.fixtures.plain:PlainStore",
        "memspec.reference:DeltaMemory(beta=0.5)",
    )
    cards = run_plan({plug: ["observed/*"] for plug in (sums, store, delta)}, 1, ["--memspec-bare"])
    found = {plug: read(card.observed["spec"]) for plug, card in cards.items()}
    assert (found[sums].family, found[sums].write, found[sums].overwrite) == ("hebbian", "set", "add")
    assert (found[delta].family, found[delta].beta, found[delta].overwrite) == ("delta", 0.5, "blend")
    declared = load_plug(store).spec
    same = ("family", "write", "overwrite", "exact", "empty_read", "deterministic", "nonfinite", "constant_state")
    assert {f: getattr(found[store], f) for f in same} == {f: getattr(declared, f) for f in same}
    told = "\n".join(text for text, _ in render.observed(cards[sums]))
    assert "not delta: " in told
    assert "not least_squares: error after 2 showings" in told
    assert "spec = MemorySpec(family='hebbian', write='set'" in told


def test_what_holds_beyond_the_spec_is_an_offer(folder: Folder) -> None:
    """It is on the card and in the summary, and fails nothing."""
    run = folder.pytest(
        *("--pyargs", "memspec.suites", "--memory=memspec.fixtures.plain:PlainRing", "-q"),
        *("--memspec-checks=observed/*", "--memspec-scorecard=card.json"),
    )
    assert run.code == 0
    observed = folder.card()["observed"]
    assert "nonfinite" in observed["offers"]
    assert "write" not in observed["offers"]
    assert "seen to hold, not declared: " in run.text


def test_rows_that_are_dropped_are_advice_or_under_strict_a_failure(folder: Folder) -> None:
    """No sane spec describes a call of which the first rows are kept, where several calls keep the last."""
    folder.write("mine.py", DROPS)
    arguments = ["--pyargs", "memspec.suites", "--memspec-checks=observed/*", "-q", "--memspec-scorecard=card.json"]
    loose = folder.pytest(*arguments, "--memory=mine.py:Head")
    assert loose.code == 0
    assert "of 20 rows in one call, rows [16, 17, 18, 19] leave no trace" in folder.card()["observed"]["advice"][0]
    assert "advice: of 20 rows" in loose.text
    strict = folder.pytest(*arguments, "--memory=mine.py:Head", "--strict")
    assert strict.code == 1
    declared = folder.pytest(*arguments, "--memory=mine.py:Declared")
    assert declared.code == 1


@pytest.mark.slow
def test_the_spec_of_every_reference_passes_when_pasted() -> None:
    """Each with its spec taken away, described, and held to what was described."""
    from memspec.plugs.references import reference_names

    plugs = [f"memspec.reference:{name}" for name in reference_names() if name != "NullMemory"]
    described = run_plan({plug: ["observed/*"] for plug in plugs}, 1, ["--memspec-bare"])
    for plug in plugs:
        spec = described[plug].observed["spec"]
        card = run_plan({plug: ["*"]}, 1, [f"--memspec-spec={spec}"])[plug]
        assert {c.id: c.message for c in card.checks if c.status == "fail"} == {}, (plug, spec)


def test_a_plug_declaring_another_spec_leaves_the_first_alone() -> None:
    plug = load_plug("memspec.fixtures.plain:PlainStore")
    spec = dataclasses.replace(plug.spec, capacity=4)
    other = plug.declaring(spec)
    assert other.spec.capacity == 4
    assert other.shape(6, 5, 16).capacity == 4
    assert plug.shape(6, 5, 16).capacity == 16
