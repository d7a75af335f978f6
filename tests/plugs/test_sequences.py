"""Sequence models as plugs: how they are built, adapted, refused, and what they are asked."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import nn

from memspec import adapt, load_plug
from memspec.errors import PlugError
from memspec.plugs.sequences import SIZES
from memspec.running.selfcheck import run_plan
from memspec.scorecard.record import Record

FILE = Path(__file__).parents[1] / "helpers" / "sequences.py"
ADAPTED = ["LSTM", "GRU", "LSTMCell", "GRUCell", "Chunked"]
TWO_LAYERS, BOTH_WAYS = f"{FILE}:LSTM(num_layers=2)", f"{FILE}:LSTM(bidirectional=True)"
STATELESS = f"{FILE}:StateOnly"


@functools.cache
def cards() -> dict[str, Record]:
    plugs = [*(f"{FILE}:{name}" for name in ADAPTED), TWO_LAYERS, BOTH_WAYS, STATELESS]
    return run_plan({plug: ["sequences/*", "world/words"] for plug in plugs}, 1, ["--memspec-no-isolate"])


@pytest.mark.parametrize("plug", [*(f"{FILE}:{name}" for name in ADAPTED), TWO_LAYERS])
def test_torchs_own_pass_every_law_of_sequences(plug: str) -> None:
    statuses = {check.id: check.status for check in cards()[plug].checks}
    assert {id for id, status in statuses.items() if status != "pass"} == set()
    assert len(statuses) >= 12


def test_a_layer_that_reads_the_sequence_from_both_ends_is_not_causal() -> None:
    failed = {check.id for check in cards()[BOTH_WAYS].checks if check.status == "fail"}
    assert failed == {"sequences/causal", "sequences/run-is-steps", "sequences/segments"}


def test_checks_of_three_methods_are_not_asked_of_a_sequence_model() -> None:
    assert set(cards()[TWO_LAYERS].not_asked) == {"world/words"}
    assert "it has no update and no query" in cards()[TWO_LAYERS].not_asked["world/words"]


def test_sizes_are_all_different_and_given_by_name() -> None:
    model = load_plug("memspec.fixtures.plain:PlainSequence").build()
    assert (model.input_size, model.hidden_size, model.output_size) == (6, 12, 5)
    assert len({*SIZES.values()}) == len(SIZES)


def test_a_size_behind_the_name_is_used() -> None:
    plug = load_plug("memspec.fixtures.plain:PlainSequence(hidden_size=3)")
    assert plug.build().hidden_size == 3
    assert "hidden_size" not in plug.sizes


def test_a_model_that_works_with_equal_sizes_only_is_loaded_with_those() -> None:
    assert set(load_plug(f"{FILE}:OnlyEqual").sizes.values()) == {8}


def test_without_a_width_one_message_says_what_to_give() -> None:
    with pytest.raises(PlugError, match="give it an attribute input_size"):
        load_plug(f"{FILE}:Wordless")


def test_a_step_that_gives_no_state_fails_its_laws() -> None:
    failed = {check.id for check in cards()[STATELESS].checks if check.status == "fail"}
    assert "sequences/run-is-steps" in failed


def test_a_header_says_what_it_is() -> None:
    from memspec.running.options import Options
    from memspec.running.session import Session

    session = Session(Options())
    session.load(["memspec.fixtures.plain:PlainSequence"])
    assert (
        "a sequence model (input_size 6, output_size 5, hidden_size 12), Persistent, Recurrent" in session.header()[-1]
    )


def test_adapted_sizes_may_have_other_names() -> None:
    def build(d_model: int) -> nn.Module:
        return nn.GRU(d_model, d_model)

    model = adapt(build, kind="sequence", arguments={"d_model": "input_size"})(input_size=5)
    ys, state = model.run(torch.ones(4, 2, 5), model.initial_state(2))
    assert ys.shape == (4, 2, 5)
    torch.testing.assert_close(state[0], ys[-1])


def test_a_name_that_is_no_size_is_refused() -> None:
    with pytest.raises(PlugError, match="there are input_size"):
        adapt(nn.GRU, kind="sequence", arguments={"input_size": "width"})
