"""Facts: short statements hidden in real prose, shown once, recalled from their first two words.

What is stored under the first two words is the rest of the statement, both as hashed character n-grams
(:mod:`memspec.fixtures.data.text`); the prose of the manual is stored in the same way, around and between the facts. Every
answer is ranked among its matched foils: the endings of the other facts of the same template, which were shown as
well, so that having seen an ending is no help, only having seen it with this name.

Two controls stand beside it. *Off*: the same memory after a reset. *Shuffled*: another memory that was shown the same
text with the endings permuted within each template. The endings were drawn independently of the names, so given all
that a control has seen, every assignment of endings to names is equally likely: its accuracy has mean 1/foils+1 and
its two-choice score mean 1/2 exactly, for every memory whatever. A control above that is a leak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments.base import Experiment, Measured, Scoring, Setting
from memspec.fixtures.tasks import facts
from memspec.metrics import Metric
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import Population, populate

TEMPLATES = len(facts.TEMPLATES)


@dataclass(frozen=True)
class Hidden(Setting):
    """``matched`` facts of each of the four templates among ``prose`` sentences, shown ``paragraph`` rows at a time."""

    matched: int = 6
    prose: int = 72
    paragraph: int = 8
    key_dim: int = 128
    value_dim: int = 128

    @property
    def shown(self) -> int:
        """Statements in all."""
        return TEMPLATES * self.matched + self.prose

    @property
    def label(self) -> str:
        return f"prose{self.prose}" + (f"-matched{self.matched}" if self.matched != 6 else "")


CONDITIONS = {
    "": "with memory",
    "_off": "after a reset",
    "_shuffled": "by a memory that was shown the endings permuted",
}
METRICS = {
    **{
        f"accuracy{c}": Metric(f"share of facts ranked first among their foils, {said}", better="none" if c else "up")
        for c, said in CONDITIONS.items()
    },
    **{
        f"two_choice{c}": Metric(
            f"share of foils that the right ending beats (ties half; chance 1/2), {said}", better="none" if c else "up"
        )
        for c, said in CONDITIONS.items()
    },
    **{
        f"rank{c}": Metric(
            f"mean rank of the right ending among its foils, from 1, {said}",
            low=1.0,
            high=float("inf"),
            better="none" if c else "down",
        )
        for c, said in CONDITIONS.items()
    },
    "gain": Metric("two-choice score with memory less that of the shuffled control", low=-1.0),
}


def built_for(plug: Plug, setting: Hidden) -> Shape:
    """The shape a memory is built with: room for everything shown."""
    return plug.shape(setting.key_dim, setting.value_dim, setting.shown)


def measure(plug: Plug, setting: Hidden, trials: Sequence[int], seed: int) -> Measured:
    """Show the text once and rank the answers; reset and rank again; show the permuted text to others and rank."""
    plug.needs_free_values()
    spec, shape = plug.spec, built_for(plug, setting)
    if "onehot" in (spec.key_domain, spec.value_domain):
        raise NotAsked(f"{plug.name} takes one-hot vectors, and embedded text is not")
    sentences, endings = (
        facts.prose(spec.key_domain, shape.key_dim),
        facts.prose_rests(spec.value_domain, shape.value_dim),
    )
    if len(sentences) < setting.prose:
        raise CannotMeasure(
            f"the manual of this Python has {len(sentences)} sentences; the setting asks {setting.prose}"
        )
    first, last, things, places, start, position, shuffle = randomness.stacked(
        lambda g: _drawn(setting, len(sentences), g), trials, seed, "facts", setting.label
    )
    template = torch.arange(TEMPLATES)[:, None]
    cues = facts.cues(first, last, spec.key_domain, shape.key_dim).flatten(1, 2)
    rests = facts.rests(spec.value_domain, shape.value_dim)[template, things, places]  # [T, templates, matched, Dv]
    permuted = torch.gather(rests, 2, shuffle[..., None].expand_as(rests))
    lines = start + torch.arange(setting.prose)
    # row i of the text is entry position[i] of facts + prose
    keys = _taken(torch.cat((cues, sentences[lines]), 1), position)
    values, control = (
        _taken(torch.cat((shown.flatten(1, 2), endings[lines]), 1), position) for shown in (rests, permuted)
    )
    memories = populate(plug, shape, trials, seed)
    _show(memories, keys, values, setting.paragraph)
    out = _ranked(memories.query(cues), rests, "")
    memories.reset()
    out |= _ranked(memories.query(cues), rests, "_off")
    others = populate(plug, shape, trials, seed)
    _show(others, keys, control, setting.paragraph)
    out |= _ranked(others.query(cues), rests, "_shuffled")
    return out | {"gain": out["two_choice"] - out["two_choice_shuffled"]}


def _drawn(setting: Hidden, sentences: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Who, what and where ``[templates, matched]``, the prose's first sentence, the order, and the control's permutation."""
    groups, matched = TEMPLATES, setting.matched
    # No first name, surname or place twice.
    first, last, places = (
        torch.randperm(pool, generator=generator)[: groups * matched].view(groups, matched)
        for pool in (facts.NAMES, facts.NAMES, facts.PLACES)
    )
    things = torch.rand(groups, facts.THINGS, generator=generator).argsort(-1)[:, :matched]
    start = torch.randint(sentences - setting.prose + 1, (1,), generator=generator)
    # The prose stays in its order; the facts fall at random places in it.
    spots = torch.randperm(setting.shown, generator=generator)
    position = torch.empty_like(spots)
    position[spots[: groups * matched]] = torch.arange(groups * matched)
    position[spots[groups * matched :].sort().values] = torch.arange(groups * matched, setting.shown)
    shuffle = torch.rand(groups, matched, generator=generator).argsort(-1)
    return first, last, things, places, start, position, shuffle


