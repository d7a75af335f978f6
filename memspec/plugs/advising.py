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

from memspec.errors import PlugError
from memspec.failure import raised
from memspec.plugs.adapting import DIMENSIONS, adapt
from memspec.plugs.kinds import STYLES, has
from memspec.plugs.plug import METHODS, SYNONYMS, Plug, Shape, abstract
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
CLEARS = re.compile(r"reset|clear|wipe|(forget|erase|delete|remove)_all")
"""Parts of the names of methods that clear."""
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


def around(plug: Plug) -> str:
    """What to do about a memory whose answers have another form at every width, which no conversion mends."""
    module, name = module_of(plug.name)
    return (
        "It is so at every width. Mend query, or go around it in a file of yours:\n\n"
        f"    from memspec import adapt\n    from {module} import {name.partition('.')[0]}\n"
        f'    Adapted = adapt({name}, reset="reset", query=lambda memory, keys: ...)  # [Q, key_dim] -> [Q, value_dim]'
    )


def advise(factory: Callable[..., Any]) -> Advice:
    """The first adapter with which a memory of ``factory`` stores one pair and answers for it; else the likeliest one.

    Raises:
        PlugError: for a class that nobody can build.
    """
    if inspect.isabstract(factory):
        raise PlugError(abstract(factory))
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
            if missing:
                advice = Advice(options, missing)
            else:
                advice = Advice(options, missing, problem_of(Plug("adapted", adapt(factory, **options))))
                if advice.problem and options.get("kind") == "estimator":
                    advice = _with_one_neighbour(factory, advice)
                if not advice.problem:
                    return advice
            first = first or advice
    return first or Advice({"update": "...", "query": "..."}, _missing(factory, {}), "nothing that stores and answers")


def _with_one_neighbour(factory: Callable[..., Any], advice: Advice) -> Advice:
    """The same for an estimator that asks more neighbours by default than there are when one pair is stored."""
    if "n_neighbors" not in {p.name for p in _parameters(factory)}:
        return advice
    made = adapt(lambda: factory(n_neighbors=1), **advice.options)
    builder = (
        f"def build():\n    return {factory.__name__}(n_neighbors=1)  # by default more than one pair has to be there\n"
    )
    return advice if problem_of(Plug("adapted", made)) else Advice(advice.options, builder=builder)


def problem_of(plug: Plug, rows: int = 1) -> str:
    """What goes wrong when a memory is built, given one pair (in so many rows), and asked for it; empty if nothing does."""

    def tried() -> str:
        shape = plug.told(Shape())  # as the experiments ask for: looking for other widths would take its time
        memory = plug.build(shape)
        keys, values = (one.repeat(rows, 1) for one in one_pair(plug.spec, shape, torch.device("cpu")))
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


RECURRENT = {"input_size": "row", "hidden_size": "value_dim"}
"""What the dimensions of torch's recurrent modules are, and of modules that are built like them."""


def _recurrent(factory: Any) -> bool:
    if not isinstance(factory, type):
        return False
    like_torch = issubclass(factory, nn.Module) and {p.name for p in _parameters(factory)} >= RECURRENT.keys()
    return like_torch or issubclass(factory, (nn.RNNBase, nn.RNNCellBase)) or has(factory, ("initial_state", "step"))


def _arguments(factory: Callable[..., Any]) -> Iterator[dict[str, str]]:
    """What the dimensions may be called: ``{"d_model": "dim"}``, likeliest first."""
    if isinstance(factory, type) and issubclass(factory, (nn.RNNBase, nn.RNNCellBase)):
        yield RECURRENT
        return
    if _recurrent(factory) and not has(factory, ("initial_state", "step")):
        yield RECURRENT
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

    if has(looked, ("fit", "predict")):  # before the indexes: scikit-learn's regressors on neighbours are both
        yield {"kind": "estimator", **named}
    if any(has(looked, attributes) for attributes, _, _ in STYLES.values()):
        yield {"kind": "index", **named}
    if _recurrent(factory):
        yield {"kind": "recurrent", **named}
    calls = {}
    for name in METHODS:
        like = [n for n in (name, *SYNONYMS[name]) if callable(getattr(looked, n, None))]
        if name == "query" and not like and isinstance(looked, nn.Module):
            like = ["forward"]
        if name == "reset" and not like:
            like = [n for n in dir(looked) if not n.startswith("_") and CLEARS.search(n) and _takes_nothing(looked, n)]
        if like:
            calls[name] = like[0]
    if {"update", "query"} <= calls.keys():
        ordered = {name: calls[name] for name in ("update", "query", "reset") if name in calls}
        for conversion in CONVERSIONS:
            yield {**{n: c for n, c in ordered.items() if n == "reset" or n != c}, **named, **conversion}
    if has(looked, ("__setitem__", "__getitem__")):
        yield {"kind": "mapping", **named}


def _takes_nothing(thing: Any, name: str) -> bool:
    """Whether a method can be called without arguments."""
    with contextlib.suppress(TypeError, ValueError):
        inspect.signature(getattr(thing, name)).bind(*([None] if isinstance(thing, type) else []))
        return callable(getattr(thing, name))
    return False


def module_of(plug: str) -> tuple[str, str]:
    """The module to import from and the name in it, of ``pkg.module:Class`` or ``path/to/file.py:Class``."""
    place, _, name = plug.partition("(")[0].rpartition(":")
    return re.split(r"[/\\]", place.removesuffix(".py"))[-1] if place.endswith(".py") else place, name
