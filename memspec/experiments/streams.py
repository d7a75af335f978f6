"""Continual learning: images in tasks, one task after another, told by one classifier that is never told the task.

Beside the plain network: the same with elastic weight consolidation, with gradient episodic memory, with replay of what was
kept; and the network whose layer behind the first is the plugged memory. All begin with the same weights, see the same batches
in the same order, and are asked the same images of all tasks after every task. The network with the memory keeps its first
layer as it began: a batch is written as ``features -> code of the label``, and nothing is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspec.errors import NotAsked
from memspec.experiments import continual
from memspec.experiments.base import Curve, Experiment, Measured, Setting, one_of, some_of
from memspec.fixtures.data import features, pictures
from memspec.fixtures.data.pictures import Part
from memspec.metrics import Axis, Metric, Showing, View
from memspec.plugs.plug import Plug, Shape
from memspec.plugs.population import populate
from memspec.randomness import made_from, seed_of
from memspec.training.elastic import ElasticPenalty
from memspec.training.projection import project_gradients

METHODS = ("plain", "ewc", "gem", "replay", "memory")
CODES = 64
"""Width of codes of labels for memories of signs."""


@dataclass(frozen=True)
class Stream(Setting):
    """``tasks`` tasks of a data set: ``split`` by classes, or all classes under a ``permuted`` order of the pixels.

    Of each task ``shown`` images are learnt in ``epochs``, and ``held_out`` others are asked. ``kept`` of a task are
    remembered for GEM and replay.
    """

    kind: str = one_of("split", ("split", "permuted"))
    data: str = one_of("digits", ("digits", "cifar10"))
    root: str = ""
    methods: tuple[str, ...] = some_of(("plain", "memory"), METHODS)
    tasks: int = 5
    shown: int = 60
    held_out: int = 40
    epochs: int = 4
    batch: int = 20
    hidden: int = 64
    learning_rate: float = 0.3
    strength: float = 100.0
    kept: int = 20

    @property
    def label(self) -> str:
        return f"{self.kind}-{self.data}" + ("-all" if len(self.methods) > 2 else "")


def _metrics() -> dict[str, Metric]:
    out: dict[str, Metric] = {}
    for method in METHODS:
        better: Any = "up" if method == "memory" else "none"
        worse: Any = "down" if method == "memory" else "none"
        of = {"memory": "with the memory", "plain": "of the plain network"}.get(method, f"with {method}")
        out |= {
            f"{method}_R": Metric(f"accuracy on task j after task i, at i * tasks + j, {of}", better="none"),
            f"{method}_acc": Metric(f"ACC: mean accuracy over all tasks after the last, {of}", better=better),
            f"{method}_bwt": Metric(f"BWT over T - 1 tasks, {of}", low=-1.0, better=better),
            f"{method}_fwt": Metric(f"FWT over T - 1 tasks, {of}", low=-1.0, better="none"),
            f"{method}_new": Metric(f"Omega_new: accuracy on each new task, {of}", better=better),
            f"{method}_omega": Metric(
                f"Omega_all, over all classes learnt at once, {of}", high=float("inf"), better=better
            ),
            f"{method}_forgetting": Metric(
                f"best accuracy before the last task less that after, {of}", low=-1.0, better=worse
            ),
        }
    return out


METRICS = {
    **_metrics(),
    "kept": Metric("share of all images shown that the memory answers with their label in the end"),
    "less_forgetting": Metric(
        "1 - forgetting with the memory / that of the plain network", low=-float("inf"), high=1.0, better="up"
    ),
    "ideal": Metric("accuracy of the plain network that was shown all tasks at once", better="none"),
}


def needs_pairs(plug: Plug) -> None:
    """Refuse memories that labels cannot be stored in.

    Raises:
        NotAsked: if values cannot be chosen, or keys are one-hot.
    """
    plug.needs_free_values()
    if plug.spec.key_domain == "onehot":
        raise NotAsked(f"{plug.name} takes one-hot keys, and features are not")


def built_for(plug: Plug, setting: Stream) -> Shape:
    """The shape a memory is built with: room for every image shown."""
    width = CODES if plug.spec.value_domain == "sign" else 10
    return plug.shape(setting.hidden, width, setting.tasks * setting.shown)


def measure(plug: Plug, setting: Stream, trials: Sequence[int], seed: int) -> Measured:
    """Every method on every trial; a trial is a choice of classes or permutations, of images, weights and batches."""
    needs_pairs(plug)
    seeds = [seed_of(seed, "continual", setting.label, trial) for trial in trials]
    sizes = setting.tasks, setting.shown, setting.held_out
    drawn = [pictures.tasks(setting.data, setting.kind, *sizes, own, setting.root) for own in seeds]
    parts = [Part(*map(torch.stack, zip(*same))) for same in zip(*drawn)]  # of every task, [trials, ...]
    first = [_network(setting, parts[0].shown.shape[-1], own) for own in seeds]
    together = Part(*(torch.cat(group, 1) for group in zip(*parts)))
    ideal = _asked(_learnt(Networks(first), setting, [together], 0, seeds), parts).mean(-1)
    out: dict[str, Tensor | Curve] = {"ideal": ideal}
    for method in setting.methods:
        if method == "memory":
            r, before, out["kept"] = _with_memory(plug, setting, parts, Networks(first), trials, seed)
        elif method == "plain":
            networks = Networks(first)
            before, stages = _asked(networks, parts), []
            for number in range(setting.tasks):
                stages.append(_asked(_learnt(networks, setting, parts, number, seeds), parts))
            r = torch.stack(stages, 1)
        else:
            found = [_careful(model, method, setting, own, given) for model, own, given in zip(first, seeds, drawn)]
            r, before = torch.stack([r for r, _ in found]), torch.stack([before for _, before in found])
        for name, value in scores(r, before, ideal).items():
            out[f"{method}_{name}"] = Curve(value, range(setting.tasks**2)) if name == "R" else value
    plain, memory = out.get("plain_forgetting"), out.get("memory_forgetting")
    if isinstance(plain, Tensor) and isinstance(memory, Tensor):
        out["less_forgetting"] = 1 - memory / plain.clamp_min(1e-3)
    return out


def scores(r: Tensor, before: Tensor, ideal: Tensor) -> dict[str, Tensor]:
    """What the field computes of ``R [..., T, T]`` (:mod:`memspec.experiments.continual`)."""
    return {
        "R": r.flatten(-2),
        "acc": continual.average_accuracy(r),
        "bwt": continual.backward_transfer(r),
        "fwt": continual.forward_transfer(r, before),
        "new": continual.omega_new(r),
        "omega": continual.omega_all(r, ideal.clamp_min(0.1)),
        "forgetting": continual.forgetting_max(r),
    }


def _network(setting: Stream, width: int, seed: int) -> nn.Sequential:
    def build() -> nn.Sequential:
        return nn.Sequential(nn.Linear(width, setting.hidden), nn.ReLU(), nn.Linear(setting.hidden, 10))

    return made_from(seed_of(seed, "network"), build)


class Networks:
    """Networks of all trials side by side: copies of the weights of each, ``[T, ...]``."""

    def __init__(self, models: Sequence[nn.Sequential]) -> None:
        rows = zip(*(model.parameters() for model in models))
        self.weights = [torch.stack([one.detach() for one in row]).requires_grad_() for row in rows]

    def hidden(self, images: Tensor) -> Tensor:
        """``[T, n, D] -> [T, n, hidden]``."""
        return torch.relu(torch.baddbmm(self.weights[1][:, None], images, self.weights[0].mT))

    def __call__(self, images: Tensor) -> Tensor:
        """``[T, n, D] -> [T, n, 10]``."""
        return torch.baddbmm(self.weights[3][:, None], self.hidden(images), self.weights[2].mT)


def _batches(setting: Stream, count: int, number: int, seed: int) -> list[Tensor]:
    """The rows of one task in the order in which they are learnt."""
    order = torch.Generator().manual_seed(seed_of(seed, "batches", number))
    epochs = [torch.randperm(count, generator=order) for _ in range(setting.epochs)]
    return [rows for epoch in epochs for rows in epoch.split(setting.batch)]


def _learnt(networks: Networks, setting: Stream, parts: Sequence[Part], number: int, seeds: Sequence[int]) -> Networks:
    """Plain gradient descent on one task, in place."""
    part, every = parts[number], torch.arange(len(seeds))[:, None]
    for rows in zip(*(_batches(setting, part.shown.shape[1], number, seed) for seed in seeds)):
        at = torch.stack(rows)
        with torch.enable_grad():
            scores = networks(part.shown[every, at])
            loss = F.cross_entropy(scores.flatten(0, 1), part.labels[every, at].flatten()) * len(seeds)
            slopes = torch.autograd.grad(loss, networks.weights)
        with torch.no_grad():
            for weight, slope in zip(networks.weights, slopes):
                weight.sub_(setting.learning_rate * slope)
    return networks


def _careful(
    first: nn.Sequential, method: str, setting: Stream, seed: int, parts: Sequence[Part]
) -> tuple[Tensor, Tensor]:
    """R and the accuracies before the first task, of one trial with ``ewc``, ``gem`` or ``replay``."""
    model = copy.deepcopy(first)
    weights, elastic = list(model.parameters()), ElasticPenalty(model, setting.strength)

    def asked() -> Tensor:
        with torch.no_grad():
            return torch.stack([(model(p.asked).argmax(-1) == p.answers).double().mean() for p in parts])

    before, stages = asked(), []
    for number, part in enumerate(parts):
        kept = [(p.shown[: setting.kept], p.labels[: setting.kept]) for p in parts[:number]]
        again = torch.Generator().manual_seed(seed_of(seed, "replay", number))
        for rows in _batches(setting, len(part.shown), number, seed):
            x, y = part.shown[rows], part.labels[rows]
            if method == "replay" and kept:
                old = torch.randint(len(kept) * setting.kept, (len(rows),), generator=again)
                x = torch.cat((x, torch.cat([a for a, _ in kept])[old]))
                y = torch.cat((y, torch.cat([b for _, b in kept])[old]))
            with torch.enable_grad():
                loss = F.cross_entropy(model(x), y)
                if method == "ewc":
                    loss = loss + elastic(model)
                model.zero_grad()
                loss.backward()
                if method == "gem" and kept:
                    project_gradients(weights, [F.cross_entropy(model(a), b) for a, b in kept])
            if method == "ewc":  # stiff springs and long steps do not go together
                nn.utils.clip_grad_norm_(weights, 1.0)
            with torch.no_grad():
                for weight in weights:
                    if weight.grad is not None:
                        weight.sub_(setting.learning_rate * weight.grad)
        if method == "ewc":
            elastic.consolidate(model, part.shown[: 2 * setting.kept])
        stages.append(asked())
    return torch.stack(stages), before


@torch.no_grad()
def _asked(networks: Networks, parts: Sequence[Part]) -> Tensor:
    """``[trials, T]``: accuracy on every task, among all classes."""
    return torch.stack([(networks(p.asked).argmax(-1) == p.answers).double().mean(-1) for p in parts], -1)


def _with_memory(
    plug: Plug, setting: Stream, parts: Sequence[Part], networks: Networks, trials: Sequence[int], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """R, the accuracies before the first task, and the share of images shown that are answered rightly in the end."""
    shape = built_for(plug, setting)
    codes = features.label_codes(plug.spec.value_domain, 10, shape.value_dim)

    @torch.no_grad()
    def keys(images: Tensor) -> Tensor:
        hidden = networks.hidden(images)
        rows = (hidden - hidden.mean(-1, keepdim=True)).flatten(0, 1)
        return features.into(rows, plug.spec.key_domain, shape.key_dim).view(*images.shape[:2], -1)

    memories = populate(plug, shape, trials, seed)

    def right(images: Tensor, labels: Tensor) -> Tensor:
        answers = memories.query(keys(images))
        finite = answers.isfinite().all(-1)
        return (((answers.nan_to_num() @ codes.mT).argmax(-1) == labels) & finite).double()

    def asked() -> Tensor:
        return torch.stack([right(p.asked, p.answers).mean(-1) for p in parts], -1)

    before, stages = asked(), []
    for part in parts:
        for at in torch.arange(part.shown.shape[1]).split(setting.batch):
            memories.store(keys(part.shown[:, at]), codes[part.labels[:, at]])
        stages.append(asked())
    kept = torch.cat([right(p.shown, p.labels) for p in parts], 1).mean(-1)
    return torch.stack(stages, 1), before, kept


STREAM = Experiment(
    "continual",
    measure,
    METRICS,
    "learnt {tasks} tasks ({kind} {data}, {shown} images each) one after the other, asking for all of them after each",
    Stream,
    Showing(Axis("tasks learned"), tuple(View((f"{m}_R",), form="matrix") for m in METHODS)),
)
