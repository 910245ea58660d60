"""Latents after every step, against diffusers' SkyReels-V2 pipeline with equal weights and recorded noise."""

from __future__ import annotations

import dataclasses
import warnings
from types import SimpleNamespace

import pytest
import torch

import longtake.engine.clips.stage as engine
from longtake.core.guidance_settings import Guidance
from longtake.core.noise import Recorded
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models.model import Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.models.wan import config as wan_config
from longtake.models.wan import transformer as wan
from longtake.models.wan.session import WanSession
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.oracles import oracle, shuffled, twin

LATENT = 6  # latent height and width
STEPS, SHIFT, GUIDANCE = 6, 8.0, 5.0
CASES = {
    "sync": dict(num_frames=33),
    "async": dict(num_frames=33, ar_step=2),
    "async blocks": dict(num_frames=29, ar_step=2, causal_block_size=2),
    "causal sync": dict(num_frames=29, causal_block_size=4),
    "long sync": dict(num_frames=65, base_num_frames=29, overlap_history=9),
    "long noisy": dict(num_frames=65, base_num_frames=29, overlap_history=9, addnoise_condition=20),
    "long, short last window": dict(num_frames=57, base_num_frames=33, overlap_history=9, addnoise_condition=20),
    "long async": dict(num_frames=65, base_num_frames=29, overlap_history=9, ar_step=2, addnoise_condition=20),
    "five windows": dict(num_frames=113, base_num_frames=33, overlap_history=13, ar_step=1),
    "five windows, noisy": dict(
        num_frames=113, base_num_frames=33, overlap_history=13, ar_step=1, addnoise_condition=20
    ),
    "five windows, sync": dict(num_frames=113, base_num_frames=33, overlap_history=13, addnoise_condition=20),
    "long causal noisy": dict(
        num_frames=61, base_num_frames=29, overlap_history=13, ar_step=2, causal_block_size=4, addnoise_condition=20
    ),
    "long async causal": dict(num_frames=61, base_num_frames=29, overlap_history=13, ar_step=2, causal_block_size=4),
}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import (
            AutoencoderKLWan,
            SkyReelsV2DiffusionForcingPipeline,
            SkyReelsV2Transformer3DModel,
            UniPCMultistepScheduler,
        )

        config = wan_config.tiny(inject_sample_info=True)
        ours = wan.WanTransformer(config).eval()
        wan.initialise(ours)
        torch.nn.init.normal_(ours.proj_out.weight, std=0.1)
        keys = "patch_size num_attention_heads attention_head_dim in_channels out_channels text_dim freq_dim ffn_dim num_layers"
        theirs = SkyReelsV2Transformer3DModel(
            **{k: getattr(config, k) for k in keys.split()}, inject_sample_info=True
        ).eval()
        theirs.load_state_dict(ours.state_dict())
        vae = AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        )
        scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT, num_train_timesteps=1000
        )
        pipe = SkyReelsV2DiffusionForcingPipeline(None, None, theirs, vae, scheduler)
        pipe.set_progress_bar_config(disable=True)
    return ours, pipe


def their_run(pipe, texts, monkeypatch, mend=True, **options):
    """-> (latents after every row, the noise of each window, the context noise of each window's rows)

    mend: both public pipelines hand the solver a view of the latents and then write the result into it, so that its
    memory of the sample before the step holds the sample after it, and the UniPC corrector starts from the wrong place.
    """
    import diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2_diffusion_forcing as module

    rows, starts, contexts = [], [], []

    def start(shape, generator=None, device=None, dtype=None):
        starts.append(torch.randn(shape, generator=generator, dtype=dtype))
        contexts.append([])
        return starts[-1].clone()

    def context(like):
        contexts[-1].append(torch.randn(like.shape))
        return contexts[-1][-1]

    step = type(pipe.scheduler).step
    if mend:
        monkeypatch.setattr(type(pipe.scheduler), "step", lambda self, v, t, x, **k: step(self, v, t, x.clone(), **k))
    monkeypatch.setattr(module, "randn_tensor", start)
    monkeypatch.setattr(module.torch, "randn_like", context)
    pipe.transformer.config.num_frame_per_block = 1
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe(
            prompt=None, prompt_embeds=texts[0], negative_prompt_embeds=texts[1], height=8 * LATENT, width=8 * LATENT,
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, fps=24, output_type="latent",
            callback_on_step_end=lambda pipe, i, t, found: rows.append(found["latents"].clone()) or {}, **options,
        )  # fmt: skip
    return rows, starts, contexts


