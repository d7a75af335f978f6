"""Tasks done by hand, and tasks learnt: what is asked, how it is counted, and what it is compared with."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspec.errors import CannotMeasure
from memspec.experiments import learning
from memspec.experiments import tasks as axis
from memspec.experiments.base import Runner
from memspec.experiments.learning import LEARNED, Learning, baseline, network
from memspec.experiments.tasks import STORED, Stored
from memspec.fixtures.tasks import courses
from memspec.fixtures.tasks.by_hand import HANDS
from memspec.fixtures.tasks.courses import Course
from memspec.fixtures.tasks.sequences import Bits, Tokens
from memspec.plugs.loading import as_plug, load_plug
from memspec.training.trainer import Progress


def stored(memory: str, task: str, trials: int = 16) -> dict[str, float]:
    measured = axis.measure(load_plug(f"memspec.reference:{memory}"), Stored(task), range(trials), 0)
    return {name: float(values.mean()) for name, values in measured.items()}  # type: ignore[union-attr]


# ---- by hand --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", HANDS)
def test_a_dictionary_answers_every_script(task: str) -> None:
    """What is asked of the sequence by its generator is what a dict of the pairs written says."""
    hand = HANDS[task]
    for seed in range(20):
        script = hand.script(torch.Generator().manual_seed(seed))
        held = dict(zip(script.keys.tolist(), script.values.tolist()))
        assert len(script.keys) == len(script.values) == hand.written
        answers = zip(script.asked.tolist(), script.wanted.tolist(), script.counted.tolist())
        counted = [(key, value) for key, value, counts in answers if counts]
        assert counted
        assert [held[key] for key, _ in counted] == [value for _, value in counted]
        assert all(0 <= value < hand.candidates for _, value in counted)
        assert not hand.keys or max(held) < hand.keys


@pytest.mark.parametrize("task", HANDS)
def test_an_exact_store_is_right_and_zeros_are_at_chance(task: str) -> None:
    exact = stored("ExactMemory", task)
    assert exact["accuracy"] == exact["two_choice"] == 1
    assert exact.get("bits_wrong", 0) == 0
    assert exact.get("kendall", 1) == pytest.approx(1)
    assert stored("NullMemory", task)["two_choice"] == 0.5


def test_counts_are_those_of_plain_loops() -> None:
    """Hebb's rule on the priority sort, row by row in double precision."""
    hand, setting = HANDS["sort"], Stored("sort")
    from memspec import randomness

    keys, values, asked, wanted, _ = randomness.stacked(hand.script, range(4), 0, "tasks.stored", "sort")
    table = hand.value_table("real", 64).double()
    for trial in range(4):
        matrix = torch.zeros(64, 64, dtype=torch.float64)
        for key, value in zip(hand.key_codes(keys[trial], "real", 64).double(), values[trial]):
            matrix += torch.outer(key, table[value])
        right, bits, beaten = 0, 0, 0.0
        for key, want in zip(hand.key_codes(asked[trial], "real", 64).double(), wanted[trial].tolist()):
            scores = [float(key @ matrix @ code) for code in table]
            best = max(range(256), key=scores.__getitem__)
            right += best == want
            bits += bin(best ^ want).count("1")
            beaten += sum(score < scores[want] for score in scores) / 255
        plug = load_plug("memspec.reference:MatrixAssociativeMemory")
        came = axis.measure(plug, setting, [trial], 0)
        assert float(came["accuracy"]) == right / 16  # type: ignore[arg-type]
        assert float(came["bits_wrong"]) == bits  # type: ignore[arg-type]
        assert float(came["two_choice"]) == pytest.approx(beaten / 16)  # type: ignore[arg-type]


