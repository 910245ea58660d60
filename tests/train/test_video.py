"""What a window is told, how long it is, and how many fit in a step."""

import random

import pytest
import torch

from longtake.train.data import Latents, Source, first_frame
from longtake.train.sample import Sample
from longtake.train.video import Video, VideoConfig
from longtake.world import parse

CLIPS = {n: Source(frames=121, switch=1.0).clip(n) for n in range(20)}


def video(**settings):
    made = Video.__new__(Video)
    made.config = VideoConfig(text="x", data="x", **settings)
    made.data = Latents.__new__(Latents)
    made.data.source, made.data.clips, made.data.latents = Source(), CLIPS, torch.zeros(20, 4, 31, 1, 1)
    made.data.brief = 0.0
    return made


def test_every_frame_is_told_what_is_true_of_it():
    """A clip that changes has two captions, and the second holds from the latent at which it changes."""
    made = video(drop=0.0)
    for number, clip in CLIPS.items():
        change = (clip.scenes[1].first + 3) // 4
        told = made.captions(number, 2, 25, random.Random(number))
        inside = 2 < change < 27
        assert [first for first, _ in told] == ([0, change - 2] if inside else [0])
        for first, words in told:
            facts = clip.facts_at(first_frame(2 + first))
            assert {name: parse(words)[name] for name in ("colour", "motion")} == {
                "colour": facts.colour, "motion": facts.motion,
            }  # fmt: skip


def test_captions_are_dropped_as_often_as_asked():
    made, chance = video(drop=0.2), random.Random(0)
    dropped = sum(made.captions(0, 0, 5, chance) == [(0, "")] for _ in range(3000))
    assert dropped / 3000 == pytest.approx(0.2, abs=0.03)  # 4 deviations


def test_lengths_follow_their_stages_and_are_drawn_evenly():
    config = VideoConfig(text="x", data="x", steps=100, lengths=((0.5, (5, 9)), (1.0, (25,))))
    rng = torch.Generator().manual_seed(0)
    early = [config.length(10, rng) for _ in range(2000)]
    assert set(early) == {5, 9} and early.count(5) / 2000 == pytest.approx(0.5, abs=0.05)
    assert {config.length(step, rng) for step in (50, 99, 100, 1000)} == {25}


def test_a_step_holds_as_many_videos_as_it_can_afford():
    made = video(frames=75)
    assert made.draws(25) == 3 and made.draws(50) == 1 and made.draws(200) == 1


def test_windows_are_no_longer_than_clips():
    rng = torch.Generator().manual_seed(0)
    lot = video(lengths=((1.0, (31,)),)).lot(0, rng)
    assert (lot.frames, lot.cost, list(lot.numbers)) == (31, 31, list(range(20)))
    with pytest.raises(ValueError, match="clips have 31 latents, but lengths ask for 32"):
        video(lengths=((1.0, (32,)),)).lot(0, rng)


@pytest.mark.parametrize(("settings", "learned"), [({}, [2, 3]), ({"floor": 0.0}, [1, 2, 3]), ({"floor": 0.5}, [3])])
def test_frames_up_to_the_floor_are_not_in_the_loss(settings, learned):
    made, level = video(sprite=0.0, **settings), torch.tensor([[0.0, 0.05, 0.5, 0.9]])
    size = (1, 4, 4, 2, 2)
    clean = Sample(torch.zeros(size), torch.zeros(size), level, torch.zeros(1, 4, 2, 2), [[(0, "")]])
    made.module = torch.nn.Linear(1, 1)
    made.velocity = lambda sample: torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None, None].expand(size)
    loss = made.loss(clean)
    assert loss.total == sum(4.0 * 4**frame for frame in learned) and loss.weight == 4 * len(learned)


@pytest.mark.parametrize(
    "lengths", [25, [25], [[1.0, 25]], [[1.0, []]], [[1.0, [2.5]]], [[1.0, [0]]], [["x", [5]]], []]
)
def test_lengths_that_are_no_stages_are_refused(lengths):
    with pytest.raises(
        ValueError, match=r"it is a list of stages, .* such as \[\[0\.5, \[5, 9\]\], \[1\.0, \[25\]\]\]"
    ):
        VideoConfig(text="x", data="x", lengths=lengths)


def test_what_is_missing_is_said():
    for settings, words in [
        ({"text": "x"}, "there are no latents"),
        ({"text": "x", "codec": "x", "folder": "x", "source": {"frames": 9}}, "come from one place"),
        ({"text": "x", "codec": "x", "footage": {"fps": 9}}, "give `folder` too"),
        ({"data": "x"}, "there is no text encoder"),
        ({"text": "x", "data": "x", "lengths": ((0.5, (5,)), (1.0, (9,)))}, "say the steps"),
        ({"text": "x", "data": "x", "floor": 1.0}, "floor is 1.0: it is a noise level from 0 to below 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            VideoConfig(**settings)