class Blank:
    """A vae that makes no pictures."""

    temporal_compression, spatial_compression, channels, replay_latents = 4, 8, 4, 1

    def decoder(self):
        seen = []

        def push(latents):
            frames = 4 * latents.shape[2] - (0 if seen else 3)
            seen.append(1)
            return torch.zeros(1, 3, frames, 1, 1)

        return SimpleNamespace(push=push, flush=lambda: torch.zeros(1, 3, 0, 1, 1))


def our_run(net, texts, starts, contexts, monkeypatch, hand, solver="unipc", **options):
    """-> latents after every step, of the window it belongs to"""
    block = options.get("causal_block_size", 1)
    net.config = dataclasses.replace(net.config, causal=block > 1, block=block)
    view = (options.get("base_num_frames", options["num_frames"]) - 1) // 4 + 1
    model = Model(
        ModelInfo("tiny", "wan"), limits=Limits(max_latent_frames=view, block=block, causal=block > 1),
        session=lambda: WanSession(net, whole_timesteps=True), vae=Blank(),
        text_encoder=SimpleNamespace(unknown=lambda prompt: (), cut_off=lambda prompt: "", encode=lambda prompts: torch.cat([texts[0] if p == "prompt" else texts[1] for p in prompts])),
        format=VideoFormat(24.0, (8 * LATENT, 8 * LATENT)), defaults=SamplingDefaults(guidance=Guidance((GUIDANCE,))),
    )  # fmt: skip
    context = options.get("addnoise_condition", 0) / 1000
    strategy = make_plan(
        "sliding", steps=STEPS, shift=SHIFT, sigma_spacing="diffusers", ar_step=options.get("ar_step", 0), handoff=hand, context_noise=context,
        context_noise_mode="resampled", overlap=options.get("overlap_history", 1),
    )  # fmt: skip
    windows = list(strategy.windows(options["num_frames"], 4, model.limits))
    table = {}
    for number, (window, start, rows) in enumerate(zip(windows, starts, contexts)):
        take = number if hand == "latents" else 0
        for i, frame in enumerate(window.frames):
            table.setdefault(("start", take, frame, 0, 0), start[:, :, i])
            for call in range(len(rows)):
                if i < rows[call].shape[2]:
                    table["context", take, frame, 0, call] = rows[call][:, :, i]
    calls, inner = [], engine.denoise

    def recording(*args, **kwargs):
        for x, past in inner(*args, **kwargs):
            calls.append(x)
            yield x, past

    monkeypatch.setattr(engine, "denoise", recording)
    rollout = build_rollout(
        model, Script.of("prompt", 24, options["num_frames"] / 24), strategy, solver=solver, noise=Recorded(table)
    )
    made = sum(e.video.shape[2] for e in rollout.run() if isinstance(e, Frames))
    return calls, made, windows


@pytest.mark.parametrize("name", CASES)
def test_latents_equal_after_every_call(networks, monkeypatch, name):
    net, pipe = networks
    torch.manual_seed(1)
    texts = torch.randn(1, 7, 10), torch.randn(1, 7, 10)
    options = CASES[name]
    causal_long = "base_num_frames" in options and options.get("causal_block_size", 1) > 1
    rows, starts, contexts = their_run(pipe, texts, monkeypatch, **options)
    calls, made, windows = our_run(
        net, texts, starts, contexts, monkeypatch, "latents" if causal_long else "latents-in-place", **options
    )
    assert len(calls) == len(rows)
    assert causal_long or made == options["num_frames"]
    at = 0
    for window in windows:
        made = [i for i, role in enumerate(window.role) if role == "generate"]
        for _ in range(window.steps):
            ours, theirs = calls[at][:, :, made], rows[at][:, :, made]
            assert (ours - theirs).norm() / theirs.norm() < 1e-4, at
            at += 1


