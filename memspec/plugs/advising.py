"""What adapter would make a memory of an object that is none yet: found by trying, and written out to paste."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from memspec.failure import raised
from memspec.plugs.adapting import DIMENSIONS, adapt
from memspec.plugs.kinds import STYLES, has
from memspec.plugs.plug import METHODS, SYNONYMS, Plug, Shape
from memspec.plugs.widths import one_pair, wrong_answer
from memspec.randomness import made_from
from memspec.world.boundary import call

CONVERSIONS: tuple[Mapping[str, Any], ...] = (
    {},
    {"dtype": torch.float32},
    {"batched": True},
    {"numpy": True},
    {"dtype": torch.float64},
    {"dtype": torch.float16},
    {"dtype": torch.bfloat16},
    {"batched": True, "dtype": torch.float64},
    {"batched": True, "numpy": True},
    {"numpy": True, "dtype": torch.float64},
    {"batched": True, "numpy": True, "dtype": torch.float64},
)
"""In the order in which they are tried: what converts least comes first."""

BUILDERS: Mapping[str, str] = {
    "faiss": "def build(key_dim):\n    return {name}(key_dim)\n",
    "hnswlib": (
        "def build(key_dim, capacity):\n"
        '    index = {name}(space="cosine", dim=key_dim)\n'
        "    index.init_index(max_elements=100 * capacity)\n"
        "    return index\n"
    ),
}
"""How compiled libraries, whose constructors cannot be read, build an index."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "key_dim": ("dim_key", "d_k", "key_size", "in_features", "input_dim", "in_dim", "dim_in"),
    "value_dim": ("dim_value", "d_v", "value_size", "out_features", "output_dim", "out_dim", "dim_out"),
    "capacity": ("num_slots", "n_slots", "slots", "max_size", "max_elements", "memory_size", "maxlen", "num_memories"),
    "dim": ("dim", "d_model", "embed_dim", "embedding_dim", "hidden_size", "hidden_dim", "width", "ndim", "n_features"),
}
"""What people call the dimensions in a constructor."""
DIM = 64


@dataclass(frozen=True)
class Advice:
    """An adapter.

    Attributes:
        options: what to give :func:`memspec.adapt`, beside the factory.
        missing: arguments of the constructor that nobody can guess.
        problem: why even this does not work; empty if it does.
        builder: source of a function ``build`` to adapt in place of the class; empty where the class will do.
    """

    options: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    problem: str = ""
    builder: str = ""

    def call(self, factory: str) -> str:
        """The call of ``adapt``, as source."""
        options = "".join(f", {name}={written(value)}" for name, value in self.options.items())
        return f"adapt({factory}{options})"

    def file(self, module: str, factory: str) -> str:
        """A file that defines ``Adapted``."""
        top = factory.partition(".")[0]
        imports = ["import torch\n"] if any(isinstance(v, torch.dtype) for v in self.options.values()) else []
        imports += [f"from memspec import adapt\nfrom {module} import {top}\n"]
        build = self.builder
        if self.missing:
            given = ", ".join(f"{name}=..." for name in self.missing)
            build = f"def build(key_dim, value_dim, capacity):\n    return {factory}({given})  # fill these in\n"
        if build:
            return "\n".join(imports) + f"\n\n{build}\n\nAdapted = {self.call('build')}\n"
        return "\n".join(imports) + f"\nAdapted = {self.call(factory)}\n"


