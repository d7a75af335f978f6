"""Models wired by hand, whose answers are known; and models against what they are made of."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drawing import EXACT, drawn
from memspec.reference import MatrixAssociativeMemory
from memspec.reference.models import (
    DifferentiableNeuralComputer,
    MemoryAugmentedNetwork,
    MemoryEnhancedRNN,
    MemoryTransformer,
    NeuralTuringMachine,
    ReasoningNetwork,
    TemporalMemoryModel,
)

NAMES = 5
"""Symbols; a token is key, value and query, one-hot each, and whether it is to be written."""
WIDTH = 3 * NAMES + 1
SURE = 800.0
"""So far into a sigmoid that it is exactly 0 or 1, and tanh exactly 1."""


def token(key: int | None = None, value: int | None = None, asked: int | None = None) -> Tensor:
    """``[1, WIDTH]`` in float64."""
    parts = [
        torch.zeros(NAMES) if n is None else F.one_hot(torch.tensor(n), NAMES).float() for n in (key, value, asked)
    ]
    return torch.cat([*parts, torch.tensor([float(key is not None)])]).double()[None]


def wired(model: Any, hidden: nn.Linear, rows: dict[str, nn.Linear], gates: nn.Linear, answers: int) -> Any:
    """The model with weights by which it stores what it is told, and puts out what it reads for what it is asked."""
    parts = {"keys": 0, "values": NAMES, "queries": 2 * NAMES}
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        hidden.weight[:, :WIDTH] = SURE * torch.eye(WIDTH)
        for names, linear in rows.items():
            for row, name in enumerate(names.split()):
                linear.weight[row * NAMES : (row + 1) * NAMES, parts[name] : parts[name] + NAMES] = torch.eye(NAMES)
        gates.weight[0, -1], gates.bias[0] = 2 * SURE, -SURE  # written only where a token says so
        gates.bias[1] = SURE  # nothing decays
        model.output.weight[:, answers:] = torch.eye(NAMES)
    return model.double()


def answered(model: Any, *tokens: Tensor) -> Tensor:
    ys: Tensor = model(torch.stack(tokens))[0][-1, 0]
    return ys


@pytest.mark.parametrize("memory", ["DeltaMemory", "LRUMemory", "MatrixAssociativeMemory", "CachedMemory"])
def test_a_network_wired_to_store_and_ask_recalls_exactly(memory: str) -> None:
    model = MemoryAugmentedNetwork(WIDTH, NAMES, WIDTH, 8, NAMES, memory=memory, controller="feedforward")
    assert model.gates is not None
    rows = {"keys": model.keys, "values": model.values, "queries": model.queries}
    wired(model, model.controller.layer, rows, model.gates, WIDTH)  # type: ignore[arg-type]
    told = [token(0, 3), token(1, 4), token(2, 0)]
    for key, value in ((0, 3), (1, 4), (2, 0)):
        want = F.one_hot(torch.tensor(value), NAMES).double()
        torch.testing.assert_close(answered(model, *told, token(asked=key)), want, **EXACT)


@pytest.mark.parametrize(("hops", "value"), [(1, 1), (2, 2), (3, 4)])
def test_hops_go_along_a_chain_of_stored_pairs(hops: int, value: int) -> None:
    """0 -> 1 -> 2 -> 4, told in another order."""
    model = ReasoningNetwork(WIDTH, WIDTH, NAMES, 8, NAMES, hops=hops)
    assert model.gates is not None
    wired(model, model.embed, {"queries keys values": model.rows}, model.gates, WIDTH)
    came = answered(model, token(2, 4), token(0, 1), token(1, 2), token(asked=0))
    torch.testing.assert_close(came, F.one_hot(torch.tensor(value), NAMES).double(), **EXACT)


def test_what_is_read_is_added_to_what_was_asked_by_the_weights_between_hops() -> None:
    """With the identity between hops an unknown question is still there at the end."""
    model = ReasoningNetwork(WIDTH, WIDTH, NAMES, 8, NAMES, hops=2)
    assert model.gates is not None
    wired(model, model.embed, {"queries keys values": model.rows}, model.gates, WIDTH)
    nn.init.eye_(model.again.weight)
    came = answered(model, token(asked=3))
    torch.testing.assert_close(came, F.one_hot(torch.tensor(3), NAMES).double(), **EXACT)


def test_every_scale_keeps_what_its_rate_says() -> None:
    scales = (2.0, 10.0)
    model = TemporalMemoryModel(3, 4, 2, memory_dim=5, memory=MatrixAssociativeMemory, scales=scales).double()
    with torch.no_grad():
        model.gate.weight.zero_()
        model.gate.bias.fill_(-SURE)  # nothing is written
    state = model.initial_state(2)
    matrix = drawn(2, 2, 5, 5)
    _, after = model.run(drawn(7, 2, 3), state._replace(memory=type(state.memory)(matrix)))
    for number, scale in enumerate(scales):
        torch.testing.assert_close(
            after.memory.matrix[:, number], math.exp(-7 / scale) * matrix[:, number], rtol=0, atol=1e-7
        )


def test_scales_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="one or more numbers above 0"):
        TemporalMemoryModel(3, 4, 2, scales=(4.0, 0.0))


def test_an_untrained_memory_enhanced_rnn_is_a_stack_of_cells_bit_for_bit() -> None:
    model = MemoryEnhancedRNN(3, 5, 2, num_layers=2)
    xs, hidden = drawn(6, 2, 3).float(), [torch.zeros(2, 5)] * 2
    ys, _ = model(xs)
    for x, y in zip(xs, ys):
        for number, layer in enumerate(model.layers):
            hidden[number] = x = layer.cell(x, hidden[number])
        assert torch.equal(y, model.output(x[None])[0])


@pytest.mark.parametrize("kind", [NeuralTuringMachine, DifferentiableNeuralComputer])
def test_a_native_network_is_its_memory_step_after_step(kind: Any) -> None:
    """The memory's own steps have oracles of their own; here, that controller, gates and output stand around them."""
    model = kind(3, 2, 7, 6, 4, controller="feedforward", read_heads=2).double()
    xs, memory, reads = drawn(5, 2, 3), model.memory.init_state((2,)), torch.zeros(2, 8).double()
    ys, _ = model(xs)
    layer, raw, out = model.controller.layer, model.interface, model.output
    for x, y in zip(xs, ys):
        hidden = torch.tanh(torch.cat((x, reads), 1) @ layer.weight.T + layer.bias)
        read, memory = model.memory.step(model.memory.interface(hidden @ raw.weight.T + raw.bias), memory)
        reads = torch.cat((read[:, 0], read[:, 1]), 1)
        torch.testing.assert_close(y, torch.cat((hidden, reads), 1) @ out.weight.T + out.bias, **EXACT)


