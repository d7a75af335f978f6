"""Knowledge graphs: which tail has this head and relation? The memory alone, embeddings alone, and both together.

*Alone*, the memory is told every fact of the training part, both ways, as ``code(head) + code(relation) -> code(tail)``, and
entities are ranked by what it answers. *Embeddings* (:class:`~memspec.networks.graph.GraphEmbedding`) are learnt from the same
facts. *Together*, the memory holds ``query(head, relation) -> embedding of the tail`` and what it answers adds to their
scores, with a weight chosen on the validation part. Ranks are those among entities that do not make another known fact
(filtered; Bordes et al. 2013), of heads and of tails; equals share theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from memspec.errors import NotAsked
from memspec.experiments.base import Experiment, Measured, Setting, one_of
from memspec.fixtures.data import pairs
from memspec.fixtures.data.graphs import Graph, both_ways, graph
from memspec.fixtures.tasks import by_hand
from memspec.metrics import Metric
from memspec.networks.graph import GraphEmbedding
from memspec.plugs.plug import Plug
from memspec.plugs.population import populate
from memspec.randomness import made_from, seed_of

GRAPHS = ("umls", "kinship")
WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Of the memory's share in a score, each part divided by its standard deviation."""
ROTATE = {"umls": 0.746, "kinship": 0.652}
"""MRR on these splits at dimension 2,000, from the logs that the authors of RotatE publish (Sun et al. 2019)."""


@dataclass(frozen=True)
class Told(Setting):
    """A graph below ``root``; embeddings of a ``rank``, learnt in so many ``epochs``, their price times ``price``."""

    graph: str = one_of("umls", GRAPHS)
    root: str = ""
    dim: int = 256
    rank: int = 512
    epochs: int = 40
    batch: int = 128
    learning_rate: float = 0.1
    price: float = 0.06

    @property
    def label(self) -> str:
        return self.graph + (f"-rank{self.rank}" if self.rank != 512 else "")


_WHO = {"memory": "of the memory alone", "embeddings": "of embeddings alone", "together": "of both together"}
METRICS = {
    **{
        f"{who}_{name}": Metric(f"{said} {of}", better="none" if who == "embeddings" else "up")
        for who, of in _WHO.items()
        for name, said in {
            "mrr": "mean reciprocal rank, filtered,",
            "hits1": "share of answers ranked first, filtered,",
            "hits10": "share of answers among the first ten, filtered,",
        }.items()
    },
    "memory_two_choice": Metric("share of the other entities that the answer beats, of the memory alone (ties half)"),
    "chance_mrr": Metric("mean reciprocal rank of a guess", better="none"),
    "memory_weight": Metric(
        "of the memory beside the embeddings, chosen on the validation part", high=3.0, better="none"
    ),
}


def measure(plug: Plug, setting: Told, trials: Sequence[int], seed: int) -> Measured:
    """Each trial draws embeddings, and the memory, under a seed of its own."""
    plug.needs_free_values()
    if "onehot" in (plug.spec.key_domain, plug.spec.value_domain):
        raise NotAsked(f"{plug.name} takes one-hot vectors, and sums of codes are none")
    known = graph(setting.root, setting.graph)
    found = [_measured(plug, setting, known, trial, seed) for trial in trials]
    return {name: torch.tensor([row[name] for row in found], dtype=torch.float64) for name in found[0]}


