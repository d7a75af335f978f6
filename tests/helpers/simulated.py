"""Independent simulations of the families in plain torch: what the experiments ask, of many trials at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memspec.experiments.adaptation import Several, Single
from memspec.experiments.base import Setting
from memspec.experiments.capacity import Load
from memspec.experiments.forgetting import TwoTasks
from memspec.experiments.retention import Writes, age_bins, age_of
from memspec.experiments.robustness import Association, Cues, Distractors, distractor_count
from memspec.experiments.selectivity import Foils

Read = Callable[[Tensor], Tensor]
Write = Callable[[Tensor, Tensor], Read]
"""Shown keys ``[T, N, Dk]`` and values ``[T, N, Dv]`` in order, a family answers queries ``[T, Q, Dk]``."""


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def hebbian(keys: Tensor, values: Tensor) -> Read:
    matrix = torch.einsum("tni,tnj->tij", keys, values)
    return lambda queries: torch.einsum("tqi,tij->tqj", queries, matrix)


def delta(beta: float) -> Write:
    def write(keys: Tensor, values: Tensor) -> Read:
        matrix = torch.zeros(len(keys), keys.shape[-1], values.shape[-1])
        for k, v in zip(keys.unbind(1), values.unbind(1)):
            matrix = matrix + beta * k[:, :, None] * (v - torch.einsum("ti,tij->tj", k, matrix))[:, None, :]
        return lambda queries: torch.einsum("tqi,tij->tqj", queries, matrix)

    return write


def least_squares(keys: Tensor, values: Tensor) -> Read:
    matrix = torch.linalg.pinv(keys) @ values
    return lambda queries: queries @ matrix


def cache(keys: Tensor, values: Tensor) -> Read:
    def read(queries: Tensor) -> Tensor:
        nearest = torch.cdist(queries, keys).argmin(-1)
        return torch.gather(values, 1, nearest[..., None].expand(-1, -1, values.shape[-1]))

    return read


def softmax(beta: float) -> Write:
    def write(keys: Tensor, values: Tensor) -> Read:
        return lambda queries: (beta * torch.einsum("tqi,tni->tqn", queries, keys)).softmax(-1) @ values

    return write


def superposition(dim: int) -> Write:
    """Random signs as codes, one drawn for every key: a key shown again has the same."""

    def write(keys: Tensor, values: Tensor) -> Read:
        g = torch.Generator().manual_seed(len(keys))
        frame = torch.linalg.qr(torch.randn(dim, values.shape[-1], generator=g)).Q
        codes = torch.randint(0, 2, (*keys.shape[:2], dim), generator=g) * 2.0 - 1.0
        first = torch.cdist(keys, keys).argmin(-1)
        codes = torch.gather(codes, 1, first[..., None].expand(-1, -1, dim))
        trace = (codes * (values @ frame.mT)).sum(1)

        def read(queries: Tensor) -> Tensor:
            stored = torch.cdist(queries, keys).argmin(-1)
            return torch.gather(codes, 1, stored[..., None].expand(-1, -1, dim)) * trace[:, None] @ frame

        return read

    return write


def recall(answers: Tensor, values: Tensor, asked: Tensor) -> Tensor:
    """``[T, Q]``: whether the value asked for has the largest cosine with the answer."""
    return ((unit(answers) @ unit(values).mT).argmax(-1) == asked).double()


def error(answers: Tensor, values: Tensor) -> Tensor:
    """``[T, N]`` relative squared error."""
    return (answers - values).square().sum(-1) / values.square().sum(-1)


def unlike(rows: Tensor, g: torch.Generator) -> Tensor:
    """Random unit vectors of the shape of ``rows``."""
    return unit(torch.randn(rows.shape, generator=g))


def noisy(keys: Tensor, sigma: float, g: torch.Generator) -> Tensor:
    return unit(keys + sigma * unlike(keys, g))


def erased(keys: Tensor, share: float, g: torch.Generator) -> Tensor:
    order = torch.rand(keys.shape, generator=g).argsort(-1).argsort(-1)
    return torch.where(order < round(share * keys.shape[-1]), 0.0, keys)


def correlated(keys: Tensor, rho: float, g: torch.Generator) -> Tensor:
    return unit(rho**0.5 * unlike(keys[:, :1], g) + (1 - rho) ** 0.5 * keys)


Point = tuple[str, Setting, str, "float | None"]
"""An experiment's name, its setting, a metric and the point of a curve, as :func:`memspec.theory.band` takes them."""


