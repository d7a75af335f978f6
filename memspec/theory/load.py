"""What theory predicts of the capacity, dimensions and adaptation experiments; :func:`memspec.theory.closed_forms.band` asks here.

The closed forms, and what each family is taken to promise, are in :mod:`memspec.theory.closed_forms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from memspec.experiments.base import Setting
from memspec.judging.verdicts import Bound
from memspec.plugs.plug import Plug, Shape
from memspec.theory import closed_forms as theory

Predict = Callable[[Plug, Setting, Shape, str, "float | None"], "Bound | None"]


def _of_load(plug: Plug, setting: Setting, shape: Shape, metric: str, at: float | None) -> Bound | None:
    """Recall and error of n random pairs, shown once."""
    n = vars(setting)["n"]
    family, beta, d, dv = plug.spec.family, plug.spec.beta, shape.key_dim, shape.value_dim
    if metric == "recall_cosine":
        recall = _recall(plug, n, shape, beta)
        return None if recall is None else theory.around(recall, n, f"recall of {n} pairs by the {family} family")
    if metric != "relative_mse":
        return None
    lengths = dv if plug.spec.value_domain == "real" else math.inf
    source = f"relative error of {n} pairs by the {family} family"
    if family == "hebbian":
        return theory.around_error(theory.hebbian_relative_mse(n, d, lengths), n, dv, source)
    if family == "delta" and beta is not None:
        return theory.around_error(theory.delta_relative_mse(n, d, lengths, beta), n, dv, source)
    if family == "delta" and n >= 1.25 * d:
        floor = theory.least_squares_floor(n, d)
        return Bound(
            at_least=floor * 0.97, source=f"theory: no linear map has a relative error below 1 - d/N = {floor:.3f}"
        )
    # Near n = d the least-squares map depends on its ridge.
    if family == "least_squares" and not 0.8 * d < n < 1.25 * d:
        return theory.around_error(theory.least_squares_relative_mse(n, d, lengths), n, dv, source)
    if family == "cache" and n <= shape.capacity:
        return theory.around_error(0.0, n, dv, source)
    return None


def _recall(plug: Plug, n: int, shape: Shape, beta: float | None) -> float | None:
    family, d, dv = plug.spec.family, shape.key_dim, shape.value_dim
    if family == "hebbian":
        return theory.hebbian_recall(n, d, dv)
    if family == "delta" and beta is not None:
        return theory.delta_recall(n, d, dv, beta)
    if family == "least_squares" and not 0.8 * d < n < 1.25 * d:
        return theory.least_squares_recall(n, d, dv)
    if family == "softmax" and beta is not None and n <= shape.capacity:
        return theory.softmax_recall(n, d, dv, beta)
    if family == "cache":
        held = theory.cache_survival(plug.spec.eviction, n, shape.capacity)
        return 1.0 if n <= shape.capacity else None if held is None else float(held.mean())
    return None


def reads_what_it_holds(plug: Plug, shape: Shape) -> bool:
    """Whether a full memory answers (nearly) every pair it holds, so that recall shows which pairs those are.

    What is read from a store that mixes depends on more than what it holds.
    """
    spec, beta = plug.spec, plug.spec.beta
    if spec.family == "softmax" and beta is not None:
        return theory.softmax_recall(shape.capacity, shape.key_dim, shape.value_dim, beta) >= 0.99
    return spec.exact or spec.family == "cache"


def _of_overfill(plug: Plug, setting: Setting, shape: Shape, metric: str, at: float | None) -> Bound | None:
    """What is left of pairs of a certain age once a store has been overfilled."""
    spec, c = plug.spec, shape.capacity
    n = vars(setting)["factor"] * c
    held = theory.cache_survival(spec.eviction, n, c)
    if held is None:
        return None
    if not reads_what_it_holds(plug, shape):
        return None
    if metric == "recall" and at is not None:
        width = max(1, c // 4)
        share = float(held[int(at) : int(at) + width].mean())
    elif metric in ("recall_all", "recall_newest", "recall_older"):
        part = {"recall_all": held, "recall_newest": held[:c], "recall_older": held[c:]}[metric]
        share = float(part.mean())
    else:
        return None
    # The survival is exact, so the band need not allow for anything but what a few trials leave open.
    return theory.around(
        share, n, f"share of pairs held under {spec.eviction} eviction, {n} written, {c} kept", off=0.1
    )


def _of_adaptation(plug: Plug, setting: Setting, shape: Shape, metric: str, at: float | None) -> Bound | None:
    """The learning curve ``e_n / e_0`` of pairs shown again and again to an empty memory."""
    if metric != "error" or not at:
        return None
    fields, family, beta = vars(setting), plug.spec.family, plug.spec.beta
    pairs, d, dv = fields["pairs"], shape.key_dim, shape.value_dim
    source = f"e_n / e_0 after {at:g} updates by the {family} family"
    if pairs > 1:
        lengths = dv if plug.spec.value_domain == "real" else math.inf
        if at != 1:
            return None
        if family == "hebbian":
            return theory.around_error(theory.hebbian_relative_mse(pairs, d, lengths), pairs, dv, source)
        if family == "delta" and beta is not None:
            return theory.around_error(theory.delta_relative_mse(pairs, d, lengths, beta), pairs, dv, source)
        return None
    ratio: float | None = None
    if family == "hebbian":
        ratio = (at - 1) ** 2
    elif family == "delta" and beta is not None:
        ratio = float(theory.delta_residual(at, beta)) ** 2
    elif family in ("least_squares", "cache"):
        ratio = 0.0
    if ratio is None:
        return None
    named = f"theory: {source} = {ratio:.4g}"
    return Bound(at_least=ratio * 0.97 - 1e-2 if ratio > 1e-2 else None, at_most=ratio * 1.03 + 1e-2, source=named)


PREDICTIONS: dict[str, Predict] = {
    "capacity.load": _of_load,
    "capacity.overfill": _of_overfill,
    "dimensions.token": _of_load,
    "adaptation.single": _of_adaptation,
    "adaptation.several": _of_adaptation,
}
"""The prediction of each experiment, by name; :func:`memspec.theory.closed_forms.band` checks the common assumptions first."""
