"""Random sigmas of training: shares, distributions and shapes of the patterns."""

import math
from itertools import combinations_with_replacement, product

import pytest
import torch

from longtake.core.sigmas import shifted, token_shift
from longtake.train.objectives.sigma_sampling import (
    CONTEXT_NOISE,
    HISTORY,
    HISTORY_WEIGHTS,
    Mixture,
    block_staircase_sigmas,
    draw_history,
    draw_sigmas,
    equal_sigmas,
    fopp_sigmas,
    fopp_steps,
    history_sigmas,
    independent_sigmas,
    logit_normal_sigmas,
    spread,
    staggered_sigmas,
    token_sigmas,
)

COUNT, FRAMES = 4000, 25


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(3)


def unshifted(sigma, shift=3.0):
    return sigma / (shift - (shift - 1) * sigma)


def assert_uniform(sigma):
    """Kolmogorov-Smirnov distance to the uniform distribution; 1.6 / sqrt(n) is exceeded once in a hundred times."""
    ordered = sigma.double().sort().values
    expected = (torch.arange(len(ordered)) + 0.5) / len(ordered)
    assert (ordered - expected).abs().max() < 1.6 / len(ordered) ** 0.5


def test_spread_puts_one_number_in_each_part(rng):
    numbers = spread(rng, 50)
    assert sorted((numbers * 50).floor().int().tolist()) == list(range(50))
    assert not torch.equal(numbers, numbers.sort().values)


def test_patterns_have_their_shares(rng):
    counts = torch.bincount(Mixture().patterns(rng, COUNT), minlength=5) / COUNT
    assert torch.allclose(counts, torch.tensor([0.45, 0.35, 0.1, 0.1, 0.0]), atol=0.002)


def test_shares_that_do_not_add_up_to_one_are_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        Mixture(0.8, 0.3)


def test_context_sizes_follow_their_weights(rng):
    sizes = draw_history(rng, COUNT, FRAMES)
    assert set(sizes.tolist()) == set(HISTORY)
    assert (sizes == 5).float().mean() == pytest.approx(0.4, abs=0.03)
    assert set(draw_history(rng, COUNT, 5).tolist()) == {1, 2, 3}


def test_context_is_clean_or_slightly_noisy_and_the_rest_shares_one_sigma(rng):
    history = draw_history(rng, COUNT, FRAMES)
    sigma = history_sigmas(rng, history, FRAMES, 3.0)
    inside = torch.arange(FRAMES) < history[:, None]
    assert sigma[inside].max() <= CONTEXT_NOISE + 1e-6
    assert 0.2 < (sigma[:, 0] > 0).float().mean() < 0.4
    rest = sigma[:, -1:]
    assert torch.equal(torch.where(inside, rest, sigma), rest.expand_as(sigma))
    assert_uniform(unshifted(rest[:, 0]))


def test_equal_sigmas_are_equal_and_cover_the_range(rng):
    sigma = equal_sigmas(rng, COUNT, FRAMES, 3.0)
    assert torch.equal(sigma, sigma[:, :1].expand_as(sigma))
    assert_uniform(unshifted(sigma[:, 0]))


def test_independent_sigmas_are_uncorrelated(rng):
    sigma = unshifted(independent_sigmas(rng, COUNT, FRAMES, 3.0))
    correlation = torch.corrcoef(sigma.T)
    assert (correlation - torch.eye(FRAMES)).abs().max() < 0.08
    assert_uniform(sigma.flatten()[:COUNT])


def test_a_staircase_rises_from_clean_frames_to_noise(rng):
    sigma = staggered_sigmas(rng, COUNT, FRAMES, 3.0)
    assert (sigma.diff(dim=1) >= 0).all()
    assert (sigma[:, 0] == 0).float().mean() > 0.3
    assert (sigma[:, -1] == 1).float().mean() > 0.3
    assert (sigma[:, 0] > 0).any() and (sigma[:, -1] < 1).any()


