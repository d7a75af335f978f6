"""Curve statistics against closed forms, and the adaptation experiments against algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from memspec.errors import CannotMeasure
from memspec.experiments import curves
from memspec.experiments.adaptation import RELEARNING, SEVERAL, SINGLE, Relearning, Several, Single
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.protocol import MemorySpec


def geometric(factor, steps=20, start=1.7):
    return start * factor ** torch.arange(steps + 1, dtype=torch.float64)[None]


def test_statistics_of_a_geometric_decay():
    errors = geometric(0.8)
    assert curves.steps_to(errors, 0.1).item() == math.ceil(math.log(0.1) / math.log(0.8))
    assert curves.half_life(errors).item() == pytest.approx(math.log(0.5) / math.log(0.8))
    assert curves.area(errors).item() == pytest.approx(np.mean(0.8 ** np.arange(1, 21)))
    assert curves.rate(errors).item() == pytest.approx(-math.log(0.8))
    assert curves.overshoot(errors).item() == pytest.approx(0.8)


def test_levels_never_reached_count_as_one_step_more():
    flat = torch.ones(2, 21)
    for statistic in (lambda e: curves.steps_to(e, 0.1), curves.half_life, curves.elbow):
        assert statistic(flat).tolist() == [21, 21]
    assert curves.area(flat).tolist() == [1, 1]


def test_steps_to_asks_for_a_level_that_is_kept():
    errors = torch.tensor([[1.0, 0.05, 0.5, 0.05, 0.04], [1.0, 0.5, 0.05, 0.05, 0.2]])
    assert curves.steps_to(errors, 0.1).tolist() == [3, 5]


def test_learned_at_once():
    errors = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert curves.steps_to(errors, 0.1).item() == 1
    assert 0 < curves.half_life(errors).item() < 0.1  # log-interpolated down to 1e-12
    assert curves.area(errors).item() == 0
    assert curves.elbow(errors).item() == 1
    assert curves.rate(errors).item() == pytest.approx(-math.log(1e-12))


@pytest.mark.parametrize("knee", [3, 7, 12])
def test_elbow_of_two_straight_pieces(knee):
    steps = torch.arange(21, dtype=torch.float64)
    logs = -torch.where(steps <= knee, steps, knee + 0.05 * (steps - knee))
    assert curves.elbow(logs.exp()[None]).item() == knee


@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e30])
def test_no_statistic_is_nan(bad):
    for column in (0, 5, 20):
        errors = geometric(0.7)
        errors[0, column:] = bad
        for statistic in (curves.half_life, curves.area, curves.rate, curves.elbow, curves.overshoot):
            assert not torch.isnan(statistic(errors)).any()
        assert curves.steps_to(errors, 0.1).item() == 21
    assert curves.area(torch.full((1, 21), bad)).item() == 1


def test_s_curve_finds_what_it_was_made_from():
    at = (8, 16, 32, 64, 128, 256)
    x = torch.tensor(at, dtype=torch.float64).log2()
    made = 0.9 / (1 + torch.exp(-(x - 5.2) / 0.5))
    fitted = curves.s_curve(at, made[None])
    assert fitted.plateau.item() == pytest.approx(0.9, abs=0.01)
    assert fitted.middle.item() == pytest.approx(5.2, abs=0.06)
    exact = 2 ** (5.2 - 0.5 * math.log(0.9 / 0.5 - 1))
    assert fitted.reaches(0.5, 512).item() == pytest.approx(exact, rel=0.05)
    assert fitted.reaches(0.95, 512).item() == 512


def test_s_curve_is_the_least_squares_fit():
    from scipy.optimize import curve_fit

    at = np.array([8, 16, 32, 64, 128, 256.0])
    noisy = np.array([0.12, 0.2, 0.43, 0.93, 0.99, 1.0])

    def shape(x, plateau, middle, width):
        return plateau / (1 + np.exp(-(x - middle) / width))

    (plateau, middle, _), _ = curve_fit(shape, np.log2(at), noisy, p0=(1, 5, 0.5), bounds=((0, 0, 0.01), (1, 12, 5)))
    fitted = curves.s_curve(at.tolist(), torch.tensor(noisy)[None])
    assert fitted.plateau.item() == pytest.approx(plateau, abs=0.02)
    assert fitted.middle.item() == pytest.approx(middle, abs=0.1)


# ---- the experiments ------------------------------------------------------------------------------------------


def measured(plug, experiment=SINGLE, setting=None, trials=8):
    return experiment.measure(load_plug(plug), setting or Single(), range(trials), 0)


def test_delta_follows_its_equation():
    found = measured("memspec.reference:DeltaMemory(beta=0.3)")
    predicted = 0.7 ** (2 * torch.arange(21, dtype=torch.float64))
    assert torch.allclose(found["error"].values, predicted.expand(8, -1), rtol=1e-3, atol=1e-9)
    assert found["steps_to_10"].tolist() == [4] * 8
    assert found["half_life"].mean().item() == pytest.approx(math.log(0.5) / math.log(0.49), abs=0.01)


def test_hebbian_overshoots_in_the_right_direction():
    found = measured("memspec.reference:MatrixAssociativeMemory")
    assert torch.allclose(
        found["error"].values, (torch.arange(21.0) - 1).square().double().expand(8, -1), rtol=1e-3, atol=1e-9
    )
    assert found["overshoot"].mean().item() == pytest.approx(361, rel=1e-3)
    assert found["closer"].tolist() == [1] * 8


def test_one_slot_follows_the_oracle_of_the_slot_memory():
    """EpisodicMemory with one slot: the error shrinks by (1 - 2 lr / Dv)^2 a step, and so its square norm by that squared."""
    found = measured("memspec.reference:EpisodicMemory(memory_size=1, lr=0.5)")
    factor = (1 - 2 * 0.5 / 64) ** 2
    assert found["final"].mean().item() == pytest.approx(factor**20, rel=1e-3)


def test_dictionary_and_zeros_are_the_anchors():
    assert measured("memspec.reference:ExactMemory")["aulc"].tolist() == [0] * 8
    assert measured("memspec.reference:NullMemory")["aulc"].tolist() == [1] * 8
    assert measured("memspec.reference:NullMemory")["closer"].tolist() == [0] * 8


def test_savings():
    setting = Relearning()
    found = measured("memspec.reference:DeltaMemory(beta=0.3)", RELEARNING, setting)
    assert (found["steps_to_learn"] >= 3).all()
    assert (found["steps_to_relearn"] <= setting.steps + 1).all()
    expected = 1 - found["steps_to_relearn"] / found["steps_to_learn"]
    assert torch.equal(found["savings"], expected)
    assert found["kept"].tolist() == [0] * 8
    assert found["recovered"].tolist() == [1] * 8


def test_relearning_of_what_was_never_lost():
    found = measured("memspec.reference:CachedMemory", RELEARNING, Relearning())  # ignores keys it knows
    assert found["kept"].tolist() == [1] * 8
    assert found["steps_to_relearn"].tolist() == [0] * 8
    assert found["savings"].tolist() == [1] * 8


class Echo:
    """Answers the cue: an autoassociative memory that has learned nothing."""

    spec = MemorySpec(association="auto")

    def __init__(self, key_dim):
        pass

    def reset(self):
        pass

    def update(self, keys, values):
        pass

    def query(self, keys):
        return keys.clone()


class Broken(Echo):
    """Answers NaN from the third update on."""

    spec = MemorySpec()

    def __init__(self, key_dim):
        self.updates = 0

    def update(self, keys, values):
        self.updates += 1

    def query(self, keys):
        return torch.full_like(keys, math.nan if self.updates > 2 else 0.0)


def test_an_echo_cannot_be_measured():
    with pytest.raises(CannotMeasure, match="before it was shown"):
        SINGLE.measure(Plug("echo", Echo), Single(), range(2), 0)


def test_answers_that_are_not_finite_count_as_wrong():
    for experiment, setting in ((SINGLE, Single()), (SEVERAL, Several()), (RELEARNING, Relearning())):
        for name, result in experiment.measure(Plug("broken", Broken), setting, range(2), 0).items():
            values = result.values if hasattr(result, "at") else result
            assert not torch.isnan(values).any(), name
    found = SINGLE.measure(Plug("broken", Broken), Single(), range(2), 0)
    assert found["steps_to_10"].tolist() == [21, 21]
    assert found["aulc"].tolist() == [1, 1]


@pytest.mark.parametrize("experiment", [SINGLE, SEVERAL, RELEARNING], ids=lambda e: e.name)
def test_batched_is_looped(experiment, monkeypatch):
    plug = load_plug("memspec.reference:DeltaMemory(beta=0.5)")
    batched = experiment.run(plug, experiment.setting(), range(3))
    import memspec.experiments.adaptation as module
    from memspec.plugs.population import populate

    monkeypatch.setattr(module, "populate", lambda *a, **k: populate(*a, looped=True, **k))
    looped = experiment.run(plug, experiment.setting(), range(3))
    assert np.allclose(batched["value"], looped["value"], rtol=1e-4, atol=1e-5)
