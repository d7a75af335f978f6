"""One home of randomness: every global generator is seeded, saved, put back and compared, devices' and foreign ones too."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from memspec import FunctionalMemory, randomness
from memspec.fixtures.plain import PlainSums
from memspec.plugs.adapting import adapt
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate
from memspec.randomness import (
    generator_states,
    generators_in_use,
    moved_generators,
    register,
    seed_generators,
    seed_of,
    seeded,
    set_generator_states,
)

DRAWS: dict[str, Callable[[], Any]] = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: float(np.random.rand()),  # noqa: NPY002
    "python": random.random,
}


class Second:
    """A generator beside torch's on the CPU, as that of a device is; in use from the first draw on."""

    def __init__(self) -> None:
        self.generator: torch.Generator | None = None

    def draw(self, *shape: int) -> Tensor:
        if self.generator is None:
            self.generator = torch.Generator()
            self.generator.seed()
        return torch.randn(*shape, generator=self.generator)

    def in_use(self) -> bool:
        return self.generator is not None

    def seed(self, number: int) -> None:
        assert self.generator is not None
        self.generator.manual_seed(number)

    def state(self) -> bytes:
        assert self.generator is not None
        return self.generator.get_state().numpy().tobytes()

    def restore(self, state: bytes) -> None:
        assert self.generator is not None
        self.generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


DEVICE = Second()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Second]:
    """A made device with a generator of its own, not in use yet."""
    monkeypatch.setattr(randomness, "SOURCES", dict(randomness.SOURCES))
    DEVICE.generator = None
    register("made", DEVICE)
    yield DEVICE
    DEVICE.generator = None


class OnDevice(PlainSums):
    """Starts from what its device draws, again at every reset."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.start = DEVICE.draw(key_dim, value_dim)
        super().__init__(key_dim, value_dim)

    def reset(self) -> None:
        self.matrix = self.start.clone()


class Wanders(OnDevice):
    """Draws on its device while it writes."""

    def learn(self, keys: Tensor, values: Tensor) -> None:
        self.matrix = self.matrix + keys.T @ values + 0.1 * DEVICE.draw(*self.matrix.shape)


class AsksTheDevice(OnDevice):
    """Draws on its device while it answers: what a law must see."""

    def recall(self, keys: Tensor) -> Tensor:
        DEVICE.draw(1)
        return super().recall(keys)


class Matrix(NamedTuple):
    matrix: Tensor


class FunctionalOnDevice(FunctionalMemory):
    """Draws its fresh state on its device."""

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> Matrix:
        return Matrix(DEVICE.draw(self.key_dim, self.value_dim).expand(*batch_shape, self.key_dim, self.value_dim))

    def write(self, state: Matrix, keys: Tensor, values: Tensor) -> Matrix:
        return Matrix(state.matrix + keys.mT @ values)

    def read(self, state: Matrix, keys: Tensor) -> Tensor:
        return keys @ state.matrix


@pytest.mark.parametrize("name", DRAWS)
def test_every_generator_is_seeded_saved_put_back_and_compared(name: str) -> None:
    draw = DRAWS[name]
    before = generator_states()
    with seeded(3):
        first = draw()
        drawn = generator_states()
        seed_generators(3)
        assert draw() == first
    assert generator_states() == before
    assert moved_generators(before, drawn)
    set_generator_states(drawn)
    second = draw()
    set_generator_states(drawn)
    assert draw() == second
    assert moved_generators(drawn, generator_states()) == [name]
    set_generator_states(before)


def test_a_device_counts_from_the_moment_it_is_in_use(device: Second) -> None:
    before = generator_states()
    assert "made" not in before
    device.draw(1)
    now = generator_states()
    assert "made" in now
    assert moved_generators(before, now) == []
    with seeded(1):
        first = device.draw(2)
    assert generator_states() == now
    with seeded(1):
        assert torch.equal(device.draw(2), first)
    device.draw(1)
    assert moved_generators(now, generator_states()) == ["made"]


def test_asking_initialises_no_device() -> None:
    generator_states()
    with seeded(0):
        pass
    if not torch.cuda.is_available():
        assert not torch.cuda.is_initialized()
        assert "cuda" not in generators_in_use()


def test_memories_start_by_their_seed_wherever_they_draw(device: Second) -> None:
    """Also where the first construction brings the device into use: the memory that is looked at is built again."""
    plug = Plug("on-device", OnDevice)
    shape = plug.shape(6, 5)
    assert torch.equal(plug.probe.matrix, plug.build(Shape()).matrix)
    assert torch.equal(plug.build(shape, 1).matrix, plug.build(shape, 1).matrix)
    assert not torch.equal(plug.build(shape, 1).matrix, plug.build(shape, 2).matrix)


def test_functional_memories_reset_to_what_their_device_drew(device: Second) -> None:
    plug = Plug("functional-on-device", FunctionalOnDevice)
    memory = plug.build(plug.shape(6, 5))
    fresh = memory.state.matrix.clone()
    device.draw(7)
    memory.reset()
    assert torch.equal(memory.state.matrix, fresh)
    shape = plug.shape(6, 5)
    batched, looped = (populate(plug, shape, range(3), 0, looped=looped) for looped in (False, True))
    keys = torch.ones(3, 2, 6)
    assert torch.equal(batched.query(keys), looped.query(keys))
    assert len(batched.query(keys)[:, 0].unique(dim=0)) == 3


def test_adapted_memories_are_rebuilt_from_what_their_device_drew(device: Second) -> None:
    plug = Plug("adapted", adapt(OnDevice))
    memory = plug.build(plug.shape(6, 5), 4)
    fresh = memory.query(torch.eye(6))
    device.draw(3)
    memory.reset()
    assert torch.equal(memory.query(torch.eye(6)), fresh)


LAWS = [f"laws/{name}" for name in ("*reset*", "*generators", "*seed*", "*determin*")]


def test_laws_see_draws_on_a_device(device: Second, folder: Any) -> None:
    """A memory that draws on its device keeps the laws of reset and seeds; one that draws while asked is caught."""
    folder.write("subject.py", f"import sys\n\nhost = sys.modules[{__name__!r}]\n")
    arguments = ["--pyargs", "memspec.suites", "-q", *(f"--memspec-checks={glob}" for glob in LAWS)]
    for sound in ("OnDevice", "Wanders", "FunctionalOnDevice"):
        run = folder.pytest(f"--memory=subject.py:host.{sound}", *arguments)
        assert run.code == 0, run.text
    run = folder.pytest("--memory=subject.py:host.AsksTheDevice", *arguments)
    assert run.code == 1
    assert "the global generator of made moved" in run.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_one_of_the_generators() -> None:
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    torch.rand(1, device=device)
    before = generator_states()
    with seeded(seed_of("gpu")):
        first = torch.rand(3, device=device)
    assert generator_states() == before
    with seeded(seed_of("gpu")):
        assert torch.equal(torch.rand(3, device=device), first)
    torch.rand(1, device=device)
    assert moved_generators(before, generator_states()) == ["cuda"]
