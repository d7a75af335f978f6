"""Laws of sequence models: a case is a few sequences, and the models that run over them.

Modules are put in ``eval()``, as they are where they are used, so that dropout draws nothing; and their weights are moved
a little from where they start, because a layer that starts at zero lets nothing through yet: no defect, and no evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from memspec.errors import NotAsked
from memspec.laws.compare import NOISE
from memspec.laws.law import Law
from memspec.laws.recorded import Recorded, Subject
from memspec.plugs.meter import METER
from memspec.plugs.plug import SMALL, Shape
from memspec.plugs.sequences import SIZES, input_width, listed
from memspec.randomness import seed_of, unshared

BATCH = 3
SHAKEN = 0.2
"""Standard deviation of what is added to every weight."""


class Running(Subject):
    """A sequence model, and what the transcript calls it."""

    def __init__(self, case: SequenceCase, model: Any, name: str) -> None:
        self.case, self.model, self.name = case, model, name
        case.script.alias(self, name)

    def start(self, batch: int = BATCH) -> str:
        """The state before the first step; states go by what the transcript calls them."""
        name = self.case.script.fresh("s")
        self.case.let(name, f"{{}}.initial_state({batch})", self)
        return name

    def step(self, x: str, state: str) -> Tensor:
        """One step, on an expression of inputs; what the state is called is then the state after it."""
        name = self.case.script.fresh("y")
        self.case.do(f"{name}, {state} = {{}}.step({x}, {state})", self)
        return self._outputs(name, 1)

    def run(self, xs: Tensor, state: str, after: str = "after") -> Tensor:
        """Outputs ``[T, B, Dy]``, detached; the state after them is called ``after``."""
        name = self.case.script.fresh("y")
        self.case.do(f"{name}, {after} = {{}}.run({{}}, {state})", self, xs)
        return self._outputs(name, 2)

    def _outputs(self, name: str, leading: int) -> Tensor:
        """What a call gave, by its name: detached, and of the form that it should have."""
        case = self.case
        came = case.script.names[name]
        case.check(
            f"isinstance({name}, torch.Tensor) and {name}.ndim == {leading + 1}",
            got=f"outputs of shape {tuple(came.shape)}" if isinstance(came, Tensor) else f"a {type(came).__name__}",
            expected="outputs [T, B, output width] of run, [B, output width] of step",
            cause="a squeeze, a missing axis, or batch and time the other way round",
        )
        outputs: Tensor = case.let(name, f"{name}.detach()")
        return outputs


class SequenceCase(Recorded):
    """Inputs of a few sequences, the models that are run over them, and the transcript.

    Attributes:
        n: steps.
        xs: inputs ``[n, 3, Dx]``, standard normal.
        others: other inputs of the same shape.
    """

    def __init__(self, law: Law, steps: int, sizes: Mapping[str, int] | None = None) -> None:
        plug = law.plug
        super().__init__(law, Shape(*SMALL) if plug.is_sequence_model else plug.shape(*SMALL), steps)
        self.sizes = dict(plug.sizes if sizes is None else sizes)
        self._given = "" if sizes is None else "".join(f", {name}={size}" for name, size in self.sizes.items())
        self.script.given("plug", plug, f"memspec.load_plug({plug.name!r})")
        if not plug.is_sequence_model:
            self.script.let("shape", "plug.shape(key_dim={}, value_dim={}, capacity={})".format(*SMALL))
        self.seed(seed_of(law.seed, law.check, steps) % 10**6 + 10**3)
        self.width = self.sizes.get("input_size") or (
            input_width(plug.probe) if plug.is_sequence_model else getattr(plug.probe, "input_dim", self.shape.key_dim)
        )
        self.xs, self.others = self._drawn("xs"), self._drawn("others")
        self.values = self.xs

    def _drawn(self, name: str) -> Tensor:
        seed = seed_of(self.law.seed, self.law.check, self.n, name) % 10**6
        moved = f".to({str(self.device)!r})" if self.device.type != "cpu" else ""
        shape = (self.n, BATCH, self.width)
        drawn: Tensor = self.let(name, f"torch.randn({shape}, generator=torch.Generator().manual_seed({seed})){moved}")
        return drawn

    def described(self) -> str:
        sizes = f", {listed(self.sizes)}" if self.sizes else ""
        return f"{self.n} step{'s' * (self.n != 1)} of {BATCH} sequences{sizes}"

    def build(self, seed: int = 0) -> Running:
        """A fresh model, constructed under ``seed``, in ``eval()``, its weights moved a little."""
        name = self.script.fresh("m")
        shape = "" if self.plug.is_sequence_model else "shape, "
        model = self.let(name, f"plug.build({shape}seed={unshared(seed)}{self._given})")
        running = Running(self, model, name)
        if isinstance(model, nn.Module):
            self.do("{}({}.eval())", shaken, running)
        return running

    def trained(self) -> Running:
        """As :meth:`build`, of a model that has weights.

        Raises:
            NotAsked: if it has none.
        """
        model = self.build()
        if not isinstance(model.model, nn.Module) or not any(True for _ in model.model.parameters()):
            raise NotAsked(f"{self.plug.name} has no parameters")
        return model


def sequences(law: Law, *steps: int) -> Iterator[SequenceCase]:
    """A case for each number of steps, fewest first; a slow model is asked at fewer.

    Raises:
        NotAsked: if the plug has no recurrent form.
    """
    law.plug.needs("Recurrent")
    for number, count in enumerate(sorted(steps)):
        if number and METER.tired:
            return
        yield SequenceCase(law, count)


def rotated(law: Law) -> Iterator[SequenceCase]:
    """Cases of seven steps in which each size is in turn the smallest, ..., the largest, where it can be built so.

    Raises:
        NotAsked: if fewer than two sizes can be chosen.
    """
    law.plug.needs("Recurrent")
    names = list(law.plug.sizes)
    if not law.plug.is_sequence_model or len(names) < 2:
        raise NotAsked(f"{law.plug.name} has fewer than two sizes to choose ({listed(law.plug.sizes)})")
    numbers = [SIZES[name] for name in names]
    for turn in range(len(names)):
        sizes = dict(zip(names, numbers[turn:] + numbers[:turn]))
        if turn == 0 or not refused_at_once(law, sizes):
            yield SequenceCase(law, 7, sizes)


def refused_at_once(law: Law, sizes: Mapping[str, int]) -> bool:
    """Whether the constructor says that it cannot have these sizes, such as a width that heads do not divide."""
    try:
        law.plug.build(Shape(), **sizes)
    except Exception as error:
        return isinstance(error.__cause__, (ValueError, AssertionError))
    return False


# ---- what laws and their programs share -----------------------------------------------------------------------


def shaken(model: nn.Module, by: float = SHAKEN, seed: int = 0) -> nn.Module:
    """``model`` with ``by`` times a standard normal number added to every weight, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * torch.randn(weight.shape, generator=generator).to(weight))
    return model