def test_each_video_follows_its_own_pattern(rng):
    history = torch.full((4,), 5)
    sigma = draw_sigmas(rng, torch.arange(4), history, FRAMES, 3.0)
    assert (sigma[0, :5] <= CONTEXT_NOISE).all() and len(sigma[0, 5:].unique()) == 1
    assert len(sigma[1].unique()) == 1
    assert (sigma[2].diff() >= 0).all() and len(sigma[2].unique()) > 2
    assert len(sigma[3].unique()) == FRAMES and (sigma[3].diff() < 0).any()


def test_sigmas_are_a_function_of_the_generator():
    draws = [independent_sigmas(torch.Generator().manual_seed(s), 3, 5, 2.0) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert shifted(torch.tensor(0.5), 3.0) == 0.75


# ---------------------------------------------------------------- against the exact distributions
def chi_square(counts, shares):
    """Pearson's statistic of counts against the shares that they should have."""
    expected = shares * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def fopp_shares(frames, steps):
    """{sequence: probability} of FoPP, by listing: every frame and step is drawn evenly_spaced, then any sequence with it."""
    every = list(combinations_with_replacement(range(1, steps + 1), frames))
    shares = dict.fromkeys(every, 0.0)
    for place, step in product(range(frames), range(1, steps + 1)):
        fits = [one for one in every if one[place] == step]
        for one in fits:
            shares[one] += 1 / (frames * steps * len(fits))
    return shares


@pytest.mark.parametrize(("frames", "steps", "most"), [(3, 3, 27.9), (4, 3, 36.1), (2, 5, 36.1), (1, 6, 20.5)])
def test_fopp_is_exactly_what_listing_all_sequences_gives(rng, frames, steps, most):
    """most: what chi-square exceeds once in a thousand times with as many sequences."""
    shares = fopp_shares(frames, steps)
    assert sum(shares.values()) == pytest.approx(1)
    drawn = fopp_steps(rng, 20000, frames, steps).tolist()
    counts = torch.tensor([sum(one == list(wanted) for one in drawn) for wanted in shares], dtype=torch.float64)
    assert counts.sum() == 20000
    assert chi_square(counts, torch.tensor(list(shares.values()), dtype=torch.float64)) < most


def test_fopp_tables_are_those_of_the_recursion():
    """ds[i, j] = ds[i, j + 1] + ds[i + 1, j], ds[F, j] = ds[i, T] = 1: numbers of continuations; de is the same towards the start."""
    frames, steps = 4, 5
    ways = torch.ones(frames + 1, steps + 1)
    for i, j in product(range(2, frames + 1), range(2, steps + 1)):
        ways[i, j] = ways[i, j - 1] + ways[i - 1, j]
    for i, j in product(range(1, frames + 1), range(1, steps + 1)):
        assert ways[i, j] == math.comb(i + j - 2, i - 1)
        assert ways[i, 1 : j + 1].sum() == math.comb(i + j - 1, i)


def test_fopp_of_long_videos_rises_and_is_never_equal(rng):
    sigmas = fopp_sigmas(rng, 2000, 25, 1.0)
    assert (sigmas.diff(dim=1) >= 0).all() and sigmas.min() > 0 and sigmas.max() <= 1
    assert not (sigmas == sigmas[:, :1]).all(1).any()
    means = sigmas.mean(0)
    assert (means[[0, 12, 24]] - torch.tensor([0.074, 0.503, 0.928])).abs().max() < 0.02  # skyreels-v2, observed


def test_the_default_mixture_draws_equal_sigmas_and_clean_context(rng):
    mixture = Mixture()
    pattern = mixture.patterns(rng, 2000)
    sigma = draw_sigmas(rng, pattern, draw_history(rng, 2000, 25), 25, mixture.shift)
    equal = (sigma == sigma[:, :1]).all(1).float().mean()
    behind = ((sigma[:, :1] <= CONTEXT_NOISE) & (sigma[:, 9:] == sigma[:, -1:]).all(1, keepdim=True)).float().mean()
    assert equal == pytest.approx(0.35, abs=0.01) and behind > 0.42


def test_logit_normal_sigmas_are_normal_in_their_logit(rng):
    sigma = logit_normal_sigmas(rng, COUNT, 0.5, 0.8, 3.0).double()
    logit = torch.logit(unshifted(sigma))
    assert_uniform(torch.special.ndtr((logit - 0.5) / 0.8))


def test_a_block_staircase_is_a_plan_at_a_random_step(rng):
    """Shares of clean, moving and untouched blocks, counted over all lags; a moving one is anywhere on its way."""
    blocks, steps, count = 4, 12, 20000
    sigma = block_staircase_sigmas(rng, count, blocks, 3.0, steps)
    lags = torch.arange(1, steps + 1, dtype=torch.float64)
    calls = steps + lags * (blocks - 1)
    for b in range(blocks):
        untouched, clean = (lags * b / calls).mean(), (lags * (blocks - 1 - b) / calls).mean()
        shares = torch.stack([untouched, clean, 1 - untouched - clean])
        mine = torch.stack([sigma[:, b] == 1, sigma[:, b] == 0, (sigma[:, b] > 0) & (sigma[:, b] < 1)]).sum(1).double()
        wanted = shares > 0
        assert mine[~wanted].sum() <= 2
        assert chi_square(mine[wanted], shares[wanted]) < 13.8
        moving = sigma[:, b][(sigma[:, b] > 0) & (sigma[:, b] < 1)]
        assert_uniform(unshifted(moving))
    assert (sigma.diff(dim=1) >= 0).all()


def test_a_staircase_in_a_straight_line_has_the_shares_of_its_slopes(rng):
    """Shares of clean, moving and noisy frames, summed over all slopes and places."""
    count, frames = 20000, 9
    sigma = staggered_sigmas(rng, count, frames, 3.0)
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    middle, width = even[:, None] * (frames - 1), 2 + even * 2 * frames
    for frame in (0, 4, 8):
        exact = 0.5 + (frame - middle) / width
        shares = torch.stack([(exact <= 0), (exact >= 1), (exact > 0) & (exact < 1)]).double().mean((1, 2))
        at = sigma[:, frame]
        mine = torch.stack([at <= 0, at >= 1, (at > 0) & (at < 1)]).sum(1).double()
        assert mine[shares == 0].sum() == 0
        assert chi_square(mine[shares > 0], shares[shares > 0]) < 13.8


def test_histories_have_their_weights(rng):
    sizes = torch.bincount(draw_history(rng, 20000, FRAMES), minlength=10)[list(HISTORY)].double()
    assert chi_square(sizes, torch.tensor(HISTORY_WEIGHTS, dtype=torch.float64)) < 18.5


# ---------------------------------------------------------------- sigmas by number of tokens
@pytest.mark.parametrize("tokens", [256, 1024, 6144, 12_000, 69_504, 10**6])
def test_low_noise_is_drawn_at_any_number_of_tokens(tokens, rng):
    """The published sigmas omit low noise from some thousand tokens on; the corrected ones never do."""
    sigma = token_sigmas(rng, COUNT, tokens)
    published = logit_normal_sigmas(rng, COUNT, 0.0, 1.0, token_shift(tokens))
    assert sigma.isfinite().all() and sigma.min() >= 0 and sigma.max() <= 1
    assert float((sigma < 0.1).float().mean()) > 0.01
    assert float((sigma < 0.5).float().mean()) > 0.05
    if tokens >= 6144:
        assert float((published < 0.1).float().mean()) < 1e-3


def test_more_tokens_mean_more_noise(rng):
    middles = [float(token_sigmas(rng, COUNT, tokens).median()) for tokens in (256, 1024, 4096, 12_000)]
    assert middles == sorted(middles) and middles[0] < 0.65 < 0.85 < middles[-1]


def test_published_quantiles():
    """Quantiles measured with the public trainer at 6144 tokens: 5 %, 50 % and 95 %."""
    sigma = logit_normal_sigmas(torch.Generator().manual_seed(0), 20_000, 0.0, 1.0, token_shift(6144))
    assert [round(float(q), 2) for q in sigma.quantile(torch.tensor([0.05, 0.5, 0.95]))] == [0.76, 0.94, 0.99]
