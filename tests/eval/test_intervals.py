"""Slopes and start-end differences are right, and intervals cover the truth about as often as they claim."""

import pytest
import torch

from longtake.eval.intervals import bootstrap, paired_difference, paired_ratio, slopes, start_end


def test_slopes_and_start_end_differences_of_straight_lines():
    line = torch.arange(8, dtype=torch.float64)[None] * torch.tensor([[2.0], [0.5]])
    assert slopes(line).tolist() == pytest.approx([2.0, 0.5])
    assert start_end(line).tolist() == pytest.approx([12.0, 3.0])


def test_intervals_cover_the_truth_as_often_as_they_claim():
    rng, hits, paired = torch.Generator().manual_seed(0), 0, 0
    for trial in range(200):
        base = 1.0 + 0.5 * torch.randn(24, generator=rng, dtype=torch.float64)
        arm = 0.5 * base + 0.05 * torch.randn(24, generator=rng, dtype=torch.float64)
        mean, ratio = bootstrap(base, 400, trial), paired_ratio(arm, base, 400, trial)
        hits, paired = hits + (mean.low <= 1.0 <= mean.high), paired + (ratio.low <= 0.5 <= ratio.high)
    assert hits > 174 and paired > 174


def test_intervals_of_equal_and_of_still_videos():
    assert bootstrap(torch.ones(5)).low == bootstrap(torch.ones(5)).high == 1.0
    assert paired_ratio(torch.ones(4), torch.zeros(4)).high == float("inf")
    assert str(paired_ratio(torch.zeros(4), torch.zeros(4))) == "-"


def test_a_difference_in_pairs_ignores_what_both_arms_share():
    base = torch.tensor([1.0, 5.0, 9.0, 2.0])
    found = paired_difference(base + 0.5, base)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
