"""One library of a comparison, in a process of its own: the same weights, noise and sigmas in longtake or in diffusers.

    python bench/sides.py longtake async97 small out.safetensors

Prints one line of JSON. `bench/speed.py --peer diffusers` runs it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.core.noise import Recorded
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames, to_uint8
from longtake.models.model import Model, ModelInfo, VideoFormat
from longtake.models.runtime.compile import compile_blocks
from longtake.models.wan.config import WanConfig
from longtake.models.wan.session import WanSession
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE
from longtake.models.wan.vae_config import WanVAEConfig
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.strategies.registry import make_plan

VIEW, OVERLAP, BLOCK, SHIFT, GUIDANCE = 97, 17, 5, 8.0, 5.0


@dataclass(frozen=True)
class Size:
    """A network and the size of its video.

    net: fields of its config; latent: (height, width) of its latents; text: tokens of a prompt; vae: fields that differ
    from Wan's VAE; pixels: (height, width) of the latents to decode; forwards: passes of the case "forward".
    """

    net: dict[str, int]
    latent: tuple[int, int]
    steps: int
    text: int
    vae: dict[str, Any] = field(default_factory=dict)
    pixels: tuple[int, int] = (16, 16)
    dtype: torch.dtype = torch.float32
    forwards: int = 3

    @property
    def lag(self) -> int:
        """Steps between the starts of two blocks: a sixth of all, as published."""
        return max(1, self.steps // 6)

    @property
    def config(self) -> WanConfig:
        """Config of the network, the same for both libraries."""
        return WanConfig(**self.net, max_latent_frames=(VIEW - 1) // 4 + 1)

    @property
    def tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.latent[0] * self.latent[1] // 4


_1B = dict(num_attention_heads=12, num_layers=30, ffn_dim=8960)
_14B = dict(num_attention_heads=40, num_layers=40, ffn_dim=13824)
SIZES = {
    "small": Size(
        dict(num_attention_heads=3, attention_head_dim=64, num_layers=6, ffn_dim=768, text_dim=64),
        latent=(16, 16), steps=12, text=64, vae=dict(base_dim=16), pixels=(16, 16),
    ),
    "10k": Size(
        dict(num_attention_heads=2, attention_head_dim=128, num_layers=3, ffn_dim=1024, text_dim=64),
        latent=(40, 40), steps=6, text=64, vae=dict(base_dim=16), pixels=(40, 40), forwards=1,
    ),
    "1.3b": Size(_1B, (68, 120), 12, 512, {}, (68, 120), torch.bfloat16),
    "14b": Size(_14B, (68, 120), 6, 512, {}, (68, 120), torch.bfloat16, 1),
}  # fmt: skip
CASES = {  # output frames, and whether attention is block-causal under a staircase
    "forward": (VIEW, False), "async97": (97, True), "async257": (257, True), "sync257": (257, False),
    "decode": (VIEW, False), "end": (VIEW, False),
}  # fmt: skip


def main() -> None:
    """Run one library on one case and print its time and memory."""
    parser = argparse.ArgumentParser()
    for name, choices in (("side", ("longtake", "diffusers")), ("case", tuple(CASES)), ("size", tuple(SIZES))):
        parser.add_argument(name, choices=choices)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="Compile the network (longtake only).")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    side = (Ours if args.side == "longtake" else Theirs)(SIZES[args.size], args.device, args.case, args.compile)
    side.run(warm=True)
    watch = Watch(args.device)
    result = side.run(warm=False)
    facts = watch.stop()
    if args.case == "forward":
        facts |= {"tflops": matmul_rate(args.device, SIZES[args.size].dtype)}
    save_file({"out": result.cpu().contiguous()}, args.out)
    print(json.dumps(facts))


# ---------------------------------------------------------------- shared by both libraries
def filled(net: nn.Module, dtype: torch.dtype, device: str) -> nn.Module:
    """Fill the network with weights that depend on their names alone, the same in both libraries."""
    net = net.to_empty(device=device).to(dtype).requires_grad_(False).eval()
    rng = torch.Generator(device)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            rng.manual_seed(sum(name.encode()) * 7919 + len(name))
            fan = weight[0].numel() if len(weight) > 1 else 1
            norm = ("norm" in name and "weight" in name) or "gamma" in name
            weight.normal_(1.0 if norm else 0.0, fan**-0.5 if fan > 1 else 0.1, generator=rng)
            if any(part in name.split(".") for part in getattr(net, "_keep_in_fp32_modules", None) or ()):
                weight.data = weight.data.float()  # as diffusers loads it
    return net


def drawn(seed: int, *shape: int, device: str = "cpu") -> Tensor:
    """Return normal numbers of a seed, the same in both libraries."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def empty(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """Return a network without storage."""
    with torch.device("meta"):
        return make(*args, **kwargs)


class Watch:
    """Wall time, processor time and the peak of memory, from now to `stop`. Times in s, memory in MiB."""

    def __init__(self, device: str):
        self.device = device
        if device != "cpu":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is held now
        self.held = self._memory("VmRSS", "memory_allocated")
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        """Return the figures since the start. above: the peak minus the memory held at the start, weights and libraries."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        peak = self._memory("VmHWM", "max_memory_allocated")
        return {"seconds": wall, "cpu_seconds": cpu, "peak": peak, "above": peak - self.held}

    def _memory(self, line: str, figure: str) -> float:
        if self.device != "cpu":
            return getattr(torch.cuda, figure)() / 2**20
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(row.split()[1] for row in lines if row.startswith(line))) / 1024


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of one large matrix product on this machine."""
    size = 8192 if device != "cpu" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        watch = Watch(device)
        a @ b
        best = max(best, 2 * size**3 / watch.stop()["cpu_seconds" if device == "cpu" else "seconds"] / 1e12)
    return best


# ---------------------------------------------------------------- longtake
class Ours:
    """The case in longtake."""

    def __init__(self, size: Size, device: str, case: str, compiled: bool):
        self.size, self.device, self.case = size, device, case
        self.frames, causal = CASES[case]
        config = replace(size.config, causal=causal, block=BLOCK if causal else 1)
        if case != "decode":
            self.net = filled(empty(WanTransformer, config), size.dtype, device)
            if compiled:
                compile_blocks(self.net.blocks, device)
        if case in ("decode", "end"):
            self.vae = filled(empty(WanVAE, WanVAEConfig(**size.vae)), torch.float32, device)

    def run(self, warm: bool) -> Tensor:
        """Run the case, or a small part of it to warm up."""
        with torch.inference_mode():
            return getattr(self, self.case if self.case in ("forward", "decode") else "video")(warm)

    def forward(self, warm: bool) -> Tensor:
        x, sigma, text = inputs(self.size, self.device, warm)
        memory = self.net.text_kv(text)
        for _ in range(1 if warm else self.size.forwards):
            out = self.net(x, sigma, memory)
        return out.float()

    def decode(self, warm: bool) -> Tensor:
        latents, decoder = decoded(self.size, self.device, warm), self.vae.decoder()
        return torch.cat([to_uint8(decoder.push(part)) for part in latents.split(8, 2)], 2)

    def video(self, warm: bool) -> Tensor:
        """Generate a video; return its latents, or its frames in the case "end"."""
        frames, steps = (VIEW, 1) if warm else (self.frames, self.size.steps)
        causal, size = self.net.config.causal, self.size
        limits = Limits(max_latent_frames=(VIEW - 1) // 4 + 1, block=BLOCK if causal else 1, causal=causal)
        cut = causal and frames > VIEW  # diffusers recomputes keys and values in every window
        strategy = make_plan(
            "sliding", steps=steps, shift=SHIFT, sigma_spacing="diffusers", ar_step=size.lag if causal else 0, overlap=OVERLAP,
            handoff="latents" if cut else "latents-in-place",
        )  # fmt: skip
        texts = {
            "prompt": drawn(1, 1, size.text, size.config.text_dim),
            "": drawn(2, 1, size.text, size.config.text_dim),
        }
        vae = self.vae if self.case == "end" else Blank()
        model = Model(
            ModelInfo("bench", "wan"), limits=limits, session=lambda: WanSession(self.net, whole_timesteps=True),
            vae=vae, text_encoder=SimpleNamespace(encode=lambda p: torch.cat([texts[t] for t in p]).to(self.device)),
            format=VideoFormat(24.0, (size.latent[0] * vae.spatial_compression, size.latent[1] * vae.spatial_compression)),
            device=self.device,
        )  # fmt: skip
        windows = list(strategy.windows(frames, 4, limits))
        noise = {
            ("start", number if cut else 0, frame, 0, 0): start
            for number, window in enumerate(windows)
            for frame, start in zip(window.frames, noise_of(size, number, len(window.frames)).unbind(2))
            if window.role[window.frames.index(frame)] == "generate"
        }
        guidance = GUIDANCE if self.case == "end" else 1.0
        script = Script.of("prompt", 24, frames / 24)
        run = build_rollout(
            model, script, strategy, solver="unipc", noise=Recorded(noise), guidance=guidance, batched=False
        )
        shown = [event.frames for event in run.run() if isinstance(event, Frames)]
        if self.case == "end":
            return torch.cat(shown, 1)
        clips = [torch.cat(clip, 2) for clip in vae.clips]
        return torch.cat([clip[:, :, 5 * bool(number) :] for number, clip in enumerate(clips)], 2)


class Blank:
    """A VAE that stores latents and decodes none of them."""

    temporal_compression, spatial_compression, channels, replay_latents = 4, 8, 16, 1

    def __init__(self):
        self.clips: list[list[Tensor]] = []

    def decoder(self) -> SimpleNamespace:
        """Return a decoder that stores the latents of one clip."""
        self.clips.append([])
        kept = self.clips[-1]

        def push(latents: Tensor) -> Tensor:
            kept.append(latents.clone())
            return torch.zeros(1, 3, 4 * latents.shape[2] - (3 if len(kept) == 1 else 0), 1, 1)

        return SimpleNamespace(push=push, flush=lambda: torch.zeros(1, 3, 0, 1, 1))


# ---------------------------------------------------------------- diffusers
class Theirs:
    """The case in diffusers, unchanged but for the solver's last sample, which is a copy (docs/log.md)."""

    def __init__(self, size: Size, device: str, case: str, _: bool):
        import diffusers

        self.size, self.device, self.case = size, device, case
        self.frames, self.causal = CASES[case]
        net = None
        if case != "decode":
            known = (
                "num_attention_heads attention_head_dim in_channels out_channels text_dim freq_dim ffn_dim num_layers"
            )
            config = {name: getattr(size.config, name) for name in known.split()}
            net = filled(empty(diffusers.SkyReelsV2Transformer3DModel, **config), size.dtype, device)
            net.rope = type(net.rope)(size.config.attention_head_dim, (1, 2, 2), 1024).to(device)  # its tables
        their_vae = empty(diffusers.AutoencoderKLWan, **size.vae)
        if case in ("decode", "end"):
            their_vae = filled(their_vae, torch.float32, device)
        scheduler = diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT, num_train_timesteps=1000
        )
        self.net, self.their_vae = net, their_vae
        if case not in ("forward", "decode"):
            step = type(scheduler).step
            type(scheduler).step = lambda self, v, t, x, **k: step(self, v, t, x.clone(), **k)
            self.pipe = diffusers.SkyReelsV2DiffusionForcingPipeline(None, None, net, their_vae, scheduler)
            self.pipe.set_progress_bar_config(disable=True)

    def run(self, warm: bool) -> Tensor:
        """Run the case, or a small part of it to warm up."""
        with torch.no_grad():
            return getattr(self, self.case if self.case in ("forward", "decode") else "video")(warm)

    def forward(self, warm: bool) -> Tensor:
        x, sigma, text = inputs(self.size, self.device, warm)
        for _ in range(1 if warm else self.size.forwards):
            out = self.net(x, 1000 * sigma, text, enable_diffusion_forcing=True, return_dict=False)[0]
        return out.float()

    def decode(self, warm: bool) -> Tensor:
        latents = decoded(self.size, self.device, warm)
        mean, std = (
            latents.new_tensor(x)[:, None, None, None]
            for x in (self.their_vae.config.latents_mean, self.their_vae.config.latents_std)
        )
        return to_uint8(self.their_vae.decode(latents * std + mean, return_dict=False)[0])

    def video(self, warm: bool) -> Tensor:
        """Generate a video with the pipeline of diffusers, as uint8; warm: one short window of one step."""
        import diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2_diffusion_forcing as module

        frames, steps = (VIEW, 1) if warm else (self.frames, self.size.steps)
        starts: list[int] = []

        def start(shape, generator=None, device=None, dtype=None):
            starts.append(1)
            return noise_of(self.size, len(starts) - 1, shape[2]).to(device, dtype)

        module.randn_tensor = start
        size, long = self.size, frames > VIEW
        texts = [drawn(seed, 1, size.text, size.config.text_dim, device=self.device) for seed in (1, 2)]
        options = dict(ar_step=size.lag, causal_block_size=BLOCK) if self.causal else {}
        if long:
            options |= dict(base_num_frames=VIEW, overlap_history=OVERLAP)
        end = self.case == "end"
        video = self.pipe(
            prompt=None, prompt_embeds=texts[0], negative_prompt_embeds=texts[1], height=8 * size.latent[0],
            width=8 * size.latent[1], num_frames=frames, num_inference_steps=steps,
            guidance_scale=GUIDANCE if end else 1.0, fps=24, output_type="pt" if end else "latent", return_dict=False,
            **options,
        )[0]  # fmt: skip
        return to_uint8(2 * video - 1).permute(0, 1, 3, 4, 2) if end else video


# ---------------------------------------------------------------- inputs
def inputs(size: Size, device: str, warm: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, sigmas and text embedding of a single forward pass."""
    frames = 5 if warm else (VIEW - 1) // 4 + 1
    sigma = torch.linspace(0, 1, frames)[None].to(device)
    text = drawn(1, 1, size.text, size.config.text_dim, device=device).to(size.dtype)
    return drawn(3, 1, 16, frames, *size.latent, device=device).to(size.dtype), sigma, text


def decoded(size: Size, device: str, warm: bool) -> Tensor:
    """Return latents for the VAE."""
    return drawn(4, 1, 16, 2 if warm else (VIEW - 1) // 4 + 1, *size.pixels, device=device)


def noise_of(size: Size, window: int, frames: int) -> Tensor:
    """Return the initial noise of a window."""
    return drawn(100 + window, 1, 16, (VIEW - 1) // 4 + 1, *size.latent)[:, :, :frames]


if __name__ == "__main__":
    main()
