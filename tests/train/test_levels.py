"""The noise levels of training: shares, spreads and shapes of the four patterns."""

import pytest
import torch

from longtake.noise import shifted
from longtake.train.levels import (
    HISTORY,
    TOUCH,
    Mixture,
    draw_history,
    draw_levels,
    equal_levels,
    history_levels,
    independent_levels,
    patterns,
    spread,
    stagger_levels,
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
    counts = torch.bincount(patterns(rng, COUNT, Mixture(0.45, 0.35)), minlength=4) / COUNT
    assert torch.allclose(counts, torch.tensor([0.45, 0.35, 0.1, 0.1]), atol=0.002)


def test_shares_that_are_none_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
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