def test_answers_that_are_not_finite_are_wrong() -> None:
    class Infinite:
        def __init__(self, key_dim: int, value_dim: int) -> None:
            self.value_dim = value_dim

        def reset(self) -> None: ...
        def update(self, keys: Tensor, values: Tensor) -> None: ...
        def query(self, keys: Tensor) -> Tensor:
            return torch.full((len(keys), self.value_dim), torch.inf)

    came = axis.measure(as_plug(Infinite), Stored("copy"), [0, 1], 0)
    assert came["accuracy"].tolist() == came["two_choice"].tolist() == [0, 0]  # type: ignore[union-attr]
    assert came["bits_wrong"].tolist() == [160, 160]  # type: ignore[union-attr]


def test_symbols_need_codes_of_their_own() -> None:
    with pytest.raises(CannotMeasure, match="256 symbols have no distinct sign values of width 4"):
        STORED.run(load_plug("memspec.reference:BidirectionalMemory(value_dim=4)"), Stored("copy"), [0])


def test_priorities_near_each_other_have_codes_near_each_other() -> None:
    first = torch.tensor([0.3, 0.3 + 0.02, 0.3 + 0.2])
    codes = HANDS["sort"].key_codes(first, "real", 256)
    assert codes.norm(dim=-1).tolist() == pytest.approx([1] * 3)
    assert float(codes[0] @ codes[1]) == pytest.approx(0.607, abs=0.1)  # exp(-1/2), from 64 random frequencies
    assert abs(float(codes[0] @ codes[2])) < 0.3


