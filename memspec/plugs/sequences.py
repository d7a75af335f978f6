"""Sequence models as plugs: networks with ``initial_state``, ``step`` and ``run`` instead of a memory's three methods.

A factory that names ``input_size`` is called with those of :data:`SIZES` that its signature names, no two of them alike;
only where that does not work all are given alike, and a law says so. What is built of it is driven through the
:class:`~memspec.protocol.Recurrent` methods alone. :func:`adapted` puts these around torch's recurrent layers and cells,
and around modules that are called like them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from memspec.errors import PlugError
from memspec.plugs.kinds import Call, called
from memspec.plugs.reachable import device_of
from memspec.protocol import MemorySpec, methods_of

SIZES: Mapping[str, int] = {"input_size": 6, "output_size": 5, "hidden_size": 12, "memory_size": 10, "memory_dim": 8}
"""What networks call their sizes, and what they are given: numbers all different, all above a network's usual heads."""
ALIKE = 8
"""The one size of networks that cannot have different ones."""
WIDTHS = ("input_size", "input_dim", "key_dim")
"""Attributes that may say how wide the inputs of a sequence model are."""


def is_recurrent(model: object) -> bool:
    """Whether it has all methods of a recurrent model, callable."""
    return all(callable(getattr(model, name, None)) for name in methods_of("Recurrent"))


