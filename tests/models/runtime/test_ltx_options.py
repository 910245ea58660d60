"""Runtime options on what only LTX has: perturbed-attention guidance, padded prompts and a second stage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.core.guidance_settings import Guidance
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.models.checkpoints import loading as weights
from longtake.models.ltx import config as ltx
from longtake.models.ltx.checkpoint import open_folder
from longtake.models.ltx.latent_upsampler import LTXUpsampler, LTXUpsamplerConfig
from longtake.models.ltx.presets import LTX
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.model import with_size
from longtake.models.runtime.attention import flash
from longtake.models.runtime.calibration import Calibration
from longtake.models.runtime.load_options import LoadOptions
from longtake.models.runtime.step_cache import StepCache, with_session_cache
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan
from tests.checkpoints import random_ltx
from tests.models.ltx.test_checkpoint import released
from tests.oracles import rand, shuffled

STG = Guidance(scale=(3.0,), stg_scale=(1.0,), guidance_rescale=(0.7,), blocks=((1,),), full_sample_stats=True)


def video(model, guidance=None, steps=4):
    rollout = build_rollout(model, Script.of("a red ball", 24, 1.2), make_plan("clip", steps=steps), guidance=guidance)
    return torch.cat([event.video for event in rollout.run() if isinstance(event, Frames)], 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_ltx(tmp_path_factory.mktemp("ltx") / "m")


def cached(model, threshold, coefficients=(1.0, 0.0), first=1):
    """Return the model with caching, and the list of the caches that its sessions will have."""
    caches = []

    def make():
        caches.append(StepCache(Calibration(coefficients, first=first), threshold))
        return caches[-1]

    return with_session_cache(model, make), caches


def test_step_caching_covers_the_perturbed_branch(folder):
    model = open_folder(folder)
    want = video(model, STG)
    exact, caches = cached(model, 1e-9, (1.0, 1.0))
    assert torch.equal(video(exact, STG), want) and not any(cache.skipped for cache in caches)
    fast, caches = cached(model, 1e9)
    near = video(fast, STG)
    assert [(cache.computed, cache.skipped) for cache in caches if cache.computed] == [(1, 3)]
    assert not torch.equal(near, want) and (near - want).abs().mean() < 0.5 * want.abs().mean()


def test_a_change_of_branches_forces_a_computed_call(folder):
    """Below sigma 0.5 the perturbed branch is off, so the stored residual of the larger batch does not fit."""
    guidance = replace(
        STG, scale=(3.0, 3.0), stg_scale=(1.0, 0.0), guidance_rescale=(0.0, 0.0), blocks=((1,), ()), down_to=(0.5, 0.0)
    )
    fast, caches = cached(open_folder(folder), 1e9)
    video(fast, guidance, steps=6)
    (cache,) = (cache for cache in caches if cache.computed)
    assert cache.computed == 2 and cache.skipped == 4


def test_a_stored_residual_gives_the_computed_velocity():
    net, residuals = shuffled(LTXTransformer(ltx.tiny())), []
    x, sigma = rand(1, 4, 3, 4, 4), torch.tensor([0.9, 0.5, 0.0])
    want = net(x, sigma, rand(1, 5, 10), residuals=residuals)
    assert torch.allclose(net.forward_cached(x, sigma, residuals[0]), want, atol=1e-5)


def test_masked_prompts_use_sdpa_under_any_backend(monkeypatch):
    """Flash attention takes no mask, so it is never called for a prompt with padding."""
    net, text = shuffled(LTXTransformer(ltx.tiny())), rand(2, 5, 10)
    text[0, 3:] = 0
    x, sigma = rand(2, 4, 3, 4, 4), torch.tensor(0.5)
    want = net(x, sigma, text)
    calls = []

    class Library:
        @staticmethod
        def flash_attn_func(q, k, v):
            calls.append(k.shape[1])
            return torch.nn.functional.scaled_dot_product_attention(
                *(t.transpose(1, 2) for t in (q, k, v))
            ).transpose(1, 2)  # fmt: skip

    monkeypatch.setattr("longtake.models.runtime.attention.import_module", lambda name: Library)
    net.attend = flash
    assert torch.allclose(net(x, sigma, text), want, atol=1e-5)
    assert calls == [3 * 16] * 2, "self-attention of both blocks, and no cross-attention"


@pytest.mark.parametrize("offload", ["model", "blocks"])
def test_offload_of_two_stages_changes_no_frame(tmp_path, offload):
    made = released(tmp_path / "m")
    net = shuffled(LTXUpsampler(LTXUpsamplerConfig(in_channels=4, mid_channels=32, num_blocks_per_stage=1)))
    weights.save(net, net.config, made / "latent_upsampler", kind="LTXLatentUpsamplerModel")

    def frames(**options):
        model = open_folder(made, LoadOptions("cpu", **options), LTX["ltx-13b-0.9.8-distilled"])
        model = with_size(replace(model, second_stage=replace(model.second_stage, sigmas=(0.7, 0.3))), (32, 32))
        strategy = make_plan("clip", sigmas="1,0.8,0.4")
        rollout = build_rollout(model, Script.of("a red ball", 24, 25 / 24), strategy)
        return torch.cat([event.video for event in rollout.run() if isinstance(event, Frames)], 2)

    assert torch.equal(frames(offload=offload), frames())