def test_a_row_needs_room_for_a_key_and_a_value() -> None:
    with pytest.raises(ValueError, match="memory_dim is 1"):
        NeuralTuringMachine(3, 2, memory_dim=1)


# ---- segments -------------------------------------------------------------------------------------------------


def test_one_segment_is_a_causal_transformer_behind_its_memory_tokens() -> None:
    model = MemoryTransformer(3, 2, 8, num_layers=2, memory_size=2, segment=5).double()
    xs = drawn(4, 2, 3)
    rows = torch.cat((model.tokens.expand(2, -1, -1), model.embed(xs).transpose(0, 1) + model.places[:4]), 1)
    hidden = torch.ones(6, 6).triu(1).bool()
    hidden[:2, :2] = False  # memory tokens see each other
    for layer in model.layers:
        rows = layer(rows, src_mask=hidden)
    torch.testing.assert_close(model(xs)[0], model.output(rows[:, 2:]).transpose(0, 1), **EXACT)


def test_memory_alone_leads_from_one_segment_to_the_next() -> None:
    model = MemoryTransformer(3, 2, 8, memory_size=2, segment=4).double()
    xs = drawn(9, 1, 3).requires_grad_()
    ys, state = model(xs)
    slope = torch.autograd.grad(ys[-1].sum(), xs, retain_graph=True)[0]
    assert bool(slope[0].any())  # through two hand-overs
    assert state.pending.shape == (1, 1, 8)
    _, middle = model(xs[:4])
    cut = middle._replace(tokens=middle.tokens.detach())
    later, _ = model(xs[4:], cut)
    assert torch.autograd.grad(later.sum(), xs)[0][:4].abs().max() == 0


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_memory_of_a_model_is_any_that_can_be_built(fraction: float) -> None:
    memory = functools.partial(MatrixAssociativeMemory, decay=1 - fraction / 2)
    ys, _ = MemoryAugmentedNetwork(3, 2, 4, 5, 6, memory=memory)(drawn(4, 2, 3).float())
    assert ys.shape == (4, 2, 2)
