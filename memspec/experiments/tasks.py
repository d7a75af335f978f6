"""Sequence tasks with the controller's part done by hand: the memory alone, untrained (:mod:`memspec.fixtures.tasks.by_hand`).

What a network would have to learn, when to write what and what to ask for, is done rightly; so an exact memory makes no
mistake, and what any other gets wrong is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure
from memspec.experiments.base import Experiment, Measured, Setting, one_of
from memspec.fixtures.data import pairs
from memspec.fixtures.tasks import sequences
from memspec.fixtures.tasks.by_hand import HANDS, Hand
from memspec.metrics import Metric
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate


@dataclass(frozen=True)
class Stored(Setting):
    """One of :data:`~memspec.fixtures.tasks.by_hand.HANDS`, in a memory with room for all that is written."""

    task: str = one_of("copy", HANDS)
    key_dim: int = 64
    value_dim: int = 64

    @property
    def label(self) -> str:
        return self.task


METRICS = {
    "accuracy": Metric("share of the answers that are nearest (cosine) to the right symbol, of all that there are"),
    "two_choice": Metric("share of the other symbols that the right one beats (cosine; ties half; chance 1/2)"),
    "bits_wrong": Metric("wrong bits a sequence, where symbols are vectors of bits", high=float("inf"), better="down"),
    "kendall": Metric("Kendall's tau between the order put out and that of the priorities", low=-1.0),
}


def built_for(plug: Plug, setting: Stored) -> Shape:
    """The shape a memory is built with: room for every pair that is written, those written again too."""
    return plug.shape(setting.key_dim, setting.value_dim, HANDS[setting.task].written)


def measure(plug: Plug, setting: Stored, trials: Sequence[int], seed: int) -> Measured:
    """Write what the hand writes, in one update, and read what it asks for."""
    plug.needs_free_values()
    hand, shape, spec = HANDS[setting.task], built_for(plug, setting), plug.spec
    keys, values, asked, wanted, counted = randomness.stacked(hand.script, trials, seed, "tasks.stored", setting.task)
    try:
        table = hand.value_table(spec.value_domain, shape.value_dim)
        symbols = hand.key_codes(torch.arange(hand.keys), spec.key_domain, shape.key_dim) if hand.keys else table[:0]
        written, questions = (hand.key_codes(part, spec.key_domain, shape.key_dim) for part in (keys, asked))
    except ValueError as error:  # sums of codes that are one-hot
        raise CannotMeasure(f"{plug.name}: {error}") from error
    for codes, role, domain in ((symbols, "keys", spec.key_domain), (table, "values", spec.value_domain)):
        if len(codes.unique(dim=0)) < len(codes):
            raise CannotMeasure(
                f"{plug.name}: {len(codes)} symbols have no distinct {domain} {role} of width {codes.shape[-1]}"
            )
    memories = populate(plug, shape, trials, seed)
    memories.store(written, table[values])
    answers = memories.query(questions)
    finite = answers.isfinite().all(-1)
    scores = torch.where(finite[..., None], answers, 0.0) @ table[: hand.candidates].mT
    own = scores.gather(-1, wanted[..., None])
    right = torch.where(finite, scores.argmax(-1), -1) == wanted
    beaten = ((scores < own).sum(-1) + ((scores == own).sum(-1) - 1) / 2) / (hand.candidates - 1)
    out = {
        "accuracy": _mean(right.double(), counted),
        "two_choice": _mean(torch.where(finite, beaten, 0.0).double(), counted),
    }
    if hand.bits:
        out["bits_wrong"] = _bits_wrong(hand, torch.where(finite, scores.argmax(-1), -1), wanted)
    if setting.task == "sort":
        out["kendall"] = sequences.kendall(pairs.unit(answers.nan_to_num()), pairs.unit(table[wanted]))
    return out


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return (values * counted).sum(-1) / counted.sum(-1)


def _bits_wrong(hand: Hand, came: Tensor, wanted: Tensor) -> Tensor:
    """``[T]``; an answer that is not finite has all of its bits wrong."""
    places = torch.arange(hand.bits)
    differ = ((came ^ wanted)[..., None] >> places & 1).sum(-1)
    return torch.where(came < 0, hand.bits, differ).sum(-1).double()


STORED = Experiment(
    "tasks.stored",
    measure,
    METRICS,
    "wrote a sequence of the task {task} as a right controller would, untrained, and asked for what the task asks for",
    Stored,
)
