"""The noise levels of training: shares, spreads and shapes of the four patterns."""

import math
from itertools import combinations_with_replacement, product

import pytest
import torch

from longtake.noise import shifted, token_shift
from longtake.train.levels import (
    HISTORY,
    HISTORY_WEIGHTS,
    TOUCH,
    Mixture,
    block_staircase,
    draw_history,
    draw_levels,
    equal_levels,
    fopp_levels,
    fopp_steps,
    history_levels,
    independent_levels,
    logit_normal,
    spread,
    stagger_levels,
    token_levels,
)

COUNT, FRAMES = 4000, 25


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(3)


def unshifted(level, shift=3.0):
    return level / (shift - (shift - 1) * level)


def assert_uniform(level):
    """Kolmogorov-Smirnov distance to the uniform distribution; 1.6 / sqrt(n) is exceeded once in a hundred times."""
    ordered = level.double().sort().values
    expected = (torch.arange(len(ordered)) + 0.5) / len(ordered)
    assert (ordered - expected).abs().max() < 1.6 / len(ordered) ** 0.5


def test_spread_puts_one_number_in_each_part(rng):
    numbers = spread(rng, 50)
    assert sorted((numbers * 50).floor().int().tolist()) == list(range(50))
    assert not torch.equal(numbers, numbers.sort().values)


def test_patterns_have_their_shares(rng):
    counts = torch.bincount(Mixture().patterns(rng, COUNT), minlength=5) / COUNT
    assert torch.allclose(counts, torch.tensor([0.45, 0.35, 0.1, 0.1, 0.0]), atol=0.002)


def test_shares_that_are_none_are_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        Mixture(0.8, 0.3)


def test_history_sizes_are_those_of_windows(rng):
    sizes = draw_history(rng, COUNT, FRAMES)
    assert set(sizes.tolist()) == set(HISTORY)
    assert (sizes == 5).float().mean() == pytest.approx(0.4, abs=0.03)
    assert set(draw_history(rng, COUNT, 5).tolist()) == {1, 2, 3}


def test_history_is_clean_or_touched_and_the_rest_shares_one_level(rng):
    history = draw_history(rng, COUNT, FRAMES)
    level = history_levels(rng, history, FRAMES, 3.0)
    inside = torch.arange(FRAMES) < history[:, None]
    assert level[inside].max() <= TOUCH + 1e-6
    assert 0.2 < (level[:, 0] > 0).float().mean() < 0.4
    rest = level[:, -1:]
    assert torch.equal(torch.where(inside, rest, level), rest.expand_as(level))
    assert_uniform(unshifted(rest[:, 0]))


def test_equal_levels_are_equal_and_cover_all_of_them(rng):
    level = equal_levels(rng, COUNT, FRAMES, 3.0)
    assert torch.equal(level, level[:, :1].expand_as(level))
    assert_uniform(unshifted(level[:, 0]))


def test_independent_levels_have_nothing_to_do_with_each_other(rng):
    level = unshifted(independent_levels(rng, COUNT, FRAMES, 3.0))
    correlation = torch.corrcoef(level.T)
    assert (correlation - torch.eye(FRAMES)).abs().max() < 0.08
    assert_uniform(level.flatten()[:COUNT])


def test_a_staircase_rises_and_has_clean_frames_before_and_noise_behind(rng):
    level = stagger_levels(rng, COUNT, FRAMES, 3.0)
    assert (level.diff(dim=1) >= 0).all()
    assert (level[:, 0] == 0).float().mean() > 0.3
    assert (level[:, -1] == 1).float().mean() > 0.3
    assert (level[:, 0] > 0).any() and (level[:, -1] < 1).any()


def test_each_video_follows_its_own_pattern(rng):
    history = torch.full((4,), 5)
    level = draw_levels(rng, torch.arange(4), history, FRAMES, 3.0)
    assert (level[0, :5] <= TOUCH).all() and len(level[0, 5:].unique()) == 1
    assert len(level[1].unique()) == 1
    assert (level[2].diff() >= 0).all() and len(level[2].unique()) > 2
    assert len(level[3].unique()) == FRAMES and (level[3].diff() < 0).any()


