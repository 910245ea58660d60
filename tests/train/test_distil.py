"""Guidance built into a network, and history that the network made itself."""

from types import SimpleNamespace

import pytest
import torch

from longtake.models.wan import WanTransformer, tiny
from longtake.noise import mix
from longtake.train.history import OwnHistory
from longtake.train.recipes.distil import Distil, DistilConfig
from longtake.train.sample import Sample, remade, velocity
from longtake.train.video import Video, VideoConfig, VideoRecipe

WORDS = {"": 0, "a": 1, "b": 2}
TABLE = torch.randn(3, 5, 10, generator=torch.Generator().manual_seed(1))


def encode(words):
    return TABLE[[WORDS[word] for word in words]]


def mean(loss):
    return loss.total / loss.weight


@pytest.fixture
def net():
    torch.manual_seed(0)
    return WanTransformer(tiny(num_layers=1))


@pytest.fixture
def video(net):
    made = Video.__new__(Video)
    made.config, made.module, made.text = VideoConfig(text="x", data="x"), net, SimpleNamespace(encode=encode)
    return made


@pytest.fixture
def sample():
    draw = torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 2, 4, 3, 8, 8, generator=draw)
    level = torch.tensor([[0.0, 0.6, 0.6], [0.9, 0.9, 0.9]])
    return Sample(clean, noise, level, torch.zeros(2, 3, 8, 8), [[(0, "a")], [(0, "b")]], known=level == 0)


def test_the_target_is_what_guidance_mixes(net, video, sample):
    recipe = Distil(VideoRecipe(video, lambda step, rng: sample), net, 3.0)
    x = mix(sample.video, sample.noise, sample.level)
    with torch.no_grad():
        told, free = (net(x, sample.level, encode(words)) for words in (["a", "b"], ["", ""]))
    assert torch.allclose(recipe.guided(sample), free + 3 * (told - free), atol=1e-5)
    assert not torch.allclose(recipe.guided(sample), told, atol=1e-2)


def test_a_student_like_its_teacher_has_nothing_to_learn_at_guidance_1(net, video, sample):
    recipe = VideoRecipe(video, lambda step, rng: sample)
    with torch.no_grad():
        assert mean(Distil(recipe, net, 1.0).loss(0, torch.Generator())) < 1e-9
        assert mean(Distil(recipe, net, 3.0).loss(0, torch.Generator())) > 1e-4


def test_what_cannot_be_distilled_is_refused():
    with pytest.raises(ValueError, match="it is one of flow, forcing"):
        DistilConfig("codec", settings={"init": "pocket"})
    with pytest.raises(ValueError, match="nothing to distil"):
        DistilConfig()


def test_frames_that_are_only_context_do_not_count(video, sample):
    with torch.no_grad():
        before = mean(video.loss(sample))
        after = mean(video.loss(sample, torch.where(sample.known[:, None, :, None, None], 100.0, sample.target)))
    assert torch.equal(before, after)


def test_the_sprite_weighs_more(video, sample):
    """Where the sprite is, an error counts 1 + 5 times."""
    sprite = torch.zeros(2, 3, 8, 8)
    sprite[1, 2, 4, 4] = 1
    covered = Sample(**{**sample.__dict__, "sprite": sprite})
    with torch.no_grad():
        right = velocity(video.module, sample, encode)
        wrong = right.clone()
        wrong[1, :, 2, 4, 4] += 1
        light, heavy = mean(video.loss(sample, wrong)), mean(video.loss(covered, wrong))
    count = 5 * 64
    assert light.item() == pytest.approx(1 / count, rel=1e-4)
    assert heavy.item() == pytest.approx(6 / (count + 5), rel=1e-4)


# ---------------------------------------------------------------- own history
def test_a_video_is_remade_in_euler_calls(net, sample):
    level = torch.tensor([0.4, 0.8])
    x, levels = mix(sample.video, sample.noise, level[:, None].expand(2, 3)), level[:, None].expand(2, 3)
    with torch.no_grad():
        for after, now in ((levels / 2, levels), (0 * levels, levels / 2)):
            x = x + (after - now)[:, None, :, None, None] * net(x, now, encode(["a", "b"]))
    made = remade(lambda told: velocity(net, told, encode), sample, level[:, None] * torch.linspace(1, 0, 3))
    assert torch.allclose(made, x, atol=1e-5)


def test_only_known_frames_are_the_networks_own(video, sample):
    rng = torch.Generator().manual_seed(0)
    own = OwnHistory(share=1.0).version(video, sample, rng)
    assert torch.equal(own[:, :, 1:], sample.video[:, :, 1:]) and torch.equal(own[1], sample.video[1])
    assert not torch.equal(own[0, :, 0], sample.video[0, :, 0]) and not own.requires_grad
    assert OwnHistory().version(video, sample, rng) is sample.video


def test_own_history_has_its_share(video, sample):
    rng, half = torch.Generator().manual_seed(0), OwnHistory(share=0.5, calls=1)
    taken = sum(half.version(video, sample, rng) is not sample.video for _ in range(60))
    assert 20 <= taken <= 40
    with pytest.raises(ValueError, match="from 0 to 1"):
        OwnHistory(share=2)
