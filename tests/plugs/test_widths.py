"""Widths that a memory cannot have are found out when it is loaded, and none of its checks fails for them."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from memspec import MemorySpec, Size, Widths
from memspec.cli import main
from memspec.errors import CannotMeasure, PlugError
from memspec.experiments.capacity import LOAD, Load
from memspec.experiments.dimensions import TOKEN, Token
from memspec.fixtures.plain import PlainSums
from memspec.plugs.loading import checked, load_plug
from memspec.plugs.plug import Plug, Shape
from memspec.running.repeat import trial_command
from memspec.training.fitting import trainable

PLACE = "memspec.fixtures.widths"
FOUND = {
    "SquareDelta": ("key_dim = value_dim", (6, 6), (64, 64)),
    "EightHeadsDelta": ("multiples of 8", (8, 8), (64, 16)),
    "Only512Softmax": ("512 only", (512, 512), (512, 512)),
    "AtLeast16Delta": ("at least 16", (16, 16), (64, 16)),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(name: str) -> None:
    plug = load_plug(f"{PLACE}:{name}")
    text, small, digits = FOUND[name]
    assert str(plug.widths) == text
    assert plug.widths_found().startswith(f"found: {text} (")
    assert plug.shape(6, 5, 16) == Shape(*small, 16)
    assert plug.shape(64, 10) == Shape(*digits)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.ci if n == "SquareDelta" else pytest.mark.slow) for n in FOUND]
)
def test_sound_memories_pass_the_default_tier_at_the_widths_they_can_have(folder: Any, name: str) -> None:
    run = folder.pytest("--pyargs", "memspec.suites", f"--memory={PLACE}:{name}", "--memspec-scorecard=card.json")
    card = folder.card()
    assert run.code == 0, run.text
    assert {check["status"] for check in card["checks"]} <= {"pass", "measured", "skip", "inconclusive"}
    assert all(check["message"] for check in card["checks"] if check["status"] == "skip")
    assert card["memory"]["widths"].startswith(f"found: {FOUND[name][0]}")
    assert f"  widths found: {FOUND[name][0]}" in run.text


def test_nothing_is_tried_beyond_what_is_asked_where_that_works() -> None:
    built = []

    class Counted(PlainSums):
        def __init__(self, key_dim: int, value_dim: int) -> None:
            built.append((key_dim, value_dim))
            super().__init__(key_dim, value_dim)

    plug = Plug("counted", Counted)
    assert plug.widths == Widths()
    assert plug.widths_found() == "any"
    assert built == [(64, 64), (64, 64), (6, 5)]  # to look at, and the two that are tried
    for _ in range(3):
        plug.shape(64, 10)
    assert built[3:] == [(64, 10)]


def refusing(**sizes: Any) -> type[PlainSums]:
    """A memory that asserts its widths, and takes a capacity."""
    allowed = Widths(**sizes)

    class Refusing(PlainSums):
        tries = 0

        def __init__(self, key_dim: int, value_dim: int, capacity: int) -> None:
            type(self).tries += 1
            assert (key_dim, value_dim) == allowed.nearest(key_dim, value_dim)
            assert capacity == allowed.capacity.nearest(capacity)
            super().__init__(key_dim, value_dim)

    return Refusing


@pytest.mark.parametrize(
    "sizes",
    [
        {"square": True},
        {"square": True, "key_dim": Size(multiple_of=8), "value_dim": Size(multiple_of=8)},
        {"key_dim": Size(multiple_of=4)},
        {"key_dim": Size(multiple_of=12), "value_dim": Size(multiple_of=12)},
        {"value_dim": Size(multiple_of=3)},
        {"key_dim": Size(power_of_two=True), "value_dim": Size(power_of_two=True)},
        {"key_dim": Size(at_least=12), "value_dim": Size(at_most=64)},
        {"key_dim": Size(at_least=48, at_most=48), "value_dim": Size(at_least=48, at_most=48)},
        {"capacity": Size(multiple_of=32)},
        {"capacity": Size(at_least=20)},
        {
            "square": True,
            "key_dim": Size(at_least=16),
            "value_dim": Size(at_least=16),
            "capacity": Size(multiple_of=32),
        },
    ],
    ids=lambda sizes: str(Widths(**sizes)),
)
def test_rules_are_found_in_a_handful_of_builds(sizes: dict[str, Any]) -> None:
    factory = refusing(**sizes)
    plug = checked(Plug("refusing", factory))
    assert str(plug.widths) == str(Widths(**sizes))
    assert factory.tries <= 50
    shape = plug.shape(6, 5, 16)
    assert plug.build(shape).matrix.shape == (shape.key_dim, shape.value_dim)


@pytest.mark.parametrize("sizes", [{"key_dim": Size(multiple_of=2)}, {"capacity": Size(power_of_two=True)}])
def test_what_the_usual_widths_do_not_show_is_met_when_it_is_asked(sizes: dict[str, Any]) -> None:
    plug = checked(Plug("refusing", refusing(**sizes)))
    shape = plug.shape(7, 5, 100)
    assert (shape.key_dim, shape.capacity) == ((8, 100) if "key_dim" in sizes else (7, 128))


class Unable(PlainSums):
    """Fails at every write, whatever the width."""

    def learn(self, keys: Tensor, values: Tensor) -> None:
        raise RuntimeError("the index was not trained")


def test_an_error_at_every_width_is_told_once_as_it_is() -> None:
    with pytest.raises(PlugError, match="RuntimeError: the index was not trained") as caught:
        checked(Plug("unable", Unable))
    assert "whatever the widths" in str(caught.value)


def test_a_constructor_that_refuses_every_width_is_shown_its_first_call() -> None:
    class Never:
        def __init__(self, key_dim: int, value_dim: int) -> None:
            raise OSError("no licence")

    with pytest.raises(PlugError, match=r"(?s)Never\(key_dim=64, value_dim=64\).*OSError: no licence"):
        checked(Plug("never", Never))


def test_declared_widths_are_not_tried() -> None:
    built = []

    class Declared(PlainSums):
        spec = MemorySpec(widths=Widths(square=True, key_dim=Size(multiple_of=4)))

        def __init__(self, key_dim: int, value_dim: int) -> None:
            built.append(key_dim)
            super().__init__(key_dim, value_dim)

    plug = checked(Plug("declared", Declared))
    assert plug.widths_found() == "declared: key_dim = value_dim, multiples of 4"
    assert plug.shape(6, 5, 16) == Shape(8, 8, 16)
    assert set(built) == {64, 8}


def test_a_refused_width_of_a_sweep_is_left_out_with_its_reason() -> None:
    plug = load_plug(f"{PLACE}:AtLeast16Delta")
    measured = TOKEN.run(plug, Token(n=4, capacity=8, dims=(8, 16, 32)), range(2))
    assert set(measured["at"].dropna()) == {16.0, 32.0}
    with pytest.raises(CannotMeasure, match="cannot have keys of width 8; the nearest is 16"):
        plug.needs_widths(8)
    with pytest.raises(CannotMeasure, match="one key_dim only"):
        load_plug(f"{PLACE}:Only512Softmax").needs_free("key_dim")


def test_square_shapes() -> None:
    class Values12(PlainSums):
        def __init__(self, key_dim: int, value_dim: int) -> None:
            if value_dim != 12:
                raise ValueError("values have 12 entries")
            super().__init__(key_dim, value_dim)

    plug = checked(Plug("values12", Values12))
    assert plug.shape(64, 64) == Shape(64, 12)
    assert plug.square_shape(64, 64) == Shape(12, 12)


def test_a_memory_that_holds_a_part_of_what_it_is_given_is_given_more() -> None:
    plug = load_plug("memspec.fixtures.plain:PlainHalves")
    for wanted in (1, 2, 3, 16, 17, 128):
        shape = plug.shape(6, 5, wanted)
        held = plug.build(shape).spec.capacity
        assert held == shape.capacity in (wanted, wanted + 1)
        assert plug.shape(6, 5, shape.capacity) == shape


def test_sizes() -> None:
    assert [Size(multiple_of=8).nearest(n) for n in (1, 8, 9)] == [8, 8, 16]
    assert [Size(power_of_two=True, at_least=3).nearest(n) for n in (1, 4, 5)] == [4, 4, 8]
    assert [Size(multiple_of=3, at_most=10).nearest(n) for n in (1, 10, 50)] == [3, 9, 9]
    assert Size(at_least=5, at_most=5).fixed
    assert not Size().fixed
    assert Widths(square=True, key_dim=Size(multiple_of=4), value_dim=Size(multiple_of=6)).nearest(5, 7) == (12, 12)
    with pytest.raises(ValueError, match="no number"):
        Size(multiple_of=8, at_least=9, at_most=15)


class Layer(nn.Module):
    """Of one width that it says nowhere but in the error of its first product, and torch's own at that."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(24, 24, bias=False)
        self.register_buffer("matrix", torch.zeros(24, 24))

    def reset(self) -> None:
        self.matrix = torch.zeros(24, 24)

    def update(self, keys: Tensor, values: Tensor) -> None:
        self.matrix = self.matrix + self.net(keys.detach()).detach().T @ values.detach()

    def query(self, keys: Tensor) -> Tensor:
        return self.net(keys) @ self.matrix


