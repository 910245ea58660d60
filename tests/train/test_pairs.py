"""Durations and sizes in one run: batches of about as many tokens, made equal by dropping a few, statistics unchanged."""

import pytest
import torch

from longtake.train.pairs import Pair, draw_kept, draw_tokens, grouped, least, pairs

PUBLISHED = pairs((5, 8, 10), ((512, 768), (384, 640), (480, 704)), 8, 32, 24.0)
POCKET = pairs((5, 8, 10), ((64, 64), (64, 96), (48, 64)), 8, 16, 24.0)


def test_durations_become_whole_clips():
    """5, 8 and 10 s are 121, 193 and 241 frames: 16, 25 and 31 latents."""
    assert [pair.frames for pair in POCKET[::3]] == [121, 193, 241]
    assert [pair.shape for pair in POCKET[::3]] == [(16, 4, 4), (25, 4, 4), (31, 4, 4)]
    assert PUBLISHED[0].tokens == 16 * 16 * 24 and PUBLISHED[0].name == "121x512x768"
    with pytest.raises(ValueError, match="whole tokens of 16 pixels"):
        Pair(121, 64, 72, 8, 16)


@pytest.mark.parametrize("found", [PUBLISHED, POCKET])
@pytest.mark.parametrize("most", [0.0, 0.1, 0.2])
def test_pairs_of_a_batch_have_about_as_many_tokens(found, most):
    groups = grouped(found, most)
    assert sorted((pair for group in groups for pair in group), key=str) == sorted(found, key=str)
    for group in groups:
        counts = [pair.tokens for pair in group]
        assert min(counts) >= (1 - most) * max(counts)
    if most:
        assert max(map(len, groups)) > 1 and len(groups) < len(grouped(found, 0.0))


def test_every_clip_keeps_as_many_tokens_and_none_loses_more_than_a_fifth():
    rng = torch.Generator().manual_seed(0)
    for group in grouped(POCKET, 0.2):
        longest, shortest = max(pair.tokens for pair in group), min(pair.tokens for pair in group)
        counts = {draw_kept(rng, group, 0.2) for _ in range(2000)}
        assert (min(counts), max(counts)) == (least(longest, 0.2), shortest)
        for pair in group:
            assert 1 - min(counts) / pair.tokens <= 0.2 + 1e-9
            keep = draw_tokens(rng, pair.tokens, min(counts))
            assert len(keep) == min(counts) == len(set(keep.tolist())) and int(keep.max()) < pair.tokens
            assert torch.equal(keep, keep.sort().values)


def test_nothing_is_dropped_where_nothing_may_be():
    rng = torch.Generator().manual_seed(0)
    for group in grouped(POCKET, 0.0):
        assert {draw_kept(rng, group, 0.0) for _ in range(20)} == {group[0].tokens}
        assert torch.equal(draw_tokens(rng, group[0].tokens, group[0].tokens), torch.arange(group[0].tokens))


def test_statistics_stay_what_they_were():
    """Every token goes as often as any other, and mean and deviation of what stays are those of the whole."""
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
