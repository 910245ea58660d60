"""Latents after every step, against diffusers' LTX pipelines with equal weights and recorded noise."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

import longtake.engine.clips.stage as engine
from longtake.core.guidance_settings import Guidance
from longtake.core.noise import Recorded
from longtake.core.sigmas import token_shift
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models.ltx.config import tiny
from longtake.models.ltx.session import LTXSession
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import LTXVAE
from longtake.models.ltx.vae_config import tiny as tiny_vae
from longtake.models.model import LatentDecoding, Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.oracles import apart, rand, shuffled, twin

LATENT, FRAMES, STEPS, GUIDANCE = 4, 33, 6, 3.0
LATENTS = 1 + (FRAMES - 1) // 8


@pytest.fixture(scope="module")
def parts():
    """Networks without and with the causal time fix, a vae, and two prompts with padding."""
    torch.manual_seed(0)
    nets = {fix: shuffled(LTXTransformer(tiny(causal_temporal_positioning=fix))) for fix in (False, True)}
    texts = torch.cat([rand(1, 7, 10, seed=3), rand(1, 7, 10, seed=4)])
    texts[0, 5:], texts[1, 3:] = 0, 0
    return nets, shuffled(LTXVAE(tiny_vae())), texts


def their_run(pipeline: str, net, vae, texts, scheduler: dict, monkeypatch, **options):
    """-> latents after every step, all noise that was drawn, frames (B T 3 H W) in [0, 1] if output_type is "pt" """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        module = __import__(f"diffusers.pipelines.ltx.{pipeline}", fromlist=["x"])
        kind = {"pipeline_ltx": "LTXPipeline", "pipeline_ltx_condition": "LTXConditionPipeline"}[pipeline]
        steps = diffusers.FlowMatchEulerDiscreteScheduler(**scheduler)
        theirs = twin(diffusers.LTXVideoTransformer3DModel, net)
        their_vae = twin(diffusers.AutoencoderKLLTXVideo, vae)
        their_vae.spatial_compression_ratio = their_vae.temporal_compression_ratio = 8
        pipe = getattr(diffusers, kind)(steps, their_vae, None, None, theirs)
    pipe.set_progress_bar_config(disable=True)
    rows, starts = [], []

    def start(shape, generator=None, device=None, dtype=None):
        starts.append(torch.randn(shape, generator=torch.Generator().manual_seed(len(starts)), dtype=dtype))
        return starts[-1].clone()

    monkeypatch.setattr(module, "randn_tensor", start)
    if "video" in options:
        monkeypatch.setattr(module, "retrieve_latents", lambda encoded, generator=None: encoded.latent_dist.mode())
        monkeypatch.setattr(pipe.video_processor, "preprocess_video", lambda video, height, width: video)
    mask, options = texts.ne(0).any(-1).long(), {"output_type": "latent", **options}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = pipe(
            prompt_embeds=texts[:1], prompt_attention_mask=mask[:1], negative_prompt_embeds=texts[1:],
            negative_prompt_attention_mask=mask[1:], height=8 * LATENT, width=8 * LATENT, num_frames=FRAMES,
            frame_rate=24, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            callback_on_step_end=lambda pipe, i, t, found: rows.append(found["latents"].clone()) or {}, **options,
        ).frames  # fmt: skip
    starts = [x if x.ndim == 5 else unpacked(x) for x in starts]
    return [unpacked(row) for row in rows], starts, frames


def unpacked(tokens):
    """Tokens (B N C) -> (B C F h w)."""
    return tokens.transpose(1, 2).unflatten(2, (LATENTS, LATENT, LATENT))


def our_run(net, vae, texts, noise, monkeypatch, grid, shift, video=None, decode_noise=0.0):
    """noise: what they drew, of which the second, if there is one, is mixed in before decoding with sigma `decode_noise`.
    -> latents after every step, frames (B 3 T H W) in [-1, 1]"""
    model = Model(
        ModelInfo("tiny", "ltx"), limits=Limits(max_latent_frames=LATENTS), session=lambda: LTXSession(net), vae=vae,
        text_encoder=SimpleNamespace(unknown=lambda prompt: (), cut_off=lambda prompt: "", encode=lambda prompts: torch.cat([texts[:1] if p == "prompt" else texts[1:] for p in prompts])),
        format=VideoFormat(24.0, (8 * LATENT, 8 * LATENT)), defaults=SamplingDefaults(guidance=Guidance((GUIDANCE,))),
        decoding=LatentDecoding(noise_sigma=decode_noise),
    )  # fmt: skip
    table = {("start", 0, f, 0, 0): noise[0][:, :, f] for f in range(LATENTS)}
    if decode_noise:  # theirs is mixed in raw space
        table |= {("decode", 0, f, 0, 0): vae.normalise(noise[1])[:, :, f] for f in range(LATENTS)}
    calls, inner = [], engine.denoise

    def recording(*args, **kwargs):
        for x, past in inner(*args, **kwargs):
            calls.append(x)
            yield x, past

    monkeypatch.setattr(engine, "denoise", recording)
    strategy = make_plan("clip", steps=STEPS, sigma_spacing=grid, shift=shift)
    script = Script.of("prompt", 24, FRAMES / 24)
    rollout = build_rollout(model, script, strategy, noise=Recorded(table), inputs=RolloutInputs(start=video))
    made = [e.video for e in rollout.run() if isinstance(e, Frames)]
    return calls, torch.cat(made, 2)


def test_latents_equal_those_of_the_pipeline(parts, monkeypatch):
    """0.9.0: plain positions, sigmas shifted by the number of tokens and stretched to 0.1."""
    nets, vae, texts = parts
    scheduler = dict(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    rows, noise, _ = their_run("pipeline_ltx", nets[False], vae, texts, scheduler, monkeypatch)
    shift = token_shift(LATENTS * LATENT**2)
    calls, made = our_run(nets[False], vae, texts, noise, monkeypatch, "terminal", shift)
    assert made.shape[2] == FRAMES and len(calls) == len(rows) == STEPS
    assert all(apart(theirs, ours) < 1e-4 for theirs, ours in zip(rows, calls))


@pytest.mark.parametrize("known", [0, 1, 9, 17])
def test_latents_equal_those_of_the_condition_pipeline(parts, monkeypatch, known):
    """0.9.5: causal positions, linear-quadratic sigmas, and the first frames kept at sigma 0."""
    nets, vae, texts = parts
    video = rand(1, 3, known, 8 * LATENT, 8 * LATENT, seed=8).tanh() if known else None
    options = dict(video=video, image_cond_noise_scale=0.0) if known else {}
    rows, noise, _ = their_run("pipeline_ltx_condition", nets[True], vae, texts, {}, monkeypatch, **options)
    calls, made = our_run(nets[True], vae, texts, noise, monkeypatch, "quadratic", 1.0, video)
    assert made.shape[2] == FRAMES and len(calls) == len(rows) == STEPS
    assert all(apart(theirs, ours) < 1e-4 for theirs, ours in zip(rows, calls))
    if known:
        held = 1 + (known - 1) // 8
        assert all(torch.equal(ours[:, :, :held], calls[0][:, :, :held]) for ours in calls)
        assert apart(vae.encode(video), calls[0][:, :, :held]) < 1e-5


def test_frames_equal_those_of_the_pipeline(parts, monkeypatch):
    """A decoder with a timestep, and noise in its latents; latents whose mean is not 0 nor their variance 1."""
    nets, _, texts = parts
    vae = shuffled(LTXVAE(tiny_vae(), timestep=0.05))
    vae.latents_mean += rand(vae.channels, seed=5)
    vae.latents_std *= 1 + rand(vae.channels, seed=6).abs()
    options = dict(output_type="pt", decode_timestep=0.05)
    found = {}
    for sigma in (0.025, 0.5):
        _, noise, theirs = their_run(
            "pipeline_ltx_condition", nets[True], vae, texts, {}, monkeypatch, decode_noise_scale=sigma, **options
        )
        assert len(noise) == 2
        _, ours = our_run(nets[True], vae, texts, noise, monkeypatch, "quadratic", 1.0, decode_noise=sigma)
        assert apart(theirs.transpose(1, 2), (ours / 2 + 0.5).clamp(0, 1)) < 1e-4
        found[sigma] = ours
    assert apart(found[0.025], found[0.5]) > 1e-3  # the noise is in there
