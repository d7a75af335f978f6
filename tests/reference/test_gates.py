"""What all memories keep that a controller drives through gates: right gradients to each, and none that breaks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from drawing import drawn
from variants import CONTROLLED


@pytest.mark.parametrize("kind", CONTROLLED)
def test_gradients_reach_every_gate(kind: str) -> None:
    """gradcheck of three steps in all numbers that a controller gives; the numbers that act have a gradient."""
    controlled = CONTROLLED[kind]
    memory: Any = controlled.build().double()
    start = memory.init_state(())._replace(**controlled.start)

    def run(raw: Tensor) -> Tensor:
        state, out = start, []
        for part in raw:
            reads, state = memory.step(memory.interface(part), state)
            out.append(reads)
        return torch.stack(out)

    raw = drawn(3, controlled.size(memory)).requires_grad_()
    assert torch.autograd.gradcheck(run, (raw,), atol=1e-6)
    (gradient,) = torch.autograd.grad(run(raw).square().sum(), raw)
    assert (controlled.acting(gradient).abs() > 1e-12).double().mean() > controlled.share


@pytest.mark.parametrize("kind", CONTROLLED)
@pytest.mark.parametrize("logit", [50.0, -50.0, 1e4], ids="{:g}".format)
def test_saturated_gates_are_finite(kind: str, logit: float) -> None:
    """Eight steps with every gate wide open or shut: reads, state and gradient are finite."""
    memory = CONTROLLED[kind].build()
    raw = torch.full((CONTROLLED[kind].size(memory),), logit, requires_grad=True)
    state = memory.init_state(())
    for _ in range(8):
        reads, state = memory.step(memory.interface(raw), state)
    reads.sum().backward()
    assert raw.grad is not None
    for tensor in (reads, raw.grad, *(part for part in state if part is not None)):
        assert torch.isfinite(tensor).all()
