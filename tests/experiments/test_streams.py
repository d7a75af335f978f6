"""Continual learning of images: tasks as they are said to be, networks side by side as each alone, methods on the same batches."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from memspec.errors import CannotMeasure
from memspec.experiments import streams
from memspec.experiments.streams import METHODS, STREAM, Networks, Stream
from memspec.fixtures.data import digits, pictures
from memspec.plugs.loading import load_plug
from memspec.randomness import seed_of


def test_split_tasks_share_no_class_and_no_image() -> None:
    parts = pictures.tasks("digits", "split", 5, 60, 40, 3)
    classes = [set(p.labels.tolist()) | set(p.answers.tolist()) for p in parts]
    assert [len(these) for these in classes] == [2] * 5
    assert set().union(*classes) == set(range(10))
    for part in parts:
        assert part.shown.shape == (60, 64)
        assert part.asked.shape == (40, 64)
        assert float(torch.cdist(part.shown, part.asked).min()) > 0


def test_permuted_tasks_have_all_classes_and_pixels_of_their_own_order() -> None:
    parts = pictures.tasks("digits", "permuted", 3, 400, 40, 3)
    pixels = digits.images()[0]
    known = {tuple(sorted(row)) for row in (pixels - pixels.mean(0)).tolist()}
    for part in parts:
        assert len(part.labels.unique()) == 10
        assert tuple(sorted(part.shown[0].tolist())) in known
    first, second = (part.shown.std(0) for part in parts[:2])
    assert not torch.allclose(first, second, atol=0.05)
    assert torch.allclose(first.sort().values, second.sort().values, atol=0.1)


def test_the_same_seed_draws_the_same_tasks() -> None:
    first, again, other = (pictures.tasks("digits", "split", 5, 20, 20, seed)[0].shown for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("digits", "split", 11, 5, 5, 0), "cannot be split into 11"),
        (("digits", "split", 5, 400, 400, 0), "images of digits; 800 are asked for"),
        (("digits", "rotated", 5, 5, 5, 0), "no kind 'rotated'"),
        (("faces", "split", 5, 5, 5, 0), "no images called 'faces'"),
        (("cifar10", "split", 5, 5, 5, 0), "needs --memspec-data-root: it is cifar10-jpeg75.zip below it"),
    ],
)
def test_what_cannot_be_drawn_is_named(given: tuple[str, str, int, int, int, int], message: str) -> None:
    with pytest.raises(CannotMeasure, match=message):
        pictures.tasks(*given)


def test_cifar_is_read_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(pictures, "EACH", 3)
    with zipfile.ZipFile(tmp_path / pictures.CIFAR, "w") as archive:
        for label in range(10):
            for number in range(4):
                file = io.BytesIO()
                image.new("RGB", (32, 32), (25 * label, 60 * number, 0)).save(file, "JPEG")
                archive.writestr(f"train/c{label}/{number:04}.jpg", file.getvalue())
    part = pictures.tasks("cifar10", "split", 5, 4, 2, 0, str(tmp_path))[0]
    assert part.shown.shape == (4, 16 * 16 * 3)
    assert len(set(part.labels.tolist()) | set(part.answers.tolist())) == 2


def test_networks_side_by_side_learn_as_each_does_alone() -> None:
    """Against torch's own SGD on each network, batch by batch."""
    setting = Stream(shown=40, held_out=20, epochs=2)
    seeds = [5, 6]
    drawn = [pictures.tasks("digits", "split", 5, 40, 20, seed) for seed in seeds]
    parts = [pictures.Part(*map(torch.stack, zip(*same))) for same in zip(*drawn)]
    models = [streams._network(setting, 64, seed) for seed in seeds]
    together = streams._learnt(Networks(models), setting, parts, 1, seeds)
    for trial, (model, seed) in enumerate(zip(models, seeds)):
        optimizer = torch.optim.SGD(model.parameters(), lr=setting.learning_rate)
        for rows in streams._batches(setting, 40, 1, seed):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(drawn[trial][1].shown[rows]), drawn[trial][1].labels[rows]).backward()
            optimizer.step()
        for weight, mine in zip(together.weights, model.parameters()):
            torch.testing.assert_close(weight[trial], mine, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["ewc", "gem", "replay"])
def test_every_method_learns_each_new_task(method: str) -> None:
    """Without springs, elastic weights too; and nothing but the plain network's first task is the same."""
    parts = pictures.tasks("digits", "split", 5, 60, 20, 1)
    model = streams._network(Stream(), 64, 1)
    r, before = streams._careful(model, method, Stream(strength=0.0), 1, parts)
    assert r.diagonal().mean() > 0.8
    assert before.mean() < 0.4
    assert torch.equal(model[0].weight, streams._network(Stream(), 64, 1)[0].weight)  # what is given stays as it is


def test_all_methods_are_measured_on_the_same_images() -> None:
    setting = Stream(methods=METHODS, shown=40, held_out=20, kept=10)
    frame = STREAM.run(load_plug("memspec.reference:ExactMemory"), setting, [0, 1])
    mean = frame.groupby("metric").value.mean()
    assert mean["kept"] == 1
    assert mean["plain_forgetting"] > 0.5
    assert mean["replay_forgetting"] < mean["plain_forgetting"]
    assert mean["memory_forgetting"] < 0.2 * mean["plain_forgetting"]
    assert mean["plain_new"] > 0.8
    r = frame[(frame.metric == "memory_R") & (frame.trial == 0)].sort_values("at").value.to_numpy().reshape(5, 5)
    acc = frame[(frame.metric == "memory_acc") & (frame.trial == 0)].value.item()
    assert acc == pytest.approx(r[-1].mean())


def test_a_trial_is_the_same_alone_and_among_others() -> None:
    plug, setting = load_plug("memspec.reference:DeltaMemory"), Stream(tasks=2, shown=20, held_out=20, epochs=1)
    both, second = STREAM.run(plug, setting, [0, 1]), STREAM.run(plug, setting, [1])
    assert both[both.trial == 1].value.tolist() == pytest.approx(second.value.tolist(), abs=1e-6)
    assert seed_of(0, "continual", setting.label, 0) != seed_of(0, "continual", setting.label, 1)