def measured(write: Write, d: int, dv: int, trials: int, seed: int, loads: tuple[int, ...]) -> dict[Point, Tensor]:
    """``[T]`` what trials of one family measure, by what is asked of :func:`memspec.theory.band`."""
    g, w, out = torch.Generator().manual_seed(seed), {"key_dim": d, "value_dim": dv}, {}

    def pairs(n: int) -> tuple[Tensor, Tensor, Tensor]:
        k, v = unit(torch.randn(trials, n, d, generator=g)), torch.randn(trials, n, dv, generator=g)
        return k, v, torch.arange(n)

    for n in loads:
        k, v, each = pairs(n)
        answers = write(k, v)(k)
        out["capacity.load", Load(n=n, capacity=512, **w), "recall_cosine", None] = recall(answers, v, each).mean(-1)
        out["capacity.load", Load(n=n, capacity=512, **w), "relative_mse", None] = error(answers, v).mean(-1)

    k, v, _ = pairs(1)
    for shown in (1, 2, 5):
        many = k.repeat(1, shown, 1), v.repeat(1, shown, 1)
        out["adaptation.single", Single(**w), "error", shown] = error(write(*many)(k), v).mean(-1)
    k, v, _ = pairs(8)
    out["adaptation.several", Several(**w), "error", 1] = error(write(k, v)(k), v).mean(-1)

    k, v, each = pairs(128)
    answers = write(k, v)(k)
    cosines = (unit(answers) * unit(v)).sum(-1)
    gains = ((answers * v).sum(-1) / v.square().sum(-1)).clamp(-0.5, 1.5).flip(1)
    out["forgetting.two_tasks", TwoTasks(n=64, **w), "a2_similarity", None] = cosines[:, :64].mean(-1)
    for ages in age_bins(128):
        out["forgetting.retention", Writes(**w), "gain", age_of(ages)] = gains[:, list(ages)].mean(-1)

    k, v, each = pairs(32)
    read = write(k, v)
    for sigma in (0.5, 2.0):
        out["robustness.noise", Cues(**w), "recall", sigma] = recall(read(noisy(k, sigma, g)), v, each).mean(-1)
    out["robustness.association", Association(**w), "noisy_recall", None] = recall(
        read(noisy(k, 0.5, g)), v, each
    ).mean(-1)
    for share in (0.25, 0.75):
        out["robustness.cue", Cues(**w), "recall", share] = recall(read(erased(k, share, g)), v, each).mean(-1)
    for rho in (0.1, 0.3, 0.5):
        alike = correlated(k, rho, g)
        out["robustness.correlated", Cues(**w), "recall", rho] = recall(write(alike, v)(alike), v, each).mean(-1)

    setting = Distractors(**w)
    for fraction in (0.4, 0.8):
        others = distractor_count(setting, fraction)
        k, v, each = pairs(setting.n + others)
        rows = torch.cat((torch.arange(setting.n).repeat(setting.shows), torch.arange(setting.n, setting.n + others)))
        rows = rows[torch.randperm(len(rows), generator=g)]
        right = recall(write(k[:, rows], v[:, rows])(k[:, : setting.n]), v, each[: setting.n])
        out["robustness.distractors", setting, "signal_recall", fraction] = right.mean(-1)

    n = min(16, d // 4)
    k, v, _ = pairs(n)
    read = write(k, v)
    stored, foils = read(k).norm(dim=-1), read(unlike(k, g)).norm(dim=-1)
    louder = (stored[:, :, None] > foils[:, None, :]).double().mean((-2, -1))
    out["selectivity.foils", Foils(**w), "norm_auroc", None] = louder
    return out