def written(value: Any) -> str:
    """A value as source, with double quotes as the rest of the file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(k)}: {written(v)}" for k, v in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def conversion_for(plug: Plug) -> Advice | None:
    """The adapter for a memory that has the three methods, but other rows; None if none is known that would do."""
    for conversion in CONVERSIONS[1:]:
        if not problem_of(Plug(plug.name, adapt(plug.factory, reset="reset", **conversion), plug.kwargs)):
            return Advice({"reset": "reset", **conversion})
    return None


def advise(factory: Callable[..., Any]) -> Advice:
    """The first adapter with which a memory of ``factory`` stores one pair and answers for it; else the likeliest one."""
    library = str(getattr(factory, "__module__", "")).partition(".")[0]
    if library in BUILDERS:
        name = factory.__name__
        builder, made = BUILDERS[library].format(name=name), {name: factory}
        exec(builder, made)
        options: dict[str, Any] = {"kind": "index"}
        return Advice(options, (), problem_of(Plug("adapted", adapt(made["build"], **options))), builder)
    first: Advice | None = None
    for arguments in _arguments(factory):
        missing = _missing(factory, arguments)
        thing = None if missing else _built(factory, arguments)
        for options in _options(factory, thing, arguments):
            if thing is None:
                advice = Advice(options, missing)
            else:
                advice = Advice(options, missing, problem_of(Plug("adapted", adapt(factory, **options))))
                if not advice.problem:
                    return advice
            first = first or advice
    return first or Advice({"update": "...", "query": "..."}, _missing(factory, {}), "nothing that stores and answers")


def problem_of(plug: Plug) -> str:
    """What goes wrong when a memory is built, given one pair, and asked for it; empty if nothing does."""

    def tried() -> str:
        shape = plug.told(Shape())  # as the experiments ask for: looking for other widths would take its time
        memory = plug.build(shape)
        keys, values = one_pair(plug.spec, shape, torch.device("cpu"))
        call(memory, "update", keys, values)
        return wrong_answer(call(memory, "query", keys), keys, values)

    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return str(made_from(0, tried))
    except Exception as error:
        return raised(error)


# ---- guesses --------------------------------------------------------------------------------------------------


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    with contextlib.suppress(TypeError, ValueError):
        return [
            p for p in inspect.signature(factory).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
    return []


def _recurrent(factory: Any) -> bool:
    return isinstance(factory, type) and (
        issubclass(factory, (nn.RNNBase, nn.RNNCellBase)) or has(factory, ("initial_state", "step"))
    )


def _arguments(factory: Callable[..., Any]) -> Iterator[dict[str, str]]:
    """What the dimensions may be called: ``{"d_model": "dim"}``, likeliest first."""
    if isinstance(factory, type) and issubclass(factory, (nn.RNNBase, nn.RNNCellBase)):
        yield {"input_size": "row", "hidden_size": "value_dim"}
        return
    index = any(has(factory, attributes) for attributes, _, _ in STYLES.values())
    found: list[list[tuple[str, str]]] = []
    for parameter in _parameters(factory):
        meant = [d for d, names in NAMES.items() if parameter.name in names]
        required = parameter.default is parameter.empty
        if meant and parameter.name not in DIMENSIONS:
            one = ("key_dim", "dim", "row") if index else ("dim", "key_dim", "row")
            choices = [(parameter.name, d) for told in meant for d in (one if told == "dim" else (told,))]
            found.append(choices if required else choices[:1])
    for chosen in itertools.product(*found):
        yield dict(chosen)


def _missing(factory: Callable[..., Any], arguments: Mapping[str, str]) -> tuple[str, ...]:
    known = {*DIMENSIONS, *arguments}
    if _recurrent(factory) and issubclass(factory, nn.RNNBase):  # type: ignore[arg-type]
        return ()
    return tuple(p.name for p in _parameters(factory) if p.default is p.empty and p.name not in known)


def _built(factory: Callable[..., Any], arguments: Mapping[str, str]) -> Any:
    """An object to look at; None if it cannot be built."""
    given = dict.fromkeys((n for n in arguments), DIM) | {
        p.name: DIM for p in _parameters(factory) if p.name in DIMENSIONS
    }
    try:
        return made_from(0, lambda: factory(**given))
    except Exception:
        return None


def _options(factory: Callable[..., Any], thing: Any, arguments: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What to give ``adapt``, likeliest first."""
    looked = factory if thing is None else thing
    named = {"arguments": dict(arguments)} if arguments else {}

    if any(has(looked, attributes) for attributes, _, _ in STYLES.values()):
        yield {"kind": "index", **named}
    if has(looked, ("fit", "predict")):
        yield {"kind": "estimator", **named}
    if _recurrent(factory):
        yield {"kind": "recurrent", **named}
    calls = {}
    for name in METHODS:
        like = [n for n in (name, *SYNONYMS[name]) if callable(getattr(looked, n, None))]
        if name == "query" and not like and isinstance(looked, nn.Module):
            like = ["forward"]
        if like:
            calls[name] = like[0]
    if {"update", "query"} <= calls.keys():
        ordered = {name: calls[name] for name in ("update", "query", "reset") if name in calls}
        for conversion in CONVERSIONS:
            yield {**{n: c for n, c in ordered.items() if n == "reset" or n != c}, **named, **conversion}
    if has(looked, ("__setitem__", "__getitem__")):
        yield {"kind": "mapping", **named}


def module_of(plug: str) -> tuple[str, str]:
    """The module to import from and the name in it, of ``pkg.module:Class`` or ``path/to/file.py:Class``."""
    place, _, name = plug.partition("(")[0].rpartition(":")
    return re.split(r"[/\\]", place.removesuffix(".py"))[-1] if place.endswith(".py") else place, name