def _measured(plug: Plug, setting: Told, known: Graph, trial: int, seed: int) -> dict[str, float]:
    told = both_ways(known.train, known.relations)
    valid, test = (both_ways(part, known.relations) for part in (known.valid, known.test))
    every = torch.cat((told, valid, test))
    others, others_valid = (filtered(every, known.entities, part) for part in (test, valid))
    alone = _memory_scores(plug, setting, known, told, test, trial, seed)
    model = learnt(known, setting, seed_of(seed, "graphs", setting.graph, trial))
    with torch.no_grad():
        embeddings = {name: model(part[:, 0], part[:, 1]) for name, part in (("test", test), ("valid", valid))}
        queries = {
            name: pairs.unit(model.query(part[:, 0], part[:, 1]))
            for name, part in (("told", told), ("test", test), ("valid", valid))
        }
        tails = pairs.unit(model.entities.flatten(1))
    shape = plug.shape(queries["told"].shape[1], tails.shape[1], len(told))
    remembered: dict[str, Tensor] = {}
    if shape.key_dim == queries["told"].shape[1] and shape.value_dim == tails.shape[1]:
        memories = populate(plug, shape, [trial], seed)
        memories.store(queries["told"][None], tails[told[:, 2]][None])
        for name in ("test", "valid"):
            remembered[name] = memories.query(queries[name][None])[0].nan_to_num() @ tails.T
    else:
        remembered = {name: torch.zeros_like(part) for name, part in embeddings.items()}
    scored = {
        weight: mrr(ranks(_mixed(embeddings["valid"], remembered["valid"], weight), valid[:, 2], others_valid))
        for weight in WEIGHTS
    }
    weight = max(scored, key=scored.__getitem__)
    mixed = _mixed(embeddings["test"], remembered["test"], weight)
    out = {"memory_weight": weight}
    for who, scores in (("memory", alone), ("embeddings", embeddings["test"]), ("together", mixed)):
        rank = ranks(scores, test[:, 2], others)
        out |= {f"{who}_mrr": mrr(rank), f"{who}_hits1": _within(rank, 1), f"{who}_hits10": _within(rank, 10)}
    left = known.entities - others.sum(1)
    beaten = (left - ranks(alone, test[:, 2], others)) / (left - 1).clamp_min(1)
    out["memory_two_choice"] = float(beaten.double().mean())
    harmonic = torch.cumsum(1 / torch.arange(1, known.entities + 1, dtype=torch.float64), 0)
    return out | {"chance_mrr": float((harmonic[left - 1] / left).mean())}


def _memory_scores(
    plug: Plug, setting: Told, known: Graph, told: Tensor, asked: Tensor, trial: int, seed: int
) -> Tensor:
    """``[Q, E]``: what a memory that was told all facts by their codes answers, beside the code of every entity."""
    shape = plug.shape(setting.dim, setting.dim, len(told))
    names = by_hand.codes("value", known.entities, plug.spec.value_domain, shape.value_dim)
    parts = by_hand.codes("key", known.entities + 2 * known.relations, "unit", shape.key_dim)

    def keys(facts: Tensor) -> Tensor:
        whole = pairs.unit(parts[facts[:, 0]] + parts[known.entities + facts[:, 1]])
        return torch.where(whole >= 0, 1.0, -1.0) if plug.spec.key_domain == "sign" else whole

    memories = populate(plug, shape, [trial], seed)
    memories.store(keys(told)[None], names[told[:, 2]][None])
    return memories.query(keys(asked)[None])[0].nan_to_num() @ names.T


def learnt(known: Graph, setting: Told, seed: int) -> GraphEmbedding:
    """Embeddings learnt from the training part, both ways, by Adagrad."""
    facts = both_ways(known.train, known.relations)
    model = made_from(seed, lambda: GraphEmbedding(known.entities, 2 * known.relations, setting.rank))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=setting.learning_rate)
    order = torch.Generator().manual_seed(seed)
    for _ in range(setting.epochs):
        for batch in facts[torch.randperm(len(facts), generator=order)].split(setting.batch):
            loss = F.cross_entropy(model(batch[:, 0], batch[:, 1]), batch[:, 2])
            loss = loss + setting.price * model.price(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def _mixed(first: Tensor, second: Tensor, weight: float) -> Tensor:
    return first / first.std() + weight * second / second.std().clamp_min(1e-12)


def filtered(known: Tensor, entities: int, asked: Tensor) -> Tensor:
    """``[Q, E]`` bool: entities that make another known fact of the head and relation asked, the answer itself left out."""
    tails: dict[tuple[int, int], list[int]] = {}
    for head, relation, tail in known.tolist():
        tails.setdefault((head, relation), []).append(tail)
    out = torch.zeros(len(asked), entities, dtype=torch.bool)
    for row, (head, relation, tail) in enumerate(asked.tolist()):
        out[row, tails.get((head, relation), [])] = True
        out[row, tail] = False
    return out


def ranks(scores: Tensor, answers: Tensor, others: Tensor) -> Tensor:
    """``[Q]``: the rank of each answer among the entities that are not left out; equals share theirs."""
    own = scores.gather(1, answers[:, None])
    scores = scores.masked_fill(others, -torch.inf)
    return 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


def mrr(rank: Tensor) -> float:
    """Mean reciprocal rank."""
    return float((1 / rank.double()).mean())


def _within(rank: Tensor, most: int) -> float:
    return float((rank <= most).double().mean())


GRAPH = Experiment(
    "reasoning.graph",
    measure,
    METRICS,
    "told the facts of {graph}, learnt embeddings of them, and ranked all entities as the tails and heads of its test part",
    Told,
    first=3,
)
