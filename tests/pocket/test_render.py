"""Rendered clips are fixed by their seed, of any length and any size, and show their facts."""

import random
from dataclasses import replace

import pytest
import torch

from longtake.pocket import COLOURS, FPS, SCENERIES, SHAPES, SIDE, Clip, Facts, Scene, make_clip, render

RED = Facts("red", "square", "right", "sea")


def clip(**changes):
    return Clip((Scene(replace(RED, **changes)),), 1)


def centre(picture):
    """Return the centre of the sprite per frame (T, 2) on a screen whose edges meet, in units."""
    angle = (torch.arange(SIDE) + 0.5) / SIDE * 2 * torch.pi
    places = []
    for along in (picture.sprite.sum(1), picture.sprite.sum(2)):
        sine, cosine = (along * angle.sin()).sum(1), (along * angle.cos()).sum(1)
        places.append(torch.atan2(sine, cosine) / torch.pi)
    return torch.stack(places, 1)


def test_a_clip_is_fixed_by_its_facts_and_seed():
    pictures = [render(make_clip(random.Random("same"), 61, 1.0), 0, 9) for _ in range(2)]
    assert torch.equal(pictures[0].frames, pictures[1].frames)
    other = render(make_clip(random.Random("other"), 61, 1.0), 0, 9)
    assert (other.frames - pictures[0].frames).abs().max() > 0.1


def test_a_part_equals_the_same_part_of_the_whole():
    whole = make_clip(random.Random(4), 61, 1.0)
    full = render(whole, 0, 61)
    for start, stop in ((0, 1), (17, 29), (60, 61)):
        part = render(whole, start, stop)
        assert torch.allclose(part.frames, full.frames[start:stop], atol=1e-6)
        assert torch.allclose(part.sprite, full.sprite[start:stop], atol=1e-6)
    far = render(whole, 10**6, 10**6 + 3)
    assert far.frames.isfinite().all() and (far.sprite.sum((1, 2)) > 40).all()


@pytest.mark.parametrize("scenery", SCENERIES)
def test_frames_and_coverage_are_in_range(scenery):
    picture = render(clip(scenery=scenery), 0, 5)
    assert picture.frames.shape == (5, 3, SIDE, SIDE) and picture.sprite.shape == (5, SIDE, SIDE)
    assert picture.frames.min() >= 0 and picture.frames.max() <= 1
    assert picture.sprite.min() >= 0 and picture.sprite.max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_the_sprite_has_its_colour(colour, shape):
    picture = render(clip(colour=colour, shape=shape, motion="still"), 0, 1)
    inside = (picture.sprite[0] > 0.99)[None] & ((picture.frames[0] - 0.11).abs().amax(0) > 0.3)[None]
    seen = picture.frames[0][:, inside[0]].median(1).values
    assert (seen - torch.tensor(COLOURS[colour])).abs().max() < 0.11


def test_a_sprite_that_leaves_comes_back_on_the_other_side():
    """A drifting sprite stays wholly on the wrapping screen and keeps its speed over two rounds."""
    picture = render(clip(motion="right"), 0, 4 * FPS)
    area = picture.sprite.sum((1, 2))
    assert area.std() < 0.01 * area.mean()
    steps = (centre(picture)[:, 0].diff() + 1) % 2 - 1
    assert torch.allclose(steps, torch.full_like(steps, 0.75 / FPS), atol=2e-3)
    columns = picture.sprite.amax(1)
    assert ((columns[:, 0] > 0.5) & (columns[:, -1] > 0.5)).any(), "it never crosses the edge"


@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_a_sprite_moves_in_the_direction_of_its_motion(motion, axis, sign):
    steps = (centre(render(clip(motion=motion), 0, 13)).diff(dim=0) + 1) % 2 - 1
    assert (sign * steps[:, axis] > 0.01).all() and steps[:, 1 - axis].abs().max() < 1e-3


def test_a_switch_changes_the_facts_and_eases_in():
    """The first frame after the switch equals the scene before; half a second later the new facts hold."""
    before, after = replace(RED, motion="orbit"), Facts("blue", "star", "sway", "desert")
    switched = Clip((Scene(before), Scene(after, 25)), 1)
    old = Clip((Scene(before),), 1)
    assert switched.facts_at(24) == before and switched.facts_at(25) == after
    assert torch.allclose(render(switched, 0, 25).frames, render(old, 0, 25).frames)
    assert (render(switched, 25, 26).frames - render(old, 25, 26).frames).abs().max() < 0.35
    whole = render(switched, 0, 60)
    jumps = (centre(whole).diff(dim=0) + 1) % 2 - 1
    assert jumps.abs().max() < 0.12
    late = whole.frames[45][:, (whole.sprite[45] > 0.99)].permute(1, 0)
    assert ((late - torch.tensor(COLOURS["blue"])).abs().amax(1) < 0.11).float().mean() > 0.5
    desert = render(clip(scenery="desert"), 45, 46).frames
    clear = (whole.sprite[45] == 0) & (render(clip(scenery="desert"), 45, 46).sprite[0] == 0)
    assert torch.allclose(whole.frames[45][:, clear], desert[0][:, clear], atol=1e-5)


def test_switches_have_their_probability_and_start_at_a_latent():
    clips = [make_clip(random.Random(n), 121, 0.3) for n in range(400)]
    switched = [c for c in clips if len(c.scenes) == 2]
    assert 0.22 < len(switched) / len(clips) < 0.38
    assert all(c.scenes[1].first % 4 == 1 and 0 < c.scenes[1].first < 121 for c in switched)


def middle(picture):
    """Return the centre of a sprite that no edge cuts, in pixels from the middle of the screen (T, 2)."""
    height, width = picture.sprite.shape[1:]
    down, across = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    weight = picture.sprite / picture.sprite.sum((1, 2), keepdim=True)
    return torch.stack([(weight.sum(1) * across).sum(1), (weight.sum(2) * down).sum(1)], 1)


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 32), (48, 64), (80, 80)])
@pytest.mark.parametrize("scenery", SCENERIES)
def test_every_size_shows_the_same_world(size, scenery):
    """Sprite and scenery have the positions of the square screen, in units; a longer side shows more of the scenery."""
    still = clip(motion="orbit", scenery=scenery)
    square, other = render(still, 0, 40), render(still, 0, 40, size)
    assert other.frames.shape == (40, 3, *size) and other.sprite.shape == (40, *size)
    assert other.frames.min() >= 0 and other.frames.max() <= 1
    short = min(size)
    assert torch.allclose(middle(other) / short, middle(square) / SIDE, atol=0.01)
    if short == SIDE:
        top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        inner = other.frames[..., top : top + SIDE, left : left + SIDE]
        assert torch.allclose(inner, square.frames, atol=1e-4)


def test_a_wide_screen_wraps_later():
    """A sprite that drifts right comes back after 3 units of a screen of 3:2, and a switch does not move it."""
    facts = replace(RED, motion="right", shape="circle")
    period = round(FPS * 3 / 0.75)
    frames = render(Clip((Scene(facts),), 1), 0, period + 1, (64, 96)).sprite
    assert torch.allclose(frames[0], frames[-1], atol=1e-4)
    assert (frames[0] - frames[period * 2 // 3]).abs().max() > 0.5
    far = Clip((Scene(facts), Scene(replace(facts, colour="blue"), 65)), 1)  # beyond the edge of a square screen
    assert torch.allclose(render(far, 0, 80, (64, 96)).sprite, frames[:80], atol=1e-3)


def test_an_empty_screen_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        render(clip(), 0, 1, (0, 64))