def test_a_layer_that_says_nothing() -> None:
    plug = checked(Plug("layer", Layer))
    assert plug.shape(6, 5, 16) == Shape(24, 24, 16)
    assert plug.widths.key_dim.fixed


# ---- settings that name a width -------------------------------------------------------------------------------


class FailsAt113(PlainSums):
    """Cannot write where it was given a capacity of 113."""

    tried: ClassVar[list[int]] = []

    def __init__(self, key_dim: int, value_dim: int, capacity: int) -> None:
        super().__init__(key_dim, value_dim)
        self.room = capacity

    def update(self, keys: Tensor, values: Tensor) -> None:
        self.tried.append(self.room)
        if self.room == 113:
            raise ValueError("no such room")
        super().update(keys, values)


class Fixed(PlainSums):
    """Has widths of its own, and room for so many."""

    def __init__(self, key_dim: int = 64, value_dim: int = 64, capacity: int = 128) -> None:
        super().__init__(key_dim, value_dim)


def test_a_setting_is_measured_at_the_width_it_names_or_not_at_all() -> None:
    plug = checked(Plug("p:F", FailsAt113))
    assert plug.shape(8, 8, 113).capacity == 114
    FailsAt113.tried.clear()
    exact = checked(Plug("p:F", FailsAt113)).exactly(Load().dimensions)
    FailsAt113.tried.clear()
    with pytest.raises(CannotMeasure, match=r"capacity 113: storing one pair .* ValueError: no such room"):
        LOAD.run(exact, Load(n=4, key_dim=8, value_dim=8, capacity=113), [0])
    assert FailsAt113.tried == [113]  # and nothing else, which may do harm of its own


