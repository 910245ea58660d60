"""Rounds of error recycling: the network is conditioned on its own version of the frames."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from longtake.core.errors import ConfigError
from longtake.core.noise import mix
from longtake.core.sigmas import sigma_schedule
from longtake.models import load
from longtake.train.objectives.velocity import redenoised
from tests.train.recipes.recycled import ONLY_CONTEXT, B, F, Inner, recipe, rng, sample


def calls_of_rounds(calls):
    """The first call of every round of three: its video is pure noise."""
    return [replace(call, noise=call.video) for call in calls[::3]]


def test_rounds_condition_the_network_on_its_own_version_of_the_frames(tmp_path):
    made = recipe(
        tmp_path,
        **ONLY_CONTEXT,
        count=2,
        num_inference_steps=3,
        context_latents=2,
    )
    for step in range(8):  # of which some draw two rounds for a video and some one
        made.inner.seen.clear()
        made.loss(step, rng(step))
        clean, (*calls, seen) = made.inner.draw(step, rng(step)), made.inner.seen
        assert len(calls) in (3, 6) and all(call.frames == 3 for call in calls)
        assert torch.equal(calls[0].concat, clean.concat[:, :, :3]), "the first round is conditioned on the truth"
        sigmas = sigma_schedule(3, 5.0).float().expand(B, -1)
        result = [redenoised(made.inner.velocity, each, sigmas) for each in calls_of_rounds(calls)]
        for i in range(B):
            got = seen.concat[i, 4:, :2] - clean.concat[i, 4:, :2]
            left = [(each[i] - clean.video[i, :, :3])[:, :2] for each in result]
            assert any(torch.allclose(got, error, atol=1e-5) for error in left)
        if len(calls) == 6:
            again = clean.concat[:, 4:, :2] + (result[0] - clean.video[:, :, :3])[:, :, :2]
            assert torch.allclose(calls[3].concat[:, 4:, :2], again, atol=1e-5), "the second on the result of the first"
        assert torch.equal(seen.concat[:, 4:, 2:], clean.concat[:, 4:, 2:]) and torch.equal(seen.video, clean.video)


class CleanContext(Inner):
    """A recipe whose network takes clean frames before the noisy ones."""

    def draw(self, step, generator):
        made = sample(int(torch.randint(1 << 30, (), generator=generator)), with_concat=False)
        return replace(made, clean_context=made.video, captions=[[(0, "a ball")]] * B)

    def velocity(self, one):
        self.seen.append(one)
        words = torch.full_like(one.video[:, :1], float(one.captions[0][0][1] != "")).expand(-1, 4, -1, -1, -1)
        return self.module(torch.cat([mix(one.video, one.noise, one.sigma), words, one.clean_context], 1), one.sigma)


def test_rounds_with_clean_context_denoise_the_result_of_the_round_before(tmp_path):
    table = dict(
        **ONLY_CONTEXT,
        count=2,
        num_inference_steps=1,
        guidance=3.0,
        max_sigma=0.6,
    )
    made, most = recipe(tmp_path, CleanContext, **table), 0
    for step in range(8):
        made.inner.seen.clear()
        made.loss(step, rng(step))
        clean, (*calls, seen) = made.inner.draw(step, rng(step)), made.inner.seen
        found, most = [clean.video], max(most, len(calls))
        for call, free in zip(calls[::2], calls[1::2]):  # both branches of guidance
            assert torch.allclose(call.clean_context, found[-1], atol=1e-5) and float(
                call.sigma.min()
            ) == pytest.approx(0.6)
            assert call.captions[0][0][1] == "a ball" and free.captions[0][0][1] == ""
            with torch.no_grad():
                v, u = made.inner.velocity(call), made.inner.velocity(free)
            found.append(call.video - 0.6 * (u + 3 * (v - u)))
        for i in range(B):
            assert any(torch.allclose(seen.clean_context[i], one[i], atol=1e-4) for one in found[1:]), (
                "all frames are wrong"
            )
        assert torch.equal(seen.video, clean.video) and torch.equal(seen.noise, clean.noise)
    assert most == 4, "some videos take two rounds"


def test_rounds_denoise_as_many_frames_as_are_context(tmp_path):
    made = recipe(
        tmp_path,
        **ONLY_CONTEXT,
        count=1,
        num_inference_steps=1,
        context_latents=4,
    )
    made.loss(0, rng())
    clean, (call, seen) = made.inner.draw(0, rng()), made.inner.seen
    differs = (seen.concat != clean.concat).flatten(3).any(3).any(1)
    assert call.frames == 4 and differs.tolist() == [[True] * 4 + [False] * (F - 4)] * B


def test_a_random_number_of_rounds_is_not_uniform(tmp_path):
    for rounds, uniform in ((0, True), (1, True), (2, False)):
        made = recipe(tmp_path, count=rounds)
        made.inner.uniform = True
        assert made.uniform is uniform


def test_repeats_make_rounds_of_each_video_once(tmp_path):
    table = dict(
        **ONLY_CONTEXT,
        count=1,
        num_inference_steps=2,
        context_latents=1,
    )
    made = recipe(tmp_path, **table, repeats=2)
    made.loss(0, rng())
    clean, (*calls, seen) = made.inner.draw(0, rng()), made.inner.seen
    assert [len(call.sigma) for call in calls] == [1, 1] and len(seen.sigma) == B
    assert torch.equal(seen.video, clean.video[[0, 0]]) and torch.equal(seen.noise, clean.noise)
    assert torch.equal(seen.concat[0], seen.concat[1]) and not torch.equal(seen.concat[0], clean.concat[0])
    assert not torch.equal(seen.sigma[0], seen.sigma[1])
    with pytest.raises(ConfigError, match="repeats needs a count of rounds"):
        recipe(tmp_path, repeats=2)


def test_results_of_a_round_pass_through_the_vae_as_8_bit_frames(tmp_path):
    made = recipe(tmp_path)
    latents = torch.randn(1, 16, 1, 8, 8, generator=rng())
    assert made.through_vae(latents) is latents
    made.vae = load("pocket").vae
    decoder = made.vae.decoder()
    frames = torch.cat([decoder.push(latents), decoder.flush()], 2)
    bytes8 = ((frames.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    assert torch.allclose(made.through_vae(latents), made.vae.encode(bytes8)) and not torch.allclose(frames, bytes8)


def test_videos_of_several_lengths_need_rounds(tmp_path):
    class Varying(Inner):
        config = SimpleNamespace(length_schedule=((0.5, (3,)), (1.0, (3, 6))))

        def draw(self, step, generator):
            return super().draw(step, generator).first_frames(3 + 3 * (step % 2))

    with pytest.raises(ConfigError, match="one length"):
        recipe(tmp_path, Varying)
    own = recipe(tmp_path, Varying, count=1, video_prob=0.0, noise_prob=0.0)
    for step in range(4):
        own.loss(step, rng(step)).total.backward()
    assert not len(own.bank) and own.module.mix.up["default"].grad.any()
