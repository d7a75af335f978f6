"""Honest noise: it is told from a broken promise by its distribution, and leaves nothing else to chance."""

from __future__ import annotations

import pytest
import torch

from memspec.experiments.base import Runner
from memspec.experiments.capacity import LOAD, Load
from memspec.laws import world
from memspec.laws.chance import DRAWS, FAR, SPREADS, apart
from memspec.laws.law import Law
from memspec.plugs.loading import load_plug
from memspec.protocol import MemorySpec
from memspec.suites import test_claims, test_laws

NOISY = "memspec.fixtures.plain:PlainNoisy"
LAWS = test_laws.TestLaws()
CLAIMS = test_claims.TestClaims()


def test_noise_of_one_kind_lies_together() -> None:
    """Of 2,000 pairs of equal samples, a hundred numbers each, none lies apart, whatever the noise is like."""
    generator = torch.Generator().manual_seed(0)
    for kind in ("normal", "uniform", "lots", "rare"):
        drawn = torch.randn(700, 2, DRAWS, 100, generator=generator)
        kinds = {"uniform": torch.special.ndtr(drawn), "lots": (drawn > 0).float(), "rare": (drawn > 2).float()}
        drawn = kinds.get(kind, drawn)
        gaps = [apart(*pair) for pair in drawn]
        assert max(far for far, _ in gaps) < FAR
        assert max(ratio for _, ratio in gaps) < SPREADS


def test_what_differs_by_more_than_its_noise_lies_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, DRAWS, 5, generator=generator)
    assert apart(one, other + 2)[0] > FAR
    assert apart(one, 5 * other)[1] > SPREADS
    still = torch.ones(DRAWS, 5)
    assert apart(still, still + 1e-7)[0] < FAR
    assert apart(still, still + 1e-2)[0] > FAR


def test_what_the_harness_seeds_is_no_disturbance_of_a_memory_that_draws() -> None:
    assert world.survey(Law(load_plug(NOISY), "a rule", "world/untouched")) == {}


@pytest.mark.parametrize(
    "ask",
    [LAWS.test_query_repeats, LAWS.test_query_leaves_behaviour, LAWS.test_strided, LAWS.test_reset_behaviour,
     LAWS.test_caller_changes_answers, CLAIMS.test_split, CLAIMS.test_split_repeats, CLAIMS.test_overwrite],
)  # fmt: skip
def test_laws_spare_noise(ask: object) -> None:
    assert callable(ask)
    ask(Law(load_plug(NOISY), "a rule", "laws/one"))


def test_a_measurement_of_noise_is_the_same_in_every_run() -> None:
    """Whatever was drawn before, and whatever other trials there are."""
    runs = []
    for before in range(2):
        torch.manual_seed(before)
        runs.append(Runner(load_plug(NOISY)).values(LOAD, Load(n=8), "relative_mse", 16 * (before + 1))[:16])
    assert (runs[0] == runs[1]).all()
    assert len(set(runs[0])) > 1


def test_a_spec_is_stochastic_or_deterministic() -> None:
    assert MemorySpec(stochastic=frozenset({"write"})).to_json()["stochastic"] == ["write"]
    with pytest.raises(ValueError, match="exclude each other"):
        MemorySpec(deterministic=True, stochastic=frozenset({"read"}))
    with pytest.raises(ValueError, match="it takes 'write' and 'read'"):
        MemorySpec(stochastic=frozenset({"reads"}))