# ---- courses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", courses.TASKS)
@pytest.mark.parametrize("size", [courses.small, courses.full])
def test_a_guess_is_as_wrong_as_is_said(task: str, size: Any) -> None:
    """Bits are even, tokens even among those that are ever asked for."""
    course: Course = size(task, 64)
    for number, draw in course.exams.items():
        batches = [draw(torch.Generator().manual_seed(seed)) for seed in range(20)]
        if isinstance(batches[0], Bits):
            # set bits a sequence: half of all, but for an end marker
            drawn = torch.stack([batch.targets[batch.asked].sum() / 64 for batch in batches]).mean()
            slack = 0.05 * course.chance[number] + (task == "repeat-copy")
            assert float(drawn) == pytest.approx(course.chance[number], abs=slack)
        elif task == "memorisation":  # of whose tokens a dictionary uses some more than once
            assert course.chance[number] == pytest.approx(1 - 1 / (course.outputs // 2 - 1))
        else:
            kinds = torch.cat([batch.targets[batch.asked] for batch in batches]).unique()
            assert course.chance[number] == pytest.approx(1 - 1 / len(kinds))


def test_small_courses_and_full_ones_have_the_same_names() -> None:
    assert tuple(courses._SMALL) == tuple(courses._FULL) == (*courses.TASKS, *courses.REASONING)
    assert tuple(HANDS) == courses.TASKS


# ---- learning -------------------------------------------------------------------------------------------------

TINY: dict[str, Any] = {"hidden_size": 12, "memory_dim": 6, "memory_size": 8}


def count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("task", courses.TASKS)
def test_the_lstm_has_as_many_parameters(task: str) -> None:
    course = courses.full(task)
    model = network(load_plug("memspec.reference:DeltaMemory"), course, 0)
    assert count(baseline(course, count(model), 0, 64)) == pytest.approx(count(model), rel=0.02)


@pytest.mark.parametrize("task", ["copy", "mqar", "compression"])
@pytest.mark.parametrize("plug", ["memspec.reference:DeltaMemory", "memspec.fixtures.plain:PlainSequence"])
def test_networks_take_what_a_task_shows_and_give_what_it_asks(task: str, plug: str) -> None:
    """And the same seed builds the same network."""
    course = courses.small(task)
    batch = course.draw(torch.Generator().manual_seed(0))
    first, second = (network(load_plug(plug), course, 5, **TINY) for _ in range(2))
    ys = [model.run(batch.inputs, model.initial_state(8))[0] for model in (first, second)]  # type: ignore[operator]
    assert ys[0].shape == (*batch.inputs.shape[:2], course.outputs)
    assert torch.equal(*ys)


def test_what_is_compressed_is_in_the_last_output_alone() -> None:
    """Every answer has a gradient to the last step's output, and none to those before."""
    from memspec.networks.readout import PlacedReadout

    class Given(nn.Module):
        def initial_state(self, batch: int) -> None: ...
        def run(self, xs: Tensor, state: None) -> tuple[Tensor, None]:
            return xs, None

    xs = torch.randn(4, 2, 3, requires_grad=True)
    ys = PlacedReadout(Given(), 3, 4, 5).run(xs, None)[0]  # type: ignore[arg-type]
    assert ys.shape == (4, 2, 5)
    slopes = torch.autograd.grad(ys.square().sum(), xs)[0]
    assert not slopes[:-1].any()
    assert slopes[-1].abs().sum(-1).min() > 0
    assert not torch.equal(ys[0], ys[1])  # places are told apart


def test_a_threshold_is_where_the_error_first_came_below_it() -> None:
    setting = Learning(steps=30, batch=4)
    progress = Progress(metrics=[(10, 3.0), (20, 0.9), (30, 2.0)])
    assert learning._threshold(progress, 1.0, setting) == (True, 80)
    assert learning._threshold(progress, 0.5, setting) == (False, 120)


def test_the_loss_at_the_end_is_held_against_that_at_the_beginning() -> None:
    losses = [4.0, 2.0, *[1.0] * 16, 0.5, 1.0]
    assert float(learning._loss_ratio(losses)) == 0.25
    assert float(learning._loss_ratio([2.0, 3.0])) == 1.5


def test_learning_is_measured_by_seed_beside_an_lstm_and_a_guess() -> None:
    """Two trials of a few steps; either alone gives the same numbers."""
    plug, setting = load_plug("memspec.reference:DeltaMemory"), Learning("sort", steps=2, batch=2, **TINY)
    both = LEARNED.run(plug, setting, [0, 1])
    second = LEARNED.run(plug, setting, [1])
    untimed = both[both.metric != "training_seconds"]
    again = second[second.metric != "training_seconds"]
    assert untimed[untimed.trial == 1].value.tolist() == again.value.tolist()
    of = both.groupby("metric").value
    assert of.get_group("chance_error").tolist() == [64, 64]
    assert of.get_group("sequences").tolist() == of.get_group("lstm_sequences").tolist() == [4, 4]
    assert len(of.get_group("learning")) == len(of.get_group("lstm_learning")) == 4
    assert of.get_group("error").between(40, 90).all()
    assert of.get_group("loss_ratio").between(0.5, 1.5).all()
    assert of.get_group("kendall").between(-1, 1).all()
    assert of.get_group("training_seconds").min() > 0


def test_a_bag_of_symbols_is_measured_beside_entailment() -> None:
    """On the formulas it was fitted to, and on others, it is about as wrong as a guess."""
    frame = LEARNED.run(
        load_plug("memspec.reference:DeltaMemory"), Learning("entailment", steps=1, batch=8, **TINY), [0]
    )
    errors = frame[frame.metric == "bag_error"].set_index("at").value
    assert errors.index.tolist() == [1, 2]
    assert errors.between(0.3, 0.7).all()


def test_a_task_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="task is 'juggling'; it must be one of copy,"):
        Learning("juggling")


def test_three_trials_are_run_where_each_takes_minutes() -> None:
    ran: list[int] = []

    def measure(plug: Any, setting: Any, trials: Any, seed: int) -> dict[str, Tensor]:
        ran.extend(trials)
        return {"error": torch.zeros(len(trials))}

    quick = dataclasses.replace(LEARNED, measure=measure)
    runner = Runner(load_plug("memspec.reference:DeltaMemory"))
    assert len(runner.values(quick, Learning(), "error", 3)) == 3
    assert ran == [0, 1, 2]


def test_tokens_are_batches_of_numbers() -> None:
    assert isinstance(courses.small("mqar").draw(torch.Generator()), Tokens)