def _taken(rows: Tensor, position: Tensor) -> Tensor:
    return torch.gather(rows, 1, position[..., None].expand(-1, -1, rows.shape[-1]))


def _show(memories: Population, keys: Tensor, values: Tensor, paragraph: int) -> None:
    """The whole text, a paragraph at a time, as often as the spec says it must be shown."""
    for _ in range(memories.plug.spec.presentations):
        for k, v in zip(keys.split(paragraph, 1), values.split(paragraph, 1)):
            memories.update(k, v)


def _ranked(answers: Tensor, rests: Tensor, condition: str) -> dict[str, Tensor]:
    """Where the right ending stands among those of its template, by cosine; ``rests [T, templates, matched, Dv]``."""
    matched = rests.shape[2]
    answers = answers.reshape(rests.shape)
    finite = torch.isfinite(answers).all(-1)
    # Endings have one length, so the inner product orders them as the cosine does.
    scores = torch.where(finite[..., None], answers, 0.0) @ rests.mT
    own = scores.diagonal(dim1=-2, dim2=-1)[..., None]
    above = (scores > own).sum(-1)
    ties = (scores == own).sum(-1) - 1
    rank = torch.where(finite, 1 + above + ties / 2, float(matched)).double()
    first = torch.where(finite & (above == 0), 1 / (1 + ties), 0.0).double()
    return {
        f"accuracy{condition}": first.mean((1, 2)),
        f"two_choice{condition}": (1 - (rank - 1) / (matched - 1)).mean((1, 2)),
        f"rank{condition}": rank.mean((1, 2)),
    }


FACTS = Experiment(
    "facts",
    measure,
    METRICS,
    "showed {matched} facts of each of four templates once, hidden among {prose} sentences of prose, "
    "then asked for each from its first two words, among the {matched} of its template",
    Hidden,
)

SCORES = (
    Scoring(
        axis="facts",
        experiment=FACTS.name,
        metric="accuracy",
        floor=1 / Hidden.matched,
        ceiling=1.0,
        description="facts ranked first among matched foils, above chance",
        labels=("prose72", "prose232"),
    ),
)