def sizes_named(factory: Callable[..., Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of :data:`SIZES` that a factory names, but for those given; none unless ``input_size`` is among its names.

    A memory of the three methods may have a ``memory_size`` too, which is its own affair.
    """
    try:
        named = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return ()
    if "input_size" not in named or "key_dim" in named:
        return ()
    return tuple(name for name in SIZES if name in named and name not in given)


def listed(sizes: Mapping[str, int]) -> str:
    """Sizes in words: ``input_size 6, hidden_size 12``."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "no sizes to choose"


def input_width(model: object) -> int:
    """How wide the inputs of a sequence model are, by its ``input_size``, ``input_dim`` or ``key_dim``.

    Raises:
        PlugError: if it has none of them.
    """
    for name in WIDTHS:
        width = getattr(model, name, None)
        if isinstance(width, int) and not isinstance(width, bool):
            return width
    raise PlugError(
        f"{type(model).__name__} has initial_state, step and run, but nothing that says how wide its inputs are: "
        "give it an attribute input_size"
    )


def first_inputs(model: object, steps: int = 2, batch: int = 2) -> Tensor:
    """Some inputs ``[T, B, Dx]``, where the model is."""
    drawn = torch.randn(steps, batch, input_width(model), generator=torch.Generator().manual_seed(0))
    return drawn.to(device_of(model))


def wrong_outputs(model: Any, xs: Tensor) -> str:
    """What is wrong with the form of what a model gives for a step and a run of these inputs; empty if nothing is."""
    state = model.initial_state(xs.shape[1])
    for name, given, batch in (("step", xs[0], xs.shape[1:2]), ("run", xs, xs.shape[:2])):
        answer = getattr(model, name)(given, state)
        if not isinstance(answer, tuple) or len(answer) != 2:
            return f"{name} returned a {type(answer).__name__}; it must return (outputs, state)"
        outputs = answer[0]
        if not isinstance(outputs, Tensor) or outputs.shape[:-1] != batch:
            came = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            leading = ", ".join(map(str, batch))
            return f"{name} of inputs {list(given.shape)} gave outputs {came}; they must be [{leading}, output width]"
    return ""


# ---- torch's own, and modules like them -----------------------------------------------------------------------


class AdaptedSequence(nn.Module):
    """A recurrent module behind ``initial_state``, ``step`` and ``run``; made by :func:`adapted`.

    Attributes:
        inner: the module.
    """

    def __init__(self, inner: Any, run: Call, start: Call, spec: MemorySpec | None) -> None:
        super().__init__()
        self.inner, self._run, self._start = inner, run, start
        self.spec = spec or MemorySpec()

    @property
    def input_size(self) -> int:
        """How wide the inputs are."""
        return input_width(self.inner)

    def initial_state(self, batch: int) -> Any:
        """The state before the first step of ``batch`` sequences; None where the module takes none for the first."""
        inner = self.inner
        if self._start is not None:
            return called(inner, self._start, batch)
        like = next(self.inner.parameters(), torch.empty(0)) if isinstance(inner, nn.Module) else torch.empty(0)
        if isinstance(inner, nn.RNNCellBase):
            hidden = like.new_zeros(batch, inner.hidden_size)
            return (hidden, hidden.clone()) if isinstance(inner, nn.LSTMCell) else hidden
        if isinstance(inner, nn.RNNBase):
            layers = inner.num_layers * (2 if inner.bidirectional else 1)
            hidden = like.new_zeros(layers, batch, inner.proj_size or inner.hidden_size)
            return (hidden, like.new_zeros(layers, batch, inner.hidden_size)) if inner.mode == "LSTM" else hidden
        return None

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """``x [B, Dx]`` -> ``[B, Dy]`` and the next state."""
        ys, state = self.run(x[None], state)
        return ys[0], state

    def run(self, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """``xs [T, B, Dx]`` -> ``[T, B, Dy]`` and the state after them."""
        if self._run is not None:
            ys, state = called(self.inner, self._run, xs, state)
            return ys, state
        if isinstance(self.inner, nn.RNNCellBase):
            outputs = []
            for x in xs:
                state = self.inner(x, state)
                outputs.append(state[0] if isinstance(state, tuple) else state)
            return torch.stack(outputs), state
        first = getattr(self.inner, "batch_first", not isinstance(self.inner, nn.RNNBase))
        ys, state = self.inner(xs.transpose(0, 1) if first else xs, state)
        return (ys.transpose(0, 1) if first else ys), state


def adapted(
    factory: Callable[..., Any],
    run: Call = None,
    start: Call = None,
    spec: MemorySpec | None = None,
    arguments: Mapping[str, str] | None = None,
) -> Callable[..., AdaptedSequence]:
    """A factory of sequence models from one of recurrent modules; what ``memspec.adapt(kind="sequence")`` gives.

    Args:
        factory: builds the module.
        run: what answers ``(module, xs [T, B, Dx], state)`` with ``(ys [T, B, Dy], state)``, a method's name or a
            function; None = the module is called, as torch's recurrent layers and cells are (``[B, T, Dx]`` where its
            ``batch_first`` says so, and where it says nothing).
        start: what answers ``(module, batch)`` with the first state; None = zeros for torch's own, else None.
        spec: what to declare.
        arguments: what the factory calls its sizes: ``{"d_model": "input_size"}``.

    Raises:
        PlugError: for a size in ``arguments`` that there is not.
    """
    names = dict(arguments or {})
    unknown = [size for size in names.values() if size not in SIZES]
    if unknown:
        raise PlugError(f"memspec.adapt: arguments name the sizes {', '.join(unknown)}; there are {', '.join(SIZES)}")
    try:
        own = [names.get(name, name) for name in inspect.signature(factory).parameters]
    except (TypeError, ValueError):
        own = list(names.values())
    if isinstance(factory, type) and issubclass(factory, nn.RNNBase):  # whose signature is (*args, **kwargs)
        own = ["input_size", "hidden_size"]

    def make(**given: Any) -> AdaptedSequence:
        renamed = {name: given.pop(size) for name, size in names.items() if size in given}
        return AdaptedSequence(factory(**given, **renamed), run, start, spec)

    sizes = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in SIZES if name in own]
    make.__signature__ = inspect.Signature(sizes)  # type: ignore[attr-defined]
    make.__name__ = make.__qualname__ = f"adapt({getattr(factory, '__name__', 'factory')})"
    make.__module__ = getattr(factory, "__module__", __name__)
    return make
