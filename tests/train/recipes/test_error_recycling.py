"""Error recycling: every identity, gradients in the LoRA alone, and a resume that changes nothing."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from longtake.core.errors import ConfigError
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.objectives.error_bank import VelocityError
from longtake.train.objectives.error_injection import (
    sigma_weight,
)
from tests.train.recipes.recycled import B, C, F, H, Inner, recipe, rng, sample
from tests.train.toys import curve, quiet


def test_one_step_in_both_directions_gives_the_two_errors():
    """From x_t, one step to the clean end and one to the noisy end, by the network's velocity and by the true one."""
    made = sample(1, dtype=torch.float64)
    s, guess = made.sigma[:, None, :, None, None], torch.randn(B, C, F, H, H, dtype=torch.float64)
    e_vid, e_noi = (torch.randn(B, C, F, H, H, dtype=torch.float64) for _ in range(2))
    noisy = made.noise + e_noi
    x_t = (1 - s) * (made.video + e_vid) + s * noisy
    v_rcy = noisy - made.video
    n_hat, n_true = x_t + (1 - s) * guess, x_t + (1 - s) * v_rcy
    x_hat, x_true = x_t - s * guess, x_t - s * v_rcy
    for i in range(B):
        found = VelocityError((guess - v_rcy)[i], made.sigma[i])
        assert torch.allclose(found.noise, (n_hat - n_true)[i], atol=1e-12)
        assert torch.allclose(found.video, (x_hat - x_true)[i], atol=1e-12)
    assert torch.allclose(x_true, made.video + (1 - s) * e_vid, atol=1e-12), "the remainder of an injected error"
    assert torch.allclose(n_true, noisy + (1 - s) * e_vid, atol=1e-12)


def test_the_target_is_the_corrupted_noise_minus_the_clean_video(tmp_path):
    made = recipe(tmp_path, video_prob=1.0, noise_prob=1.0, context_prob=1.0, clean_prob=0.0, buckets=1)
    for step in range(6):
        made.loss(step, rng(step))
    before = [list(bucket) for bucket in made.bank.buckets]
    made.inner.seen.clear()
    loss = made.loss(7, rng(7))
    clean, (seen,) = made.inner.draw(7, rng(7)), made.inner.seen
    assert any(before) and not torch.equal(seen.noise, clean.noise)
    error = made.inner.velocity(seen) - (seen.noise - clean.video)
    weight = sigma_weight(seen.sigma, 5.0)
    assert loss.total.item() == pytest.approx((error.pow(2).mean(1).mean((2, 3)) * weight).sum().item(), rel=1e-5)
    assert torch.equal(seen.concat[:, :4], clean.concat[:, :4]), "the mask is left alone"
    assert torch.equal(seen.concat[:, 4:, 3:], clean.concat[:, 4:, 3:]) and not torch.equal(seen.concat, clean.concat)


def test_the_sprite_can_have_extra_weight(tmp_path):
    plain, heavy = (
        recipe(tmp_path, preset="none", clean_update_prob=0.0, sprite_loss_weight=weight) for weight in (0.0, 3.0)
    )
    half = torch.zeros(B, F, H, H)
    half[..., 0] = 1
    losses = []
    for made in (plain, heavy):
        draw = made.inner.draw
        made.inner.draw = lambda step, generator, draw=draw: replace(draw(step, generator), sprite=half)
        losses.append(made.loss(0, rng()).total)
    drawn = heavy.inner.draw(0, rng())
    seen = heavy.inner.seen[0]
    error = (heavy.inner.velocity(seen) - (seen.noise - drawn.video)).pow(2).mean(1) * (1 + 3 * half) / 2.5
    wanted = (error.mean((2, 3)) * sigma_weight(seen.sigma, 5.0)).sum()
    assert torch.allclose(losses[1], wanted, rtol=1e-5) and not torch.allclose(losses[0], losses[1], rtol=1e-3)


