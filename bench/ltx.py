"""LTX-Video compared with diffusers: forward passes over 25 and 121 frames, decoding of both; 2B on a GPU.

python bench/ltx.py [--threads N] [--width 256] [--layers 4]      # CPU: a narrow network (the full width takes minutes)
python bench/ltx.py --gpu                                         # 2B distilled, 5 s at 768 x 512, random weights
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import torch
from common import median_seconds, report

from longtake.core.solvers import euler
from longtake.models.ltx.config import LTXConfig
from longtake.models.ltx.presets import EIGHT
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import LTXVAE
from longtake.models.ltx.vae_config import LTX_095, LTXVAEConfig

Rows = dict[str, tuple[float, str]]
HEIGHT, WIDTH = 512, 768
STATUS = Path("/proc/self/status")


def network(width: int, layers: int) -> LTXConfig:
    """Return the config of a network of this width, with latent channels as released."""
    return LTXConfig(
        num_attention_heads=max(1, width // 64), attention_head_dim=64, cross_attention_dim=width, num_layers=layers,
        caption_channels=256, causal_temporal_positioning=True,
    )  # fmt: skip


def vae(narrow: int) -> LTXVAEConfig:
    """Return the config of the VAE of 0.9.5, `narrow` times narrower."""
    widths = lambda values: tuple(value // narrow for value in values)
    return replace(
        LTX_095, block_out_channels=widths(LTX_095.block_out_channels),
        decoder_block_out_channels=widths(LTX_095.decoder_block_out_channels),
    )  # fmt: skip


def reference(name: str, ours: torch.nn.Module) -> torch.nn.Module:
    """Return diffusers' network of the same config and weights."""
    import inspect

    import diffusers

    kind = getattr(diffusers, name)
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(ours.config).items() if v is not None}
    theirs = kind(**{k: v for k, v in config.items() if k in inspect.signature(kind).parameters})
    theirs.load_state_dict(ours.state_dict())
    return theirs.eval()


def forward(width: int, layers: int, frames: int, size: tuple[int, int], seconds: Callable) -> Rows:
    """Time one forward pass of both networks, ours with the keys and values of the prompt computed beforehand."""
    torch.manual_seed(0)
    net = LTXTransformer(network(width, layers)).eval()
    theirs, latents = reference("LTXVideoTransformer3DModel", net), 1 + (frames - 1) // 8
    height, breadth = size
    x, text = torch.randn(1, 128, latents, height, breadth), torch.randn(1, 256, 256)
    packed, mask, sigma = x.flatten(2).transpose(1, 2), torch.ones(1, 256), torch.tensor([0.5])
    with torch.inference_mode():
        memory = net.text_kv(text)
        ours = seconds(lambda: net(x, sigma, memory))
        where = dict(num_frames=latents, height=height, width=breadth, rope_interpolation_scale=(8 / 24, 32, 32))
        other = seconds(lambda: theirs(packed, text, 1000 * sigma, mask, **where))
    what = f"forward, {layers} x {width}, {frames} frames, {x[0, 0].numel()} tokens"
    return {what: (1000 * ours, "ms"), f"{what}, diffusers": (1000 * other, "ms")}


def decoding(which: str, frames: int, narrow: int, height: int, width: int) -> None:
    """Decode in this process and print the seconds and the rise of the memory peak in MiB, for the parent process."""
    torch.manual_seed(0)
    net = LTXVAE(vae(narrow)).eval()
    z = torch.randn(1, 128, 1 + (frames - 1) // 8, height // 32, width // 32)
    run = reference("AutoencoderKLLTXVideo", net) if which == "diffusers" else net
    before = resident(reset=True)
    start = time.perf_counter()
    with torch.inference_mode():
        if which == "diffusers":
            count = run.decode(z, torch.tensor([0.05]), return_dict=False)[0].shape[2]
        else:
            decoder = net.decoder()
            count = sum(decoder.push(latent).shape[2] for latent in z.split(1, 2)) + decoder.flush().shape[2]
    assert count == frames
    print(time.perf_counter() - start, (resident() - before) / 1024)


def resident(reset: bool = False) -> int:
    """Return the peak memory of this process since the last reset, in KiB (Linux; 0 elsewhere)."""
    if not STATUS.exists():
        return 0
    if reset:
        (STATUS.parent / "clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))


def decode(frames: int, narrow: int, size: tuple[int, int], threads: int) -> Rows:
    """Measure time and memory of decoding, each in a process of its own."""
    rows: Rows = {}
    for which in ("longtake", "diffusers"):
        line = [sys.executable, __file__, "--decode", which, str(frames), str(narrow), *map(str, size), str(threads)]
        seconds, rise = map(float, subprocess.run(line, capture_output=True, text=True, check=True).stdout.split())
        name = f"decode {frames} frames of {size[1]}x{size[0]}" + ("" if which == "longtake" else ", diffusers")
        rows |= {name: (seconds, "s"), f"{name}, peak": (rise, "MiB")}
    return rows


def on_gpu() -> Rows:
    """Time 2B distilled: eight steps and decoding of 121 frames at 768 x 512, with random weights."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        net = LTXTransformer(LTXConfig(causal_temporal_positioning=True)).to(torch.bfloat16).eval()
        vae_net = LTXVAE(LTX_095).to(torch.bfloat16).eval()
        text, noise = torch.randn(1, 256, 4096), torch.randn(1, 128, 16, HEIGHT // 32, WIDTH // 32)
    sigmas = torch.tensor([*EIGHT, 0.0])

    def denoise() -> torch.Tensor:
        x, memory = noise, net.text_kv(text.to(torch.bfloat16))
        for sigma, after in pairwise(sigmas):
            column = sigma.expand(16)
            x, _ = euler(x, net(x, column, memory).float(), column, after.expand(16), None)
        torch.cuda.synchronize()
        return x

    def decode_all() -> None:
        vae_net.decode(noise)
        torch.cuda.synchronize()

    with torch.inference_mode():
        steps, decoded = median_seconds(denoise, 3), median_seconds(decode_all, 3)
    peak = torch.cuda.max_memory_allocated() / 2**30
    return {
        "2B distilled, 8 steps, 121 frames of 768x512": (steps, "s"),
        "decoding of 121 frames": (decoded, "s"),
        "5 s of video": (steps + decoded, "s"),
        "peak memory": (peak, "GiB"),
    }


def main() -> None:
    """Measure what the command line asks for, print a table and append it to the results."""
    if "--decode" in sys.argv:
        which, *numbers = sys.argv[2:]
        frames, narrow, height, width, threads = map(int, numbers)
        torch.set_num_threads(threads)
        return decoding(which, frames, narrow, height, width)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="Measure 2B distilled, 5 s at 768 x 512.")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of PyTorch.")
    parser.add_argument("--width", type=int, default=256, help="Width of the network.")
    parser.add_argument("--layers", type=int, default=4, help="Layers of the network.")
    parser.add_argument("--narrow", type=int, default=8, help="Factor by which the VAE is narrower than released.")
    args = parser.parse_args()
    if args.gpu:
        report("ltx", on_gpu(), gpu=True)
        return None
    torch.set_num_threads(args.threads)
    rows = forward(args.width, args.layers, 25, (8, 12), lambda run: median_seconds(run, 3))
    rows |= forward(args.width, args.layers, 121, (8, 12), lambda run: median_seconds(run, 3))
    for frames in (25, 121):
        rows |= decode(frames, args.narrow, (128, 192), args.threads)
    report("ltx", rows, **vars(args))
    return None


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
