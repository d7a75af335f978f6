"""What a plug is trained as: itself where it is a sequence model, a controller around it where it is Functional."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from memspec.errors import CannotMeasure, NotAsked
from memspec.failure import raised
from memspec.functional import state_tensors
from memspec.networks.controlled import ControlledMemory
from memspec.networks.controller import Kind
from memspec.networks.held import HeldMemory
from memspec.networks.readout import Fitted
from memspec.networks.sequence import SequenceModel
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.sequences import first_inputs, input_width, listed
from memspec.randomness import made_from, seed_of
from memspec.world.boundary import call, cross


def needs_form(plug: Plug) -> None:
    """Refuse what a network cannot be made of.

    Raises:
        NotAsked: if the plug is neither a sequence model nor Functional, is a sequence model without weights, or recalls
            nothing but the key.
    """
    if plug.is_sequence_model:
        if not isinstance(plug.probe, nn.Module):
            raise NotAsked(f"{plug.name} is no nn.Module, so it has no weights to train")
    elif "Functional" not in plug.capabilities:
        raise NotAsked(f"{plug.name} has no init_state, write and read, which a network is trained through")
    elif plug.spec.association == "auto":
        raise NotAsked(f"{plug.name} recalls the key itself, so a controller has no values to write")


def trainable(
    plug: Plug,
    inputs: int,
    outputs: int,
    seed: int,
    *,
    vocabulary: bool = False,
    hidden_size: int = 64,
    memory_dim: int = 20,
    memory_size: int = 128,
    controller: Kind = "lstm",
) -> Fitted:
    """A fresh network of a plug, constructed under ``seed``.

    Args:
        inputs: width of the task's inputs; with ``vocabulary`` their number of tokens, which are embedded.
        outputs: width of what it asks for.
        hidden_size, memory_dim, memory_size: of a sequence model that lets them be chosen, or of the controller, and the
            memory's width and capacity (the nearest that it can have).
        controller: of a memory.

    Raises:
        NotAsked: see :func:`needs_form`.
    """
    needs_form(plug)
    width = hidden_size if vocabulary else inputs
    if plug.is_sequence_model:
        sizes = {"hidden_size": hidden_size, "memory_dim": memory_dim, "memory_size": memory_size}
        model = _sequence_model(plug, {"input_size": width, "output_size": outputs} | sizes, seed_of(seed, "model"))
    else:
        model = made_from(
            seed_of(seed, "controller"),
            lambda: _controlled(plug, width, outputs, seed, hidden_size, memory_dim, memory_size, controller),
        )
    taken = input_width(model)
    given = cross("run", lambda: model.run(first_inputs(model, 1, 1), model.initial_state(1)))[0].shape[-1]

    def around() -> Fitted:
        inward: nn.Module = nn.Identity() if taken == inputs else nn.Linear(inputs, taken)
        if vocabulary:
            inward = nn.Embedding(inputs, taken)
        return Fitted(model, inward, nn.Identity() if given == outputs else nn.Linear(given, outputs))

    return made_from(seed_of(seed, "around"), around)


def _sequence_model(plug: Plug, wanted: dict[str, int], seed: int) -> Any:
    """A model of the sizes wanted, as far as they can be chosen; of its own sizes where it cannot have these.

    Raises:
        CannotMeasure: if it cannot have a size that the setting names.
    """
    other = {n: s for n, s in plug.kwargs.items() if n in plug.exact and n in wanted and s != wanted[n]}
    if other:
        raise CannotMeasure(f"{plug.name} cannot have {', '.join(f'{name} = {wanted[name]}' for name in other)}")
    chosen = {name: wanted.get(name, size) for name, size in plug.sizes.items()}
    error = plug.refused_sizes(chosen)
    if error is not None:
        if plug.exact & chosen.keys():
            raise CannotMeasure(f"{plug.name} cannot have {listed(chosen)}: {raised(error)}")
        chosen = plug.sizes
    return plug.build(Shape(), seed, **chosen)


def _controlled(
    plug: Plug, inputs: int, outputs: int, seed: int, hidden: int, width: int, capacity: int, controller: Kind
) -> SequenceModel:
    shape = plug.shape(width, width, capacity)
    memory = plug.build(shape, seed_of(seed, "memory"))
    held = HeldMemory(memory)
    start = cross("init_state", lambda: held.start(1))
    row = torch.zeros(1, 1, 1, shape.key_dim), torch.zeros(1, 1, 1, shape.value_dim)
    with torch.no_grad():
        after = call(memory, "write", start, *row)
    fixed = [part.shape for part in state_tensors(after)] == [part.shape for part in state_tensors(start)]
    return ControlledMemory(
        inputs, outputs, hidden, held, shape.key_dim, shape.value_dim, controller=controller, gates=fixed
    )
