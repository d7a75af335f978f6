"""From a memory to what it could promise: each choice of each field is declared for it, and asked.

The checks are those that ask memories which do declare it, so whatever is offered passes when it is declared. Who
brings them (``memspec.suites``) says for each choice which they are; here it is decided in which order choices are
tried, what is kept, and what is said of the rest.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from memspec.errors import CannotMeasure, CheckFailed, NotAsked
from memspec.experiments.base import Runner
from memspec.failure import raised
from memspec.fixtures.data.pairs import pairs
from memspec.inference.families import estimated, fitting
from memspec.inference.observed import Observation, Observed
from memspec.laws.law import Law
from memspec.plugs.plug import Plug
from memspec.plugs.population import populate
from memspec.protocol import MemorySpec
from memspec.randomness import generator_states, moved_generators, seed_of

NEEDS = (
    *("key_domain", "value_domain", "association", "presentations", "capacity", "widths", "capabilities"),
    *("fidelity", "precision"),
)
"""Fields that say what a memory is to be given, and what it is: they are taken as declared, for nothing shows them."""

LawFor = Callable[[Plug, str], Law]
"""The law of a check, on a plug that declares something else than the memory does."""


@dataclass(frozen=True)
class Choice:
    """One way of a memory to be.

    Attributes:
        field: of the spec.
        value: what is declared to try it.
        checks: what then must hold, by check id; at least one must apply.
        beside: fields that must have been seen (or be declared) as said here.
        adds: whether ``value`` is one more element of a set.
    """

    field: str
    value: Any
    checks: Mapping[str, Callable[[Law], None]]
    beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    adds: bool = False


@dataclass(frozen=True)
class Came:
    """What came of asking one choice: None = it holds, else why not."""

    holds: bool
    said: str = ""


def observe(
    plug: Plug, choices: Sequence[Choice], law_for: LawFor, runner: Runner | None, *, bare: bool = False
) -> Observed:
    """Try every choice that the memory does not declare, strongest first, and keep what holds.

    Args:
        choices: of one field beside each other, the strongest first.
        law_for: makes the laws, with the run's seed.
        runner: has measured, or measures, what families predict; None leaves families alone.
        bare: as if nothing were declared but what the memory needs.
    """
    declared = plug.spec
    spec = MemorySpec(**{name: getattr(declared, name) for name in NEEDS}) if bare else declared
    seen: list[Observation] = []
    fields = list(dict.fromkeys(choice.field for choice in choices))
    for name in fields:
        mine = [choice for choice in choices if choice.field == name]
        if not mine[0].adds and getattr(spec, name) != getattr(MemorySpec(), name):
            seen.append(Observation(name, getattr(spec, name), "declared, and asked by the claims", declared=True))
            continue
        found, spec = _field(plug, spec, mine, law_for)
        seen += found
    if runner is not None and spec.family == "generic" and declared.fidelity != "trained":
        found, spec = _families(plug, spec, runner)
        seen += found
    seen += [Observation("widths", None, plug.widths_found(), promise=False), _growth(plug), _draws(plug)]
    return Observed(tuple(seen), spec)


def _field(
    plug: Plug, spec: MemorySpec, choices: Sequence[Choice], law_for: LawFor
) -> tuple[list[Observation], MemorySpec]:
    """What was seen of one field, and the spec with it."""
    refused: list[str] = []
    kept: list[str] = []
    name, weakest = choices[0].field, getattr(MemorySpec(), choices[0].field)
    for choice in choices:
        if any(getattr(spec, other) != value for other, value in choice.beside.items()):
            continue
        if choice.adds and choice.value in getattr(spec, name):
            continue
        value = getattr(spec, name) | {choice.value} if choice.adds else choice.value
        tried = replace(spec, **{name: value})
        came = asked(plug.declaring(tried), choice, law_for)
        if came.holds:
            kept.append(str(choice.value))
            spec = tried
            if not choice.adds:
                evidence = f"{', '.join(choice.checks)} hold" + (f"; {refused[-1]}" if refused else "")
                return [Observation(name, value, evidence)], spec
        elif came.said:
            refused.append(f"not {choice.value!r}: {came.said}")
    if kept:
        evidence = f"holds for {', '.join(kept)}" + (f"; {'; '.join(refused)}" if refused else "")
        return [Observation(name, sorted(getattr(spec, name)), evidence)], spec
    declared = sorted(getattr(spec, name)) if choices[0].adds else None
    evidence = "; ".join(refused) or "cannot be told from its answers"
    return [Observation(name, declared or None, evidence, declared=getattr(spec, name) != weakest)], spec


def asked(plug: Plug, choice: Choice, law_for: LawFor) -> Came:
    """Whether all checks of a choice hold that apply, and at least one does."""
    applied = False
    for check, ask in choice.checks.items():
        try:
            ask(law_for(plug, check))
            applied = True
        except (NotAsked, CannotMeasure):
            continue
        except CheckFailed as broken:
            return Came(False, _short(broken.failure.got))
        except Exception as error:
            return Came(False, _short(f"raised {raised(error)}"))
    return Came(applied)


def _short(text: str) -> str:
    """What a text says first, in a line."""
    return textwrap.shorten(text.strip().partition("\n")[0], 120, placeholder=" ...")


def _families(plug: Plug, spec: MemorySpec, runner: Runner) -> tuple[list[Observation], MemorySpec]:
    """Which families the curves fit, tried with the parameters that single pairs show."""
    fits, excluded = fitting(plug, spec, estimated(plug, spec), runner)
    out = "; ".join(f"not {name}: {why}" for name, why in excluded.items())
    if not fits:
        return [Observation("family", None, out or "no family says anything of these curves")], spec
    best = fits[0]
    names = ", ".join(f.family + (f" (beta {f.beta:.4g})" if f.beta is not None else "") for f in fits)
    seen = [Observation("family", best.family, f"its curves fit {names}{'; ' * bool(out)}{out}")]
    if best.beta is not None:
        seen.append(Observation("beta", best.beta, "from the answers to one pair, or two"))
    return seen, best


def _growth(plug: Plug) -> Observation:
    """Bytes of state after 1, 17 and 201 pairs."""
    memories, bytes_held, written = _small(plug), [], 0
    for more in (1, 16, 184):
        keys, values = _pairs(plug, memories, more, written)
        written += more
        memories.update(keys, values)
        bytes_held.append(int(memories.state_bytes()[0]))
    after = ", ".join(f"{held} bytes after {n}" for held, n in zip(bytes_held, (1, 17, 201)))
    return Observation("growth", bytes_held[-1] > bytes_held[0], after, promise=False)


def _draws(plug: Plug) -> Observation:
    """Which calls draw from a global generator."""
    memories = _small(plug)
    keys, values = _pairs(plug, memories, 4, 0)
    calls = {"update": lambda: memories.update(keys, values), "query": lambda: memories.query(keys)}
    drew = []
    for name, call in calls.items():
        before = generator_states()
        call()
        if moved_generators(before, generator_states()):
            drew.append(name)
    return Observation("draws", drew, f"{' and '.join(drew) or 'no call'} draws random numbers", promise=False)


def _small(plug: Plug) -> Any:
    return populate(plug, plug.shape(6, 5, 16), [0], 0)


def _pairs(plug: Plug, memories: Any, count: int, start: int) -> Any:
    spec, shape = plug.spec, memories.shape
    generator = torch.Generator().manual_seed(seed_of(0, "observed", start))
    drawn = pairs(
        spec.key_domain, spec.value_domain, count, shape.key_dim, shape.value_dim, generator, spec.association
    )
    return tuple(part[None] for part in drawn)