def outputs_of(model: Any, xs: Tensor) -> Tensor:
    """The outputs of one run from the initial state."""
    ys: Tensor = model.run(xs, model.initial_state(xs.shape[1]))[0]
    return ys


def dead_weights(model: nn.Module, xs: Tensor) -> list[str]:
    """Names of parameters that may be changed altogether without a change of any output."""
    dead = []
    with torch.no_grad():
        was = outputs_of(model, xs)
        for number, (name, weight) in enumerate(model.named_parameters()):
            old = weight.clone()
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)).to(weight))
            moved = (outputs_of(model, xs) - was).abs().max()
            weight.copy_(old)
            if not moved > NOISE * was.abs().max():
                dead.append(name)
    return dead


def unreached_weights(model: nn.Module, xs: Tensor) -> list[str]:
    """Names of parameters to be trained that change outputs, but get no gradient from them, or one that is not finite."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    ys = outputs_of(model, xs)
    if not ys.requires_grad:
        return sorted(weights.keys() - dead_weights(model, xs))
    loss = (ys * torch.randn(ys.shape, generator=torch.Generator().manual_seed(1)).to(ys)).sum()
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    without = {
        name for name, g in zip(weights, gradients) if g is None or not bool(g.isfinite().all()) or not bool(g.any())
    }
    return sorted(without - set(dead_weights(model, xs))) if without else []


def cuts(steps: int) -> list[list[int]]:
    """Ways to cut a run into parts, as lengths: in half, behind the first and before the last step, and in fives."""
    fives = [5] * (steps // 5) + [steps % 5]
    ways = [steps // 2, steps - steps // 2], [1, steps - 1], [steps - 1, 1], fives
    return [[n for n in way if n] for way in ways]
