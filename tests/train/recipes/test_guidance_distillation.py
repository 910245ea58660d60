"""Guidance distillation, the loss of a video network, and self-rollout."""

from types import SimpleNamespace

import pytest
import torch

from longtake.core.noise import mix
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from longtake.train.objectives.self_rollout import SelfRollout
from longtake.train.objectives.velocity import Sample, redenoised, velocity
from longtake.train.recipes.guidance_distillation import GuidanceDistillation, GuidanceDistillationConfig
from longtake.train.video.config import VideoConfig
from longtake.train.video.recipe import VideoRecipe
from longtake.train.video.training import VideoTraining
from longtake.train.weights.model_card import ModelCard

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
    parts = SimpleNamespace(network=net, text=SimpleNamespace(encode=encode))
    return VideoTraining(VideoConfig(text="x", data="x"), parts, None, ModelCard())


@pytest.fixture
def sample():
    draw = torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 2, 4, 3, 8, 8, generator=draw)
    sigma = torch.tensor([[0.0, 0.6, 0.6], [0.9, 0.9, 0.9]])
    return Sample(clean, noise, sigma, torch.zeros(2, 3, 8, 8), [[(0, "a")], [(0, "b")]], is_context=sigma == 0)


def test_the_target_is_the_guided_velocity(net, video, sample):
    recipe = GuidanceDistillation(VideoRecipe(video, lambda step, rng: sample), net, 3.0)
    x = mix(sample.video, sample.noise, sample.sigma)
    with torch.no_grad():
        conditional, free = (net(x, sample.sigma, encode(words)) for words in (["a", "b"], ["", ""]))
    assert torch.allclose(recipe.target(sample), free + 3 * (conditional - free), atol=1e-5)
    assert not torch.allclose(recipe.target(sample), conditional, atol=1e-2)


def test_a_student_like_its_teacher_has_nothing_to_learn_at_guidance_1(net, video, sample):
    recipe = VideoRecipe(video, lambda step, rng: sample)
    with torch.no_grad():
        assert mean(GuidanceDistillation(recipe, net, 1.0).loss(0, torch.Generator())) < 1e-9
        assert mean(GuidanceDistillation(recipe, net, 3.0).loss(0, torch.Generator())) > 1e-4


def test_a_distillation_without_init_is_refused():
    with pytest.raises(ValueError, match="no network to distil"):
        GuidanceDistillationConfig()


def test_context_frames_are_not_in_the_loss(video, sample):
    with torch.no_grad():
        before = mean(video.loss(sample))
        after = mean(video.loss(sample, torch.where(sample.is_context[:, None, :, None, None], 100.0, sample.target)))
    assert torch.equal(before, after)


def test_the_sprite_has_extra_weight(video, sample):
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


# ---------------------------------------------------------------- self-rollout
def test_a_video_is_denoised_again_in_euler_steps(net, sample):
    sigma = torch.tensor([0.4, 0.8])
    x, sigmas = mix(sample.video, sample.noise, sigma[:, None].expand(2, 3)), sigma[:, None].expand(2, 3)
    with torch.no_grad():
        for after, now in ((sigmas / 2, sigmas), (0 * sigmas, sigmas / 2)):
            x = x + (after - now)[:, None, :, None, None] * net(x, now, encode(["a", "b"]))
    made = redenoised(lambda one: velocity(net, one, encode), sample, sigma[:, None] * torch.linspace(1, 0, 3))
    assert torch.allclose(made, x, atol=1e-5)


def test_only_context_frames_are_the_networks_own(video, sample):
    rng = torch.Generator().manual_seed(0)
    own = SelfRollout(1.0).videos(video.velocity, sample, rng)
    assert torch.equal(own[:, :, 1:], sample.video[:, :, 1:]) and torch.equal(own[1], sample.video[1])
    assert not torch.equal(own[0, :, 0], sample.video[0, :, 0]) and not own.requires_grad
    assert SelfRollout().videos(video.velocity, sample, rng) is sample.video


def test_self_rollout_has_its_share(video, sample):
    rng, half = torch.Generator().manual_seed(0), SelfRollout(0.5, num_inference_steps=1)
    taken = sum(half.videos(video.velocity, sample, rng) is not sample.video for _ in range(60))
    assert 20 <= taken <= 40
    with pytest.raises(ValueError, match="from 0 to 1"):
        SelfRollout(2)
