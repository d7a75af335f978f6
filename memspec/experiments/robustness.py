"""Robustness: what is recalled when conditions are not perfect.

Noisy and partial cues, keys that resemble each other, writes that were not worth storing, and pairs whose value is
the key itself. Recall is decoded by cosine among all values ever shown; beside it stands ``discrimination``, the
chance that an answer is nearer to its value than to another one, which is .5 for a blind guess at every load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memspec import randomness
from memspec.errors import CannotMeasure, NotAsked
from memspec.experiments import decode
from memspec.experiments.base import Curve, Experiment, Measured, Scoring, Setting, one_of
from memspec.fixtures.data import pairs
from memspec.metrics import Axis, KeyFigure, Metric, Showing
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate

SIGMAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
ERASED = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
RHOS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Cues(Setting):
    """``n`` stored pairs, asked for by cues that are degraded step by step."""

    n: int = 32
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128

    @property
    def label(self) -> str:
        return f"n{self.n}" + (f"-d{self.key_dim}" if self.key_dim != 64 else "")


@dataclass(frozen=True)
class Distractors(Setting):
    """``n`` signal pairs, each shown ``shows`` times, in random order among distractors shown once."""

    n: int = 10
    shows: int = 2
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128

    @property
    def label(self) -> str:
        return f"n{self.n}" + (f"-shows{self.shows}" if self.shows != 2 else "")


@dataclass(frozen=True)
class Association(Setting):
    """``n`` pairs of key and independent value (``hetero``) or of a key with itself (``auto``), cues with noise ``sigma``."""

    kind: str = one_of("hetero", ("hetero", "auto"))
    n: int = 32
    sigma: float = 0.5
    key_dim: int = 64
    value_dim: int = 64
    capacity: int = 128

    @property
    def label(self) -> str:
        return f"{self.kind}-n{self.n}"


RECALL = Metric("share of the values decoded rightly by cosine", label="share recalled")
DISCRIMINATION = Metric(
    "chance that an answer is nearer (cosine) to its value than to another one shown; .5 is a guess",
    label="chance to tell it apart",
)


# ---- degraded cues --------------------------------------------------------------------------------------------


def noisy(keys: Tensor, directions: Tensor, sigma: float, domain: str) -> Tensor:
    """``(k + sigma u)/|k + sigma u|`` for unit keys and unit directions u ``[..., D]``; ``sigma = 0``: the keys, bit for bit.

    In the sign domain the sum is rounded to the nearest sign, in the one-hot domain to the largest entry.
    """
    if sigma == 0:
        return keys
    moved = pairs.unit(pairs.unit(keys) + sigma * directions)
    if domain == "sign":
        return torch.where(moved >= 0, 1.0, -1.0)
    if domain == "onehot":
        return torch.nn.functional.one_hot(moved.argmax(-1), keys.shape[-1]).to(keys.dtype)
    return moved


def partial(keys: Tensor, draws: Tensor, rho: float, domain: str) -> Tensor:
    """Keys with a share ``rho`` of their entries erased: zero, or (sign) a coin flip; unit keys are rescaled.

    Args:
        keys: ``[..., D]``.
        draws: ``[..., D]`` uniform in [0, 1): the smallest are erased, and say the coin flips.
    """
    gone = round(rho * keys.shape[-1])
    if gone == 0:
        return keys
    erased = draws <= draws.kthvalue(gone, -1, keepdim=True).values
    coin = torch.where((draws * 2**20).long() % 2 == 0, 1.0, -1.0)  # a low digit: independent of which are erased
    cut = torch.where(erased, coin if domain == "sign" else torch.zeros(()), keys)
    return pairs.unit(cut) if domain == "unit" else cut


def correlated(common: Tensor, own: Tensor, rho: float, domain: str) -> Tensor:
    """Keys with mutual cosine ``rho``: ``sqrt(rho) c + sqrt(1 - rho) u_i``, normalised; sign keys copy c entry by entry.

    Args:
        common: ``[..., 1, D]`` of normal entries.
        own: ``[..., N, D]`` of normal entries; for sign keys an entry agrees with c with chance ``(1 + sqrt(rho)) / 2``.
    """
    if domain != "sign":
        return pairs.unit(math.sqrt(rho) * pairs.unit(common) + math.sqrt(1 - rho) * pairs.unit(own))
    agrees = torch.special.ndtr(own) < (1 + math.sqrt(rho)) / 2
    return torch.where(agrees == (common >= 0), 1.0, -1.0)


# ---- statistics -----------------------------------------------------------------------------------------------


def discrimination(answers: Tensor, values: Tensor, targets: Tensor) -> Tensor:
    """``[T, Q]`` share of the other values that are farther (cosine) from the answer than its own; ties count half.

    Args:
        answers: ``[T, Q, Dv]``; answers that are not finite lose against all.
        values: ``[T, M, Dv]``, M >= 2.
        targets: ``[Q]`` indices into the values.
    """
    finite = torch.isfinite(answers).all(-1)
    scores = torch.where(finite[..., None], answers, 0.0) @ pairs.unit(values).mT
    index = targets.expand(answers.shape[:2])[..., None]
    own = scores.gather(-1, index)
    wins = (own > scores).double() + 0.5 * (own == scores).double()
    return torch.where(finite, (wins.sum(-1) - 0.5) / (values.shape[1] - 1), 0.0)


def crossing(values: Tensor, at: Sequence[float], level: float = 0.5) -> Tensor:
    """``[T]`` where curves ``[T, K]`` first fall below ``level``, between points by a straight line.

    ``at[0]`` if they begin below it, ``at[-1]`` if they never fall below it.
    """
    x = torch.as_tensor(at, dtype=values.dtype)
    below = values < level
    first = below.int().argmax(-1)
    i = first.clamp_min(1)[:, None]
    low, high = values.gather(1, i)[:, 0], values.gather(1, i - 1)[:, 0]
    share = (high - level) / (high - low).clamp_min(1e-12)
    inside = x[i[:, 0] - 1] + share.clamp(0, 1) * (x[i[:, 0]] - x[i[:, 0] - 1])
    return torch.where(~below.any(-1), x[-1], torch.where(first == 0, x[0], inside))


def _curves(answers: Tensor, values: Tensor, at: Sequence[float]) -> dict[str, Curve]:
    """Recall and discrimination along an axis; ``answers [T, K, N, Dv]``, ``values [T, N, Dv]`` or ``[T, K, N, Dv]``."""
    trials, points, n, width = answers.shape
    known = values if values.ndim == 4 else values[:, None].expand(-1, points, -1, -1)
    flat, known = answers.reshape(-1, n, width), known.reshape(-1, n, width)
    targets = torch.arange(n)
    recall = decode.recalled(flat, known, targets).double().mean(-1)
    apart = discrimination(flat, known, targets).mean(-1)
    return {
        "recall": Curve(recall.view(trials, points), at),
        "discrimination": Curve(apart.view(trials, points), at),
    }


# ---- noise and partial cues -----------------------------------------------------------------------------------


def _ask_degraded(plug: Plug, setting: Cues, trials: Sequence[int], seed: int, noise: bool) -> dict[str, Curve]:
    shape, spec = plug.shape(setting.key_dim, setting.value_dim, setting.capacity), plug.spec

    def make(g: torch.Generator) -> tuple[Tensor, ...]:
        keys, values = pairs.pairs(
            spec.key_domain, spec.value_domain, setting.n, shape.key_dim, shape.value_dim, g, spec.association
        )
        return keys, values, (torch.randn if noise else torch.rand)(keys.shape, generator=g)

    name, at = ("robustness.noise", SIGMAS) if noise else ("robustness.cue", ERASED)
    keys, values, drawn = randomness.stacked(make, trials, seed, name, setting.label)
    if noise:
        drawn = pairs.unit(drawn)
    degrade = noisy if noise else partial
    cues = torch.stack([degrade(keys, drawn, level, spec.key_domain) for level in at], 1)
    memories = populate(plug, shape, trials, seed)
    memories.store(keys, values)
    answers = memories.query(cues.flatten(1, 2)).unflatten(1, cues.shape[1:3])
    return _curves(answers, values, at)


def measure_noise(plug: Plug, setting: Cues, trials: Sequence[int], seed: int) -> Measured:
    """Store N pairs, ask for each with growing noise on its key."""
    curves = _ask_degraded(plug, setting, trials, seed, noise=True)
    return {**curves, "sigma50": crossing(curves["recall"].values, SIGMAS)}


def measure_cue(plug: Plug, setting: Cues, trials: Sequence[int], seed: int) -> Measured:
    """Store N pairs, ask for each with a growing share of its key erased.

    Raises:
        CannotMeasure: for one-hot keys, which are whole or nothing.
    """
    if plug.spec.key_domain == "onehot":
        raise CannotMeasure(f"{plug.name} takes one-hot keys: a part of one is the whole key or nothing")
    curves = _ask_degraded(plug, setting, trials, seed, noise=False)
    return {**curves, "rho50": crossing(curves["recall"].values, ERASED)}


NOISE = Experiment(
    "robustness.noise",
    measure_noise,
    {
        "recall": RECALL,
        "discrimination": DISCRIMINATION,
        "sigma50": Metric(
            f"noise at which half is recalled, interpolated; {SIGMAS[-1]:g} (the end of the range) if never",
            high=SIGMAS[-1],
        ),
    },
    "stored {n} random pairs, then asked with (k + sigma u)/|k + sigma u|, u a random unit vector",
    Cues,
    Showing(
        Axis("noise sigma"),
        figures=(KeyFigure("sigma50", "sigma50", "key noise at which recall of 32 pairs halves", place=15),),
    ),
)
CUE = Experiment(
    "robustness.cue",
    measure_cue,
    {
        "recall": RECALL,
        "discrimination": DISCRIMINATION,
        "rho50": Metric(
            f"erased share at which half is recalled, interpolated; {ERASED[-1]:g} (the end of the range) if never",
            high=ERASED[-1],
        ),
    },
    "stored {n} random pairs, then asked with a share of each key's entries erased",
    Cues,
    Showing(Axis("share of the cue erased")),
)


# ---- correlated keys ------------------------------------------------------------------------------------------


def measure_correlated(plug: Plug, setting: Cues, trials: Sequence[int], seed: int) -> Measured:
    """Store N pairs whose keys share a common part, ask for all of them.

    Raises:
        CannotMeasure: for one-hot keys, which are never correlated.
    """
    shape, spec = plug.shape(setting.key_dim, setting.value_dim, setting.capacity), plug.spec
    if spec.key_domain == "onehot":
        raise CannotMeasure(f"{plug.name} takes one-hot keys, which are never correlated")

    def make(g: torch.Generator) -> tuple[Tensor, ...]:
        drawn = torch.randn(setting.n + 1, shape.key_dim, generator=g)
        return drawn[:1], drawn[1:], pairs.vectors(spec.value_domain, setting.n, shape.value_dim, g)

    common, own, values = randomness.stacked(make, trials, seed, "robustness.correlated", setting.label)
    keys = torch.stack([correlated(common, own, rho, spec.key_domain) for rho in RHOS], 1)
    values = keys if spec.association == "auto" else values[:, None].expand(-1, len(RHOS), -1, -1)
    memories = populate(plug, shape, [t for t in trials for _ in RHOS], seed)  # one for each trial and rho
    memories.store(keys.flatten(0, 1), values.flatten(0, 1))
    answers = memories.query(keys.flatten(0, 1)).unflatten(0, (len(trials), len(RHOS)))
    curves = _curves(answers, values, RHOS)
    return {**curves, "rho50": crossing(curves["recall"].values, RHOS)}


CORRELATED = Experiment(
    "robustness.correlated",
    measure_correlated,
    {
        "recall": RECALL,
        "discrimination": DISCRIMINATION,
        "rho50": Metric(
            f"cosine between keys at which half is recalled, interpolated; {RHOS[-1]:g} (the end of the range) if never",
            high=RHOS[-1],
        ),
    },
    "stored {n} pairs with keys sqrt(rho) c + sqrt(1 - rho) u_i, c common to all, then asked for all {n}",
    Cues,
    Showing(Axis("rho, the correlation of keys")),
)


# ---- distractors ----------------------------------------------------------------------------------------------


def distractor_count(setting: Distractors, fraction: float) -> int:
    """Distractors that make up ``fraction`` of all writes."""
    return round(setting.n * setting.shows * fraction / (1 - fraction))


def measure_distractors(plug: Plug, setting: Distractors, trials: Sequence[int], seed: int) -> Measured:
    """Store signal pairs among distractors, in random order; ask for both."""
    shape, spec = plug.shape(setting.key_dim, setting.value_dim, setting.capacity), plug.spec
    most = distractor_count(setting, FRACTIONS[-1])

    def make(g: torch.Generator) -> tuple[Tensor, ...]:
        keys, values = pairs.pairs(
            spec.key_domain, spec.value_domain, setting.n + most, shape.key_dim, shape.value_dim, g, spec.association
        )
        return keys, values, torch.rand(setting.n * setting.shows + most, generator=g)

    keys, values, order = randomness.stacked(make, trials, seed, "robustness.distractors", setting.label)
    columns: dict[str, list[Tensor]] = {"signal_recall": [], "distractor_recall": [], "discrimination": []}
    for fraction in FRACTIONS:
        shown = setting.n + distractor_count(setting, fraction)
        rows = torch.cat((torch.arange(setting.n).repeat(setting.shows), torch.arange(setting.n, shown)))
        shuffled = rows[order[:, : len(rows)].argsort(-1)][..., None]
        memories = populate(plug, shape, trials, seed)
        memories.store(_pick(keys, shuffled), _pick(values, shuffled))
        answers, targets = memories.query(keys[:, :shown]), torch.arange(shown)
        right = decode.recalled(answers, values[:, :shown], targets).double()
        apart = discrimination(answers, values[:, :shown], targets)
        columns["signal_recall"].append(right[:, : setting.n].mean(-1))
        columns["discrimination"].append(apart[:, : setting.n].mean(-1))
        columns["distractor_recall"].append(right[:, setting.n :].mean(-1))
    signal = torch.stack(columns["signal_recall"], -1)
    distractor = torch.stack(columns["distractor_recall"][1:], -1)
    return {
        "signal_recall": Curve(signal, FRACTIONS),
        "discrimination": Curve(torch.stack(columns["discrimination"], -1), FRACTIONS),
        "distractor_recall": Curve(distractor, FRACTIONS[1:]),
        "write_selectivity": Curve(signal[:, 1:] - distractor, FRACTIONS[1:]),
    }


def _pick(rows: Tensor, index: Tensor) -> Tensor:
    """Rows ``[T, M, D]`` at ``index [T, N, 1]``."""
    return rows.gather(1, index.expand(-1, -1, rows.shape[-1]))


DISTRACTORS = Experiment(
    "robustness.distractors",
    measure_distractors,
    {
        "signal_recall": Metric(
            "share of the signal values decoded rightly among all values shown", label="share recalled"
        ),
        "distractor_recall": Metric(
            "share of the distractor values decoded rightly", better="none", label="share recalled"
        ),
        "write_selectivity": Metric("recall of signals less recall of distractors", low=-1.0),
        "discrimination": DISCRIMINATION,
    },
    "stored {n} pairs, each shown {shows} times, shuffled among distractors shown once, then asked for all",
    Distractors,
    Showing(Axis("share of distractors")),
)


# ---- heteroassociation and autoassociation --------------------------------------------------------------------


def measure_association(plug: Plug, setting: Association, trials: Sequence[int], seed: int) -> Measured:
    """Store pairs of one kind; ask with the stored keys and with noisy ones.

    Raises:
        NotAsked: ``hetero`` for a memory that declares ``association="auto"``.
        CannotMeasure: ``auto`` for a memory whose keys cannot be its values.
    """
    spec, auto = plug.spec, setting.kind == "auto"
    if not auto and spec.association == "auto":
        raise NotAsked(f"{plug.name} declares association='auto': it recalls keys, not values paired with them")
    shape = square(plug, setting) if auto else plug.shape(setting.key_dim, setting.value_dim, setting.capacity)

    def make(g: torch.Generator) -> tuple[Tensor, ...]:
        keys, values = pairs.pairs(
            spec.key_domain, spec.value_domain, setting.n, shape.key_dim, shape.value_dim, g, setting.kind
        )
        return keys, values, torch.randn(keys.shape, generator=g)

    keys, values, drawn = randomness.stacked(make, trials, seed, "robustness.association", setting.label)
    cues = noisy(keys, pairs.unit(drawn), setting.sigma, spec.key_domain)
    memories = populate(plug, shape, trials, seed)
    memories.store(keys, values)
    answers, blurred = memories.query(torch.cat((keys, cues), 1)).split(setting.n, 1)
    targets = torch.arange(setting.n)
    out = {
        "recall": decode.recalled(answers, values, targets).double().mean(-1),
        "cosine": decode.cosine(answers, values).mean(-1),
        "noisy_recall": decode.recalled(blurred, values, targets).double().mean(-1),
        "noisy_cosine": decode.cosine(blurred, values).mean(-1),
        "discrimination": discrimination(blurred, values, targets).mean(-1),
    }
    if auto:
        out["completion"] = out["noisy_cosine"] - decode.cosine(cues, values).mean(-1)
    return out


def square(plug: Plug, setting: Association) -> Shape:
    """A shape with equal widths, for a memory whose keys may be values.

    Raises:
        CannotMeasure: if there is none, or the domains differ.
    """
    shape, spec = plug.square_shape(setting.key_dim, setting.value_dim, setting.capacity), plug.spec
    drawn = "unit" if spec.key_domain == "real" else spec.key_domain
    if spec.value_domain not in ("real", drawn):
        raise CannotMeasure(
            f"{plug.name} takes {spec.key_domain} keys and {spec.value_domain} values: no key is a value"
        )
    return shape


ASSOCIATION = Experiment(
    "robustness.association",
    measure_association,
    {
        "recall": RECALL,
        "cosine": Metric("cosine of answer and value", low=-1.0),
        "noisy_recall": Metric("share of the values decoded rightly by cosine, from noisy cues"),
        "noisy_cosine": Metric("cosine of answer and value, from noisy cues", low=-1.0),
        "discrimination": DISCRIMINATION,
        "completion": Metric(
            "how much nearer to the item the answer is than the noisy cue was (cosine); above 0 = the memory cleans up",
            low=-2.0,
            high=2.0,
        ),
    },
    "stored {n} {kind}associative pairs, then asked with the keys and with cues of noise {sigma}",
    Association,
)

SCORES = (
    Scoring(
        "robustness",
        NOISE.name,
        "recall",
        floor=1 / 32,
        ceiling=0.9026,
        description=(
            "mean recall of 32 pairs over noise 0 to 4; 0 = chance (1/32), 1 = the nearest stored key "
            "(closed form, memspec.theory.cache.knn_noisy_recall at d = 64)"
        ),
        labels=("n32",),
    ),
)