@pytest.mark.parametrize(
    ("kwargs", "setting", "says"),
    [
        ({"key_dim": 9}, {"key_dim": 8, "value_dim": 8}, "cannot have key_dim = 8: its key_dim is 9"),
        ({"capacity": 9}, {"capacity": 8}, "cannot have capacity = 8: its capacity is 9"),
    ],
)
def test_an_argument_that_fixes_a_width_is_no_other_setting(kwargs: Any, setting: Any, says: str) -> None:
    exact = Plug("p:F", Fixed, kwargs).exactly(Load().dimensions)
    with pytest.raises(CannotMeasure, match=says):
        LOAD.run(exact, Load(n=4, **setting), [0])
    assert len(LOAD.run(exact, Load(n=4, **(setting | kwargs)), [0]))


def test_declared_widths_are_no_others() -> None:
    class Eights(PlainSums):
        spec = MemorySpec(widths=Widths(key_dim=Size(multiple_of=8)))

    exact = checked(Plug("p:E", Eights)).exactly({"key_dim"})
    assert exact.shape(16, 5).key_dim == 16
    with pytest.raises(CannotMeasure, match="declared: key_dim multiples of 8"):
        exact.shape(12, 5)


def test_values_of_a_memory_that_recalls_its_keys_are_no_wider() -> None:
    class Auto(PlainSums):
        spec = MemorySpec(association="auto")

    exact = checked(Plug("p:A", Auto)).exactly({"key_dim", "value_dim"})
    with pytest.raises(CannotMeasure, match="values are its keys"):
        exact.shape(16, 64)


