"""The judge reads what a pocket clip shows, and does not read what it does not show."""

import random

import pytest
import torch

from longtake.pocket import Clip, Facts, Scene, render, sample_facts
from longtake.pocket.judge import background, find_sprite, follow_sprite, judge, score, wilson

COUNT = 16


@pytest.fixture(scope="module")
def clips():
    """Facts of random clips, their frames and their verdicts."""
    rng = random.Random("judge test")
    facts = [sample_facts(rng) for _ in range(COUNT)]
    frames = [render(Clip((Scene(f),), 900 + n), 0, 97).frames for n, f in enumerate(facts)]
    return facts, frames, [judge(video) for video in frames]


def test_facts_of_true_renders_are_read(clips):
    facts, _, verdicts = clips
    for name, share in score(facts, verdicts).items():
        assert share.hits >= COUNT - 1, f"{name}: {share}"


def test_facts_of_other_prompts_are_not_read(clips):
    facts, _, verdicts = clips
    shares = score(facts, [*verdicts[1:], *verdicts[:1]])
    assert all(share.value < 0.6 for share in shares.values())
    assert sum(share.hits for share in shares.values()) < 0.35 * 4 * COUNT


def test_each_fact_is_read_independently():
    """Changing the colour, the direction of time or the height of the picture changes that fact and no other."""
    rng = random.Random(2)
    facts = Facts("red", "star", "right", "desert")
    frames = render(Clip((Scene(facts),), rng.randrange(99)), 0, 97).frames
    assert judge(frames.flip(0)).motion == "left"
    assert judge(frames[:1].expand(97, -1, -1, -1)).motion == "still"
    blue = render(Clip((Scene(Facts("blue", "star", "right", "desert")),), 5), 0, 97).frames
    verdict = judge(blue)
    assert (verdict.colour, verdict.shape, verdict.motion, verdict.scenery) == ("blue", "star", "right", "desert")


def test_no_sprite_is_read_from_grey_and_noise():
    grey = judge(torch.full((97, 3, 64, 64), 0.5))
    assert grey.colour is None and grey.shape is None and grey.motion is None
    torch.manual_seed(0)
    noise = [judge(torch.rand(33, 3, 64, 64)) for _ in range(2)]
    assert all(verdict.overlap < 0.5 for verdict in noise)


def test_a_sprite_is_followed_across_the_edge():
    clip = Clip((Scene(Facts("red", "circle", "right", "grid")),), 3)
    _, mask = find_sprite(render(clip, 0, 97).frames[::2])
    path = follow_sprite(mask, 2)
    assert float(path.x[-1]) == pytest.approx(0.75 * 96 / 24, rel=0.03)
    assert path.y.abs().max() < 0.05


def test_a_share_has_a_wilson_interval():
    low, high = wilson(57, 60)
    assert (round(low, 3), round(high, 3)) == (0.863, 0.983)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    with pytest.raises(ValueError, match="as many of each"):
        score([], [])


def test_the_background_is_the_scenery_behind_the_sprite():
    facts = Facts("red", "square", "left", "grid")
    bare = background(render(Clip((Scene(facts),), 3), 0, 97).frames)
    other = background(render(Clip((Scene(Facts("blue", "heart", "up", "grid")),), 3), 0, 97).frames)
    assert (bare - other).square().mean() < 1e-3 < (bare - bare * 0.8).square().mean()