def test_levels_are_a_function_of_the_generator():
    draws = [independent_levels(torch.Generator().manual_seed(s), 3, 5, 2.0) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert shifted(torch.tensor(0.5), 3.0) == 0.75


# ---------------------------------------------------------------- against the exact distributions
def chi_square(counts, shares):
    """Pearson's statistic of counts against the shares that they should have."""
    expected = shares * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def fopp_shares(frames, steps):
    """{sequence: probability} of FoPP, by listing: every frame and step is drawn evenly, then any sequence with it."""
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
    """ds[i, j] = ds[i, j + 1] + ds[i + 1, j], ds[F, j] = ds[i, T] = 1: ways to go on; de is the same towards the start."""
    frames, steps = 4, 5
    ways = torch.ones(frames + 1, steps + 1)
    for i, j in product(range(2, frames + 1), range(2, steps + 1)):
        ways[i, j] = ways[i, j - 1] + ways[i - 1, j]
    for i, j in product(range(1, frames + 1), range(1, steps + 1)):
        assert ways[i, j] == math.comb(i + j - 2, i - 1)
        assert ways[i, 1 : j + 1].sum() == math.comb(i + j - 1, i)


def test_fopp_of_long_videos_rises_and_is_never_equal(rng):
    levels = fopp_levels(rng, 2000, 25, 1.0)
    assert (levels.diff(dim=1) >= 0).all() and levels.min() > 0 and levels.max() <= 1
    assert not (levels == levels[:, :1]).all(1).any()
    means = levels.mean(0)
    assert (means[[0, 12, 24]] - torch.tensor([0.074, 0.503, 0.928])).abs().max() < 0.02  # skyreels-v2, observed


def test_the_default_mixture_draws_equal_levels_and_clean_history(rng):
    mixture = Mixture()
    pattern = mixture.patterns(rng, 2000)
    level = draw_levels(rng, pattern, draw_history(rng, 2000, 25), 25, mixture.shift)
    equal = (level == level[:, :1]).all(1).float().mean()
    behind = ((level[:, :1] <= TOUCH) & (level[:, 9:] == level[:, -1:]).all(1, keepdim=True)).float().mean()
    assert equal == pytest.approx(0.35, abs=0.01) and behind > 0.42


def test_logit_normal_levels_are_normal_in_their_logit(rng):
    level = logit_normal(rng, COUNT, 0.5, 0.8, 3.0).double()
    logit = torch.logit(unshifted(level))
    assert_uniform(torch.special.ndtr((logit - 0.5) / 0.8))


def test_a_block_staircase_is_a_plan_at_a_random_call(rng):
    """Shares of clean, moving and untouched blocks, counted over all lags; a moving one is anywhere on its way."""
    blocks, steps, count = 4, 12, 20000
    level = block_staircase(rng, count, blocks, 3.0, steps)
    lags = torch.arange(1, steps + 1, dtype=torch.float64)
    calls = steps + lags * (blocks - 1)
    for b in range(blocks):
        untouched, clean = (lags * b / calls).mean(), (lags * (blocks - 1 - b) / calls).mean()
        shares = torch.stack([untouched, clean, 1 - untouched - clean])
        mine = torch.stack([level[:, b] == 1, level[:, b] == 0, (level[:, b] > 0) & (level[:, b] < 1)]).sum(1).double()
        wanted = shares > 0
        assert mine[~wanted].sum() <= 2
        assert chi_square(mine[wanted], shares[wanted]) < 13.8
        moving = level[:, b][(level[:, b] > 0) & (level[:, b] < 1)]
        assert_uniform(unshifted(moving))
    assert (level.diff(dim=1) >= 0).all()


def test_a_staircase_in_a_straight_line_has_the_shares_of_its_slopes(rng):
    """Shares of clean, moving and noisy frames, summed over all slopes and places."""
    count, frames = 20000, 9
    level = stagger_levels(rng, count, frames, 3.0)
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    middle, width = even[:, None] * (frames - 1), 2 + even * 2 * frames
    for frame in (0, 4, 8):
        exact = 0.5 + (frame - middle) / width
        shares = torch.stack([(exact <= 0), (exact >= 1), (exact > 0) & (exact < 1)]).double().mean((1, 2))
        at = level[:, frame]
        mine = torch.stack([at <= 0, at >= 1, (at > 0) & (at < 1)]).sum(1).double()
        assert mine[shares == 0].sum() == 0
        assert chi_square(mine[shares > 0], shares[shares > 0]) < 13.8


def test_histories_have_their_weights(rng):
    sizes = torch.bincount(draw_history(rng, 20000, FRAMES), minlength=10)[list(HISTORY)].double()
    assert chi_square(sizes, torch.tensor(HISTORY_WEIGHTS, dtype=torch.float64)) < 18.5


# ---------------------------------------------------------------- after the number of tokens
@pytest.mark.parametrize("tokens", [256, 1024, 6144, 12_000, 69_504, 10**6])
def test_low_noise_is_met_at_any_number_of_tokens(tokens, rng):
    """The published levels leave out low noise from some thousand tokens on; the mended ones never do."""
    level = token_levels(rng, COUNT, tokens)
    published = logit_normal(rng, COUNT, 0.0, 1.0, token_shift(tokens))
    assert level.isfinite().all() and level.min() >= 0 and level.max() <= 1
    assert float((level < 0.1).float().mean()) > 0.01
    assert float((level < 0.5).float().mean()) > 0.05
    if tokens >= 6144:
        assert float((published < 0.1).float().mean()) < 1e-3


def test_more_tokens_are_trained_at_more_noise(rng):
    middles = [float(token_levels(rng, COUNT, tokens).median()) for tokens in (256, 1024, 4096, 12_000)]
    assert middles == sorted(middles) and middles[0] < 0.65 < 0.85 < middles[-1]


def test_published_quantiles():
    """Those measured of the public trainer at 6144 tokens: 5 %, half and 95 %."""
    level = logit_normal(torch.Generator().manual_seed(0), 20_000, 0.0, 1.0, token_shift(6144))
    assert [round(float(q), 2) for q in level.quantile(torch.tensor([0.05, 0.5, 0.95]))] == [0.76, 0.94, 0.99]
