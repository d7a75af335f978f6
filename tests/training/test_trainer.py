"""MemoryTrainer: it learns, goes on bit for bit where it was cut, and says where and why it stops."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspec import adapt
from memspec.errors import MemspecError
from memspec.fixtures.plain import PlainSequence
from memspec.fixtures.tasks import sequences as tasks
from memspec.reference.models import DifferentiableNeuralComputer, MemoryAugmentedNetwork, NeuralTuringMachine
from memspec.training.trainer import MemoryTrainer, NotFinite, Settings, Task

COPY = Task(lambda generator: tasks.copy(16, 3, generator, bits=4), tasks.bit_loss, tasks.bits_wrong)
QUIET = Settings(steps=12, check_every=4, learning_rate=1e-2, progress=False)


class Dropping(PlainSequence):
    """Draws from the global generator as it trains."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(nn.functional.dropout(x, 0.3, self.training), state)


def model(kind: Any = PlainSequence) -> Any:
    torch.manual_seed(0)
    return kind(5, 8, 4)


def weights(trainer: MemoryTrainer) -> list[Tensor]:
    return [weight.detach().clone() for weight in trainer.model.parameters()]


@pytest.mark.parametrize("cut", [4, 7])
def test_a_run_that_was_cut_goes_on_bit_for_bit(tmp_path: Path, cut: int) -> None:
    """Weights, losses and metrics; moments of the optimiser, batches and dropout come from the checkpoint."""
    whole = MemoryTrainer(model(Dropping), COPY, QUIET)
    want = whole.train()
    settings = dataclasses.replace(QUIET, checkpoint=tmp_path / "run.pt")
    first = MemoryTrainer(model(Dropping), COPY, settings)
    first.train(until=cut)
    torch.manual_seed(99)
    other = MemoryTrainer(Dropping(5, 8, 4), COPY, settings)
    came = other.train()
    assert came == want
    assert all(torch.equal(a, b) for a, b in zip(weights(other), weights(whole)))


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MemspecError, match="no checkpoint of this training"):
        MemoryTrainer(model(), COPY, dataclasses.replace(QUIET, checkpoint=path)).train()


def test_a_crash_while_saving_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(QUIET, checkpoint=tmp_path / "run.pt")
    trainer = MemoryTrainer(model(), COPY, settings)
    trainer.train(until=4)
    before = (tmp_path / "run.pt").read_bytes()

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert (tmp_path / "run.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_it_stops_at_its_goal() -> None:
    progress = MemoryTrainer(model(), COPY, dataclasses.replace(QUIET, goal=1000.0)).train()
    assert (progress.done, progress.step) == ("goal", 4)


def test_the_metric_is_taken_on_the_exam() -> None:
    """Of 5 vectors of 4 bits an untrained network has about 10 wrong; of the one that is trained on, at most 4."""
    task = COPY._replace(
        draw=lambda generator: tasks.copy(16, 1, generator, bits=4),
        exam=lambda generator: tasks.copy(16, 5, generator, bits=4),
    )
    progress = MemoryTrainer(model(), task, dataclasses.replace(QUIET, goal=4.0)).train()
    assert progress.done == "steps"
    assert progress.best > 4


def test_it_gives_up_where_nothing_gets_better() -> None:
    never = COPY._replace(metric=lambda outputs, batch: torch.tensor(1.0))
    progress = MemoryTrainer(model(), never, dataclasses.replace(QUIET, steps=100, patience=2)).train()
    assert (progress.done, progress.step) == ("patience", 12)


def test_gradients_are_clipped_to_the_norm_that_was_set() -> None:
    """Adam divides by the size of gradients, so that is looked at where they are."""
    trainer = MemoryTrainer(model(), COPY, dataclasses.replace(QUIET, clip=1e-3, steps=1))
    trainer.train()
    norm = torch.stack([weight.grad.norm() for weight in trainer.model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(1e-3), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            lambda m: m.gate.weight.data.fill_(float("nan")),
            "step 0: the loss is nan; the weights gate.weight are not finite",
        ),
        (lambda m: m.output.register_forward_hook(lambda *_: _[2] / 0), "outputs are so up to step 0 of the sequence"),
    ],
)
def test_a_loss_that_is_not_finite_stops_with_its_place(broken: Any, said: str) -> None:
    subject = model()
    broken(subject)
    with pytest.raises(NotFinite, match=said):
        MemoryTrainer(subject, COPY, QUIET).train()


def test_a_gradient_that_is_not_finite_stops_with_its_name() -> None:
    subject = model()
    subject.gate.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFinite, match=r"step 0: the loss is 0\.\d+, but the gradient of gate\.bias is not finite"):
        MemoryTrainer(subject, COPY, QUIET).train()


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="must be float32, bfloat16 or float16"):
        Settings(precision="float8")


NETWORKS = {
    "ntm": functools.partial(NeuralTuringMachine, hidden_size=16, memory_size=8, memory_dim=6),
    "dnc": functools.partial(DifferentiableNeuralComputer, hidden_size=16, memory_size=8, memory_dim=6),
    "delta": functools.partial(MemoryAugmentedNetwork, hidden_size=16, memory_size=8, memory_dim=6),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps_lower_the_loss_and_move_the_memorys_interface(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](5, 4)
    interface = network.keys if name == "delta" else network.interface
    before = interface.weight.detach().clone()
    progress = MemoryTrainer(network, COPY, dataclasses.replace(QUIET, steps=40, check_every=40)).train()
    assert sum(progress.losses[-5:]) < 0.98 * sum(progress.losses[:5])
    assert bool(((interface.weight - before).abs() > 1e-4).float().mean() > 0.9)


@pytest.mark.parametrize("name", ["lstm", *NETWORKS])
def test_half_precision_runs_forward_only(name: str) -> None:
    network = adapt(nn.LSTM, kind="sequence")(input_size=5, hidden_size=4) if name == "lstm" else NETWORKS[name](5, 4)
    trainer = MemoryTrainer(network, COPY, dataclasses.replace(QUIET, precision="bfloat16", steps=2))
    assert trainer.train().step == 2
    assert all(weight.dtype == torch.float32 for weight in network.parameters())