def test_text_to_video_at_one_sigma_equals_its_pipeline(networks, monkeypatch):
    """SkyReelsV2Pipeline, which knows no diffusion forcing: latents after every step, and at the end."""
    net, forcing = networks
    net.config = dataclasses.replace(net.config, causal=False, block=1)
    torch.manual_seed(1)
    texts, noise, theirs = (torch.randn(1, 7, 10), torch.randn(1, 7, 10)), torch.randn(1, 4, 5, LATENT, LATENT), []
    plain = shuffled(wan.WanTransformer(wan_config.tiny()))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = oracle("diffusers", "SkyReelsV2Pipeline")(
            None, None, twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), plain), forcing.vae, forcing.scheduler
        )
        pipe.set_progress_bar_config(disable=True)
        pipe(
            prompt_embeds=texts[0], negative_prompt_embeds=texts[1], height=8 * LATENT, width=8 * LATENT, num_frames=17,
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=noise, output_type="latent",
            callback_on_step_end=lambda pipe, i, t, found: theirs.append(found["latents"].clone()) or {},
        )  # fmt: skip
    calls, made = our_clip(plain, texts, noise, monkeypatch)
    assert made == 17 and len(calls) == len(theirs) == STEPS
    for ours, want in zip(calls, theirs):
        assert (ours - want).norm() / want.norm() < 1e-4


def our_clip(net, texts, noise, monkeypatch):
    """-> (latents after every step of a text-to-video checkpoint, output frames)"""
    model = Model(
        ModelInfo("tiny", "wan"), limits=Limits(max_latent_frames=5, per_frame_sigma=False, conditioning="none"),
        session=lambda: WanSession(net, whole_timesteps=True), vae=Blank(),
        text_encoder=SimpleNamespace(unknown=lambda prompt: (), cut_off=lambda prompt: "", encode=lambda prompts: torch.cat([texts[0] if p == "prompt" else texts[1] for p in prompts])),
        format=VideoFormat(24.0, (8 * LATENT, 8 * LATENT)), defaults=SamplingDefaults(guidance=Guidance((GUIDANCE,))),
    )  # fmt: skip
    calls, inner = [], engine.denoise

    def recording(*args, **kwargs):
        for x, past in inner(*args, **kwargs):
            calls.append(x)
            yield x, past

    monkeypatch.setattr(engine, "denoise", recording)
    table = {("start", 0, i, 0, 0): noise[:, :, i] for i in range(5)}
    strategy = make_plan("clip", steps=STEPS, shift=SHIFT, sigma_spacing="diffusers")
    rollout = build_rollout(model, Script.of("prompt", 24, 17 / 24), strategy, solver="unipc", noise=Recorded(table))
    return calls, sum(e.video.shape[2] for e in rollout.run() if isinstance(e, Frames))


def test_the_public_pipeline_corrects_from_the_wrong_sample(networks, monkeypatch):
    """Unmended, the latents differ from the second step on, where the corrector first runs: a deliberate difference."""
    net, pipe = networks
    torch.manual_seed(1)
    texts = torch.randn(1, 7, 10), torch.randn(1, 7, 10)
    rows, starts, contexts = their_run(pipe, texts, monkeypatch, mend=False, **CASES["sync"])
    calls, _, _ = our_run(net, texts, starts, contexts, monkeypatch, "latents-in-place", **CASES["sync"])
    apart = [((ours - theirs).norm() / theirs.norm()).item() for ours, theirs in zip(calls, rows)]
    assert apart[0] < 1e-6
    assert apart[1] > 1e-3


@pytest.mark.parametrize("name", ["sync", "long noisy", "long async"])
def test_as_published_it_is_reproduced(networks, monkeypatch, name):
    """The solver unipc-skyreels, which --published sets, takes the unmended steps."""
    net, pipe = networks
    torch.manual_seed(1)
    texts, options = (torch.randn(1, 7, 10), torch.randn(1, 7, 10)), CASES[name]
    rows, starts, contexts = their_run(pipe, texts, monkeypatch, mend=False, **options)
    calls, _, windows = our_run(
        net, texts, starts, contexts, monkeypatch, "latents-in-place", solver="unipc-skyreels", **options
    )
    at = 0
    for window in windows:
        made = [i for i, role in enumerate(window.role) if role == "generate"]
        for _ in range(window.steps):
            ours, theirs = calls[at][:, :, made], rows[at][:, :, made]
            assert (ours - theirs).norm() / theirs.norm() < 1e-4, at
            at += 1
    assert at == len(rows)
