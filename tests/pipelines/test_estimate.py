"""What a run is said to take, before a weight is loaded, is what it takes."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch

from longtake.cli import run
from longtake.core.guidance_settings import Guidance
from longtake.core.profiling import FlopCounter, MemoryTracker
from longtake.engine.build import build_rollout
from longtake.models.model import SamplingDefaults, VideoFormat
from longtake.models.spec import CheckpointSpec
from longtake.models.toy.null_text_encoder import NullTextEncoder
from longtake.models.wan import block as wan_block
from longtake.models.wan import vae_config as wan_vae_config
from longtake.models.wan.config import tiny
from longtake.models.wan.cost import WanNetworks, flops, sized_format
from longtake.models.wan.presets import PRESETS
from longtake.models.wan.session import WanSession
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE
from longtake.models.wan.vae_layers import ConvCache
from longtake.pipelines.estimate import PlannedVideo, estimate
from longtake.planning.limits import Limits
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import make_plan


def shapes(size, causal=False, base_dim=4, **net):
    vae = wan_vae_config.tiny(base_dim=base_dim, z_dim=4, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)
    network = tiny(
        attention_head_dim=24, num_layers=3, causal=causal, max_latent_frames=5, block=2 if causal else 1, **net
    )
    limits = Limits(max_latent_frames=5, block=network.block, causal=causal)
    format = sized_format(VideoFormat(24.0, size), vae, network, size)
    defaults = SamplingDefaults(guidance=Guidance((3.0,)), solver="unipc")
    networks = WanNetworks(network, vae, format, limits, defaults, words=16, dtype=torch.float32)
    return CheckpointSpec("tiny", format, limits, defaults, 4, networks)


SIZES = {
    "the network is the most": (shapes((64, 96), num_attention_heads=8, ffn_dim=800), "sliding", dict(handoff="pixels")),
    "the vae is the most": (shapes((48, 48), base_dim=16), "sliding", dict(handoff="latents-in-place", ar_step=1)),
    "keys and values are remembered": (
        shapes((48, 64), causal=True, num_attention_heads=6, ffn_dim=300), "blocks", dict(),
    ),
}  # fmt: skip


def options(extra):
    return dict(steps=4, **(dict(overlap=5, window=17) if extra else dict(window=17)), **extra)


class Read(NullTextEncoder):
    def encode(self, prompts):
        return torch.randn(len(prompts), 16, 10)

    def cut_off(self, prompt):
        return ""

    def unknown(self, prompt):
        return []


def measured(found, name, settings, frames):
    """The most memory that PyTorch's allocator has given out at once in a real run, beside the weights."""
    meta = found.meta
    model = meta.on_meta(meta.layers).model
    net, vae = WanTransformer(meta.network).requires_grad_(False), WanVAE(meta.vae).requires_grad_(False)
    model = replace(model, session=lambda: WanSession(net, True), vae=vae, text_encoder=Read(), device="cpu")
    script = Script.of([Scene("a")], 24, frames / 24)
    draw = lambda keys, shape: torch.randn(1, shape[0], len(keys), *shape[1:])
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        rollout = build_rollout(
            model,
            script,
            make_plan(name, **settings),
            guidance=found.defaults.guidance_scale,
            solver="unipc",
            noise=draw,
        )
        for _ in rollout.run():
            pass
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize("name", SIZES)
def test_the_peak_is_that_of_a_real_run_within_15_percent(monkeypatch, name):
    """Both in the pieces of a GPU, and with convolutions folded as on a CPU, whose kernel for others needs much itself."""
    monkeypatch.setattr(wan_block, "PIECE_CPU", wan_block.PIECE)
    monkeypatch.setattr(WanVAE, "cache", lambda self: ConvCache(folds=True))
    found, planned, extra = SIZES[name]
    said = estimate(found, PlannedVideo(planned, options(extra), 29))
    real = measured(found, planned, options(extra), 29)
    assert 0.85 < said.peak / real < 1.15, (said.calls_peak, said.vae_peak, real)
    assert (said.memory > 0) == found.limits.causal


