"""The captions and lengths of windows, the videos of a step, and the frames in the loss."""

import random
from types import SimpleNamespace

import pytest
import torch

from longtake.pocket import parse
from longtake.pocket.clips import Source
from longtake.train.datasets.pocket import PocketLatents, fill_cache, first_frame
from longtake.train.objectives.velocity import Sample
from longtake.train.video.config import VideoConfig
from longtake.train.video.training import VideoTraining
from longtake.train.weights.model_card import ModelCard

SOURCE = Source(frames=121, switch=1.0)
CLIPS = {n: SOURCE.clip(n) for n in range(20)}


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """Zeros as latents of twenty clips that change their scene."""
    folder = tmp_path_factory.mktemp("latents")
    fill_cache(folder, SOURCE, 20, lambda frames: torch.zeros(1, 4, 31, 1, 1), report=lambda line: None)
    return PocketLatents(folder)


@pytest.fixture
def video(latents):
    def make(net=None, **settings):
        parts = SimpleNamespace(network=net or torch.nn.Linear(1, 1), text=None)
        return VideoTraining(VideoConfig(text="x", data="x", **settings), parts, latents, ModelCard())

    return make


def test_every_caption_is_true_of_its_frames(video):
    """A clip that changes has two captions, and the second holds from the latent at which it changes."""
    made = video(caption_dropout=0.0)
    for number, clip in CLIPS.items():
        change = (clip.scenes[1].first + 3) // 4
        captions = made.captions(number, 2, 25, random.Random(number))
        inside = 2 < change < 27
        assert [first for first, _ in captions] == ([0, change - 2] if inside else [0])
        for first, words in captions:
            facts = clip.facts_at(first_frame(2 + first))
            assert {name: parse(words)[name] for name in ("colour", "motion")} == {
                "colour": facts.colour, "motion": facts.motion,
            }  # fmt: skip


def test_captions_are_dropped_with_their_share(video):
    made, rng = video(caption_dropout=0.2), random.Random(0)
    dropped = sum(made.captions(0, 0, 5, rng) == [(0, "")] for _ in range(3000))
    assert dropped / 3000 == pytest.approx(0.2, abs=0.03)  # 4 deviations


def test_lengths_follow_their_stages_and_are_drawn_uniformly():
    config = VideoConfig(text="x", data="x", steps=100, length_schedule=((0.5, (5, 9)), (1.0, (25,))))
    rng = torch.Generator().manual_seed(0)
    early = [config.draw_length(10, rng) for _ in range(2000)]
    assert set(early) == {5, 9} and early.count(5) / 2000 == pytest.approx(0.5, abs=0.05)
    assert {config.draw_length(step, rng) for step in (50, 99, 100, 1000)} == {25}


def test_a_step_holds_as_many_videos_as_it_can_afford(video):
    made = video(frames=75)
    assert made.videos_per_step(25) == 3 and made.videos_per_step(50) == 1 and made.videos_per_step(200) == 1


def test_windows_are_no_longer_than_clips(video):
    rng = torch.Generator().manual_seed(0)
    spec = video(length_schedule=((1.0, (31,)),)).batch_spec(0, rng)
    assert (spec.frames, spec.cost, list(spec.numbers)) == (31, 31, list(range(20)))
    with pytest.raises(ValueError, match="clips have 31 latent frames, but length_schedule asks for 32"):
        video(length_schedule=((1.0, (32,)),)).batch_spec(0, rng)


@pytest.mark.parametrize(
    ("settings", "learned"), [({}, [2, 3]), ({"context_sigma_max": 0.0}, [1, 2, 3]), ({"context_sigma_max": 0.5}, [3])]
)
def test_frames_up_to_context_sigma_max_are_not_in_the_loss(video, monkeypatch, settings, learned):
    made, sigma = video(sprite_loss_weight=0.0, **settings), torch.tensor([[0.0, 0.05, 0.5, 0.9]])
    size = (1, 4, 4, 2, 2)
    clean = Sample(torch.zeros(size), torch.zeros(size), sigma, torch.zeros(1, 4, 2, 2), [[(0, "")]])
    monkeypatch.setattr(
        VideoTraining, "velocity", lambda self, sample: torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None, None].expand(size)
    )
    loss = made.loss(clean)
    assert loss.total == sum(4.0 * 4**frame for frame in learned) and loss.weight == 4 * len(learned)


@pytest.mark.parametrize(
    "lengths", [25, [25], [[1.0, 25]], [[1.0, []]], [[1.0, [2.5]]], [[1.0, [0]]], [["x", [5]]], []]
)
def test_lengths_that_are_not_stages_are_refused(lengths):
    with pytest.raises(
        ValueError, match=r"it is a list of stages, .* such as \[\[0\.5, \[5, 9\]\], \[1\.0, \[25\]\]\]"
    ):
        VideoConfig(text="x", data="x", length_schedule=lengths)


def test_missing_settings_are_named():
    for settings, words in [
        ({"text": "x"}, "there are no latents"),
        ({"text": "x", "vae": "x", "folder": "x", "source": {"frames": 9}}, "come from one place"),
        ({"text": "x", "vae": "x", "footage": {"fps": 9}}, "set `folder` too"),
        ({"data": "x"}, "there is no text encoder"),
        ({"text": "x", "data": "x", "length_schedule": ((0.5, (5,)), (1.0, (9,)))}, "set `steps`"),
        (
            {"text": "x", "data": "x", "context_sigma_max": 1.0},
            "context_sigma_max is 1.0: it is a sigma from 0 to below 1",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            VideoConfig(**settings)
