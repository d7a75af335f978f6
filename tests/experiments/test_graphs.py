"""Knowledge graphs: files, ranks and embeddings against plain loops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memspec.errors import CannotMeasure
from memspec.experiments import graphs
from memspec.experiments.graphs import GRAPH, Told
from memspec.fixtures.data.graphs import both_ways, graph
from memspec.networks.graph import GraphEmbedding
from memspec.plugs.loading import load_plug

RING = 12
"""Entities of a small graph: each has the next, and the one opposite."""


@pytest.fixture
def root(tmp_path: Path) -> str:
    facts = [f"e{n:02d}\tnext\te{(n + 1) % RING:02d}" for n in range(RING)]
    facts += [f"e{n:02d}\topposite\te{(n + RING // 2) % RING:02d}" for n in range(RING)]
    folder = tmp_path / "kg" / "umls"
    folder.mkdir(parents=True)
    for part, rows in (("train", facts), ("valid", facts[:3]), ("test", facts[-3:])):
        (folder / f"{part}.txt").write_text("\n".join(rows) + "\n")
    return str(tmp_path)


def test_files_become_numbers(root: str) -> None:
    known = graph(root, "umls")
    assert (known.entities, known.relations) == (RING, 2)
    assert known.train[0].tolist() == [0, 0, 1]
    assert known.test.tolist() == [[9, 1, 3], [10, 1, 4], [11, 1, 5]]
    assert both_ways(known.test, 2)[3:].tolist() == [[3, 3, 9], [4, 3, 10], [5, 3, 11]]


def test_missing_and_damaged_files_are_named(tmp_path: Path, root: str) -> None:
    with pytest.raises(CannotMeasure, match=r"needs --memspec-data-root: it is kg.umls.train\.txt below it"):
        graph("", "umls")
    with pytest.raises(CannotMeasure, match=r"there is no .*kinship.train\.txt"):
        graph(root, "kinship")
    file = tmp_path / "kg" / "umls" / "valid.txt"
    file.write_text("only two\tnames\n")
    graph.cache_clear()
    with pytest.raises(CannotMeasure, match="is not a head, a relation and a tail"):
        graph(root, "umls")


def test_ranks_are_those_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    facts = torch.randint(5, (30, 3), generator=generator)
    asked = facts[:10]
    scores = torch.randint(4, (10, 5), generator=generator).float()  # with equals
    others = graphs.filtered(facts, 5, asked)
    came = graphs.ranks(scores, asked[:, 2], others).tolist()
    every = {tuple(fact) for fact in facts.tolist()}
    for row, (head, relation, tail) in enumerate(asked.tolist()):
        kept = [e for e in range(5) if e == tail or (head, relation, e) not in every]
        above = sum(scores[row, e] > scores[row, tail] for e in kept)
        equal = sum(scores[row, e] == scores[row, tail] for e in kept) - 1
        assert came[row] == 1 + above + equal / 2
    assert graphs.mrr(torch.tensor([1.0, 2.0, 4.0])) == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)


def test_scores_are_those_of_complex_numbers() -> None:
    torch.manual_seed(0)
    model = GraphEmbedding(4, 3, 5).double()
    e, r = (torch.complex(*part.unbind(1)) for part in (model.entities, model.relations))
    heads, relations = torch.tensor([0, 3]), torch.tensor([2, 1])
    want = ((e[heads] * r[relations]) @ e.conj().T).real
    torch.testing.assert_close(model(heads, relations), want)
    facts = torch.tensor([[0, 2, 1], [3, 1, 0]])
    price = sum(part.detach().abs().pow(3).sum() for part in (e[facts[:, 0]], r[facts[:, 1]], e[facts[:, 2]])) / 2
    assert model.price(facts).item() == pytest.approx(float(price), rel=1e-6)


def test_what_was_told_is_known(root: str) -> None:
    """By heart, by embeddings and by both; a guess knows less. The test part repeats facts that were told."""
    graph.cache_clear()
    setting = Told("umls", root, dim=64, rank=16, price=0.001)
    frame = GRAPH.run(load_plug("memspec.reference:ExactMemory"), setting, [0, 1])
    of = frame.groupby("metric").value
    for who in ("memory", "embeddings", "together"):
        assert of.get_group(f"{who}_mrr").min() > 0.9
        assert of.get_group(f"{who}_hits10").tolist() == [1, 1]
    assert of.get_group("chance_mrr").iloc[0] == pytest.approx(sum(1 / n for n in range(1, RING + 1)) / RING)
    assert set(of.get_group("memory_weight")) <= set(graphs.WEIGHTS)


def test_the_settings_name_does_not_say_where_files_lie(root: str) -> None:
    assert Told("umls", root).label == "umls"


def test_answers_of_the_wrong_sign_are_systematically_wrong(root: str) -> None:
    """And zeros are not: they are at chance."""
    graph.cache_clear()
    setting = Told("umls", root, dim=64, rank=4, epochs=1)

    def share(plug: str) -> float:
        return float(graphs.measure(load_plug(plug), setting, [0], 0)["memory_two_choice"])  # type: ignore[arg-type]

    assert share("memspec.reference:MatrixAssociativeMemory") > 0.9
    assert share("memspec.reference:NullMemory") == 0.5
    assert share("memspec.fixtures.mutants.digits:SubtractsWrites") < 0.1