def test_frames_up_to_context_sigma_max_are_context(tmp_path):
    drawn = Inner().draw(0, rng())
    floor = float(drawn.sigma.mean())
    made = recipe(
        tmp_path,
        sigma_distribution="recipe",
        video_prob=0.0,
        noise_prob=0.0,
        context_prob=0.0,
        clean_prob=1.0,
        settings={"context_sigma_max": floor},
    )
    error = (made.inner.velocity(drawn) - (drawn.noise - drawn.video)).pow(2).mean((1, 3, 4))
    learned = drawn.sigma > floor
    loss = made.loss(0, rng())
    assert torch.allclose(loss.total / loss.weight, error[learned].mean())


def test_the_first_frames_of_a_sample_keep_all_its_parts():
    whole = replace(sample(3), captions=[[(0, "a"), (4, "b")]] * B, control=torch.randn(B, F, 2))
    short = whole.first_frames(3)
    assert short.frames == 3 and short.captions == [[(0, "a")]] * B
    assert torch.equal(short.concat, whole.concat[:, :, :3]) and torch.equal(short.control, whole.control[:, :3])
    assert torch.equal(short.sigma, whole.sigma[:, :3]) and short.is_context is None


def test_clean_batches_are_stored_with_their_probability(tmp_path):
    made = recipe(tmp_path, clean_prob=1.0, clean_update_prob=0.25, capacity=1000, warmup=0)
    for step in range(200):
        made.loss(step, rng(step))
    assert abs(len(made.bank) - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_gradients_are_in_the_lora_alone(tmp_path):
    made = recipe(tmp_path)
    made.loss(0, rng()).total.backward()
    graded = {name for name, p in made.module.named_parameters() if p.grad is not None}
    assert graded == {"mix.down.default", "mix.up.default"}


def test_the_loss_falls_and_a_resume_changes_nothing(tmp_path):
    settings = LoopConfig.of(steps=24, lr=2e-2, warmup=2, save_every=8, log_every=1)
    table = dict(video_prob=0.8, noise_prob=0.5, context_prob=0.8, clean_prob=0.2, replacement="random", ram_gib=1e-6)
    whole = recipe(tmp_path / "a", **table)
    train(whole, settings, tmp_path / "a", quiet)
    stopped = recipe(tmp_path / "b", **table)
    inner, calls = stopped.inner.draw, []

    def dies(step, generator):
        calls.append(step)
        if len(calls) > 13:
            raise RuntimeError("killed")
        return inner(step, generator)

    stopped.inner.draw = dies
    with pytest.raises(RuntimeError, match="killed"):
        train(stopped, settings, tmp_path / "b", quiet)
    again = recipe(tmp_path / "b", **table)
    train(again, settings, tmp_path / "b", quiet)
    assert curve(tmp_path / "b") == curve(tmp_path / "a") and len(curve(tmp_path / "a")) == 24
    assert again.batches == whole.batches and again.bank.buckets == whole.bank.buckets
    for a, b in zip(whole.module.state_dict().values(), again.module.state_dict().values()):
        assert torch.equal(a, b)
    assert (tmp_path / "a" / "lora.safetensors").exists()
    losses = [whole.loss(s, rng(s)).total.item() for s in range(20)]
    fresh = recipe(tmp_path / "c", **table)
    fresh.bank = whole.bank
    assert sum(losses) < sum(fresh.loss(s, rng(s)).total.item() for s in range(20))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "svi"}, "preset is 'svi'; it must be one of svi-film"),
        ({"video_prob": 1.5}, "video_prob is 1.5; it is a probability"),
        ({"k": 5}, "no key 'k'"),
        ({"max_sigma": 0.0}, "max_sigma is a sigma above 0"),
        ({"recipe": "other"}, "recipe is 'other'; it must be one of any"),
        ({"inner": nn.Identity}, "draws no videos: use one of any"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        recipe(tmp_path, **settings)
