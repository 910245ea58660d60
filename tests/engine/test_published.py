"""The options that reproduce published code: a sampled posterior, and context that is decoded with its noise."""

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.core.noise import CounterNoise, NoiseKey
from longtake.engine.build import build_rollout
from longtake.engine.clips.clip import Clip
from longtake.engine.inputs import RolloutInputs
from longtake.models.ltx.checkpoint import open_folder
from longtake.models.toy.gaussian import gauss
from longtake.planning.keyframes import Keyframe
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.checkpoints import random_ltx
from tests.oracles import apart, rand
from tests.rollouts import recorded, resumed

FRAMES, SCALE = 33, 0.15


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return open_folder(random_ltx(tmp_path_factory.mktemp("published") / "m"))


def picture(frames: int = 1, seed: int = 5) -> torch.Tensor:
    return rand(1, 3, frames, 16, 16, seed=seed).tanh()


def latents(model, monkeypatch, name="clip", frames=FRAMES, inputs=None, seed=0, **options) -> torch.Tensor:
    """All final latents of a rollout, as the decoder gets them but for its own noise."""
    found, prepare = [], Clip.for_decoder

    def caught(self, final, window):
        found.extend(final.values())
        return prepare(self, final, window)

    monkeypatch.setattr(Clip, "for_decoder", caught)
    plan = make_plan(
        name, steps=3, image_cond_noise_scale=SCALE, **({} if name == "clip" else dict(window=17, overlap=1))
    )
    inputs = inputs or RolloutInputs(start=picture())
    for _ in build_rollout(model, Script.of("a", 24, frames / 24), plan, inputs, seeds=(seed,), **options).run():
        pass
    monkeypatch.setattr(Clip, "for_decoder", prepare)
    return torch.stack(found, 2)


def test_a_posterior_is_sampled_by_seed_and_frame(model, monkeypatch):
    mean, deviation = model.features.posterior(picture())
    moments = model.vae.moments(picture())
    assert apart(model.vae.encode(picture()), mean) < 1e-6
    want = (0.5 * moments[1]).exp() / model.vae.latents_std[:, None, None, None]
    assert apart(want.expand_as(deviation), deviation) < 1e-6
    got = latents(model, monkeypatch, sample_posterior=True)[:, :, 0]
    noise = CounterNoise((0,))([NoiseKey("encode", 0, 0, 0)], (mean.shape[1], *mean.shape[3:]))
    assert apart((mean + deviation * noise)[:, :, 0], got) < 1e-6
    assert torch.equal(latents(model, monkeypatch)[:, :, 0], mean[:, :, 0])
    assert not torch.equal(got, latents(model, monkeypatch, sample_posterior=True, seed=1)[:, :, 0])


def test_everything_that_is_encoded_is_sampled(model, monkeypatch):
    """Keyframes, a last frame, the frames that a relay hands over, and the video of a video to video."""
    keyframes = [Keyframe(8, picture(17), 1.0)]
    for inputs, name, frames in (
        (RolloutInputs(keyframes=keyframes), "clip", FRAMES),
        (RolloutInputs(end=picture()), "clip", FRAMES),
        (None, "relay", 49),
    ):
        plain, sampled = (
            latents(model, monkeypatch, name, frames, inputs, sample_posterior=sample) for sample in (False, True)
        )
        assert plain.shape == sampled.shape and not torch.equal(plain[:, :, -1], sampled[:, :, -1])
        assert torch.equal(sampled, latents(model, monkeypatch, name, frames, inputs, sample_posterior=True))


def test_a_vae_of_which_only_the_mean_is_known_is_refused():
    with pytest.raises(PlanError, match="only the mean of the posterior of gauss is known"):
        build_rollout(gauss(), Script.of("a", 24, 1), make_plan("clip", steps=2), sample_posterior=True)


def test_context_is_decoded_with_the_noise_of_the_last_step(model, monkeypatch):
    """As the official pipeline leaves it: init + scale * noise * t ** 2 with the sigma before the last step."""
    clean = latents(model, monkeypatch)
    noisy = latents(model, monkeypatch, decode_context_noise=True)
    last = make_plan("clip", steps=3).schedule
    from longtake.core.sigmas import sigmas_of

    sigma = float(sigmas_of(last)[-2])
    noise = CounterNoise((0,))([NoiseKey("context", 0, 0, 0, 0, 2)], clean.shape[1:2] + clean.shape[3:])[:, :, 0]
    assert apart(clean[:, :, 0] + SCALE * sigma**2 * noise, noisy[:, :, 0]) < 1e-6
    assert torch.equal(clean[:, :, 1:], noisy[:, :, 1:])


def test_a_resumed_run_samples_the_same(model):

    def rollout():
        plan = make_plan("relay", steps=2, window=17, overlap=1, image_cond_noise_scale=SCALE)
        return build_rollout(
            model, Script.of("a", 24, 49 / 24), plan, RolloutInputs(start=picture()), sample_posterior=True,
            decode_context_noise=True,
        )  # fmt: skip

    whole, snapshots = recorded(rollout())
    assert torch.equal(resumed(rollout(), snapshots[0]), whole[:, :, snapshots[0].frames :])