def test_what_a_setting_does_not_name_may_be_the_nearest() -> None:
    exact = checked(Plug("p:F", FailsAt113)).exactly({"key_dim", "value_dim"})
    assert exact.shape(8, 8, 113) == Shape(8, 8, 114)


def test_a_want_of_memory_says_nothing_of_widths() -> None:
    class Large(PlainSums):
        def __init__(self, key_dim: int, value_dim: int) -> None:
            if key_dim == 96:
                raise MemoryError
            super().__init__(key_dim, value_dim)

    with pytest.raises(MemoryError):
        checked(Plug("p:L", Large)).exactly({"key_dim", "value_dim", "capacity"}).shape(96, 8)


def test_a_sequence_model_has_the_sizes_that_a_setting_names_or_none() -> None:
    class Sixteens(nn.Module):
        def __init__(self, input_size: int, output_size: int, hidden_size: int) -> None:
            super().__init__()
            if hidden_size == 24:
                raise ValueError("sixteens only")
            self.input_size, self.hidden_size = input_size, hidden_size
            self.cell, self.out = nn.GRUCell(input_size, hidden_size), nn.Linear(hidden_size, output_size)

        def initial_state(self, batch: int) -> Tensor:
            return torch.zeros(batch, self.hidden_size)

        def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            state = self.cell(x, state)
            return self.out(state), state

        def run(self, xs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            answers = []
            for x in xs:
                answer, state = self.step(x, state)
                answers.append(answer)
            return torch.stack(answers), state

    plug = Plug("p:S", Sixteens)
    assert trainable(plug, 8, 8, 0, hidden_size=24)
    with pytest.raises(CannotMeasure, match="hidden_size 24"):
        trainable(plug.exactly({"hidden_size"}), 8, 8, 0, hidden_size=24)


@pytest.mark.parametrize(("option", "code"), [([], 2), (["--nearest"], 0)])
def test_a_trial_says_that_a_width_it_names_cannot_be(
    option: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["trial", f"{PLACE}:EightHeadsDelta", "capacity.load", "--set", "key_dim=12", "--set", "n=4", *option]
    assert main(given) == code
    assert ("cannot have 12 -> 64" in capsys.readouterr().err) == (code == 2)


def test_the_repetition_of_a_trial_takes_the_widths_that_were_taken() -> None:
    setting = Load(n=4, key_dim=12)
    eights, any_ = load_plug(f"{PLACE}:EightHeadsDelta"), load_plug("memspec.reference:DeltaMemory")
    assert trial_command(eights, LOAD, setting, 0, 0).endswith("--set key_dim=12 --nearest --trial 0 --seed 0")
    assert "--nearest" not in trial_command(any_, LOAD, setting, 0, 0)


@pytest.mark.parametrize("name", ["n", "key_dim", "capacity"])
def test_a_setting_has_pairs_and_widths(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        Load(**{name: 0})
