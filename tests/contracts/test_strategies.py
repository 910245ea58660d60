"""Every registered strategy keeps the contract of strategies."""

import pytest
import torch

from longtake.models.toy.gaussian import gauss
from longtake.planning.strategies.registry import STRATEGIES, make_plan
from longtake.testing.strategies import (
    check_any_length,
    check_clock,
    check_length,
    check_statistics,
    check_windows,
    check_without_end,
    strategy_cases,
)
from longtake.testing.toys import gaussian_pixels

CASES = strategy_cases()
CHECKS = [check_windows, check_length, check_clock, check_without_end]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_strategy_keeps_its_contract(check, case):
    check(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.temporal_compression == 4], ids=str)
def test_any_number_of_frames_comes_out_exactly(case):
    check_any_length(case)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_keeps_the_statistics_of_a_gaussian_model(name):
    check_statistics(name)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_registry_line_says_what_others_need(name):
    strategy = STRATEGIES[name]
    assert strategy.title and strategy.about and not strategy.about.endswith(".") and len(strategy.about) < 90
    assert all(option.help for option in strategy.options().values()), "an option has no entry in the docstring"
    assert strategy.same_options_as in ("", *STRATEGIES)


def test_strategies_share_their_noise():
    """Two strategies on one seed begin from the same noise at the same output frame, also after a cut."""
    one = gaussian_pixels(gauss(max_latent_frames=12, size=8), make_plan("sliding", steps=4, overlap=3), 40)
    relay = make_plan("relay", steps=4, overlap=3, handoff="latents")
    two = gaussian_pixels(gauss(max_latent_frames=12, size=8), relay, 40)
    assert torch.allclose(one, two, atol=1e-5)


def test_other_seeds_give_other_videos():
    model, plan = gauss(max_latent_frames=12, size=8), make_plan("sliding", steps=4, overlap=3)
    videos = [gaussian_pixels(model, plan, 20, seeds=(s,)) for s in (0, 1)]
    both = gaussian_pixels(model, plan, 20, seeds=(0, 1))
    assert (videos[0] - videos[1]).abs().max() > 0.5
    assert torch.allclose(torch.cat(videos), both, atol=1e-6)
