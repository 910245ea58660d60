"""Durations and sizes in one run: batches of about as many tokens, made equal by dropping a few, statistics unchanged."""

import pytest
import torch

from longtake.train.datasets.buckets import (
    Bucket,
    draw_token_count,
    draw_tokens,
    group_buckets,
    least_tokens,
    make_buckets,
)

PUBLISHED = make_buckets((5, 8, 10), ((512, 768), (384, 640), (480, 704)), 8, 32, 24.0)
POCKET = make_buckets((5, 8, 10), ((64, 64), (64, 96), (48, 64)), 8, 16, 24.0)


def test_durations_become_whole_clips():
    """5, 8 and 10 s are 121, 193 and 241 frames: 16, 25 and 31 latents."""
    assert [bucket.frames for bucket in POCKET[::3]] == [121, 193, 241]
    assert [bucket.shape for bucket in POCKET[::3]] == [(16, 4, 4), (25, 4, 4), (31, 4, 4)]
    assert PUBLISHED[0].tokens == 16 * 16 * 24 and PUBLISHED[0].name == "121 x 768x512"
    with pytest.raises(ValueError, match="use multiples of 16 pixels"):
        Bucket(121, 64, 72, 8, 16)


@pytest.mark.parametrize("buckets", [PUBLISHED, POCKET])
@pytest.mark.parametrize("most", [0.0, 0.1, 0.2])
def test_buckets_of_a_batch_have_similar_token_counts(buckets, most):
    groups = group_buckets(buckets, most)
    assert sorted((each for group in groups for each in group), key=str) == sorted(buckets, key=str)
    for group in groups:
        counts = [bucket.tokens for bucket in group]
        assert min(counts) >= (1 - most) * max(counts)
    if most:
        assert max(map(len, groups)) > 1 and len(groups) < len(group_buckets(buckets, 0.0))


def test_every_clip_keeps_as_many_tokens_and_none_loses_more_than_a_fifth():
    rng = torch.Generator().manual_seed(0)
    for group in group_buckets(POCKET, 0.2):
        longest, shortest = max(bucket.tokens for bucket in group), min(bucket.tokens for bucket in group)
        counts = {draw_token_count(rng, group, 0.2) for _ in range(2000)}
        assert (min(counts), max(counts)) == (least_tokens(longest, 0.2), shortest)
        for bucket in group:
            assert 1 - min(counts) / bucket.tokens <= 0.2 + 1e-9
            keep = draw_tokens(rng, bucket.tokens, min(counts))
            assert len(keep) == min(counts) == len(set(keep.tolist())) and int(keep.max()) < bucket.tokens
            assert torch.equal(keep, keep.sort().values)


def test_no_token_is_dropped_with_a_dropout_of_zero():
    rng = torch.Generator().manual_seed(0)
    for group in group_buckets(POCKET, 0.0):
        assert {draw_token_count(rng, group, 0.0) for _ in range(20)} == {group[0].tokens}
        assert torch.equal(draw_tokens(rng, group[0].tokens, group[0].tokens), torch.arange(group[0].tokens))


def test_dropping_tokens_keeps_the_statistics():
    """Every token is equally likely to stay, and mean and deviation of those that stay are those of all."""
    rng, draws, tokens = torch.Generator().manual_seed(0), 2000, 400
    values = torch.randn(tokens, generator=rng) * torch.linspace(0.5, 2, tokens) + torch.linspace(-1, 1, tokens)
    kept = torch.zeros(tokens)
    means, squares = [], []
    for _ in range(draws):
        keep = draw_tokens(rng, tokens, 330)
        kept[keep] += 1
        means.append(values[keep].mean())
        squares.append(values[keep].pow(2).mean())
    share = kept / draws
    assert (share - 330 / tokens).abs().max() < 5 * (0.825 * 0.175 / draws) ** 0.5
    assert torch.stack(means).mean() == pytest.approx(float(values.mean()), abs=3e-3)
    assert torch.stack(squares).mean() == pytest.approx(float(values.pow(2).mean()), abs=5e-3)