def test_the_work_is_what_the_network_does():
    found, planned, extra = SIZES["the network is the most"]
    said = estimate(found, PlannedVideo(planned, options(extra), 41))
    assert said.tokens == 8 * 12 and said.cost.widest == 5
    with torch.inference_mode(), FlopCounter() as work:
        WanTransformer(found.meta.network)(torch.randn(2, 4, 5, 16, 24), torch.rand(5), torch.randn(2, 16, 10))
    assert abs(said.call / work.flops - 1) < 0.03, "two branches of guidance"
    assert said.total == said.call * said.cost.steps


@pytest.mark.parametrize(
    ("name", "frames", "published"),
    [("skyreels-v2-df-1.3b-540p", 25, 0.612e15), ("skyreels-v2-df-14b-540p", 25, 3.374e15),
     ("skyreels-v2-df-14b-720p", 30, 12.19e15)],
)  # fmt: skip
def test_calls_of_released_sizes(name, frames, published):
    known = PRESETS[name]
    assert abs(flops(known.config(), known.tokens, frames) / published - 1) < 0.005


def test_the_memory_tracker_counts_live_tensors():
    kept = torch.zeros(100)
    with MemoryTracker({"cpu"}, [kept]) as ledger, FlopCounter() as work:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b[:10].reshape(2, 5)
        del b
        kept.mul_(2)
        assert (ledger.now, ledger.most) == (4000, 8000), "a view keeps the whole"
        d = torch.nn.functional.linear(c, torch.ones(7, 5))
        del c
        gc.collect()
        assert ledger.now == 2 * 7 * 4 and ledger.most == 8000
    assert work.flops == 2 * 2 * 5 * 7 and d.shape == (2, 7)


@pytest.mark.long
def test_on_the_command_line_at_real_size(capsys):
    asked = ["--model", "skyreels-v2-df-1.3b-540p", "--size", "960x544", "--num-frames", "737"]
    assert run(["plan", *asked]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("2040 per latent frame, 51000 in a window of 25", "9, in 9 clips", "270, each of two branches",
                  "1.22", "PFLOP", "network 2.87 GB", "is bidirectional"):  # fmt: skip
        assert words in said, (words, said)


def test_a_preset_without_published_weights_has_a_cost(capsys):
    assert run(["plan", "--model", "wan-2048", "--size", "256x256", "--num-frames", "9"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "256 per latent frame, 768 in a window of 3" in said and "network 4.38 GB" in said


def test_a_chain_of_clips_has_a_cost_and_two_experts_weigh_twice(capsys):
    assert run(["plan", "--model", "svi-2.0-pro", "--size", "64x64", "--num-frames", "34", "--window", "33"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "2, in 2 clips" in said
        and "100, each of two branches" in said
        and "network 57.2 GB" in said
        and "image encoder" not in said
    )


def test_a_model_without_a_cost_is_refused(capsys):
    for arguments, message in (
        (["--model", "clock"], "the cost of clock is not known"),
        (["--model", "skyreels-v2-df-1.3b-540p", "--size", "960x540"], "use --size 960x544"),
        (["--model", "skyreels-v2-df-1.3b-540p", "--size", "big"], "WIDTHxHEIGHT"),
        (["--model", "skyreels-v2-df-1.3b-540p", "--num-frames", "0"], "--num-frames must be at least 1"),
        (
            ["--model", "skyreels-v2-t2v-14b-540p", "--num-frames", "200"],
            "ask for 97 or take a diffusion-forcing or",
        ),
        (["rolling", "--model", "skyreels-v2-df-1.3b-540p", "--overlap", "5"], "strategy rolling has no --overlap"),
    ):
        assert run(["plan", *arguments]) == 2
        assert message in capsys.readouterr().err, message
